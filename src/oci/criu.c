/* criu: see criu.h. */
#include "oci/criu.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/sock.h"
#include "oci/protobuf.h"
#include "oci/sync.h"

enum {
	ANSWER_MAX = 65536,
	LOG_MAX = 64 << 20,
	FIRST_FD = 4,   /* in CRIU's process: behind standard input and output and the socket; */
	REPORT_FD = 64, /* above all that are passed on, */
	SPARE_FD = 65,  /* and where they are kept meanwhile */
};

/* The fields of criu_req and criu_resp. */
enum {
	REQUEST_TYPE = 1,
	REQUEST_OPTIONS = 2,
	REQUEST_NOTIFY_SUCCESS = 3,
	REQUEST_FEATURES = 5,
	ANSWER_TYPE = 1,
	ANSWER_SUCCESS = 2,
	ANSWER_RESTORE = 4,
	ANSWER_NOTIFY = 5,
	ANSWER_ERRNO = 7,
	ANSWER_FEATURES = 8,
	ANSWER_MESSAGE = 9,
};

struct answer {
	int64_t type, success, error_number;
	pid_t pid; /* of a restored process, or of a point that was reached */
	char *point, *message;
	bool features[3]; /* by enum criu_feature */
};

static void answer_release(struct answer *a)
{
	free(a->point);
	free(a->message);
}

void criu_request_release(struct criu_request *r)
{
	buf_release(&r->options);
}

int criu_pass_fd(struct criu_request *r, int fd)
{
	assert(r->fd_count < CRIU_FDS_MAX);
	r->fds[r->fd_count] = fd;
	return FIRST_FD + (int)r->fd_count++;
}

void criu_inherit_fd(struct criu_request *r, const char *key, int fd)
{
	own_buf struct buf inherited = {0};

	protobuf_add_string(&inherited, 1, key);
	protobuf_add_number(&inherited, 2, criu_pass_fd(r, fd));
	protobuf_add_bytes(&r->options, CRIU_INHERIT_FD, inherited.data, inherited.len);
}

void criu_external(struct criu_request *r, const char *fmt, ...)
{
	own_mem char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = str_format_va(fmt, ap);
	va_end(ap);
	protobuf_add_string(&r->options, CRIU_EXTERNAL, text);
}

/* --- the program -------------------------------------------------------------------------------- */

static char *find_criu(void)
{
	const char *path = getenv("PATH");
	own_strv char **dirs = strv_split(str_empty(path) ? "/usr/sbin:/usr/bin" : path, ':');

	for (size_t i = 0; dirs[i] != NULL; i++) {
		own_mem char *file = str_format("%s/criu", dirs[i]);

		if (dirs[i][0] == '/' && access(file, X_OK) == 0)
			return take(file);
	}
	return NULL;
}

