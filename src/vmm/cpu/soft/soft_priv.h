/*
 * soft_priv: the software CPU's state and what its files share. docs/software-cpu.md has the design.
 *
 * One `struct soft` is one vCPU and belongs to its thread. The fields that other threads touch are
 * gathered under "shared". Guest code runs as a chain of operations: every operation is a function that
 * does one instruction and continues with the next (NEXT), until one returns NULL to the run loop.
 *
 * Invariants
 *   S1  A fault leaves the chain by soft_throw (longjmp) before the instruction has changed anything
 *       that the guest can see, or with a state that restarts correctly (string instructions).
 *   S2  regs[SOFT_RIP] is the RIP of the current block's first instruction; an operation's own RIP is
 *       that plus op->offset. Between blocks `rip` is the truth.
 *   S3  `op` is the operation a fault belongs to; NULL while no instruction is executing (then `rip`
 *       is already right).
 *   S4  A TLB entry's write tag is never valid for a page that holds decoded code, is watched by a
 *       debug register or is not yet marked dirty: those go the slow way (mmu.c).
 *   S5  While guest code runs the host's x87 registers may hold the guest's (fpu_live) and MXCSR always
 *       does. C code of the interpreter uses neither; calls of the machine put MXCSR back.
 */
#pragma once

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/cpu/cpu.h"

enum {
	SOFT_ZERO = 16, /* a register that is always 0: "no base", "no index" */
	SOFT_RIP = 17,  /* see S2 */
	SOFT_REGS = 18,

	SOFT_PAGE_BITS = 12,
	SOFT_PAGE_SIZE = 1 << SOFT_PAGE_BITS,
	SOFT_TLB_SIZE = 512,
	SOFT_JUMP_SIZE = 16384,
	SOFT_CODE_PAGES = 2048,
	SOFT_PCIDS = 4,          /* whose translations are kept at a time */
	SOFT_BOUNCE_SIZE = 1024, /* the largest memory operand (XSAVE goes piecewise) */
	SOFT_SEGMENT_NONE = 6,   /* index of a segment base that is always 0 */
};

/* EFLAGS */
#define FLAG_CF 0x1u
#define FLAG_ONE 0x2u
#define FLAG_PF 0x4u
#define FLAG_AF 0x10u
#define FLAG_ZF 0x40u
#define FLAG_SF 0x80u
#define FLAG_TF 0x100u
#define FLAG_IF 0x200u
#define FLAG_DF 0x400u
#define FLAG_OF 0x800u
#define FLAG_IOPL 0x3000u
#define FLAG_NT 0x4000u
#define FLAG_RF 0x10000u
#define FLAG_VM 0x20000u
#define FLAG_AC 0x40000u
#define FLAG_VIF 0x80000u
#define FLAG_VIP 0x100000u
#define FLAG_ID 0x200000u
#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

#define CR0_PE 0x1u
#define CR0_MP 0x2u
#define CR0_EM 0x4u
#define CR0_TS 0x8u
#define CR0_ET 0x10u
#define CR0_NE 0x20u
#define CR0_WP 0x10000u
#define CR0_AM 0x40000u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u

#define CR4_VME 0x1u
#define CR4_PVI 0x2u
#define CR4_TSD 0x4u
#define CR4_DE 0x8u
#define CR4_PSE 0x10u
#define CR4_PAE 0x20u
#define CR4_MCE 0x40u
#define CR4_PGE 0x80u
#define CR4_PCE 0x100u
#define CR4_OSFXSR 0x200u
#define CR4_OSXMMEXCPT 0x400u
#define CR4_UMIP 0x800u
#define CR4_FSGSBASE 0x10000u
#define CR4_PCIDE 0x20000u
#define CR4_OSXSAVE 0x40000u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u
#define CR4_KNOWN                                                                                  \
	(CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR |         \
	 CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP)

#define EFER_SCE 0x1u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define EFER_NXE 0x800u
#define EFER_KNOWN (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)

