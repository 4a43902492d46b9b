/*
 * json: reading JSON that others wrote, with errors that name the place; writing it.
 *
 * Parsing is jansson's. Reading goes through `struct json_at`, a value together with the way that led
 * to it, so that a wrong type is reported as "process.args[2]: expected a string, found an integer"
 * without any bookkeeping by the caller. A json_at borrows: it is valid while the root value and the
 * json_at's that led to it are.
 *
 *     struct json_at root = json_root(value), process;
 *     rc = json_object_at(&root, "process", JSON_REQUIRED, &process, err);
 *
 * Getters return 1 if the member is there, 0 if it is absent or null (and then leave *ret alone),
 * -EINVAL with a reason in err for a wrong type or value, or for an absent JSON_REQUIRED member.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum json_need { JSON_OPTIONAL, JSON_REQUIRED };

struct json_at {
	json_t *value;
	const struct json_at *up; /* NULL at the root */
	const char *key;          /* in an object, else NULL */
	size_t index;             /* in an array */
};

OWN_DEFINE(own_json, json_t *, json_decref);
#define own_json __attribute__((cleanup(own_json_release)))

/* Parses `len` bytes, an object or an array. Duplicate keys, trailing text and nesting beyond jansson's limit are refused.
 * `what` names the source in errors. Returns 0, -EINVAL. */
int json_parse(const char *text, size_t len, const char *what, json_t **ret,
	       struct error *err) must_check;
/* Parses the file `path` relative to `dirfd` of at most `max` bytes. Returns 0, -errno, -EFBIG. */
int json_read_file(int dirfd, const char *path, size_t max, json_t **ret,
		   struct error *err) must_check;
/* The compact text of a value, keys in insertion order. Never NULL. */
char *json_text(const json_t *value);
char *json_text_pretty(const json_t *value);
/* Replaces the file atomically (see file_write). */
int json_write_file(int dirfd, const char *path, const json_t *value, mode_t mode,
		    struct error *err) must_check;

struct json_at json_root(json_t *value);
/* "linux.resources.memory" for messages; never NULL. */
char *json_path(const struct json_at *at);
/* Refuses the value at `at`: "<path>: <reason>". Returns -EINVAL. */
int json_refuse(struct error *err, const struct json_at *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Any member. */
int json_member(const struct json_at *object, const char *key, enum json_need need,
		struct json_at *ret, struct error *err) must_check;
int json_object_at(const struct json_at *object, const char *key, enum json_need need,
		   struct json_at *ret, struct error *err) must_check;
int json_array_at(const struct json_at *object, const char *key, enum json_need need,
		  struct json_at *ret, struct error *err) must_check;
int json_get_string(const struct json_at *object, const char *key, enum json_need need,
		    const char **ret, struct error *err) must_check;
int json_get_int(const struct json_at *object, const char *key, enum json_need need, int64_t min,
		 int64_t max, int64_t *ret, struct error *err) must_check;
int json_get_bool(const struct json_at *object, const char *key, enum json_need need, bool *ret,
		  struct error *err) must_check;
/* An array of strings, copied; the caller frees it with strv_free. */
int json_get_strv(const struct json_at *object, const char *key, enum json_need need, char ***ret,
		  struct error *err) must_check;
/* An object of strings as "key=value" pairs, copied. */
int json_get_pairs(const struct json_at *object, const char *key, enum json_need need, char ***ret,
		   struct error *err) must_check;

/* The values themselves, for array elements. 0 or -EINVAL. */
int json_as_string(const struct json_at *at, const char **ret, struct error *err) must_check;
int json_as_int(const struct json_at *at, int64_t min, int64_t max, int64_t *ret,
		struct error *err) must_check;
int json_as_object(const struct json_at *at, struct error *err) must_check;

/* Element `i` of an array. for (i...; json_element(&array, i, &item); i++) */
bool json_element(const struct json_at *array, size_t i, struct json_at *ret);

/* A string value. JSON is UTF-8, arguments and environments are any bytes: each byte that is no part
 * of a valid sequence becomes U+FFFD, where json_string() would return NULL and lose the element. */
json_t *json_from_string(const char *s);
/* Writing: json_object_set_new and friends with a value that may be absent. */
void json_set_string(json_t *object, const char *key, const char *value); /* NULL: not set */
void json_set_strv(json_t *object, const char *key, char *const *v);      /* NULL: not set */
json_t *json_from_strv(char *const *v);                                   /* NULL: empty array */
