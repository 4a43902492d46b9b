/*
 * logs: reading what the monitor wrote (monitor_log.c has the form of the files), the oldest file
 * first, and following it.
 *
 * A line of output may have been written in several objects, when it came in pieces: so lines are
 * counted, and get their time in front, where one begins: behind an object of the same stream that
 * ended with a newline.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/find.h"
#include "engine/live.h"
#include "engine/record.h"

enum {
	FILES_MAX = 1000,
	LINE_MAX_BYTES = 64 << 10, /* of one object; the monitor writes at most 8 KiB */
	FOLLOW_POLL_MS = 500,
};

struct reader {
	struct engine *engine;
	char id[WORKLOAD_ID_LEN + 1];
	const struct workload_logs *options;
	workload_output_fn *fn;
	void *data;
	int dir_fd;
	int64_t skip;  /* lines that are not to be shown: --tail */
	bool counting; /* only count lines, into `lines` */
	int64_t lines;
	bool middle[3];  /* of a line, for each stream */
	bool shown[3];   /* whether the line in whose middle we are is shown */
	struct buf line; /* an object that has not come completely yet */
};

/* --- one object --------------------------------------------------------------------------------------- */

static int show(struct reader *r, int stream, const char *time, const char *text, size_t len,
		bool begins, struct error *err)
{
	int rc = 0;

	if (begins && (r->options->flags & WORKLOAD_LOGS_TIMESTAMPS)) {
		rc = r->fn(stream, time, strlen(time), r->data, err);
		if (rc == 0)
			rc = r->fn(stream, " ", 1, r->data, err);
	}
	return rc == 0 ? r->fn(stream, text, len, r->data, err) : rc;
}

static bool in_time(const struct reader *r, const char *time)
{
	int64_t ns;

	if (r->options->since_ns == 0 && r->options->until_ns == 0)
		return true;
	if (clock_parse(time, &ns) < 0)
		return true;
	return (r->options->since_ns == 0 || ns >= r->options->since_ns) &&
	       (r->options->until_ns == 0 || ns <= r->options->until_ns);
}

static bool wanted(const struct reader *r, int stream, const char *time)
{
	const enum workload_logs_flags which =
		r->options->flags & (WORKLOAD_LOGS_STDOUT | WORKLOAD_LOGS_STDERR);

	if (which != 0 && !(which & (stream == 2 ? WORKLOAD_LOGS_STDERR : WORKLOAD_LOGS_STDOUT)))
		return false;
	return in_time(r, time);
}

static int take_object(struct reader *r, const char *object, size_t object_len, struct error *err)
{
	own_json json_t *value = NULL;
	const char *text, *name, *time;
	bool begins, ends;
	size_t len;
	int stream;

	/* A line that was cut by a full disk or a power cut is left out. */
	if (json_parse(object, object_len, "log", &value, NULL) < 0)
		return 0;
	text = json_string_value(json_object_get(value, "log"));
	name = json_string_value(json_object_get(value, "stream"));
	time = json_string_value(json_object_get(value, "time"));
	if (text == NULL || name == NULL || time == NULL)
		return 0;
	len = json_string_length(json_object_get(value, "log"));
	stream = str_eq(name, "stderr") ? 2 : 1;
	begins = !r->middle[stream];
	ends = len > 0 && text[len - 1] == '\n';
	r->middle[stream] = !ends;
	if (begins) {
		r->shown[stream] = wanted(r, stream, time);
		if (r->shown[stream] && r->counting)
			r->lines++;
		else if (r->shown[stream] && r->skip > 0) {
			r->skip--;
			r->shown[stream] = false;
		}
	}
	if (r->counting || !r->shown[stream])
		return 0;
	return show(r, stream, time, text, len, begins, err);
}

/* --- files ------------------------------------------------------------------------------------------- */

/* Takes what has been added since the last time. */
static int read_on(struct reader *r, int fd, struct error *err)
{
	char chunk[16 << 10];
	ssize_t n;
	int rc = 0;

	while (rc == 0 && (n = read(fd, chunk, sizeof(chunk))) != 0) {
		const char *p = chunk, *newline;
		size_t left = (size_t)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(err, -errno, "read the log");
		while (rc == 0 && (newline = memchr(p, '\n', left)) != NULL) {
			buf_add(&r->line, p, (size_t)(newline - p));
			rc = take_object(r, r->line.data, r->line.len, err);
			buf_clear(&r->line);
			left -= (size_t)(newline - p) + 1;
			p = newline + 1;
		}
		if (r->line.len + left > LINE_MAX_BYTES)
			buf_clear(&r->line);
		else
			buf_add(&r->line, p, left);
	}
	return rc;
}

