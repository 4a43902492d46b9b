/*
 * fuzz-vcpu: a hostile snapshot of a vCPU. The input's first byte says from which mode a good state is taken, the
 * second how many changes are made to it (and to the guest's tables), and the rest, behind the changes, is code.
 * If the software CPU takes the state it runs with it for a moment; what it is then must be a state that it takes,
 * and nothing but the guest's memory may have been touched: it lies between pages that nobody may touch.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sanitizer/lsan_interface.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../cpu/guest.h"
#include "base/mem.h"

enum {
	CHANGES_MAX = 64,
	MODES = 5,
	TABLES = 64 << 10, /* page tables, descriptors, handlers: where the guest has them */
	SLICE_NS = 300000,
	KICK_SIGNAL = 34,
};

/* What a change is made to. */
enum target { TARGET_REGISTERS, TARGET_VECTORS, TARGET_MSRS, TARGET_TABLES, TARGETS };

struct change {
	uint8_t target, size;
	uint16_t offset;
	uint32_t reserved;
	uint64_t value;
};

struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guest guest;
static uint8_t tables[TABLES];
static struct sigaction soft_action;
static timer_t timer;

static void kick(void)
{
	guest.vm->accel->request(guest.vcpu, CPU_REQUEST_KICK, 0);
}

static void on_kick(int number)
{
	int saved = errno;

	(void)number;
	kick();
	errno = saved;
}

/* The linker puts it in the place of syscall. A halted vCPU would sleep until the time is over: here it is kicked
 * at once. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (unsigned int i = 0; i < array_size(a); i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_futex && (int)a[1] == FUTEX_WAIT_PRIVATE) {
		kick();
		return 0;
	}
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The software CPU makes #GP of what the host's CPU refuses in generated code. An address of the host's where
 * nothing is mapped is no such thing: generated code has left the guest's memory. */
static void on_fault(int number, siginfo_t *info, void *context)
{
	if (info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR) {
		signal(SIGSEGV, SIG_DFL);
		abort();
	}
	soft_action.sa_sigaction(number, info, context);
}

static void build(void)
{
	struct sigaction kick = {.sa_handler = on_kick, .sa_flags = SA_ONSTACK},
			 fault = {.sa_sigaction = on_fault,
				  .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = KICK_SIGNAL};

	__lsan_disable(); /* what a vCPU has lies in memory where nobody looks for pointers */
	guest_open(&guest);
	__lsan_enable();
	memcpy(tables, guest.memory, TABLES);
	if (sigaction(KICK_SIGNAL, &kick, NULL) < 0 ||
	    sigaction(SIGSEGV, &fault, &soft_action) < 0 ||
	    timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
		abort();
}

static void set_timer(long ns)
{
	const struct itimerspec when = {.it_value.tv_nsec = ns};

	if (timer_settime(timer, 0, &when, NULL) < 0)
		abort();
}

/* Runs for a moment. */
static void run(void)
{
	const struct cpu_accel *accel = guest.vm->accel;
	enum cpu_exit exit;

	set_timer(SLICE_NS);
	exit = accel->run(guest.vcpu);
	set_timer(0);
	if (exit == CPU_EXIT_FAILED)
		abort();
	/* A kick that came too late must not be the next one's. */
	kick();
	if (accel->run(guest.vcpu) != CPU_EXIT_KICKED)
		abort();
}

static void put(uint8_t *at, size_t room, const struct change *c)
{
	size_t offset = c->offset % room, n = 1ul << (c->size & 3);

	memcpy(at + offset, &c->value, room - offset < n ? room - offset : n);
}

static void change(struct cpu_state *state, const struct change *c)
{
	uint8_t *bytes = (uint8_t *)state;

	switch (c->target % TARGETS) {
	case TARGET_REGISTERS:
		put(bytes, offsetof(struct cpu_state, xsave), c);
		break;
	case TARGET_VECTORS:
		put(state->xsave, CPU_XSAVE_SIZE / 4, c);
		break;
	case TARGET_MSRS:
		put(bytes + offsetof(struct cpu_state, msr_count),
		    sizeof(*state) - offsetof(struct cpu_state, msr_count), c);
		break;
	default:
		put(guest.memory, TABLES - 8, c);
	}
}

static void reset_memory(void)
{
	memcpy(guest.memory, tables, TABLES);
	guest_written(&guest, 0, TABLES);
	memset(guest.memory + GUEST_DATA_PHYSICAL, 0, GUEST_DATA_SIZE);
	guest_written(&guest, GUEST_DATA_PHYSICAL, GUEST_DATA_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cpu_state state;
	struct fuzz_input in = {data + 2, size - 2};
	enum guest_mode mode;

	if (size < 2)
		return 0;
	if (!guest.memory)
		build();
	mode = (enum guest_mode)(data[0] % MODES);
	reset_memory();
	guest_start_state(&guest, mode, &state);
	for (unsigned int i = 0; i < data[1] % CHANGES_MAX; i++) {
		struct change c;

		if (in.size < sizeof(c))
			break;
		memcpy(&c, in.data, sizeof(c));
		in.data += sizeof(c);
		in.size -= sizeof(c);
		change(&state, &c);
	}
	guest_load(&guest, mode, in.data, in.size < GUEST_CODE_SIZE ? in.size : GUEST_CODE_SIZE);
	if (guest.vm->accel->set_state(guest.vcpu, &state) < 0)
		return 0;
	run();
	if (guest.vm->accel->get_state(guest.vcpu, &state) < 0 ||
	    guest.vm->accel->set_state(guest.vcpu, &state) < 0)
		abort();
	run();
	return 0;
}
