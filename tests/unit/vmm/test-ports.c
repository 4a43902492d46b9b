/* Named ports, spoken to as a guest's driver would, with programs of the host at their other ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sock.h"
#include "base/str.h"
#include "driver.h"
#include "vmm/virtio/devices.h"

#include <cmocka.h>

enum {
	TO_GUEST_0 = 0,
	FROM_GUEST_0 = 1,
	CONTROL_IN = 2,
	CONTROL_OUT = 3,
	FROM_GUEST_1 = 5,
	READY = 0,
	ADD = 1,
	PORT_READY = 3,
	CONSOLE = 4,
	OPEN = 6,
	NAME = 7,
	NOTHING = -1,
};

struct message {
	uint32_t port;
	uint16_t event, value;
};

struct fixture {
	struct driver_board board;
	struct driver driver;
	struct virtio *virtio;
	char directory[32];
	char *socket, *file;
	struct message last;
	char name[64];
};

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));
	struct port_config configs[2] = {
		{.name = "org.example.agent", .fd = -1},
		{.name = "log", .listen_fd = -1, .is_terminal = true},
	};

	driver_board_init(&f->board);
	strcpy(f->directory, "/tmp/test-ports-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	f->socket = str_format("%s/socket", f->directory);
	f->file = str_format("%s/file", f->directory);
	configs[0].listen_fd = sock_listen(AT_FDCWD, f->socket, SOCK_STREAM | SOCK_NONBLOCK);
	configs[1].fd = open(f->file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(virtio_ports_create(&f->board.board, configs, 2, &f->virtio), 0);
	driver_start(&f->driver, &f->board, f->virtio);
	for (unsigned int i = 0; i < DRIVER_SLOTS; i++)
		driver_offer(&f->driver, CONTROL_IN, i, 0, 64);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->virtio->ops->destroy(f->virtio);
	driver_board_release(&f->board);
	assert_int_equal(tree_remove(AT_FDCWD, f->directory, NULL), 0);
	own_mem_release(&f->socket);
	own_mem_release(&f->file);
	own_mem_release(&f);
	return 0;
}

/* The next message of the device's: its event. */
static int hear(struct fixture *f)
{
	uint32_t written = 0;
	int slot = driver_used(&f->driver, CONTROL_IN, &written);

	if (slot < 0) {
		driver_serve(&f->driver);
		slot = driver_used(&f->driver, CONTROL_IN, &written);
	}
	if (slot < 0)
		return NOTHING;
	memcpy(&f->last, driver_in(&f->driver, CONTROL_IN, (unsigned int)slot), sizeof(f->last));
	memset(f->name, 0, sizeof(f->name));
	memcpy(f->name, driver_in(&f->driver, CONTROL_IN, (unsigned int)slot) + sizeof(f->last),
	       written - sizeof(f->last));
	driver_offer(&f->driver, CONTROL_IN, (unsigned int)slot, 0, 64);
	return f->last.event;
}

static void say(struct fixture *f, uint32_t port, uint16_t event, uint16_t value)
{
	struct message message = {.port = port, .event = event, .value = value};

	memcpy(driver_out(&f->driver, CONTROL_OUT, 0), &message, sizeof(message));
	driver_offer(&f->driver, CONTROL_OUT, 0, sizeof(message), 0);
	assert_int_equal(driver_wait(&f->driver, CONTROL_OUT, NULL), 0);
}

static void begin(struct fixture *f)
{
	say(f, 0, READY, 1);
	assert_int_equal(hear(f), ADD);
	assert_int_equal(f->last.port, 0);
	assert_int_equal(hear(f), ADD);
	assert_int_equal(f->last.port, 1);
	say(f, 0, PORT_READY, 1);
	assert_int_equal(hear(f), NAME);
	assert_string_equal(f->name, "org.example.agent");
	say(f, 1, PORT_READY, 1);
	assert_int_equal(hear(f), CONSOLE);
	assert_int_equal(hear(f), NAME);
	assert_string_equal(f->name, "log");
	assert_int_equal(hear(f), OPEN);
	assert_int_equal(f->last.value, 1);
	assert_int_equal(hear(f), NOTHING);
}

static int call(struct fixture *f)
{
	int fd = sock_connect(AT_FDCWD, f->socket, SOCK_STREAM | SOCK_NONBLOCK);

	assert_true(fd >= 0);
	driver_serve(&f->driver);
	return fd;
}

static void write_as_guest(struct fixture *f, unsigned int queue, const char *text)
{
	memcpy(driver_out(&f->driver, queue, 0), text, strlen(text));
	driver_offer(&f->driver, queue, 0, (uint32_t)strlen(text), 0);
}

static void ports_are_announced_with_their_names(void **state)
{
	begin(*state);
}

