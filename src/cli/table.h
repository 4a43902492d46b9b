/*
 * table: text in columns, as docker prints it: each column as wide as its widest cell and three
 * spaces, at least ten; the last column is not padded.
 *
 * What cells hold may come from images and workloads: control characters are shown as "?", so that
 * nothing in them reaches the terminal as a command.
 */
#pragma once

#include "base/str.h"

/* Zeroed is empty. */
struct table {
	char **lines; /* cells separated by tabs */
};

/* Adds a line; `cells` are separated by tabs. */
void table_add(struct table *table, const char *cells);
void table_format(const struct table *table, struct buf *out);
void table_release(struct table *table);
#define own_table __attribute__((cleanup(table_release)))

/* The number of columns a text takes on a terminal: characters, not bytes. */
size_t text_width(const char *s, size_t len);
/* At most `width` characters of s, the last being "…" if something was cut. The caller frees it. */
char *text_shorten(const char *s, size_t width);
