/*
 * monitor: the process that stays with a workload (monitor_priv.h says what is where).
 *
 *     state      event                      action                                  next state
 *     starting   started                    tell the command                        running
 *                failed                     note why                                finishing
 *     running    the process has ended,     policy says no, or stop was asked for   finishing
 *                its output is delivered    policy says again                       waiting
 *     waiting    the time is over           helper: remove the old, start anew      starting
 *                stop was asked for                                                 finishing
 *     finishing  the helper is done         tell everybody, exit
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "engine/monitor_priv.h"
#include "engine/name.h"

enum {
	RESTART_DELAY_MIN_MS = 100,
	RESTART_DELAY_MAX_MS = 60000,
	RESTART_CALM_S = 10, /* after so long a run the delay begins again at its smallest */
	FINISH_ATTEMPTS_MAX = 5,
	FINISH_RETRY_MS = 200,
	IDLE_MS = 1000,
};

static void finish(struct monitor *m);

/* --- being small ----------------------------------------------------------------------------------- */

__attribute__((hot)) static void became_idle(struct loop *loop, struct loop_source *source,
					     void *data)
{
	struct monitor *m = data;

	(void)loop;
	(void)source;
	clients_sweep(m);
	madvise(m->scratch, sizeof(*m->scratch), MADV_DONTNEED);
	malloc_trim(0);
	monitor_drop_pages(&m->droppable);
}

void monitor_event(struct monitor *m)
{
	clients_sweep(m);
	loop_set_timer(m->idle_timer, IDLE_MS);
}

/* --- the life -------------------------------------------------------------------------------------- */

/* A failure to write it is of no consequence but a wrong `ps`. */
static void publish(struct monitor *m, enum live_phase phase)
{
	m->live.phase = phase;
	if (live_write(m->live_fd, &m->live) < 0)
		return;
}

/* Tells those who wait for this end of the main process. */
static void tell_waiting(struct monitor *m, bool for_good)
{
	struct client *next;

	for (struct client *c = m->clients; c != NULL; c = next) {
		next = c->next;
		if (c->waits == CLIENT_WAITS_EXIT || (c->waits == CLIENT_WAITS_END && for_good))
			client_end(c, m->live.exit_code, m->start_failed ? &m->start_error : NULL);
	}
}

static bool wants_restart(const struct monitor *m)
{
	const struct order *o = &m->handover.order;

	if (m->stop_requested || m->start_failed)
		return false;
	switch ((enum workload_restart)o->restart) {
	case WORKLOAD_RESTART_NO:
		return false;
	case WORKLOAD_RESTART_ON_FAILURE:
		return m->live.exit_code != 0 &&
		       (o->restart_max == 0 || m->live.restart_count < o->restart_max);
	case WORKLOAD_RESTART_ALWAYS:
	case WORKLOAD_RESTART_UNLESS_STOPPED:
		return true;
	}
	return false;
}

static void start_failed(struct monitor *m, const struct error *why)
{
	m->start_failed = true;
	m->start_error = *why;
	m->live.exit_code = why->exit_status ? why->exit_status : 125;
	m->live.finished_ns = clock_now_ns();
	finish(m);
}

static void restart(struct loop *loop, struct loop_source *source, void *data)
{
	struct monitor *m = data;
	struct error why = {0};
	int rc;

	(void)loop;
	(void)source;
	monitor_event(m);
	m->live.restart_count++;
	m->phase = PHASE_STARTING;
	session_reset(m->main);
	rc = helper_start(m, HELPER_RESTART, m->main, -1, m->handover.order.flags & ORDER_TTY);
	if (rc < 0) {
		fail(&why, rc, "restart");
		start_failed(m, &why);
	}
}

