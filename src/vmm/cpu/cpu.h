/*
 * cpu: what executes guest instructions. An accelerator is a table of functions, `struct cpu_accel`;
 * there are two, kvm (hardware) and soft (our own CPU in software), and the machine cannot tell which
 * one it has but for who implements the interrupt controllers.
 *
 * A `cpu_vm` is the set of vCPUs that share a guest's memory; a `vcpu` is one of them and belongs to
 * one host thread, which calls run, get_state and set_state. Only `request`, `written` and `dirty` may
 * be called from other threads, at any time.
 *
 * What the guest does to the outside world arrives in the machine as calls of `struct cpu_client_ops`,
 * on the vCPU's thread, in the middle of the instruction. run() returns for the few things that the
 * machine's run loop must decide. A halted vCPU sleeps inside run().
 *
 * Invariants
 *   C1  After run() has returned the state is that between two instructions: what set_state is given
 *       later, in another process too, continues exactly there.
 *   C2  A request is never lost: it either ends a sleep or is seen before the next block of guest
 *       instructions.
 *   C3  Guest memory that anyone but a vCPU writes (a device's DMA) is reported with `written` before
 *       the guest is told that the data is there. The software CPU may hold decoded instructions of it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef uint64_t gpa_t;

enum {
	CPU_VCPUS_MAX = 64,
	CPU_MSRS_MAX = 96,
	CPU_REGIONS_MAX = 32,
	CPU_XSAVE_SIZE = 4096,
};

/* The numbers of the general registers are those of the instruction encoding. */
enum cpu_gpr {
	CPU_RAX,
	CPU_RCX,
	CPU_RDX,
	CPU_RBX,
	CPU_RSP,
	CPU_RBP,
	CPU_RSI,
	CPU_RDI, /* then r8 to r15 */
	CPU_GPRS = 16,
};

enum cpu_segment_name { CPU_ES, CPU_CS, CPU_SS, CPU_DS, CPU_FS, CPU_GS, CPU_SEGMENTS };

/* The access word: bits 0-15 are those of bytes 5 and 6 of a descriptor, without the limit's (type, S,
 * DPL, P, -, AVL, L, D/B, G); bit 16 marks a segment that holds a null selector. */
enum {
	CPU_ACCESS_TYPE = 0xf,
	CPU_ACCESS_S = 1 << 4,
	CPU_ACCESS_DPL_SHIFT = 5,
	CPU_ACCESS_P = 1 << 7,
	CPU_ACCESS_AVL = 1 << 12,
	CPU_ACCESS_L = 1 << 13,
	CPU_ACCESS_DB = 1 << 14,
	CPU_ACCESS_G = 1 << 15,
	CPU_ACCESS_UNUSABLE = 1 << 16,
};

struct cpu_segment {
	uint64_t base;
	uint32_t limit; /* in bytes, the last valid offset: G is already applied */
	uint16_t selector;
	uint32_t access;
};

struct cpu_table {
	uint64_t base;
	uint16_t limit;
};

enum cpu_activity { CPU_RUNNABLE, CPU_HALTED, CPU_WAITS_FOR_STARTUP };

/* What is on its way into the vCPU between two instructions. */
struct cpu_events {
	enum cpu_activity activity;
	bool nmi_pending;
	bool nmi_blocked;      /* until the next IRET */
	bool interrupt_shadow; /* the instruction before was STI or a load of SS */
	bool exception_pending;
	uint8_t exception_vector;
	bool exception_has_error;
	uint32_t exception_error;
	bool interrupt_pending; /* one that the interrupt controller has already given away */
	uint8_t interrupt_vector;
};

struct cpu_msr {
	uint32_t index;
	uint64_t value;
};

/* All that a vCPU is. A plain value: can be copied and written to a file. */
struct cpu_state {
	uint64_t gpr[CPU_GPRS];
	uint64_t rip, rflags;
	struct cpu_segment segments[CPU_SEGMENTS];
	struct cpu_segment ldt, tr;
	struct cpu_table gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0, apic_base;
	uint64_t dr[4], dr6, dr7;
	struct cpu_events events;
	uint8_t xsave[CPU_XSAVE_SIZE]; /* the XSAVE area in its standard format, XSTATE_BV valid */
	unsigned int msr_count; /* EFER and APIC_BASE are above; the TSC, as any other, is here */
	struct cpu_msr msrs[CPU_MSRS_MAX];
};

