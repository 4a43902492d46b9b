/* process: the workload's processes and their streams. See agent.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/tty.h"
#include "guest/agent.h"
#include "guest/protocol.h"
#include "oci/runtime.h"
#include "oci/user.h"

enum { EVENTS_MAX = 4096, SETTLE_MS = 600 };

struct process {
	struct process *next;
	struct agent *agent;
	struct connection *owner; /* NULL: gone */
	int number;
	pid_t pid; /* 0: it has ended */
	int code;
	uint64_t oom_kills;
	int console_fd; /* for its size; -1 */
	struct pump input, output[2];
};

/* What a request gives a process as its descriptors. */
struct stdio {
	int stream[3]; /* to the engine; with a terminal only the first */
	int ours[3];   /* our ends of the pipes */
	int theirs[3];
	bool terminal;
};
#define STDIO_NONE                                                                                 \
	((struct stdio){.stream = {-1, -1, -1}, .ours = {-1, -1, -1}, .theirs = {-1, -1, -1}})

static void stdio_release(struct stdio *io)
{
	for (int i = 0; i < 3; i++) {
		fd_close(&io->stream[i]);
		fd_close(&io->ours[i]);
		fd_close(&io->theirs[i]);
	}
}
#define own_stdio __attribute__((cleanup(stdio_release)))

char *agent_runtime_root(const struct agent *agent)
{
	return str_format("%s/oci", agent->directory);
}

static struct process *find(const struct agent *agent, int number)
{
	for (struct process *p = agent->processes; p != NULL; p = p->next)
		if (p->number == number)
			return p;
	return NULL;
}