static void wait_for_restart(struct monitor *m)
{
	if (m->live.finished_ns - m->live.started_ns > RESTART_CALM_S * INT64_C(1000000000))
		m->restart_delay_ms = 0;
	m->restart_delay_ms = m->restart_delay_ms ? m->restart_delay_ms * 2 : RESTART_DELAY_MIN_MS;
	if (m->restart_delay_ms > RESTART_DELAY_MAX_MS)
		m->restart_delay_ms = RESTART_DELAY_MAX_MS;
	m->phase = PHASE_WAITING;
	publish(m, LIVE_WAITING);
	loop_set_timer(m->restart_timer, m->restart_delay_ms);
}

static void retry_finish(struct loop *loop, struct loop_source *source, void *data)
{
	(void)loop;
	(void)source;
	finish(data);
}

static void finish(struct monitor *m)
{
	m->phase = PHASE_FINISHING;
	publish(m, LIVE_ENDED);
	loop_set_timer(m->kill_timer, -1);
	if (helper_start(m, HELPER_FINISH, NULL, -1, false) == 0)
		return;
	/* No process to be had: in a moment, perhaps; else recovery will do it. */
	if (m->finish_attempts++ >= FINISH_ATTEMPTS_MAX ||
	    loop_add_timer(m->loop, FINISH_RETRY_MS, retry_finish, m, NULL) < 0)
		loop_stop(m->loop, 1);
}

void monitor_session_ended(struct session *s)
{
	struct monitor *m = s->monitor;

	if (!s->is_main) {
		struct client *next;

		for (struct client *c = m->clients; c != NULL; c = next) {
			next = c->next;
			if (c->session == s)
				client_end(c, s->exit_code, NULL);
		}
		session_destroy(s);
		return;
	}
	if (wants_restart(m)) {
		tell_waiting(m, false);
		wait_for_restart(m);
	} else {
		finish(m);
	}
}

/* --- stopping --------------------------------------------------------------------------------------- */

static void want_stop(struct monitor *m)
{
	m->stop_requested = true;
	clients_hurry(m);
}

int monitor_signal(struct monitor *m, int signal)
{
	const struct isolation *wall = isolation_of(m->handover.order.isolation);

	if (m->phase == PHASE_STARTING) {
		m->signal_pending = signal;
		return 0;
	}
	if (m->phase != PHASE_RUNNING || m->main->pid <= 0)
		return -ESRCH;
	if (signal == SIGKILL || signal == m->handover.order.stop_signal)
		want_stop(m);
	/* Our own child, not reaped yet: the number is its. */
	if (wall->pass_signal != NULL)
		return wall->pass_signal(m->main->pid, signal);
	return kill(m->main->pid, signal) < 0 ? -errno : 0;
}

static void kill_time(struct loop *loop, struct loop_source *source, void *data)
{
	struct monitor *m = data;

	(void)loop;
	(void)source;
	monitor_event(m);
	if (monitor_signal(m, SIGKILL) < 0)
		return; /* it has ended meanwhile */
}

void monitor_request_stop(struct monitor *m, int signal, uint32_t timeout_ms)
{
	want_stop(m);
	if (m->phase == PHASE_WAITING) {
		loop_set_timer(m->restart_timer, -1);
		finish(m);
		return;
	}
	if (m->phase == PHASE_STARTING) {
		/* As soon as it runs. */
		m->stop_signal_pending = signal ? signal : m->handover.order.stop_signal;
		m->stop_timeout_pending = timeout_ms;
		return;
	}
	if (monitor_signal(m, signal ? signal : m->handover.order.stop_signal) < 0)
		return;
	loop_set_timer(m->kill_timer, timeout_ms == UINT32_MAX ? -1 : (int64_t)timeout_ms);
}

/* --- children --------------------------------------------------------------------------------------- */

static void exited(struct session *s, int status)
{
	struct monitor *m = s->monitor;

	if (s->is_main) {
		m->live.exit_code = proc_exit_code(status);
		m->live.finished_ns = clock_now_ns();
		m->live.pid = 0;
	}
	session_exit(s, proc_exit_code(status));
}

