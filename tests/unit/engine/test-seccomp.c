/* Tests of the default system call filter and of docker's profile files. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "engine/capability.h"
#include "engine/seccomp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The action for a call when no condition on arguments is looked at; NULL: the default. */
static const char *action_of(const json_t *profile, const char *call, bool *ret_conditional)
{
	const json_t *rules = json_object_get(profile, "syscalls");

	*ret_conditional = false;
	for (size_t i = 0; i < json_array_size(rules); i++) {
		const json_t *rule = json_array_get(rules, i);
		const json_t *names = json_object_get(rule, "names");

		for (size_t j = 0; j < json_array_size(names); j++)
			if (strcmp(json_string_value(json_array_get(names, j)), call) == 0) {
				*ret_conditional = json_object_get(rule, "args") != NULL;
				return json_string_value(json_object_get(rule, "action"));
			}
	}
	return NULL;
}

static json_t *with_capability(const char *name)
{
	json_t *array = json_array();

	if (name != NULL)
		json_array_append_new(array, json_string(name));
	return array;
}

static void calls_by_capability(void **state)
{
	enum { REFUSED, ALLOWED, CONDITIONAL };
	static const struct {
		const char *call, *capability;
		int expected;
	} cases[] = {
		{"read", NULL, ALLOWED},
		{"ptrace", NULL, ALLOWED},
		{"clone", NULL, CONDITIONAL},
		{"clone", "CAP_SYS_ADMIN", ALLOWED},
		{"clone3", "CAP_SYS_ADMIN", ALLOWED},
		{"socket", NULL, CONDITIONAL},
		{"personality", NULL, CONDITIONAL},
		{"mount", NULL, REFUSED},
		{"mount", "CAP_SYS_ADMIN", ALLOWED},
		{"unshare", NULL, REFUSED},
		{"setns", NULL, REFUSED},
		{"bpf", NULL, REFUSED},
		{"bpf", "CAP_BPF", ALLOWED},
		{"open_by_handle_at", NULL, REFUSED},
		{"open_by_handle_at", "CAP_DAC_READ_SEARCH", ALLOWED},
		{"chroot", NULL, REFUSED},
		{"chroot", "CAP_SYS_CHROOT", ALLOWED},
		{"keyctl", NULL, REFUSED},
		{"add_key", "CAP_SYS_ADMIN", REFUSED},
		{"kexec_load", "CAP_SYS_ADMIN", REFUSED},
		{"io_uring_setup", NULL, REFUSED},
		{"userfaultfd", NULL, REFUSED},
		{"clock_settime", NULL, REFUSED},
		{"clock_settime", "CAP_SYS_TIME", ALLOWED},
		{"swapon", "CAP_SYS_ADMIN", REFUSED},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_json json_t *caps = with_capability(cases[i].capability);
		own_json json_t *profile = seccomp_default(caps);
		bool conditional;
		const char *action = action_of(profile, cases[i].call, &conditional);
		int found = action == NULL ? REFUSED : conditional ? CONDITIONAL : ALLOWED;

		if (found != cases[i].expected)
			fail_msg("%s with %s: %d", cases[i].call,
				 cases[i].capability ? cases[i].capability : "nothing", found);
	}
}

static void clone3_looks_as_if_it_were_not_there(void **state)
{
	own_json json_t *caps = with_capability(NULL), *profile = seccomp_default(caps);
	const json_t *rules = json_object_get(profile, "syscalls");
	bool conditional, found = false;

	(void)state;
	assert_string_equal(action_of(profile, "clone3", &conditional), "SCMP_ACT_ERRNO");
	for (size_t i = 0; i < json_array_size(rules); i++)
		if (json_integer_value(json_object_get(json_array_get(rules, i), "errnoRet")) ==
		    ENOSYS)
			found = true;
	assert_true(found);
}

