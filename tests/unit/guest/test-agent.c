/*
 * Tests of the agent on the host: the real program on a Unix socket instead of vsock, with real
 * containers whose root file system holds one program.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sock.h"
#include "guest/chunk.h"
#include "guest/frame.h"
#include "guest/protocol.h"
#include "tar/tar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char *agent_program, *workload_program;
static char directory[] = "/tmp/test-agent-XXXXXX";
static pid_t agent;
static int control = -1, directory_fd = -1;
static struct frame_in in;

static int dial(const char *first)
{
	int fd = sock_connect(directory_fd, "sock", SOCK_STREAM);
	own_json json_t *message = json_loads(first, 0, NULL);

	assert_true(fd >= 0);
	assert_int_equal(frame_send(fd, message), 0);
	return fd;
}

/* The next message on the control connection. */
static json_t *next(int fd, struct frame_in *from)
{
	json_t *got = NULL;

	assert_int_equal(frame_receive(from, fd, &got), 1);
	return got;
}

static json_t *answer_of(int fd)
{
	struct frame_in one = {.stop_after = true};
	json_t *got = next(fd, &one);

	frame_in_release(&one);
	return got;
}

static int stream(const char *name)
{
	char first[64];
	int fd;
	own_json json_t *answer = NULL;

	snprintf(first, sizeof(first), "{\"version\":1,\"stream\":\"%s\"}", name);
	fd = dial(first);
	answer = answer_of(fd);
	assert_null(json_object_get(answer, "error"));
	return fd;
}

static json_t *ask(const char *request)
{
	own_json json_t *message = json_loads(request, 0, NULL);

	assert_non_null(message);
	assert_int_equal(frame_send(control, message), 0);
	return next(control, &in);
}

static void expect_ok(const char *request)
{
	own_json json_t *answer = ask(request);
	own_mem char *text = json_text(answer);

	if (json_object_get(answer, "error") != NULL)
		fail_msg("%s", text);
}

static void expect_error(const char *request, const char *words)
{
	own_json json_t *answer = ask(request);
	const char *text =
		json_string_value(json_object_get(json_object_get(answer, "error"), "text"));

	assert_non_null(text);
	if (strstr(text, words) == NULL)
		fail_msg("\"%s\" is not in: %s", words, text);
}

/* config.json for the program with this argument; `more` is put into it. */
static char *run_request(const char *argument, const char *streams, bool terminal, const char *more)
{
	return str_format(
		"{\"id\":2,\"do\":\"run\",\"streams\":%s,\"terminal\":%s%s,\"spec\":{"
		"\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"root\"},\"process\":{\"terminal\":%s,"
		"\"user\":{\"uid\":0,\"gid\":0},\"cwd\":\"/\",\"args\":[\"/program\",\"%s\"],"
		"\"env\":[\"A=b\"]},\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\"},"
		"{\"destination\":\"/dev\",\"type\":\"tmpfs\"},"
		"{\"destination\":\"/dev/pts\",\"type\":\"devpts\",\"options\":"
		"[\"newinstance\",\"ptmxmode=0666\"]}],"
		"\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"},"
		"{\"type\":\"uts\"},{\"type\":\"ipc\"},{\"type\":\"network\"}]}}}",
		streams, terminal ? "true" : "false", more, terminal ? "true" : "false", argument);
}

static void prepare(void)
{
	own_mem char *request = str_format(
		"{\"id\":1,\"do\":\"prepare\",\"root\":{\"directory\":\"%s/root\"}}", directory);

	expect_ok(request);
}

static void expect_text(int fd, const char *expected)
{
	own_mem char *text = NULL;
	size_t len;

	assert_int_equal(fd_read_all(fd, 1 << 20, &text, &len), 0);
	assert_string_equal(text, expected);
	close(fd);
}

static void expect_exit(int number, int code)
{
	own_json json_t *event = next(control, &in);

	assert_string_equal(json_string_value(json_object_get(event, "event")), "exit");
	assert_int_equal(json_integer_value(json_object_get(event, "process")), number);
	assert_int_equal(json_integer_value(json_object_get(event, "code")), code);
}

