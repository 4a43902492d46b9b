/* The software CPU behind the accelerator's table: requests from other threads, several CPUs, writes by
 * devices, the dirty log, saved state. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cpu/guest.h"

#include <cmocka.h>

static void start(struct guest *g, const void *program, size_t size, struct cpu_state *state)
{
	guest_load(g, GUEST_LONG_KERNEL, program, size);
	guest_start_state(g, GUEST_LONG_KERNEL, state);
	state->gpr[CPU_RSP] = 0xa800;
	assert_int_equal(g->vm->accel->set_state(g->vcpu, state), 0);
}

static int open_guest(void **state)
{
	struct guest *g = mem_new(sizeof(*g));

	guest_open(g);
	*state = g;
	return 0;
}

static int close_guest(void **state)
{
	guest_close(*state);
	free(*state);
	return 0;
}

static void *kick_later(void *data)
{
	struct guest *g = data;

	usleep(20000);
	g->vm->accel->request(g->vcpu, CPU_REQUEST_KICK, 0);
	return NULL;
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void a_kick_ends_an_endless_loop(void **data)
{
	static const uint8_t loop[] = {0xeb, 0xfe};
	struct guest *g = *data;
	struct cpu_state state;
	pthread_t thread;

	start(g, loop, sizeof(loop), &state);
	pthread_create(&thread, NULL, kick_later, g);
	assert_int_equal(g->vm->accel->run(g->vcpu), CPU_EXIT_KICKED);
	pthread_join(thread, NULL);
	g->vm->accel->get_state(g->vcpu, &state);
	assert_int_equal(state.rip, GUEST_CODE);
}

static void a_halted_cpu_sleeps_until_the_kick(void **data)
{
	static const uint8_t halt[] = {0xf4};
	struct guest *g = *data;
	struct cpu_state state;
	pthread_t thread;
	double before;

	start(g, halt, sizeof(halt), &state);
	pthread_create(&thread, NULL, kick_later, g);
	before = cpu_seconds();
	assert_int_equal(g->vm->accel->run(g->vcpu), CPU_EXIT_KICKED);
	assert_true(cpu_seconds() - before < 0.01);
	pthread_join(thread, NULL);
	g->vm->accel->get_state(g->vcpu, &state);
	assert_int_equal(state.events.activity, CPU_HALTED);
	assert_int_equal(state.rip, GUEST_CODE + 1);
}

static void an_nmi_wakes_a_halted_cpu(void **data)
{
	static const uint8_t halt[] = {0xf4};
	struct guest *g = *data;
	struct guest_fault fault;
	struct cpu_state state;

	start(g, halt, sizeof(halt), &state);
	g->vm->accel->request(g->vcpu, CPU_REQUEST_NMI, 0);
	assert_true(guest_run_to_fault(g, &state, &fault));
	assert_int_equal(fault.vector, 2);
	assert_true(state.events.nmi_blocked);
}

static void two_nmis_at_once_are_both_served(void **data)
{
	static const uint8_t loop[] = {0xeb, 0xfe};
	struct guest *g = *data;
	struct guest_fault fault;
	struct cpu_state state;

	start(g, loop, sizeof(loop), &state);
	for (unsigned int i = 0; i < 3; i++)
		g->vm->accel->request(g->vcpu, CPU_REQUEST_NMI, 0);
	assert_true(guest_run_to_fault(g, &state, &fault));
	assert_int_equal(fault.vector, 2);
	assert_true(state.events.nmi_pending);
	state.events.nmi_blocked = false; /* as after its IRET, with the one that waits */
	state.rip = GUEST_CODE;
	assert_int_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
	assert_true(guest_run_to_fault(g, &state, &fault));
	assert_int_equal(fault.vector, 2);
	assert_false(state.events.nmi_pending);
}

/* The gate of vector 2 names a stack behind the task state's end, a stack that cannot be, a handler that
 * cannot be. */
