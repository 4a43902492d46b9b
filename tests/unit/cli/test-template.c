/* template: what the --format language does, checked against what Go's text/template gives. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/template.h"

/* After our headers: it defines a macro fail(). */
#include <cmocka.h>

static const char data[] =
	"{\"ID\":\"0123456789abcdef\",\"Name\":\"web\",\"Size\":42,\"Ratio\":1.5,\"Up\":true,"
	"\"Down\":false,\"Nothing\":null,\"Empty\":[],\"Names\":[\"a\",\"b\",\"c\"],"
	"\"Config\":{\"Image\":\"busybox\",\"Labels\":{\"z.y\":\"1\",\"app\":\"shop\"}},"
	"\"Mounts\":[{\"Source\":\"/a\",\"RW\":true},{\"Source\":\"/b\",\"RW\":false}],"
	"\"Umlaut\":\"gr\\u00fcn\"}";

/* Executes `text` over `data`; the result or NULL with the reason in err. The caller frees it. */
static char *execute(const char *text, struct error *err)
{
	own_json json_t *value = NULL;
	own_template struct template *template = NULL;
	own_buf struct buf out = {0};

	assert_int_equal(json_parse(data, strlen(data), "data", &value, err), 0);
	if (template_parse(text, &template, err) < 0 ||
	    template_execute(template, value, &out, err) < 0)
		return NULL;
	return buf_take(&out);
}

