/* packages_priv: what the readers of the different databases share. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "image/packages.h"

/* A new entry of the list, whose `type` and `path` are set; the caller fills in the rest. Refuses a
 * list of more than PACKAGES_MAX. */
int packages_add(struct packages *list, const char *type, const char *path, struct package **ret,
		 struct error *err) must_check;
/* What one entry holds. */
void package_release(struct package *p);
/* Takes the last entry back (a database entry that turned out to be no package). */
void packages_drop_last(struct packages *list);
void packages_note(struct packages *list, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Reads a regular file beneath the root. 1 and the text, 0 if there is none, -errno. */
int packages_read(int root_fd, const char *path, size_t max, char **ret_text, size_t *ret_len,
		  struct error *err) must_check;

/* Parses "Key: value" paragraphs (dpkg, Python metadata): calls `field` for each, with continuation
 * lines joined by newlines, and `end` after each paragraph. Both may stop with a negative errno. */
struct paragraph_ops {
	int (*field)(void *data, const char *key, const char *value, struct error *err);
	int (*end)(void *data, struct error *err);
};
int packages_parse_paragraphs(char *text, const struct paragraph_ops *ops, void *data,
			      struct error *err) must_check;

/* The readers; each adds what it finds. */
int packages_read_dpkg(int root_fd, struct packages *list, struct error *err) must_check;
int packages_read_apk(int root_fd, struct packages *list, struct error *err) must_check;
int packages_read_rpm(int root_fd, struct packages *list, struct error *err) must_check;
/* One header of an rpm database; a malformed one is noted. */
int packages_add_rpm_header(struct packages *list, const char *path, const uint8_t *blob,
			    size_t len, struct error *err) must_check;
/* A database from before SQLite: ndb or Berkeley DB. One of another form is noted. */
int packages_read_rpm_old(struct packages *list, const char *path, const char *text, size_t len,
			  struct error *err) must_check;
/* Searches the tree for what languages' package managers leave. */
int packages_read_languages(int root_fd, struct packages *list, struct error *err) must_check;
/* One file of a language's package manager, by its path. 0 if it is of no known kind. */
int packages_read_language_file(int root_fd, const char *path, struct packages *list,
				struct error *err) must_check;
