/* interrupt: see interrupt.h. */
#include "base/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <time.h>

#include "base/mem.h"
#include "base/own.h"

enum { EXIT_BY_SIGNAL = 128 };

static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

sigset_t interrupt_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	/* A signal that is held back waits even if it is ignored: it must not be held back. */
	for (size_t i = 0; i < array_size(numbers); i++) {
		struct sigaction now;

		if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
			sigaddset(&set, numbers[i]);
	}
	return set;
}

struct interrupt interrupt_begin(void)
{
	struct interrupt interrupt;
	sigset_t set = interrupt_signals();

	sigprocmask(SIG_BLOCK, &set, &interrupt.before);
	return interrupt;
}

/* One that is waiting, or comes in time: it is taken. 0: none. */
static int take_one(unsigned int ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	sigset_t set = interrupt_signals();
	int number = sigtimedwait(&set, NULL, &t);

	return number > 0 ? number : 0;
}

void interrupt_end(const struct interrupt *interrupt, int rc)
{
	while (rc == -EINTR && take_one(0) != 0)
		continue;
	sigprocmask(SIG_SETMASK, &interrupt->before, NULL);
}

/* The signal that is waiting; 0: none. */
static int find_one(void)
{
	sigset_t waiting;

	sigpending(&waiting);
	for (size_t i = 0; i < array_size(numbers); i++)
		if (sigismember(&waiting, numbers[i]) > 0)
			return numbers[i];
	return 0;
}

bool interrupt_pending(void)
{
	return find_one() != 0;
}

int interrupt_refuse(struct error *err, int number)
{
	return exit_with(err, refuse(err, -EINTR, "interrupted"), EXIT_BY_SIGNAL + number);
}

int interrupt_check(struct error *err)
{
	int number = find_one();

	return number != 0 ? interrupt_refuse(err, number) : 0;
}

void interrupt_sleep(unsigned int ms)
{
	int number = take_one(ms);

	/* It waits on, for who asks. */
	if (number != 0)
		raise(number);
}

int interrupt_await(int fd, struct error *err)
{
	const sigset_t set = interrupt_signals();
	own_fd int signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	struct pollfd waiting[] = {
		{.fd = fd, .events = POLLIN},
		{.fd = signal_fd, .events = POLLIN},
	};

	if (signal_fd < 0)
		return fail(err, -errno, "wait for signals");
	while (poll(waiting, 2, -1) < 0)
		if (errno != EINTR)
			return fail(err, -errno, "wait");
	return interrupt_check(err);
}

void interrupt_leave_to_parent(void)
{
	sigset_t set = interrupt_signals();

	signal(SIGINT, SIG_IGN);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}
