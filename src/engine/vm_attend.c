/*
 * vm_attend: the process that stands for one in a machine (vm.h). A fork of a helper of the monitor, and
 * a child of the monitor's own.
 *
 *     monitor  <== pipes, or a terminal in raw mode ==>  attendant  <== streams ==>  agent
 *
 *     signal           -> {"do":"signal"}
 *     SIGWINCH         -> {"do":"resize"}: the terminal's master is the monitor's, which sets its size
 *     {"event":"exit"} -> end with that code, when all output has been delivered
 *     the VMM's end    -> end, with a note why
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/tty.h"
#include "engine/vm_attend.h"
#include "vmm/machine/machine.h"

enum {
	FAILED_CODE = 125,
	KILLED_CODE = 137,
	LAST_WORDS_MS = 3000,
	/* So long may a workload take to be killed: until the agent says that it has heard, and from then
	 * on, while what was written goes to its disk. */
	HEAR_KILL_MS = 10000,
	KILL_MS = 45000,
	/* The same for one of which nothing is kept: it is only that its last output may come. */
	KILL_REMOVED_MS = 1000,
};
/* What the monitor sends; its value is the signal that is meant. */
#define PASSED_SIGNAL SIGRTMIN

/* --- the end ---------------------------------------------------------------------------------------------- */

static bool output_done(const struct attendant *a)
{
	return a->output[0].ended && a->output[1].ended;
}

static void maybe_end(struct attendant *a)
{
	if (a->exited && output_done(a))
		loop_stop(a->loop, a->exit_code);
}

static void pump_done(struct pump *pump, void *data)
{
	(void)pump;
	maybe_end(data);
}

static void set_exit(struct attendant *a, int code)
{
	if (a->exited)
		return;
	a->exited = true;
	a->exit_code = code;
	/* The agent has closed its ends, or is gone: the pumps find the end themselves. */
	pump_release(&a->input);
	maybe_end(a);
}

/* The connections of a guest that crashes end before its machine does: whose own end says more than that
 * we ended it. */
static void await_end(struct attendant *a)
{
	const int64_t deadline = clock_monotonic_ns() + LAST_WORDS_MS * INT64_C(1000000);
	int64_t left = LAST_WORDS_MS;

	while (a->vmm_fd >= 0 && left > 0) {
		struct pollfd polls[] = {{.fd = a->vmm_fd, .events = POLLIN},
					 {.fd = a->console.fd, .events = POLLIN}};

		if (poll(polls, 2, (int)left) < 0 && errno != EINTR)
			return;
		if (polls[1].revents)
			console_read(&a->console);
		if (polls[0].revents)
			return;
		left = (deadline - clock_monotonic_ns()) / 1000000;
	}
}

/* The signal that ended the VMM, or its child, for whom it says so; 0 for none. */
static int killed_by(int status)
{
	if (status < 0)
		return 0;
	if (WIFSIGNALED(status))
		return WTERMSIG(status);
	return WIFEXITED(status) && WEXITSTATUS(status) > 128 ? WEXITSTATUS(status) - 128 : 0;
}

/* What became of a machine whose kernel did not crash. */
static const char *what_it_did(int status)
{
	switch (status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : FAILED_CODE) {
	case 0:
		return "switched itself off";
	case MACHINE_WAS_RESET:
		return "was restarted from within, which ends it";
	default:
		return "failed";
	}
}

/* The machine is gone, and nobody has said why. */
static void machine_ended(struct attendant *a)
{
	const char *line;
	int status, signal;

	if (a->exited)
		return;
	if (!a->is_first) {
		set_exit(a, KILLED_CODE);
		return;
	}
	loop_remove(a->console_source);
	a->console_source = NULL;
	await_end(a);
	status = attendant_end_machine(a);
	line = console_reason(&a->console);
	signal = killed_by(status);
	if (signal != 0) {
		char text[96];

		snprintf(text, sizeof(text), "its virtual machine was killed by signal %d", signal);
		attendant_note_end(a, text, 0);
		set_exit(a, KILLED_CODE);
		return;
	}
	if (line != NULL && str_after(line, "Kernel panic - ") != NULL) {
		own_mem char *text = str_format("the kernel of its virtual machine crashed: %s",
						str_after(line, "Kernel panic - "));

		attendant_note_end(a, text, 0);
	} else {
		own_mem char *text = str_format("its virtual machine %s%s%s", what_it_did(status),
						line ? ": " : "", line ? line : "");

		attendant_note_end(a, text, 0);
	}
	set_exit(a, FAILED_CODE);
}