static void a_caller_and_the_guest_speak_with_each_other(void **state)
{
	struct fixture *f = *state;
	char text[16] = "";
	uint32_t written = 0;
	int fd;

	begin(f);
	fd = call(f);
	assert_int_equal(hear(f), OPEN);
	assert_int_equal(f->last.port, 0);
	assert_int_equal(f->last.value, 1);
	/* What is said before the guest has opened the port waits. */
	assert_int_equal(write(fd, "question", 8), 8);
	driver_offer(&f->driver, TO_GUEST_0, 0, 0, 4);
	driver_serve(&f->driver);
	assert_int_equal(driver_used(&f->driver, TO_GUEST_0, NULL), NOTHING);
	say(f, 0, OPEN, 1);
	assert_int_equal(driver_wait(&f->driver, TO_GUEST_0, &written), 0);
	assert_int_equal(written, 4);
	assert_memory_equal(driver_in(&f->driver, TO_GUEST_0, 0), "ques", 4);
	driver_offer(&f->driver, TO_GUEST_0, 1, 0, 100);
	assert_int_equal(driver_wait(&f->driver, TO_GUEST_0, &written), 1);
	assert_int_equal(written, 4);
	write_as_guest(f, FROM_GUEST_0, "answer");
	assert_int_equal(driver_wait(&f->driver, FROM_GUEST_0, NULL), 0);
	assert_int_equal(read(fd, text, sizeof(text)), 6);
	assert_string_equal(text, "answer");
	driver_offer(&f->driver, TO_GUEST_0, 0, 0, 100);
	fd_close(&fd);
	assert_int_equal(hear(f), OPEN);
	assert_int_equal(f->last.value, 0);
	/* Another may call then. */
	fd = call(f);
	assert_int_equal(hear(f), OPEN);
	assert_int_equal(f->last.value, 1);
	fd_close(&fd);
}

static void a_second_caller_is_hung_up_on(void **state)
{
	struct fixture *f = *state;
	int fd, other;
	char c;

	begin(f);
	fd = call(f);
	other = call(f);
	assert_int_equal(read(other, &c, 1), 0);
	fd_close(&fd);
	fd_close(&other);
}

static void a_caller_that_the_guest_never_heard_makes_room(void **state)
{
	struct fixture *f = *state;
	int fd;

	begin(f);
	fd = call(f);
	assert_int_equal(hear(f), OPEN);
	fd_close(&fd);
	driver_serve(&f->driver);
	fd = call(f);
	assert_int_equal(hear(f), OPEN);
	assert_int_equal(f->last.value, 0);
	assert_int_equal(hear(f), OPEN);
	assert_int_equal(f->last.value, 1);
	fd_close(&fd);
}

static void what_nobody_hears_is_gone(void **state)
{
	struct fixture *f = *state;

	begin(f);
	write_as_guest(f, FROM_GUEST_0, "lost");
	assert_int_equal(driver_wait(&f->driver, FROM_GUEST_0, NULL), 0);
}

static void a_file_gets_what_is_written(void **state)
{
	struct fixture *f = *state;
	own_mem char *text = NULL;
	size_t size;

	begin(f);
	write_as_guest(f, FROM_GUEST_1, "a line\n");
	assert_int_equal(driver_wait(&f->driver, FROM_GUEST_1, NULL), 0);
	assert_int_equal(file_read(AT_FDCWD, f->file, 100, &text, &size, NULL), 0);
	assert_string_equal(text, "a line\n");
}

static void a_slow_caller_makes_the_guest_wait_and_loses_nothing(void **state)
{
	struct fixture *f = *state;
	static uint8_t data[64 << 10];
	uint64_t sent = 0, got = 0;
	bool waiting = false;
	int fd;

	begin(f);
	say(f, 0, OPEN, 1);
	fd = call(f);
	for (unsigned int i = 0; i < 40 && !waiting; i++) {
		memset(driver_out(&f->driver, FROM_GUEST_0, 0), (int)i, sizeof(data));
		driver_offer(&f->driver, FROM_GUEST_0, 0, sizeof(data), 0);
		sent += sizeof(data);
		driver_serve(&f->driver);
		waiting = driver_used(&f->driver, FROM_GUEST_0, NULL) < 0;
	}
	assert_true(waiting);
	while (got < sent) {
		ssize_t n = read(fd, data, sizeof(data));

		for (ssize_t i = 0; i < n; i++, got++)
			if (data[i] != got / sizeof(data))
				fail_msg("byte %llu differs", (unsigned long long)got);
		if (n <= 0)
			driver_serve(&f->driver);
	}
	assert_int_equal(driver_wait(&f->driver, FROM_GUEST_0, NULL), 0);
	fd_close(&fd);
}

/* What it is to be told is kept for it, up to a limit. */
static void a_guest_that_hears_nothing_is_not_told_without_end(void **state)
{
	enum { KEPT_MAX = 128 };
	struct fixture *f = *state;
	unsigned int heard = 0;

	for (unsigned int i = 0; i < 4 * KEPT_MAX; i++)
		say(f, 0, PORT_READY, 1);
	while (hear(f) == NAME) {
		assert_int_equal(f->last.port, 0);
		heard++;
	}
	assert_int_equal(f->last.event, NAME);
	assert_true(heard >= DRIVER_SLOTS && heard <= DRIVER_SLOTS + KEPT_MAX);
}

static void nonsense_is_ignored(void **state)
{
	struct fixture *f = *state;

	for (uint16_t event = 0; event < 12; event++)
		for (uint32_t port = 0; port < 300; port += 99)
			say(f, port, event, 1);
	driver_offer(&f->driver, CONTROL_OUT, 1, 3, 0);
	assert_int_equal(driver_wait(&f->driver, CONTROL_OUT, NULL), 1);
	for (unsigned int i = 0; i < 300; i++)
		say(f, 0, READY, 1);
	assert_false(driver_needs_reset(&f->driver));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(ports_are_announced_with_their_names),
		CASE(a_caller_and_the_guest_speak_with_each_other),
		CASE(a_second_caller_is_hung_up_on),
		CASE(a_caller_that_the_guest_never_heard_makes_room),
		CASE(what_nobody_hears_is_gone),
		CASE(a_file_gets_what_is_written),
		CASE(a_slow_caller_makes_the_guest_wait_and_loses_nothing),
		CASE(a_guest_that_hears_nothing_is_not_told_without_end),
		CASE(nonsense_is_ignored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
