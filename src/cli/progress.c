/* progress: see progress.h. */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/tty.h"

enum {
	LINES_MAX = 1024, /* more layers than any image has */
	REDRAW_MS = 100,
	BAR_COLUMNS = 25,
	COLUMNS_DEFAULT = 80,
	ROWS_DEFAULT = 24,
	SHORT_ID_LEN = 12,
	NAME_MAX_LEN = 39,
};

struct progress {
	bool quiet, terminal;
	struct progress_line *lines;
	size_t count;
	size_t drawn; /* lines on the terminal above the cursor */
	int64_t drawn_ms;
};

struct progress *progress_new(bool quiet)
{
	struct progress *progress = mem_new(sizeof(*progress));
	const char *term = getenv("TERM");

	progress->quiet = quiet;
	progress->terminal = isatty(2) && (term == NULL || strcmp(term, "dumb") != 0);
	return progress;
}

static void add_bar(const struct progress_line *line, struct buf *out)
{
	size_t full = (size_t)((double)line->done_bytes / (double)line->total_bytes * BAR_COLUMNS);

	full = full > BAR_COLUMNS ? BAR_COLUMNS : full;
	buf_add_str(out, "  [");
	for (size_t i = 0; i < BAR_COLUMNS; i++)
		buf_add_char(out, i < full ? '=' : i == full ? '>' : ' ');
	buf_add_char(out, ']');
}

/* Rounded up: better early than late. */
static void add_time_left(double seconds, struct buf *out)
{
	if (seconds < 100)
		buf_format(out, "  %ds left", (int)(seconds + 0.999));
	else if (seconds < 6000)
		buf_format(out, "  %dm left", (int)(seconds / 60 + 0.999));
}

static void add_running(const struct progress_line *line, int64_t now_ms, size_t columns,
			struct buf *out)
{
	int64_t elapsed_ms = now_ms - line->started_ms;
	char done[24], total[24], rate[24];
	double per_second;

	if (line->total_bytes > 0 && columns >= COLUMNS_DEFAULT)
		add_bar(line, out);
	str_from_size(line->done_bytes, 3, done);
	buf_format(out, "  %s", done);
	if (line->total_bytes > 0) {
		str_from_size(line->total_bytes, 3, total);
		buf_format(out, "/%s", total);
	}
	/* A rate over less than that says nothing. */
	if (elapsed_ms < 500 || line->done_bytes == 0)
		return;
	per_second = (double)line->done_bytes * 1000 / (double)elapsed_ms;
	str_from_size((uint64_t)per_second, 3, rate);
	buf_format(out, "  %s/s", rate);
	if (line->total_bytes > line->done_bytes)
		add_time_left((double)(line->total_bytes - line->done_bytes) / per_second, out);
}

void progress_format(const struct progress_line *line, int64_t now_ms, size_t columns,
		     struct buf *out)
{
	const size_t start = out->len;
	char size[24];

	buf_format(out, "%-12s", line->name);
	switch (line->step) {
	case IMAGE_STEP_EXISTS:
		buf_add_str(out, "  already here");
		break;
	case IMAGE_STEP_THERE:
		buf_add_str(out, "  already there");
		break;
	case IMAGE_STEP_DONE:
		str_from_size(line->total_bytes ? line->total_bytes : line->done_bytes, 3, size);
		buf_format(out, "  done, %s in %.1fs", size,
			   (double)(line->ended_ms - line->started_ms) / 1000);
		break;
	case IMAGE_STEP_RUN:
		add_running(line, now_ms, columns, out);
		break;
	default:
		buf_add_str(out, "  waiting");
		break;
	}
	if (out->len - start > columns) {
		out->len = start + columns;
		out->data[out->len] = '\0';
	}
}

/* Nothing can be done about an error of stderr. */
static void emit(struct buf *out)
{
	if (out->len > 0 && fd_write_full(2, out->data, out->len) < 0)
		return;
}

static bool is_over(const struct progress_line *line)
{
	return line->step == IMAGE_STEP_DONE || line->step == IMAGE_STEP_EXISTS ||
	       line->step == IMAGE_STEP_THERE;
}

