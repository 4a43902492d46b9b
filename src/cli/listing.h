/*
 * listing: how commands that list things (ps, images, ...) print them: as a table, as JSON, or by a
 * template, after --format, --quiet and --no-trunc.
 *
 * A row is a JSON object whose members are the fields a template can name. --format is
 *   "table", or nothing    the command's own table
 *   "table TEMPLATE"       a table with the cells of TEMPLATE, separated by tabs
 *   "json"                 one object a line
 *   TEMPLATE               one line of text a row
 */
#pragma once

#include "base/json.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/table.h"
#include "cli/template.h"

/* The heading of a field in tables. */
struct listing_heading {
	char field[16];
	char heading[20];
};

struct listing_spec {
	const char *table; /* the default table: "{{.ID}}\t{{.Names}}" */
	const char
		*quiet; /* what --quiet prints of each row: "{{.ID}}"; NULL: there is no --quiet */
	const struct listing_heading *headings; /* of the table's and all other fields */
	size_t headings_count;
};

struct listing {
	const struct listing_spec *spec;
	struct template *template; /* NULL: JSON */
	struct table table;
	struct buf out;
	bool in_table;
};

/* Reads the options "format", and "quiet" if the spec has it. */
int listing_begin(struct listing *listing, const struct listing_spec *spec, const struct args *args,
		  struct error *err) must_check;
/* Adds a row, whose reference is taken, also on failure. */
int listing_add(struct listing *listing, json_t *row, struct error *err) must_check;
/* Prints what there is to stdout. */
int listing_end(struct listing *listing, struct error *err) must_check;
void listing_release(struct listing *listing);
#define own_listing __attribute__((cleanup(listing_release)))

/* The options that go with a listing, for the command table. */
#define LISTING_OPTION_FORMAT                                                                      \
	{                                                                                          \
		"format", 0, OPTION_STRING, 0, "TEMPLATE", "",                                     \
			"Print by a template, as \"json\", or as a \"table TEMPLATE\""             \
	}
#define LISTING_OPTION_NO_TRUNC                                                                    \
	{                                                                                          \
		"no-trunc", 0, OPTION_FLAG, 0, "", "", "Do not cut ids and long texts"             \
	}

/* Prints one value by `format`: NULL or "json" as JSON, else by the template. For inspect, info, ... */
int print_formatted(json_t *value, const char *format, struct error *err) must_check;
/* Writes `text` to stdout. */
int print_text(const char *text, struct error *err) must_check;
