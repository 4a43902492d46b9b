/*
 * vm_start: from nothing to a running process in a machine, in the attendant (vm.h). Waiting is always
 * for three things at once: the agent's answer, the machine's console, which must not run full, and the
 * VMM's end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/random.h"
#include "base/str.h"
#include "engine/agent_image.h"
#include "engine/vm_attend.h"
#include "guest/protocol.h"

enum {
	START_MS = 180000, /* until the agent answers */
	DIAL_PAUSE_MS = 10,
	LAST_WORDS_MS = 3000,
};

/* --- the console ---------------------------------------------------------------------------------------- */

void console_read(struct console *c)
{
	char data[4096];

	while (c->fd >= 0) {
		ssize_t n = read(c->fd, data, sizeof(data));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			fd_close(&c->fd);
			return;
		}
		/* Only the end is kept: a guest may say as much as it likes. */
		if (c->len + (size_t)n > CONSOLE_KEEP) {
			const size_t keep = CONSOLE_KEEP / 2 < c->len ? CONSOLE_KEEP / 2 : c->len;

			memmove(c->text, c->text + c->len - keep, keep);
			c->len = keep;
		}
		memcpy(c->text + c->len, data, (size_t)n);
		c->len += (size_t)n;
	}
}

/* Makes the text printable, and one string for each line. */
const char *console_reason(struct console *c)
{
	static const char *const signs[] = {"Kernel panic - ", "berth-agent: ", "berth: "};
	const char *best = NULL, *last = NULL;

	for (size_t i = 0; i < c->len; i++) {
		const unsigned char byte = (unsigned char)c->text[i];

		if (byte == '\n' || byte == '\r')
			c->text[i] = '\0';
		else if (byte < ' ' || byte > '~')
			c->text[i] = '?';
	}
	c->text[c->len] = '\0';
	for (size_t at = 0; at < c->len; at += strlen(c->text + at) + 1) {
		const char *line = c->text + at;

		if (*line != '\0')
			last = line;
		for (size_t i = 0; i < array_size(signs); i++) {
			const char *found = strstr(line, signs[i]);

			if (found != NULL && best == NULL)
				best = i == 0 ? found : found + strlen(signs[i]);
		}
	}
	return best ? best : last;
}

/* --- waiting ---------------------------------------------------------------------------------------------- */

/* Waits until `fd` (-1: nothing) is readable or the time is over. -ECHILD: the VMM has ended. */
static int await(struct attendant *a, int fd, int timeout_ms)
{
	struct pollfd polls[] = {{.fd = fd, .events = POLLIN},
				 {.fd = a->console.fd, .events = POLLIN},
				 {.fd = a->vmm_fd, .events = POLLIN}};

	if (poll(polls, 3, timeout_ms) < 0 && errno != EINTR)
		return -errno;
	if (polls[1].revents)
		console_read(&a->console);
	return polls[2].revents ? -ECHILD : 0;
}

static int time_left(int64_t deadline_ns)
{
	int64_t left = (deadline_ns - clock_monotonic_ns()) / 1000000;

	return left > 0 ? (int)left : 0;
}

/* Why the start failed, when the VMM has ended or the agent is silent. */
static int refuse_start(struct attendant *a, int rc, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + LAST_WORDS_MS * INT64_C(1000000);
	const char *reason;

	/* A machine's connections end before it does, which has more to say. */
	while (rc == -EPIPE && time_left(deadline) > 0)
		if (await(a, -1, time_left(deadline)) == -ECHILD)
			rc = -ECHILD;
	if (rc == -ECHILD) {
		attendant_end_machine(a);
		reason = console_reason(&a->console);
		return refuse(err, -EIO, "its virtual machine ended while it started%s%s",
			      reason ? ": " : "", reason ? reason : "");
	}
	if (rc == -ETIMEDOUT) {
		reason = console_reason(&a->console);
		return refuse(err, rc, "its virtual machine did not start within %d seconds%s%s",
			      START_MS / 1000, reason ? "; it last said: " : "",
			      reason ? reason : "");
	}
	return fail(err, rc, "talk with the virtual machine");
}

/* --- connections ------------------------------------------------------------------------------------------ */

/* One connection that the agent has accepted. -EPIPE: nobody listens there yet. */
static int dial(struct attendant *a, const char *stream, int64_t deadline, struct error *err)
{
	own_fd int fd = vm_agent_dial(a->state_fd, vm_path(a->id, "vsock").text, stream);
	struct vm_dial d = {.fd = fd};
	int rc = fd < 0 ? fd : 0;

	while (rc == 0 && (rc = vm_agent_answered(&d, err)) == 0) {
		if (time_left(deadline) == 0)
			rc = -ETIMEDOUT;
		else
			rc = await(a, fd, time_left(deadline));
	}
	frame_in_release(&d.in);
	return rc < 0 ? rc : take(fd);
}

