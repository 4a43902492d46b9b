/* config_priv: what the files that parse the configuration share. */
#pragma once

#include "oci/config.h"

/* Zeroed memory that lives as long as the configuration. */
void *config_alloc(struct config *c, size_t count, size_t size);

/* Gets the array `key` of `object` and allocates `element` bytes for each of its elements. Returns 1
 * with *ret_items and *ret_count set, 0 if it is absent, -EINVAL. */
int config_list(struct config *c, const struct json_at *object, const char *key, size_t element,
		struct json_at *ret_array, void *ret_items, size_t *ret_count,
		struct error *err) must_check;
/* An array of strings, borrowed, NULL-terminated. Returns 1, 0 (absent), -EINVAL. */
int config_strings(struct config *c, const struct json_at *object, const char *key, char ***ret,
		   struct error *err) must_check;
/* An optional number. */
int config_number(const struct json_at *object, const char *key, int64_t min, int64_t max,
		  struct config_number *ret, struct error *err) must_check;
/* A string without a NUL inside that begins with "/". */
int config_absolute_path(const struct json_at *object, const char *key, enum json_need need,
			 const char **ret, struct error *err) must_check;
int config_parse_id_maps(struct config *c, const struct json_at *object, const char *key,
			 struct config_id_maps *ret, struct error *err) must_check;

/* The parts. */
int config_parse_mounts(struct config *c, const struct json_at *root, struct error *err) must_check;
int config_parse_linux(struct config *c, const struct json_at *root, struct error *err) must_check;
int config_parse_host(struct config *c, const struct json_at *linux_, struct error *err) must_check;
int config_parse_seccomp(struct config *c, const struct json_at *linux_,
			 struct error *err) must_check;
/* Entry i of a table of words of seccomp ("actions", "architectures", "flags", "operators"); NULL at
 * the end. */
const char *seccomp_word(const char *table, size_t i);
/* What may not be combined, once everything is parsed. */
int config_check(const struct config *c, const struct json_at *root, struct error *err) must_check;

/* A table from words to numbers, ended by a NULL name. */
struct config_word {
	const char *name;
	uint64_t value;
};
/* Looks up the string member `key`: 1, 0 (absent), -EINVAL for a word that is not in the table. */
int config_word(const struct json_at *object, const char *key, enum json_need need,
		const struct config_word *table, uint64_t *ret, struct error *err) must_check;
/* The same for a string that has been read already; `at` is for the message. */
int config_find_word(const struct json_at *at, const char *text, const struct config_word *table,
		     uint64_t *ret, struct error *err) must_check;

/* Of linux.memoryPolicy. */
extern const struct config_word config_memory_modes[], config_memory_flags[];
