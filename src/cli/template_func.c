/*
 * template_func: the functions of templates, and how values print and compare.
 *
 * Each function gets its arguments already counted against its bounds and returns a new reference.
 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/template_priv.h"

enum { WIDTH_MAX = 4096 };

struct call {
	const char *name;
	json_t *const *args;
	size_t count;
	struct error *err;
};

typedef int function_fn(const struct call *call, json_t **ret);

static int wrong(const struct call *call, const char *expected)
{
	return refuse(call->err, -EINVAL, "template: %s expects %s", call->name, expected);
}

static int give_text(struct buf *text, const struct call *call, json_t **ret)
{
	*ret = json_stringn(text->data ? text->data : "", text->len);
	return *ret ? 0 : wrong(call, "UTF-8 that it does not cut");
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_object(const json_t *object, struct buf *out)
{
	own_strv char **keys = NULL;
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)object, key, value)
		strv_push(&keys, key);
	qsort(keys, strv_len(keys), sizeof(keys[0]), compare_names);
	buf_add_str(out, "map[");
	for (size_t i = 0; keys != NULL && keys[i] != NULL; i++) {
		buf_format(out, "%s%s:", i > 0 ? " " : "", keys[i]);
		template_print(json_object_get(object, keys[i]), out);
	}
	buf_add_char(out, ']');
}

void template_print(const json_t *value, struct buf *out)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		buf_add(out, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
		buf_format(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		buf_format(out, "%g", json_real_value(value));
		break;
	case JSON_TRUE:
		buf_add_str(out, "true");
		break;
	case JSON_FALSE:
		buf_add_str(out, "false");
		break;
	case JSON_NULL:
		buf_add_str(out, "<no value>");
		break;
	case JSON_ARRAY:
		buf_add_char(out, '[');
		for (size_t i = 0; i < json_array_size(value); i++) {
			buf_add_str(out, i > 0 ? " " : "");
			template_print(json_array_get(value, i), out);
		}
		buf_add_char(out, ']');
		break;
	case JSON_OBJECT:
		print_object(value, out);
		break;
	}
}

bool template_truth(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		return json_string_length(value) > 0;
	case JSON_INTEGER:
		return json_integer_value(value) != 0;
	case JSON_REAL:
		return json_real_value(value) < 0 || json_real_value(value) > 0;
	case JSON_ARRAY:
		return json_array_size(value) > 0;
	case JSON_OBJECT:
		return json_object_size(value) > 0;
	case JSON_TRUE:
		return true;
	case JSON_FALSE:
	case JSON_NULL:
		break;
	}
	return false;
}

/* and, or: the argument that decides. */
static int fn_and(const struct call *call, json_t **ret)
{
	size_t i = 0;

	while (i + 1 < call->count && template_truth(call->args[i]))
		i++;
	*ret = json_incref(call->args[i]);
	return 0;
}

static int fn_or(const struct call *call, json_t **ret)
{
	size_t i = 0;

	while (i + 1 < call->count && !template_truth(call->args[i]))
		i++;
	*ret = json_incref(call->args[i]);
	return 0;
}

static int fn_not(const struct call *call, json_t **ret)
{
	*ret = json_boolean(!template_truth(call->args[0]));
	return 0;
}

/* Sets *ret to the order of two numbers or strings: negative, 0, positive. */
static int compare(const struct call *call, const json_t *a, const json_t *b, int *ret)
{
	if (json_is_integer(a) && json_is_integer(b)) {
		json_int_t x = json_integer_value(a), y = json_integer_value(b);

		*ret = (x > y) - (x < y);
	} else if (json_is_number(a) && json_is_number(b)) {
		double x = json_number_value(a), y = json_number_value(b);

		*ret = (x > y) - (x < y);
	} else if (json_is_string(a) && json_is_string(b)) {
		*ret = strcmp(json_string_value(a), json_string_value(b));
	} else {
		return wrong(call, "two numbers or two strings");
	}
	return 0;
}

