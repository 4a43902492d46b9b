/* json: see json.h. */
#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/file.h"
#include "base/mem.h"

/* The order in the library's tables must be hard to foresee. It would open /dev/urandom for that; one
 * call does. Only the first has an effect. */
static void seed_tables(void)
{
	size_t seed;

	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == sizeof(seed))
		json_object_seed(seed);
}

int json_parse(const char *text, size_t len, const char *what, json_t **ret, struct error *err)
{
	json_error_t why;
	json_t *value;

	seed_tables();
	value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (value == NULL)
		return refuse(err, -EINVAL, "%s is not valid JSON: line %d column %d: %s", what,
			      why.line, why.column, why.text);
	*ret = value;
	return 0;
}

int json_read_file(int dirfd, const char *path, size_t max, json_t **ret, struct error *err)
{
	own_mem char *text = NULL;
	size_t len;
	int rc = file_read(dirfd, path, max, &text, &len, err);

	if (rc < 0)
		return rc;
	return json_parse(text, len, path, ret, err);
}

char *json_text_pretty(const json_t *value)
{
	char *text = json_dumps(value, JSON_INDENT(4) | JSON_ENCODE_ANY);

	/* Only for want of memory (see mem.h). An empty text would be written over a good file. */
	if (text == NULL)
		abort();
	return text;
}

int json_write_file(int dirfd, const char *path, const json_t *value, mode_t mode,
		    struct error *err)
{
	own_mem char *text = json_text(value);

	return file_write(dirfd, path, text, strlen(text), mode, FILE_WRITE_ATOMIC, err);
}

struct json_at json_root(json_t *value)
{
	return (struct json_at){.value = value};
}

static void add_path(struct buf *b, const struct json_at *at)
{
	if (at == NULL || at->up == NULL)
		return;
	add_path(b, at->up);
	if (at->key == NULL)
		buf_format(b, "[%zu]", at->index);
	else
		buf_format(b, "%s%s", b->len ? "." : "", at->key);
}

char *json_path(const struct json_at *at)
{
	struct buf b = {0};

	add_path(&b, at);
	return buf_take(&b);
}

int json_refuse(struct error *err, const struct json_at *at, const char *fmt, ...)
{
	own_mem char *path = json_path(at);
	va_list ap;

	va_start(ap, fmt);
	refuse_va(err, -EINVAL, fmt, ap);
	va_end(ap);
	return path[0] ? refuse(err, -EINVAL, "%s", path) : -EINVAL;
}

static const char *type_name(json_type type)
{
	switch (type) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a number with a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_NULL:
	default:
		return "null";
	}
}

static int expect(const struct json_at *at, json_type type, struct error *err)
{
	if (json_typeof(at->value) == type)
		return 0;
	return json_refuse(err, at, "expected %s, found %s", type_name(type),
			   type_name(json_typeof(at->value)));
}

int json_member(const struct json_at *object, const char *key, enum json_need need,
		struct json_at *ret, struct error *err)
{
	struct json_at at = {.up = object, .key = key};

	if (!json_is_object(object->value))
		return expect(object, JSON_OBJECT, err);
	at.value = json_object_get(object->value, key);
	if (at.value == NULL || json_is_null(at.value)) {
		if (need == JSON_REQUIRED)
			return json_refuse(err, &at, "is required but missing");
		return 0;
	}
	*ret = at;
	return 1;
}

static int typed_member(const struct json_at *object, const char *key, enum json_need need,
			json_type type, struct json_at *ret, struct error *err)
{
	struct json_at at;
	int rc = json_member(object, key, need, &at, err);

	if (rc <= 0)
		return rc;
	rc = expect(&at, type, err);
	if (rc < 0)
		return rc;
	*ret = at;
	return 1;
}

int json_object_at(const struct json_at *object, const char *key, enum json_need need,
		   struct json_at *ret, struct error *err)
{
	return typed_member(object, key, need, JSON_OBJECT, ret, err);
}

int json_array_at(const struct json_at *object, const char *key, enum json_need need,
		  struct json_at *ret, struct error *err)
{
	return typed_member(object, key, need, JSON_ARRAY, ret, err);
}

int json_as_string(const struct json_at *at, const char **ret, struct error *err)
{
	int rc = expect(at, JSON_STRING, err);

	if (rc < 0)
		return rc;
	*ret = json_string_value(at->value);
	return 0;
}

int json_as_int(const struct json_at *at, int64_t min, int64_t max, int64_t *ret, struct error *err)
{
	int rc = expect(at, JSON_INTEGER, err);
	json_int_t value;

	if (rc < 0)
		return rc;
	value = json_integer_value(at->value);
	if (value < min || value > max)
		return json_refuse(err, at, "%lld is outside %lld to %lld", (long long)value,
				   (long long)min, (long long)max);
	*ret = value;
	return 0;
}

