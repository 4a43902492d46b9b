/*
 * template_parse: text into nodes, by recursive descent.
 *
 *   nodes    = { text | "{{" action "}}" }
 *   action   = "if" pipeline | "range" pipeline | "with" pipeline | "else" [ "if" pipeline ] | "end"
 *            | pipeline
 *   pipeline = [ variable { "," variable } ( ":=" | "=" ) ] call { "|" call }
 *   call     = operand { operand }
 *   operand  = ( "." | variable | literal | function | "(" pipeline ")" ) { "." name }
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/template_priv.h"

struct parser {
	const char *start, *p;
	unsigned int depth;
	bool trim_next; /* the last action ended in "-}}" */
	struct error *err;
};

/* What ended a run of nodes. */
enum stop { STOP_END_OF_TEXT, STOP_END, STOP_ELSE, STOP_ELSE_IF };

static int parse_pipeline(struct parser *parser, struct template_pipeline **ret);
static int parse_nodes(struct parser *parser, struct template_node **ret, enum stop *ret_stop);

static void free_pipeline(struct template_pipeline *pipeline)
{
	if (pipeline == NULL)
		return;
	for (size_t i = 0; i < pipeline->count; i++) {
		struct template_call *call = &pipeline->calls[i];

		for (size_t j = 0; j < call->count; j++) {
			free(call->operands[j].name);
			json_decref(call->operands[j].literal);
			free_pipeline(call->operands[j].pipeline);
			strv_free(call->operands[j].fields);
		}
		free(call->operands);
	}
	free(pipeline->calls);
	free(pipeline->variables[0]);
	free(pipeline->variables[1]);
	free(pipeline);
}

static void free_nodes(struct template_node *node)
{
	while (node != NULL) {
		struct template_node *next = node->next;

		free_nodes(node->body);
		free_nodes(node->otherwise);
		free_pipeline(node->pipeline);
		free(node->text);
		free(node);
		node = next;
	}
}

void template_free(struct template *template)
{
	if (template == NULL)
		return;
	free_nodes(template->nodes);
	free(template);
}

static int bad(struct parser *parser, const char *what)
{
	size_t n = strcspn(parser->p, " \t\n}");

	if (*parser->p == '\0')
		return refuse(parser->err, -EINVAL, "template: %s at its end", what);
	return refuse(parser->err, -EINVAL, "template: %s at character %zu, \"%.*s\"", what,
		      (size_t)(parser->p - parser->start) + 1, (int)(n > 0 ? n : 1), parser->p);
}

static int enter(struct parser *parser)
{
	if (++parser->depth > TEMPLATE_DEPTH_MAX)
		return bad(parser, "nested too deeply");
	return 0;
}

static void skip_space(struct parser *parser)
{
	while (isspace((unsigned char)*parser->p))
		parser->p++;
}

static size_t word_length(const char *p)
{
	size_t n = 0;

	while (isalnum((unsigned char)p[n]) || p[n] == '_')
		n++;
	return n;
}

/* Takes the keyword if it is next. */
static bool take_word(struct parser *parser, const char *word)
{
	size_t n = strlen(word);

	if (word_length(parser->p) != n || memcmp(parser->p, word, n) != 0)
		return false;
	parser->p += n;
	skip_space(parser);
	return true;
}

/* True at "}}" or " -}}" (with *ret_trim set then and the position at the "-"). */
static bool at_close(const struct parser *parser, size_t *ret_len)
{
	const char *p = parser->p;

	*ret_len = 0;
	if (p[0] == '}' && p[1] == '}')
		*ret_len = 2;
	else if (p[0] == '-' && p[1] == '}' && p[2] == '}' && p > parser->start &&
		 isspace((unsigned char)p[-1]))
		*ret_len = 3;
	return *ret_len > 0;
}

static int take_close(struct parser *parser)
{
	size_t len;

	skip_space(parser);
	if (!at_close(parser, &len))
		return bad(parser, "expected \"}}\"");
	parser->p += len;
	parser->trim_next = len == 3;
	return 0;
}

/* One escape sequence of an interpreted string, behind the backslash. */
static int parse_escape(struct parser *parser, struct buf *out)
{
	static const char from[] = "ntr\\\"'abfv", to[] = "\n\t\r\\\"'\a\b\f\v";
	const char *at = *parser->p ? strchr(from, *parser->p) : NULL;

	if (at == NULL)
		return bad(parser, "unknown escape");
	buf_add_char(out, to[at - from]);
	parser->p++;
	return 0;
}

