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

static int send_locks(int fd, const struct plan *plan)
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
	}
	return 0;
}

int handover_send(int fd, struct order *order, const struct plan *plan, struct error *err)
{
	own_fd int text = memfd_create("plan", MFD_CLOEXEC);
	int fds[2] = {text, plan->root_fd};
	int rc;

	order->text_len = (uint32_t)strlen(plan->text);
	order->lock_count = (uint32_t)plan->lock_count;
	order->has_root = plan->root_fd >= 0;
	if (text < 0)
		return fail(err, -errno, "create a memory file");
	rc = fd_write_full(text, plan->text, order->text_len);
	if (rc == 0)
		rc = sock_send_fds(fd, order, sizeof(*order), fds, 1 + order->has_root);
	if (rc == 0)
		rc = send_locks(fd, plan);
	return rc < 0 ? fail(err, rc, "hand over to the monitor") : 0;
}

static int receive_locks(int fd, struct handover *h)
{
	h->locks = mem_new_array(h->order.lock_count + 1, sizeof(*h->locks));
	for (size_t at = 0; at < h->order.lock_count;) {
		struct lock_names names;
		int fds[LOCKS_AT_ONCE];
		size_t n = 0;
		ssize_t len = sock_receive_fds(fd, &names, sizeof(names), fds, LOCKS_AT_ONCE, &n);

		if (len <= 0)
			return len < 0 ? (int)len : -EPIPE;
		if (len != sizeof(names) || n == 0 || at + n > h->order.lock_count)
			return -EPROTO;
		for (size_t i = 0; i < n; i++, at++) {
			h->locks[at].fd = fds[i];
			memcpy(h->locks[at].name, names.names[i], DIGEST_TEXT_MAX);
		}
	}
	return 0;
}

int handover_receive(int fd, struct handover *ret)
{
	struct handover h = {.text_fd = -1, .root_fd = -1};
	int fds[2] = {-1, -1}, rc;
	size_t n = 0;
	ssize_t len = sock_receive_fds(fd, &h.order, sizeof(h.order), fds, 2, &n);

	if (len <= 0)
		return len < 0 ? (int)len : -EPIPE;
	if (len != sizeof(h.order) || h.order.version != ORDER_VERSION ||
	    n != 1 + (size_t)(h.order.has_root != 0) || h.order.lock_count > PLAN_LAYERS_MAX ||
	    h.order.text_len > PLAN_TEXT_MAX)
		return -EPROTO;
	h.text_fd = fds[0];
	h.root_fd = fds[1];
	rc = receive_locks(fd, &h);
	if (rc == 0)
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
