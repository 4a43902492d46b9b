/* registries_priv: what the files of registries share. */
#pragma once

#include "base/json.h"

enum {
	REGISTRIES_MIRRORS_MAX = 16, /* of one registry */
	REGISTRIES_SEARCHED_MAX = 16,
};

/* All files put together and checked: `registry` is a list in which every table has `prefix` and
 * `location` (NULL location: only with a prefix of the form *.host), a later one for the same prefix wins;
 * the other members are as in the last file that has them. */
int registries_read(json_t **ret, struct error *err) must_check;
/* What a file of that format has in it; NULL if there is no such file. */
int registries_read_toml(const char *path, json_t **ret, struct error *err) must_check;
/* Puts the aliases that were written down over those of `all`. */
int registries_read_aliases(json_t *all, struct error *err) must_check;