/* "..." with escapes, or `...` without. */
static int parse_string(struct parser *parser, json_t **ret)
{
	own_buf struct buf text = {0};
	const char quote = *parser->p++;
	int rc;

	while (*parser->p != quote) {
		if (*parser->p == '\0' || (*parser->p == '\n' && quote == '"'))
			return bad(parser, "string without an end");
		if (*parser->p == '\\' && quote == '"') {
			parser->p++;
			rc = parse_escape(parser, &text);
			if (rc < 0)
				return rc;
			continue;
		}
		buf_add_char(&text, *parser->p++);
	}
	parser->p++;
	*ret = json_stringn(text.data ? text.data : "", text.len);
	return *ret ? 0 : bad(parser, "string is not UTF-8");
}

static int parse_number(struct parser *parser, json_t **ret)
{
	char *end_int, *end_real;
	long long integer;
	double real;

	errno = 0;
	integer = strtoll(parser->p, &end_int, 10);
	real = strtod(parser->p, &end_real);
	if (end_real == parser->p || errno == ERANGE || isalnum((unsigned char)*end_real))
		return bad(parser, "bad number");
	*ret = end_real > end_int ? json_real(real) : json_integer(integer);
	parser->p = end_real > end_int ? end_real : end_int;
	return *ret ? 0 : bad(parser, "bad number");
}

/* A word: true, false, nil, or a function. */
static int parse_word(struct parser *parser, struct template_operand *operand)
{
	size_t n = word_length(parser->p);

	operand->name = str_copy_n(parser->p, n);
	operand->kind = OPERAND_LITERAL;
	if (strcmp(operand->name, "true") == 0)
		operand->literal = json_true();
	else if (strcmp(operand->name, "false") == 0)
		operand->literal = json_false();
	else if (strcmp(operand->name, "nil") == 0)
		operand->literal = json_null();
	else if (template_is_function(operand->name))
		operand->kind = OPERAND_FUNCTION;
	else
		return bad(parser, "unknown function");
	parser->p += n;
	return 0;
}

static int parse_parentheses(struct parser *parser, struct template_operand *operand)
{
	int rc = enter(parser);

	parser->p++;
	operand->kind = OPERAND_PIPELINE;
	if (rc >= 0)
		rc = parse_pipeline(parser, &operand->pipeline);
	if (rc < 0)
		return rc;
	skip_space(parser);
	if (*parser->p != ')')
		return bad(parser, "expected \")\"");
	parser->p++;
	parser->depth--;
	return 0;
}

/* ".A.B" directly behind an operand. */
static int parse_fields(struct parser *parser, struct template_operand *operand)
{
	while (parser->p[0] == '.' && word_length(parser->p + 1) > 0) {
		size_t n = word_length(++parser->p);

		strv_push_take(&operand->fields, str_copy_n(parser->p, n));
		parser->p += n;
	}
	if (*parser->p == '.')
		return bad(parser, "expected a name after the dot");
	return 0;
}

/* Fills the operand; what it holds is freed with the pipeline, on failure too. */
static int parse_operand(struct parser *parser, struct template_operand *operand)
{
	const char c = *parser->p;
	int rc = 0;

	operand->kind = OPERAND_LITERAL;
	if (c == '"' || c == '`') {
		rc = parse_string(parser, &operand->literal);
	} else if (isdigit((unsigned char)c) ||
		   (c == '-' && isdigit((unsigned char)parser->p[1]))) {
		rc = parse_number(parser, &operand->literal);
		return rc;
	} else if (c == '$') {
		size_t n = word_length(++parser->p);

		operand->kind = OPERAND_VARIABLE;
		operand->name = str_copy_n(parser->p, n);
		parser->p += n;
	} else if (c == '.') {
		operand->kind = OPERAND_DOT;
		/* A lone dot; with names behind it they are its fields. */
		if (word_length(parser->p + 1) == 0) {
			parser->p++;
			return 0;
		}
	} else if (c == '(') {
		rc = parse_parentheses(parser, operand);
	} else if (isalpha((unsigned char)c) || c == '_') {
		rc = parse_word(parser, operand);
	} else {
		rc = bad(parser, "unexpected text");
	}
	return rc < 0 ? rc : parse_fields(parser, operand);
}

