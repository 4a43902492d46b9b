/* Tests of packets between commands and monitors, on a host that refuses one for the moment: the linker
 * puts our send in the place of the C library's. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/channel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int refusals; /* how many more */

/* NOLINTBEGIN: the names are the linker's */
ssize_t __real_send(int fd, const void *data, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t len, int flags);

ssize_t __wrap_send(int fd, const void *data, size_t len, int flags)
{
	if (refusals > 0) {
		refusals--;
		errno = ENOBUFS;
		return -1;
	}
	return __real_send(fd, data, len, flags);
}
/* NOLINTEND */

static void a_host_short_of_memory_is_not_the_end(void **state)
{
	own_mem struct packet *packet = mem_new(sizeof(*packet));
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	packet->type = CHANNEL_OUTPUT;
	memset(packet->payload, 'x', sizeof(packet->payload));
	refusals = 1;
	assert_int_equal(channel_send(ends[0], packet, sizeof(packet->payload), false), -EAGAIN);
	refusals = 3;
	assert_int_equal(channel_send(ends[0], packet, sizeof(packet->payload), true), 0);
	assert_int_equal(channel_receive(ends[1], packet), sizeof(packet->payload));
	refusals = 1;
	assert_int_equal(channel_send_head(ends[0], CHANNEL_OK, 1, 2, true), 0);
	assert_int_equal(channel_receive(ends[1], packet), 0);
	assert_int_equal(packet->arg2, 2);
	close(ends[0]);
	assert_int_equal(channel_receive(ends[1], packet), -EPIPE);
	close(ends[1]);
}

/* A command that types while its process ends. */
static void what_was_sent_before_the_end_arrives_though_nobody_read_ours(void **state)
{
	own_mem struct packet *packet = mem_new(sizeof(*packet));
	int ends[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	assert_int_equal(channel_send_head(ends[0], CHANNEL_STDIN_END, 0, 0, true), 0);
	assert_int_equal(channel_send_head(ends[1], CHANNEL_OK, 0, 0, true), 0);
	assert_int_equal(channel_send_head(ends[1], CHANNEL_EXIT, 3, 0, true), 0);
	close(ends[1]);
	assert_int_equal(channel_receive(ends[0], packet), 0);
	assert_int_equal(packet->type, CHANNEL_OK);
	assert_int_equal(channel_receive(ends[0], packet), 0);
	assert_int_equal(packet->type, CHANNEL_EXIT);
	assert_int_equal(packet->arg, 3);
	assert_int_equal(channel_receive(ends[0], packet), -EPIPE);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_host_short_of_memory_is_not_the_end),
		cmocka_unit_test(what_was_sent_before_the_end_arrives_though_nobody_read_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
