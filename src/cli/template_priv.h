/* template_priv: what the parser makes and the executor walks. See template.h. */
#pragma once

#include "cli/template.h"

struct template_pipeline;

enum operand_kind {
	OPERAND_DOT,
	OPERAND_VARIABLE, /* name, without the "$"; "" is "$" itself */
	OPERAND_LITERAL,
	OPERAND_FUNCTION,
	OPERAND_PIPELINE, /* in parentheses */
};

struct template_operand {
	enum operand_kind kind;
	char *name;
	json_t *literal;
	struct template_pipeline *pipeline;
	char **fields; /* ".A.B" behind it */
};

/* An operand, or a function with its arguments. */
struct template_call {
	struct template_operand *operands;
	size_t count, capacity;
};

struct template_pipeline {
	char *variables[2]; /* "$a, $b := " before it */
	bool assigns;       /* "=" instead of ":=" */
	struct template_call *calls;
	size_t count, capacity;
};

enum node_kind { NODE_TEXT, NODE_ACTION, NODE_IF, NODE_RANGE, NODE_WITH };

struct template_node {
	enum node_kind kind;
	char *text;
	size_t len;
	struct template_pipeline *pipeline;
	struct template_node *body, *otherwise; /* of if, range, with */
	struct template_node *next;
};

struct template
{
	struct template_node *nodes;
};

/* Calls the function `name`; the arguments stay the caller's, *ret is a new reference. */
int template_call_function(const char *name, json_t *const *args, size_t count, json_t **ret,
			   struct error *err) must_check;
bool template_is_function(const char *name);
/* As Go's print shows a value. */
void template_print(const json_t *value, struct buf *out);
/* What if and with ask: not null, false, zero or empty. */
bool template_truth(const json_t *value);