/* A guest that does not answer is not asked again. */
static void kill_late(struct loop *loop, struct loop_source *source, void *data)
{
	struct attendant *a = data;

	(void)loop;
	(void)source;
	if (a->exited)
		return;
	/* Its streams end with the machine: until then the output would be waited for. */
	if (a->is_first) {
		attendant_note_end(a, "its virtual machine did not answer, and was killed", 0);
		loop_remove(a->console_source);
		a->console_source = NULL;
		(void)attendant_end_machine(a);
	}
	set_exit(a, KILLED_CODE);
}

/* --- the agent --------------------------------------------------------------------------------------------- */

static void flush(struct attendant *a)
{
	int rc = frame_flush(&a->out, a->control_fd);

	if (rc >= 0)
		rc = loop_set_events(a->control_source, EPOLLIN | (rc > 0 ? EPOLLOUT : 0U));
	if (rc < 0)
		machine_ended(a);
}

static void request(struct attendant *a, const char *what, json_t *members)
{
	json_set_string(members, "do", what);
	json_object_set_new(members, "process", json_integer(a->number));
	/* A guest that takes nothing must not fill our memory. */
	if (a->out.data.len < 64 << 10)
		frame_add(&a->out, members);
	json_decref(members);
	flush(a);
}

static void take_event(struct attendant *a, json_t *message)
{
	const char *event = json_string_value(json_object_get(message, "event"));
	json_int_t code = json_integer_value(json_object_get(message, "code"));
	json_int_t oom = json_integer_value(json_object_get(message, "oom"));

	/* Of answers only one matters: that the agent has heard of the end that it is to make. */
	if (event == NULL && a->deadline != NULL && json_object_get(message, "id") != NULL)
		loop_set_timer(a->deadline, a->is_removed ? KILL_REMOVED_MS : KILL_MS);
	if (!str_eq(event, "exit"))
		return;
	if (a->is_first && oom > 0)
		attendant_note_end(a, NULL, oom);
	set_exit(a, (int)(code & 0xff));
}

static void take_events(struct attendant *a)
{
	json_t *message = NULL;
	int rc = 1;

	while (rc > 0 && !a->exited && (rc = frame_receive(&a->in, a->control_fd, &message)) > 0) {
		take_event(a, message);
		json_decref(message);
	}
	if (rc < 0) {
		loop_remove(a->control_source);
		a->control_source = NULL;
		machine_ended(a);
	}
}

static void control_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			  void *data)
{
	struct attendant *a = data;

	(void)loop;
	(void)source;
	(void)fd;
	if (events & EPOLLOUT)
		flush(a);
	take_events(a);
}

/* A process that ends at once is told of together with the answer that it runs: no descriptor becomes
 * readable for what we have read already. */
static void look_first(struct loop *loop, struct loop_source *source, void *data)
{
	(void)loop;
	(void)source;
	take_events(data);
}

/* --- the monitor -------------------------------------------------------------------------------------------- */

static void send_size(struct attendant *a)
{
	struct tty_size size;
	json_t *o;

	if (!a->terminal || tty_get_size(a->stdio[0], &size) < 0)
		return;
	o = json_object();
	json_object_set_new(o, "rows", json_integer(size.rows));
	json_object_set_new(o, "columns", json_integer(size.columns));
	request(a, "resize", o);
}

/* To the workload. All of it is killed by the agent, which writes to the disk what the workload wrote; the
 * machine alone would be as one whose power is cut. */
static void pass_on(struct attendant *a, int signal)
{
	const bool kill_all = signal == SIGKILL && a->is_first;
	json_t *o = json_object();

	json_object_set_new(o, "signal", json_integer(signal));
	json_object_set_new(o, "all", json_boolean(kill_all));
	if (kill_all && a->deadline == NULL) {
		json_object_set_new(o, "id", json_integer(signal));
		if (loop_add_timer(a->loop, a->is_removed ? KILL_REMOVED_MS : HEAR_KILL_MS,
				   kill_late, a, &a->deadline) < 0) {
			json_decref(o);
			kill_late(a->loop, NULL, a);
			return;
		}
	}
	request(a, "signal", o);
}

