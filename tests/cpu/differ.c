/*
 * differ: the differential tester of the software CPU. It makes short random sequences of every encoding
 * that Zydis knows and the CPU claims, runs each natively on the host under a signal guard and on the
 * software CPU, and compares registers, flags, vector and x87 state, memory and faults.
 *
 *     differ [--seed N] [--cases N] [--only MNEMONIC] [--verbose]
 *
 * Instructions whose result depends on the operating system or on time are left out (is_testable). A
 * difference is printed with its sequence and the seed that makes it again; the exit code is then 1.
 */
#include <signal.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include "base/mem.h"
#include "guest.h"
#include "vmm/cpu/soft/feature.h"
#include "vmm/cpu/soft/soft_priv.h"

enum {
	SEQUENCE_MAX = 4,
	CODE_MAX = 15 * SEQUENCE_MAX + 1,
	LANDING = 64, /* in the page of the code; an 8-bit displacement reaches it from its start */
	LANDING_RANGE = 48,
	BREAKPOINT = 0xcc, /* the instruction; what the page of the code is full of */
	XSAVE_COMPARED = 832,
	DIFFERENCES_SHOWN = 20,
};

struct outcome {
	uint64_t gpr[CPU_GPRS], rip, rflags;
	unsigned int vector;
	uint32_t error;
	uint64_t cr2;
	uint8_t xsave[XSAVE_COMPARED];
	uint8_t memory[GUEST_DATA_SIZE], code[GUEST_CODE_SIZE];
};

struct sample {
	uint64_t seed;
	uint8_t code[CODE_MAX + 15];
	unsigned int length, count;
	struct instruction instructions[SEQUENCE_MAX];
	unsigned int starts[SEQUENCE_MAX];
	uint64_t gpr[CPU_GPRS], rflags;
	uint8_t xsave[CPU_XSAVE_SIZE];
	uint8_t memory[GUEST_DATA_SIZE];
};

/* xorshift: fast, and the same everywhere. */
static uint64_t random_state;

static uint64_t random64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1dull;
}

static bool one_in(unsigned int n)
{
	return random64() >> 32 < (1ull << 32) / n;
}

/* ---- the host's side ---- */

struct native_registers {
	uint64_t gpr[CPU_GPRS], rflags, rip, host_rsp;
};
static _Alignas(64) uint8_t native_xsave[CPU_XSAVE_SIZE];
struct native_registers native_registers;
void native_enter(void *xsave);

__asm__(".text\n"
	".globl native_enter\n"
	"native_enter:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov $7, %eax; xor %edx, %edx\n"
	"	xrstor64 (%rdi)\n"
	"	mov %rsp, 144+native_registers(%rip)\n"
	"	push 128+native_registers(%rip)\n"
	"	popfq\n"
	"	mov 0+native_registers(%rip), %rax\n"
	"	mov 8+native_registers(%rip), %rcx\n"
	"	mov 16+native_registers(%rip), %rdx\n"
	"	mov 24+native_registers(%rip), %rbx\n"
	"	mov 32+native_registers(%rip), %rsp\n"
	"	mov 40+native_registers(%rip), %rbp\n"
	"	mov 48+native_registers(%rip), %rsi\n"
	"	mov 56+native_registers(%rip), %rdi\n"
	"	mov 64+native_registers(%rip), %r8\n"
	"	mov 72+native_registers(%rip), %r9\n"
	"	mov 80+native_registers(%rip), %r10\n"
	"	mov 88+native_registers(%rip), %r11\n"
	"	mov 96+native_registers(%rip), %r12\n"
	"	mov 104+native_registers(%rip), %r13\n"
	"	mov 112+native_registers(%rip), %r14\n"
	"	mov 120+native_registers(%rip), %r15\n"
	"	jmp *136+native_registers(%rip)\n");

static jmp_buf native_back;
static struct outcome *native_outcome;
static volatile bool native_active;
static struct sigaction soft_action[NSIG];