static void a_fault_tells_whether_the_program_asked_for_it(void **data)
{
	enum { GATE_IST = 4, GATE_HIGH = 8, IST7 = 0x54, TSS_END = 0x67, TSS_SELECTOR = 0x30 };
	static const struct {
		uint32_t tss_limit;
		uint64_t stack;
		uint32_t handler_high;
		unsigned int vector;
		uint32_t error;
	} cases[] = {
		{IST7 - 1, 0xa000, 0, 10, TSS_SELECTOR},
		{TSS_END, 0x1000000000000, 0, 12, 0},
		{TSS_END, 0xa000, 0x10000, 13, 0},
	};
	static const uint8_t software[] = {0xcd, 0x02}, loop[] = {0xeb, 0xfe};
	struct guest *g = *data;
	struct guest_fault fault;
	struct cpu_state state;

	for (unsigned int i = 0; i < 2 * array_size(cases); i++) {
		unsigned int which = i / 2, external = i % 2;
		uint8_t *gate;

		start(g, external ? loop : software, 2, &state);
		gate = g->memory + state.idt.base + 2 * 16;
		gate[GATE_IST] = 7;
		memcpy(gate + GATE_HIGH, &cases[which].handler_high, 4);
		memcpy(g->memory + state.tr.base + IST7, &cases[which].stack, 8);
		state.tr.limit = cases[which].tss_limit;
		assert_int_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
		if (external)
			g->vm->accel->request(g->vcpu, CPU_REQUEST_NMI, 0);
		assert_true(guest_run_to_fault(g, &state, &fault));
		assert_int_equal(fault.vector, cases[which].vector);
		assert_int_equal(fault.error, cases[which].error | external);
	}
}

static void *nmi_soon(void *data)
{
	struct guest *g = data;

	for (volatile unsigned int i = 0; i < 20000; i++)
		;
	g->vm->accel->request(g->vcpu, CPU_REQUEST_NMI, 0);
	return NULL;
}

/* sti; jmp; nop; cli; jmp back: nothing but the request ends the chain of its blocks, and half of the time
 * it comes to where STI holds it back. */
static void an_nmi_reaches_a_loop_of_interrupt_shadows(void **data)
{
	static const uint8_t loop[] = {0xfb, 0xeb, 0x00, 0x90, 0xfa, 0xeb, 0xf9};
	struct guest *g = *data;
	struct guest_fault fault;
	struct cpu_state state;
	pthread_t thread;

	for (unsigned int i = 0; i < 30; i++) {
		start(g, loop, sizeof(loop), &state);
		pthread_create(&thread, NULL, nmi_soon, g);
		assert_true(guest_run_to_fault(g, &state, &fault));
		pthread_join(thread, NULL);
		assert_int_equal(fault.vector, 2);
		assert_int_not_equal(fault.rip, GUEST_CODE + 1); /* not right behind STI */
	}
}

/* mov eax, imm32; int3 */
static void set_constant(struct guest *g, uint32_t value)
{
	uint8_t code[] = {0xb8, 0, 0, 0, 0, 0xcc};

	memcpy(code + 1, &value, 4);
	memcpy(g->memory + GUEST_CODE_PHYSICAL, code, sizeof(code));
}

static void code_that_a_device_writes_is_decoded_again(void **data)
{
	struct guest *g = *data;
	struct guest_fault fault;
	struct cpu_state state;

	for (uint32_t value = 1; value < 5; value++) {
		set_constant(g, value);
		guest_written(g, GUEST_CODE_PHYSICAL, 6);
		guest_start_state(g, GUEST_LONG_KERNEL, &state);
		assert_int_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
		assert_true(guest_run_to_fault(g, &state, &fault));
		assert_int_equal(state.gpr[CPU_RAX], value);
	}
}

