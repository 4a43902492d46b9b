/* str: see str.h. Numbers are in number.c. */
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

char *str_copy(const char *s)
{
	return s ? mem_copy(s, strlen(s) + 1) : NULL;
}

char *str_copy_n(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *copy = mem_new(len + 1);

	memcpy(copy, s, len);
	return copy;
}

char *str_format_va(const char *fmt, va_list ap)
{
	struct buf b = {0};

	buf_format_va(&b, fmt, ap);
	return buf_take(&b);
}

char *str_format(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = str_format_va(fmt, ap);
	va_end(ap);
	return s;
}

bool str_eq(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

bool str_empty(const char *s)
{
	return s == NULL || s[0] == '\0';
}

const char *str_after(const char *s, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(s, prefix, len) == 0 ? s + len : NULL;
}

bool str_ends_with(const char *s, const char *suffix)
{
	size_t len = strlen(s), suffix_len = strlen(suffix);

	return len >= suffix_len && strcmp(s + len - suffix_len, suffix) == 0;
}

unsigned int str_distance(const char *a, const char *b)
{
	enum { LIMIT = 63 };
	size_t len_a = strnlen(a, LIMIT), len_b = strnlen(b, LIMIT);
	unsigned int row[LIMIT + 1];

	/* Levenshtein's distance, one row of the matrix at a time. */
	for (size_t j = 0; j <= len_b; j++)
		row[j] = (unsigned int)j;
	for (size_t i = 1; i <= len_a; i++) {
		unsigned int diagonal = row[0];

		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= len_b; j++) {
			unsigned int best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[len_b];
}

void strv_free(char **v)
{
	if (v == NULL)
		return;
	for (size_t i = 0; v[i] != NULL; i++)
		free(v[i]);
	free(v);
}

size_t strv_len(char *const *v)
{
	size_t n = 0;

	while (v != NULL && v[n] != NULL)
		n++;
	return n;
}

char **strv_new(size_t count)
{
	size_t slots = 2;

	/* The invariant of strv_push_take: the smallest power of two above `count`, at least 2. */
	while (slots <= count)
		slots *= 2;
	return mem_new_array(slots, sizeof(char *));
}

void strv_push_take(char ***v, char *s)
{
	size_t n = strv_len(*v);

	/* Grown at powers of two, so that long vectors cost no quadratic copying. */
	if ((n & (n + 1)) == 0)
		*v = mem_resize(*v, (n + 1) * 2, sizeof(char *));
	(*v)[n] = s;
	(*v)[n + 1] = NULL;
}

void strv_push(char ***v, const char *s)
{
	strv_push_take(v, str_copy(s));
}

void strv_push_format(char ***v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strv_push_take(v, str_format_va(fmt, ap));
	va_end(ap);
}

char **strv_copy(char *const *v)
{
	char **copy = NULL;

	for (size_t i = 0; v != NULL && v[i] != NULL; i++)
		strv_push(&copy, v[i]);
	return copy;
}

bool strv_has(char *const *v, const char *s)
{
	for (size_t i = 0; v != NULL && v[i] != NULL; i++)
		if (strcmp(v[i], s) == 0)
			return true;
	return false;
}

char **strv_split(const char *s, char separator)
{
	char **v = NULL;

	if (str_empty(s))
		return NULL;
	for (;;) {
		const char *end = strchr(s, separator);

		if (end == NULL)
			break;
		strv_push_take(&v, str_copy_n(s, (size_t)(end - s)));
		s = end + 1;
	}
	strv_push(&v, s);
	return v;
}

char *strv_join(char *const *v, const char *separator)
{
	struct buf b = {0};

	for (size_t i = 0; v != NULL && v[i] != NULL; i++) {
		if (i > 0)
			buf_add_str(&b, separator);
		buf_add_str(&b, v[i]);
	}
	return buf_take(&b);
}

/* The index of `key` in an environment list, or its length. */
static size_t env_find(char *const *env, const char *key, size_t key_len)
{
	size_t i = 0;

	for (; env != NULL && env[i] != NULL; i++)
		if (strncmp(env[i], key, key_len) == 0 && env[i][key_len] == '=')
			break;
	return i;
}

const char *env_get(char *const *env, const char *key)
{
	size_t i = env_find(env, key, strlen(key));

	return env != NULL && env[i] != NULL ? env[i] + strlen(key) + 1 : NULL;
}

void env_set_pair(char ***env, const char *pair)
{
	const char *equals = strchr(pair, '=');
	size_t i = env_find(*env, pair, equals ? (size_t)(equals - pair) : strlen(pair));

	if (*env == NULL || (*env)[i] == NULL) {
		strv_push(env, pair);
		return;
	}
	free((*env)[i]);
	(*env)[i] = str_copy(pair);
}

void env_set(char ***env, const char *key, const char *value)
{
	own_mem char *pair = str_format("%s=%s", key, value);

	env_set_pair(env, pair);
}

void buf_release(struct buf *b)
{
	int saved = errno;

	free(b->data);
	*b = (struct buf){0};
	errno = saved;
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	if (b->data != NULL)
		b->data[0] = '\0';
}

void buf_reserve(struct buf *b, size_t more)
{
	size_t need = b->len + more + 1;

	if (need <= b->capacity)
		return;
	b->capacity = b->capacity * 2 > need ? b->capacity * 2 : need;
	b->data = mem_resize(b->data, b->capacity, 1);
}

void buf_add(struct buf *b, const void *data, size_t len)
{
	buf_reserve(b, len);
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_add_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_format_va(struct buf *b, const char *fmt, va_list ap)
{
	enum { AS_A_RULE = 79 };
	va_list again;
	size_t room;
	int n;

	buf_reserve(b, AS_A_RULE);
	room = b->capacity - b->len;
	va_copy(again, ap);
	n = vsnprintf(b->data + b->len, room, fmt, again);
	va_end(again);
	if (n < 0) {
		b->data[b->len] = '\0';
		return;
	}
	if ((size_t)n >= room) {
		buf_reserve(b, (size_t)n);
		vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	}
	b->len += (size_t)n;
}

void buf_format(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_format_va(b, fmt, ap);
	va_end(ap);
}

char *buf_take(struct buf *b)
{
	char *s = b->data ? b->data : str_copy("");

	*b = (struct buf){0};
	return s;
}