static void on_signal(int number, siginfo_t *info, void *data)
{
	static const int order[CPU_GPRS] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
					    REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
					    REG_R12, REG_R13, REG_R14, REG_R15};
	ucontext_t *context = data;
	greg_t *regs = context->uc_mcontext.gregs;
	struct outcome *o = native_outcome;

	if (!native_active) { /* in the software CPU's generated code */
		soft_action[number].sa_sigaction(number, info, data);
		return;
	}
	native_active = false;
	for (unsigned int i = 0; i < CPU_GPRS; i++)
		o->gpr[i] = (uint64_t)regs[order[i]];
	o->rip = (uint64_t)regs[REG_RIP];
	o->rflags = (uint64_t)regs[REG_EFL];
	o->vector = (unsigned int)regs[REG_TRAPNO];
	o->error = (uint32_t)regs[REG_ERR];
	o->cr2 = (uint64_t)regs[REG_CR2];
	memcpy(o->xsave, context->uc_mcontext.fpregs, XSAVE_COMPARED);
	_longjmp(native_back, 1);
}

static uint8_t *native_data, *native_code;

static void *map_at(uint64_t address, size_t size, int protection)
{
	void *p = mmap((void *)(uintptr_t)address, size, protection,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED) {
		perror("differ: map the test's memory");
		exit(1);
	}
	return p;
}