static void gives_what_go_gives(void **state)
{
	static const struct {
		const char *template, *output;
	} cases[] = {
		{"plain", "plain"},
		{"", ""},
		{"{{.Name}}", "web"},
		{"{{ .Name }}:{{.Size}}", "web:42"},
		{"{{.Ratio}} {{.Up}} {{.Nothing}}", "1.5 true <no value>"},
		{"{{.Names}}", "[a b c]"},
		{"{{.Config.Labels}}", "map[app:shop z.y:1]"},
		{"{{.Config.Image}}", "busybox"},
		{"{{.Config.Labels.app}}", "shop"},
		{"{{.Config.Labels.absent}}", "<no value>"},
		{"{{(.Config).Image}}", "busybox"},
		{"{{(index .Mounts 1).Source}}", "/b"},
		{"{{index .Config.Labels \"z.y\"}}", "1"},
		{"{{index .Config.Labels \"absent\"}}|", "|"},
		{"{{index .Names 2}}", "c"},
		{"{{json .Name}} {{json .Names}} {{json .Nothing}}",
		 "\"web\" [\"a\",\"b\",\"c\"] null"},
		{"{{.Names | json}}", "[\"a\",\"b\",\"c\"]"},
		{"{{join .Names \", \"}}", "a, b, c"},
		{"{{upper .Name}} {{.Name | upper | lower}} {{title .Name}}", "WEB web Web"},
		{"{{len .Names}} {{len .Name}} {{len .Config.Labels}} {{len .Nothing}}", "3 3 2 0"},
		{"{{slice .ID 0 12}} {{slice .ID 14}}", "0123456789ab ef"},
		{"{{slice .Names 1}}", "[b c]"},
		{"{{split \"a,b\" \",\"}}", "[a b]"},
		{"{{truncate .Umlaut 3}} {{pad .Name 1 2}}|", "gr\303\274  web  |"},
		{"{{if .Up}}yes{{end}}{{if .Down}}no{{end}}", "yes"},
		{"{{if .Empty}}x{{else}}empty{{end}}", "empty"},
		{"{{if .Down}}a{{else if .Up}}b{{else}}c{{end}}", "b"},
		{"{{if .Down}}a{{else if .Nothing}}b{{else}}c{{end}}d", "cd"},
		{"{{if and .Up (not .Down)}}both{{end}}", "both"},
		{"{{or .Nothing .Name}}", "web"},
		{"{{if eq .Name \"db\" \"web\"}}it is{{end}}", "it is"},
		{"{{if gt .Size 41}}>{{end}}{{if le .Size 41}}<={{end}}{{if ne .Size 1}}!={{end}}",
		 ">!="},
		{"{{lt \"a\" \"b\"}} {{ge 1.5 2}}", "true false"},
		{"{{range .Names}}<{{.}}>{{end}}", "<a><b><c>"},
		{"{{range .Empty}}x{{else}}none{{end}}", "none"},
		{"{{range $i, $n := .Names}}{{$i}}={{$n}} {{end}}", "0=a 1=b 2=c "},
		{"{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "app=shop;z.y=1;"},
		{"{{range .Mounts}}{{if .RW}}{{.Source}}{{end}}{{end}}", "/a"},
		{"{{range .Names}}{{$.Name}}{{end}}", "webwebweb"},
		{"{{with .Config}}{{.Image}}{{end}}{{with .Nothing}}x{{else}}y{{end}}", "busyboxy"},
		{"{{$x := .Name}}{{$x}}{{$x = \"n\"}}{{$x}}", "webn"},
		{"{{with $c := .Config}}{{$c.Image}}{{end}}", "busybox"},
		{"a  {{- \"b\" -}}  c", "abc"},
		{"a {{/* nothing */}} b", "a  b"},
		{"a {{- /* nothing */ -}} b", "ab"},
		{"{{\"\\t\\\"q\\\"\"}} {{`raw\\n`}}", "\t\"q\" raw\\n"},
		{"{{print 1 2 \"x\" 3}}{{println \"end\"}}", "1 2x3end\n"},
		{"{{printf \"%.12s|%5d|%-5s|%05d|%q|%v|%%|%x\" .ID .Size .Name .Size .Name .Up 255}}",
		 "0123456789ab|   42|web  |00042|\"web\"|true|%|ff"},
		{"{{-3}}", "-3"},
		{"{{.Config.Label \"app\"}}|{{.Config.Label \"none\"}}|", "shop||"},
		{"{{(.Config.Label \"app\") | upper}}", "SHOP"},
		{"{{true}} {{nil | json}}", "true null"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		own_mem char *output = execute(cases[i].template, &err);

		if (output == NULL || strcmp(output, cases[i].output) != 0)
			fail_msg("%s: got \"%s\" %s", cases[i].template, output, err.text);
	}
}

static void refuses_with_the_place(void **state)
{
	static const struct {
		const char *template, *text, *hint;
	} cases[] = {
		{"{{.Nam}}", "no field .Nam", "did you mean .Name?"},
		{"{{.Id}}", "no field .Id", "did you mean .ID?"},
		{"{{.Zzzzzzz}}", "no field .Zzzzzzz", "there are: .ID .Name"},
		{"{{.Name.X}}", ".X: what stands before has no fields", ""},
		{"{{.Name", "expected \"}}\" at its end", ""},
		{"{{", "a value is missing", ""},
		{"{{}}", "a value is missing at character 3", ""},
		{"{{nonsense .}}", "unknown function at character 3, \"nonsense\"", ""},
		{"{{.Name | .ID}}", "expected a function after", ""},
		{"{{.Name |}}", "a value is missing", ""},
		{"{{.Name .ID}}", "only a function takes arguments", ""},
		{"{{(.Name}}", "expected \")\"", ""},
		{"{{\"abc}}", "string without an end", ""},
		{"{{\"\\z\"}}", "unknown escape", ""},
		{"{{12x}}", "bad number", ""},
		{"{{if .Up}}x", "{{end}} is missing", ""},
		{"{{end}}", "without a beginning", ""},
		{"{{if .Up}}{{else}}{{else}}{{end}}", "second {{else}}", ""},
		{"{{range .Up}}{{end}}", "range over what is no list", ""},
		{"{{$x}}", "undefined variable $x", ""},
		{"{{if .Up}}{{$y := 1}}{{end}}{{$y}}", "undefined variable $y", ""},
		{"{{index .Names 3}}", "index expects a number within the list", ""},
		{"{{index .Names \"a\"}}", "index expects a number", ""},
		{"{{slice .Name 2 1}}", "slice expects the lower bound first", ""},
		{"{{slice .Name 0 9}}", "slice expects bounds", ""},
		{"{{slice .Umlaut 0 3}}", "bounds between characters", ""},
		{"{{join .Name \",\"}}", "join expects a list", ""},
		{"{{upper .Size}}", "upper expects a string", ""},
		{"{{lt .Name .Size}}", "lt expects two numbers", ""},
		{"{{upper}}", "upper was given 0 arguments", ""},
		{"{{printf \"%d\"}}", "a value for every directive", ""},
		{"{{printf \"%y\" 1}}", "printf expects", ""},
		{"{{printf \"%9999999d\" 1}}", "reasonable width", ""},
		{"{{/* open", "comment without an end", ""},
		{"{{.Name..ID}}", "expected a name after the dot", ""},
		{"{{.Label \"x\"}}", "label expects something that has labels", ""},
		{"{{.Name)}}", "expected \"}}\"", ""},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		own_mem char *output = execute(cases[i].template, &err);

		if (output != NULL || strstr(err.text, cases[i].text) == NULL ||
		    strstr(err.hint, cases[i].hint) == NULL)
			fail_msg("%s: got \"%s\", \"%s\", \"%s\"", cases[i].template, output,
				 err.text, err.hint);
	}
}

static void repeat(struct buf *out, const char *text, int count)
{
	for (int i = 0; i < count; i++)
		buf_add_str(out, text);
}

static void refuses_what_is_too_deep_or_too_long(void **state)
{
	static const char *const pieces[] = {"{{if .Up}}", "{{if .Down}}x{{else if .Up}}", "{{("};

	(void)state;
	for (size_t i = 0; i < array_size(pieces); i++) {
		own_buf struct buf text = {0};
		struct error err = {0};

		repeat(&text, pieces[i], i == 2 ? 1 : 2000);
		repeat(&text, "(", i == 2 ? 50000 : 0);
		assert_null(execute(text.data, &err));
		assert_non_null(strstr(err.text, "nested too deeply"));
	}
	for (int i = 0; i < 1; i++) {
		own_buf struct buf text = {0};
		struct error err = {0};

		repeat(&text, "x", TEMPLATE_SIZE_MAX + 1);
		assert_null(execute(text.data, &err));
		assert_int_equal(err.code, -E2BIG);
	}
}

static void ends_a_range_that_multiplies(void **state)
{
	own_buf struct buf text = {0};
	struct error err = {0};

	(void)state;
	repeat(&text, "{{range $.Names}}", 40);
	repeat(&text, "{{end}}", 40);
	assert_null(execute(text.data, &err));
	assert_non_null(strstr(err.text, "does not end"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_what_go_gives),
		cmocka_unit_test(refuses_with_the_place),
		cmocka_unit_test(refuses_what_is_too_deep_or_too_long),
		cmocka_unit_test(ends_a_range_that_multiplies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
