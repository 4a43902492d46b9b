/* vm_files: see vm_files.h. */
#include "engine/vm_files.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/container_files.h"
#include "engine/overlay.h"
#include "engine/vm_attend.h"
#include "guest/chunk.h"
#include "tar/pack.h"
#include "tar/tar.h"

enum { SILENCE_S = 60, FINISH_MS = 180000, PATH_LIMIT = 4096 };

/* --- a machine for one that does not run ---------------------------------------------------------------- */

struct session {
	struct engine *engine;
	const struct workload *workload;
	struct plan plan;
	struct attendant *machine; /* NULL: its own */
	int awake;                 /* keeps one that runs from being paused */
	int fd;                    /* the connection that carries the files */
};

static int start_machine(struct session *s, struct error *err)
{
	own_json json_t *plan = NULL;
	struct attendant *a;
	int rc = vm_prepare_files(s->engine, s->workload, &s->plan, err);

	if (rc == 0)
		rc = json_parse(s->plan.text, strlen(s->plan.text), "plan", &plan, err);
	if (rc < 0)
		return rc;
	a = s->machine = attendant_new(s->workload->id);
	a->state_fd = open(s->engine->state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	rc = a->state_fd < 0 ? fail(err, -errno, "open %s", s->engine->state)
			     : attendant_spawn(a, plan, err);
	if (rc == 0)
		rc = attendant_await_agent(a, err);
	return rc < 0 ? rc : attendant_prepare(a, json_object_get(plan, "prepare"), err);
}

/* Also after a failed start. */
static int end_machine(struct session *s, bool in_order, struct error *err)
{
	struct attendant *a = s->machine;
	own_json json_t *finish = json_object();
	int rc = 0, state_fd;

	if (a == NULL)
		return 0;
	json_set_string(finish, "do", "finish");
	if (in_order)
		rc = attendant_ask(a, finish, FINISH_MS, err);
	attendant_end_machine(a);
	state_fd = a->state_fd;
	attendant_free(a);
	s->machine = NULL;
	fd_close(&state_fd);
	if (isolation_vm.destroy(s->engine, s->workload->id, rc < 0 ? NULL : err) < 0 && rc == 0)
		rc = -EIO;
	return rc;
}

static void session_release(struct session *s)
{
	fd_close(&s->fd);
	fd_close(&s->awake);
	/* Something has failed already, and what is left is tidied up by the next command. */
	if (end_machine(s, false, NULL) < 0)
		s->machine = NULL;
	if (overlay_unlock(s->engine, s->plan.locks, s->plan.lock_count, NULL) < 0)
		s->fd = -1;
	plan_release(&s->plan);
}
#define own_session __attribute__((cleanup(session_release)))

/* --- a request ------------------------------------------------------------------------------------------ */

static json_t *request(const char *verb)
{
	json_t *o = json_object();

	json_set_string(o, "do", "files");
	json_set_string(o, "verb", verb);
	return o;
}

static int set_bytes(json_t *o, const char *key, const char *bytes, struct error *err)
{
	size_t len = strlen(bytes);
	own_mem char *text = NULL;

	if (len > PATH_LIMIT)
		return refuse(err, -ENAMETOOLONG, "the path is too long");
	text = mem_new(2 * len + 1);
	hex_format(bytes, len, text);
	json_set_string(o, key, text);
	return 0;
}

/* Connects, starting a machine if there is none, and sends the request, which is consumed. */
static int begin(struct session *s, json_t *message, struct error *err)
{
	const struct timeval patience = {.tv_sec = SILENCE_S};
	own_json json_t *owned = message;
	int rc = 0;

	if (s->workload->pid > 0)
		s->awake = vm_wake(s->engine, s->workload->id);
	else
		rc = start_machine(s, err);

	if (rc == 0)
		rc = s->fd = vm_agent_connect(s->engine, s->workload->id, err);
	if (rc < 0)
		return rc;
	if (fcntl(s->fd, F_SETFL, 0) < 0 ||
	    setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return fail(err, -errno, "talk with the virtual machine");
	rc = frame_send(s->fd, owned);
	return rc < 0 ? fail(err, rc, "talk with the virtual machine") : 0;
}

static int lost(int rc, struct error *err)
{
	if (rc == -ETIMEDOUT)
		return refuse(err, rc, "its virtual machine does not answer");
	if (rc == -EPIPE)
		return refuse(err, rc, "its virtual machine has ended");
	return fail(err, rc, "talk with the virtual machine");
}

static int take_message(struct session *s, json_t **ret_answer, struct error *err)
{
	own_json json_t *answer = NULL;
	struct frame_in in = {.stop_after = true};
	int rc = frame_receive(&in, s->fd, &answer);

	frame_in_release(&in);
	if (rc <= 0)
		return lost(rc == 0 ? -ETIMEDOUT : rc, err);
	rc = frame_get_error(answer, err);
	if (rc < 0)
		return rc;
	if (ret_answer != NULL)
		*ret_answer = json_incref(answer);
	return 0;
}

/* The last message: what has come of it. */
static int finish(struct session *s, json_t **ret_answer, struct error *err)
{
	int rc = take_message(s, ret_answer, err);

	fd_close(&s->fd);
	return rc < 0 ? rc : end_machine(s, true, err);
}

/* --- tars that are received ----------------------------------------------------------------------------- */

/* Lets nothing through that was not asked for. */
struct customs {
	struct tar_sink sink;
	struct tar_reader *reader;
	const char *as; /* NULL: any name will do */
};

static bool is_within(const char *path, const char *as)
{
	const char *rest = str_after(path, as);

	return rest != NULL && (rest[0] == '\0' || rest[0] == '/');
}

static int on_entry(struct tar_sink *sink, const struct tar_entry *e, struct error *err)
{
	const struct customs *c = container_of(sink, struct customs, sink);

	if (!is_within(e->path, c->as))
		return refuse(err, -EPROTO, "its virtual machine sent %.200s, not %.200s", e->path,
			      c->as);
	if (e->type == TAR_HARD_LINK && !is_within(e->link, c->as))
		return refuse(err, -EPROTO, "its virtual machine sent a link to %.200s", e->link);
	return 0;
}

static const struct tar_sink_ops customs_ops = {.entry = on_entry};

static int receive_all(struct session *s, struct customs *c, workload_bytes_fn *out, void *context,
		       struct error *err)
{
	own_mem char *chunk = mem_new(CHUNK_MAX);
	ssize_t n;
	int rc = 0;

	while (rc == 0 && (n = chunk_receive(s->fd, chunk)) != 0) {
		if (n < 0)
			return lost((int)n, err);
		if (c->reader != NULL)
			rc = tar_reader_add(c->reader, chunk, (size_t)n, err);
		if (rc == 0)
			rc = out(chunk, (size_t)n, context, err);
	}
	return rc < 0 ? rc : finish(s, NULL, err);
}

static int receive(struct session *s, const char *as, workload_bytes_fn *out, void *context,
		   struct error *err)
{
	struct customs customs = {.sink.ops = &customs_ops, .as = as};
	int rc;

	if (as != NULL)
		customs.reader = tar_reader_create(&customs.sink);
	rc = receive_all(s, &customs, out, context, err);
	if (customs.reader != NULL)
		tar_reader_destroy(customs.reader);
	return rc;
}

/* --- the hooks ------------------------------------------------------------------------------------------ */

#define SESSION(e, w)                                                                              \
	((struct session){                                                                         \
		.engine = (e), .workload = (w), .plan = PLAN_EMPTY, .awake = -1, .fd = -1})

/* One that has never been started, or writes to memory. */
static bool has_disk(struct engine *engine, const struct workload *w)
{
	own_mem char *path = str_format("%s/" VM_DISK_NAME, workload_dir(w->id).path);

	return !(w->config.flags & WORKLOAD_READ_ONLY) &&
	       faccessat(engine->root_fd, path, F_OK, 0) == 0;
}

int vm_read_changes(struct engine *engine, const struct workload *workload, unsigned int flags,
		    workload_bytes_fn *out, void *context, struct error *err)
{
	static const char nothing[1024]; /* the end of a tar */
	own_session struct session s = SESSION(engine, workload);
	json_t *o, *stubs;
	int rc;

	if (workload->pid <= 0 && !has_disk(engine, workload))
		return out(nothing, sizeof(nothing), context, err);
	o = request("changes");
	stubs = json_array();
	for (size_t i = 0; container_stubs[i] != NULL; i++)
		json_array_append_new(stubs, json_string(container_stubs[i]));
	json_object_set_new(o, "stubs", stubs);
	json_object_set_new(o, "names", json_boolean(flags & PACK_NAMES));
	rc = begin(&s, o, err);
	return rc < 0 ? rc : receive(&s, NULL, out, context, err);
}

int vm_read_tree(struct engine *engine, const struct workload *workload, workload_bytes_fn *out,
		 void *context, struct error *err)
{
	own_session struct session s = SESSION(engine, workload);
	int rc = begin(&s, request("tree"), err);

	return rc < 0 ? rc : receive(&s, NULL, out, context, err);
}

/* As for a container: what is mounted is only there while it runs. */
static int check_path(const struct workload *w, const char *path, struct error *err)
{
	return w->pid > 0 ? 0 : container_check_mounts(w, path, err);
}

static int begin_path(struct session *s, const char *verb, const char *path, json_t *more,
		      struct error *err)
{
	json_t *o = request(verb);
	int rc = check_path(s->workload, path, err);

	if (rc == 0 && path[0] != '/')
		rc = refuse(err, -EINVAL, "\"%s\" is not an absolute path", path);
	if (rc == 0)
		rc = set_bytes(o, "path", path, err);
	json_object_update(o, more);
	json_decref(more);
	if (rc == 0)
		return begin(s, o, err);
	json_decref(o);
	return rc;
}

static char *bytes_of(const char *text)
{
	size_t len = text ? strlen(text) / 2 : 0;
	char *bytes = mem_new(len + 1);

	if (text == NULL || len > PATH_LIMIT || strlen(text) % 2 ||
	    hex_parse(text, len, bytes) < 0) {
		free(bytes);
		return NULL;
	}
	return bytes;
}

int vm_stat_path(struct engine *engine, const struct workload *workload, const char *path,
		 struct workload_path *ret, struct error *err)
{
	own_session struct session s = SESSION(engine, workload);
	own_json json_t *answer = NULL;
	int rc = begin_path(&s, "stat", path, json_object(), err);

	if (rc == 0)
		rc = finish(&s, &answer, err);
	if (rc < 0)
		return rc;
	*ret = (struct workload_path){
		.mode = (uint32_t)json_integer_value(json_object_get(answer, "mode")),
		.size_bytes = (uint64_t)json_integer_value(json_object_get(answer, "size")),
		.mtime_ns = json_integer_value(json_object_get(answer, "mtime_ns")),
		.target = bytes_of(json_string_value(json_object_get(answer, "target"))),
	};
	return 0;
}

int vm_read_path(struct engine *engine, const struct workload *workload, const char *path,
		 const char *as, workload_bytes_fn *out, void *context, struct error *err)
{
	own_session struct session s = SESSION(engine, workload);
	json_t *more = json_object();
	int rc = set_bytes(more, "as", as, err);

	if (rc < 0) {
		json_decref(more);
		return rc;
	}
	rc = begin_path(&s, "read", path, more, err);
	return rc < 0 ? rc : receive(&s, str_eq(as, ".") ? NULL : as, out, context, err);
}

/* --- a tar that is sent --------------------------------------------------------------------------------- */

/* The agent says early what is wrong: then the rest is not wanted. */
static int early_answer(struct session *s, struct error *err)
{
	int rc = finish(s, NULL, err);

	return rc < 0 ? rc : refuse(err, -EPROTO, "its virtual machine did not take all files");
}

static int send_piece(const void *data, size_t len, void *context, struct error *err)
{
	struct session *s = context;
	struct pollfd answer = {.fd = s->fd, .events = POLLIN};
	int rc = 0;

	if (poll(&answer, 1, 0) > 0)
		return early_answer(s, err);
	rc = chunk_send(s->fd, data, len);
	if (rc == -EPIPE)
		rc = early_answer(s, err);
	else if (rc < 0)
		rc = lost(rc, err);
	return rc;
}

int vm_write_path(struct engine *engine, const struct workload *workload, const char *dir,
		  unsigned int flags, workload_produce_fn *produce, void *context,
		  struct error *err)
{
	own_session struct session s = SESSION(engine, workload);
	json_t *more = json_object();
	int rc;

	json_object_set_new(more, "archive", json_boolean(flags & WORKLOAD_PUT_ARCHIVE));
	if ((workload->config.flags & WORKLOAD_READ_ONLY) != 0 && workload->pid <= 0) {
		json_decref(more);
		return refuse(err, -EROFS, "the container's root file system is read-only");
	}
	rc = begin_path(&s, "write", dir, more, err);
	if (rc == 0)
		rc = take_message(&s, NULL, err);
	if (rc == 0)
		rc = produce(send_piece, &s, context, err);
	if (rc == 0) {
		rc = chunk_end(s.fd);
		/* An answer that came early is there nevertheless. */
		rc = rc < 0 && rc != -EPIPE ? lost(rc, err) : finish(&s, NULL, err);
	}
	return rc;
}
