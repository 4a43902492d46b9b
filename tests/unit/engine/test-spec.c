/* Tests of the OCI configuration that is made of a workload's. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/engine_priv.h"
#include "engine/spec.h"
#include "image/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct fixture {
	char path[32];
	struct engine engine; /* only the root directory */
	struct workload w;
	struct image_config image;
	int root;
};

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	strcpy(f->path, "/tmp/test-spec-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->engine.root = f->path;
	f->engine.root_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	memset(f->w.id, 'a', WORKLOAD_ID_LEN);
	workload_config_init(&f->w.config);
	f->w.config.hostname = str_copy("host");
	f->image.user = str_copy("");
	f->image.working_dir = str_copy("");
	strv_push(&f->w.argv, "true");
	assert_int_equal(dir_make(f->engine.root_fd, workload_dir(f->w.id).path, 0700, NULL), 0);
	f->root = open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	workload_release(&f->w);
	image_config_release(&f->image);
	close(f->root);
	close(f->engine.root_fd);
	assert_int_equal(tree_remove(AT_FDCWD, f->path, NULL), 0);
	free(f);
	return 0;
}

static json_t *make(struct fixture *f)
{
	struct error err = {0};
	json_t *spec = NULL;

	if (spec_make(&f->engine, &f->w, &f->image, f->root, &spec, &err) < 0)
		fail_msg("%s", err.text);
	return spec;
}

/* The value at "a.b.c", or NULL. */
static json_t *at(json_t *value, const char *path)
{
	own_strv char **keys = strv_split(path, '.');

	for (size_t i = 0; keys[i] != NULL; i++)
		value = json_object_get(value, keys[i]);
	return value;
}

static json_t *mount_at(json_t *spec, const char *target, size_t *count)
{
	json_t *mounts = json_object_get(spec, "mounts"), *found = NULL;

	*count = 0;
	for (size_t i = 0; i < json_array_size(mounts); i++) {
		json_t *m = json_array_get(mounts, i);

		if (strcmp(json_string_value(json_object_get(m, "destination")), target) == 0) {
			found = m;
			++*count;
		}
	}
	return found;
}

static bool has_text(json_t *array, const char *text)
{
	for (size_t i = 0; i < json_array_size(array); i++)
		if (str_eq(json_string_value(json_array_get(array, i)), text))
			return true;
	return false;
}

static bool has_namespace(json_t *spec, const char *type)
{
	json_t *array = at(spec, "linux.namespaces");

	for (size_t i = 0; i < json_array_size(array); i++)
		if (str_eq(json_string_value(json_object_get(json_array_get(array, i), "type")),
			   type))
			return true;
	return false;
}

static void defaults_are_confined(void **state)
{
	static const char *const namespaces[] = {"mount", "pid", "ipc", "uts", "network", "cgroup"};
	own_json json_t *spec = make(*state);

	for (size_t i = 0; i < array_size(namespaces); i++)
		assert_true(has_namespace(spec, namespaces[i]));
	assert_true(has_text(at(spec, "linux.maskedPaths"), "/proc/kcore"));
	assert_true(has_text(at(spec, "linux.readonlyPaths"), "/proc/sys"));
	assert_non_null(at(spec, "linux.seccomp"));
	assert_false(has_text(at(spec, "process.capabilities.bounding"), "CAP_SYS_ADMIN"));
	assert_null(at(spec, "process.capabilities.inheritable"));
	assert_null(at(spec, "process.capabilities.ambient"));
	/* Devices: first nothing, then the usual ones. */
	assert_true(json_is_false(
		json_object_get(json_array_get(at(spec, "linux.resources.devices"), 0), "allow")));
	assert_string_equal(json_string_value(at(spec, "process.cwd")), "/");
	assert_true(has_text(at(spec, "process.env"), "HOME=/root"));
	assert_true(has_text(at(spec, "process.env"), "HOSTNAME=host"));
}

static void privileges_open_what_they_say(void **state)
{
	struct fixture *f = *state;
	own_json json_t *spec = NULL;
	size_t count;

	f->w.config.flags = WORKLOAD_PRIVILEGED | WORKLOAD_PID_HOST | WORKLOAD_READ_ONLY;
	f->w.config.network = WORKLOAD_NETWORK_HOST;
	spec = make(f);
	assert_false(has_namespace(spec, "pid"));
	assert_false(has_namespace(spec, "network"));
	assert_true(has_namespace(spec, "mount"));
	assert_null(at(spec, "linux.seccomp"));
	assert_null(at(spec, "linux.maskedPaths"));
	assert_null(at(spec, "linux.sysctl"));
	assert_true(json_is_true(at(spec, "root.readonly")));
	assert_false(has_text(json_object_get(mount_at(spec, "/sys", &count), "options"), "ro"));
}

