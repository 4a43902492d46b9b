/*
 * handover: how a prepared start goes from the command to the monitor: the locks, a few in each message,
 * then one message with the order, the plan's text (a memory file) and root.
 *
 * The monitor must stay small: so the order says in plain numbers what it needs to know of the
 * configuration, and it never parses JSON or opens the database.
 */
#pragma once

#include <stdint.h>

#include "engine/isolation.h"

enum order_flags {
	ORDER_TTY = 1,
	ORDER_STDIN_OPEN = 2,
	ORDER_STDIN_ONCE = 4,
	ORDER_AUTO_REMOVE = 8,
	ORDER_NEVER_STARTED = 16, /* a failure to start leaves it as "created" */
};

struct order {
	uint32_t version; /* ORDER_VERSION: the command may be newer than a monitor's file */
	uint32_t flags;   /* enum order_flags */
	uint32_t isolation;
	uint32_t attach; /* enum workload_attach_flags: how the sender wants to be connected */
	uint32_t restart;
	int32_t restart_max;
	int32_t stop_signal;
	uint32_t stop_timeout_ms; /* UINT32_MAX: never kill */
	uint32_t log;
	int32_t log_max_files;
	int64_t log_max_size_bytes; /* 0: unlimited */
	uint32_t text_len;
	uint32_t lock_count;
	uint32_t has_root;
	uint32_t plan_flags;
};
enum { ORDER_VERSION = 1 };

/* Fills all but what concerns the plan. */
void order_init(struct order *order, const struct workload *workload);

/* Sends; the plan stays the caller's, but its locks are given away (closed). */
int handover_send(int fd, struct order *order, struct plan *plan, struct error *err) must_check;
/* What the monitor receives: the text stays in its memory file. Returns 0, -EPIPE if the sender gave
 * up, -EPROTO. */
struct handover {
	struct order order;
	int text_fd, root_fd;
	struct plan_lock *locks; /* order.lock_count of them */
};
int handover_receive(int fd, struct handover *ret) must_check;
/* Reads the text, for the starter. NULL on failure. */
char *handover_text(const struct handover *handover);