/* eq a b c: a equals one of the others. */
static int fn_eq(const struct call *call, json_t **ret)
{
	for (size_t i = 1; i < call->count; i++) {
		const json_t *a = call->args[0], *b = call->args[i];
		int order = json_equal(a, b) ? 0 : 1, rc = 0;

		if (json_is_number(a) && json_is_number(b))
			rc = compare(call, a, b, &order);
		if (rc < 0)
			return rc;
		if (order == 0) {
			*ret = json_true();
			return 0;
		}
	}
	*ret = json_false();
	return 0;
}

static int fn_ne(const struct call *call, json_t **ret)
{
	json_t *equal;
	int rc = fn_eq(call, &equal);

	if (rc >= 0)
		*ret = json_boolean(!json_is_true(equal));
	return rc;
}

static int fn_order(const struct call *call, json_t **ret)
{
	int order, rc = compare(call, call->args[0], call->args[1], &order);

	if (rc < 0)
		return rc;
	/* The names are lt, le, gt, ge. */
	*ret = json_boolean((call->name[0] == 'l' ? order < 0 : order > 0) ||
			    (call->name[1] == 'e' && order == 0));
	return 0;
}

static int fn_len(const struct call *call, json_t **ret)
{
	const json_t *value = call->args[0];

	if (json_is_string(value))
		*ret = json_integer((json_int_t)json_string_length(value));
	else if (json_is_array(value))
		*ret = json_integer((json_int_t)json_array_size(value));
	else if (json_is_object(value) || json_is_null(value))
		*ret = json_integer((json_int_t)json_object_size(value));
	else
		return wrong(call, "a list, a map or a string");
	return 0;
}

/* index x 1 "key": an absent key is empty, an index out of bounds an error. */
static int fn_index(const struct call *call, json_t **ret)
{
	json_t *value = call->args[0];

	for (size_t i = 1; i < call->count; i++) {
		const json_t *key = call->args[i];

		if (json_is_null(value) || json_is_object(value)) {
			if (!json_is_string(key))
				return wrong(call, "a string as the key of a map");
			value = json_object_get(value, json_string_value(key));
			if (value == NULL) {
				*ret = json_string("");
				return 0;
			}
		} else if (json_is_array(value)) {
			if (!json_is_integer(key) || json_integer_value(key) < 0 ||
			    (size_t)json_integer_value(key) >= json_array_size(value))
				return wrong(call, "a number within the list");
			value = json_array_get(value, (size_t)json_integer_value(key));
		} else {
			return wrong(call, "a list or a map");
		}
	}
	*ret = json_incref(value);
	return 0;
}

/* slice x [from [to]] */
static int fn_slice(const struct call *call, json_t **ret)
{
	const json_t *value = call->args[0];
	size_t len = json_is_string(value) ? json_string_length(value) : json_array_size(value);
	size_t bounds[2] = {0, len};

	if (!json_is_string(value) && !json_is_array(value))
		return wrong(call, "a list or a string");
	for (size_t i = 1; i < call->count; i++) {
		json_int_t at = json_integer_value(call->args[i]);

		if (!json_is_integer(call->args[i]) || at < 0 || (size_t)at > len)
			return wrong(call, "bounds within the value");
		bounds[i - 1] = (size_t)at;
	}
	if (bounds[0] > bounds[1])
		return wrong(call, "the lower bound first");
	if (json_is_string(value)) {
		*ret = json_stringn(json_string_value(value) + bounds[0], bounds[1] - bounds[0]);
		return *ret ? 0 : wrong(call, "bounds between characters");
	}
	*ret = json_array();
	for (size_t i = bounds[0]; i < bounds[1]; i++)
		json_array_append(*ret, json_array_get(value, i));
	return 0;
}

/* print: as Go, with a space between two values neither of which is a string. */
static int fn_print(const struct call *call, json_t **ret)
{
	const bool line = strcmp(call->name, "println") == 0;
	own_buf struct buf text = {0};

	for (size_t i = 0; i < call->count; i++) {
		if (i > 0 && (line || (!json_is_string(call->args[i]) &&
				       !json_is_string(call->args[i - 1]))))
			buf_add_char(&text, ' ');
		template_print(call->args[i], &text);
	}
	if (line)
		buf_add_char(&text, '\n');
	return give_text(&text, call, ret);
}

static int fn_json(const struct call *call, json_t **ret)
{
	own_mem char *text = json_dumps(call->args[0], JSON_COMPACT | JSON_ENCODE_ANY);

	*ret = json_string(text ? text : "null");
	return 0;
}