static void native_open(void)
{
	static uint8_t stack[64 << 10];
	stack_t alternative = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction action = {.sa_sigaction = on_signal,
				   .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

	native_data = map_at(GUEST_DATA, GUEST_DATA_SIZE, PROT_READ | PROT_WRITE);
	native_code = map_at(GUEST_CODE, GUEST_CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
	sigaltstack(&alternative, NULL);
	for (unsigned int i = 0; i < array_size(signals); i++)
		sigaction(signals[i], &action, &soft_action[signals[i]]);
}

static void run_native(const struct sample *s, struct outcome *o)
{
	memcpy(native_data, s->memory, GUEST_DATA_SIZE);
	/* All of it, as the case before may have written there. */
	memset(native_code, BREAKPOINT, GUEST_CODE_SIZE);
	memcpy(native_code, s->code, s->length);
	memcpy(native_registers.gpr, s->gpr, sizeof(s->gpr));
	native_registers.rflags = s->rflags;
	native_registers.rip = GUEST_CODE;
	memcpy(native_xsave, s->xsave, sizeof(native_xsave));
	native_outcome = o;
	if (!_setjmp(native_back)) {
		native_active = true;
		native_enter(native_xsave);
	}
	memcpy(o->memory, native_data, GUEST_DATA_SIZE);
	memcpy(o->code, native_code, GUEST_CODE_SIZE);
}

/* ---- the software CPU's side ---- */

static bool run_soft(struct guest *g, struct cpu_state *state, const struct sample *s,
		     struct outcome *o)
{
	struct guest_fault fault;

	memcpy(g->memory + GUEST_DATA_PHYSICAL, s->memory, GUEST_DATA_SIZE);
	memset(g->memory + GUEST_CODE_PHYSICAL, BREAKPOINT, GUEST_CODE_SIZE);
	memcpy(g->memory + GUEST_CODE_PHYSICAL, s->code, s->length);
	guest_written(g, GUEST_CODE_PHYSICAL, s->length);
	guest_start_state(g, GUEST_LONG_USER, state);
	memcpy(state->gpr, s->gpr, sizeof(s->gpr));
	state->rflags = s->rflags;
	memcpy(state->xsave, s->xsave, sizeof(s->xsave));
	if (g->vm->accel->set_state(g->vcpu, state) < 0 || !guest_run_to_fault(g, state, &fault))
		return false;
	memcpy(o->gpr, state->gpr, sizeof(o->gpr));
	o->gpr[CPU_RSP] = fault.rsp;
	o->rip = fault.rip;
	o->rflags = fault.rflags;
	o->vector = fault.vector;
	o->error = fault.error;
	o->cr2 = fault.cr2;
	memcpy(o->xsave, state->xsave, XSAVE_COMPARED);
	memcpy(o->memory, g->memory + GUEST_DATA_PHYSICAL, GUEST_DATA_SIZE);
	memcpy(o->code, g->memory + GUEST_CODE_PHYSICAL, GUEST_CODE_SIZE);
	return true;
}

/* ---- samples ---- */

static bool is_branch(const struct instruction *in)
{
	return in->info.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
	       in->info.meta.category == ZYDIS_CATEGORY_RET;
}

/* Far ones change selectors; with an operand size of 16 bits CPUs differ in the length; on some a repetition
 * prefix turns LOOPE into LOOPNE. */
static bool is_testable_branch(const struct instruction *in)
{
	bool is_loop = in->info.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
		       in->info.mnemonic == ZYDIS_MNEMONIC_LOOPNE;

	for (unsigned int i = 0; i < in->info.raw.prefix_count; i++) {
		uint8_t prefix = in->info.raw.prefixes[i].value;

		if (prefix == 0x66 || (is_loop && (prefix == 0xf2 || prefix == 0xf3)))
			return false;
	}
	return in->info.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR &&
	       in->info.mnemonic != ZYDIS_MNEMONIC_IRETD &&
	       in->info.mnemonic != ZYDIS_MNEMONIC_IRETQ &&
	       in->info.mnemonic != ZYDIS_MNEMONIC_IRET;
}

static bool is_testable(const struct instruction *in)
{
	if (is_branch(in) && !is_testable_branch(in))
		return false;
	switch (in->info.meta.category) {
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_IO:
	case ZYDIS_CATEGORY_IOSTRINGOP:
	case ZYDIS_CATEGORY_SEGOP:
	case ZYDIS_CATEGORY_RDRAND:
	case ZYDIS_CATEGORY_RDSEED:
	case ZYDIS_CATEGORY_RDPID:
	case ZYDIS_CATEGORY_RDWRFSGS:
	case ZYDIS_CATEGORY_SYSTEM:
	case ZYDIS_CATEGORY_CET:
	case ZYDIS_CATEGORY_XSAVE:
	case ZYDIS_CATEGORY_XSAVEOPT:
		return false;
	default:
		break;
	}
	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_VMCALL: /* answered as a hypervisor does */
	case ZYDIS_MNEMONIC_VMMCALL:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_XGETBV:
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_STR:
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_SGDT:
	case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_HLT:
	case ZYDIS_MNEMONIC_ENTER:
		return false;
	default:
		break;
	}
	for (unsigned int i = 0; i < in->info.operand_count; i++) {
		const ZydisDecodedOperand *o = &in->operands[i];

		if (in->info.mnemonic == ZYDIS_MNEMONIC_FNSTENV)
			return false;
		/* The x87 environment holds the host's code selector. */
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (o->size == 14 * 8 || o->size == 94 * 8 || o->size == 108 * 8))
			return false;
		/* Selectors and the bases of FS and GS are the host's. */
		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_ES &&
		    o->reg.value <= ZYDIS_REGISTER_GS)
			return false;
		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (o->mem.segment == ZYDIS_REGISTER_FS || o->mem.segment == ZYDIS_REGISTER_GS))
			return false;
	}
	return true;
}

static unsigned int random_bytes(uint8_t *code)
{
	static const uint8_t prefixes[] = {0x66, 0x66, 0x66, 0xf2, 0xf3, 0xf0, 0x67};
	unsigned int n = 0;
	uint64_t r;

	if (one_in(3)) {
		if (one_in(3))
			code[n++] = prefixes[random64() % array_size(prefixes)];
		code[n++] = one_in(2) ? 0xc5 : 0xc4;
		code[n++] = (uint8_t)random64();
		if (code[n - 2] == 0xc4) {
			code[n - 1] = (uint8_t)((code[n - 1] & 0xe0) | (1 + random64() % 3));
			code[n++] = (uint8_t)random64();
		}
	} else {
		while (one_in(3) && n < 3)
			code[n++] = prefixes[random64() % array_size(prefixes)];
		if (one_in(2))
			code[n++] = (uint8_t)(0x40 | (random64() & 15));
		r = random64() % 10;
		if (r >= 4)
			code[n++] = 0x0f;
		if (r == 8)
			code[n++] = 0x38;
		if (r == 9)
			code[n++] = 0x3a;
	}
	for (unsigned int i = 0; i < 12; i++)
		code[n++] = (uint8_t)random64();
	return n;
}

