/* Tests of image/manifest.h and image/platform.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/config.h"
#include "image/manifest.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define D "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define CONFIG_OF(type) "\"config\":{\"mediaType\":\"" type "\",\"digest\":\"" D "\",\"size\":2}"
#define LAYER(type) "{\"mediaType\":\"" type "\",\"digest\":\"" D "\",\"size\":7}"
#define IMAGE(layers)                                                                              \
	"{\"schemaVersion\":2," CONFIG_OF(MEDIA_OCI_CONFIG) ",\"layers\":[" layers "]}"
#define ENTRY(platform)                                                                            \
	"{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"digest\":\"" D "\",\"size\":5" platform "}"
#define INDEX(entries) "{\"schemaVersion\":2,\"manifests\":[" entries "]}"

static int parse(const char *text, const char *type, struct manifest *m, struct error *err)
{
	return manifest_parse(text, strlen(text), type, m, err);
}

static void reads_both_schemas(void **state)
{
	static const char *const texts[] = {
		IMAGE(LAYER(MEDIA_OCI_LAYER "+gzip") "," LAYER(MEDIA_OCI_LAYER "+zstd")),
		"{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_DOCKER_MANIFEST
		"\"," CONFIG_OF(MEDIA_DOCKER_CONFIG) ",\"layers\":[" LAYER(
			MEDIA_DOCKER_LAYER ".gzip") "," LAYER(MEDIA_DOCKER_LAYER) "]}",
	};
	static const char *const types[] = {MEDIA_OCI_MANIFEST, MEDIA_DOCKER_MANIFEST};

	(void)state;
	for (size_t i = 0; i < array_size(texts); i++) {
		own_manifest struct manifest m = {0};
		struct error err = {0};

		assert_int_equal(parse(texts[i], NULL, &m, &err), 0);
		assert_int_equal(m.kind, MANIFEST_IMAGE);
		assert_string_equal(m.media_type, types[i]);
		assert_int_equal(m.layers_count, 2);
		assert_int_equal(m.layers[1].size_bytes, 7);
		assert_string_equal(m.config.digest.text, D);
	}
}

static void refuses_with_the_reason(void **state)
{
	static const struct {
		const char *text, *type, *reason;
	} cases[] = {
		{"{", NULL, "not valid JSON"},
		{"[]", NULL, "expected an object"},
		{"{}", NULL, "schemaVersion"},
		{"{\"schemaVersion\":1,\"fsLayers\":[]}", NULL, "schema 1"},
		{"{\"schemaVersion\":2}", NULL, "neither"},
		{"{\"schemaVersion\":2,\"layers\":[],\"manifests\":[]}", NULL, "at once"},
		{IMAGE(LAYER(MEDIA_OCI_LAYER)), MEDIA_OCI_INDEX, "does not fit"},
		{INDEX(ENTRY("")), MEDIA_OCI_MANIFEST, "does not fit"},
		{"{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_DOCKER_MANIFEST
		 "\"," CONFIG_OF(MEDIA_OCI_CONFIG) ",\"layers\":[]}",
		 MEDIA_OCI_MANIFEST, "calls itself"},
		{IMAGE(LAYER("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")), NULL,
		 "foreign"},
		{IMAGE(LAYER("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")), NULL,
		 "foreign"},
		{IMAGE(LAYER("text/plain")), NULL, "unknown type"},
		{"{\"schemaVersion\":2," CONFIG_OF(
			 "application/vnd.cncf.helm.config.v1+json") ","
								     "\"layers\":[]}",
		 NULL, "artifact"},
		{IMAGE("{\"mediaType\":\"x\",\"digest\":\"sha256:12\",\"size\":1}"), NULL,
		 "layers[0]"},
		{IMAGE("{\"mediaType\":\"x\",\"digest\":\"" D "\",\"size\":-1}"), NULL,
		 "layers[0].size"},
		{IMAGE("{\"mediaType\":\"x\",\"digest\":\"" D "\",\"size\":\"1\"}"), NULL,
		 "expected an integer"},
		{IMAGE("7"), NULL, "layers[0]"},
		{"{\"schemaVersion\":2,\"config\":[],\"layers\":[]}", NULL, "config"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_manifest struct manifest m = {0};
		struct error err = {0};

		assert_true(parse(cases[i].text, cases[i].type, &m, &err) < 0);
		if (strstr(err.text, cases[i].reason) == NULL)
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.text,
				 cases[i].reason);
	}
}

#define PLATFORM(os, arch, variant)                                                                \
	",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\",\"variant\":\"" variant    \
	"\"}"

static void selects_the_platform_that_suits_best(void **state)
{
	static const char text[] = INDEX(
		ENTRY(PLATFORM("linux", "arm", "v6")) "," ENTRY(PLATFORM("unknown", "unknown", "")) "," ENTRY(PLATFORM(
			"linux", "amd64",
			"")) "," ENTRY(PLATFORM("linux", "arm",
						"v7")) "," ENTRY(PLATFORM("linux", "arm64",
									  "v8")) "," ENTRY(PLATFORM("windows",
												    "amd64",
												    "")));
	static const struct {
		const char *platform;
		int index; /* -1: none */
	} cases[] = {
		{"linux/amd64", 2},     {"amd64", 2},          {"linux/x86_64", 2},
		{"linux/arm64", 4},     {"linux/arm", 3},      {"linux/arm/v6", 0},
		{"linux/arm/v5", -1},   {"linux/riscv64", -1}, {"windows/amd64", 5},
		{"linux/arm64/v9", -1},
	};
	own_manifest struct manifest m = {0};

	(void)state;
	assert_int_equal(parse(text, NULL, &m, NULL), 0);
	for (size_t i = 0; i < array_size(cases); i++) {
		struct platform wanted;
		const struct descriptor *chosen = NULL;
		struct error err = {0};
		int rc;

		assert_int_equal(platform_parse(cases[i].platform, &wanted, &err), 0);
		rc = manifest_select(&m, &wanted, &chosen, &err);
		if (cases[i].index < 0) {
			assert_int_equal(rc, -ENOENT);
			assert_non_null(strstr(err.hint, "linux/amd64"));
		} else {
			assert_int_equal(rc, 0);
			assert_int_equal(chosen - m.layers, cases[i].index);
		}
	}
}

