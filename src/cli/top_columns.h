/*
 * top_columns: what `top` shows of each process. Columns have the names and headings that ps gives them.
 */
#pragma once

#include "base/proc_info.h"
#include "base/str.h"

enum { TOP_COLUMNS_MAX = 32 };

struct top_column; /* one that there is */
/* Those that were chosen, in order. */
struct top_columns {
	const struct top_column *items[TOP_COLUMNS_MAX];
	char *headings[TOP_COLUMNS_MAX]; /* NULL: the column's own */
	size_t count;
};
void top_columns_release(struct top_columns *columns);
#define own_top_columns __attribute__((cleanup(top_columns_release)))

/* Reads words as ps understands them: "-o pid,comm=NAME", "-eo pid", "-ef", or only "pid comm". Without any,
 * the columns of -f. -EINVAL. */
int top_columns_parse(char *const *words, struct top_columns *ret, struct error *err) must_check;
/* The cells of the first line, separated by tabs; NULL if all headings are empty. */
char *top_columns_heading(const struct top_columns *columns);
char *top_columns_line(const struct top_columns *columns, const struct proc_info *process);
