/* The serial line before readers that are slow, stand still, or go. A write that waited would end in SIGALRM. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "driver.h"
#include "vmm/chip/chips.h"

#include <cmocka.h>

enum {
	DATA = 0x3f8,
	IER = 0x3f9,
	IIR = 0x3fa,
	MCR = 0x3fc,
	LSR = 0x3fd,
	IER_TRANSMIT = 2,
	IIR_TRANSMIT = 2,
	MCR_OUT2 = 8,
	LSR_EMPTY = 0x60,
	LOTS = 300000,
	TIME_LIMIT_S = 60,
};

enum end { PIPE, SOCKET, TERMINAL, ENDS };

struct fixture {
	struct driver_board board;
	struct driver driver; /* for its loop */
	struct input input;
	struct serial *serial;
	struct loop_source *timers;
	int reader, writer;
};

static void on_timers(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		      void *data)
{
	struct driver_board *board = data;

	(void)loop;
	(void)source;
	(void)fd;
	(void)events;
	timer_queue_run(&board->board.timers);
}

static void open_ends(enum end end, int *ret_reader, int *ret_writer)
{
	struct termios raw;
	int fds[2];

	switch (end) {
	case PIPE:
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		break;
	case SOCKET:
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		break;
	case TERMINAL:
	case ENDS:
		fds[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
		assert_true(fds[0] >= 0 && grantpt(fds[0]) == 0 && unlockpt(fds[0]) == 0);
		fds[1] = open(ptsname(fds[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
		assert_int_equal(tcgetattr(fds[1], &raw), 0);
		cfmakeraw(&raw);
		assert_int_equal(tcsetattr(fds[1], TCSANOW, &raw), 0);
		break;
	}
	*ret_reader = fds[0];
	*ret_writer = fds[1];
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
}

static struct fixture *set_up(enum end end)
{
	struct fixture *f = mem_new(sizeof(*f));

	alarm(TIME_LIMIT_S);
	open_ends(end, &f->reader, &f->writer);
	driver_board_init(&f->board);
	f->driver.board = &f->board;
	assert_int_equal(loop_add_io(f->board.board.loop, f->board.board.timers.fd, 1, on_timers,
				     &f->board, &f->timers),
			 0);
	assert_int_equal(serial_create(&f->board.board, f->writer, &f->input, &f->serial), 0);
	return f;
}

static void tear_down(struct fixture *f)
{
	struct device *device = serial_device(f->serial);

	device->ops->destroy(device);
	loop_remove(f->timers);
	driver_board_release(&f->board);
	close(f->writer);
	if (f->reader >= 0)
		close(f->reader);
	own_mem_release(&f);
}

static unsigned int get(struct fixture *f, unsigned int port)
{
	return (unsigned int)bus_read(&f->board.board.ports, port, 1);
}

static void put(struct fixture *f, unsigned int port, unsigned int value)
{
	bus_write(&f->board.board.ports, port, 1, value);
}

static uint8_t text(unsigned int i)
{
	return (uint8_t)(i % 61 == 60 ? '\n' : 'a' + i % 23);
}

/* Reads what there is, and checks that it goes on as the guest wrote it. */
static void read_on(struct fixture *f, unsigned int *at)
{
	uint8_t data[4096];
	ssize_t n;

	driver_serve(&f->driver);
	while ((n = read(f->reader, data, sizeof(data))) > 0)
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(data[i], text((*at)++));
}

/* One that looks whether the line is ready loses nothing, however slow the reader is. */
static void a_slow_reader_gets_everything(void **state)
{
	(void)state;
	for (enum end end = PIPE; end < ENDS; end++) {
		struct fixture *f = set_up(end);
		unsigned int sent = 0, got = 0, stops = 0;

		while (sent < LOTS) {
			if ((get(f, LSR) & LSR_EMPTY) == LSR_EMPTY) {
				/* As many as the FIFO takes, without a look. */
				for (unsigned int i = 0; i < 16; i++)
					put(f, DATA, text(sent++));
				continue;
			}
			stops++;
			read_on(f, &got);
		}
		while (got < sent)
			read_on(f, &got);
		assert_true(stops > 0);
		tear_down(f);
	}
}

/* One that does not look loses its text, but neither it nor anybody else stands still. */
static void a_reader_that_stands_still_stops_nobody(void **state)
{
	(void)state;
	for (enum end end = PIPE; end < ENDS; end++) {
		struct fixture *f = set_up(end);
		unsigned int got = 0;

		for (unsigned int i = 0; i < 2 * LOTS; i++)
			put(f, DATA, text(i));
		assert_int_equal(get(f, LSR) & LSR_EMPTY, 0);
		/* When it reads again the line tells that it is ready. */
		put(f, IER, IER_TRANSMIT);
		assert_int_not_equal(get(f, IIR) & 7, IIR_TRANSMIT);
		for (unsigned int i = 0; i < 500 && (get(f, LSR) & LSR_EMPTY) == 0; i++)
			read_on(f, &got);
		assert_int_equal(get(f, IIR) & 7, IIR_TRANSMIT);
		assert_true(got > 0);
		tear_down(f);
	}
}

static void a_reader_that_goes_stops_nobody(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	for (enum end end = PIPE; end < ENDS; end++) {
		struct fixture *f = set_up(end);

		for (unsigned int i = 0; i < LOTS; i++)
			put(f, DATA, text(i));
		close(f->reader);
		f->reader = -1;
		for (unsigned int i = 0; i < 20; i++)
			driver_serve(&f->driver);
		for (unsigned int i = 0; i < LOTS; i++) {
			put(f, DATA, text(i));
			assert_int_equal(get(f, LSR) & LSR_EMPTY, LSR_EMPTY);
		}
		tear_down(f);
	}
}

static bool line;

static void keep_line(struct irq *irq, unsigned int number, bool level)
{
	(void)irq;
	assert_int_equal(number, IRQ_SERIAL);
	line = level;
}

/* A guest that waits until it can write on, goes on where it is restored. */
static void a_busy_transmitter_is_empty_after_a_snapshot(void **state)
{
	static const struct irq_ops ops = {.set_line = keep_line};
	struct fixture *f = set_up(PIPE), *copy = set_up(PIPE);
	struct device *from = serial_device(f->serial), *to = serial_device(copy->serial);
	struct state_writer out = {0};
	struct state_reader in;

	(void)state;
	copy->board.irq.ops = &ops;
	put(f, MCR, MCR_OUT2);
	for (unsigned int i = 0; get(f, LSR) & LSR_EMPTY; i++)
		put(f, DATA, text(i));
	put(f, IER, IER_TRANSMIT);
	assert_int_not_equal(get(f, IIR) & 7, IIR_TRANSMIT);
	state_begin(&out, "serial", 0, 1);
	from->ops->save(from, &out);
	state_end(&out);
	assert_int_equal(state_find(out.data.data, out.data.len, "serial", 0, &in), 0);
	assert_int_equal(to->ops->load(to, &in), 0);
	assert_true(line);
	assert_int_equal(get(copy, IIR) & 7, IIR_TRANSMIT);
	assert_int_equal(get(copy, LSR) & LSR_EMPTY, LSR_EMPTY);
	buf_release(&out.data);
	close(f->reader); /* nobody waits for it at the end */
	f->reader = -1;
	tear_down(copy);
	tear_down(f);
}

/* The descriptor is also other programs': it stays as it is. */
static void the_descriptor_stays_blocking(void **state)
{
	(void)state;
	for (enum end end = PIPE; end < ENDS; end++) {
		struct fixture *f = set_up(end);

		assert_int_equal(fcntl(f->writer, F_GETFL) & O_NONBLOCK, 0);
		tear_down(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reader_that_stands_still_stops_nobody),
		cmocka_unit_test(a_slow_reader_gets_everything),
		cmocka_unit_test(a_reader_that_goes_stops_nobody),
		cmocka_unit_test(a_busy_transmitter_is_empty_after_a_snapshot),
		cmocka_unit_test(the_descriptor_stays_blocking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