static int set_up(void **state)
{
	int listening, keep[1];
	char fd_text[] = "3", name[] = "berth-agent", listen_flag[] = "--listen",
	     directory_flag[] = "--directory";
	char *argv[] = {name, listen_flag, fd_text, directory_flag, directory, NULL};
	struct proc_spawn spawn = {.path = agent_program,
				   .argv = argv,
				   .stdio = {-1, 1, 2},
				   .keep = keep,
				   .keep_count = 1,
				   .die_with_parent = true};
	int pidfd = -1;

	(void)state;
	listening = sock_listen(directory_fd, "sock", SOCK_STREAM | SOCK_NONBLOCK);
	assert_true(listening >= 0);
	keep[0] = listening;
	assert_int_equal(proc_spawn(&spawn, &agent, &pidfd, NULL), 0);
	close(pidfd);
	close(listening);
	control = dial("{\"version\":1}");
	memset(&in, 0, sizeof(in));
	json_decref(next(control, &in));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(control);
	frame_in_release(&in);
	/* What still runs is killed with its connection; the agent needs a moment for that. */
	usleep(50000);
	kill(agent, SIGKILL);
	waitpid(agent, NULL, 0);
	return tree_remove(directory_fd, "oci", NULL);
}

static void another_version_is_refused_in_words(void **state)
{
	int fd = dial("{\"version\":99}");
	own_json json_t *answer = answer_of(fd);

	(void)state;
	assert_non_null(
		strstr(json_string_value(json_object_get(json_object_get(answer, "error"), "text")),
		       "version"));
	close(fd);
}

static void unknown_and_malformed_requests_are_refused(void **state)
{
	(void)state;
	expect_error("{\"id\":1,\"do\":\"dance\"}", "dance");
	expect_error("{\"id\":1}", "do");
	expect_error("{\"id\":1,\"do\":\"run\"}", "prepared");
	expect_error("{\"id\":1,\"do\":\"signal\",\"signal\":1000}", "signal");
	expect_error("{\"id\":1,\"do\":\"exec\",\"spec\":{},\"streams\":[]}", "not running");
}

static void streams_carry_everything_and_the_exit_comes_last(void **state)
{
	int i, o, e;
	own_mem char *request = run_request("copy", "[\"i\",\"o\",\"e\"]", false, "");
	char data[10000];

	(void)state;
	prepare();
	i = stream("i");
	o = stream("o");
	e = stream("e");
	expect_ok(request);
	memset(data, 'x', sizeof(data));
	assert_int_equal(fd_write_full(i, data, sizeof(data)), 0);
	/* Half-close is the end of input. */
	shutdown(i, SHUT_WR);
	expect_exit(0, 3);
	for (size_t got = 0; got < sizeof(data);) {
		ssize_t n = read(o, data, sizeof(data) - got);

		assert_true(n > 0);
		got += (size_t)n;
	}
	expect_text(o, "");
	expect_text(e, "10000 bytes\n");
	close(i);
}

static void missing_program_is_told_with_its_status(void **state)
{
	own_mem char *request = run_request("x", "[null,null,null]", false, "");
	char *at = strstr(request, "/program");
	own_json json_t *answer = NULL, *error = NULL;

	(void)state;
	memcpy(at, "/nothing", 8);
	prepare();
	answer = ask(request);
	error = json_incref(json_object_get(answer, "error"));
	assert_int_equal(json_integer_value(json_object_get(error, "status")), 127);
}

static void a_terminal_has_one_stream_and_a_size(void **state)
{
	own_mem char *request = run_request("terminal", "[\"t\"]", true, "");
	char data[64] = "";
	int t;

	(void)state;
	prepare();
	t = stream("t");
	expect_ok(request);
	assert_true(read(t, data, sizeof(data) - 1) > 0);
	assert_string_equal(data, "terminal 1\r\n");
	expect_ok("{\"id\":3,\"do\":\"resize\",\"rows\":17,\"columns\":71}");
	expect_exit(0, 4);
	expect_text(t, "size 17 71\r\n");
}