static void the_dirty_log_names_written_pages(void **data)
{
	/* mov [0x10001000], eax; int3 */
	static const uint8_t store[] = {0x89, 0x04, 0x25, 0x00, 0x10, 0x00, 0x10, 0xcc};
	enum { WORDS = GUEST_MEMORY / 4096 / 64, PAGE = (GUEST_DATA_PHYSICAL >> 12) + 1 };
	static uint64_t bitmap[WORDS];
	struct guest *g = *data;
	struct guest_fault fault;
	struct cpu_state state;

	for (unsigned int round = 0; round < 3; round++) {
		assert_int_equal(g->vm->accel->dirty(g->vm, 0, bitmap), 0);
		start(g, store, sizeof(store), &state);
		assert_true(guest_run_to_fault(g, &state, &fault));
		assert_int_equal(fault.vector, 3);
	}
	assert_int_equal(g->vm->accel->dirty(g->vm, 0, bitmap), 0);
	assert_true(bitmap[PAGE / 64] >> PAGE % 64 & 1);
	assert_false(bitmap[(PAGE + 1) / 64] >> (PAGE + 1) % 64 & 1);
	assert_int_equal(g->vm->accel->dirty(g->vm, 0, bitmap), 0);
	assert_false(bitmap[PAGE / 64] >> PAGE % 64 & 1);
	assert_int_equal(g->vm->accel->dirty(g->vm, 0, NULL), 0);
}

static void saved_state_continues_in_another_machine(void **data)
{
	/* 1: inc rax; paddq xmm0, xmm1; fld1; faddp; loop 1b; int3 */
	static const uint8_t code[] = {0x48, 0xff, 0xc0, 0x66, 0x0f, 0xd4, 0xc1,
				       0xd9, 0xe8, 0xde, 0xc1, 0xe2, 0xf3, 0xcc};
	struct guest *g = *data, other;
	static struct cpu_state state, half;
	struct guest_fault fault;
	long double sum;
	uint64_t low;
	pthread_t thread;

	guest_load(g, GUEST_LONG_KERNEL, code, sizeof(code));
	guest_start_state(g, GUEST_LONG_KERNEL, &state);
	state.gpr[CPU_RSP] = 0xa800;
	state.gpr[CPU_RCX] = 60000000;
	state.xsave[0] = 0x7f, state.xsave[1] = 3; /* FNINIT's control word */
	state.xsave[3] = 7 << 3;                   /* one register in use */
	state.xsave[4] = 0x80;
	state.xsave[160 + 16] = 3; /* xmm1 */
	assert_int_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
	pthread_create(&thread, NULL, kick_later, g);
	assert_int_equal(g->vm->accel->run(g->vcpu), CPU_EXIT_KICKED);
	pthread_join(thread, NULL);
	g->vm->accel->get_state(g->vcpu, &half);
	assert_true(half.gpr[CPU_RAX] > 0 && half.gpr[CPU_RCX] > 0);

	guest_open(&other);
	memcpy(other.memory, g->memory, GUEST_MEMORY);
	assert_int_equal(other.vm->accel->set_state(other.vcpu, &half), 0);
	assert_true(guest_run_to_fault(&other, &state, &fault));
	assert_int_equal(fault.vector, 3);
	assert_int_equal(state.gpr[CPU_RAX], 60000000);
	memcpy(&low, state.xsave + 160, sizeof(low));
	assert_int_equal(low, 180000000);
	memcpy(&sum, state.xsave + 32, 10);
	assert_true(sum == 60000000);
	guest_close(&other);
}