enum soft_vector {
	VECTOR_DE = 0,
	VECTOR_DB = 1,
	VECTOR_NMI = 2,
	VECTOR_BP = 3,
	VECTOR_OF = 4,
	VECTOR_BR = 5,
	VECTOR_UD = 6,
	VECTOR_NM = 7,
	VECTOR_DF = 8,
	VECTOR_TS = 10,
	VECTOR_NP = 11,
	VECTOR_SS = 12,
	VECTOR_GP = 13,
	VECTOR_PF = 14,
	VECTOR_MF = 16,
	VECTOR_AC = 17,
	VECTOR_XM = 19,
};

/* What decoding depends on besides the bytes: the low part of a block's key. */
enum soft_mode {
	MODE_64 = 1 << 0,
	MODE_CODE32 = 1 << 1,
	MODE_STACK32 = 1 << 2,
	MODE_FLAT = 1 << 3,      /* legacy modes: DS, ES, SS have base 0 and limit 4 GiB */
	MODE_PROTECTED = 1 << 4, /* CR0.PE and not virtual 8086 */
	MODE_USER = 1 << 5,      /* CPL 3 */
	MODE_TS = 1 << 6,
	MODE_EM = 1 << 7,
	MODE_MP = 1 << 8,
	MODE_SSE = 1 << 9,    /* CR4.OSFXSR */
	MODE_AVX = 1 << 10,   /* CR4.OSXSAVE and XCR0 */
	MODE_LONG = 1 << 11,  /* EFER.LMA: compatibility or 64-bit mode */
	MODE_ONE = 1 << 12,   /* blocks of a single instruction: stepping, interrupt shadow */
	MODE_XSAVE = 1 << 13, /* CR4.OSXSAVE */
	MODE_BITS = 16,
};

/* Bits of `requests`: reasons to return to the run loop at the end of the block. */
enum soft_request {
	REQUEST_KICK = 1 << 0,
	REQUEST_INTERRUPT = 1 << 1,
	REQUEST_NMI = 1 << 2,
	REQUEST_INIT = 1 << 3,
	REQUEST_STARTUP = 1 << 4,
	REQUEST_FLUSH = 1 << 5,
	REQUEST_DROP = 1 << 6, /* pages of decoded code were written by others: see drops */
	REQUEST_STEP = 1 << 7, /* one instruction at a time: TF or instruction breakpoints */
	REQUEST_TRAP = 1 << 8, /* a data breakpoint was hit: #DB after this instruction */
	REQUEST_ONE = 1 << 9,  /* of the run loop's own: come back after one instruction */
};

struct soft;
struct op;
struct block;

typedef const struct op *(*op_fn)(struct soft *c, const struct op *op);

/* How an operand's address is made from its parts. */
enum soft_address {
	ADDRESS_FLAT,    /* base + index * scale + displacement */
	ADDRESS_WRAP32,  /* the same, cut to 32 bits (then plus the segment base) */
	ADDRESS_BASED,   /* the same plus a segment base, in 64-bit mode */
	ADDRESS_CHECKED, /* a segment with a limit and rights, in the other modes */
};

struct op {
	op_fn fn;
	int64_t disp; /* of the memory operand, or of the branch, from the block's first RIP */
	uint64_t imm;
	uint16_t offset; /* of the instruction in the block */
	uint8_t length;
	uint8_t size; /* of the operation in bytes */
	uint8_t base, index, scale_bits, segment;
	uint8_t address : 4;      /* enum soft_address */
	uint8_t address_size : 4; /* 2, 4, 8 */
	uint8_t dst, src;         /* byte offsets into regs, or numbers of registers */
	uint8_t prefix;           /* enum soft_prefix */
	uint8_t condition;
	uint8_t access_size; /* of the memory operand in bytes, 0: too large for this field */
	uint8_t has_memory;
	uint8_t alignment; /* that the memory operand must have, minus 1; 0: none */
};

/* Cold code is walked through once: how large operations are is how long it takes. */
_Static_assert(sizeof(struct op) == 40, "five words");

enum soft_prefix { PREFIX_REP = 1, PREFIX_REPNE = 2, PREFIX_LOCK = 4 };

