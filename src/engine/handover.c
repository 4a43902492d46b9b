/* handover: see handover.h. */
#include "engine/handover.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/str.h"

enum {
	STOP_TIMEOUT_DEFAULT_S = 10,
	LOG_SIZE_DEFAULT = 16 << 20,
	LOG_FILES_DEFAULT = 2,
	LOCKS_AT_ONCE = SOCK_FDS_MAX,
};

struct lock_names {
	char names[LOCKS_AT_ONCE][DIGEST_TEXT_MAX];
};

static uint32_t timeout_ms(int seconds)
{
	if (seconds < 0)
		seconds = STOP_TIMEOUT_DEFAULT_S;
	return seconds > INT_MAX / 1000 ? UINT32_MAX : (uint32_t)seconds * 1000;
}

void order_init(struct order *order, const struct workload *workload)
{
	const struct workload_config *c = &workload->config;
	int stop_signal = c->stop_signal ? proc_parse_signal(c->stop_signal) : SIGTERM;

	*order = (struct order){
		.version = ORDER_VERSION,
		.flags = (c->flags & WORKLOAD_TTY ? ORDER_TTY : 0) |
			 (c->flags & WORKLOAD_STDIN_OPEN ? ORDER_STDIN_OPEN : 0) |
			 (c->flags & WORKLOAD_STDIN_ONCE ? ORDER_STDIN_ONCE : 0) |
			 (c->flags & WORKLOAD_AUTO_REMOVE ? ORDER_AUTO_REMOVE : 0) |
			 (workload->started_ns == 0 ? ORDER_NEVER_STARTED : 0),
		.isolation = c->isolation,
		.restart = c->restart,
		.restart_max = c->restart_max,
		.stop_signal = stop_signal > 0 ? stop_signal : SIGTERM,
		.stop_timeout_ms = timeout_ms(c->stop_timeout_s),
		.log = c->log,
		.log_max_files = c->log_max_files > 0 ? c->log_max_files : LOG_FILES_DEFAULT,
		.log_max_size_bytes =
			c->log_max_size_bytes >= 0 ? c->log_max_size_bytes : LOG_SIZE_DEFAULT,
	};
}

/* Sends the locks and closes them here. */
static int send_locks(int fd, struct plan *plan)
{
	for (size_t at = 0; at < plan->lock_count; at += LOCKS_AT_ONCE) {
		struct lock_names names = {0};
		int fds[LOCKS_AT_ONCE];
		size_t n = plan->lock_count - at;
		int rc;

		if (n > LOCKS_AT_ONCE)
			n = LOCKS_AT_ONCE;
		for (size_t i = 0; i < n; i++) {
			fds[i] = plan->locks[at + i].fd;
			memcpy(names.names[i], plan->locks[at + i].name, DIGEST_TEXT_MAX);
		}
		rc = sock_send_fds(fd, &names, sizeof(names), fds, n);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < n; i++)
			fd_close(&plan->locks[at + i].fd);
	}
	return 0;
}

int handover_send(int fd, struct order *order, struct plan *plan, struct error *err)
{
	own_fd int text = memfd_create("plan", MFD_CLOEXEC);
	int fds[2] = {text, plan->root_fd};
	int rc;

	order->text_len = (uint32_t)strlen(plan->text);
	order->lock_count = (uint32_t)plan->lock_count;
	order->has_root = plan->root_fd >= 0;
	order->plan_flags = plan->flags;
	if (text < 0)
		return fail(err, -errno, "create a memory file");
	rc = fd_write_full(text, plan->text, order->text_len);
	/* The order last: when the monitor begins, nobody else holds the locks any more, and so nobody
	 * keeps it from being the last to let go of a layer. */
	if (rc == 0)
		rc = send_locks(fd, plan);
	if (rc == 0)
		rc = sock_send_fds(fd, order, sizeof(*order), fds, 1 + order->has_root);
	return rc < 0 ? fail(err, rc, "hand over to the monitor") : 0;
}

union message {
	struct lock_names names;
	struct order order;
};

static int take_locks(struct handover *h, const struct lock_names *names, const int *fds, size_t n)
{
	const size_t have = h->order.lock_count;

	if (n == 0 || have + n > PLAN_LAYERS_MAX)
		return -EPROTO;
	h->locks = mem_resize(h->locks, have + n, sizeof(*h->locks));
	for (size_t i = 0; i < n; i++) {
		h->locks[have + i].fd = fds[i];
		memcpy(h->locks[have + i].name, names->names[i], DIGEST_TEXT_MAX);
	}
	h->order.lock_count += (uint32_t)n;
	return 0;
}

static int take_order(struct handover *h, const struct order *order, const int *fds, size_t n)
{
	if (order->version != ORDER_VERSION || n != 1 + (size_t)(order->has_root != 0) ||
	    order->lock_count != h->order.lock_count || order->text_len > PLAN_TEXT_MAX)
		return -EPROTO;
	h->order = *order;
	h->text_fd = fds[0];
	h->root_fd = order->has_root ? fds[1] : -1;
	return 0;
}

int handover_receive(int fd, struct handover *ret)
{
	struct handover h = {.text_fd = -1, .root_fd = -1};
	int rc = 0;

	_Static_assert(sizeof(struct lock_names) != sizeof(struct order),
		       "messages are told apart by their size");
	while (rc == 0 && h.text_fd < 0) {
		union message message;
		int fds[LOCKS_AT_ONCE];
		size_t n = 0;
		ssize_t len =
			sock_receive_fds(fd, &message, sizeof(message), fds, LOCKS_AT_ONCE, &n);

		if (len == sizeof(message.names))
			rc = take_locks(&h, &message.names, fds, n);
		else if (len == sizeof(message.order))
			rc = take_order(&h, &message.order, fds, n);
		else
			rc = len < 0 ? (int)len : len == 0 ? -EPIPE : -EPROTO;
	}
	/* Whoever fails here exits: what was received goes with the process. */
	*ret = h;
	return rc;
}

char *handover_text(const struct handover *handover)
{
	char *text = mem_try(handover->order.text_len + 1);

	if (text != NULL && fd_read_full_at(handover->text_fd, text, handover->order.text_len, 0) !=
				    (ssize_t)handover->order.text_len) {
		free(text);
		return NULL;
	}
	return text;
}