void monitor_reap(struct monitor *m)
{
	struct session *next;
	int status;

	for (struct session *s = m->sessions; s != NULL; s = next) {
		next = s->next;
		if (s->pid > 0 && waitpid(s->pid, &status, WNOHANG) == s->pid)
			exited(s, status);
	}
	/* Anybody else is nobody's, unless a helper is about to tell us whose it is. */
	while (m->helpers == NULL && waitpid(-1, &status, WNOHANG) > 0)
		;
}

static void child_ended(struct loop *loop, struct loop_source *source, int signal, void *data)
{
	(void)loop;
	(void)source;
	(void)signal;
	monitor_event(data);
	monitor_reap(data);
}

/* A process that ended before we knew that it was ours. */
static void look_at(struct session *s)
{
	int status;

	if (waitpid(s->pid, &status, WNOHANG) == s->pid)
		exited(s, status);
}

static void started(struct monitor *m, const struct helper_result *result)
{
	const int pending = m->signal_pending;

	m->live.pid = result->pid;
	m->live.started_ns = clock_now_ns();
	m->live.paused = 0;
	m->phase = PHASE_RUNNING;
	publish(m, LIVE_RUNNING);
	for (struct client *c = m->clients, *next; c != NULL; c = next) {
		next = c->next;
		if (c->foreground && c->session == m->main &&
		    channel_send_head(c->fd, CHANNEL_STARTED, (uint32_t)result->pid, 0, false) < 0)
			client_remove(c);
	}
	m->signal_pending = 0;
	if (m->stop_requested)
		monitor_request_stop(m, m->stop_signal_pending, m->stop_timeout_pending);
	if (pending != 0 && monitor_signal(m, pending) < 0)
		return; /* it has ended meanwhile */
}

/* Gives it its process, or notes that it could not have its terminal. */
static void session_adopt(struct session *s, struct helper_result *result, int console_fd)
{
	int rc = console_fd >= 0 ? session_terminal(s, console_fd) : 0;

	if (rc < 0)
		result->rc = fail(&result->err, rc, "watch its terminal");
	else
		s->pid = result->pid;
}

static void main_done(struct monitor *m, struct helper_result *result, int console_fd)
{
	fd_close(&m->handover.root_fd);
	if (result->rc == 0)
		session_adopt(m->main, result, console_fd);
	if (result->rc < 0) {
		start_failed(m, &result->err);
		return;
	}
	started(m, result);
	look_at(m->main);
}

static void exec_done(struct monitor *m, struct session *s, struct helper_result *result,
		      int console_fd)
{
	if (result->rc == 0)
		session_adopt(s, result, console_fd);
	for (struct client *c = m->clients, *next; c != NULL; c = next) {
		next = c->next;
		if (c->session != s)
			continue;
		if (result->rc < 0)
			client_end(c, 0, &result->err);
		else if (channel_send_head(c->fd, CHANNEL_STARTED, (uint32_t)result->pid, 0,
					   false) < 0)
			client_remove(c);
	}
	if (result->rc < 0)
		session_destroy(s);
	else
		look_at(s);
}

static void finish_done(struct monitor *m, const struct helper_result *result)
{
	if (result->rc < 0 && m->finish_attempts++ < FINISH_ATTEMPTS_MAX) {
		if (loop_add_timer(m->loop, FINISH_RETRY_MS, retry_finish, m, NULL) == 0)
			return;
	}
	if (result->rc == 0 && result->err.text[0] != '\0')
		m->end_reason = str_copy_n(result->err.text,
					   strnlen(result->err.text, sizeof(result->err.text)));
	tell_waiting(m, true);
	loop_stop(m->loop, result->rc < 0);
}

void helper_done(struct monitor *m, enum helper_kind kind, struct session *session,
		 const struct helper_result *result, int console_fd)
{
	struct helper_result copy = *result;

	switch (kind) {
	case HELPER_START:
	case HELPER_RESTART:
		main_done(m, &copy, console_fd);
		break;
	case HELPER_EXEC:
		exec_done(m, session, &copy, console_fd);
		break;
	case HELPER_FINISH:
		finish_done(m, &copy);
		break;
	}
}

