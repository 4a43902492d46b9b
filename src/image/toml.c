/* toml: see toml.h. A recursive descent over NUL-terminated text; all state is in struct toml. */
#include "image/toml.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

struct toml {
	const char *p;
	unsigned int line;
	const char *what;
	struct error *err;
	unsigned int depth;
};

static int bad(struct toml *t, const char *why)
{
	return refuse(t->err, -EINVAL, "%s: line %u: %s", t->what, t->line, why);
}

static void skip_blank(struct toml *t)
{
	while (*t->p == ' ' || *t->p == '\t')
		t->p++;
}

/* Blanks, comments and line ends. */
static void skip_lines(struct toml *t)
{
	for (;;) {
		skip_blank(t);
		if (*t->p == '#')
			t->p += strcspn(t->p, "\n");
		if (*t->p == '\r' && t->p[1] == '\n')
			t->p++;
		if (*t->p != '\n')
			return;
		t->line++;
		t->p++;
	}
}

static int end_of_line(struct toml *t)
{
	skip_blank(t);
	if (*t->p == '#')
		t->p += strcspn(t->p, "\n");
	if (*t->p == '\r')
		t->p++;
	return *t->p == '\n' || *t->p == '\0' ? 0 : bad(t, "something follows the value");
}

static void add_utf8(struct buf *b, unsigned long c)
{
	if (c < 0x80) {
		buf_add_char(b, (char)c);
	} else if (c < 0x800) {
		buf_add_char(b, (char)(0xc0 | c >> 6));
		buf_add_char(b, (char)(0x80 | (c & 63)));
	} else if (c < 0x10000) {
		buf_add_char(b, (char)(0xe0 | c >> 12));
		buf_add_char(b, (char)(0x80 | (c >> 6 & 63)));
		buf_add_char(b, (char)(0x80 | (c & 63)));
	} else {
		buf_add_char(b, (char)(0xf0 | c >> 18));
		buf_add_char(b, (char)(0x80 | (c >> 12 & 63)));
		buf_add_char(b, (char)(0x80 | (c >> 6 & 63)));
		buf_add_char(b, (char)(0x80 | (c & 63)));
	}
}

static int escape_unicode(struct toml *t, struct buf *b, size_t digits)
{
	unsigned long c = 0;

	for (size_t i = 0; i < digits; i++) {
		char d = *++t->p;

		if (!isxdigit((unsigned char)d))
			return bad(t, "a \\u escape needs hexadecimal digits");
		c = c << 4 |
		    (unsigned long)(isdigit((unsigned char)d) ? d - '0' : (d | 32) - 'a' + 10);
	}
	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return bad(t, "a \\u escape stands for no character");
	add_utf8(b, c);
	return 0;
}

/* At a backslash. Leaves t->p at the escape's last character. */
static int escape(struct toml *t, struct buf *b, bool multi)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	const char *known;

	t->p++;
	if (*t->p == 'u' || *t->p == 'U')
		return escape_unicode(t, b, *t->p == 'u' ? 4 : 8);
	if (multi && (*t->p == '\n' || *t->p == ' ' || *t->p == '\r' || *t->p == '\t')) {
		for (; isspace((unsigned char)*t->p); t->p++)
			t->line += *t->p == '\n';
		t->p--;
		return 0;
	}
	known = *t->p ? strchr(from, *t->p) : NULL;
	if (known == NULL)
		return bad(t, "an unknown escape in a string");
	buf_add_char(b, to[known - from]);
	return 0;
}

/* At a quote. */
static int parse_string(struct toml *t, char **ret)
{
	own_buf struct buf b = {0};
	char quote = *t->p;
	bool multi = t->p[1] == quote && t->p[2] == quote;
	int rc = 0;

	t->p += multi ? 3 : 1;
	if (multi && *t->p == '\r')
		t->p++;
	if (multi && *t->p == '\n') {
		t->line++;
		t->p++;
	}
	for (;; t->p++) {
		if (*t->p == '\0' || (*t->p == '\n' && !multi))
			return bad(t, "a string does not end");
		if (*t->p == quote && (!multi || (t->p[1] == quote && t->p[2] == quote)))
			break;
		t->line += *t->p == '\n';
		if (*t->p == '\\' && quote == '"')
			rc = escape(t, &b, multi);
		else
			buf_add_char(&b, *t->p);
		if (rc < 0)
			return rc;
	}
	t->p += multi ? 3 : 1;
	/* One or two more quotes belong to the text. */
	while (multi && *t->p == quote) {
		buf_add_char(&b, quote);
		t->p++;
	}
	*ret = buf_take(&b);
	return 0;
}

static int parse_key(struct toml *t, char **ret)
{
	const char *start;

	skip_blank(t);
	if (*t->p == '"' || *t->p == '\'')
		return parse_string(t, ret);
	start = t->p;
	while (isalnum((unsigned char)*t->p) || *t->p == '_' || *t->p == '-')
		t->p++;
	if (t->p == start)
		return bad(t, "a key is missing");
	*ret = str_copy_n(start, (size_t)(t->p - start));
	return 0;
}

static int parse_value(struct toml *t, json_t **ret);
static int parse_pair(struct toml *t, json_t *table);

/* At "[": values up to "]", over several lines. */
static int parse_array(struct toml *t, json_t **ret)
{
	own_json json_t *array = json_array();

	t->p++;
	for (;;) {
		json_t *value;
		int rc;

		skip_lines(t);
		if (*t->p == ']')
			break;
		rc = parse_value(t, &value);
		if (rc < 0)
			return rc;
		json_array_append_new(array, value);
		skip_lines(t);
		if (*t->p == ',')
			t->p++;
		else if (*t->p != ']')
			return bad(t, "an array needs , or ] here");
	}
	t->p++;
	*ret = take(array);
	return 0;
}

