/* Tests of messages with a length in front. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json.h"
#include "base/sock.h"
#include "guest/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int pair[2];

static int set_up(void **state)
{
	(void)state;
	assert_int_equal(sock_pair(SOCK_STREAM, pair), 0);
	assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
	return 0;
}

static json_t *numbered(int n)
{
	json_t *o = json_object();

	json_object_set_new(o, "n", json_integer(n));
	return o;
}

static void several_messages_arrive_in_order_and_in_pieces(void **state)
{
	struct frame_in in = {0};
	struct frame_out out = {0};
	json_t *got = NULL;

	(void)state;
	for (int i = 0; i < 3; i++) {
		own_json json_t *message = numbered(i);

		frame_add(&out, message);
	}
	/* Byte by byte: never more than what is there, never an error. */
	for (size_t i = 0, seen = 0; i < out.data.len; i++) {
		assert_int_equal(write(pair[1], out.data.data + i, 1), 1);
		if (frame_receive(&in, pair[0], &got) == 0)
			continue;
		assert_int_equal(json_integer_value(json_object_get(got, "n")), seen++);
		json_decref(got);
	}
	assert_int_equal(in.data.len, 0);
	frame_in_release(&in);
	frame_out_release(&out);
}

static void with_stop_after_nothing_behind_the_message_is_read(void **state)
{
	struct frame_in in = {.stop_after = true};
	own_json json_t *message = numbered(7);
	json_t *got = NULL;
	char rest[8] = "";

	(void)state;
	assert_int_equal(frame_send(pair[1], message), 0);
	assert_int_equal(write(pair[1], "raw", 3), 3);
	assert_int_equal(frame_receive(&in, pair[0], &got), 1);
	json_decref(got);
	assert_int_equal(read(pair[0], rest, sizeof(rest)), 3);
	assert_string_equal(rest, "raw");
	frame_in_release(&in);
}

static void refuses_what_is_too_long_or_no_object(void **state)
{
	static const char huge[] = {'\x01', '\0', '\0', '\x7f'};
	static const char array[] = {2, 0, 0, 0, '[', ']'};
	static const char nonsense[] = {2, 0, 0, 0, '{', 'x'};
	static const struct {
		const char *data;
		size_t len;
	} cases[] = {{huge, sizeof(huge)}, {array, sizeof(array)}, {nonsense, sizeof(nonsense)}};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct frame_in in = {0};
		json_t *got = NULL;

		assert_int_equal(write(pair[1], cases[i].data, cases[i].len), cases[i].len);
		assert_int_equal(frame_receive(&in, pair[0], &got), -EPROTO);
		assert_null(got);
		frame_in_release(&in);
	}
}

static void the_end_is_told(void **state)
{
	struct frame_in in = {0};
	json_t *got = NULL;

	(void)state;
	assert_int_equal(write(pair[1], "\x02", 1), 1);
	close(pair[1]);
	pair[1] = -1;
	assert_int_equal(frame_receive(&in, pair[0], &got), -EPIPE);
	frame_in_release(&in);
}

static void errors_cross_whole(void **state)
{
	struct error sent = {0}, got = {0};
	own_json json_t *message = json_object();

	(void)state;
	(void)exit_with(&sent, hint(&sent, refuse(&sent, -ENOENT, "no such file"), "look"), 127);
	assert_int_equal(frame_get_error(message, &got), 0);
	json_object_set_new(message, "error", frame_error(&sent));
	assert_int_equal(frame_get_error(message, &got), -ENOENT);
	assert_int_equal(got.exit_status, 127);
	assert_string_equal(got.text, "no such file");
	assert_string_equal(got.hint, "look");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(several_messages_arrive_in_order_and_in_pieces),
		TEST(with_stop_after_nothing_behind_the_message_is_read),
		TEST(refuses_what_is_too_long_or_no_object),
		TEST(the_end_is_told),
		TEST(errors_cross_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