/* The first connection, as soon as there is somebody. */
static int dial_until_there(struct attendant *a, int64_t deadline, struct error *err)
{
	for (;;) {
		struct error why = {0};
		int rc = dial(a, NULL, deadline, &why);

		if (rc >= 0)
			return rc;
		if (why.text[0] != '\0')
			return refuse(err, rc, "%s", why.text);
		if (rc != -EPIPE && rc != -ENOENT && rc != -ECONNREFUSED && rc != -ECONNRESET)
			return rc;
		if (time_left(deadline) == 0)
			return -ETIMEDOUT;
		rc = await(a, -1, DIAL_PAUSE_MS);
		if (rc < 0)
			return rc;
	}
}

/* A process's input that has nothing is /dev/null in the machine, too. */
static bool is_null(int fd)
{
	struct stat st;

	return fd < 0 || fstat(fd, &st) < 0 || S_ISCHR(st.st_mode);
}

static int dial_streams(struct attendant *a, json_t *request, int64_t deadline, struct error *err)
{
	json_t *names = json_array();
	char token[17];

	json_object_set_new(request, "streams", names);
	random_hex(token, 8);
	for (int i = 0; i < (a->terminal ? 1 : 3); i++) {
		char name[32];

		if (!a->terminal && is_null(a->stdio[i])) {
			json_array_append_new(names, json_null());
			continue;
		}
		snprintf(name, sizeof(name), "%s.%d", token, i);
		a->streams[i] = dial(a, name, deadline, err);
		if (a->streams[i] < 0)
			return a->streams[i];
		json_array_append_new(names, json_string(name));
	}
	return 0;
}

/* --- requests ---------------------------------------------------------------------------------------------- */

