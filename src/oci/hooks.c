/* hooks: see hooks.h. */
#include "oci/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "oci/container.h"

enum { OUTPUT_SHOWN = 256, PROC_TEXT_MAX = 4096 };

static char *state_text(const struct hook_state *s)
{
	own_json json_t *json = json_pack("{s:s, s:s, s:s}", "ociVersion", OCI_VERSION, "id", s->id,
					  "status", oci_status_name(s->status));

	if (s->pid > 0)
		json_object_set_new(json, "pid", json_integer(s->pid));
	json_object_set_new(json, "bundle", json_string(s->bundle));
	if (s->annotations != NULL)
		json_object_set_new(json, "annotations", json_deep_copy(s->annotations));
	return json_text(json);
}

/* A file in memory with the text, at its beginning. */
static int text_fd(const char *text)
{
	own_fd int fd = memfd_create("state", MFD_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = fd_write_full(fd, text, strlen(text));
	if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
		rc = -errno;
	return rc < 0 ? rc : take(fd);
}

/* The last bytes that the hook wrote, as one line. */
static char *output_tail(int fd)
{
	char text[OUTPUT_SHOWN + 1];
	const off_t size = lseek(fd, 0, SEEK_END);
	ssize_t n = fd_read_full_at(fd, text, OUTPUT_SHOWN,
				    size > OUTPUT_SHOWN ? size - OUTPUT_SHOWN : 0);

	n = n < 0 ? 0 : n;
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	text[n] = '\0';
	for (ssize_t i = 0; i < n; i++)
		text[i] = text[i] == '\n' ? ' ' : text[i];
	return str_copy(text);
}

/* A filter's kill is told in the words that other runtimes have for it. */
static const char *died_of(int signal)
{
	return signal == SIGSYS ? "bad system call" : strsignal(signal);
}

/* Waits for the end of a hook, for its timeout, or until it is to give way: also when the process that is being
 * made, which a hook of ours keeps waiting, has ended. */
static int await_hook(const struct config_hook *hook, int pidfd, const struct hook_state *s,
		      struct error *err)
{
	own_fd int watch = s->container ? container_watch(s->container) : -1;
	own_fd int made = s->container && s->status != OCI_RUNNING ? proc_open(s->pid) : -1;
	struct pollfd waits[] = {{.fd = pidfd, .events = POLLIN},
				 {.fd = watch, .events = POLLIN},
				 {.fd = made, .events = POLLIN}};
	int rc;

	do
		rc = poll(waits, array_size(waits),
			  hook->timeout_seconds ? hook->timeout_seconds * 1000 : -1);
	while (rc < 0 && errno == EINTR);
	if (waits[0].revents != 0) {
		rc = proc_wait(pidfd, NULL);
		return rc < 0 ? fail(err, rc, "wait for the hook") : rc;
	}
	if (proc_signal(pidfd, SIGKILL) == 0 && proc_wait(pidfd, NULL) < 0)
		return fail(err, -ECHILD, "wait for the hook");
	if (rc > 0)
		return refuse(err, -ECANCELED, "killed, because the container %s",
			      waits[1].revents != 0 ? "is being deleted" : "was killed");
	return refuse(err, -ETIMEDOUT, "did not end within %d seconds", hook->timeout_seconds);
}

static int run_one(const struct config_hook *hook, const char *text, const struct hook_state *s,
		   struct error *err)
{
	own_fd int in = text_fd(text), out = memfd_create("output", MFD_CLOEXEC), pidfd = -1;
	own_mem char *output = NULL;
	struct proc_spawn spawn = {
		.path = hook->path,
		.argv = hook->args,
		.env = hook->env,
		.stdio = {in, out, out},
	};
	pid_t pid;
	int rc;

	if (in < 0 || out < 0)
		return fail(err, in < 0 ? in : -errno, "create a file in memory");
	rc = proc_spawn(&spawn, &pid, &pidfd, err);
	if (rc == 0)
		rc = await_hook(hook, pidfd, s, err);
	if (rc <= 0)
		return rc;
	output = output_tail(out);
	if (rc > 128 && rc - 128 < NSIG)
		return refuse(err, -ECANCELED, "signal: %s%s%s", died_of(rc - 128),
			      output[0] ? ": " : "", output);
	return refuse(err, -ECANCELED, "exit status %d%s%s", rc, output[0] ? ": " : "", output);
}

static int run_nth(const struct config *c, enum config_hook_kind kind, size_t i, const char *text,
		   const struct hook_state *s, struct error *err)
{
	const struct config_hook *hook = &c->hooks[kind].items[i];
	int rc = run_one(hook, text, s, err);

	return rc < 0 ? fail(err, rc, "hooks.%s[%zu]: error running hook %s",
			     config_hook_names[kind], i, hook->path)
		      : 0;
}

int hooks_run(const struct config *c, enum config_hook_kind kind, const struct hook_state *state,
	      struct error *err)
{
	own_mem char *text = c->hooks[kind].count > 0 ? state_text(state) : NULL;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < c->hooks[kind].count; i++)
		rc = run_nth(c, kind, i, text, state, err);
	return rc;
}

/* The nanoseconds that a process has had a processor; 0 if the kernel does not say. */
static uint64_t time_of(pid_t pid)
{
	own_mem char *path = str_format("/proc/%d/schedstat", (int)pid), *text = NULL;
	size_t len;

	return file_read(AT_FDCWD, path, PROC_TEXT_MAX, &text, &len, NULL) < 0
		       ? 0
		       : strtoull(text, NULL, 10);
}

/* True if it is on a processor, waits for one, or for its pages. */
static bool is_busy(pid_t pid)
{
	const char state = proc_state(pid);

	return state == 'R' || state == 'D';
}

/* Poststart hooks come after the program, which has been executed, but where processors are busy may not have
 * had one yet: it does its first steps before them, until it waits for something or has ended. */
static void let_begin(pid_t pid)
{
	enum { FIRST_STEPS_NS = 10 * 1000 * 1000, PATIENCE_MS = 1000 };
	own_fd int pidfd = proc_open(pid);
	struct pollfd end = {.fd = pidfd, .events = POLLIN};
	const uint64_t begin = time_of(pid);

	for (int ms = 0; pidfd >= 0 && ms < PATIENCE_MS && is_busy(pid); ms++)
		if (time_of(pid) - begin >= FIRST_STEPS_NS || poll(&end, 1, 1) != 0)
			return;
}

void hooks_run_late(const struct config *c, enum config_hook_kind kind,
		    const struct hook_state *state)
{
	own_mem char *text = c->hooks[kind].count > 0 ? state_text(state) : NULL;

	if (text != NULL && kind == HOOK_POSTSTART)
		let_begin(state->pid);
	for (size_t i = 0; i < c->hooks[kind].count; i++) {
		struct error err = {0};

		if (run_nth(c, kind, i, text, state, &err) < 0)
			log_warn("%s", err.text);
	}
}