static int place_descriptors(const struct criu_request *r, int sock, int report)
{
	int high[CRIU_FDS_MAX + 4];
	size_t n = 0;

	/* First out of the way, so that none is overwritten before it is copied. */
	for (int i = 0; i < 3; i++)
		high[n++] = r->stdio[i];
	high[n++] = sock;
	for (size_t i = 0; i < r->fd_count; i++)
		high[n++] = r->fds[i];
	for (size_t i = 0; i < n; i++) {
		high[i] = fcntl(high[i], F_DUPFD_CLOEXEC, SPARE_FD);
		if (high[i] < 0)
			return -errno;
	}
	if (dup3(report, REPORT_FD, O_CLOEXEC) < 0)
		return -errno;
	for (size_t i = 0; i < n; i++)
		if (dup2(high[i], (int)i) < 0)
			return -errno;
	return close_range((unsigned int)n, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

/* The steps up to the execution. The conversation's socket is made here: descriptors in a request are
 * looked up in the process that made it, and ours may be of another mount namespace. */
static int prepare_process(const struct criu_request *r, int report, struct error *err)
{
	int socks[2], rc = r->prepare != NULL ? r->prepare(r->data, err) : 0;

	if (rc < 0)
		return rc;
	rc = sock_pair(SOCK_SEQPACKET, socks);
	if (rc == 0)
		rc = sync_send(report, SYNC_GO, socks[0]);
	if (rc == 0)
		rc = place_descriptors(r, socks[1], report);
	return rc < 0 ? fail(err, rc, "pass descriptors to CRIU") : 0;
}

/* The new process: it has no threads and memory of its own, so it may do anything. */
static _Noreturn void become_criu(const struct criu_request *r, const char *path, int report)
{
	char *const argv[] = {(char *)"criu", (char *)"swrk", (char *)"3", NULL};
	struct error err = {0};
	sigset_t none;
	int rc;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* If we are killed it is to notice and to let the container go on, not to die in between. */
	signal(SIGPIPE, SIG_IGN);
	rc = prepare_process(r, report, &err);
	if (rc == 0) {
		execv(path, argv);
		fail(&err, -errno, "execute %s", path);
		report = REPORT_FD;
	}
	sync_send_error(report, &err);
	_exit(1);
}

/* The process says with a descriptor that it is about to become CRIU, and with its end that it is. */
static int await_criu(int report, int *ret_sock, struct error *err)
{
	own_fd int sock = -1;
	int rc = sync_receive(report, &sock, err);

	if (rc == SYNC_GO)
		rc = sync_receive(report, NULL, err);
	if (rc > 0 || (rc == SYNC_END && sock < 0))
		rc = refuse(err, -ECHILD, "CRIU ended before it began");
	if (rc == SYNC_END)
		*ret_sock = take(sock);
	return rc;
}

static int start_criu(const struct criu_request *r, int *ret_sock, pid_t *ret_pid, int *ret_pidfd,
		      struct error *err)
{
	own_mem char *path = r->program ? str_copy(r->program) : find_criu();
	own_fd int ours = -1, theirs = -1, pidfd = -1;
	int socks[2], rc;
	pid_t pid;

	if (path == NULL)
		return hint(err,
			    refuse(err, -ENOENT,
				   "checkpoint and restore are done by CRIU, and there is no "
				   "program \"criu\" on PATH"),
			    "install the package criu");
	rc = sock_pair(SOCK_SEQPACKET, socks);
	if (rc < 0)
		return fail(err, rc, "create a socket pair");
	ours = socks[0];
	theirs = socks[1];
	pid = fork();
	if (pid < 0)
		return fail(err, -errno, "start CRIU");
	if (pid == 0)
		become_criu(r, path, theirs);
	fd_close(&theirs);
	pidfd = proc_open(pid);
	rc = pidfd < 0 ? fail(err, pidfd, "open process %d", (int)pid)
		       : await_criu(ours, ret_sock, err);
	if (rc < 0) {
		if (pidfd >= 0)
			(void)!proc_wait(pidfd, NULL);
		return rc;
	}
	*ret_pid = pid;
	*ret_pidfd = take(pidfd);
	return 0;
}

/* --- messages ----------------------------------------------------------------------------------- */

static int send_message(int sock, const struct buf *message, struct error *err)
{
	int rc = sock_send_fds(sock, message->data, message->len, NULL, 0);

	return rc < 0 ? fail(err, rc, "talk to CRIU") : 0;
}

static int send_request(int sock, const struct criu_request *r, struct error *err)
{
	own_buf struct buf message = {0};

	protobuf_add_number(&message, REQUEST_TYPE, r->type);
	protobuf_add_bytes(&message,
			   r->type == CRIU_FEATURE_CHECK ? REQUEST_FEATURES : REQUEST_OPTIONS,
			   r->options.data, r->options.len);
	return send_message(sock, &message, err);
}

static int parse_part(struct answer *a, const struct protobuf_field *whole)
{
	struct protobuf_reader r = {.data = whole->data, .len = whole->len};
	struct protobuf_field f;
	int rc;

	while ((rc = protobuf_next(&r, &f)) > 0) {
		if (whole->number == ANSWER_RESTORE && f.number == 1)
			a->pid = (pid_t)f.value;
		if (whole->number == ANSWER_FEATURES && f.number < array_size(a->features))
			a->features[f.number] = f.value != 0;
		if (whole->number != ANSWER_NOTIFY)
			continue;
		if (f.number == 1 && f.data != NULL && a->point == NULL)
			a->point = str_copy_n(f.data, f.len);
		if (f.number == 2)
			a->pid = (pid_t)f.value;
	}
	return rc;
}

static int parse_answer(const void *data, size_t len, struct answer *a)
{
	struct protobuf_reader r = {.data = data, .len = len};
	struct protobuf_field f;
	int rc;

	while ((rc = protobuf_next(&r, &f)) > 0) {
		if (f.number == ANSWER_TYPE)
			a->type = f.value;
		else if (f.number == ANSWER_SUCCESS)
			a->success = f.value;
		else if (f.number == ANSWER_ERRNO)
			a->error_number = f.value;
		else if (f.number == ANSWER_MESSAGE && f.data != NULL && a->message == NULL)
			a->message = str_copy_n(f.data, f.len);
		else if (f.data != NULL && (rc = parse_part(a, &f)) < 0)
			return rc;
	}
	return rc;
}

static int receive_answer(int sock, struct answer *ret, int *ret_fd, struct error *err)
{
	own_mem char *data = mem_new(ANSWER_MAX);
	size_t count = 0;
	ssize_t n = sock_receive_fds(sock, data, ANSWER_MAX, ret_fd, 1, &count);
	int rc;

	if (n < 0 && n != -ECONNRESET)
		return fail(err, (int)n, "talk to CRIU");
	if (n <= 0)
		return refuse(err, -EIO, "CRIU ended without an answer");
	rc = parse_answer(data, (size_t)n, ret);
	return rc < 0 ? fail(err, rc, "understand CRIU") : 0;
}

/* The errors that made CRIU give up, from its log: its answer has hardly ever a reason. The last one is
 * where it noticed, the one before mostly why; those after it gave up are consequences. */
static char *last_errors(const char *log_path)
{
	own_mem char *text = NULL, *one = NULL;
	const char *before = NULL, *last = NULL;
	size_t len;

	if (log_path == NULL || file_read(AT_FDCWD, log_path, LOG_MAX, &text, &len, NULL) < 0)
		return NULL;
	for (const char *p = text; (p = strstr(p, "Error (")) != NULL; p++) {
		const char *given_up = strstr(p, "FAILED");

		if (last != NULL && given_up != NULL && given_up < p + strcspn(p, "\n"))
			break;
		before = last;
		last = p;
	}
	if (last == NULL)
		return NULL;
	one = str_copy_n(last, strcspn(last, "\n"));
	return before ? str_format("%.*s; %s", (int)strcspn(before, "\n"), before, one) : take(one);
}

static int report_failure(const struct criu_request *r, const struct answer *a, struct error *err)
{
	own_mem char *reason = last_errors(r->log_path);
	int rc = -EIO;

	if (reason != NULL)
		refuse(err, rc, "criu failed: %s", reason);
	else if (!str_empty(a->message))
		refuse(err, rc, "criu failed: %s", a->message);
	else if (a->error_number > 0)
		rc = refuse(err, -(int)a->error_number, "criu failed: %s",
			    strerror((int)a->error_number));
	else
		refuse(err, rc, "criu failed");
	return r->log_path ? hint(err, rc, "its log is %s", r->log_path) : rc;
}

static int tell_reached(int sock, const struct criu_request *r, const struct answer *a, int fd,
			struct error *err)
{
	own_buf struct buf message = {0};
	int rc = 0, sent;

	log_debug("CRIU: %s", a->point ? a->point : "");
	if (r->reached != NULL && a->point != NULL)
		rc = r->reached(a->point, a->pid, fd, r->data, err);
	protobuf_add_number(&message, REQUEST_TYPE, CRIU_NOTIFY);
	protobuf_add_number(&message, REQUEST_NOTIFY_SUCCESS, rc == 0);
	sent = send_message(sock, &message, rc == 0 ? err : NULL);
	return rc < 0 ? rc : sent;
}

static int converse(int sock, const struct criu_request *r, struct answer *ret, struct error *err)
{
	struct error first = {0};
	int rc;

	for (;;) {
		__attribute__((cleanup(answer_release))) struct answer a = {0};
		own_fd int fd = -1;

		rc = receive_answer(sock, &a, &fd, first.code ? NULL : err);
		/* What went wrong on our side made CRIU give up, and is the reason. */
		if (first.code != 0 && (rc < 0 || a.type != CRIU_NOTIFY)) {
			if (err != NULL)
				*err = first;
			return first.code;
		}
		if (rc < 0)
			return rc;
		if (a.type == CRIU_NOTIFY) {
			if (tell_reached(sock, r, &a, fd, first.code ? NULL : &first) < 0 &&
			    first.code == 0)
				first.code = -EIO;
			continue;
		}
		if (!a.success)
			return report_failure(r, &a, err);
		*ret = a;
		ret->point = ret->message = NULL;
		return 0;
	}
}

int criu_perform(struct criu_request *r, pid_t *ret_pid, struct error *err)
{
	own_fd int sock = -1, pidfd = -1;
	struct answer a = {0};
	pid_t pid;
	int rc = start_criu(r, &sock, &pid, &pidfd, err);

	if (rc < 0)
		return rc;
	if (r->started != NULL)
		rc = r->started(r, pid, r->data, err);
	if (rc == 0)
		rc = send_request(sock, r, err);
	if (rc == 0)
		rc = converse(sock, r, &a, err);
	fd_close(&sock);
	/* It ends with the conversation. One that serves memory pages goes on until they are gone. */
	if (pidfd >= 0 && proc_wait(pidfd, NULL) < 0)
		log_debug("CRIU cannot be waited for");
	if (rc == 0 && ret_pid != NULL)
		*ret_pid = a.pid;
	return rc;
}

int criu_can(const char *program, enum criu_feature feature, struct error *err)
{
	/* What it says besides is no answer. */
	own_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	own_criu_request struct criu_request r = {
		.type = CRIU_FEATURE_CHECK, .stdio = {null, null, null}, .program = program};
	own_fd int sock = -1, pidfd = -1;
	struct answer a = {0};
	pid_t pid;
	int rc = null < 0 ? fail(err, -errno, "open /dev/null")
			  : start_criu(&r, &sock, &pid, &pidfd, err);

	if (rc < 0)
		return rc;
	protobuf_add_number(&r.options, feature, 1);
	rc = send_request(sock, &r, err);
	if (rc == 0)
		rc = converse(sock, &r, &a, err);
	fd_close(&sock);
	if (pidfd >= 0 && proc_wait(pidfd, NULL) < 0)
		log_debug("CRIU cannot be waited for");
	return rc < 0 ? rc : a.features[feature];
}

bool criu_works(void)
{
	struct error err = {0};
	const int rc = criu_can(NULL, CRIU_MEMORY_TRACKING, &err);

	if (rc < 0)
		log_debug("no checkpoints: %s", err.text);
	return rc >= 0;
}
