/* template_exec: walks a parsed template over a value. Every json_t here is a counted reference. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/suggest.h"
#include "cli/template_priv.h"

enum { ARGUMENTS_MAX = 16 };

struct variable {
	const char *name;
	json_t *value;
};

struct exec {
	struct buf *out;
	struct variable *variables; /* [0] is "$" */
	size_t count, capacity;
	unsigned int steps;
	struct error *err;
};

static int run_pipeline(struct exec *exec, const struct template_pipeline *pipeline, json_t *dot,
			json_t **ret);

static void push_variable(struct exec *exec, const char *name, json_t *value)
{
	exec->variables =
		mem_grow(exec->variables, exec->count, &exec->capacity, sizeof(exec->variables[0]));
	exec->variables[exec->count++] = (struct variable){name, json_incref(value)};
}

/* Forgets the variables of a block. */
static void pop_variables(struct exec *exec, size_t count)
{
	while (exec->count > count)
		json_decref(exec->variables[--exec->count].value);
}

static struct variable *find_variable(struct exec *exec, const char *name)
{
	for (size_t i = exec->count; i > 0; i--)
		if (strcmp(exec->variables[i - 1].name, name) == 0)
			return &exec->variables[i - 1];
	return NULL;
}

/* True for an object whose members are fields of ours, not keys that somebody chose. */
static bool has_fields(json_t *object)
{
	const char *key;
	json_t *value;

	json_object_foreach (object, key, value)
		if (!isupper((unsigned char)key[0]))
			return false;
	return json_object_size(object) > 0;
}

static int no_field(struct exec *exec, json_t *object, const char *name)
{
	struct suggest suggest = suggest_for(name);
	own_buf struct buf names = {0};
	const char *key;
	json_t *value;

	json_object_foreach (object, key, value) {
		suggest_offer(&suggest, key);
		/* Names differ by case more often than by letters: .Id and .ID. */
		if (strcasecmp(key, name) == 0)
			suggest = (struct suggest){.word = name, .best = key, .distance = 0};
		buf_format(&names, "%s.%s", names.len > 0 ? " " : "", key);
	}
	if (suggest.best != NULL)
		hint(exec->err, 0, "did you mean .%s?", suggest.best);
	hint(exec->err, 0, "there are: %s", names.data);
	return refuse(exec->err, -EINVAL, "template: there is no field .%s", name);
}

/* Replaces *value by its member `name`. */
static int step_into(struct exec *exec, json_t **value, const char *name)
{
	json_t *member;

	if (json_is_null(*value))
		return 0;
	if (!json_is_object(*value))
		return refuse(exec->err, -EINVAL, "template: .%s: what stands before has no fields",
			      name);
	member = json_object_get(*value, name);
	if (member == NULL && has_fields(*value))
		return no_field(exec, *value, name);
	member = member ? json_incref(member) : json_null();
	json_decref(*value);
	*value = member;
	return 0;
}

static int operand_value(struct exec *exec, const struct template_operand *operand, json_t *dot,
			 json_t **ret)
{
	own_json json_t *value = NULL;
	struct variable *variable;
	int rc = 0;

	switch (operand->kind) {
	case OPERAND_DOT:
		value = json_incref(dot);
		break;
	case OPERAND_LITERAL:
		value = json_incref(operand->literal);
		break;
	case OPERAND_VARIABLE:
		variable = find_variable(exec, operand->name);
		if (variable == NULL)
			return refuse(exec->err, -EINVAL, "template: undefined variable $%s",
				      operand->name);
		value = json_incref(variable->value);
		break;
	case OPERAND_FUNCTION:
		rc = template_call_function(operand->name, NULL, 0, &value, exec->err);
		break;
	case OPERAND_PIPELINE:
		rc = run_pipeline(exec, operand->pipeline, dot, &value);
		break;
	}
	for (char **field = operand->fields; rc >= 0 && field && *field; field++)
		rc = step_into(exec, &value, *field);
	if (rc < 0)
		return rc;
	*ret = take(value);
	return 0;
}

/* A function call; `piped` (NULL: none) is its last argument. */
static int run_function(struct exec *exec, const struct template_call *call, json_t *dot,
			json_t *piped, json_t **ret)
{
	json_t *args[ARGUMENTS_MAX];
	size_t count = 0;
	int rc = 0;

	if (call->count + 1 > ARGUMENTS_MAX)
		return refuse(exec->err, -EINVAL, "template: too many arguments for %s",
			      call->operands[0].name);
	for (size_t i = 1; i < call->count && rc >= 0; i++) {
		rc = operand_value(exec, &call->operands[i], dot, &args[count]);
		if (rc >= 0)
			count++;
	}
	if (rc >= 0 && piped != NULL)
		args[count++] = json_incref(piped);
	if (rc >= 0)
		rc = template_call_function(call->operands[0].name, args, count, ret, exec->err);
	while (count > 0)
		json_decref(args[--count]);
	return rc;
}