/* Redraws all lines; if there are more than the terminal has rows, only those on their way. */
static void draw(struct progress *progress)
{
	struct tty_size size = {0};
	own_buf struct buf out = {0};
	int64_t now_ms = clock_monotonic_ns() / 1000000;
	size_t rows, shown = 0, over = 0;

	if (tty_get_size(2, &size) < 0 || size.rows == 0 || size.columns == 0)
		size = (struct tty_size){ROWS_DEFAULT, COLUMNS_DEFAULT};
	rows = size.rows > 3 ? size.rows - 3u : 1;
	if (progress->drawn > 0)
		buf_format(&out, "\r\033[%zuA", progress->drawn);
	for (size_t i = 0; i < progress->count; i++) {
		const struct progress_line *line = &progress->lines[i];

		over += is_over(line);
		if (line->name[0] == '\0' || shown >= rows ||
		    (progress->count > rows && line->step != IMAGE_STEP_RUN))
			continue;
		buf_add_str(&out, "\033[K");
		progress_format(line, now_ms, size.columns - 1u, &out);
		buf_add_char(&out, '\n');
		shown++;
	}
	if (progress->count > rows) {
		buf_format(&out, "\033[K%zu of %zu layers done\n", over, progress->count);
		shown++;
	}
	/* What was there before and is not needed any more. */
	buf_add_str(&out, "\033[J");
	emit(&out);
	progress->drawn = shown;
	progress->drawn_ms = now_ms;
}

static struct progress_line *line_of(struct progress *progress, const struct image_progress *event)
{
	struct progress_line *line;
	const char *hex;

	if (event->index >= LINES_MAX)
		return NULL;
	if (event->index >= progress->count) {
		progress->lines = mem_resize(progress->lines, event->index + 1, sizeof(*line));
		memset(&progress->lines[progress->count], 0,
		       (event->index + 1 - progress->count) * sizeof(*line));
		progress->count = event->index + 1;
	}
	line = &progress->lines[event->index];
	if (line->name[0] == '\0' && event->what != NULL) {
		hex = digest_text_hex(event->what);
		snprintf(line->name, sizeof(line->name), "%.*s", hex ? SHORT_ID_LEN : NAME_MAX_LEN,
			 hex ? hex : event->what);
	}
	return line;
}

static void report_layer(struct progress *progress, const struct image_progress *event)
{
	struct progress_line *line = line_of(progress, event);
	int64_t now_ms = clock_monotonic_ns() / 1000000;
	bool was_over;

	if (line == NULL)
		return;
	was_over = is_over(line);
	if (line->started_ms == 0 && event->step != IMAGE_STEP_WAIT)
		line->started_ms = now_ms;
	line->step = event->step;
	line->done_bytes = event->done_bytes;
	line->total_bytes = event->total_bytes;
	if (is_over(line) && !was_over)
		line->ended_ms = now_ms;
	if (progress->terminal) {
		if (is_over(line) || now_ms - progress->drawn_ms >= REDRAW_MS)
			draw(progress);
	} else if (is_over(line) && !was_over) {
		own_buf struct buf out = {0};

		progress_format(line, now_ms, SIZE_MAX - 1, &out);
		buf_add_char(&out, '\n');
		emit(&out);
	}
}

/* A line of its own, above which nothing is redrawn any more. */
static void say(struct progress *progress, const char *prefix, const char *what)
{
	own_buf struct buf out = {0};

	if (what == NULL)
		return;
	buf_format(&out, "%s%s\n", prefix, what);
	emit(&out);
	progress->drawn = 0;
}

void progress_report(const struct image_progress *event, void *data)
{
	struct progress *progress = data;

	if (progress->quiet)
		return;
	switch (event->step) {
	case IMAGE_STEP_RESOLVE:
		if (progress->terminal)
			say(progress, "Looking up ", event->what);
		break;
	case IMAGE_STEP_WAIT:
	case IMAGE_STEP_RUN:
	case IMAGE_STEP_EXISTS:
	case IMAGE_STEP_THERE:
	case IMAGE_STEP_DONE:
		report_layer(progress, event);
		break;
	case IMAGE_STEP_RETRY:
		say(progress, "Trying again: ", event->what);
		break;
	case IMAGE_STEP_FINISH:
		if (progress->terminal && progress->count > 0)
			draw(progress);
		say(progress, "Digest: ", event->what);
		break;
	}
}

void progress_free(struct progress *progress)
{
	if (progress == NULL)
		return;
	free(progress->lines);
	free(progress);
}

void progress_wait(enum engine_wait event, const char *what, int64_t took_ns)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (event == ENGINE_WAIT_BEGIN) {
		fprintf(stderr, "%s: being made ...", what);
		return;
	}
	fputs("\r\033[K", stderr);
	if (event == ENGINE_WAIT_END)
		fprintf(stderr, "%s: made in %.1f s\n", what, (double)took_ns / 1e9);
}
