/*
 * monitor_priv: what the files of the monitor share.
 *
 *     monitor.c          the life of a workload: starting, running, waiting, finishing
 *     monitor_helper.c   short-lived children that do what needs memory: start, exec, restart, finish
 *     monitor_session.c  the streams of one process: its pipes or terminal
 *     monitor_client.c   the commands that are connected
 *     monitor_log.c      the log file
 *
 * The monitor is one process without threads around one loop. It is to cost next to nothing while its
 * workload runs: it parses no JSON, opens no database, uses no stdio, and gives memory back when it
 * has been idle for a moment.
 *
 * Invariants
 *   M1  nothing in the loop blocks: streams, connections and the log's pipes are non-blocking.
 *   M2  output is read from a process only when everybody it goes to has taken what came before; so at
 *       most one piece waits for each client. A client that only looks on (attach), or any once the
 *       workload is asked to stop, is dropped if it takes nothing for CLIENT_PATIENCE_MS, instead of
 *       holding up the workload.
 *   M3  the end of a process is told to its clients after all of its output.
 *   M4  the lock (descriptor 3) is held by nobody but the monitor and its children.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/loop.h"
#include "engine/channel.h"
#include "engine/handover.h"
#include "engine/live.h"

enum {
	MONITOR_LOCK_FD = 3,
	MONITOR_CHANNEL_FD = 4,
	CLIENT_PATIENCE_MS = 10000,
	CLIENTS_MAX = 256,
	READ_MAX = 16 << 10, /* of output at once */
};

struct monitor;
struct session;

/* --- log ----------------------------------------------------------------------------------------- */

struct log {
	int dir_fd; /* the workload's directory */
	int fd;     /* -1 until the first output */
	bool off;
	int64_t size, max_size;
	int max_files;
	/* Bytes of a character whose rest has not come yet, for each stream. */
	char partial[2][4];
	unsigned int partial_len[2];
};
void log_file_init(struct log *log, int dir_fd, const struct order *order);
/* Appends output of stream 1 or 2. Failures (full disk) lose output of the log, never of clients. */
void log_file_add(struct log *log, int stream, const char *data, size_t len);

/* --- clients -------------------------------------------------------------------------------------- */

struct client {
	struct client *next, *next_dead;
	struct monitor *monitor;
	struct loop_source *source;
	struct loop_source *patience; /* runs while something waits to be sent */
	struct session *session;      /* what it is attached to, or NULL */
	int fd;                       /* -1: removed */
	uint32_t attach;              /* enum workload_attach_flags */
	bool foreground;  /* the command that started the session: may hold up its output */
	bool stdin_given; /* it has sent input */
	enum { CLIENT_WAITS_NOT = 0, CLIENT_WAITS_END, CLIENT_WAITS_EXIT } waits;
	struct packet *pending; /* output that it has not taken yet */
	size_t pending_len;
};
/* Takes the connection over. */
struct client *client_add(struct monitor *m, int fd);
void client_remove(struct client *client);
/* Gives output to a client; it must have nothing pending. */
void client_output(struct client *client, struct packet *packet, size_t len);
/* Tells the end and closes; NULL for `why`: an exit, with whatever monitor->end_reason says. */
void client_end(struct client *client, int exit_code, const struct error *why);
/* Frees those that were removed. */
void clients_sweep(struct monitor *m);
/* To be called when the workload is asked to stop: M2. */
void clients_hurry(struct monitor *m);
/* Pauses or resumes the reading of input from clients of a session. */
void clients_set_input(struct monitor *m, struct session *session, bool on);
int clients_listen(struct monitor *m) must_check;

/* --- sessions ------------------------------------------------------------------------------------- */

