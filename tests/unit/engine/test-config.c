/* Tests of the configuration: its texts, its checks, and its form in the database. */
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "engine/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef int parse_fn(struct workload_config *config, const char *text, struct error *err);

struct parse_case {
	const char *name;
	parse_fn *parse;
	const char *text;
	bool ok;
	const char *reason; /* part of the error */
};

static const struct parse_case cases[] = {
	{"bind", workload_config_parse_volume, "/a:/b", true, NULL},
	{"bind_with_options", workload_config_parse_volume, "/a:/b:ro,rslave", true, NULL},
	{"relative_target", workload_config_parse_volume, "/a:b", false, "absolute path"},
	{"named_volume", workload_config_parse_volume, "data:/b", false, "names a volume"},
	{"anonymous_volume", workload_config_parse_volume, "/b", false, "anonymous"},
	{"root_as_target", workload_config_parse_volume, "/a:/", false, "root directory"},
	{"too_many_parts", workload_config_parse_volume, "/a:/b:ro:x", false, "not a volume"},
	{"unknown_option", workload_config_parse_volume, "/a:/b:fast", false, "\"fast\""},
	{"option_needs_userns", workload_config_parse_volume, "/a:/b:U", false, "user namespaces"},
	{"empty_source", workload_config_parse_volume, ":/b", false, "names a volume"},
	{"mount_bind", workload_config_parse_mount, "type=bind,src=/a,dst=/b,readonly", true, NULL},
	{"mount_tmpfs", workload_config_parse_mount, "type=tmpfs,dst=/b,tmpfs-size=1m", true, NULL},
	{"mount_volume", workload_config_parse_mount, "type=volume,dst=/b", false, "\"volume\""},
	{"mount_key", workload_config_parse_mount, "type=bind,colour=red", false, "\"colour\""},
	{"mount_without_target", workload_config_parse_mount, "type=bind,src=/a", false,
	 "absolute"},
	{"tmpfs", workload_config_parse_tmpfs, "/t:size=64m,mode=1777", true, NULL},
	{"tmpfs_relative", workload_config_parse_tmpfs, "t", false, "absolute"},
	{"tmpfs_option", workload_config_parse_tmpfs, "/t:huge=always", false, "huge=always"},
	{"device", workload_config_parse_device, "/dev/null", true, NULL},
	{"device_renamed", workload_config_parse_device, "/dev/null:/dev/x:rw", true, NULL},
	{"device_access", workload_config_parse_device, "/dev/null:/dev/x:rx", false, "rx"},
	{"device_relative", workload_config_parse_device, "null", false, "not a device"},
	{"ulimit", workload_config_parse_ulimit, "nofile=1024:2048", true, NULL},
	{"ulimit_unlimited", workload_config_parse_ulimit, "core=-1", true, NULL},
	{"ulimit_soft_above_hard", workload_config_parse_ulimit, "nofile=3:2", false, "above"},
	{"ulimit_unknown", workload_config_parse_ulimit, "luck=1", false, "\"luck\""},
	{"ulimit_text", workload_config_parse_ulimit, "nofile=many", false, "not a limit"},
	{"restart_always", workload_config_parse_restart, "always", true, NULL},
	{"restart_max", workload_config_parse_restart, "on-failure:5", true, NULL},
	{"restart_max_text", workload_config_parse_restart, "on-failure:x", false, "not a number"},
	{"restart_unknown", workload_config_parse_restart, "sometimes", false, "sometimes"},
	{"network_host", workload_config_parse_network, "host", true, NULL},
	{"network_bridge", workload_config_parse_network, "bridge", false, "\"bridge\""},
	{"log_driver", workload_config_parse_log_driver, "journald", false, "journald"},
	{"log_size", workload_config_parse_log_option, "max-size=10m", true, NULL},
	{"log_size_text", workload_config_parse_log_option, "max-size=big", false, "not a size"},
	{"log_unknown", workload_config_parse_log_option, "colour=red", false, "colour=red"},
	{"security_nnp", workload_config_parse_security, "no-new-privileges", true, NULL},
	{"security_nnp_text", workload_config_parse_security, "no-new-privileges:maybe", false,
	 "true or false"},
	{"security_seccomp_file", workload_config_parse_security, "seccomp=/nonexistent", false,
	 "/nonexistent"},
	{"security_label", workload_config_parse_security, "label=type:x", false, "SELinux"},
	{"security_unknown", workload_config_parse_security, "luck=good", false, "luck=good"},
};