static bool at_call_end(struct parser *parser)
{
	size_t len;

	skip_space(parser);
	return *parser->p == '|' || *parser->p == ')' || *parser->p == '\0' ||
	       at_close(parser, &len);
}

/* `.Label "key"`, a method in docker's rows: the call of the function "label" on what stands before. */
static bool is_label(const struct template_operand *operand)
{
	const size_t count = strv_len(operand->fields);

	return operand->kind == OPERAND_DOT && count > 0 &&
	       strcmp(operand->fields[count - 1], "Label") == 0;
}

static void make_label(struct template_call *call)
{
	struct template_operand *first;
	const size_t fields = strv_len(call->operands[0].fields);

	free(call->operands[0].fields[fields - 1]);
	call->operands[0].fields[fields - 1] = NULL;
	call->operands =
		mem_grow(call->operands, call->count, &call->capacity, sizeof(*call->operands));
	first = &call->operands[0];
	memmove(first + 1, first, call->count * sizeof(*first));
	call->count++;
	*first = (struct template_operand){.kind = OPERAND_FUNCTION, .name = str_copy("label")};
}

static int parse_call(struct parser *parser, struct template_call *call)
{
	if (at_call_end(parser))
		return bad(parser, "a value is missing");
	do {
		struct template_operand *operand;
		int rc;

		call->operands =
			mem_grow(call->operands, call->count, &call->capacity, sizeof(*operand));
		operand = &call->operands[call->count++];
		memset(operand, 0, sizeof(*operand));
		rc = parse_operand(parser, operand);
		if (rc < 0)
			return rc;
		if (!isspace((unsigned char)*parser->p) && !at_call_end(parser))
			return bad(parser, "expected a space");
	} while (!at_call_end(parser));
	if (call->count == 2 && is_label(&call->operands[0]))
		make_label(call);
	if (call->count > 1 && call->operands[0].kind != OPERAND_FUNCTION)
		return bad(parser, "only a function takes arguments");
	return 0;
}

/* "$a := ", "$a, $b := " or "$a = " if the pipeline begins so; else the position stays. */
static void parse_declaration(struct parser *parser, struct template_pipeline *pipeline)
{
	const char *p = parser->p;
	char *names[2] = {NULL, NULL};
	size_t count = 0, n;

	while (count < 2 && *p == '$') {
		n = word_length(++p);
		names[count++] = str_copy_n(p, n);
		p += n;
		p += strspn(p, " \t\n");
		if (*p != ',')
			break;
		p++;
		p += strspn(p, " \t\n");
	}
	if (count > 0 && (*p == '=' || (p[0] == ':' && p[1] == '='))) {
		pipeline->assigns = *p == '=';
		pipeline->variables[0] = names[0];
		pipeline->variables[1] = names[1];
		parser->p = p + (*p == '=' ? 1 : 2);
		return;
	}
	free(names[0]);
	free(names[1]);
}

static int parse_pipeline(struct parser *parser, struct template_pipeline **ret)
{
	struct template_pipeline *pipeline = mem_new(sizeof(*pipeline));

	*ret = pipeline;
	skip_space(parser);
	parse_declaration(parser, pipeline);
	for (;;) {
		struct template_call *call;
		int rc;

		pipeline->calls = mem_grow(pipeline->calls, pipeline->count, &pipeline->capacity,
					   sizeof(*call));
		call = &pipeline->calls[pipeline->count++];
		memset(call, 0, sizeof(*call));
		rc = parse_call(parser, call);
		if (rc < 0)
			return rc;
		if (pipeline->count > 1 && call->operands[0].kind != OPERAND_FUNCTION)
			return bad(parser, "expected a function after \"|\"");
		if (*parser->p != '|')
			return 0;
		parser->p++;
	}
}

/* The body of if, range or with, and its else, up to and including {{end}}. */
static int parse_block(struct parser *parser, struct template_node *node)
{
	enum stop stop;
	int rc = enter(parser);

	if (rc >= 0)
		rc = parse_pipeline(parser, &node->pipeline);
	if (rc >= 0)
		rc = take_close(parser);
	if (rc >= 0)
		rc = parse_nodes(parser, &node->body, &stop);
	if (rc < 0)
		return rc;
	if (stop == STOP_ELSE_IF) {
		/* {{else if}} is an if inside the else; the one {{end}} closes both. */
		node->otherwise = mem_new(sizeof(*node));
		node->otherwise->kind = NODE_IF;
		rc = parse_block(parser, node->otherwise);
		parser->depth--;
		return rc;
	}
	if (stop == STOP_ELSE) {
		rc = parse_nodes(parser, &node->otherwise, &stop);
		if (rc < 0)
			return rc;
		if (stop == STOP_ELSE || stop == STOP_ELSE_IF)
			return bad(parser, "a second {{else}} before");
	}
	parser->depth--;
	return stop == STOP_END ? 0 : bad(parser, "{{end}} is missing");
}