static int fn_join(const struct call *call, json_t **ret)
{
	const json_t *list = call->args[0];
	own_buf struct buf text = {0};

	if ((!json_is_array(list) && !json_is_null(list)) || !json_is_string(call->args[1]))
		return wrong(call, "a list and a separator");
	for (size_t i = 0; i < json_array_size(list); i++) {
		buf_add_str(&text, i > 0 ? json_string_value(call->args[1]) : "");
		template_print(json_array_get(list, i), &text);
	}
	return give_text(&text, call, ret);
}

static int fn_split(const struct call *call, json_t **ret)
{
	const char *text = json_string_value(call->args[0]);
	const char *separator = json_string_value(call->args[1]);

	if (text == NULL || str_empty(separator))
		return wrong(call, "a string and a separator");
	*ret = json_array();
	for (;;) {
		const char *end = strstr(text, separator);

		json_array_append_new(
			*ret, json_stringn(text, end ? (size_t)(end - text) : strlen(text)));
		if (end == NULL)
			return 0;
		text = end + strlen(separator);
	}
}

/* upper, lower, title: of ASCII letters. */
static int fn_case(const struct call *call, json_t **ret)
{
	own_buf struct buf text = {0};
	bool begins = true;

	if (!json_is_string(call->args[0]))
		return wrong(call, "a string");
	for (const char *p = json_string_value(call->args[0]); *p != '\0'; p++) {
		const unsigned char c = (unsigned char)*p;
		const bool raise = call->name[0] == 'u' || (call->name[0] == 't' && begins);

		buf_add_char(&text, (char)(raise                  ? toupper(c)
					   : call->name[0] == 'l' ? tolower(c)
								  : c));
		begins = isspace(c);
	}
	return give_text(&text, call, ret);
}

static int fn_truncate(const struct call *call, json_t **ret)
{
	own_buf struct buf text = {0};
	json_int_t limit = json_integer_value(call->args[1]);

	if (!json_is_string(call->args[0]) || !json_is_integer(call->args[1]) || limit < 0)
		return wrong(call, "a string and a length");
	for (const char *p = json_string_value(call->args[0]); *p != '\0'; p++) {
		/* Counted in characters: those are the bytes that do not continue one. */
		if (((unsigned char)*p & 0xc0) != 0x80 && limit-- == 0)
			break;
		buf_add_char(&text, *p);
	}
	return give_text(&text, call, ret);
}

static int fn_pad(const struct call *call, json_t **ret)
{
	own_buf struct buf text = {0};
	json_int_t before = json_integer_value(call->args[1]);
	json_int_t after = json_integer_value(call->args[2]);

	if (!json_is_string(call->args[0]) || before < 0 || after < 0 || before > WIDTH_MAX ||
	    after > WIDTH_MAX)
		return wrong(call, "a string and two widths");
	if (json_string_length(call->args[0]) > 0)
		buf_format(&text, "%*s%s%*s", (int)before, "", json_string_value(call->args[0]),
			   (int)after, "");
	return give_text(&text, call, ret);
}

/* label row "key": of a row's "Labels", which is an object or "a=1,b=2". */
static int fn_label(const struct call *call, json_t **ret)
{
	const json_t *labels = json_object_get(call->args[0], "Labels");
	const char *key = json_string_value(call->args[1]);
	own_strv char **pairs = NULL;
	const char *value = NULL;

	if (key == NULL || labels == NULL)
		return wrong(call, "something that has labels, and a key");
	if (json_is_string(labels)) {
		pairs = strv_split(json_string_value(labels), ',');
		value = env_get(pairs, key);
	} else {
		value = json_string_value(json_object_get(labels, key));
	}
	*ret = json_string(value ? value : "");
	return 0;
}

/* One directive of printf, whose flags, width and precision are in *spec behind the "%". */
static int print_directive(const struct call *call, const char **spec, const json_t *value,
			   struct buf *out)
{
	own_buf struct buf text = {0};
	bool left = false, zero = false;
	long width, precision = -1;
	char *p = (char *)(uintptr_t)*spec;
	size_t len, pad;

