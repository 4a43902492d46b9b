/* vm_attend: what vm_start.c (until its process runs) and vm_attend.c (from then on) share. */
#pragma once

#include "base/loop.h"
#include "base/pump.h"
#include "engine/vm.h"

enum { CONSOLE_KEEP = 16 << 10 };

/* The last of what the machine's console and the VMM said. */
struct console {
	int fd; /* the reading end; -1: none, or it has ended */
	size_t len;
	char text[CONSOLE_KEEP + 1];
};
/* Takes what is there. */
void console_read(struct console *console);
/* The line that says why it ended, or NULL: a panic, or what the VMM said itself. Borrowed. */
const char *console_reason(struct console *console);

struct attendant {
	const char *id;
	const char *root, *state;
	int state_fd;
	bool is_first;   /* of the machine; else an exec */
	bool is_removed; /* nothing of what it writes is kept */
	bool terminal;
	int stdio[3];   /* of the process it stands for; a terminal: [0] is the slave */
	int streams[3]; /* to the agent; -1: none */
	int control_fd; /* to the agent */
	struct frame_in in;
	struct frame_out out;
	int number;    /* the agent's, of the process */
	pid_t vmm_pid; /* 0: it is not ours */
	int vmm_fd;    /* pidfd */
	struct console console;

	/* from the start on */
	struct loop *loop;
	struct loop_source *control_source, *console_source;
	struct loop_source *deadline; /* a timer: the workload was to be killed, and is not yet */
	struct pump input, output[2];
	bool exited;
	int exit_code;
};

/* One that stands for nothing yet, for the machine of `id`, which stays the caller's. */
struct attendant *attendant_new(const char *id);
/* Frees; closes its connection and the console, but for state_fd and stdio. */
void attendant_free(struct attendant *a);
/* Starts the VMM with the plan's "command", which is given the agent as the file initrd. */
int attendant_spawn(struct attendant *a, json_t *plan, struct error *err) must_check;
/* Waits until the agent answers: control_fd. */
int attendant_await_agent(struct attendant *a, struct error *err) must_check;
/* One more request on that connection, and its answer. */
int attendant_ask(struct attendant *a, json_t *request, int64_t timeout_ms,
		  struct error *err) must_check;
/* The request "prepare", completed with who the machine is as of now. */
int attendant_prepare(struct attendant *a, json_t *prepare, struct error *err) must_check;
/* In the attendant: starts the machine and the first process of it, or an exec's. */
int attendant_start_machine(struct attendant *a, json_t *plan, struct error *err) must_check;
/* Waits until the process that it stands for has ended. Its exit code. */
int attendant_await_exit(struct attendant *a, struct error *err) must_check;
int attendant_start_exec(struct attendant *a, json_t *exec, struct error *err) must_check;
/* Ends the machine, if it is ours, and waits for its end. Returns the wait status, -1 if unknown. */
int attendant_end_machine(struct attendant *a);
/* Notes for those who ask later: why the workload ended, and how often memory was out. */
void attendant_note_end(struct attendant *a, const char *reason, int64_t oom_kills);