static void signal_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			 void *data)
{
	struct attendant *a = data;
	struct signalfd_siginfo info;

	(void)loop;
	(void)source;
	(void)events;
	if (read(fd, &info, sizeof(info)) != sizeof(info) || a->control_source == NULL)
		return;
	if (info.ssi_signo == SIGWINCH && a->terminal) {
		send_size(a);
		return;
	}
	if (info.ssi_signo == (uint32_t)PASSED_SIGNAL && info.ssi_code == SI_QUEUE)
		pass_on(a, info.ssi_int);
	else
		pass_on(a, (int)info.ssi_signo);
}

int vm_pass_signal(pid_t attendant, int signal)
{
	const union sigval value = {.sival_int = signal};

	if (sigqueue(attendant, PASSED_SIGNAL, value) == 0)
		return 0;
	/* Too many wait already: better the plain one than none. */
	return errno == EAGAIN && kill(attendant, signal) == 0 ? 0 : -errno;
}

static void vmm_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		      void *data)
{
	struct attendant *a = data;

	(void)loop;
	(void)fd;
	(void)events;
	loop_remove(source);
	console_read(&a->console);
	machine_ended(a);
}

static void console_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			  void *data)
{
	struct attendant *a = data;

	(void)loop;
	(void)source;
	(void)fd;
	/* Removed before it may be closed (loop.h, L2). */
	if (events & EPOLLHUP) {
		loop_remove(a->console_source);
		a->console_source = NULL;
		console_read(&a->console);
		return;
	}
	console_read(&a->console);
}

