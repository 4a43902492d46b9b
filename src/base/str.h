/*
 * str: strings, string vectors, growing buffers, and parsing of numbers.
 *
 * Strings are NUL-terminated and heap-allocated unless stated. A `char **` vector ("strv") is
 * NULL-terminated and owns its strings; NULL is an empty vector.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/own.h"

char *str_copy(const char *s);             /* NULL for NULL */
char *str_copy_n(const char *s, size_t n); /* at most n bytes */
char *str_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *str_format_va(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

bool str_eq(const char *a, const char *b); /* two NULLs are equal */
bool str_empty(const char *s);             /* NULL or "" */
/* The rest of s after `prefix`, or NULL. */
const char *str_after(const char *s, const char *prefix);
bool str_ends_with(const char *s, const char *suffix);
/* The edit distance of two short names (at most 63 bytes are looked at): for "did you mean". */
unsigned int str_distance(const char *a, const char *b);

/* Parse a whole string as a decimal number within [min, max]. Return 0, or -EINVAL for anything that
 * is not a plain number (no spaces, no plus sign), -ERANGE outside the bounds. */
int str_to_int(const char *s, int64_t min, int64_t max, int64_t *ret) must_check;
int str_to_uint(const char *s, uint64_t max, uint64_t *ret) must_check;
/* Parse a size in bytes with an optional binary suffix as docker accepts: b, k, m, g, t, p (any case),
 * optionally followed by "b" or "ib"; fractions allowed ("1.5g"). -EINVAL, -ERANGE (above INT64_MAX,
 * what off_t holds). */
int str_to_size(const char *s, uint64_t *ret_bytes) must_check;
/* Parse a duration: Go's form ("1h2m3.5s", "100ms") or plain seconds. -EINVAL, -ERANGE. */
int str_to_duration(const char *s, int64_t *ret_ns) must_check;
/* Format a size in decimal units with up to `digits` (3 or more) significant digits, as docker
 * prints it ("4.26MB" with 3). */
void str_from_size(uint64_t bytes, int digits, char out[static 24]);

/* string vectors; what is to be pushed to comes from one of these functions, which keep spare room */
void strv_free(char **v);
char **strv_new(size_t count); /* NULLs, with room for `count` strings to be set in order */
size_t strv_len(char *const *v);
void strv_push(char ***v, const char *s); /* copies s */
void strv_push_take(char ***v, char *s);  /* owns s */
void strv_push_format(char ***v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char **strv_copy(char *const *v);
bool strv_has(char *const *v, const char *s);
/* Splits at each `separator`; empty fields are kept; an empty string gives no field. */
char **strv_split(const char *s, char separator);
char *strv_join(char *const *v, const char *separator);
/* Environment lists ("KEY=value"): the value of `key` or NULL; set replaces or appends. */
const char *env_get(char *const *env, const char *key);
void env_set(char ***env, const char *key, const char *value);
void env_set_pair(char ***env, const char *pair);

OWN_DEFINE(own_strv, char **, strv_free);
#define own_strv __attribute__((cleanup(own_strv_release)))

/* A growing byte buffer, always NUL-terminated after its `len` bytes once it is not empty. */
struct buf {
	char *data;
	size_t len;
	size_t capacity;
};

void buf_release(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */
void buf_add(struct buf *b, const void *data, size_t len);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_format(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_format_va(struct buf *b, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
void buf_reserve(struct buf *b, size_t more); /* room for `more` bytes and a NUL */
char *buf_take(struct buf *b);                /* the string ("" if empty); b is empty afterwards */

#define own_buf __attribute__((cleanup(buf_release)))
