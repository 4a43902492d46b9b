/*
 * run: the run loop: what the outside wants, then the next chain of blocks, until an exit.
 */
#include "vmm/cpu/soft/run.h"

#include <errno.h>
#include <immintrin.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "vmm/cpu/soft/cache.h"
#include "vmm/cpu/soft/debug.h"
#include "vmm/cpu/soft/fpu.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/native_fault.h"

enum { IDLE_MS = 300 };

void soft_request(struct soft *c, uint32_t bits)
{
	atomic_fetch_or(&c->requests, bits);
	/* Who falls asleep says so first, and then does not if there are other requests than it has seen. */
	if (!atomic_load(&c->sleeps))
		return;
	syscall(SYS_futex, &c->requests, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static uint32_t take_request(struct soft *c, uint32_t bits)
{
	return atomic_fetch_and(&c->requests, ~bits) & bits;
}

static void sleep_on(struct soft *c, uint32_t seen)
{
	const struct timespec idle = {.tv_nsec = IDLE_MS * 1000000L};

	if (syscall(SYS_futex, &c->requests, FUTEX_WAIT_PRIVATE, seen, &idle, NULL, 0) == 0 ||
	    errno != ETIMEDOUT)
		return;
	cache_trim(c);
	syscall(SYS_futex, &c->requests, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void sleep_until_request(struct soft *c)
{
	uint32_t seen = atomic_load(&c->requests);

	if (seen & ~(uint32_t)(REQUEST_STEP | REQUEST_TRAP))
		return;
	atomic_store(&c->sleeps, true);
	sleep_on(c, seen);
	atomic_store(&c->sleeps, false);
}

static void take_nmi(struct soft *c)
{
	unsigned int most = c->nmi_blocked ? 1 : 2;

	if (take_request(c, REQUEST_NMI)) {
		unsigned int all = c->nmi_pending + atomic_exchange(&c->nmis, 0);

		c->nmi_pending = (uint8_t)(all < most ? all : most);
	}
	if (!c->nmi_pending || c->nmi_blocked || c->shadow)
		return;
	c->nmi_pending--;
	c->nmi_blocked = true;
	c->activity = CPU_RUNNABLE;
	soft_deliver(c, VECTOR_NMI, EVENT_EXTERNAL, 0);
}

static void take_interrupt(struct soft *c)
{
	int vector;

	if (!(c->flags & FLAG_IF) || c->shadow) {
		/* soft_set_flags asks again when IF is set; the loop when the shadow is over. */
		if (take_request(c, REQUEST_INTERRUPT))
			c->interrupt_waits = true;
		return;
	}
	if (!take_request(c, REQUEST_INTERRUPT) && !c->interrupt_waits)
		return;
	c->interrupt_waits = false;
	vector = machine_take_interrupt(c);
	if (vector < 0)
		return;
	c->activity = CPU_RUNNABLE;
	c->interrupt_waits = true; /* there may be more */
	soft_deliver(c, (unsigned int)vector, EVENT_EXTERNAL, 0);
}

void run_take_start(struct soft *c)
{
	if (take_request(c, REQUEST_INIT)) {
		soft_reset(c, true);
		c->activity = c->apic_base & 0x100 ? CPU_RUNNABLE : CPU_WAITS_FOR_STARTUP;
	}
	if (take_request(c, REQUEST_STARTUP) && c->activity == CPU_WAITS_FOR_STARTUP) {
		c->segments[CPU_CS].selector = (uint16_t)(c->startup_vector << 8);
		c->segments[CPU_CS].base = (uint64_t)c->startup_vector << 12;
		c->rip = 0;
		c->activity = CPU_RUNNABLE;
		soft_update_mode(c);
	}
}

/* A data breakpoint of the instruction before, or the end of a single step. */
static void take_trap(struct soft *c)
{
	if (c->debug_shadow && c->debug.pending)
		return; /* the request stays: the next instruction comes alone */
	take_request(c, REQUEST_TRAP);
	if (!c->debug.pending)
		return;
	debug_report(c);
	soft_throw_trap(c, VECTOR_DB);
}

/* true: leave soft_run. */
static bool take_requests(struct soft *c)
{
	uint32_t requests = atomic_load(&c->requests);

	if (likely(!requests && !c->interrupt_waits && !c->nmi_pending))
		return false;
	if (requests & REQUEST_ONE)
		take_request(c, REQUEST_ONE);
	if (requests & (REQUEST_INIT | REQUEST_STARTUP))
		run_take_start(c);
	if (take_request(c, REQUEST_FLUSH))
		soft_flush_tlb(c);
	if (take_request(c, REQUEST_DROP))
		cache_take_drops(c);
	if (take_request(c, REQUEST_KICK))
		return true;
	if (c->activity == CPU_WAITS_FOR_STARTUP)
		return false;
	if (requests & REQUEST_TRAP)
		take_trap(c);
	if (requests & REQUEST_NMI || c->nmi_pending)
		take_nmi(c);
	if (requests & REQUEST_INTERRUPT || c->interrupt_waits)
		take_interrupt(c);
	return false;
}

/* An instruction breakpoint comes before the instruction, unless RF says that it has been served. */
static void check_breakpoints(struct soft *c)
{
	uint64_t linear = is_long64(c) ? c->rip : (uint32_t)(c->rip + c->segments[CPU_CS].base);
	uint64_t hit = c->flags & FLAG_RF ? 0 : debug_check_execute(c, linear);

	if (hit) {
		c->debug.pending |= hit;
		debug_report(c);
		soft_throw(c, VECTOR_DB, 0);
	}
}

/* Now its way leads to the block, as long as translations do not change. */
static void set_link(const struct op *from, struct block *b)
{
	((struct op *)(uintptr_t)from)->imm = (uint64_t)(uintptr_t)b;
}

/* The pages whose translations the block depends on. */
static void note_code(struct soft *c, const struct block *b)
{
	uint64_t linear = is_long64(c) ? c->rip : (uint32_t)(c->rip + c->segments[CPU_CS].base);
	uint64_t next = (linear | 0xfff) + 1;

	soft_note_code(c, linear);
	if (b->gpa_next_page != SOFT_NO_PAGE)
		soft_note_code(c, is_long64(c) ? next : (uint32_t)next);
}

/* Whether all address spaces have this block here. */
static bool is_shared(const struct soft *c, const struct block *b)
{
	return is_long64(c) && soft_is_shared(c, c->rip) &&
	       (b->gpa_next_page == SOFT_NO_PAGE || soft_is_shared(c, (c->rip | 0xfff) + 1));
}

static void enter_jump(struct soft *c, struct block *b)
{
	b->rip = c->rip;
	b->key = c->key;
	note_code(c, b);
	if (c->cpl != 3 && !is_shared(c, b))
		c->jumps_local = true;
}

/* Whether a block that was at `rip` under other translations is there under these: most come out the same. */
static bool is_still_there(const struct soft *c, uint64_t rip, const struct block *b)
{
	return b->mode == (uint32_t)(c->key & ((1u << MODE_BITS) - 1)) && is_long64(c) &&
	       !b->dropped && b->gpa_next_page == SOFT_NO_PAGE && soft_code_is_at(c, rip, b->gpa);
}

const struct op *run_link(struct soft *c, const struct op *from, uint64_t rip)
{
	struct block *b = (struct block *)(uintptr_t)from->imm;
	struct jump_entry *j = run_jump_entry(c, rip);

	c->rip = rip;
	c->link = from;
	if (atomic_load_explicit(&c->requests, memory_order_relaxed))
		return NULL;
	if (j->rip == rip && j->key == c->key) {
		b = j->block;
		b->rip = rip;
		b->key = c->key;
	} else {
		if (!b || b->rip != rip)
			b = j->rip == rip ? j->block : NULL;
		if (!b || !is_still_there(c, rip, b))
			return NULL;
		enter_jump(c, b);
	}
	set_link(from, b);
	c->link = NULL;
	return run_block(c, rip, b);
}

static void run_chain(struct soft *c, uint32_t mode)
{
	struct block *b = cache_find(c, mode);
	const struct op *op;

	if (!b)
		return;
	if (!(mode & MODE_ONE)) {
		struct jump_entry *j = run_jump_entry(c, c->rip);

		*j = (struct jump_entry){c->rip, c->key, b};
		enter_jump(c, b);
		/* If it was something else that led here, the branch will notice. */
		if (c->link)
			set_link(c->link, b);
		c->link = NULL;
	}
	c->regs[SOFT_RIP] = c->rip;
	c->block = b;
	c->instructions += b->count;
	op = b->ops;
	while (op)
		op = op->fn(c, op);
	c->op = NULL;
}

/* One instruction at a time: for TF, breakpoints, and behind STI and loads of SS. */
static void run_one(struct soft *c)
{
	bool step = c->flags & FLAG_TF;

	/* A load of SS holds back breakpoints, too: the one right behind it passes. */
	if (debug_has_execute(c) && !(c->shadow && c->debug_shadow))
		check_breakpoints(c);
	c->shadow = c->debug_shadow = false;
	c->flags &= ~(uint64_t)FLAG_RF; /* before it: IRET sets it for the next one */
	/* Its block may lead to others; what waited for the shadow's end would wait for theirs, too. */
	atomic_fetch_or(&c->requests, REQUEST_ONE);
	run_chain(c, (uint32_t)(c->key & ((1u << MODE_BITS) - 1)) | MODE_ONE);
	if (step && c->op == NULL && !c->debug_shadow) {
		c->debug.pending |= DR6_BS;
		soft_request(c, REQUEST_TRAP);
	}
}

static bool wants_single(struct soft *c)
{
	uint32_t requests = atomic_load_explicit(&c->requests, memory_order_relaxed);
	bool waits = requests || c->interrupt_waits || (c->nmi_pending && !c->nmi_blocked);

	return requests & REQUEST_STEP || (c->shadow && waits) || (c->flags & FLAG_RF);
}

static enum cpu_exit loop(struct soft *c)
{
	if (_setjmp(c->jump_out) && !soft_deliver_fault(c))
		return CPU_EXIT_SHUTDOWN;
	for (;;) {
		if (take_requests(c))
			return CPU_EXIT_KICKED;
		if (unlikely(c->activity != CPU_RUNNABLE)) {
			c->shadow = c->debug_shadow = false;
			sleep_until_request(c);
			continue;
		}
		if (unlikely(wants_single(c))) {
			run_one(c);
			continue;
		}
		c->shadow = c->debug_shadow = false;
		run_chain(c, (uint32_t)(c->key & ((1u << MODE_BITS) - 1)));
	}
}

enum cpu_exit soft_run(struct vcpu *vcpu)
{
	struct soft *c = container_of(vcpu, struct soft, vcpu);
	enum cpu_exit exit;

	c->host_mxcsr = _mm_getcsr();
	_mm_setcsr(c->mxcsr);
	native_fault_enter(c);
	exit = loop(c);
	native_fault_leave();
	fpu_leave(c);
	c->mxcsr = _mm_getcsr();
	_mm_setcsr(c->host_mxcsr);
	return exit;
}