/* A branch leads from block to block: its operation (or, for a conditional one that is not taken, the one
 * behind it, which ends every block) has the block that it led to last in `imm`. Where that begins, and under
 * which translations it was found there, stands in front of its first operation (run.h). */
struct block {
	gpa_t gpa;
	gpa_t gpa_next_page; /* of the page into which the last instruction reaches, or NO_PAGE */
	struct block *next_hash;
	struct block *next_page[2]; /* the blocks of the same page: of the first, of the second */
	uint32_t mode;
	uint16_t count;
	uint16_t bytes : 15, dropped : 1;
	uint64_t rip, key; /* as of when it was executed last; NO_KEY: never */
	struct op ops[];
};
#define NO_KEY (~0ull)
_Static_assert(sizeof(struct block) == 64, "a cache line");

#define SOFT_NO_PAGE (~(gpa_t)0)

/* All tags are page-aligned linear addresses, or TAG_NONE, which matches nothing. The layout is known
 * to generated code. */
#define TAG_NONE 1ull

struct tlb_entry {
	_Atomic uint64_t read, write, exec;
	uint64_t addend; /* host address minus linear address */
};

enum soft_access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC, ACCESS_MODIFY };
/* Which TLB: supervisor, supervisor that may touch user pages, user with alignment checks (always empty:
 * every access goes the slow way), user: of these there is one for each of SOFT_PCIDS. */
enum soft_tlb {
	TLB_SUPERVISOR,
	TLB_SUPERVISOR_AC,
	TLB_USER_ALIGNED,
	TLB_USER,
	TLBS = TLB_USER + SOFT_PCIDS
};

struct jump_entry {
	uint64_t rip;
	uint64_t key; /* `struct soft`.key when it was entered */
	struct block *block;
};

/* What must happen after the instruction that got a pointer from soft_memory_slow. */
enum soft_commit { COMMIT_NONE, COMMIT_CODE, COMMIT_MMIO, COMMIT_SPLIT };

struct commit {
	uint32_t kind; /* enum soft_commit; generated code compares it with 0 */
	uint32_t size, first_size;
	gpa_t gpa, gpa_second;
	uint8_t *host, *host_second; /* NULL: not memory */
	uint8_t *data;
};

struct soft_debug {
	uint64_t dr[4], dr6, dr7;
	uint64_t pending; /* bits for DR6 by data breakpoints of this instruction */
};

struct soft_msrs {
	uint64_t star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable, mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
	uint64_t spec_ctrl, tsc_adjust, mcg_status;
	uint64_t wall_clock, system_time, async_pf, steal_time, poll_control;
};

enum { SOFT_DROPS_MAX = 32 };

/* What generated code calls, by its place in `calls`: so it has no addresses in it and can be kept for
 * other processes (kept.h). */
enum soft_call { CALL_MEMORY, CALL_COMMIT, CALL_FPU_ENTER, CALL_ADDRESS, SOFT_CALLS };
typedef void (*soft_call_fn)(void);

/* Jumps whose validity depends on the same translations. */
struct soft_context {
	uint64_t generation; /* of the translations */
	/* A bit for each linear page (for all of a half of the address space with the same remainder) from which
	 * code came into the jump cache in this generation: others' translations may change unnoticed by it. */
	uint64_t code_pages[SOFT_CODE_PAGES / 64];
	uint16_t pcid; /* NO_PCID: none */
};
#define NO_PCID 0xffff

struct soft {
	/* Hot, and known to generated code. */
	uint64_t regs[SOFT_REGS];
	uint16_t status;  /* low byte: OF as 0 or 1; high byte: SF ZF AF PF CF as LAHF gives them */
	uint8_t fpu_live; /* the host's x87 registers are the guest's */
	_Atomic bool sleeps; /* until `requests` changes */
	_Atomic uint32_t requests;
	struct tlb_entry *tlb;
	struct commit commit;
	uint64_t segment_base[8];
	soft_call_fn calls[SOFT_CALLS];
	const struct op *op;
	uint64_t key; /* a generation << MODE_BITS | mode: what jump cache entries must match */
	uint64_t instructions;
	uint64_t rip;
	struct block *block;
	const struct op
		*link; /* the branch that led out of the chain, whose `imm` is to be set; or NULL */