static int open_log(struct reader *r, int number)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), number ? "output.log.%d" : "output.log", number);
	fd = openat(r->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* Reads every file, the oldest first. *ret_fd: the newest, open at its end, or -1. */
static int read_files(struct reader *r, int *ret_fd, struct error *err)
{
	int fds[FILES_MAX], count = 0, rc = 0;

	/* All are opened at first, the newest first: one that is rotated meanwhile is the same open
	 * file still. */
	while (count < FILES_MAX && (fds[count] = open_log(r, count)) >= 0)
		count++;
	for (int i = count - 1; i >= 0; i--) {
		if (rc == 0)
			rc = read_on(r, fds[i], err);
		if (i > 0)
			fd_close(&fds[i]);
	}
	*ret_fd = count > 0 ? fds[0] : -1;
	return rc;
}

/* How many lines there are, to know how many to leave out. */
static int count_lines(struct reader *r, struct error *err)
{
	int fd = -1, rc;

	r->counting = true;
	rc = read_files(r, &fd, err);
	fd_close(&fd);
	r->counting = false;
	r->skip = r->lines > r->options->tail ? r->lines - r->options->tail : 0;
	memset(r->middle, 0, sizeof(r->middle));
	buf_clear(&r->line);
	return rc;
}

/* --- following --------------------------------------------------------------------------------------- */

static bool lives(struct reader *r)
{
	struct live live;

	return live_read(r->engine, r->id, &live) == 0 && live.phase != LIVE_ENDED;
}

/* Opens the file that has taken the place of *fd, if one has. */
static void follow_rotation(struct reader *r, int *fd)
{
	own_fd int next = open_log(r, 0);
	struct stat now, then;

	if (next < 0 || fstat(next, &now) < 0)
		return;
	if (*fd >= 0 && fstat(*fd, &then) == 0 && now.st_ino == then.st_ino)
		return;
	fd_close(fd);
	*fd = take(next);
}

static int follow(struct reader *r, int *fd, struct error *err)
{
	own_fd int notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	own_mem char *path = str_format("%s/%s", r->engine->root, workload_dir(r->id).path);
	int rc = 0;

	if (notify < 0 || inotify_add_watch(notify, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0)
		return fail(err, -errno, "watch the log");
	while (rc == 0) {
		const bool alive = lives(r);
		struct pollfd poll_fd = {.fd = notify, .events = POLLIN};
		char events[4096];

		if (*fd >= 0)
			rc = read_on(r, *fd, err);
		follow_rotation(r, fd);
		if (rc == 0 && *fd >= 0)
			rc = read_on(r, *fd, err);
		/* Looked at before reading: nothing can have been added since. */
		if (rc != 0 || !alive)
			break;
		if (r->options->until_ns != 0 && clock_now_ns() > r->options->until_ns)
			break;
		if (poll(&poll_fd, 1, FOLLOW_POLL_MS) > 0 &&
		    read(notify, events, sizeof(events)) < 0 && errno != EAGAIN)
			rc = fail(err, -errno, "watch the log");
	}
	return rc;
}

int workload_read_logs(struct engine *engine, const char *ref, const struct workload_logs *options,
		       workload_output_fn *fn, void *data, struct error *err)
{
	own_workload struct workload w = {0};
	own_fd int dir = -1, fd = -1;
	struct reader r = {.engine = engine, .options = options, .fn = fn, .data = data};
	int rc = workload_find(engine, ref, &w, err);

	if (rc < 0)
		return rc;
	if (w.config.log == WORKLOAD_LOG_NONE)
		return refuse(err, -ENOTSUP,
			      "\"%s\" keeps no log: it was created with "
			      "--log-driver none",
			      ref);
	strcpy(r.id, w.id);
	dir = r.dir_fd =
		openat(engine->root_fd, workload_dir(w.id).path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return fail(err, -errno, "open the log of \"%s\"", ref);
	if (options->tail >= 0)
		rc = count_lines(&r, err);
	if (rc == 0)
		rc = read_files(&r, &fd, err);
	if (rc == 0 && (options->flags & WORKLOAD_LOGS_FOLLOW))
		rc = follow(&r, &fd, err);
	buf_release(&r.line);
	return rc;
}