static void impossible_state_is_refused(void **data)
{
	struct guest *g = *data;
	struct cpu_state state;

	guest_start_state(g, GUEST_LONG_KERNEL, &state);
	state.cr4 &= ~0x20ull; /* long mode without PAE */
	assert_int_not_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
	guest_start_state(g, GUEST_LONG_KERNEL, &state);
	state.cr4 |= 0x1000; /* five levels */
	assert_int_not_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
	guest_start_state(g, GUEST_LONG_KERNEL, &state);
	state.xcr0 |= 0xe0; /* AVX-512 */
	assert_int_not_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
	guest_start_state(g, GUEST_LONG_KERNEL, &state);
	state.rflags |= 0x20000; /* virtual 8086 mode in long mode */
	assert_int_not_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
	guest_start_state(g, GUEST_LONG_KERNEL, &state);
	memset(&state.events.nmi_blocked, 0x55, 1); /* neither true nor false */
	assert_int_not_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
}

enum { ONE = 256, TWO = 512 }; /* where routines lie in the data */

static void put_jump(struct guest *g, unsigned int at, unsigned int distance)
{
	const uint32_t displacement = distance - 5;

	g->memory[GUEST_DATA_PHYSICAL + at] = 0xe9;
	memcpy(g->memory + GUEST_DATA_PHYSICAL + at + 1, &displacement, 4);
}

/* Calls a subroutine, changes the page it is in, loads CR3, calls again, INVLPG, calls again. The subroutine is a
 * jump, which begins `before` bytes before that page. */
static void call_twice(struct guest *g, uint64_t pte_flags, unsigned int before,
		       struct cpu_state *state)
{
	const uint8_t program[] = {
		0x41, 0xbc, 0x00, 0x10, 0x00,
		0x10,                                     /* mov r12d, GUEST_DATA + 4096 */
		0x4d, 0x8d, 0x6c, 0x24, (uint8_t)-before, /* lea r13, [r12 - before] */
		0x41, 0xff, 0xd5, 0x89, 0xc3,             /* call r13; mov ebx, eax */
		0x48, 0x8b, 0x04, 0x25, 0x10,
		0x50, 0x00, 0x00, /* mov rax, [third entry] */
		0x48, 0x89, 0x04, 0x25, 0x08,
		0x50, 0x00, 0x00, /* mov [second entry], rax */
		0x0f, 0x20, 0xd8, 0x0f, 0x22,
		0xd8,                         /* mov rax, cr3; mov cr3, rax */
		0x41, 0xff, 0xd5, 0x89, 0xc1, /* call r13; mov ecx, eax */
		0x41, 0x0f, 0x01, 0x3c, 0x24, /* invlpg [r12] */
		0x41, 0xff, 0xd5, 0x89, 0xc2,
		0xcc}; /* call r13; mov edx, eax; int3 */
	static const uint8_t one[] = {0xb8, 1, 0, 0, 0, 0xc3}, two[] = {0xb8, 2, 0, 0, 0, 0xc3};
	const uint64_t entry = (GUEST_DATA_PHYSICAL + 4096) | 7 | pte_flags;
	const uint64_t third = (GUEST_DATA_PHYSICAL + 8192) | 7;
	struct guest_fault fault;

	memcpy(g->memory + GUEST_DATA_PHYSICAL + ONE, one, sizeof(one));
	memcpy(g->memory + GUEST_DATA_PHYSICAL + TWO, two, sizeof(two));
	put_jump(g, 8192 - before, TWO - (4096 - before));
	put_jump(g, 4096 - before, ONE - (4096 - before));
	memcpy(g->memory + 0x5000, &(uint64_t){GUEST_DATA_PHYSICAL | 7}, 8);
	memcpy(g->memory + 0x5008, &entry, 8);
	memcpy(g->memory + 0x5010, &third, 8);
	guest_written(g, GUEST_DATA_PHYSICAL, 3 * 4096);
	start(g, program, sizeof(program), state);
	assert_true(guest_run_to_fault(g, state, &fault));
	assert_int_equal(fault.vector, 3);
	assert_int_equal(state->gpr[CPU_RBX], 1);
}

