/*
 * template: the part of Go's text/template that users of --format know, over JSON values.
 *
 *   {{.Field.Sub}}  {{index .Map "key"}}  {{json .}}  {{.List | join ","}}... pipelines, parentheses,
 *   literals, variables ($x := ...), {{if}} {{else if}} {{else}} {{range}} {{with}} {{end}},
 *   {{- trimming -}} and {{/ * comments * /}}.
 *
 * Functions: and or not eq ne lt le gt ge, len index slice, print println printf, json join split upper
 * lower title truncate pad.
 *
 * An absent member of an object whose keys all begin with a capital (which is how we name fields) is an
 * error that names the member; in any other object, such as labels, it is "<no value>". One thread;
 * a parsed template is constant and may be executed any number of times.
 */
#pragma once

#include "base/json.h"

struct template;

enum {
	TEMPLATE_SIZE_MAX = 1 << 16,
	TEMPLATE_DEPTH_MAX = 100,      /* nesting of blocks and of parentheses, each */
	TEMPLATE_STEPS_MAX = 10000000, /* nodes executed: nested ranges multiply */
	TEMPLATE_OUTPUT_MAX = 1 << 28,
};

/* Parses. -EINVAL with the place and the reason, -E2BIG. */
int template_parse(const char *text, struct template **ret, struct error *err) must_check;
void template_free(struct template *template);
/* Executes with "." being `value`, and appends to `out`. On failure `out` holds what came before. */
int template_execute(const struct template *template, json_t *value, struct buf *out,
		     struct error *err) must_check;

OWN_DEFINE(own_template, struct template *, template_free);
#define own_template __attribute__((cleanup(own_template_release)))