static void user_names_are_those_of_the_workload(void **state)
{
	own_mem char *request =
		run_request("user", "[null,\"o\",null]", false, ",\"user\":{\"name\":\"web\"}");
	int o;

	(void)state;
	prepare();
	o = stream("o");
	expect_ok(request);
	expect_exit(0, 0);
	expect_text(o, "33 1 /srv\n");
}

static void exec_runs_beside_and_ends_with_the_first_process(void **state)
{
	own_mem char *request = run_request("sleep", "[null,\"o\",null]", false, "");
	int o, second;
	char data[16] = "";

	(void)state;
	prepare();
	o = stream("o");
	expect_ok(request);
	assert_int_equal(read(o, data, 9), 9);
	second = stream("second");
	expect_ok("{\"id\":4,\"do\":\"exec\",\"streams\":[null,\"second\",null],\"spec\":{"
		  "\"args\":[\"/program\",\"user\"],\"env\":[\"HOME=/\"]}}");
	expect_exit(1, 0);
	expect_text(second, "0 2 /\n");
	second = stream("third");
	expect_ok("{\"id\":5,\"do\":\"exec\",\"streams\":[null,\"third\",null],\"spec\":{"
		  "\"args\":[\"/program\",\"sleep\"]}}");
	assert_int_equal(read(second, data, 9), 9);
	expect_ok("{\"id\":6,\"do\":\"signal\",\"process\":0,\"signal\":9}");
	expect_exit(2, 137);
	expect_exit(0, 137);
	expect_text(second, "");
	close(o);
}

static void a_process_ends_with_its_connection(void **state)
{
	own_mem char *request = run_request("sleep", "[null,\"o\",null]", false, "");
	char data[16] = "";
	int o;

	(void)state;
	prepare();
	o = stream("o");
	expect_ok(request);
	assert_int_equal(read(o, data, 9), 9);
	close(control);
	expect_text(o, "");
	control = dial("{\"version\":1}");
}

/* A connection for files, after this request. */
static int files(const char *request)
{
	int fd = dial("{\"version\":1}");
	own_json json_t *message = json_loads(request, 0, NULL), *answer = answer_of(fd);

	assert_non_null(message);
	assert_null(json_object_get(answer, "error"));
	assert_int_equal(frame_send(fd, message), 0);
	return fd;
}

static void expect_answer(int fd, const char *error)
{
	own_json json_t *answer = answer_of(fd);
	const char *text =
		json_string_value(json_object_get(json_object_get(answer, "error"), "text"));

	if ((text == NULL) != (error == NULL) || (text != NULL && strstr(text, error) == NULL))
		fail_msg("%s instead of %s", text ? text : "success", error ? error : "success");
}

static void files_are_looked_at_read_and_written(void **state)
{
	char data[CHUNK_MAX];
	ssize_t n;
	int fd, back;

	(void)state;
	fd = files("{\"do\":\"files\",\"verb\":\"stat\",\"path\":\"2f\"}");
	expect_answer(fd, "not running");
	close(fd);
	prepare();
	/* /etc/passwd, /etc/none, and a path that is no bytes */
	fd = files("{\"do\":\"files\",\"verb\":\"stat\",\"path\":\"2f6574632f706173737764\"}");
	expect_answer(fd, NULL);
	close(fd);
	fd = files("{\"do\":\"files\",\"verb\":\"stat\",\"path\":\"2f6574632f6e6f6e65\"}");
	expect_answer(fd, "there is no /etc/none");
	close(fd);
	fd = files("{\"do\":\"files\",\"verb\":\"stat\",\"path\":\"2\"}");
	expect_answer(fd, "hexadecimal");
	close(fd);
	/* /etc/passwd as "p", which is then put into /. */
	fd = files("{\"do\":\"files\",\"verb\":\"read\",\"as\":\"70\","
		   "\"path\":\"2f6574632f706173737764\"}");
	back = files("{\"do\":\"files\",\"verb\":\"write\",\"path\":\"2f\"}");
	expect_answer(back, NULL);
	while ((n = chunk_receive(fd, data)) > 0)
		assert_int_equal(chunk_send(back, data, (size_t)n), 0);
	assert_int_equal(n, 0);
	expect_answer(fd, NULL);
	assert_int_equal(chunk_end(back), 0);
	expect_answer(back, NULL);
	close(fd);
	close(back);
	assert_int_equal(faccessat(directory_fd, "root/p", F_OK, 0), 0);
	assert_int_equal(unlinkat(directory_fd, "root/p", 0), 0);
}