	uint64_t flags; /* all but the status flags */
	uint8_t cpl;
	uint8_t tlb_index;
	bool shadow;       /* interrupts wait for one more instruction */
	bool debug_shadow; /* and so do traps of the debug registers: after a load of SS */
	bool nmi_blocked;
	bool interrupt_waits;
	bool split_locked;   /* the machine's split_lock is ours until soft_commit */
	uint8_t nmi_pending; /* one is kept while another is served; two if they come at once */
	int delivering;      /* the exception that is being delivered, for #DF; -1: none */
	uint8_t activity;    /* enum cpu_activity */
	struct cpu_segment segments[CPU_SEGMENTS], ldt, tr;
	struct cpu_table gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0, apic_base;
	uint64_t pdpte[4]; /* PAE paging: loaded with CR3 */
	struct soft_debug debug;
	struct soft_msrs msrs;

	/* Vector and x87 state; x87 is in the host's registers while fpu_live. */
	_Alignas(64) uint8_t vec[16][32];
	_Alignas(64) uint8_t fx[512]; /* FXSAVE image; its XMM part is not used */
	uint32_t mxcsr, host_mxcsr;   /* the guest's while not running; the host's while running */
	uint64_t fpu_ip, fpu_dp;
	uint16_t fpu_opcode, fpu_cs, fpu_ds;
	_Alignas(64) uint8_t bounce[SOFT_BOUNCE_SIZE + 64];

	/* A fault on its way from soft_throw to the run loop. */
	jmp_buf jump_out;
	int fault_vector, fault_kind;
	uint64_t fault_address;
	bool restarts; /* INT n is entering its handler: a fault on the way belongs to `restart_rip` */
	bool external; /* what is being delivered does not come from an instruction of the program's */
	uint64_t restart_rip;
	uint32_t fault_error;

	/* Of supervisor code [0], which keeps its jumps within pages that all address spaces share when CR3 is
	 * loaded, and of the user code of some PCIDs. */
	struct soft_context contexts[1 + SOFT_PCIDS];
	uint64_t generation;       /* the newest of all contexts */
	uint8_t context;           /* of the user code of CR3's PCID */
	bool jumps_local;          /* some supervisor code in the jump cache lies in other pages */
	_Atomic uint8_t tlbs_used; /* bits of TLBs that may have entries */
	/* The range in which large pages were entered in the TLB: in each half of the address space. */
	struct {
		uint64_t low, high;
	} large[2];
	struct cache *cache;

	/* Shared */
	pthread_mutex_t drops_lock;
	unsigned int drop_count; /* more than SOFT_DROPS_MAX: all */
	gpa_t drops[SOFT_DROPS_MAX];
	uint8_t startup_vector;
	_Atomic unsigned int nmis; /* that came since REQUEST_NMI was taken last */

	_Alignas(64) struct tlb_entry tlbs[TLBS][SOFT_TLB_SIZE];
	uint64_t tlb_local[TLBS][SOFT_TLB_SIZE / 64]; /* bits of entries that are not global */
	struct jump_entry jump[SOFT_JUMP_SIZE];

	struct vcpu vcpu;
	struct soft_vm *vm;
};

struct soft_region {
	struct cpu_region region;
	_Atomic uint64_t *coded; /* per page: which vCPUs hold decoded code of it */
	_Atomic uint64_t *dirty; /* bitmap, NULL: not recorded */
};

struct kept;

struct soft_vm {
	struct cpu_vm vm;
	/* Guards operands that are read, changed and written across the border of two pages which are no
	 * neighbours on the host: they are atomic among themselves. */
	pthread_mutex_t split_lock;
	struct kept *kept; /* decoded code of the snapshot's, NULL: none */
	unsigned int vcpus;
	_Atomic(struct soft *) cpus[CPU_VCPUS_MAX];
	unsigned int region_count;
	struct soft_region regions[CPU_REGIONS_MAX];
	uint64_t clock_tsc, clock_ns; /* kvmclock: where the first CPU began */
};

