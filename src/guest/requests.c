/* requests: what the engine can ask for (protocol.h), and the answers. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/own.h"
#include "base/proc_info.h"
#include "base/str.h"
#include "guest/agent.h"
#include "oci/runtime.h"

enum { SIGNAL_LAST = 64 };

struct request {
	struct agent *agent;
	struct connection *from;
	struct json_at at;
	json_t *answer;
};

static int do_prepare(struct request *r, struct error *err)
{
	struct json_at root;
	int rc;

	if (r->agent->prepared)
		return refuse(err, -EALREADY, "the machine has been prepared already");
	rc = setup_identity(r->agent, &r->at, err);
	if (rc >= 0)
		rc = network_set_up(&r->at, err);
	if (rc >= 0)
		rc = json_object_at(&r->at, "root", JSON_REQUIRED, &root, err);
	if (rc >= 0)
		rc = root_prepare(r->agent, &root, err);
	r->agent->prepared = rc >= 0;
	return rc < 0 ? rc : 0;
}

static int answer_process(struct request *r, int rc, int number)
{
	if (rc == 0)
		json_object_set_new(r->answer, "process", json_integer(number));
	return rc;
}

static int do_run(struct request *r, struct error *err)
{
	int number = 0;

	if (!r->agent->prepared)
		return refuse(err, -EINVAL, "the machine has not been prepared");
	return answer_process(r, process_run(r->agent, r->from, &r->at, &number, err), number);
}

static int do_warm(struct request *r, struct error *err)
{
	struct json_at root;
	int rc = json_object_at(&r->at, "root", JSON_OPTIONAL, &root, err);

	if (rc > 0 && r->agent->is_machine)
		rc = root_mount_usual(r->agent, &root, err);
	if (rc >= 0 && r->agent->is_machine)
		rc = network_set_up(&r->at, err);
	if (rc >= 0)
		rc = setup_files(r->agent, &r->at, err);
	return rc < 0 ? rc : process_warm(r->agent, &r->at, err);
}

static int do_exec(struct request *r, struct error *err)
{
	int number = 0;

	return answer_process(r, process_exec(r->agent, r->from, &r->at, &number, err), number);
}

static int do_signal(struct request *r, struct error *err)
{
	int64_t number = 0, signal = 0;
	bool all = false;
	int rc = json_get_int(&r->at, "process", JSON_OPTIONAL, 0, INT32_MAX, &number, err);

	if (rc >= 0)
		rc = json_get_int(&r->at, "signal", JSON_REQUIRED, 1, SIGNAL_LAST, &signal, err);
	if (rc >= 0)
		rc = json_get_bool(&r->at, "all", JSON_OPTIONAL, &all, err);
	return rc < 0 ? rc : process_signal(r->agent, (int)number, (int)signal, all, err);
}

static int do_resize(struct request *r, struct error *err)
{
	int64_t number = 0, rows = 0, columns = 0;
	int rc = json_get_int(&r->at, "process", JSON_OPTIONAL, 0, INT32_MAX, &number, err);

	if (rc >= 0)
		rc = json_get_int(&r->at, "rows", JSON_REQUIRED, 0, UINT16_MAX, &rows, err);
	if (rc >= 0)
		rc = json_get_int(&r->at, "columns", JSON_REQUIRED, 0, UINT16_MAX, &columns, err);
	return rc < 0 ? rc
		      : process_resize(r->agent, (int)number, (unsigned int)rows,
				       (unsigned int)columns, err);
}

static int do_pause(struct request *r, struct error *err)
{
	own_mem char *root = agent_runtime_root(r->agent);

	return oci_pause(root, WORKLOAD_ID, err);
}

static int do_resume(struct request *r, struct error *err)
{
	own_mem char *root = agent_runtime_root(r->agent);

	return oci_resume(root, WORKLOAD_ID, err);
}

static int do_update(struct request *r, struct error *err)
{
	own_mem char *root = agent_runtime_root(r->agent);
	struct json_at resources;
	int rc = json_object_at(&r->at, "resources", JSON_REQUIRED, &resources, err);

	return rc < 0 ? rc : oci_update(root, WORKLOAD_ID, resources.value, err);
}

/* Numbers beyond what JSON's integers hold mean "none". */
static void set_number(json_t *o, const char *key, uint64_t value)
{
	if (value <= INT64_MAX)
		json_object_set_new(o, key, json_integer((json_int_t)value));
}