struct session {
	struct session *next;
	struct monitor *monitor;
	pid_t pid; /* 0: being started */
	bool is_main, tty, stdin_once, wants_input;
	bool exited;  /* its process has ended; what it wrote may still be on its way */
	bool ended;   /* all output has been delivered */
	bool hung_up; /* nobody has the terminal open */
	int exit_code;
	int in_fd, out_fd[2]; /* a terminal: in_fd and out_fd[0] are duplicates of its master */
	struct loop_source *in_source, *out_source[2];
	char *input; /* accepted, but not taken by the process yet */
	size_t input_len;
	bool input_ends; /* close in_fd when `input` is gone */
};
struct session *session_create(struct monitor *m, bool is_main);
/* Makes pipes; *child_stdio gets the child's ends (-1: /dev/null). */
int session_pipes(struct session *s, int child_stdio[3]) must_check;
/* Uses a terminal's master instead. */
int session_terminal(struct session *s, int console_fd) must_check;
void session_input(struct session *s, const char *data, size_t len);
void session_input_end(struct session *s);
void session_resize(struct session *s, unsigned int rows, unsigned int columns);
/* The reader of stream 1 or 2 is gone: the process is to notice, as with a pipe. */
void session_break_output(struct session *s, int stream);
/* Its process has ended: when its output has been delivered session_ended is called. */
void session_exit(struct session *s, int exit_code);
/* Reads what is there, unless a client has something pending. */
void session_pump(struct session *s);
/* For the next process of the main session. */
void session_reset(struct session *s);
void session_destroy(struct session *s);

/* --- helpers -------------------------------------------------------------------------------------- */

enum helper_kind { HELPER_START, HELPER_RESTART, HELPER_EXEC, HELPER_FINISH };

/* What a helper reports, with the terminal's master if there is one. */
struct helper_result {
	int rc;
	pid_t pid;
	struct error err;
};

struct helper {
	struct helper *next;
	struct monitor *monitor;
	enum helper_kind kind;
	pid_t pid;
	int fd; /* its report comes here */
	struct loop_source *source;
	struct session *session; /* start, exec */
	int text_fd;             /* exec: the process as JSON */
	bool wants_console;
	struct engine *engine; /* in the finishing helper: open still after its work */
};
/* Starts one. */
int helper_start(struct monitor *m, enum helper_kind kind, struct session *session, int text_fd,
		 bool tty) must_check;
/* Its report; console_fd is the receiver's. A helper that died reports -EIO. */
void helper_done(struct monitor *m, enum helper_kind kind, struct session *session,
		 const struct helper_result *result, int console_fd);

/* --- the monitor ----------------------------------------------------------------------------------- */

/* Parts of our memory that can be dropped; found once. */
struct memory_range {
	uintptr_t start, end;
};
struct memory_ranges {
	struct memory_range items[24];
	size_t count;
};

enum monitor_phase {
	PHASE_STARTING,
	PHASE_RUNNING,
	PHASE_WAITING,   /* for the restart's time */
	PHASE_FINISHING, /* the finishing helper works */
};

struct monitor {
	struct loop *loop;
	char id[WORKLOAD_ID_LEN + 1];
	const char *root, *state;
	struct handover handover;
	int state_dir_fd, live_fd, listen_fd;
	struct live live;
	enum monitor_phase phase;
	bool stop_requested;     /* by the user: not to be restarted */
	int signal_pending;      /* sent while it was being started */
	int stop_signal_pending; /* asked for meanwhile, too */
	uint32_t stop_timeout_pending;
	bool start_failed;
	struct error start_error;
	char *end_reason; /* why it ended, if the exit code does not say so; or NULL */
	struct loop_source *kill_timer, *restart_timer, *idle_timer;
	int64_t restart_delay_ms;
	int finish_attempts;
	struct session *main; /* first of `sessions` */
	struct session *sessions;
	struct client *clients, *dead_clients;
	struct helper *helpers;
	struct log log;
	struct memory_ranges droppable;
	struct packet *scratch; /* pages that are given back when idle */
};

/* Calls from the parts. */
void monitor_session_ended(struct session *s);
/* Collects every child that has ended: those of sessions, and, while no helper runs, all others. */
void monitor_reap(struct monitor *m);
void monitor_request_stop(struct monitor *m, int signal, uint32_t timeout_ms);
/* One that is being started gets it as soon as it runs. -ESRCH if it does not run. */
int monitor_signal(struct monitor *m, int signal) must_check;
/* Gives the pages of the program back that are not needed to wait (monitor_small.c). */
void monitor_drop_pages(struct memory_ranges *ranges);
/* To be called first by every callback of the loop: frees what the last one left, notes that the
 * monitor is not idle. */
void monitor_event(struct monitor *m);
/* In a helper: what its kind has to do. */
int monitor_helper_work(struct helper *h, struct monitor *m, const int stdio[3],
			struct isolation_child *child, struct error *err) must_check;
/* What can be done after its report: nobody waits for it any more. */
void monitor_helper_after(struct helper *h);