/* The text up to the next action, trimmed as the actions around it ask. */
static struct template_node *parse_text(struct parser *parser)
{
	const char *begin = parser->p, *end = strstr(begin, "{{");
	struct template_node *node;

	if (end == NULL)
		end = begin + strlen(begin);
	parser->p = end;
	if (parser->trim_next)
		while (begin < end && isspace((unsigned char)*begin))
			begin++;
	if (end[0] == '{' && end[2] == '-' && isspace((unsigned char)end[3]))
		while (end > begin && isspace((unsigned char)end[-1]))
			end--;
	parser->trim_next = false;
	node = mem_new(sizeof(*node));
	node->kind = NODE_TEXT;
	node->len = (size_t)(end - begin);
	node->text = str_copy_n(begin, node->len);
	return node;
}

static int skip_comment(struct parser *parser)
{
	const char *end = strstr(parser->p + 2, "*/");

	if (end == NULL)
		return bad(parser, "comment without an end");
	parser->p = end + 2;
	return take_close(parser);
}

/* The action behind "{{". *ret_stop is set if it ends the nodes. */
static int parse_action(struct parser *parser, struct template_node **ret, bool *ret_stopped,
			enum stop *ret_stop)
{
	struct template_node *node;
	int rc;

	*ret = NULL;
	parser->p += parser->p[2] == '-' && isspace((unsigned char)parser->p[3]) ? 3 : 2;
	skip_space(parser);
	if (parser->p[0] == '/' && parser->p[1] == '*')
		return skip_comment(parser);
	*ret_stopped = true;
	if (take_word(parser, "end")) {
		*ret_stop = STOP_END;
		return take_close(parser);
	}
	if (take_word(parser, "else")) {
		if (take_word(parser, "if")) {
			*ret_stop = STOP_ELSE_IF;
			return 0;
		}
		*ret_stop = STOP_ELSE;
		return take_close(parser);
	}
	*ret_stopped = false;
	*ret = node = mem_new(sizeof(*node));
	if (take_word(parser, "if"))
		node->kind = NODE_IF;
	else if (take_word(parser, "range"))
		node->kind = NODE_RANGE;
	else if (take_word(parser, "with"))
		node->kind = NODE_WITH;
	else
		node->kind = NODE_ACTION;
	if (node->kind != NODE_ACTION)
		return parse_block(parser, node);
	rc = parse_pipeline(parser, &node->pipeline);
	return rc < 0 ? rc : take_close(parser);
}

/* Appends to *ret, which is complete also on failure, for freeing. */
static int parse_nodes(struct parser *parser, struct template_node **ret, enum stop *ret_stop)
{
	bool stopped = false;

	*ret_stop = STOP_END_OF_TEXT;
	while (*parser->p != '\0' && !stopped) {
		int rc = 0;

		if (strncmp(parser->p, "{{", 2) == 0)
			rc = parse_action(parser, ret, &stopped, ret_stop);
		else
			*ret = parse_text(parser);
		if (*ret != NULL)
			ret = &(*ret)->next;
		if (rc < 0)
			return rc;
	}
	return 0;
}

int template_parse(const char *text, struct template **ret, struct error *err)
{
	own_template struct template *template = mem_new(sizeof(*template));
	struct parser parser = {.start = text, .p = text, .err = err};
	enum stop stop;
	int rc;

	if (strlen(text) > TEMPLATE_SIZE_MAX)
		return refuse(err, -E2BIG, "the template is longer than %d characters",
			      TEMPLATE_SIZE_MAX);
	rc = parse_nodes(&parser, &template->nodes, &stop);
	if (rc < 0)
		return rc;
	if (stop != STOP_END_OF_TEXT)
		return refuse(err, -EINVAL, "template: {{end}} or {{else}} without a beginning");
	*ret = take(template);
	return 0;
}