static int do_stats(struct request *r, struct error *err)
{
	own_mem char *root = agent_runtime_root(r->agent);
	struct oci_stats s;
	int rc = oci_get_stats(root, WORKLOAD_ID, &s, err);

	if (rc < 0)
		return rc;
	set_number(r->answer, "cpu_total_ns", s.cpu_total_ns);
	set_number(r->answer, "cpu_system_ns", s.cpu_system_ns);
	set_number(r->answer, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	set_number(r->answer, "memory", s.memory_bytes);
	set_number(r->answer, "memory_cache", s.memory_cache_bytes);
	set_number(r->answer, "memory_limit", s.memory_limit_bytes);
	set_number(r->answer, "memory_total",
		   (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
	set_number(r->answer, "pids", s.pids);
	set_number(r->answer, "pids_limit", s.pids_limit);
	set_number(r->answer, "io_read", s.io_read_bytes);
	set_number(r->answer, "io_write", s.io_write_bytes);
	set_number(r->answer, "oom_kills", s.oom_kills);
	return 0;
}

static json_t *process_json(const struct proc_info *p)
{
	json_t *o = json_object();

	json_object_set_new(o, "pid", json_integer(p->pid));
	json_object_set_new(o, "parent", json_integer(p->parent));
	json_object_set_new(o, "pgid", json_integer(p->pgid));
	json_object_set_new(o, "sid", json_integer(p->sid));
	json_object_set_new(o, "state", json_integer(p->state));
	json_object_set_new(o, "nice", json_integer(p->nice));
	json_object_set_new(o, "threads", json_integer(p->threads));
	set_number(o, "virtual", p->virtual_bytes);
	set_number(o, "resident", p->resident_bytes);
	json_object_set_new(o, "name", json_from_string(p->name));
	json_object_set_new(o, "uid", json_integer(p->uid));
	json_object_set_new(o, "started_ns", json_integer(p->started_ns));
	json_object_set_new(o, "cpu_ns", json_integer(p->cpu_ns));
	json_object_set_new(o, "terminal", json_from_string(p->terminal));
	json_object_set_new(o, "command", json_from_string(p->command));
	return o;
}

static int do_top(struct request *r, struct error *err)
{
	own_mem char *root = agent_runtime_root(r->agent);
	own_mem pid_t *pids = NULL;
	json_t *list = json_array();
	size_t count = 0;
	int rc = oci_pids(root, WORKLOAD_ID, &pids, &count, err);

	json_object_set_new(r->answer, "processes", list);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct proc_info info;

		/* One that has ended meanwhile is left out. */
		if (proc_info_read(pids[i], &info) < 0)
			continue;
		json_array_append_new(list, process_json(&info));
		free(info.command);
	}
	return rc;
}

static int do_sync(struct request *r, struct error *err)
{
	(void)r;
	(void)err;
	sync();
	return 0;
}

static int do_files(struct request *r, struct error *err)
{
	return files_start(r->agent, r->from, &r->at, err);
}

static int do_finish(struct request *r, struct error *err)
{
	if (r->agent->next_process > 0)
		return refuse(err, -EINVAL, "the workload has been started");
	files_end(r->agent);
	root_release(r->agent);
	(void)err;
	return 0;
}

static const struct {
	const char *name;
	int (*carry_out)(struct request *r, struct error *err);
} kinds[] = {
	{"prepare", do_prepare}, {"run", do_run},       {"warm", do_warm},   {"exec", do_exec},
	{"signal", do_signal},   {"resize", do_resize}, {"pause", do_pause}, {"resume", do_resume},
	{"update", do_update},   {"stats", do_stats},   {"top", do_top},     {"sync", do_sync},
	{"files", do_files},     {"finish", do_finish},
};

static int dispatch(struct request *r, struct error *err)
{
	const char *what = NULL;
	int rc = json_get_string(&r->at, "do", JSON_REQUIRED, &what, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < array_size(kinds); i++)
		if (str_eq(kinds[i].name, what))
			return kinds[i].carry_out(r, err);
	return refuse(err, -ENOSYS, "the agent does not know the request \"%s\"", what);
}

void agent_request(struct agent *agent, struct connection *from, json_t *message)
{
	struct request r = {
		.agent = agent, .from = from, .at = json_root(message), .answer = json_object()};
	own_json json_t *answer = r.answer;
	struct error why = {0};
	int rc;

	json_object_set(answer, "id", json_object_get(message, "id"));
	rc = dispatch(&r, &why);
	if (rc < 0) {
		if (why.text[0] == '\0')
			fail(&why, rc, "carry out the request");
		json_object_set_new(answer, "error", frame_error(&why));
	}
	connection_send(from, answer);
}