static void limits_are_handed_on(void **state)
{
	struct fixture *f = *state;
	own_json json_t *spec = NULL;

	f->w.config.memory_bytes = 64 << 20;
	f->w.config.nano_cpus = 1500000000;
	f->w.config.pids_limit = 9;
	f->w.config.cpuset_cpus = str_copy("0");
	assert_int_equal(workload_config_parse_ulimit(&f->w.config, "nofile=10:unlimited", NULL),
			 0);
	spec = make(f);
	assert_int_equal(json_integer_value(at(spec, "linux.resources.memory.limit")), 64 << 20);
	assert_int_equal(json_integer_value(at(spec, "linux.resources.memory.swap")), 128 << 20);
	assert_int_equal(json_integer_value(at(spec, "linux.resources.cpu.quota")), 150000);
	assert_int_equal(json_integer_value(at(spec, "linux.resources.pids.limit")), 9);
	assert_string_equal(json_string_value(at(spec, "linux.resources.cpu.cpus")), "0");
	assert_string_equal(json_string_value(json_object_get(
				    json_array_get(at(spec, "process.rlimits"), 0), "type")),
			    "RLIMIT_NOFILE");
}

static void mounts_of_the_user_replace_ours(void **state)
{
	struct fixture *f = *state;
	own_json json_t *spec = NULL;
	own_mem char *bind = str_format("%s:/etc/hosts:ro", f->path);
	size_t count;

	assert_int_equal(workload_config_parse_tmpfs(&f->w.config, "/dev/shm:size=1m,exec", NULL),
			 0);
	assert_int_equal(workload_config_parse_volume(&f->w.config, bind, NULL), 0);
	spec = make(f);
	assert_true(has_text(json_object_get(mount_at(spec, "/dev/shm", &count), "options"),
			     "size=1m"));
	assert_int_equal(count, 1);
	assert_string_equal(
		json_string_value(json_object_get(mount_at(spec, "/etc/hosts", &count), "source")),
		f->path);
	assert_int_equal(count, 1);
	assert_true(has_text(json_object_get(mount_at(spec, "/etc/hosts", &count), "options"),
			     "rprivate"));
}

static void a_bind_source_that_is_missing(void **state)
{
	struct fixture *f = *state;
	own_mem char *mount = str_format("type=bind,src=%s/none,dst=/x", f->path);
	struct error err = {0};
	json_t *spec;

	assert_int_equal(workload_config_parse_mount(&f->w.config, mount, NULL), 0);
	assert_int_equal(spec_make(&f->engine, &f->w, &f->image, f->root, &spec, &err), -ENOENT);
	assert_non_null(strstr(err.text, "none"));
	/* -v makes it. */
	f->w.config.mounts[0].create_source = true;
	spec = make(f);
	json_decref(spec);
}

static void commands_from_image_and_user(void **state)
{
	/* entrypoint and command of the image; of the user (NULL: not given); the result. */
	static const struct {
		const char *image_entrypoint, *image_command, *entrypoint, *command, *argv;
	} cases[] = {
		{"e", "c", NULL, NULL, "e c"},  {NULL, "c", NULL, NULL, "c"},
		{"e", "c", NULL, "u", "e u"},   {"e", "c", "x", NULL, "x"},
		{"e", "c", "x", "u", "x u"},    {NULL, NULL, NULL, "u v", "u v"},
		{"e", "c", "", "u", "u"},       {"e", "c", "", NULL, NULL},
		{NULL, NULL, NULL, NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_workload_config struct workload_config config;
		own_image_config struct image_config image = {0};
		own_strv char **argv = NULL;
		own_mem char *text = NULL;
		int rc;

		workload_config_init(&config);
		if (cases[i].image_entrypoint)
			image.entrypoint = strv_split(cases[i].image_entrypoint, ' ');
		if (cases[i].image_command)
			image.cmd = strv_split(cases[i].image_command, ' ');
		if (cases[i].entrypoint)
			config.entrypoint = cases[i].entrypoint[0]
						    ? strv_split(cases[i].entrypoint, ' ')
						    : mem_new(sizeof(char *));
		if (cases[i].command)
			config.command = strv_split(cases[i].command, ' ');
		rc = spec_command(&config, &image, &argv, NULL);
		text = strv_join(argv, " ");
		if ((rc == 0) != (cases[i].argv != NULL) ||
		    (rc == 0 && strcmp(text, cases[i].argv) != 0))
			fail_msg("case %zu: %d \"%s\"", i, rc, text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(defaults_are_confined, set_up, tear_down),
		cmocka_unit_test_setup_teardown(privileges_open_what_they_say, set_up, tear_down),
		cmocka_unit_test_setup_teardown(limits_are_handed_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(mounts_of_the_user_replace_ours, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_bind_source_that_is_missing, set_up, tear_down),
		cmocka_unit_test(commands_from_image_and_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