static uint64_t data_address(void)
{
	/* Mostly well inside; sometimes near a page border or the end. */
	uint64_t offset = random64() % (GUEST_DATA_SIZE - 512) + 256;

	if (one_in(4))
		offset &= ~63ull;
	if (one_in(16))
		offset = (random64() % 5) * 4096 - 16 + random64() % 32;
	return GUEST_DATA + offset;
}

/* Makes the memory operand point to the data: by its displacement or by its base register. */
static void aim(struct sample *s, const struct instruction *in, uint8_t *code, unsigned int start)
{
	for (unsigned int i = 0; i < in->info.operand_count; i++) {
		const ZydisDecodedOperand *o = &in->operands[i];
		int base = zydis_gpr_number(o->mem.base), index = zydis_gpr_number(o->mem.index);
		int32_t disp;

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (in->info.raw.disp.size == 32 && o->mem.base == ZYDIS_REGISTER_RIP) {
			disp = (int32_t)(data_address() - (GUEST_CODE + start + in->info.length));
			memcpy(code + in->info.raw.disp.offset, &disp, 4);
		} else if (in->info.raw.disp.size == 32) {
			disp = base < 0 ? (int32_t)data_address()
					: (int32_t)(random64() % 256) - 128;
			memcpy(code + in->info.raw.disp.offset, &disp, 4);
		}
		if (one_in(24))
			continue; /* whatever it hits */
		if (index >= 0 && index != base)
			s->gpr[index] = random64() % 64;
		if (base >= 0)
			s->gpr[base] = data_address();
	}
}

/* Branches lead to where only breakpoints are, behind all code: so nothing is repeated, and nothing executed
 * that is_testable has not seen. Registers and memory hold that address only for the first instruction. */
static void aim_branch(struct sample *s, const struct instruction *in, uint8_t *code,
		       unsigned int start)
{
	uint64_t to = GUEST_CODE + LANDING + random64() % LANDING_RANGE;
	int64_t distance = (int64_t)(to - GUEST_CODE - start - in->info.length);
	const ZydisDecodedOperand *o = &in->operands[0];
	uint64_t stack = s->gpr[CPU_RSP] - GUEST_DATA;

	if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && o->imm.is_relative)
		memcpy(code + in->info.raw.imm[0].offset, &distance, in->info.raw.imm[0].size / 8);
	else if (start > 0 || one_in(3))
		return;
	else if (in->info.meta.category == ZYDIS_CATEGORY_RET && stack <= GUEST_DATA_SIZE - 8)
		memcpy(s->memory + stack, &to, 8);
	else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && zydis_gpr_number(o->reg.value) >= 0)
		s->gpr[zydis_gpr_number(o->reg.value)] = to;
}

static bool set_made[ZYDIS_ISA_SET_MAX_VALUE + 1];
static int wanted_set = -1; /* the only one to make an instruction of */

static bool add_instruction(struct sample *s, const char *only)
{
	uint8_t *code = s->code + s->length;
	struct instruction *in = &s->instructions[s->count];
	enum native_kind kind;
	uint32_t mode = MODE_64 | MODE_LONG | MODE_PROTECTED | MODE_USER | MODE_SSE | MODE_AVX |
			MODE_XSAVE | MODE_MP;

	random_bytes(code);
	if (zydis_decode(mode, code, 15, in) != DECODE_OK ||
	    feature_check(mode, in, &kind) == FEATURE_MISSING)
		return false;
	if (!is_testable(in) || (wanted_set >= 0 && (int)in->info.meta.isa_set != wanted_set))
		return false;
	if (only) {
		char text[128];

		zydis_format(in, text, sizeof(text));
		if (strncasecmp(text, only, strlen(only)) != 0)
			return false;
	}
	aim(s, in, code, s->length);
	if (is_branch(in))
		aim_branch(s, in, code, s->length);
	set_made[in->info.meta.isa_set] = true;
	s->starts[s->count++] = s->length;
	s->length += in->info.length;
	return true;
}