static int set_variable(struct exec *exec, const struct template_pipeline *pipeline, json_t *value)
{
	const char *name = pipeline->variables[0];
	struct variable *variable;

	if (!pipeline->assigns) {
		push_variable(exec, name, value);
		return 0;
	}
	variable = find_variable(exec, name);
	if (variable == NULL)
		return refuse(exec->err, -EINVAL, "template: undefined variable $%s", name);
	json_decref(variable->value);
	variable->value = json_incref(value);
	return 0;
}

static int run_pipeline(struct exec *exec, const struct template_pipeline *pipeline, json_t *dot,
			json_t **ret)
{
	own_json json_t *value = NULL;

	for (size_t i = 0; i < pipeline->count; i++) {
		const struct template_call *call = &pipeline->calls[i];
		json_t *next = NULL;
		int rc;

		if (call->operands[0].kind == OPERAND_FUNCTION)
			rc = run_function(exec, call, dot, value, &next);
		else
			rc = operand_value(exec, &call->operands[0], dot, &next);
		if (rc < 0)
			return rc;
		json_decref(value);
		value = next;
	}
	*ret = take(value);
	return 0;
}

static int run_nodes(struct exec *exec, const struct template_node *node, json_t *dot);

/* One round of a range. */
static int run_round(struct exec *exec, const struct template_node *node, json_t *key,
		     json_t *element)
{
	char *const *names = node->pipeline->variables;
	size_t count = exec->count;
	int rc;

	if (names[0] != NULL && names[1] != NULL) {
		push_variable(exec, names[0], key);
		push_variable(exec, names[1], element);
	} else if (names[0] != NULL) {
		push_variable(exec, names[0], element);
	}
	rc = run_nodes(exec, node->body, element);
	pop_variables(exec, count);
	return rc;
}

/* Go goes through a map in the order of its keys. */
static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int range_object(struct exec *exec, const struct template_node *node, json_t *object)
{
	own_strv char **keys = NULL;
	const char *name;
	json_t *value;
	int rc = 0;

	json_object_foreach (object, name, value)
		strv_push(&keys, name);
	qsort(keys, strv_len(keys), sizeof(keys[0]), compare_keys);
	for (size_t i = 0; keys[i] != NULL && rc >= 0; i++) {
		own_json json_t *key = json_string(keys[i]);

		rc = run_round(exec, node, key, json_object_get(object, keys[i]));
	}
	return rc;
}

static int run_range(struct exec *exec, const struct template_node *node, json_t *value,
		     json_t *dot)
{
	json_t *element;
	size_t i;
	int rc = 0;

	if (!template_truth(value))
		return run_nodes(exec, node->otherwise, dot);
	if (json_is_object(value))
		return range_object(exec, node, value);
	if (!json_is_array(value))
		return refuse(exec->err, -EINVAL, "template: range over what is no list");
	json_array_foreach (value, i, element) {
		own_json json_t *key = json_integer((json_int_t)i);

		rc = run_round(exec, node, key, element);
		if (rc < 0)
			break;
	}
	return rc;
}

static int run_block(struct exec *exec, const struct template_node *node, json_t *dot)
{
	const struct template_pipeline *pipeline = node->pipeline;
	const size_t count = exec->count;
	own_json json_t *value = NULL;
	bool truth;
	int rc = run_pipeline(exec, pipeline, dot, &value);

	if (rc < 0)
		return rc;
	if (node->kind == NODE_RANGE)
		return run_range(exec, node, value, dot);
	if (pipeline->variables[0] != NULL) {
		rc = set_variable(exec, pipeline, value);
		if (rc < 0)
			return rc;
	}
	truth = template_truth(value);
	rc = run_nodes(exec, truth ? node->body : node->otherwise,
		       truth && node->kind == NODE_WITH ? value : dot);
	pop_variables(exec, count);
	return rc;
}

static int run_action(struct exec *exec, const struct template_node *node, json_t *dot)
{
	own_json json_t *value = NULL;
	int rc = run_pipeline(exec, node->pipeline, dot, &value);

	if (rc < 0)
		return rc;
	if (node->pipeline->variables[0] != NULL)
		return set_variable(exec, node->pipeline, value);
	template_print(value, exec->out);
	return 0;
}

static int run_nodes(struct exec *exec, const struct template_node *node, json_t *dot)
{
	for (; node != NULL; node = node->next) {
		int rc = 0;

		if (++exec->steps > TEMPLATE_STEPS_MAX || exec->out->len > TEMPLATE_OUTPUT_MAX)
			return refuse(exec->err, -E2BIG, "template: the output does not end");
		if (node->kind == NODE_TEXT)
			buf_add(exec->out, node->text, node->len);
		else if (node->kind == NODE_ACTION)
			rc = run_action(exec, node, dot);
		else
			rc = run_block(exec, node, dot);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int template_execute(const struct template *template, json_t *value, struct buf *out,
		     struct error *err)
{
	struct exec exec = {.out = out, .err = err};
	int rc;

	push_variable(&exec, "", value);
	rc = run_nodes(&exec, template->nodes, value);
	pop_variables(&exec, 0);
	free(exec.variables);
	return rc;
}
