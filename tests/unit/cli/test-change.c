/* change: the instructions of import --change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "cli/change.h"

/* After our headers: it defines a macro fail(). */
#include <cmocka.h>

static void applies_instructions_in_order(void **state)
{
	static const char *const instructions[] = {
		"CMD [\"sh\", \"-c\", \"id\"]",
		"entrypoint echo hello",
		"ENV A=1",
		"ENV B two words",
		"ENV=C=3",
		"LABEL a.b=\"c d\"",
		"LABEL e=",
		"USER 1000:1000",
		"WORKDIR /srv",
		"EXPOSE 80 53/udp",
		"VOLUME /data",
		"STOPSIGNAL SIGINT",
	};
	own_json json_t *config = json_object();
	own_mem char *text = NULL;
	struct error err = {0};

	(void)state;
	for (size_t i = 0; i < array_size(instructions); i++)
		if (change_config(config, instructions[i], &err) < 0)
			fail_msg("%s: %s", instructions[i], err.text);
	text = json_text(config);
	assert_string_equal(
		text,
		"{\"Cmd\":[\"sh\",\"-c\",\"id\"],\"Entrypoint\":[\"/bin/sh\",\"-c\",\"echo hello\"],"
		"\"Env\":[\"A=1\",\"B=two words\",\"C=3\"],\"Labels\":{\"a.b\":\"c d\",\"e\":\"\"},"
		"\"User\":\"1000:1000\",\"WorkingDir\":\"/srv\","
		"\"ExposedPorts\":{\"80/tcp\":{},\"53/udp\":{}},\"Volumes\":{\"/data\":{}},"
		"\"StopSignal\":\"SIGINT\"}");
}

static void refuses_what_it_does_not_know(void **state)
{
	static const struct {
		const char *instruction, *text, *hint;
	} cases[] = {
		{"RUN ls", "unknown instruction \"RUN\"", ""},
		{"WORKDIRS /", "unknown instruction", "did you mean WORKDIR?"},
		{"CMD", "CMD needs a value", ""},
		{"CMD [1]", "all elements must be strings", ""},
		{"CMD [\"a\"", "--change \"CMD [\"a\"\"", ""},
		{"ENV A", "expected NAME=VALUE", ""},
		{"ENV =x", "expected NAME=VALUE", ""},
		{"LABEL a", "expected NAME=VALUE", ""},
		{"LABEL a.b=c d", "expected NAME=VALUE, found \"d\"", ""},
		{"", "unknown instruction", ""},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_json json_t *config = json_object();
		struct error err = {0};

		if (change_config(config, cases[i].instruction, &err) >= 0 ||
		    strstr(err.text, cases[i].text) == NULL ||
		    strstr(err.hint, cases[i].hint) == NULL)
			fail_msg("%s: got \"%s\" \"%s\"", cases[i].instruction, err.text, err.hint);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(applies_instructions_in_order),
		cmocka_unit_test(refuses_what_it_does_not_know),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