static uint64_t random_value(void)
{
	static const uint64_t corners[] = {0,          1,          ~0ull,      0x7fffffff,
					   0x80000000, 0xffffffff, 0x8000,     0x7f,
					   0x80,       0xff,       1ull << 63, ~(1ull << 63)};

	switch (random64() % 5) {
	case 0:
		return corners[random64() % array_size(corners)];
	case 1:
		return random64() % 256;
	case 2:
		return random64();
	default:
		return data_address();
	}
}

static void random_vector_state(struct sample *s)
{
	uint64_t components = 7;
	uint32_t mxcsr = 0x1f80;
	uint16_t fcw = 0x37f, ftw = 0xff;

	memset(s->xsave, 0, sizeof(s->xsave));
	for (unsigned int i = 0; i < 16; i++) {
		for (unsigned int j = 0; j < 4; j++) {
			uint64_t value = random64();
			double d = (double)(int64_t)random64() / (double)(1 << (random64() % 31));
			float f[2] = {(float)d, (float)(int32_t)random64()};

			if (one_in(3))
				memcpy(&value, &d, 8);
			else if (one_in(3))
				memcpy(&value, f, 8);
			memcpy(s->xsave + (j < 2 ? 160 : 576 - 16) + i * 16 + j * 8, &value, 8);
		}
	}
	for (unsigned int i = 0; i < 8; i++) {
		long double d = (long double)(int64_t)random64() / (1 << (random64() % 31));

		memcpy(s->xsave + 32 + i * 16, &d, 10);
	}
	if (one_in(8))
		mxcsr = 0x1f80 | (random64() & 0xe03f);
	if (one_in(32))
		mxcsr = random64() & 0xffbf;
	if (one_in(4)) {
		ftw = (uint8_t)random64();
		fcw = (uint16_t)(0x7f | (random64() & 0xf00));
	}
	if (one_in(32))
		fcw = (uint16_t)(0x40 | (random64() & 0xf3f));
	memcpy(s->xsave, &fcw, 2);
	s->xsave[3] = (uint8_t)(random64() & 0x38); /* top of stack */
	s->xsave[4] = (uint8_t)ftw;
	memcpy(s->xsave + 24, &mxcsr, 4);
	memcpy(s->xsave + 512, &components, 8);
}

static void make_sample(struct sample *s, uint64_t seed, const char *only)
{
	unsigned int wanted;

	random_state = seed * 0x9e3779b97f4a7c15ull + 1;
	(void)random64();
	memset(s, 0, sizeof(*s));
	s->seed = seed;
	for (unsigned int i = 0; i < CPU_GPRS; i++)
		s->gpr[i] = random_value();
	s->gpr[CPU_RSP] = data_address();
	s->rflags = 0x202 | (random64() & (FLAGS_STATUS | (one_in(8) ? FLAG_DF : 0)));
	for (unsigned int i = 0; i < GUEST_DATA_SIZE; i += 8) {
		uint64_t value = random64();

		memcpy(s->memory + i, &value, 8);
	}
	random_vector_state(s);
	wanted = 1 + random64() % SEQUENCE_MAX;
	while (s->count < wanted)
		(void)add_instruction(s, only);
	/* A repetition over the whole address space ends in a fault, but not soon. */
	if (one_in(2))
		s->gpr[CPU_RCX] &= 0xff;
	s->code[s->length++] = BREAKPOINT;
}

/* ---- comparison ---- */

static void print_sample(const struct sample *s)
{
	printf("seed %lu:\n", s->seed);
	for (unsigned int i = 0; i < s->count; i++) {
		char text[128];

		zydis_format(&s->instructions[i], text, sizeof(text));
		printf("    %3x ", s->starts[i]);
		for (unsigned int j = 0; j < s->instructions[i].info.length; j++)
			printf("%02x", s->code[s->starts[i] + j]);
		printf("  %s\n", text);
	}
}

