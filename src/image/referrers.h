/*
 * referrers: the list of what refers to a manifest, where nobody keeps it but the clients (OCI distribution
 * specification 1.1, "Referrers Tag Schema"): an index under the tag "sha256-<hex of the subject>" (of
 * a longer digest the first 64 digits), in a repository or an OCI layout.
 */
#pragma once

#include "base/digest.h"
#include "base/json.h"

/* Fetches the manifest under a tag. -ENOENT: there is none. */
typedef int referrers_get_fn(void *from, const char *tag, char **ret_text, size_t *ret_len,
			     struct error *err);
/* The tag; with ".<suffix>", unless that is NULL, the one that cosign has for what it attaches. */
char *referrers_tag(const struct digest *subject, const char *suffix);
/* The descriptors, an array; empty if there is no such index. */
int referrers_list(referrers_get_fn *get, void *from, const struct digest *subject, json_t **ret,
		   struct error *err) must_check;
/* Where the list has that manifest; its length if it does not. */
size_t referrers_find(const json_t *list, const char *digest);
/* The text of the index with this list. */
char *referrers_format(json_t *list);