int json_as_object(const struct json_at *at, struct error *err)
{
	return expect(at, JSON_OBJECT, err);
}

int json_get_string(const struct json_at *object, const char *key, enum json_need need,
		    const char **ret, struct error *err)
{
	struct json_at at;
	int rc = typed_member(object, key, need, JSON_STRING, &at, err);

	if (rc > 0)
		*ret = json_string_value(at.value);
	return rc;
}

int json_get_int(const struct json_at *object, const char *key, enum json_need need, int64_t min,
		 int64_t max, int64_t *ret, struct error *err)
{
	struct json_at at;
	int rc = json_member(object, key, need, &at, err);

	if (rc <= 0)
		return rc;
	rc = json_as_int(&at, min, max, ret, err);
	return rc < 0 ? rc : 1;
}

int json_get_bool(const struct json_at *object, const char *key, enum json_need need, bool *ret,
		  struct error *err)
{
	struct json_at at;
	int rc = json_member(object, key, need, &at, err);

	if (rc <= 0)
		return rc;
	if (!json_is_boolean(at.value))
		return expect(&at, JSON_TRUE, err);
	*ret = json_is_true(at.value);
	return 1;
}

bool json_element(const struct json_at *array, size_t i, struct json_at *ret)
{
	if (i >= json_array_size(array->value))
		return false;
	*ret = (struct json_at){
		.value = json_array_get(array->value, i),
		.up = array,
		.index = i,
	};
	return true;
}

int json_get_strv(const struct json_at *object, const char *key, enum json_need need, char ***ret,
		  struct error *err)
{
	own_strv char **v = NULL;
	struct json_at array, item;
	int rc = json_array_at(object, key, need, &array, err);

	if (rc <= 0)
		return rc;
	v = strv_new(json_array_size(array.value));
	for (size_t i = 0; json_element(&array, i, &item); i++) {
		const char *s;

		rc = json_as_string(&item, &s, err);
		if (rc < 0)
			return rc;
		v[i] = str_copy(s);
	}
	*ret = take(v);
	return 1;
}

int json_get_pairs(const struct json_at *object, const char *key, enum json_need need, char ***ret,
		   struct error *err)
{
	own_strv char **v = NULL;
	struct json_at map;
	const char *name;
	json_t *value;
	size_t count = 0;
	int rc = json_object_at(object, key, need, &map, err);

	if (rc <= 0)
		return rc;
	v = strv_new(json_object_size(map.value));
	json_object_foreach (map.value, name, value) {
		struct json_at at = {.value = value, .up = &map, .key = name};
		const char *s;

		rc = json_as_string(&at, &s, err);
		if (rc < 0)
			return rc;
		v[count++] = str_format("%s=%s", name, s);
	}
	*ret = take(v);
	return 1;
}

/* The length of the UTF-8 sequence at `p` (Unicode 15, table 3-7), 0 if there is none. */
static size_t utf8_length(const unsigned char *p)
{
	static const struct {
		unsigned char first, last;            /* range of the first byte */
		unsigned char second_min, second_max; /* of the second */
		unsigned char length;
	} forms[] = {
		{0x01, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < array_size(forms); i++) {
		if (p[0] < forms[i].first || p[0] > forms[i].last)
			continue;
		if (forms[i].length == 1)
			return 1;
		if (p[1] < forms[i].second_min || p[1] > forms[i].second_max)
			return 0;
		for (size_t k = 2; k < forms[i].length; k++)
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].length;
	}
	return 0;
}

json_t *json_from_string(const char *s)
{
	own_buf struct buf b = {0};
	json_t *value = json_string(s);

	if (value != NULL)
		return value;
	while (*s != '\0') {
		size_t n = utf8_length((const unsigned char *)s);

		if (n == 0)
			buf_add_str(&b, "\xef\xbf\xbd");
		else
			buf_add(&b, s, n);
		s += n ? n : 1;
	}
	return json_string(b.data);
}

void json_set_string(json_t *object, const char *key, const char *value)
{
	if (value != NULL)
		json_object_set_new(object, key, json_from_string(value));
}

json_t *json_from_strv(char *const *v)
{
	json_t *array = json_array();

	for (size_t i = 0; v != NULL && v[i] != NULL; i++)
		json_array_append_new(array, json_from_string(v[i]));
	return array;
}

void json_set_strv(json_t *object, const char *key, char *const *v)
{
	if (v != NULL)
		json_object_set_new(object, key, json_from_strv(v));
}