/* Whether each bool is one: in a state that comes out of a file there can be any byte. */
static inline bool cpu_events_are_valid(const struct cpu_events *e)
{
	const bool *const bools[] = {&e->nmi_pending,         &e->nmi_blocked,
				     &e->interrupt_shadow,    &e->exception_pending,
				     &e->exception_has_error, &e->interrupt_pending};

	for (unsigned int i = 0; i < sizeof(bools) / sizeof(bools[0]); i++)
		if (*(const uint8_t *)bools[i] > 1)
			return false;
	return e->activity <= CPU_WAITS_FOR_STARTUP;
}

/* A piece of guest memory in the host's memory; all values are multiples of 4096. */
enum cpu_region_flags { CPU_REGION_READ_ONLY = 1 }; /* ROM: writes go to mmio_write */

struct cpu_region {
	gpa_t gpa;
	uint64_t size;
	uint8_t *host;
	unsigned int flags;
};

struct cpu_vm;
struct vcpu;
struct cpu_client;

/* The machine as the CPUs see it. Called on the vCPU's thread. `data` is little-endian, `size` bytes:
 * 1, 2 or 4 for ports, 1 to 8 for memory; a string instruction with REP makes one call per element. */
struct cpu_client_ops {
	void (*port_read)(struct cpu_client *client, struct vcpu *vcpu, uint16_t port,
			  unsigned int size, void *ret_data);
	void (*port_write)(struct cpu_client *client, struct vcpu *vcpu, uint16_t port,
			   unsigned int size, const void *data);
	void (*mmio_read)(struct cpu_client *client, struct vcpu *vcpu, gpa_t gpa,
			  unsigned int size, void *ret_data);
	void (*mmio_write)(struct cpu_client *client, struct vcpu *vcpu, gpa_t gpa,
			   unsigned int size, const void *data);
	/* The rest is called only by accelerators without CPU_ACCEL_IRQCHIP.
	 * MSRs of the local APIC: IA32_APIC_BASE (0x1b), IA32_TSC_DEADLINE (0x6e0), x2APIC
	 * (0x800-0x8ff). false: #GP. */
	bool (*msr_read)(struct cpu_client *client, struct vcpu *vcpu, uint32_t index,
			 uint64_t *ret_value);
	bool (*msr_write)(struct cpu_client *client, struct vcpu *vcpu, uint32_t index,
			  uint64_t value);
	/* The interrupt that this vCPU has to take now: moves it into service and returns its vector;
	 * -1: none after all. Asked after CPU_REQUEST_INTERRUPT once the guest allows interrupts. */
	int (*take_interrupt)(struct cpu_client *client, struct vcpu *vcpu);
	/* CR8: the upper four bits of the task priority. Lowering it may cause a request. */
	uint8_t (*get_priority)(struct cpu_client *client, struct vcpu *vcpu);
	void (*set_priority)(struct cpu_client *client, struct vcpu *vcpu, uint8_t cr8);
};

/* The machine embeds this and finds itself again with container_of. */
struct cpu_client {
	const struct cpu_client_ops *ops;
};

/* Why run() came back. */
enum cpu_exit {
	CPU_EXIT_KICKED,   /* CPU_REQUEST_KICK, or a signal */
	CPU_EXIT_SHUTDOWN, /* a triple fault; or the guest's CPU asked for a reset */
	CPU_EXIT_DEBUG,    /* a breakpoint that the debugger, not the guest, has set */
	CPU_EXIT_FAILED,   /* the accelerator cannot go on; the reason has been logged */
};