/* --- the process ------------------------------------------------------------------------------------ */

static int open_files(struct monitor *m)
{
	struct engine paths;
	own_mem char *workload_path = NULL, *state_path = NULL;
	int dir;

	engine_init_paths(&paths, m->root, m->state);
	workload_path = str_format("%s/%s", paths.root, workload_dir(m->id).path);
	state_path = str_format("%s/%s", paths.state, m->id);
	free(paths.root);
	free(paths.state);
	dir = open(workload_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	m->state_dir_fd = open(state_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || m->state_dir_fd < 0)
		return -errno;
	log_file_init(&m->log, dir, &m->handover.order);
	m->live_fd = openat(m->state_dir_fd, "run", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return m->live_fd < 0 ? -errno : 0;
}

static int set_up(struct monitor *m)
{
	int rc = loop_create(&m->loop);

	if (rc == 0)
		rc = open_files(m);
	if (rc == 0)
		rc = loop_add_signal(m->loop, SIGCHLD, child_ended, m, NULL);
	if (rc == 0)
		rc = loop_add_timer(m->loop, -1, kill_time, m, &m->kill_timer);
	if (rc == 0)
		rc = loop_add_timer(m->loop, -1, restart, m, &m->restart_timer);
	if (rc == 0)
		rc = loop_add_timer(m->loop, -1, became_idle, m, &m->idle_timer);
	if (rc == 0)
		rc = clients_listen(m);
	m->scratch = mmap(NULL, sizeof(*m->scratch), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return m->scratch == MAP_FAILED ? -ENOMEM : rc;
}

/* The command that started us is the first client. */
static int welcome(struct monitor *m)
{
	struct client *c = client_add(m, MONITOR_CHANNEL_FD);

	if (c == NULL)
		return -ENOMEM;
	c->session = m->main;
	c->attach = m->handover.order.attach;
	c->foreground = true;
	c->waits = CLIENT_WAITS_EXIT;
	return 0;
}

static int run(struct monitor *m)
{
	int rc = set_up(m);

	if (rc < 0)
		return rc;
	m->live.version = LIVE_VERSION;
	m->live.monitor_pid = getpid();
	publish(m, LIVE_STARTING);
	m->main = session_create(m, true);
	m->main->wants_input = (m->handover.order.flags & ORDER_STDIN_OPEN) != 0;
	m->main->stdin_once = (m->handover.order.flags & ORDER_STDIN_ONCE) != 0;
	rc = welcome(m);
	if (rc == 0)
		rc = helper_start(m, HELPER_START, m->main, -1,
				  m->handover.order.flags & ORDER_TTY);
	return rc < 0 ? rc : loop_run(m->loop);
}

/* argv: "monitor" <id> <root> <state> */
int workload_monitor_main(int argc, char **argv)
{
	struct monitor m = {.listen_fd = -1, .live_fd = -1, .state_dir_fd = -1};
	struct error why = {0};
	int rc;

	if (argc != 4 || !id_is_valid(argv[1]) || fcntl(MONITOR_LOCK_FD, F_GETFD) < 0 ||
	    proc_cloexec_from(MONITOR_LOCK_FD) < 0)
		return 125;
	strcpy(m.id, argv[1]);
	m.root = argv[2];
	m.state = argv[3];
	signal(SIGPIPE, SIG_IGN);
	/* The sender has gone, or has given up: it, or recovery, cleans up. */
	if (handover_receive(MONITOR_CHANNEL_FD, &m.handover) < 0)
		return 0;
	rc = run(&m);
	if (rc < 0) {
		fail(&why, rc, "monitor");
		if (channel_send_error(MONITOR_CHANNEL_FD, &why) < 0)
			return 125;
	}
	return rc == 0 ? 0 : 125;
}