static void docker_profiles_are_understood(void **state)
{
	static const char text[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"archMap\":[],\"syscalls\":["
		"{\"names\":[\"a\"],\"action\":\"SCMP_ACT_ALLOW\"},"
		"{\"names\":[\"b\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_X\"]}},"
		"{\"names\":[\"c\"],\"action\":\"SCMP_ACT_ALLOW\",\"excludes\":{\"caps\":[\"CAP_X\"]}},"
		"{\"names\":[\"d\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":[\"s390\"]}},"
		"{\"name\":\"e\",\"action\":\"SCMP_ACT_ALLOW\",\"comment\":\"old\"}]}";
	own_json json_t *source = json_loads(text, 0, NULL);
	own_json json_t *none = with_capability(NULL), *some = with_capability("CAP_X");
	own_json json_t *without = NULL, *with = NULL;
	bool conditional;

	(void)state;
	assert_int_equal(seccomp_from_profile(source, none, &without, NULL), 0);
	assert_int_equal(seccomp_from_profile(source, some, &with, NULL), 0);
	assert_non_null(action_of(without, "a", &conditional));
	assert_null(action_of(without, "b", &conditional));
	assert_non_null(action_of(without, "c", &conditional));
	assert_null(action_of(without, "d", &conditional));
	assert_non_null(action_of(without, "e", &conditional));
	assert_non_null(action_of(with, "b", &conditional));
	assert_null(action_of(with, "c", &conditional));
	assert_null(json_object_get(with, "archMap"));
	assert_true(json_array_size(json_object_get(with, "architectures")) > 0);
}

static void a_profile_of_another_form_is_refused(void **state)
{
	static const char *const texts[] = {"[]", "{\"syscalls\":{}}", "{\"syscalls\":\"x\"}"};

	(void)state;
	for (size_t i = 0; i < array_size(texts); i++) {
		own_json json_t *source = json_loads(texts[i], 0, NULL), *none = json_array();
		own_json json_t *result = NULL;

		assert_int_equal(seccomp_from_profile(source, none, &result, NULL), -EINVAL);
	}
}

/* --- capabilities ------------------------------------------------------------------------------------ */

static void capabilities_added_and_dropped(void **state)
{
	static const struct {
		const char *add, *drop, *present, *absent;
	} cases[] = {
		{NULL, NULL, "CAP_CHOWN", "CAP_SYS_ADMIN"},
		{"NET_ADMIN", NULL, "CAP_NET_ADMIN", "CAP_SYS_ADMIN"},
		{"cap_net_admin", NULL, "CAP_NET_ADMIN", "CAP_SYS_ADMIN"},
		{NULL, "CHOWN", "CAP_KILL", "CAP_CHOWN"},
		{NULL, "all", NULL, "CAP_CHOWN"},
		{"CHOWN", "ALL", "CAP_CHOWN", "CAP_KILL"},
		{"ALL", NULL, "CAP_SYS_ADMIN", NULL},
		{"ALL", "SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_workload_config struct workload_config config;
		own_json json_t *set = NULL;
		own_mem char *text = NULL;

		workload_config_init(&config);
		if (cases[i].add != NULL)
			strv_push(&config.caps_add, cases[i].add);
		if (cases[i].drop != NULL)
			strv_push(&config.caps_drop, cases[i].drop);
		assert_int_equal(capability_set(&config, &set, NULL), 0);
		text = json_text(set);
		if (cases[i].present != NULL && strstr(text, cases[i].present) == NULL)
			fail_msg("case %zu: %s has no %s", i, text, cases[i].present);
		if (cases[i].absent != NULL && strstr(text, cases[i].absent) != NULL)
			fail_msg("case %zu: %s has %s", i, text, cases[i].absent);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_by_capability),
		cmocka_unit_test(clone3_looks_as_if_it_were_not_there),
		cmocka_unit_test(docker_profiles_are_understood),
		cmocka_unit_test(a_profile_of_another_form_is_refused),
		cmocka_unit_test(capabilities_added_and_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
