/* table: see table.h. */
#include "cli/table.h"

#include <string.h>

#include "base/mem.h"

enum { COLUMNS_MAX = 32, WIDTH_MIN = 10, PADDING = 3 };

size_t text_width(const char *s, size_t len)
{
	size_t width = 0;

	/* Every byte but those that continue a UTF-8 character begins one. */
	for (size_t i = 0; i < len; i++)
		width += ((unsigned char)s[i] & 0xc0) != 0x80;
	return width;
}

char *text_shorten(const char *s, size_t width)
{
	const char *p = s;
	size_t count = 0;

	if (text_width(s, strlen(s)) <= width)
		return str_copy(s);
	while (*p != '\0' && (count + 1 < width || ((unsigned char)*p & 0xc0) == 0x80))
		count += ((unsigned char)*p++ & 0xc0) != 0x80;
	return str_format("%.*s\xe2\x80\xa6", (int)(p - s), s);
}

void table_add(struct table *table, const char *cells)
{
	strv_push(&table->lines, cells);
}

void table_release(struct table *table)
{
	strv_free(table->lines);
	table->lines = NULL;
}

/* True for a control character of the second set, U+0080 to U+009F, of which one begins escape sequences, too. */
static bool is_second_control(const char *c)
{
	return (unsigned char)c[0] == 0xc2 && ((unsigned char)c[1] & 0xe0) == 0x80;
}

/* Appends a cell with what would act on a terminal replaced. */
static void add_cell(struct buf *out, const char *cell, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		const unsigned char c = (unsigned char)cell[i];
		const bool second = is_second_control(&cell[i]);

		buf_add_char(out, c < 0x20 || c == 0x7f || second ? '?' : cell[i]);
		i += second;
	}
}

static void measure(const char *line, size_t widths[static COLUMNS_MAX])
{
	for (size_t i = 0; i < COLUMNS_MAX; i++) {
		size_t len = strcspn(line, "\t"), width;

		if (line[len] == '\0')
			return;
		width = text_width(line, len) + PADDING;
		widths[i] = width > widths[i] ? width : widths[i];
		line += len + 1;
	}
}

static void format_line(const char *line, const size_t widths[static COLUMNS_MAX], struct buf *out)
{
	for (size_t i = 0;; i++) {
		size_t len = strcspn(line, "\t");

		add_cell(out, line, len);
		if (line[len] == '\0')
			break;
		if (i < COLUMNS_MAX)
			buf_format(out, "%*s", (int)(widths[i] - text_width(line, len)), "");
		line += len + 1;
	}
	buf_add_char(out, '\n');
}

void table_format(const struct table *table, struct buf *out)
{
	size_t widths[COLUMNS_MAX];

	for (size_t i = 0; i < COLUMNS_MAX; i++)
		widths[i] = WIDTH_MIN;
	for (char **line = table->lines; line != NULL && *line != NULL; line++)
		measure(*line, widths);
	for (char **line = table->lines; line != NULL && *line != NULL; line++)
		format_line(*line, widths, out);
}