static int send_all(struct attendant *a, int64_t deadline)
{
	int rc;

	while ((rc = frame_flush(&a->out, a->control_fd)) > 0) {
		if (time_left(deadline) == 0)
			return -ETIMEDOUT;
		rc = await(a, -1, 1);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static int receive(struct attendant *a, int64_t deadline, json_t **ret)
{
	int rc;

	while ((rc = frame_receive(&a->in, a->control_fd, ret)) == 0) {
		if (time_left(deadline) == 0)
			return -ETIMEDOUT;
		rc = await(a, a->control_fd, time_left(deadline));
		if (rc < 0)
			return rc;
	}
	return rc;
}

/* The answers come in the order of the requests. */
static int take_answer(struct attendant *a, int64_t deadline, struct error *err)
{
	own_json json_t *answer = NULL;
	json_t *process;
	int rc = receive(a, deadline, &answer);

	if (rc < 0)
		return rc;
	rc = frame_get_error(answer, err);
	process = json_object_get(answer, "process");
	if (rc == 0 && process != NULL)
		a->number = (int)json_integer_value(process);
	return rc;
}

/* Who the machine is, as of now. */
static void add_identity(json_t *prepare)
{
	unsigned char seed[AGENT_SEED_BYTES];
	char text[2 * AGENT_SEED_BYTES + 1];

	random_bytes(seed, sizeof(seed));
	hex_format(seed, sizeof(seed), text);
	json_set_string(prepare, "seed", text);
	json_object_set_new(prepare, "time", json_integer(clock_now_ns()));
}

/* --- the attendant -------------------------------------------------------------------------------------- */

struct attendant *attendant_new(const char *id)
{
	struct attendant *a = mem_new(sizeof(*a));

	*a = (struct attendant){.id = id,
				.state_fd = -1,
				.is_first = true,
				.stdio = {-1, -1, -1},
				.streams = {-1, -1, -1},
				.control_fd = -1,
				.vmm_fd = -1,
				.console.fd = -1};
	return a;
}

void attendant_free(struct attendant *a)
{
	fd_close(&a->control_fd);
	fd_close(&a->vmm_fd);
	fd_close(&a->console.fd);
	frame_in_release(&a->in);
	frame_out_release(&a->out);
	free(a);
}

/* --- the machine -------------------------------------------------------------------------------------------- */

/* What destroy (isolation_vm.c) looks for, should we be killed before the kernel has killed the VMM. */
static int note_vmm(struct attendant *a)
{
	char text[64];
	uint64_t ticks = 0;
	int rc = proc_start_time(a->vmm_pid, &ticks);

	if (rc < 0)
		return rc;
	snprintf(text, sizeof(text), "%d %llu\n", (int)a->vmm_pid, (unsigned long long)ticks);
	return file_write(a->state_fd, vm_path(a->id, "vmm").text, text, strlen(text), 0600,
			  FILE_WRITE_PLAIN, NULL);
}

static char **read_command(json_t *plan)
{
	json_t *words = json_object_get(plan, "command"), *word;
	char **argv = NULL;
	size_t i;

	strv_push(&argv, "berth");
	json_array_foreach (words, i, word)
		strv_push(&argv, json_string_value(word) ? json_string_value(word) : "");
	return argv;
}

int attendant_spawn(struct attendant *a, json_t *plan, struct error *err)
{
	own_strv char **argv = read_command(plan);
	own_fd int exe = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	own_fd int console = -1;
	own_fd int directory = openat(a->state_fd, a->id, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int ends[2], rc = 0;
	struct proc_spawn spawn = {
		.exe_fd = exe,
		.argv = argv,
		/* Its files are named without a path: one of any length would not fit in the address of
		 * a socket. */
		.directory_fd = directory,
		.new_session = true,
		.die_with_parent = true,
	};

	if (exe < 0 || directory < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return fail(err, -errno, "start the virtual machine");
	a->console.fd = ends[0];
	console = ends[1];
	if (fcntl(a->console.fd, F_SETFL, O_NONBLOCK) < 0)
		return fail(err, -errno, "start the virtual machine");
	spawn.stdio[0] = -1;
	spawn.stdio[1] = spawn.stdio[2] = console;
	if (json_is_true(json_object_get(plan, "boots")))
		rc = agent_image_write(a->state_fd, vm_path(a->id, "initrd").text, err);
	if (rc == 0)
		rc = proc_spawn(&spawn, &a->vmm_pid, &a->vmm_fd, err);
	if (rc == 0 && (rc = note_vmm(a)) < 0)
		rc = fail(err, rc, "note the virtual machine's process");
	return rc;
}

int attendant_await_agent(struct attendant *a, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + START_MS * INT64_C(1000000);
	struct error why = {0};
	int rc = a->control_fd = dial_until_there(a, deadline, &why);

	if (unlinkat(a->state_fd, vm_path(a->id, "initrd").text, 0) < 0 && errno != ENOENT)
		return fail(err, -errno, "remove the initial RAM disk");
	if (rc >= 0)
		return 0;
	return why.text[0] ? refuse(err, rc, "%s", why.text) : refuse_start(a, rc, err);
}

int attendant_ask(struct attendant *a, json_t *request, int64_t timeout_ms, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + timeout_ms * 1000000;
	struct error why = {0};
	int rc;

	frame_add(&a->out, request);
	rc = send_all(a, deadline);
	if (rc >= 0)
		rc = take_answer(a, deadline, &why);
	if (rc >= 0)
		return 0;
	return why.text[0] ? refuse(err, rc, "%s", why.text) : refuse_start(a, rc, err);
}

int attendant_prepare(struct attendant *a, json_t *prepare, struct error *err)
{
	add_identity(prepare);
	return attendant_ask(a, prepare, START_MS, err);
}

int attendant_start_machine(struct attendant *a, json_t *plan, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + START_MS * INT64_C(1000000);
	json_t *prepare = json_object_get(plan, "prepare"), *run = json_object_get(plan, "run");
	struct error why = {0};
	int rc = attendant_spawn(a, plan, err);

	if (rc == 0)
		rc = attendant_await_agent(a, err);
	if (rc < 0)
		return rc;
	rc = dial_streams(a, run, deadline, &why);
	if (rc >= 0) {
		add_identity(prepare);
		frame_add(&a->out, prepare);
		frame_add(&a->out, run);
		rc = send_all(a, deadline);
	}
	if (rc >= 0)
		rc = take_answer(a, deadline, &why);
	if (rc >= 0)
		rc = take_answer(a, deadline, &why);
	if (rc >= 0)
		return 0;
	if (why.text[0] == '\0')
		return refuse_start(a, rc, err);
	if (err != NULL)
		*err = why;
	return rc;
}

int attendant_await_exit(struct attendant *a, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + VM_ANSWER_MS * INT64_C(1000000);

	for (;;) {
		own_json json_t *message = NULL;
		int rc = receive(a, deadline, &message);

		if (rc < 0)
			return refuse_start(a, rc, err);
		if (str_eq(json_string_value(json_object_get(message, "event")), "exit"))
			return (int)json_integer_value(json_object_get(message, "code")) & 0xff;
	}
}

int attendant_start_exec(struct attendant *a, json_t *exec, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + VM_ANSWER_MS * INT64_C(1000000);
	struct error why = {0};
	int rc = a->control_fd = dial(a, NULL, deadline, &why);

	if (rc >= 0)
		rc = dial_streams(a, exec, deadline, &why);
	if (rc >= 0) {
		frame_add(&a->out, exec);
		rc = send_all(a, deadline);
	}
	if (rc >= 0)
		rc = take_answer(a, deadline, &why);
	if (rc >= 0)
		return 0;
	if (why.text[0] != '\0') {
		if (err != NULL)
			*err = why;
		return rc;
	}
	return rc == -ETIMEDOUT ? refuse(err, rc, "its virtual machine does not answer")
				: refuse(err, -ESRCH, "container not running");
}

int attendant_end_machine(struct attendant *a)
{
	int status = -1;

	if (a->vmm_pid <= 0)
		return -1;
	kill(a->vmm_pid, SIGKILL);
	while (waitpid(a->vmm_pid, &status, 0) < 0 && errno == EINTR)
		;
	console_read(&a->console);
	a->vmm_pid = 0;
	fd_close(&a->vmm_fd);
	return status;
}

void attendant_note_end(struct attendant *a, const char *reason, int64_t oom_kills)
{
	own_json json_t *end = json_object();

	json_set_string(end, "reason", reason);
	json_object_set_new(end, "oom", json_integer(oom_kills));
	if (json_write_file(a->state_fd, vm_path(a->id, "end").text, end, 0600, NULL) < 0)
		return; /* then it ended without a reason */
}
