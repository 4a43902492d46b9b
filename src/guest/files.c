/*
 * files: the workload's files as tars, and back (protocol.h, "files"). Trees may be large and the other
 * side slow, so each request is a process of its own, which has the connection to itself; it ends with it,
 * and with the workload.
 *
 * It sees what the workload's first process sees, mounts and all; if that has not been started it sees
 * what the workload would start with.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"
#include "guest/agent.h"
#include "guest/chunk.h"
#include "tar/extract.h"
#include "tar/pack.h"
#include "tar/path.h"

enum { WORKERS_MAX = 16, PATH_LIMIT = 4096 };

struct worker {
	struct worker *next;
	pid_t pid;
};

/* What is to be done. */
struct task {
	int fd; /* the connection */
	int root_fd;
	const char *verb;
	char *path, *as; /* bytes, not text */
	char **stubs;
	bool names, archive;
	char *chunk;
};

static void task_release(struct task *t)
{
	fd_close(&t->fd);
	fd_close(&t->root_fd);
	free(t->path);
	free(t->as);
	strv_free(t->stubs);
	free(t->chunk);
}
#define own_task __attribute__((cleanup(task_release)))

/* --- in the worker ----------------------------------------------------------------------------------- */

static int send_bytes(const void *data, size_t len, void *context, struct error *err)
{
	const struct task *t = context;
	int rc = chunk_send(t->fd, data, len);

	return rc < 0 ? fail(err, rc, "send the files") : 0;
}

static int send_changes(struct task *t, struct error *err)
{
	const struct pack_options options = {.kind = PACK_OVERLAY,
					     .flags = t->names ? PACK_NAMES : 0,
					     .stubs = (const char *const *)t->stubs};

	return pack_tree(t->root_fd, &options, send_bytes, t, err);
}

static int send_tree(struct task *t, struct error *err)
{
	const struct pack_options options = {.kind = PACK_PLAIN};

	return pack_tree(t->root_fd, &options, send_bytes, t, err);
}

static int send_path(struct task *t, struct error *err)
{
	return tar_path_pack(t->root_fd, t->path, t->as, send_bytes, t, err);
}

static int take_path(struct task *t, struct error *err)
{
	const struct extract_options options = {
		.root_fd = t->root_fd,
		.dir = t->path,
		.flags = EXTRACT_FOLLOW | (t->archive ? EXTRACT_OWNERS | EXTRACT_SPECIAL : 0),
	};
	own_extract struct extract *x = NULL;
	own_json json_t *go = json_object();
	ssize_t n = 0;
	int rc = extract_begin(&options, &x, err);

	if (rc < 0)
		return rc;
	rc = frame_send(t->fd, go);
	if (rc < 0)
		return fail(err, rc, "ask for the files");
	t->chunk = mem_new(CHUNK_MAX);
	while (rc == 0 && (n = chunk_receive(t->fd, t->chunk)) > 0)
		rc = extract_add(x, t->chunk, (size_t)n, err);
	if (n < 0)
		return fail(err, (int)n, "receive the files");
	return rc < 0 ? rc : extract_finish(x, err);
}

static void set_hex(json_t *o, const char *key, const char *bytes)
{
	size_t len = strlen(bytes);
	own_mem char *text = mem_new(2 * len + 1);

	hex_format(bytes, len, text);
	json_set_string(o, key, text);
}

static int look(const struct task *t, json_t *answer, struct error *err)
{
	struct tar_path found;
	int rc = tar_path_stat(t->root_fd, t->path, &found, err);

	if (rc < 0)
		return rc;
	json_object_set_new(answer, "mode", json_integer(found.mode));
	json_object_set_new(answer, "size", json_integer((json_int_t)found.size_bytes));
	json_object_set_new(answer, "mtime_ns", json_integer(found.mtime_ns));
	if (found.target != NULL)
		set_hex(answer, "target", found.target);
	free(found.target);
	return 0;
}

static int carry_out(struct task *t, json_t *answer, struct error *err)
{
	if (str_eq(t->verb, "stat"))
		return look(t, answer, err);
	if (str_eq(t->verb, "changes"))
		return send_changes(t, err);
	if (str_eq(t->verb, "tree"))
		return send_tree(t, err);
	return str_eq(t->verb, "read") ? send_path(t, err) : take_path(t, err);
}

/* Everything else belongs to the agent: a copy of a connection would keep it open. */
static void keep_only(int a, int b)
{
	const int low = a < b ? a : b, high = a < b ? b : a;

	if (low > 3)
		syscall(SYS_close_range, 3, low - 1, 0);
	if (high > low + 1)
		syscall(SYS_close_range, low + 1, high - 1, 0);
	syscall(SYS_close_range, high + 1, ~0U, 0);
}

/* An answer that came while the other side was still sending would be lost with what is unread. */
static void drain(const struct task *t)
{
	char data[4096];

	if (shutdown(t->fd, SHUT_WR) < 0)
		return;
	while (recv(t->fd, data, sizeof(data), 0) > 0)
		;
}

