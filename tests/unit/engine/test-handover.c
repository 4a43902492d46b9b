/* Tests of the hand-over of a start, and of the packets between commands and monitors. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sock.h"
#include "base/str.h"
#include "engine/channel.h"
#include "engine/handover.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void release(struct handover *h)
{
	fd_close(&h->text_fd);
	fd_close(&h->root_fd);
	for (size_t i = 0; i < h->order.lock_count; i++)
		fd_close(&h->locks[i].fd);
	free(h->locks);
}

/* A plan with `count` locks, each a memory file that is locked. */
static void make_plan(struct plan *plan, size_t count, bool with_root)
{
	*plan = PLAN_EMPTY;
	plan->text = str_copy("{\"x\":1}");
	plan->flags = PLAN_REAPER;
	if (with_root)
		plan->root_fd = open("/", O_PATH | O_CLOEXEC);
	plan->locks = mem_new_array(count + 1, sizeof(*plan->locks));
	plan->lock_count = count;
	for (size_t i = 0; i < count; i++) {
		plan->locks[i].fd = memfd_create("lock", MFD_CLOEXEC);
		snprintf(plan->locks[i].name, sizeof(plan->locks[i].name), "lock %zu", i);
	}
}

static void arrives_complete_whatever_the_number_of_locks(void **state)
{
	static const size_t counts[] = {0, 1, 7, 8, 9, 16, 100};

	(void)state;
	for (size_t c = 0; c < array_size(counts); c++) {
		struct order order = {.version = ORDER_VERSION, .attach = 3};
		own_plan struct plan plan;
		struct handover got;
		own_mem char *text = NULL;
		int pair[2];

		make_plan(&plan, counts[c], c % 2);
		assert_int_equal(sock_pair(SOCK_SEQPACKET, pair), 0);
		assert_int_equal(handover_send(pair[0], &order, &plan, NULL), 0);
		/* The sender holds none of them any more. */
		for (size_t i = 0; i < counts[c]; i++)
			assert_int_equal(plan.locks[i].fd, -1);
		assert_int_equal(handover_receive(pair[1], &got), 0);
		assert_int_equal(got.order.lock_count, counts[c]);
		assert_int_equal(got.order.attach, 3);
		assert_int_equal(got.order.plan_flags, PLAN_REAPER);
		assert_int_equal(got.root_fd >= 0, c % 2);
		for (size_t i = 0; i < counts[c]; i++) {
			own_mem char *name = str_format("lock %zu", i);

			assert_string_equal(got.locks[i].name, name);
			assert_true(fcntl(got.locks[i].fd, F_GETFD) & FD_CLOEXEC);
		}
		text = handover_text(&got);
		assert_string_equal(text, "{\"x\":1}");
		release(&got);
		close(pair[0]);
		close(pair[1]);
	}
}

static void a_sender_that_gives_up_is_noticed(void **state)
{
	struct handover got;
	int pair[2];

	(void)state;
	assert_int_equal(sock_pair(SOCK_SEQPACKET, pair), 0);
	close(pair[0]);
	assert_int_equal(handover_receive(pair[1], &got), -EPIPE);
	release(&got);
	close(pair[1]);
}

static void what_does_not_fit_is_refused(void **state)
{
	struct order wrong_version = {.version = ORDER_VERSION + 1};
	struct order wrong_count = {.version = ORDER_VERSION, .lock_count = 3};
	struct order too_long = {.version = ORDER_VERSION, .text_len = PLAN_TEXT_MAX + 1};
	const struct order *const orders[] = {&wrong_version, &wrong_count, &too_long};

	(void)state;
	for (size_t i = 0; i < array_size(orders); i++) {
		own_fd int text = memfd_create("text", MFD_CLOEXEC);
		struct handover got;
		int pair[2];

		assert_int_equal(sock_pair(SOCK_SEQPACKET, pair), 0);
		assert_int_equal(sock_send_fds(pair[0], orders[i], sizeof(*orders[i]), &text, 1),
				 0);
		assert_int_equal(handover_receive(pair[1], &got), -EPROTO);
		release(&got);
		close(pair[0]);
		close(pair[1]);
	}
}