/* All that can be passed on wait until they are. */
static void hold_signals(sigset_t *ret)
{
	sigfillset(ret);
	sigdelset(ret, SIGCHLD);
	sigdelset(ret, SIGPIPE);
	sigprocmask(SIG_SETMASK, ret, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int watch_signals(struct attendant *a)
{
	sigset_t set;
	int fd;

	hold_signals(&set);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : loop_add_io(a->loop, fd, EPOLLIN, signal_ready, a, NULL);
}

/* --- the streams -------------------------------------------------------------------------------------------- */

static int duplicate(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int start_pumps(struct attendant *a)
{
	int rc = 0;

	a->input = a->output[0] = a->output[1] = PUMP_NONE;
	if (a->terminal) {
		rc = pump_start(&a->output[0], a->loop, duplicate(a->streams[0]),
				duplicate(a->stdio[0]), 0, pump_done, a);
		if (rc == 0)
			rc = pump_start(&a->input, a->loop, duplicate(a->stdio[0]), a->streams[0],
					PUMP_SHUTDOWN, NULL, NULL);
		return rc;
	}
	if (a->streams[0] >= 0)
		rc = pump_start(&a->input, a->loop, a->stdio[0], a->streams[0], PUMP_SHUTDOWN, NULL,
				NULL);
	for (int i = 1; rc == 0 && i < 3; i++)
		if (a->streams[i] >= 0)
			rc = pump_start(&a->output[i - 1], a->loop, a->streams[i], a->stdio[i], 0,
					pump_done, a);
	return rc;
}

static int attend(struct attendant *a)
{
	int rc = loop_create(&a->loop);

	if (rc == 0)
		rc = watch_signals(a);
	if (rc == 0)
		rc = start_pumps(a);
	if (rc == 0)
		rc = loop_add_io(a->loop, a->control_fd, EPOLLIN, control_ready, a,
				 &a->control_source);
	if (rc == 0)
		rc = loop_add_timer(a->loop, 0, look_first, a, NULL);
	if (rc == 0 && a->vmm_fd >= 0)
		rc = loop_add_io(a->loop, a->vmm_fd, EPOLLIN, vmm_ready, a, NULL);
	if (rc == 0 && a->console.fd >= 0)
		rc = loop_add_io(a->loop, a->console.fd, EPOLLIN, console_ready, a,
				 &a->console_source);
	if (rc == 0) {
		send_size(a);
		rc = loop_run(a->loop);
	}
	return rc < 0 ? FAILED_CODE : rc;
}

/* --- the process -------------------------------------------------------------------------------------------- */

/* What the parent hands on and what it is told. */
struct birth {
	struct attendant *attendant;
	json_t *plan, *exec;
	pid_t parent; /* the monitor */
	int report_fd;
};
struct report {
	int rc;
	struct error err;
};

/* Keeps only our own descriptors: among those of the monitor are its lock and those of layers. */
static void close_others(const struct birth *b)
{
	const struct attendant *a = b->attendant;
	int keep[] = {a->stdio[0], a->stdio[1], a->stdio[2], a->state_fd, b->report_fd};
	unsigned int from = 3;

	for (;;) {
		int next = -1;

		for (size_t i = 0; i < array_size(keep); i++)
			if (keep[i] >= (int)from && (next < 0 || keep[i] < next))
				next = keep[i];
		if (next < 0)
			break;
		if ((unsigned int)next > from)
			syscall(SYS_close_range, from, (unsigned int)next - 1, 0);
		from = (unsigned int)next + 1;
	}
	syscall(SYS_close_range, from, ~0U, 0);
}

static int begin(const struct birth *b, struct error *err)
{
	struct attendant *a = b->attendant;
	sigset_t held;
	int rc;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != b->parent)
		return fail(err, -ESRCH, "stay with the monitor");
	close_others(b);
	hold_signals(&held);
	if (setsid() < 0)
		return fail(err, -errno, "create a session");
	if (a->terminal && ioctl(a->stdio[0], TIOCSCTTY, 0) < 0)
		return fail(err, -errno, "take the terminal");
	if (b->plan &&
	    (rc = vm_cgroup_enter(a->state_fd, a->id, json_object_get(b->plan, "host"), err)) < 0)
		return rc;
	return b->plan ? attendant_start_machine(a, b->plan, err)
		       : attendant_start_exec(a, b->exec, err);
}

static _Noreturn void be_attendant(const struct birth *b)
{
	struct attendant *a = b->attendant;
	struct report report = {0};
	int code = FAILED_CODE;

	report.rc = begin(b, &report.err);
	if (report.rc < 0)
		attendant_end_machine(a);
	if (sock_send_fds(b->report_fd, &report, sizeof(report), NULL, 0) < 0 || report.rc < 0) {
		attendant_end_machine(a);
		_exit(FAILED_CODE);
	}
	close(b->report_fd);
	code = attend(a);
	attendant_end_machine(a);
	_exit(code);
}

int vm_open_terminal(int *ret_master, int *ret_slave)
{
	own_fd int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	own_fd int slave = -1;
	struct termios settings;
	int unlock = 0;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return -errno;
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || tcgetattr(slave, &settings) < 0)
		return -errno;
	cfmakeraw(&settings);
	if (tcsetattr(slave, TCSANOW, &settings) < 0)
		return -errno;
	*ret_master = take(master);
	*ret_slave = take(slave);
	return 0;
}

static int await_report(int fd, struct error *err)
{
	struct report report;
	size_t count = 0;
	ssize_t n = sock_receive_fds(fd, &report, sizeof(report), NULL, 0, &count);

	if (n != sizeof(report))
		return refuse(err, -EIO, "a process of berth's own was killed");
	if (report.rc < 0 && err != NULL)
		*err = report.err;
	return report.rc;
}

int vm_attend(struct engine *engine, const char *id, json_t *plan, json_t *exec, const int stdio[3],
	      bool terminal, struct isolation_child *ret, struct error *err)
{
	own_fd int state_fd = open(engine->state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	own_fd int master = -1, slave = -1, ours = -1, theirs = -1;
	own_mem struct attendant *a = mem_new(sizeof(*a));
	struct birth birth = {.attendant = a, .plan = plan, .exec = exec, .parent = getppid()};
	int pair[2], rc = 0;
	pid_t pid;

	*a = (struct attendant){.id = id,
				.root = engine->root,
				.state = engine->state,
				.state_fd = state_fd,
				.is_first = plan != NULL,
				.is_removed = json_is_true(json_object_get(plan, "removed")),
				.terminal = terminal,
				.stdio = {stdio[0], stdio[1], stdio[2]},
				.streams = {-1, -1, -1},
				.control_fd = -1,
				.vmm_fd = -1,
				.console.fd = -1};
	if (state_fd < 0)
		return fail(err, -errno, "open %s", engine->state);
	if (terminal && (rc = vm_open_terminal(&master, &slave)) < 0)
		return fail(err, rc, "make a terminal");
	if (terminal) {
		a->stdio[0] = slave;
		a->stdio[1] = a->stdio[2] = -1;
	}
	rc = sock_pair(SOCK_SEQPACKET, pair);
	if (rc < 0)
		return fail(err, rc, "start a process");
	ours = pair[0];
	theirs = birth.report_fd = pair[1];
	/* As the monitor's child, which collects it. */
	pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0)
		return fail(err, -errno, "start a process");
	if (pid == 0)
		be_attendant(&birth);
	fd_close(&theirs);
	rc = await_report(ours, err);
	if (rc < 0)
		return rc;
	ret->pid = pid;
	ret->console_fd = terminal ? take(master) : -1;
	return 0;
}
