/* log: see log.h. */
#include "base/log.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"

static struct {
	enum log_level level;
	enum log_format format;
	int fd;
} log_to = {LOG_LEVEL_WARN, LOG_FORMAT_PLAIN, STDERR_FILENO};

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_setup(enum log_level level, enum log_format format, int fd)
{
	log_to.level = level;
	log_to.format = format;
	log_to.fd = fd;
}

bool log_enabled(enum log_level level)
{
	return level <= log_to.level;
}

static void add_json_string(struct buf *b, const char *s)
{
	own_json json_t *value = json_from_string(s);
	own_mem char *text = json_text(value);

	buf_add_str(b, text);
}

/* One write per line, so that lines of several processes do not mix. */
static void write_line(enum log_level level, const char *message)
{
	own_buf struct buf b = {0};
	char time[CLOCK_TEXT_MAX];

	clock_format(clock_now_ns(), time);
	switch (log_to.format) {
	case LOG_FORMAT_PLAIN:
		buf_format(&b, "berth: %s", message);
		break;
	case LOG_FORMAT_TEXT:
		buf_format(&b, "time=\"%s\" level=%s msg=", time, level_names[level]);
		add_json_string(&b, message);
		break;
	case LOG_FORMAT_JSON:
		buf_add_str(&b, "{\"level\":");
		add_json_string(&b, level_names[level]);
		buf_add_str(&b, ",\"msg\":");
		add_json_string(&b, message);
		buf_format(&b, ",\"time\":\"%s\"}", time);
		break;
	}
	buf_add_char(&b, '\n');
	/* A log that cannot be written has nowhere to complain. */
	if (write(log_to.fd, b.data, b.len) < 0)
		return;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	own_mem char *message = NULL;
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	message = str_format_va(fmt, ap);
	va_end(ap);
	write_line(level, message);
}

void log_failure(const struct error *err)
{
	write_line(LOG_LEVEL_ERROR, err->text);
	if (err->hint[0] != '\0' && log_to.format == LOG_FORMAT_PLAIN)
		dprintf(log_to.fd, "hint: %s\n", err->hint);
}