/* Every operation ends with one of these. Where the compiler makes tail calls out of them a chain
 * costs one indirect jump per instruction; else (no optimisation, sanitizers) the run loop goes from
 * operation to operation itself. */
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
#define SOFT_TAIL_CALLS 1
#define CONTINUE(c, op) return (op)->fn(c, op)
#else
#define SOFT_TAIL_CALLS 0
#define CONTINUE(c, op) return ((void)(c), (op))
#endif
#define NEXT(c, op) CONTINUE(c, (op) + 1)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static inline uint64_t op_rip(const struct soft *c, const struct op *op)
{
	return c->regs[SOFT_RIP] + op->offset;
}

/* RIP is cut to what the mode has: 64, 32 or 16 bits are the operand's business, 32 the mode's. */
static inline uint64_t rip_mask(const struct soft *c)
{
	return c->key & MODE_64 ? ~0ull : 0xffffffffull;
}

static inline uint64_t op_next_rip(const struct soft *c, const struct op *op)
{
	return (c->regs[SOFT_RIP] + op->offset + op->length) & rip_mask(c);
}

/* Bits 63 to 48 are as bit 47. */
static inline bool is_canonical(uint64_t address)
{
	return (int64_t)(address << 16) >> 16 == (int64_t)address;
}

static inline bool is_long64(const struct soft *c)
{
	return c->key & MODE_64;
}

static inline bool is_protected(const struct soft *c)
{
	return c->key & MODE_PROTECTED;
}

static inline bool is_vm86(const struct soft *c)
{
	return c->flags & FLAG_VM;
}

static inline unsigned int iopl(const struct soft *c)
{
	return (c->flags & FLAG_IOPL) >> 12;
}

/* What jump cache entries must match in this mode. */
static inline uint64_t soft_key(const struct soft *c, uint32_t mode)
{
	return c->contexts[c->cpl == 3 ? c->context : 0].generation << MODE_BITS | mode;
}

/* flags.c */
uint64_t soft_get_flags(const struct soft *c);
/* Sets the flags in `mask`; brings the TLB choice, stepping and waiting interrupts up to date. */
void soft_set_flags(struct soft *c, uint64_t flags, uint64_t mask);
bool soft_condition(const struct soft *c, unsigned int condition);
static inline void soft_set_status(struct soft *c, uint64_t flags)
{
	c->status = (uint16_t)((flags & 0xd7) << 8 | (flags >> 11 & 1));
}

/* exception.c: all of them end the instruction (S1). */
_Noreturn void soft_throw(struct soft *c, enum soft_vector vector, uint32_t error);
_Noreturn void soft_throw_page_fault(struct soft *c, uint64_t address, uint32_t error);
/* A trap: the instruction is done, `rip` is already behind it. */
_Noreturn void soft_throw_trap(struct soft *c, enum soft_vector vector);
enum soft_event { EVENT_FAULT, EVENT_TRAP, EVENT_SOFTWARE, EVENT_EXTERNAL };
/* Enters the handler of `vector`; throws what goes wrong on the way. */
void soft_deliver(struct soft *c, unsigned int vector, enum soft_event event, uint32_t error);
/* INT n at `rip`; `c->rip` is already behind it. */
void soft_deliver_software(struct soft *c, unsigned int vector, uint64_t rip);
/* Delivers what soft_throw has left, with what follows from it. false: triple fault. */
bool soft_deliver_fault(struct soft *c);

/* run.c */
void soft_request(struct soft *c, uint32_t bits);

/* mode.c */
/* Recomputes key, TLB choice and segment bases after CR0, CR4, EFER, XCR0, CPL or a segment changed. */
void soft_update_mode(struct soft *c);
void soft_set_cpl(struct soft *c, unsigned int cpl);
void soft_write_cr0(struct soft *c, uint64_t value);
void soft_write_cr3(struct soft *c, uint64_t value);
void soft_write_cr4(struct soft *c, uint64_t value);
void soft_write_dr(struct soft *c, unsigned int number, uint64_t value);
void soft_reset(struct soft *c, bool init);