static void parses_or_says_why(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_workload_config struct workload_config config;
		struct error err = {0};
		int rc;

		workload_config_init(&config);
		rc = cases[i].parse(&config, cases[i].text, &err);
		if ((rc == 0) != cases[i].ok)
			fail_msg("%s: returned %d: %s", cases[i].name, rc, err.text);
		if (!cases[i].ok && strstr(err.text, cases[i].reason) == NULL)
			fail_msg("%s: \"%s\" does not say %s", cases[i].name, err.text,
				 cases[i].reason);
	}
}

static void relative_sources_are_made_absolute(void **state)
{
	own_workload_config struct workload_config config;

	(void)state;
	workload_config_init(&config);
	assert_int_equal(workload_config_parse_volume(&config, "./here:/b", NULL), 0);
	assert_int_equal(config.mounts[0].source[0], '/');
	assert_true(str_ends_with(config.mounts[0].source, "here"));
}

struct check_case {
	const char *name;
	void (*spoil)(struct workload_config *config);
	const char *reason; /* NULL: it is valid */
};

static void nothing(struct workload_config *c)
{
	(void)c;
}
static void bad_name(struct workload_config *c)
{
	c->name = str_copy("a/b");
}
static void relative_directory(struct workload_config *c)
{
	c->working_dir = str_copy("tmp");
}
static void bad_signal(struct workload_config *c)
{
	c->stop_signal = str_copy("SIGNOTHING");
}
static void little_memory(struct workload_config *c)
{
	c->memory_bytes = 4096;
}
static void swap_without_memory(struct workload_config *c)
{
	c->memory_swap_bytes = 1 << 30;
}
static void swap_below_memory(struct workload_config *c)
{
	c->memory_bytes = 1 << 30;
	c->memory_swap_bytes = 1 << 29;
}
static void unlimited_swap(struct workload_config *c)
{
	c->memory_bytes = 1 << 30;
	c->memory_swap_bytes = WORKLOAD_SWAP_UNLIMITED;
}
static void unknown_capability(struct workload_config *c)
{
	strv_push(&c->caps_add, "FLY");
}
static void all_capabilities(struct workload_config *c)
{
	strv_push(&c->caps_drop, "all");
	strv_push(&c->caps_add, "cap_net_admin");
}
static void removed_and_restarted(struct workload_config *c)
{
	c->flags |= WORKLOAD_AUTO_REMOVE;
	c->restart = WORKLOAD_RESTART_ALWAYS;
}
static void two_mounts_at_one_place(struct workload_config *c)
{
	assert_int_equal(workload_config_parse_tmpfs(c, "/t", NULL), 0);
	assert_int_equal(workload_config_parse_volume(c, "/a:/t", NULL), 0);
}
static void variable_without_name(struct workload_config *c)
{
	strv_push(&c->env, "=x");
}

static const struct check_case checks[] = {
	{"nothing", nothing, NULL},
	{"unlimited_swap", unlimited_swap, NULL},
	{"all_capabilities", all_capabilities, NULL},
	{"bad_name", bad_name, "cannot be a name"},
	{"relative_directory", relative_directory, "absolute path"},
	{"bad_signal", bad_signal, "SIGNOTHING"},
	{"little_memory", little_memory, "lets nothing start"},
	{"swap_without_memory", swap_without_memory, "needs a memory limit"},
	{"swap_below_memory", swap_below_memory, "below"},
	{"unknown_capability", unknown_capability, "FLY"},
	{"removed_and_restarted", removed_and_restarted, "--restart"},
	{"two_mounts_at_one_place", two_mounts_at_one_place, "/t"},
	{"variable_without_name", variable_without_name, "no name"},
};

