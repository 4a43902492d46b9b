/* listing: see listing.h. */
#include "cli/listing.h"

#include <string.h>

#include "base/file.h"

int print_text(const char *text, struct error *err)
{
	int rc = fd_write_full(1, text, strlen(text));

	return rc < 0 ? fail(err, rc, "write the output") : 0;
}

/* "\t" and "\n" typed as two characters mean the control characters, as docker has it. */
static char *unescape(const char *format)
{
	own_buf struct buf text = {0};

	for (const char *p = format; *p != '\0'; p++) {
		if (p[0] == '\\' && (p[1] == 't' || p[1] == 'n'))
			buf_add_char(&text, *++p == 't' ? '\t' : '\n');
		else
			buf_add_char(&text, *p);
	}
	return buf_take(&text);
}

static int add_headings(struct listing *listing, struct error *err)
{
	own_json json_t *headings = json_object();
	own_buf struct buf cells = {0};
	int rc;

	for (size_t i = 0; i < listing->spec->headings_count; i++)
		json_object_set_new(headings, listing->spec->headings[i].field,
				    json_string(listing->spec->headings[i].heading));
	rc = template_execute(listing->template, headings, &cells, err);
	if (rc >= 0)
		table_add(&listing->table, cells.data ? cells.data : "");
	return rc;
}

int listing_begin(struct listing *listing, const struct listing_spec *spec, const struct args *args,
		  struct error *err)
{
	const char *format = args_string(args, "format");
	own_mem char *text = NULL;
	int rc;

	memset(listing, 0, sizeof(*listing));
	listing->spec = spec;
	if (spec->quiet != NULL && args_flag(args, "quiet")) {
		text = str_copy(spec->quiet);
	} else if (str_empty(format) || strcmp(format, "table") == 0) {
		text = str_copy(spec->table);
		listing->in_table = true;
	} else if (str_after(format, "table ") != NULL) {
		text = unescape(str_after(format, "table "));
		listing->in_table = true;
	} else if (strcmp(format, "json") == 0) {
		return 0;
	} else {
		text = unescape(format);
	}
	rc = template_parse(text, &listing->template, err);
	if (rc >= 0 && listing->in_table)
		rc = add_headings(listing, err);
	return rc < 0 ? fail(err, rc, "--format") : 0;
}

int listing_add(struct listing *listing, json_t *taken, struct error *err)
{
	own_json json_t *row = taken;
	own_buf struct buf cells = {0};
	int rc;

	if (listing->template == NULL) {
		own_mem char *text = json_text(row);

		buf_format(&listing->out, "%s\n", text);
		return 0;
	}
	rc = template_execute(listing->template, row, listing->in_table ? &cells : &listing->out,
			      err);
	if (rc < 0)
		return fail(err, rc, "--format");
	if (listing->in_table)
		table_add(&listing->table, cells.data ? cells.data : "");
	else
		buf_add_char(&listing->out, '\n');
	return 0;
}

int listing_end(struct listing *listing, struct error *err)
{
	if (listing->in_table)
		table_format(&listing->table, &listing->out);
	return listing->out.len > 0 ? print_text(listing->out.data, err) : 0;
}

void listing_release(struct listing *listing)
{
	template_free(listing->template);
	table_release(&listing->table);
	buf_release(&listing->out);
}

int print_formatted(json_t *value, const char *format, struct error *err)
{
	own_template struct template *template = NULL;
	own_buf struct buf out = {0};
	own_mem char *text = NULL;
	int rc = 0;

	if (str_empty(format) || strcmp(format, "json") == 0) {
		text = str_empty(format) ? json_text_pretty(value) : json_text(value);
		buf_add_str(&out, text);
	} else {
		text = unescape(format);
		rc = template_parse(text, &template, err);
		if (rc >= 0)
			rc = template_execute(template, value, &out, err);
		if (rc < 0)
			return fail(err, rc, "--format");
	}
	buf_add_char(&out, '\n');
	return print_text(out.data, err);
}
