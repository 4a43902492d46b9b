/* Files from a machine that cannot be trusted: the test plays the VMM and the agent. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../tar/tarball.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sock.h"
#include "engine/vm_files.h"
#include "engine/engine_priv.h"
#include "guest/chunk.h"
#include "guest/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static char directory[] = "/tmp/test-vm_files-XXXXXX";
static char id[] = "0123456789012345678901234567890123456789012345678901234567890123";

/* What the machine does when it has got its request. */
typedef void play_fn(int fd, const void *data);

static void say(int fd, const char *text)
{
	own_json json_t *message = json_loads(text, 0, NULL);

	if (frame_send(fd, message) < 0)
		_exit(1);
}

static void hear(int fd)
{
	struct frame_in in = {.stop_after = true};
	own_json json_t *message = NULL;

	if (frame_receive(&in, fd, &message) != 1)
		_exit(1);
	frame_in_release(&in);
}

static void take_line(int fd)
{
	char c = 0;

	while (c != '\n')
		if (read(fd, &c, 1) != 1)
			_exit(1);
}

/* Starts a machine; the caller waits for it. */
static pid_t machine(play_fn *play, const void *data)
{
	own_fd int state = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_mem char *path = str_format("%s/vsock", id);
	own_fd int listening = -1;
	pid_t pid;

	assert_int_equal(dir_make(state, id, 0700, NULL), 0);
	listening = sock_listen(state, path, SOCK_STREAM);
	assert_true(listening >= 0);
	pid = fork();
	if (pid == 0) {
		int fd = accept(listening, NULL, NULL);

		signal(SIGPIPE, SIG_IGN);
		take_line(fd);
		if (write(fd, "OK 1\n", 5) != 5)
			_exit(1);
		hear(fd);
		say(fd, "{}");
		hear(fd);
		play(fd, data);
		shutdown(fd, SHUT_WR);
		/* Until the other side has had enough. */
		while (read(fd, &state, 1) > 0)
			;
		_exit(0);
	}
	return pid;
}

static void send_tar(int fd, const void *data)
{
	const struct buf *ball = data;

	if (chunk_send(fd, ball->data, ball->len) < 0 || chunk_end(fd) < 0)
		_exit(1);
	say(fd, "{}");
}

static int collect(const void *data, size_t len, void *context, struct error *err)
{
	(void)err;
	buf_add(context, data, len);
	return 0;
}

static int read_as(play_fn *play, const void *data, const char *as, struct buf *out,
		   struct error *err)
{
	pid_t pid = machine(play, data);
	struct engine engine;
	struct workload w = {.pid = 1};
	int rc;

	strcpy(w.id, id);
	engine_init_paths(&engine, directory, directory);
	rc = vm_read_path(&engine, &w, "/x/y", as, collect, out, err);
	free(engine.root);
	free(engine.state);
	waitpid(pid, NULL, 0);
	return rc;
}

static void what_was_asked_for_comes_through(void **state)
{
	own_buf struct buf ball = {0}, got = {0};
	struct error err = {0};

	(void)state;
	ball_add(&ball, &(struct ball_entry){.name = "y/", .type = '5', .mode = 0755});
	ball_add(&ball, &(struct ball_entry){.name = "y/file", .data = "text"});
	ball_add(&ball, &(struct ball_entry){.name = "y/again", .type = '1', .link = "y/file"});
	ball_end(&ball);
	assert_int_equal(read_as(send_tar, &ball, "y", &got, &err), 0);
	assert_int_equal(got.len, ball.len);
	assert_memory_equal(got.data, ball.data, ball.len);
}

static void a_name_that_was_not_asked_for_is_refused(void **state)
{
	static const struct ball_entry bad[] = {
		{.name = "z", .data = "text"},
		{.name = "yy", .data = "text"},
		{.name = "../y", .data = "text"},
		{.name = "/y", .data = "text"},
		{.name = "y/link", .type = '1', .link = "z"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(bad); i++) {
		own_buf struct buf ball = {0}, got = {0};
		struct error err = {0};

		ball_add(&ball, &bad[i]);
		ball_end(&ball);
		assert_int_equal(read_as(send_tar, &ball, "y", &got, &err), -EPROTO);
		assert_non_null(strstr(err.text, "its virtual machine sent"));
		assert_int_equal(got.len, 0);
	}
}

static void send_huge_piece(int fd, const void *data)
{
	static const unsigned char head[] = {0xff, 0xff, 0xff, 0x7f};

	(void)data;
	if (write(fd, head, sizeof(head)) != sizeof(head))
		_exit(1);
}

static void send_half(int fd, const void *data)
{
	const struct buf *ball = data;

	if (chunk_send(fd, ball->data, 700) < 0)
		_exit(1);
}

static void send_error(int fd, const void *data)
{
	(void)data;
	if (chunk_end(fd) < 0)
		_exit(1);
	say(fd, "{\"error\":{\"code\":-2,\"text\":\"there is no /x/y in the container\"}}");
}

static void nonsense_and_ends_are_errors(void **state)
{
	own_buf struct buf ball = {0}, got = {0};
	struct error err = {0};

	(void)state;
	ball_add(&ball, &(struct ball_entry){.name = "y", .data = "text"});
	ball_end(&ball);
	assert_int_equal(read_as(send_huge_piece, NULL, "y", &got, &err), -EPROTO);
	error_clear(&err);
	assert_int_equal(read_as(send_half, &ball, "y", &got, &err), -EPIPE);
	assert_non_null(strstr(err.text, "has ended"));
	error_clear(&err);
	assert_int_equal(read_as(send_error, NULL, "y", &got, &err), -ENOENT);
	assert_string_equal(err.text, "there is no /x/y in the container");
}

static int produce(workload_bytes_fn *out, void *out_context, void *context, struct error *err)
{
	static const char zeroes[64 << 10];
	int rc = 0;

	(void)context;
	/* More than any buffer holds: somebody must say that it is not wanted. */
	for (int i = 0; rc == 0 && i < 1000; i++)
		rc = out(zeroes, sizeof(zeroes), out_context, err);
	return rc;
}

static void refuse_early(int fd, const void *data)
{
	(void)data;
	say(fd, "{}");
	say(fd, "{\"error\":{\"code\":-28,\"text\":\"the disk is full\"}}");
}

static void what_the_agent_does_not_want_is_not_sent(void **state)
{
	pid_t pid = machine(refuse_early, NULL);
	struct engine engine;
	struct workload w = {.pid = 1};
	struct error err = {0};

	(void)state;
	strcpy(w.id, id);
	engine_init_paths(&engine, directory, directory);
	assert_int_equal(vm_write_path(&engine, &w, "/", 0, produce, NULL, &err), -28);
	assert_string_equal(err.text, "the disk is full");
	free(engine.root);
	free(engine.state);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_asked_for_comes_through),
		cmocka_unit_test(a_name_that_was_not_asked_for_is_refused),
		cmocka_unit_test(nonsense_and_ends_are_errors),
		cmocka_unit_test(what_the_agent_does_not_want_is_not_sent),
	};
	int rc;

	if (mkdtemp(directory) == NULL)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	if (tree_remove(AT_FDCWD, directory, NULL) < 0)
		fprintf(stderr, "%s could not be removed\n", directory);
	return rc;
}