/* What other threads, and the machine's local APIC, ask of a vCPU. */
enum cpu_request {
	CPU_REQUEST_KICK,      /* leave run() as soon as possible */
	CPU_REQUEST_INTERRUPT, /* take_interrupt has something, now or when the guest allows it */
	CPU_REQUEST_NMI,
	CPU_REQUEST_INIT,    /* reset and wait for a startup message */
	CPU_REQUEST_STARTUP, /* argument: the vector. Ignored unless it waits for it */
	CPU_REQUEST_FLUSH,   /* forget all cached translations of addresses */
};

struct cpu_vm_config {
	struct cpu_client *client;
	unsigned int vcpus; /* as many will be created, with APIC ids 0 to vcpus - 1 */
	unsigned int region_count;
	const struct cpu_region *regions; /* sorted by address, disjoint; copied */
	uint32_t tsc_khz;                 /* the TSC's rate if it is known; 0: to be measured */
};

/* Every accelerator's objects begin with these. */
struct cpu_vm {
	const struct cpu_accel *accel;
	struct cpu_client *client;
	uint32_t tsc_khz; /* the rate of the host's and so of the guests' time-stamp counters */

	/* get_state and set_state take the clocks of all vCPUs at one moment, or the guest would find
	 * them apart: the host's TSC and monotonic clock of that moment, set by the caller; 0: each call
	 * is its own moment. */
	uint64_t moment_tsc;
	/* Only for accelerators without an IRQCHIP. */
	int64_t moment_ns;
	int64_t clock_offset_ns; /* the guest's kvm-clock minus the host's monotonic clock */
};

struct vcpu {
	struct cpu_vm *vm;
	unsigned int index; /* is its APIC id too */
	uint64_t
		tsc_offset; /* guest's TSC minus host's; only for accelerators without an IRQCHIP */
};

enum cpu_accel_flags {
	CPU_ACCEL_IRQCHIP = 1, /* interrupt controllers and PIT are the accelerator's */
};

struct cpu_accel {
	const char *name;
	unsigned int flags;

	int (*open)(const struct cpu_vm_config *config, struct cpu_vm **ret_vm, struct error *err);
	/* All vCPUs have been destroyed. */
	void (*close)(struct cpu_vm *vm);
	/* Replaces the memory layout. No vCPU may be in run(). -EINVAL, -ENOMEM, -errno. */
	int (*set_memory)(struct cpu_vm *vm, const struct cpu_region *regions, unsigned int count);
	/* A device has written guest memory (C3). */
	void (*written)(struct cpu_vm *vm, gpa_t gpa, uint64_t size);
	/* Dirty pages of region `region`: ret_bitmap has one bit per page, set if a vCPU may have
	 * written it since the previous call. The first call begins the recording and marks every
	 * page. NULL ends the recording. */
	int (*dirty)(struct cpu_vm *vm, unsigned int region, uint64_t *ret_bitmap);

	/* The vCPU in its state after power on (the first one runs at the reset vector, the others
	 * wait for a startup message). Call in the thread that will run it. */
	int (*create)(struct cpu_vm *vm, unsigned int index, struct vcpu **ret_vcpu,
		      struct error *err);
	void (*destroy)(struct vcpu *vcpu);
	/* Runs until one of the exits. Never fails otherwise. */
	enum cpu_exit (*run)(struct vcpu *vcpu);
	void (*request)(struct vcpu *vcpu, enum cpu_request request, unsigned int argument);
	int (*get_state)(struct vcpu *vcpu, struct cpu_state *ret_state);
	/* -EINVAL: a value that no CPU of this kind can have. MSRs it does not know are refused. */
	int (*set_state)(struct vcpu *vcpu, const struct cpu_state *state);

	/* May be NULL. What the accelerator has found out about the guest's code, for machines that go
	 * on from the same snapshot: written to an empty file, and read, while no vCPU is in run().
	 * Whoever can write the file can do what the process can. -ESTALE: it is of no use here. */
	int (*load_code)(struct cpu_vm *vm, int fd, struct error *err);
	int (*save_code)(struct cpu_vm *vm, int fd, struct error *err);
};

extern const struct cpu_accel cpu_accel_kvm;
extern const struct cpu_accel cpu_accel_soft;