static bool differs(const char *what, uint64_t host, uint64_t soft, bool show)
{
	if (host != soft && show)
		printf("    %-8s host %016lx soft %016lx\n", what, host, soft);
	return host != soft;
}

static bool compare_bytes(const char *what, const uint8_t *host, const uint8_t *soft, size_t size,
			  size_t from, bool show)
{
	for (size_t i = 0; i < size; i++) {
		if (host[i] == soft[i])
			continue;
		if (show)
			printf("    %s at %zu: host %02x soft %02x\n", what, from + i, host[i],
			       soft[i]);
		return true;
	}
	return false;
}

/* The error code's bit "present" of addresses that only one of the two has mapped. */
static uint32_t error_mask(const struct outcome *o)
{
	return o->vector == VECTOR_PF && (o->cr2 < GUEST_MEMORY || o->cr2 >> 47) ? ~1u : ~0u;
}

static bool compare(const struct outcome *h, const struct outcome *s, bool show)
{
	static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	uint64_t status = FLAGS_STATUS | FLAG_DF;
	bool bad = false;

	bad |= differs("vector", h->vector, s->vector, show);
	bad |= differs("rip", h->rip, s->rip, show);
	bad |= differs("error", h->error & error_mask(h), s->error & error_mask(h), show);
	if (h->vector == VECTOR_PF)
		bad |= differs("cr2", (h->cr2 + 16) >> 13, (s->cr2 + 16) >> 13, show);
	for (unsigned int i = 0; i < CPU_GPRS; i++)
		bad |= differs(names[i], h->gpr[i], s->gpr[i], show);
	bad |= differs("rflags", h->rflags & status, s->rflags & status, show);
	/* The x87 pointers (6-23) and the MXCSR mask (28-31) are not compared. */
	bad |= compare_bytes("x87", h->xsave, s->xsave, 6, 0, show);
	bad |= compare_bytes("mxcsr", h->xsave + 24, s->xsave + 24, 4, 24, show);
	for (unsigned int i = 0; i < 8; i++)
		bad |= compare_bytes("st", h->xsave + 32 + i * 16, s->xsave + 32 + i * 16, 10,
				     32 + i * 16, show);
	bad |= compare_bytes("xmm", h->xsave + 160, s->xsave + 160, 256, 160, show);
	if (h->xsave[512] & 4)
		bad |= compare_bytes("ymm", h->xsave + 576, s->xsave + 576, 256, 576, show);
	bad |= compare_bytes("memory", h->memory, s->memory, GUEST_DATA_SIZE, 0, show);
	bad |= compare_bytes("code", h->code, s->code, GUEST_CODE_SIZE, 0, show);
	return bad;
}

/* Whether it has written where it executes: nobody has asked is_testable about what is there then. */
static bool has_changed_itself(const struct sample *sample, const struct outcome *host)
{
	uint8_t before[LANDING + LANDING_RANGE];

	memset(before, BREAKPOINT, sizeof(before));
	memcpy(before, sample->code, sample->length);
	return memcmp(before, host->code, sizeof(before)) != 0;
}

/* Whether bytes that its mask leaves out can fault is the processor's own choice: MASKMOVQ and MASKMOVDQU
 * across the border of what is mapped. */
static bool is_unspecified(const struct sample *sample, const struct outcome *host)
{
	uint64_t rip = GUEST_CODE;

	if (has_changed_itself(sample, host))
		return true;
	for (unsigned int i = 0; i < sample->count && rip <= host->rip; i++) {
		ZydisMnemonic m = sample->instructions[i].info.mnemonic;

		if (rip == host->rip && host->vector == VECTOR_PF)
			return m == ZYDIS_MNEMONIC_MASKMOVQ || m == ZYDIS_MNEMONIC_MASKMOVDQU ||
			       m == ZYDIS_MNEMONIC_VMASKMOVDQU;
		rip += sample->instructions[i].info.length;
	}
	return false;
}

struct options {
	uint64_t seed, cases;
	const char *only;
	bool verbose;
};

