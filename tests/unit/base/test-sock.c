/* sock: listening, connecting through long directories, descriptors in messages. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sock.h"

#include "scratch.h"
#include <cmocka.h>

static int dir;

static int set_up(void **state)
{
	(void)state;
	dir = scratch_open();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	scratch_close();
	return 0;
}

static void connects_in_a_directory_of_any_length(void **state)
{
	char path[301];
	own_fd int deep = -1, listener = -1, client = -1, server = -1;
	struct stat st;

	(void)state;
	for (size_t i = 0; i < 300; i++)
		path[i] = i % 50 == 49 ? '/' : 'x';
	path[300] = '\0';
	deep = dir_open(dir, path, 0700, NULL);
	listener = sock_listen(deep, "s", SOCK_STREAM);
	assert_true(listener >= 0 && fcntl(listener, F_GETFD) == FD_CLOEXEC);
	assert_int_equal(fstatat(deep, "s", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	client = sock_connect(deep, "s", SOCK_STREAM);
	server = accept(listener, NULL, NULL);
	assert_true(client >= 0 && server >= 0);
	assert_int_equal(fd_write_full(client, "hi", 2), 0);
	assert_int_equal(read(server, path, 9), 2);
}

static void stale_socket_is_replaced(void **state)
{
	int first = sock_listen(dir, "s", SOCK_STREAM);
	own_fd int second = -1, client = -1;

	(void)state;
	close(first);
	assert_int_equal(sock_connect(dir, "s", SOCK_STREAM), -ECONNREFUSED);
	second = sock_listen(dir, "s", SOCK_STREAM);
	assert_true(second >= 0);
	client = sock_connect(dir, "s", SOCK_STREAM);
	assert_true(client >= 0);
}

static void refuses_what_cannot_be(void **state)
{
	char long_name[200];

	(void)state;
	memset(long_name, 'n', sizeof(long_name) - 1);
	long_name[199] = '\0';
	assert_int_equal(sock_connect(dir, "absent", SOCK_STREAM), -ENOENT);
	assert_int_equal(sock_listen(dir, long_name, SOCK_STREAM), -ENAMETOOLONG);
	assert_int_equal(sock_connect(AT_FDCWD, long_name, SOCK_STREAM), -ENAMETOOLONG);
	/* The kernel would take it for a socket in the abstract name space, open to everybody. */
	assert_int_equal(sock_listen(AT_FDCWD, "", SOCK_STREAM), -EINVAL);
	assert_int_equal(sock_connect(AT_FDCWD, "", SOCK_STREAM), -EINVAL);
}

static void only_sockets_are_replaced(void **state)
{
	(void)state;
	scratch_file("file", "precious");
	assert_int_equal(sock_listen(dir, "file", SOCK_STREAM), -EADDRINUSE);
	assert_true(scratch_has("file"));
}

static void descriptors_travel_with_the_message(void **state)
{
	own_fd int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int fds[2], received[SOCK_FDS_MAX], sent[SOCK_FDS_MAX + 1];
	struct stat a, b;
	size_t count;
	char text[8];

	(void)state;
	for (size_t i = 0; i < array_size(sent); i++)
		sent[i] = zero;
	assert_int_equal(fstat(zero, &a), 0);
	for (size_t n = 0; n <= SOCK_FDS_MAX; n++) {
		assert_int_equal(sock_pair(SOCK_SEQPACKET, fds), 0);
		assert_int_equal(sock_send_fds(fds[0], "hello", 5, sent, n), 0);
		assert_int_equal(sock_receive_fds(fds[1], text, sizeof(text), received,
						  SOCK_FDS_MAX, &count),
				 5);
		assert_int_equal(count, n);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(fcntl(received[i], F_GETFD), FD_CLOEXEC);
			assert_int_equal(fstat(received[i], &b), 0);
			assert_true(a.st_rdev == b.st_rdev);
			close(received[i]);
		}
		close(fds[0]);
		assert_int_equal(sock_receive_fds(fds[1], text, sizeof(text), received, 1, &count),
				 0);
		close(fds[1]);
	}
	assert_int_equal(sock_send_fds(-1, "x", 1, sent, SOCK_FDS_MAX + 1), -EINVAL);
}

static int lowest_free(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void descriptors_nobody_asked_for_are_closed(void **state)
{
	int fds[2], received[2], sent[4] = {0, 0, 0, 0}, lowest;
	size_t count;
	char text[2];

	(void)state;
	assert_int_equal(sock_pair(SOCK_SEQPACKET, fds), 0);
	lowest = lowest_free();
	assert_int_equal(sock_send_fds(fds[0], "x", 1, sent, 4), 0);
	assert_int_equal(sock_receive_fds(fds[1], text, 2, received, 2, &count), 1);
	assert_int_equal(count, 2);
	close(received[0]);
	close(received[1]);
	assert_int_equal(lowest_free(), lowest);
	/* A message that does not fit is no message, and its descriptors are not left open. */
	assert_int_equal(sock_send_fds(fds[0], "long", 4, sent, 2), 0);
	assert_int_equal(sock_receive_fds(fds[1], text, 2, received, 2, &count), -EMSGSIZE);
	assert_int_equal(lowest_free(), lowest);
	close(fds[0]);
	close(fds[1]);
}

static void peer_that_is_gone_is_an_error_not_a_signal(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(sock_pair(SOCK_STREAM, fds), 0);
	close(fds[1]);
	assert_int_equal(sock_send_fds(fds[0], "x", 1, NULL, 0), -EPIPE);
	close(fds[0]);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(connects_in_a_directory_of_any_length),
		case_of(stale_socket_is_replaced),
		case_of(refuses_what_cannot_be),
		case_of(only_sockets_are_replaced),
		case_of(descriptors_travel_with_the_message),
		case_of(descriptors_nobody_asked_for_are_closed),
		case_of(peer_that_is_gone_is_an_error_not_a_signal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