static void check_names_what_is_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(checks); i++) {
		own_workload_config struct workload_config config;
		struct error err = {0};
		int rc;

		workload_config_init(&config);
		checks[i].spoil(&config);
		rc = workload_config_check(&config, &err);
		if ((rc == 0) != (checks[i].reason == NULL))
			fail_msg("%s: returned %d: %s", checks[i].name, rc, err.text);
		if (rc < 0 && strstr(err.text, checks[i].reason) == NULL)
			fail_msg("%s: \"%s\"", checks[i].name, err.text);
	}
}

static void fill(struct workload_config *c)
{
	c->image = str_copy("busybox");
	c->image_id = str_copy("sha256:00");
	c->flags = WORKLOAD_TTY | WORKLOAD_AUTO_REMOVE;
	strv_push(&c->command, "a b");
	strv_push(&c->env, "K=V=W");
	strv_push(&c->labels, "x=y");
	c->stop_timeout_s = 3;
	c->memory_bytes = INT64_C(5) << 32;
	c->restart = WORKLOAD_RESTART_ON_FAILURE;
	c->restart_max = 4;
	c->seccomp_profile = json_pack("{s:s}", "defaultAction", "SCMP_ACT_ALLOW");
	assert_int_equal(workload_config_parse_volume(c, "/a:/b:ro", NULL), 0);
	assert_int_equal(workload_config_parse_device(c, "/dev/null:/dev/n:r", NULL), 0);
	assert_int_equal(workload_config_parse_ulimit(c, "core=0:unlimited", NULL), 0);
}

static void json_form_keeps_everything(void **state)
{
	own_workload_config struct workload_config config, copy;
	own_json json_t *first = NULL, *second = NULL;
	struct error err = {0};

	(void)state;
	workload_config_init(&config);
	workload_config_init(&copy);
	fill(&config);
	first = workload_config_to_json(&config);
	if (workload_config_from_json(first, &copy, &err) < 0)
		fail_msg("%s", err.text);
	second = workload_config_to_json(&copy);
	assert_true(json_equal(first, second));
	assert_string_equal(copy.mounts[0].options[0], "ro");
	assert_string_equal(copy.devices[0].access, "r");
	assert_true(copy.ulimits[0].hard == UINT64_MAX);
	assert_true(copy.memory_bytes == INT64_C(5) << 32);
}

static void defaults_are_not_written(void **state)
{
	own_workload_config struct workload_config config;
	own_json json_t *value = NULL;

	(void)state;
	workload_config_init(&config);
	value = workload_config_to_json(&config);
	assert_int_equal(json_object_size(value), 0);
}

static void damaged_json_is_refused(void **state)
{
	static const char *const texts[] = {
		"{\"command\":\"x\"}",
		"{\"command\":[1]}",
		"{\"memory_bytes\":\"x\"}",
		"{\"restart\":99999999999}",
		"{\"mounts\":[{\"target\":\"/a\"}]}",
		"{\"mounts\":[7]}",
		"{\"ulimits\":[{\"name\":\"core\"}]}",
		"{\"devices\":{}}",
		"[]",
	};

	(void)state;
	for (size_t i = 0; i < array_size(texts); i++) {
		own_workload_config struct workload_config config;
		own_json json_t *value = json_loads(texts[i], 0, NULL);
		struct error err = {0};

		workload_config_init(&config);
		if (workload_config_from_json(value, &config, &err) != -EINVAL ||
		    err.text[0] == '\0')
			fail_msg("%s was accepted", texts[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_or_says_why),
		cmocka_unit_test(relative_sources_are_made_absolute),
		cmocka_unit_test(check_names_what_is_wrong),
		cmocka_unit_test(json_form_keeps_everything),
		cmocka_unit_test(defaults_are_not_written),
		cmocka_unit_test(damaged_json_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