static void refuses_platforms_that_are_none(void **state)
{
	static const char *const cases[] = {"", "/", "a/b/c/d", "linux/", "Linux/amd64", "a b/c"};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct platform p;
		struct error err = {0};

		assert_int_equal(platform_parse(cases[i], &p, &err), -EINVAL);
	}
}

static void reads_a_configuration(void **state)
{
	static const char text[] =
		"{\"os\":\"linux\",\"architecture\":\"amd64\",\"created\":\"2024-05-06T07:08:09Z\","
		"\"config\":{\"Env\":[\"A=b\"],\"Cmd\":[\"sh\"],\"Entrypoint\":null,"
		"\"WorkingDir\":\"/w\",\"User\":\"1:2\",\"Volumes\":{\"/v\":{}},"
		"\"ExposedPorts\":{\"80/tcp\":{}},\"Labels\":{\"a\":\"b\"},\"StopSignal\":\"INT\","
		"\"Healthcheck\":{\"Test\":[\"CMD\",\"x\"],\"Interval\":5,\"Retries\":2}},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" D "\"]}}";
	own_image_document struct image_document d = {0};
	own_image_config struct image_config c = {0};
	struct json_at root, config;
	struct error err = {0};

	(void)state;
	assert_int_equal(image_document_parse(text, strlen(text), &d, &err), 0);
	assert_int_equal(d.diffids_count, 1);
	assert_int_equal(d.created_ns, INT64_C(1714979289000000000));
	root = json_root(d.json);
	assert_int_equal(json_object_at(&root, "config", JSON_REQUIRED, &config, &err), 1);
	assert_int_equal(image_config_parse(&config, &c, &err), 0);
	assert_string_equal(c.env[0], "A=b");
	assert_string_equal(c.cmd[0], "sh");
	assert_null(c.entrypoint);
	assert_string_equal(c.working_dir, "/w");
	assert_string_equal(c.user, "1:2");
	assert_string_equal(c.volumes[0], "/v");
	assert_string_equal(c.exposed_ports[0], "80/tcp");
	assert_string_equal(c.labels[0], "a=b");
	assert_string_equal(c.stop_signal, "INT");
	assert_string_equal(c.healthcheck.test[1], "x");
	assert_int_equal(c.healthcheck.interval_ns, 5);
	assert_int_equal(c.healthcheck.retries, 2);
}

static void refuses_configurations_with_wrong_types(void **state)
{
	static const struct {
		const char *text, *reason;
	} cases[] = {
		{"{}", "rootfs"},
		{"{\"rootfs\":{\"diff_ids\":[1]}}", "rootfs.diff_ids[0]"},
		{"{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "digest"},
		{"{\"rootfs\":{},\"config\":{\"Env\":\"x\"}}", "Env"},
		{"{\"rootfs\":{},\"config\":{\"Cmd\":[1]}}", "Cmd[0]"},
		{"{\"rootfs\":{},\"config\":7}", "config"},
		{"{\"rootfs\":{},\"os\":7}", "os"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_image_document struct image_document d = {0};
		struct error err = {0};

		assert_true(image_document_parse(cases[i].text, strlen(cases[i].text), &d, &err) <
			    0);
		if (strstr(err.text, cases[i].reason) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].reason);
	}
}

static void a_made_manifest_parses(void **state)
{
	char config_type[] = MEDIA_OCI_CONFIG, layer_type[] = MEDIA_OCI_LAYER "+gzip";
	struct descriptor config = {.media_type = config_type, .size_bytes = 3};
	struct descriptor layer = {.media_type = layer_type, .size_bytes = 9};
	own_manifest struct manifest m = {0};
	own_mem char *text = NULL;

	(void)state;
	assert_int_equal(digest_parse(D, &config.digest, NULL), 0);
	layer.digest = config.digest;
	text = manifest_format(&config, &layer, 1);
	assert_int_equal(parse(text, MEDIA_OCI_MANIFEST, &m, NULL), 0);
	assert_int_equal(m.layers[0].size_bytes, 9);
	assert_int_equal(m.config.size_bytes, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_both_schemas),
		cmocka_unit_test(refuses_with_the_reason),
		cmocka_unit_test(selects_the_platform_that_suits_best),
		cmocka_unit_test(refuses_platforms_that_are_none),
		cmocka_unit_test(reads_a_configuration),
		cmocka_unit_test(refuses_configurations_with_wrong_types),
		cmocka_unit_test(a_made_manifest_parses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