static int parse_inline_table(struct toml *t, json_t **ret)
{
	own_json json_t *table = json_object();

	t->p++;
	skip_blank(t);
	while (*t->p != '}') {
		int rc = parse_pair(t, table);

		if (rc < 0)
			return rc;
		skip_blank(t);
		if (*t->p == ',')
			t->p++;
		else if (*t->p != '}')
			return bad(t, "an inline table needs , or } here");
		skip_blank(t);
	}
	t->p++;
	*ret = take(table);
	return 0;
}

/* true, false, a number; else the text itself. */
static int parse_word(struct toml *t, json_t **ret)
{
	size_t len = strcspn(t->p, " \t\r\n,]}#");
	own_mem char *word = str_copy_n(t->p, len), *digits = NULL;
	int64_t number;

	if (len == 0)
		return bad(t, "a value is missing");
	t->p += len;
	digits = str_copy(word[0] == '+' ? word + 1 : word);
	for (char *from = digits, *to = digits;; from++) {
		if (*from != '_')
			*to++ = *from;
		if (*from == '\0')
			break;
	}
	if (str_eq(word, "true") || str_eq(word, "false"))
		*ret = json_boolean(str_eq(word, "true"));
	else if (str_to_int(digits, INT64_MIN, INT64_MAX, &number) == 0)
		*ret = json_integer(number);
	else if (isdigit((unsigned char)word[word[0] == '-' || word[0] == '+']))
		*ret = json_string(word);
	else
		return bad(t, "a text needs quotes");
	return *ret ? 0 : bad(t, "a value is not UTF-8");
}

static int parse_value(struct toml *t, json_t **ret)
{
	own_mem char *s = NULL;
	int rc;

	skip_blank(t);
	if (*t->p == '"' || *t->p == '\'') {
		rc = parse_string(t, &s);
		if (rc < 0)
			return rc;
		*ret = json_string(s);
		return *ret ? 0 : bad(t, "a text is not UTF-8");
	}
	if (*t->p != '[' && *t->p != '{')
		return parse_word(t, ret);
	if (++t->depth > TOML_DEPTH_MAX)
		return bad(t, "it is nested too deeply");
	rc = *t->p == '[' ? parse_array(t, ret) : parse_inline_table(t, ret);
	t->depth--;
	return rc;
}

/* The table `key` within `table`, made if it is missing; of an array of tables the last. Borrowed. */
static json_t *enter(json_t *table, const char *key)
{
	json_t *inner = json_object_get(table, key);

	if (inner == NULL) {
		inner = json_object();
		if (json_object_set_new(table, key, inner) < 0)
			return NULL;
	}
	if (json_is_array(inner))
		inner = json_array_get(inner, json_array_size(inner) - 1);
	return json_is_object(inner) ? inner : NULL;
}

/* key = value, with dots in the key. */
static int parse_pair(struct toml *t, json_t *table)
{
	for (unsigned int depth = 0; depth < TOML_DEPTH_MAX; depth++) {
		own_mem char *key = NULL;
		json_t *value;
		int rc = parse_key(t, &key);

		if (rc < 0)
			return rc;
		skip_blank(t);
		if (*t->p == '.') {
			t->p++;
			table = enter(table, key);
			if (table == NULL)
				return bad(t, "a key is used as a table and as a value");
			continue;
		}
		if (*t->p++ != '=')
			return bad(t, "= is missing after a key");
		if (json_object_get(table, key) != NULL)
			return bad(t, "a key is given twice");
		rc = parse_value(t, &value);
		if (rc < 0)
			return rc;
		return json_object_set_new(table, key, value) < 0 ? bad(t, "a key is not UTF-8")
								  : 0;
	}
	return bad(t, "a key has too many parts");
}

static json_t *append_table(json_t *table, const char *key)
{
	json_t *array = json_object_get(table, key), *inner;

	if (array == NULL) {
		array = json_array();
		if (json_object_set_new(table, key, array) < 0)
			return NULL;
	}
	inner = json_object();
	return json_array_append_new(array, inner) < 0 ? NULL : inner;
}

/* [a.b] or [[a.b]]. */
static int parse_header(struct toml *t, json_t *root, json_t **ret)
{
	bool array = t->p[1] == '[';
	json_t *table = root;

	t->p += array ? 2 : 1;
	for (;;) {
		own_mem char *key = NULL;
		int rc = parse_key(t, &key);
		bool last;

		if (rc < 0)
			return rc;
		skip_blank(t);
		last = *t->p != '.';
		table = last && array ? append_table(table, key) : enter(table, key);
		if (table == NULL)
			return bad(t, "a name is used as a table and as a value");
		if (last)
			break;
		t->p++;
	}
	if (*t->p != ']' || (array && t->p[1] != ']'))
		return bad(t, "] is missing");
	t->p += array ? 2 : 1;
	*ret = table;
	return end_of_line(t);
}

int toml_parse(const char *text, size_t len, const char *what, json_t **ret, struct error *err)
{
	own_json json_t *root = json_object();
	struct toml t = {.p = text, .line = 1, .what = what, .err = err};
	json_t *table = root;

	if (strlen(text) != len)
		return refuse(err, -EINVAL, "%s contains a NUL byte", what);
	for (;;) {
		int rc;

		skip_lines(&t);
		if (*t.p == '\0')
			break;
		if (*t.p == '[') {
			rc = parse_header(&t, root, &table);
		} else {
			rc = parse_pair(&t, table);
			if (rc == 0)
				rc = end_of_line(&t);
		}
		if (rc < 0)
			return rc;
	}
	*ret = take(root);
	return 0;
}