	for (; *p == '-' || *p == '0' || *p == '+' || *p == ' ' || *p == '#'; p++) {
		left |= *p == '-';
		zero |= *p == '0';
	}
	width = strtol(p, &p, 10);
	if (*p == '.')
		precision = strtol(p + 1, &p, 10);
	if (width < 0 || width > WIDTH_MAX || precision > WIDTH_MAX || *p == '\0' ||
	    strchr("vsdqtfgx", *p) == NULL)
		return wrong(call, "%v, %s, %d, %q, %t, %f, %g or %x, with a reasonable width");
	*spec = p;
	if (*p == 'q')
		buf_format(&text, "\"%s\"",
			   json_string_value(value) ? json_string_value(value) : "");
	else if (*p == 'x' && json_is_integer(value))
		buf_format(&text, "%llx", (unsigned long long)json_integer_value(value));
	else if (*p == 'f' && json_is_number(value))
		buf_format(&text, "%.*f", precision < 0 ? 6 : (int)precision,
			   json_number_value(value));
	else
		template_print(value, &text);
	len = text.len;
	if (precision >= 0 && *p != 'f' && len > (size_t)precision)
		len = (size_t)precision;
	pad = len < (size_t)width ? (size_t)width - len : 0;
	for (size_t i = 0; !left && i < pad; i++)
		buf_add_char(out, zero && json_is_number(value) ? '0' : ' ');
	buf_add(out, text.data ? text.data : "", len);
	for (size_t i = 0; left && i < pad; i++)
		buf_add_char(out, ' ');
	return 0;
}

static int fn_printf(const struct call *call, json_t **ret)
{
	const char *format = json_string_value(call->args[0]);
	own_buf struct buf text = {0};
	size_t next = 1;

	if (format == NULL)
		return wrong(call, "a format");
	for (const char *p = format; *p != '\0'; p++) {
		int rc;

		if (*p != '%' || p[1] == '%') {
			buf_add_char(&text, *p);
			p += *p == '%';
			continue;
		}
		if (next >= call->count)
			return wrong(call, "a value for every directive");
		p++;
		rc = print_directive(call, &p, call->args[next++], &text);
		if (rc < 0)
			return rc;
	}
	if (next < call->count)
		return wrong(call, "a directive for every value");
	return give_text(&text, call, ret);
}

static const struct function {
	char name[12];
	uint8_t min, max;
	function_fn *call;
} functions[] = {
	{"and", 1, 99, fn_and},
	{"eq", 2, 99, fn_eq},
	{"ge", 2, 2, fn_order},
	{"gt", 2, 2, fn_order},
	{"index", 1, 99, fn_index},
	{"join", 2, 2, fn_join},
	{"json", 1, 1, fn_json},
	{"le", 2, 2, fn_order},
	{"len", 1, 1, fn_len},
	{"label", 2, 2, fn_label},
	{"lower", 1, 1, fn_case},
	{"lt", 2, 2, fn_order},
	{"ne", 2, 2, fn_ne},
	{"not", 1, 1, fn_not},
	{"or", 1, 99, fn_or},
	{"pad", 3, 3, fn_pad},
	{"print", 0, 99, fn_print},
	{"printf", 1, 99, fn_printf},
	{"println", 0, 99, fn_print},
	{"slice", 1, 3, fn_slice},
	{"split", 2, 2, fn_split},
	{"title", 1, 1, fn_case},
	{"truncate", 2, 2, fn_truncate},
	{"upper", 1, 1, fn_case},
};

static const struct function *find_function(const char *name)
{
	for (size_t i = 0; i < array_size(functions); i++)
		if (strcmp(functions[i].name, name) == 0)
			return &functions[i];
	return NULL;
}

bool template_is_function(const char *name)
{
	return find_function(name) != NULL;
}

int template_call_function(const char *name, json_t *const *args, size_t count, json_t **ret,
			   struct error *err)
{
	const struct function *function = find_function(name);
	struct call call = {.name = name, .args = args, .count = count, .err = err};

	/* The parser lets no other name through. */
	assert(function != NULL);
	if (count < function->min || count > function->max)
		return refuse(err, -EINVAL, "template: %s was given %zu argument%s", name, count,
			      count == 1 ? "" : "s");
	return function->call(&call, ret);
}