static void what_cannot_be_taken_is_told_before_its_end(void **state)
{
	char data[TAR_BLOCK];
	int fd;

	(void)state;
	prepare();
	fd = files("{\"do\":\"files\",\"verb\":\"write\",\"path\":\"2f\"}");
	expect_answer(fd, NULL);
	memset(data, 'x', sizeof(data));
	assert_int_equal(chunk_send(fd, data, sizeof(data)), 0);
	expect_answer(fd, "no tar archive");
	close(fd);
	fd = files("{\"do\":\"files\",\"verb\":\"write\",\"path\":\"2f6e6f\"}");
	expect_answer(fd, "open the directory /no");
	close(fd);
}

static void requests_for_files_end_with_the_workload(void **state)
{
	own_mem char *request = run_request("sleep", "[null,\"o\",null]", false, "");
	char data[16] = "";
	int o, fd;

	(void)state;
	prepare();
	o = stream("o");
	expect_ok(request);
	assert_int_equal(read(o, data, 9), 9);
	fd = files("{\"do\":\"files\",\"verb\":\"write\",\"path\":\"2f\"}");
	expect_answer(fd, NULL);
	expect_ok("{\"id\":6,\"do\":\"signal\",\"process\":0,\"signal\":9}");
	expect_exit(0, 137);
	assert_int_equal(read(fd, data, sizeof(data)), 0);
	close(fd);
	fd = files("{\"do\":\"files\",\"verb\":\"stat\",\"path\":\"2f\"}");
	expect_answer(fd, "not running");
	close(fd);
	expect_text(o, "");
}

static void make_root(void)
{
	own_mem char *text = NULL;
	size_t len;
	own_fd int root = -1;
	static const char passwd[] = "root:x:0:0::/root:/\nweb:x:33:33::/srv:/\n";

	assert_non_null(mkdtemp(directory));
	directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	root = dir_open(directory_fd, "root", 0755, NULL);
	assert_true(root >= 0);
	assert_int_equal(file_read(AT_FDCWD, workload_program, 64 << 20, &text, &len, NULL), 0);
	assert_int_equal(file_write(root, "program", text, len, 0755, FILE_WRITE_PLAIN, NULL), 0);
	assert_int_equal(dir_make(root, "etc", 0755, NULL), 0);
	assert_int_equal(file_write(root, "etc/passwd", passwd, sizeof(passwd) - 1, 0644,
				    FILE_WRITE_PLAIN, NULL),
			 0);
}

int main(int argc, char **argv)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(another_version_is_refused_in_words),
		TEST(unknown_and_malformed_requests_are_refused),
		TEST(streams_carry_everything_and_the_exit_comes_last),
		TEST(missing_program_is_told_with_its_status),
		TEST(a_terminal_has_one_stream_and_a_size),
		TEST(user_names_are_those_of_the_workload),
		TEST(exec_runs_beside_and_ends_with_the_first_process),
		TEST(a_process_ends_with_its_connection),
		TEST(files_are_looked_at_read_and_written),
		TEST(what_cannot_be_taken_is_told_before_its_end),
		TEST(requests_for_files_end_with_the_workload),
	};
	int rc;

	if (argc != 3)
		return 1;
	agent_program = argv[1];
	workload_program = argv[2];
	if (geteuid() != 0) {
		fputs("SKIPPED: only root can make containers without more ado\n", stderr);
		return 77;
	}
	make_root();
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	if (tree_remove(AT_FDCWD, directory, NULL) < 0)
		fprintf(stderr, "%s could not be removed\n", directory);
	return rc;
}