int process_open_root(struct agent *agent, struct error *err)
{
	const struct process *first = find(agent, 0);
	char path[32];
	int fd;

	if (agent->next_process == 0) {
		fd = fcntl(agent->root_fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? fail(err, -errno, "open the root directory") : fd;
	}
	/* It is our child and not collected yet: its number is nobody else's. */
	if (first == NULL || first->pid == 0)
		return refuse(err, -ESRCH, "container not running");
	snprintf(path, sizeof(path), "/proc/%d/root", (int)first->pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? refuse(err, -ESRCH, "container not running") : fd;
}

/* --- the end ---------------------------------------------------------------------------------------- */

static void destroy(struct process *p)
{
	struct process **at = &p->agent->processes;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	pump_release(&p->input);
	pump_release(&p->output[0]);
	pump_release(&p->output[1]);
	fd_close(&p->console_fd);
	free(p);
}

static void tell(struct process *p)
{
	own_json json_t *event = json_object();

	json_set_string(event, "event", "exit");
	json_object_set_new(event, "process", json_integer(p->number));
	json_object_set_new(event, "code", json_integer(p->code));
	json_object_set_new(event, "oom", json_integer((json_int_t)p->oom_kills));
	if (p->owner != NULL)
		connection_send(p->owner, event);
}

static bool has_ended(const struct process *p)
{
	return p->pid == 0 && p->output[0].ended && p->output[1].ended;
}

/* The first process is told of last (A3). */
static void tell_ended(struct agent *agent)
{
	struct process *p, *next;
	bool others = false;

	for (p = agent->processes; p != NULL; p = next) {
		next = p->next;
		if (p->number == 0)
			continue;
		if (!has_ended(p)) {
			others = true;
			continue;
		}
		tell(p);
		destroy(p);
	}
	p = find(agent, 0);
	if (p == NULL || others || !has_ended(p))
		return;
	root_release(agent);
	tell(p);
	destroy(p);
}

static void output_done(struct pump *pump, void *data)
{
	struct process *p = data;

	(void)pump;
	/* Not here: the caller may be in the midst of the list. */
	loop_set_timer(p->agent->look, 0);
}

/* A count of memory.events. */
static uint64_t count_oom_kills(const char *cgroup)
{
	own_mem char *path = str_format("/sys/fs/cgroup%s/memory.events", cgroup);
	own_mem char *text = NULL;
	const char *line;
	size_t len;

	if (file_read(AT_FDCWD, path, EVENTS_MAX, &text, &len, NULL) < 0)
		return 0;
	line = strstr(text, "\noom_kill ");
	return line ? strtoull(line + strlen("\noom_kill "), NULL, 10) : 0;
}

/* Everything of the workload goes with its first process. In a machine that is the kernel's doing, as the
 * process was the first of a pid namespace; and what it leaves behind goes with the machine. */
static void end_workload(struct process *first)
{
	own_mem char *root = agent_runtime_root(first->agent);
	struct oci_stats stats;
	struct error why = {0};

	if (first->agent->is_machine) {
		first->oom_kills = count_oom_kills(first->agent->cgroup);
		return;
	}
	if (oci_get_stats(root, WORKLOAD_ID, &stats, NULL) == 0)
		first->oom_kills = stats.oom_kills;
	if (oci_delete(root, WORKLOAD_ID, OCI_DELETE_FORCE, &why) < 0)
		fprintf(stderr, "berth-agent: %s\n", why.text);
}

static void exited(struct process *p, int status)
{
	p->pid = 0;
	p->code = proc_exit_code(status);
	if (p->number == 0) {
		files_end(p->agent);
		end_workload(p);
	}
	pump_end(&p->output[0]);
	pump_end(&p->output[1]);
	pump_release(&p->input);
}

void process_reap(struct agent *agent)
{
	int status;
	pid_t pid;

	/* Also those that nobody waits for: we are the first process. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		files_reaped(agent, pid);
		for (struct process *p = agent->processes; p != NULL; p = p->next)
			if (p->pid == pid) {
				exited(p, status);
				break;
			}
	}
	tell_ended(agent);
}

void process_disown(struct agent *agent, const struct connection *owner)
{
	for (struct process *p = agent->processes; p != NULL; p = p->next) {
		if (p->owner != owner)
			continue;
		p->owner = NULL;
		if (p->pid > 0)
			kill(p->pid, SIGKILL);
	}
}

/* --- the beginning ---------------------------------------------------------------------------------- */

/* Stream i of the request; -1 if it is null. */
static int take_stream(struct agent *agent, const struct json_at *streams, size_t i,
		       struct error *err)
{
	struct json_at item;
	const char *name;
	int rc;

	if (!json_element(streams, i, &item) || json_is_null(item.value))
		return -1;
	rc = json_as_string(&item, &name, err);
	return rc < 0 ? rc : agent_take_stream(agent, name, err);
}

static int make_pipe(struct stdio *io, int i)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	io->ours[i] = ends[i == 0];
	io->theirs[i] = ends[i != 0];
	return 0;
}

static int open_null(struct stdio *io, int i)
{
	io->theirs[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	return io->theirs[i] < 0 ? -errno : 0;
}

static int stdio_open(struct agent *agent, const struct json_at *request, struct stdio *io,
		      struct error *err)
{
	struct json_at streams;
	int rc = json_get_bool(request, "terminal", JSON_OPTIONAL, &io->terminal, err);

	if (rc >= 0)
		rc = json_array_at(request, "streams", JSON_REQUIRED, &streams, err);
	for (int i = 0; rc >= 0 && i < (io->terminal ? 1 : 3); i++) {
		rc = take_stream(agent, &streams, (size_t)i, err);
		if (rc < -1)
			return rc;
		io->stream[i] = rc;
		if (io->terminal)
			return 0;
		rc = io->stream[i] < 0 ? open_null(io, i) : make_pipe(io, i);
		if (rc < 0)
			return fail(err, rc, "make the process's pipes");
	}
	return rc < 0 ? rc : 0;
}

static int duplicate(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int connect_terminal(struct process *p, struct stdio *io, int console)
{
	int in = duplicate(console), stream = duplicate(io->stream[0]), rc;
	own_fd int out = duplicate(console);

	p->console_fd = console;
	rc = pump_start(&p->input, p->agent->loop, stream, in, 0, NULL, NULL);
	if (rc == 0)
		rc = pump_start(&p->output[0], p->agent->loop, take(out), take(io->stream[0]),
				PUMP_TERMINAL | PUMP_SHUTDOWN, output_done, p);
	return rc;
}

/* The pumps begin; a stream that is missing has none. */
static int connect_stdio(struct process *p, struct stdio *io, int console)
{
	struct loop *loop = p->agent->loop;
	int rc = 0;

	if (io->terminal && io->stream[0] >= 0)
		return connect_terminal(p, io, console);
	if (io->stream[0] >= 0)
		rc = pump_start(&p->input, loop, take(io->stream[0]), take(io->ours[0]), 0, NULL,
				NULL);
	for (int i = 1; rc == 0 && i < 3; i++)
		if (io->stream[i] >= 0)
			rc = pump_start(&p->output[i - 1], loop, take(io->ours[i]),
					take(io->stream[i]), PUMP_SHUTDOWN, output_done, p);
	return rc;
}

static struct process *add(struct agent *agent, struct connection *owner, pid_t pid)
{
	struct process *p = mem_new(sizeof(*p));

	p->agent = agent;
	p->owner = owner;
	p->pid = pid;
	p->number = agent->next_process++;
	p->console_fd = -1;
	p->input = p->output[0] = p->output[1] = PUMP_NONE;
	p->next = agent->processes;
	agent->processes = p;
	return p;
}

static int settle(struct agent *agent, struct connection *owner, struct stdio *io,
		  struct oci_child *child, int *ret_number, struct error *err)
{
	struct process *p = add(agent, owner, child->pid);
	int rc = connect_stdio(p, io, take(child->console_fd));

	if (rc < 0) {
		kill(p->pid, SIGKILL);
		return fail(err, rc, "connect the process");
	}
	*ret_number = p->number;
	/* It may have ended already. */
	loop_set_timer(agent->look, 0);
	return 0;
}

/* Whoever "user" names, by the workload's own files, becomes the user of `process`. */
static int set_user(struct agent *agent, const struct json_at *request, json_t *process,
		    struct error *err)
{
	own_strv char **groups = NULL, **env = NULL;
	own_user struct user user = {0};
	own_fd int root = -1;
	const struct json_at at = json_root(process);
	struct json_at who;
	const char *name = "";
	int rc = json_object_at(request, "user", JSON_OPTIONAL, &who, err);

	if (rc <= 0)
		return rc;
	rc = json_get_string(&who, "name", JSON_REQUIRED, &name, err);
	if (rc >= 0)
		rc = json_get_strv(&who, "groups", JSON_OPTIONAL, &groups, err);
	if (rc >= 0)
		rc = json_get_strv(&at, "env", JSON_OPTIONAL, &env, err);
	if (rc >= 0)
		rc = root = process_open_root(agent, err);
	if (rc >= 0)
		rc = user_resolve(root, name, groups, &user, err);
	if (rc < 0)
		return rc;
	json_object_set_new(process, "user", user_to_json(&user));
	if (env_get(env, "HOME") == NULL) {
		env_set(&env, "HOME", user.home);
		json_set_strv(process, "env", env);
	}
	return 0;
}

/* {"same":[["mounts"],["linux","seccomp"],...]}: members of "spec" that are those of the warm container. */
static int set_same(struct agent *agent, const struct json_at *request, json_t *spec,
		    struct error *err)
{
	struct json_at all, path;
	int rc = json_array_at(request, "same", JSON_OPTIONAL, &all, err);

	for (size_t i = 0; rc > 0 && json_element(&all, i, &path); i++) {
		const char *first = json_string_value(json_array_get(path.value, 0));
		const char *second = json_string_value(json_array_get(path.value, 1));
		json_t *from = agent->usual, *to = spec;

		if (first != NULL && second != NULL) {
			from = json_object_get(from, first);
			to = json_object_get(to, first);
			first = second;
		}
		if (first == NULL || json_object_get(from, first) == NULL ||
		    json_object_set(to, first, json_object_get(from, first)) < 0)
			return json_refuse(err, &path, "there is no such member");
	}
	return rc < 0 ? rc : 0;
}

/* A filter that is compiled already is not read again. */
static void take_filter(struct agent *agent, json_t *spec)
{
	json_t *part = json_object_get(spec, "linux");
	const json_t *usual = json_object_get(json_object_get(agent->usual, "linux"), "seccomp");

	agent->filtered = agent->filter != NULL && usual == json_object_get(part, "seccomp");
	if (agent->filtered)
		json_object_del(part, "seccomp");
}

static void note_cgroup(struct agent *agent, const json_t *spec)
{
	const char *path =
		json_string_value(json_object_get(json_object_get(spec, "linux"), "cgroupsPath"));

	free(agent->cgroup);
	agent->cgroup = str_copy(path ? path : "");
}

int process_run(struct agent *agent, struct connection *owner, const struct json_at *request,
		int *ret_number, struct error *err)
{
	own_mem char *root = agent_runtime_root(agent);
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	own_stdio struct stdio io = STDIO_NONE;
	struct oci_create options = OCI_CREATE_DEFAULTS;
	struct json_at spec;
	bool reaper = false;
	int rc = json_object_at(request, "spec", JSON_REQUIRED, &spec, err);

	if (rc >= 0)
		rc = json_get_bool(request, "reaper", JSON_OPTIONAL, &reaper, err);
	if (rc >= 0 && agent->next_process > 0)
		rc = refuse(err, -EALREADY, "the workload has been started already");
	if (rc >= 0)
		rc = set_same(agent, request, spec.value, err);
	if (rc >= 0)
		rc = devices_add(request, spec.value, err);
	if (rc >= 0)
		rc = set_user(agent, request, json_object_get(spec.value, "process"), err);
	if (rc >= 0)
		rc = stdio_open(agent, request, &io, err);
	if (rc < 0)
		return rc;
	take_filter(agent, spec.value);
	note_cgroup(agent, spec.value);
	options.filter = agent->filtered ? agent->filter : NULL;
	options.device_filter = &agent->device_filter;
	options.state_root = root;
	options.id = WORKLOAD_ID;
	options.bundle = agent->directory;
	options.spec = spec.value;
	memcpy(options.stdio, io.theirs, sizeof(options.stdio));
	options.flags =
		OCI_CREATE_RUN | OCI_CREATE_KEEP_TERMINAL | (reaper ? OCI_CREATE_REAPER : 0);
	rc = oci_create(&options, &child, err);
	return rc < 0 ? rc : settle(agent, owner, &io, &child, ret_number, err);
}

static int make_warm_root(const char *root, struct error *err)
{
	own_mem char *program = str_format("%s/true", root);
	own_fd int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = -1;
	int rc = dir_make(AT_FDCWD, root, 0755, err);
	int64_t copied = 0;

	if (rc < 0)
		return rc;
	to = open(program, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	if (from < 0 || to < 0)
		return fail(err, -errno, "copy the agent");
	copied = fd_copy(from, to, UINT64_MAX);
	return copied < 0 ? fail(err, (int)copied, "copy the agent") : 0;
}

/* One container from its beginning to its end; with `is_kept` its control group stays. */
static int run_warm(struct agent *agent, const char *id, const char *bundle, json_t *spec,
		    bool is_kept, struct error *err)
{
	own_mem char *state = agent_runtime_root(agent);
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	own_fd int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct oci_create options = OCI_CREATE_DEFAULTS;
	int rc;

	json_object_set_new(json_object_get(spec, "linux"), "cgroupsPath",
			    json_from_string(is_kept ? "/kept" : "/warm"));
	options.state_root = state;
	options.id = id;
	options.bundle = bundle;
	options.spec = spec;
	options.filter = agent->filter;
	options.device_filter = &agent->device_filter;
	options.stdio[0] = options.stdio[1] = options.stdio[2] = nowhere;
	options.flags = OCI_CREATE_RUN;
	rc = oci_create(&options, &child, err);
	if (rc == 0)
		rc = proc_wait(child.pidfd, NULL);
	return rc < 0 || is_kept ? rc : oci_delete(state, id, OCI_DELETE_FORCE, err);
}

/* What the containers have left to the kernel to do later is done in the template, not at each start. */
static void settle_down(void)
{
	const struct timespec pause = {.tv_nsec = SETTLE_MS * 1000000L};

	sync();
	nanosleep(&pause, NULL);
}

static int compile_filter(struct agent *agent, json_t *spec, struct error *err)
{
	json_t *seccomp = json_object_get(json_object_get(spec, "linux"), "seccomp");
	int rc = seccomp ? oci_filter_compile(seccomp, &agent->filter, err) : 0;

	if (rc == 0 && seccomp)
		json_object_del(json_object_get(spec, "linux"), "seccomp");
	return rc;
}

/* The kernel changes its own code when the first control group of a kind comes (static keys: memory,
 * device programs) and when the last one goes, which costs each start milliseconds: one stays. */
int process_warm(struct agent *agent, const struct json_at *request, struct error *err)
{
	own_mem char *bundle = str_format("%s/warm", agent->directory);
	own_mem char *root = str_format("%s/root", bundle);
	own_json json_t *warm = NULL;
	struct json_at spec;
	int rc = json_object_at(request, "spec", JSON_REQUIRED, &spec, err);

	if (rc >= 0)
		rc = make_warm_root(root, err);
	if (rc < 0)
		return rc;
	agent->usual = json_incref(spec.value);
	warm = json_deep_copy(spec.value);
	rc = compile_filter(agent, warm, err);
	if (rc >= 0)
		rc = run_warm(agent, "kept", bundle, warm, true, err);
	if (rc >= 0)
		rc = run_warm(agent, "warm", bundle, warm, false, err);
	if (rc >= 0)
		rc = tree_remove(AT_FDCWD, bundle, err);
	if (rc >= 0 && agent->is_machine)
		settle_down();
	return rc;
}

int process_exec(struct agent *agent, struct connection *owner, const struct json_at *request,
		 int *ret_number, struct error *err)
{
	own_mem char *root = agent_runtime_root(agent);
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	own_stdio struct stdio io = STDIO_NONE;
	struct oci_exec options = OCI_EXEC_DEFAULTS;
	struct json_at spec;
	int rc = json_object_at(request, "spec", JSON_REQUIRED, &spec, err);

	if (rc >= 0 && find(agent, 0) == NULL)
		rc = refuse(err, -ESRCH, "container not running");
	if (rc >= 0)
		rc = set_user(agent, request, spec.value, err);
	if (rc >= 0)
		rc = stdio_open(agent, request, &io, err);
	if (rc < 0)
		return rc;
	options.state_root = root;
	options.id = WORKLOAD_ID;
	options.process = spec.value;
	memcpy(options.stdio, io.theirs, sizeof(options.stdio));
	options.flags = OCI_EXEC_KEEP_TERMINAL;
	options.filter = agent->filtered ? agent->filter : NULL;
	rc = oci_exec(&options, &child, err);
	return rc < 0 ? rc : settle(agent, owner, &io, &child, ret_number, err);
}

/* --- acting ------------------------------------------------------------------------------------------ */

int process_signal(struct agent *agent, int number, int signal, bool all, struct error *err)
{
	own_mem char *root = agent_runtime_root(agent);
	struct process *p = find(agent, number);

	if (p == NULL || p->pid == 0)
		return refuse(err, -ESRCH, "container not running");
	if (all)
		return oci_kill(root, WORKLOAD_ID, signal, OCI_KILL_ALL, err);
	return kill(p->pid, signal) < 0 ? fail(err, -errno, "send signal %d", signal) : 0;
}

int process_resize(struct agent *agent, int number, unsigned int rows, unsigned int columns,
		   struct error *err)
{
	const struct process *p = find(agent, number);
	const struct tty_size size = {(unsigned short)rows, (unsigned short)columns};
	int rc;

	/* One that has ended meanwhile needs no size. */
	if (p == NULL || p->console_fd < 0)
		return 0;
	rc = tty_set_size(p->console_fd, size);
	return rc < 0 ? fail(err, rc, "set the terminal's size") : 0;
}
