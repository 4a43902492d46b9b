/*
 * guest: a bare machine around a CPU, for tests: memory, page tables, descriptor tables, and an
 * interrupt table whose handlers report the vector. The guest's data and code lie at fixed linear
 * addresses so that the same instructions can run natively in this process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/cpu/cpu.h"

enum {
	GUEST_MEMORY = 16 << 20,
	GUEST_DATA_SIZE = 4 * 4096,
	GUEST_CODE_SIZE = 4096,
	GUEST_DATA_PHYSICAL = 0x200000,
	GUEST_CODE_PHYSICAL = 0x300000,
};
#define GUEST_DATA 0x10000000ull /* linear; user pages; not present around them */
#define GUEST_CODE 0x20000000ull

enum guest_mode {
	GUEST_LONG_USER,
	GUEST_COMPAT_USER,
	GUEST_LONG_KERNEL,
	GUEST_PROTECTED, /* 32 bits, CPL 0, no paging; code at GUEST_CODE_PHYSICAL */
	GUEST_REAL,      /* code at GUEST_CODE_REAL:0 */
};
enum { GUEST_CODE_REAL = 0x2000 };

struct guest_fault {
	unsigned int vector;
	uint32_t error;
	uint64_t rip, rflags, rsp, cr2;
};

struct guest {
	struct cpu_client client;
	struct cpu_vm *vm;
	struct vcpu *vcpu;
	uint8_t *memory;
	enum guest_mode mode; /* of the last start state */
	bool exited;
	uint8_t exit_value;
	char output[256]; /* written to port 0xe9 */
	unsigned int output_length;
};

/* Exits the process with a message if the machine cannot be made. */
void guest_open(struct guest *g);
/* The same on another accelerator. -errno if it is not there. */
int guest_open_on(struct guest *g, const struct cpu_accel *accel, struct error *err);
void guest_close(struct guest *g);
/* A state that begins at GUEST_CODE. */
void guest_start_state(struct guest *g, enum guest_mode mode, struct cpu_state *ret);
/* Copies a program to where the mode begins. */
void guest_load(struct guest *g, enum guest_mode mode, const void *program, uint64_t size);
/* Tells the CPU that `size` bytes at a physical address were written by us. */
void guest_written(struct guest *g, uint64_t gpa, uint64_t size);
/* Runs until an exception reaches its handler. The registers of `*state` are then those of the
 * interrupted code. false: something else happened. */
bool guest_run_to_fault(struct guest *g, struct cpu_state *state, struct guest_fault *ret);