static struct options parse(int argc, char **argv)
{
	struct options o = {.seed = 1, .cases = 20000};

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--verbose") == 0)
			o.verbose = true;
		else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
			o.seed = strtoull(argv[++i], NULL, 0);
		else if (i + 1 < argc && strcmp(argv[i], "--cases") == 0)
			o.cases = strtoull(argv[++i], NULL, 0);
		else if (i + 1 < argc && strcmp(argv[i], "--only") == 0)
			o.only = argv[++i];
	}
	return o;
}

struct differ {
	struct guest guest;
	struct sample sample;
	struct outcome host, soft;
	struct cpu_state state;
	bool seen[ZYDIS_MNEMONIC_MAX_VALUE + 1];
	unsigned int mnemonics;
	uint64_t cases, faults, differences;
};

/* false: it cannot go on. */
static bool run_case(struct differ *d, const struct options *options, uint64_t seed)
{
	make_sample(&d->sample, seed, options->only);
	if (options->verbose)
		print_sample(&d->sample);
	for (unsigned int k = 0; k < d->sample.count; k++) {
		ZydisMnemonic m = d->sample.instructions[k].info.mnemonic;

		d->mnemonics += !d->seen[m];
		d->seen[m] = true;
	}
	run_native(&d->sample, &d->host);
	if (!run_soft(&d->guest, &d->state, &d->sample, &d->soft)) {
		print_sample(&d->sample);
		printf("    the software CPU does not come back\n");
		return false;
	}
	d->cases++;
	d->faults += d->host.vector != VECTOR_BP;
	if (!compare(&d->host, &d->soft, false) || is_unspecified(&d->sample, &d->host))
		return true;
	if (d->differences++ < DIFFERENCES_SHOWN) {
		print_sample(&d->sample);
		(void)compare(&d->host, &d->soft, true);
	}
	return true;
}

/* Whether none of a set's instructions is testable. */
static bool is_left_out(int set)
{
	switch (set) {
	case ZYDIS_ISA_SET_INVALID:
	case ZYDIS_ISA_SET_AMD:
	case ZYDIS_ISA_SET_I286PROTECTED:
	case ZYDIS_ISA_SET_I286REAL:
	case ZYDIS_ISA_SET_I486:
	case ZYDIS_ISA_SET_INVPCID:
	case ZYDIS_ISA_SET_PENTIUMREAL:
	case ZYDIS_ISA_SET_RDPID:
	case ZYDIS_ISA_SET_RDRAND:
	case ZYDIS_ISA_SET_RDSEED:
	case ZYDIS_ISA_SET_RDTSCP:
	case ZYDIS_ISA_SET_RDWRFSGS:
	case ZYDIS_ISA_SET_SMAP:
	case ZYDIS_ISA_SET_XSAVE:
	case ZYDIS_ISA_SET_XSAVEOPT:
		return true;
	default:
		return false;
	}
}

/* Sets that CPUID claims and chance has not brought up get a case of their own. Returns how many there were; what
 * is claimed and cannot be made ends in a time limit. */
static unsigned int run_missing_sets(struct differ *d, const struct options *options)
{
	unsigned int count = 0;
	int set;

	for (unsigned int i = 0; (set = feature_set(i)) >= 0; i++) {
		if (set_made[set] || is_left_out(set))
			continue;
		count++;
		wanted_set = set;
		if (!run_case(d, options, options->seed + options->cases + i))
			d->differences++;
	}
	wanted_set = -1;
	return count;
}

int main(int argc, char **argv)
{
	struct options options = parse(argc, argv);
	static struct differ d;
	unsigned int missing = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	guest_open(&d.guest);
	native_open(); /* its handlers come before the CPU's, and pass on what is not theirs */
	for (uint64_t i = 0; i < options.cases; i++) {
		if (!run_case(&d, &options, options.seed + i))
			return 1;
	}
	if (!options.only && options.cases > 1)
		missing = run_missing_sets(&d, &options);
	printf("%lu cases of %u mnemonics, %lu ended in a fault, %lu differences; %u instruction sets "
	       "came up only when asked for\n",
	       d.cases, d.mnemonics, d.faults, d.differences, missing);
	guest_close(&d.guest);
	return d.differences != 0;
}