static void orders_say_what_the_configuration_says(void **state)
{
	struct workload w = {.started_ns = 5};
	struct order order;

	(void)state;
	workload_config_init(&w.config);
	order_init(&order, &w);
	assert_int_equal(order.stop_signal, 15);
	assert_int_equal(order.stop_timeout_ms, 10000);
	assert_true(order.log_max_size_bytes > 0);
	assert_int_equal(order.flags, 0);
	w.config.stop_signal = str_copy("SIGRTMIN+3");
	w.config.stop_timeout_s = INT_MAX;
	w.config.log_max_size_bytes = 0;
	w.config.flags = WORKLOAD_TTY | WORKLOAD_AUTO_REMOVE;
	w.started_ns = 0;
	order_init(&order, &w);
	assert_int_equal(order.stop_signal, SIGRTMIN + 3);
	assert_true(order.stop_timeout_ms == UINT32_MAX);
	assert_int_equal(order.log_max_size_bytes, 0);
	assert_int_equal(order.flags, ORDER_TTY | ORDER_AUTO_REMOVE | ORDER_NEVER_STARTED);
	workload_release(&w);
}

static void packets_keep_their_borders(void **state)
{
	own_mem struct packet *packet = mem_new(sizeof(*packet));
	struct error why = {0};
	int pair[2];

	(void)state;
	assert_int_equal(sock_pair(SOCK_SEQPACKET, pair), 0);
	packet->type = CHANNEL_OUTPUT;
	packet->arg = 2;
	memset(packet->payload, 'x', CHANNEL_PAYLOAD_MAX);
	assert_int_equal(channel_send(pair[0], packet, CHANNEL_PAYLOAD_MAX, true), 0);
	assert_int_equal(channel_send_head(pair[0], CHANNEL_EXIT, 7, 8, true), 0);
	assert_int_equal(refuse(&why, -EPERM, "because"), -EPERM);
	assert_int_equal(channel_send_error(pair[0], &why), 0);
	memset(packet, 0, sizeof(*packet));
	assert_int_equal(channel_receive(pair[1], packet), CHANNEL_PAYLOAD_MAX);
	assert_int_equal(packet->payload[CHANNEL_PAYLOAD_MAX - 1], 'x');
	assert_int_equal(channel_receive(pair[1], packet), 0);
	assert_int_equal(packet->arg, 7);
	assert_int_equal(packet->arg2, 8);
	assert_int_equal(channel_receive(pair[1], packet), sizeof(why));
	assert_string_equal(((struct error *)packet->payload)->text, "because");
	assert_int_equal(send(pair[0], "xy", 2, 0), 2);
	assert_int_equal(channel_receive(pair[1], packet), -EPROTO);
	close(pair[0]);
	assert_int_equal(channel_receive(pair[1], packet), -EPIPE);
	close(pair[1]);
}

static void a_full_connection_does_not_block(void **state)
{
	own_mem struct packet *packet = mem_new(sizeof(*packet));
	int pair[2], rc, sent = 0;

	(void)state;
	assert_int_equal(sock_pair(SOCK_SEQPACKET, pair), 0);
	while ((rc = channel_send(pair[0], packet, CHANNEL_PAYLOAD_MAX, false)) == 0)
		sent++;
	assert_int_equal(rc, -EAGAIN);
	assert_true(sent > 0);
	close(pair[1]);
	rc = channel_send(pair[0], packet, 1, false);
	assert_true(rc == -EPIPE || rc == -ECONNRESET);
	close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arrives_complete_whatever_the_number_of_locks),
		cmocka_unit_test(a_sender_that_gives_up_is_noticed),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(orders_say_what_the_configuration_says),
		cmocka_unit_test(packets_keep_their_borders),
		cmocka_unit_test(a_full_connection_does_not_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
