/*
 * monitor_log: the log file: docker's json-file form, one object per line:
 *
 *     {"log":"text\n","stream":"stdout","time":"2024-05-06T07:08:09.123456789Z"}
 *
 * A piece of output without its newline is written as it comes, so that nothing is lost with the
 * monitor; readers put the pieces together again. Bytes that are no UTF-8 become U+FFFD, as docker
 * does; a character that is cut by the end of a piece waits for its rest.
 *
 * When a file is full it becomes output.log.1, the former .1 becomes .2, and so on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/own.h"
#include "engine/monitor_priv.h"

enum { LINE_BUFFER = 8 << 10, LINE_TAIL = 128, ESCAPE_MAX = 6 };

void log_file_init(struct log *log, int dir_fd, const struct order *order)
{
	*log = (struct log){
		.dir_fd = dir_fd,
		.fd = -1,
		.off = order->log == WORKLOAD_LOG_NONE,
		.max_size = order->log_max_size_bytes,
		.max_files = order->log_max_files,
	};
}

static bool open_file(struct log *log)
{
	own_fd int fd = -1;
	char last;

	if (log->fd >= 0)
		return true;
	fd = openat(log->dir_fd, "output.log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW,
		    0600);
	if (fd < 0)
		return false;
	/* A line that a full disk or a kill has cut is left out by readers: but not the next one with it. */
	if (lseek(fd, -1, SEEK_END) >= 0 && read(fd, &last, 1) == 1 && last != '\n' &&
	    fd_write_full(fd, "\n", 1) < 0)
		return false;
	log->size = lseek(fd, 0, SEEK_END);
	log->fd = take(fd);
	return true;
}

static void name_of(int number, char out[static 32])
{
	if (number == 0)
		strcpy(out, "output.log");
	else
		snprintf(out, 32, "output.log.%d", number);
}

static void rotate(struct log *log)
{
	char from[32], to[32];

	fd_close(&log->fd);
	if (log->max_files == 1)
		unlinkat(log->dir_fd, "output.log", 0);
	for (int i = log->max_files - 1; i > 0; i--) {
		name_of(i - 1, from);
		name_of(i, to);
		renameat(log->dir_fd, from, log->dir_fd, to);
	}
}

/* Lines that are collected to be written at once. */
struct lines {
	struct log *log;
	const char *stream, *time;
	size_t len;
	char data[LINE_BUFFER];
};

static void flush(struct lines *l)
{
	struct log *log = l->log;

	if (l->len == 0)
		return;
	if (log->max_size > 0 && log->fd >= 0 && log->size + (int64_t)l->len > log->max_size)
		rotate(log);
	if (open_file(log)) {
		if (fd_write_full(log->fd, l->data, l->len) == 0)
			log->size += (int64_t)l->len;
		else
			fd_close(&log->fd);
	}
	l->len = 0;
}

static void add(struct lines *l, const char *data, size_t len)
{
	memcpy(l->data + l->len, data, len);
	l->len += len;
}

/* Adds one character as JSON has it inside a string. */
static void add_escaped(struct lines *l, const char *c, size_t len)
{
	static const char short_forms[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	char text[ESCAPE_MAX + 1];

	if (len > 1 || ((unsigned char)*c >= 0x20 && *c != '"' && *c != '\\')) {
		add(l, c, len);
		return;
	}
	for (const char *p = short_forms; *p != '\0'; p += 2)
		if (*p == *c) {
			text[0] = '\\';
			text[1] = p[1];
			add(l, text, 2);
			return;
		}
	snprintf(text, sizeof(text), "\\u%04x", (unsigned char)*c);
	add(l, text, ESCAPE_MAX);
}

/* The length of the UTF-8 character at `p`; 0: it goes on behind `len` bytes; -1: it is none. */
static int character(const char *p, size_t len)
{
	const unsigned char *c = (const unsigned char *)p;
	int n = c[0] < 0x80                   ? 1
		: c[0] >= 0xc2 && c[0] < 0xe0 ? 2
		: (c[0] & 0xf0) == 0xe0       ? 3
		: c[0] >= 0xf0 && c[0] < 0xf5 ? 4
					      : -1;

	for (int i = 1; i < n; i++) {
		if ((size_t)i == len)
			return 0;
		if ((c[i] & 0xc0) != 0x80)
			return -1;
	}
	/* Overlong forms, surrogates, beyond U+10FFFF. */
	if (n >= 3 && ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] >= 0xa0) ||
		       (c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] >= 0x90)))
		return -1;
	return n;
}

static void begin_line(struct lines *l)
{
	/* Room for the shortest sensible line; a longer one is continued in another object. */
	if (l->len > LINE_BUFFER / 2)
		flush(l);
	add(l, "{\"log\":\"", 8);
}

static void end_line(struct lines *l)
{
	char tail[LINE_TAIL];
	int n = snprintf(tail, sizeof(tail), "\",\"stream\":\"%s\",\"time\":\"%s\"}\n", l->stream,
			 l->time);

	add(l, tail, (size_t)n);
}

/* Adds whole characters; returns how many bytes at the end are the beginning of one. */
static size_t add_text(struct lines *l, const char *data, size_t len)
{
	bool open = false;
	size_t at = 0;

	while (at < len) {
		int n = character(data + at, len - at);

		if (n == 0)
			break;
		if (!open)
			begin_line(l);
		open = true;
		if (n < 0)
			add(l, "\xef\xbf\xbd", 3);
		else
			add_escaped(l, data + at, (size_t)n);
		at += n < 0 ? 1 : (size_t)n;
		if (data[at - 1] == '\n' || l->len > LINE_BUFFER - LINE_TAIL - ESCAPE_MAX) {
			end_line(l);
			open = false;
		}
	}
	if (open)
		end_line(l);
	return len - at;
}

void log_file_add(struct log *log, int stream, const char *data, size_t len)
{
	char *partial = log->partial[stream - 1];
	unsigned int *partial_len = &log->partial_len[stream - 1];
	char now[CLOCK_TEXT_MAX];
	struct lines l;
	size_t rest;

	if (log->off)
		return;
	clock_format(clock_now_ns(), now);
	l.log = log;
	l.stream = stream == 1 ? "stdout" : "stderr";
	l.time = now;
	l.len = 0;
	/* The rest of a character that was cut. */
	while (*partial_len > 0 && len > 0) {
		partial[(*partial_len)++] = *data++;
		len--;
		if (character(partial, *partial_len) != 0) {
			rest = add_text(&l, partial, *partial_len);
			memmove(partial, partial + *partial_len - rest, rest);
			*partial_len = (unsigned int)rest;
		}
	}
	rest = add_text(&l, data, len);
	memcpy(partial, data + len - rest, rest);
	if (rest > 0)
		*partial_len = (unsigned int)rest;
	flush(&l);
}