static _Noreturn void work(struct task *t)
{
	own_json json_t *answer = json_object();
	struct error why = {0};
	sigset_t none;
	int rc;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	keep_only(t->fd, t->root_fd);
	if (fcntl(t->fd, F_SETFL, 0) < 0)
		_exit(1);
	rc = carry_out(t, answer, &why);
	if (rc < 0) {
		if (why.text[0] == '\0')
			fail(&why, rc, "%s the files", t->verb);
		json_object_set_new(answer, "error", frame_error(&why));
	}
	if (!str_eq(t->verb, "stat") && !str_eq(t->verb, "write") && chunk_end(t->fd) < 0)
		_exit(1);
	if (frame_send(t->fd, answer) < 0)
		_exit(1);
	drain(t);
	_exit(0);
}

/* --- in the agent ------------------------------------------------------------------------------------ */

static int get_bytes(const struct json_at *request, const char *key, char **ret, struct error *err)
{
	const char *text = NULL;
	size_t len;
	int rc = json_get_string(request, key, JSON_OPTIONAL, &text, err);

	if (rc <= 0)
		return rc;
	len = strlen(text) / 2;
	if (len > PATH_LIMIT)
		return refuse(err, -ENAMETOOLONG, "the path is too long");
	*ret = mem_new(len + 1);
	return strlen(text) % 2 || hex_parse(text, len, *ret) < 0
		       ? refuse(err, -EINVAL, "\"%s\" is not hexadecimal", key)
		       : 0;
}

static int open_root(struct agent *agent, const char *verb, struct error *err)
{
	own_mem char *upper = str_format("%s/disk/upper", agent->directory);
	int fd;

	if (!agent->prepared || agent->root_fd < 0)
		return refuse(err, -ESRCH, "container not running");
	if (str_eq(verb, "changes"))
		fd = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	else if (str_eq(verb, "tree"))
		fd = fcntl(agent->root_fd, F_DUPFD_CLOEXEC, 0);
	else
		return process_open_root(agent, err);
	return fd < 0 ? fail(err, -errno, "open the root directory") : fd;
}

static int read_task(struct agent *agent, const struct json_at *request, struct task *t,
		     struct error *err)
{
	static const char *const verbs[] = {"stat", "changes", "tree", "read", "write"};
	bool known = false;
	int rc = json_get_string(request, "verb", JSON_REQUIRED, &t->verb, err);

	for (size_t i = 0; rc > 0 && i < array_size(verbs); i++)
		known = known || str_eq(t->verb, verbs[i]);
	if (rc > 0 && !known)
		rc = refuse(err, -EINVAL, "there is no verb \"%s\"", t->verb);
	if (rc >= 0)
		rc = get_bytes(request, "path", &t->path, err);
	if (rc >= 0)
		rc = get_bytes(request, "as", &t->as, err);
	if (rc >= 0)
		rc = json_get_strv(request, "stubs", JSON_OPTIONAL, &t->stubs, err);
	if (rc >= 0)
		rc = json_get_bool(request, "names", JSON_OPTIONAL, &t->names, err);
	if (rc >= 0)
		rc = json_get_bool(request, "archive", JSON_OPTIONAL, &t->archive, err);
	if (rc >= 0 && t->path == NULL)
		t->path = str_copy("/");
	if (rc >= 0 && t->as == NULL)
		t->as = str_copy(".");
	if (rc >= 0)
		rc = t->root_fd = open_root(agent, t->verb, err);
	return rc < 0 ? rc : 0;
}

int files_start(struct agent *agent, struct connection *from, const struct json_at *request,
		struct error *err)
{
	own_task struct task task = {.fd = -1, .root_fd = -1};
	unsigned int count = 0;
	struct worker *worker;
	int rc = read_task(agent, request, &task, err);
	pid_t pid;

	for (worker = agent->workers; worker != NULL; worker = worker->next)
		count++;
	if (rc == 0 && count >= WORKERS_MAX)
		rc = refuse(err, -EAGAIN, "too many requests for files at once");
	if (rc < 0)
		return rc;
	task.fd = fcntl(connection_fd(from), F_DUPFD_CLOEXEC, 0);
	pid = task.fd < 0 ? -1 : fork();
	if (pid < 0)
		return fail(err, -errno, "start a process");
	if (pid == 0)
		work(&task);
	connection_close(from);
	worker = mem_new(sizeof(*worker));
	*worker = (struct worker){.next = agent->workers, .pid = pid};
	agent->workers = worker;
	return 0;
}

void files_reaped(struct agent *agent, pid_t pid)
{
	struct worker **at = &agent->workers, *worker;

	while ((worker = *at) != NULL && worker->pid != pid)
		at = &worker->next;
	if (worker == NULL)
		return;
	*at = worker->next;
	free(worker);
}

void files_end(struct agent *agent)
{
	while (agent->workers != NULL) {
		const pid_t pid = agent->workers->pid;

		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		files_reaped(agent, pid);
	}
}