static void a_load_of_cr3_keeps_global_pages_only(void **data)
{
	struct cpu_state state;

	for (unsigned int before = 0; before < 2; before++) {
		call_twice(*data, 0, before, &state);
		assert_int_equal(state.gpr[CPU_RCX], 2);
		assert_int_equal(state.gpr[CPU_RDX], 2);
		call_twice(*data, 0x100, before, &state);
		assert_int_equal(state.gpr[CPU_RCX], 1);
		assert_int_equal(state.gpr[CPU_RDX], 2);
	}
}

enum { MARK = 0x5eed1234 };

/* Runs the program of set_constant; what it leaves in EAX. */
static uint64_t run_constant(struct guest *g)
{
	struct guest_fault fault;
	struct cpu_state state;

	guest_start_state(g, GUEST_LONG_KERNEL, &state);
	assert_int_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
	assert_true(guest_run_to_fault(g, &state, &fault));
	return state.gpr[CPU_RAX];
}

/* A file with what a machine has decoded that ran the program once. */
static int keep_code(struct guest *g)
{
	int fd = memfd_create("kept", MFD_CLOEXEC);

	set_constant(g, MARK);
	assert_int_equal(run_constant(g), MARK);
	assert_int_equal(g->vm->accel->save_code(g->vm, fd, NULL), 0);
	return fd;
}

static void kept_code_is_used_where_the_bytes_are_the_same(void **data)
{
	struct guest *g = *data, other, changed;
	int fd = keep_code(g);
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t *file = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *at;
	uint32_t mark = MARK, instead = 7;
	unsigned int count = 0;

	/* The constant is in the kept code and among the bytes it was decoded from: only the former
	 * changes what is executed. */
	assert_true(file != MAP_FAILED);
	for (at = file; (at = memmem(at, (size_t)(file + size - at), &mark, 4)) != NULL; at += 4)
		if (count++ == 0)
			memcpy(at, &instead, 4);
	assert_true(count >= 2);
	guest_open(&other);
	set_constant(&other, MARK);
	assert_int_equal(other.vm->accel->load_code(other.vm, fd, NULL), 0);
	assert_int_equal(run_constant(&other), instead);
	/* It is written: decoded anew. */
	set_constant(&other, 2);
	guest_written(&other, GUEST_CODE_PHYSICAL, 6);
	assert_int_equal(run_constant(&other), 2);
	guest_close(&other);

	guest_open(&changed);
	set_constant(&changed, 3);
	assert_int_equal(changed.vm->accel->load_code(changed.vm, fd, NULL), 0);
	assert_int_equal(run_constant(&changed), 3);
	guest_close(&changed);
	munmap(file, (size_t)size);
	close(fd);
}

static void kept_code_of_another_program_is_refused(void **data)
{
	struct guest *g = *data, other;
	struct error why = {0};
	int fd = keep_code(g);

	assert_int_equal(pwrite(fd, "x", 1, 12), 1); /* in the program's identity */
	guest_open(&other);
	assert_int_equal(other.vm->accel->load_code(other.vm, fd, &why), -ESTALE);
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(other.vm->accel->load_code(other.vm, fd, &why), -ESTALE);
	guest_close(&other);
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_guest, close_guest)
	const struct CMUnitTest tests[] = {
		TEST(a_kick_ends_an_endless_loop),
		TEST(a_halted_cpu_sleeps_until_the_kick),
		TEST(an_nmi_wakes_a_halted_cpu),
		TEST(two_nmis_at_once_are_both_served),
		TEST(a_fault_tells_whether_the_program_asked_for_it),
		TEST(an_nmi_reaches_a_loop_of_interrupt_shadows),
		TEST(code_that_a_device_writes_is_decoded_again),
		TEST(the_dirty_log_names_written_pages),
		TEST(saved_state_continues_in_another_machine),
		TEST(impossible_state_is_refused),
		TEST(a_load_of_cr3_keeps_global_pages_only),
		TEST(kept_code_is_used_where_the_bytes_are_the_same),
		TEST(kept_code_of_another_program_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
