/*
 * kvm: what the machine needs of the accelerator `kvm` beyond cpu.h: whether it is real, and the
 * interrupt controllers, which are the kernel's.
 */
#pragma once

#include "vmm/cpu/cpu.h"
#include "vmm/irq.h"
#include "vmm/state.h"

enum kvm_quality {
	KVM_ABSENT,   /* no /dev/kvm, or no right to it, or too old */
	KVM_EMULATED, /* there, but guests run far too slowly to be hardware */
	KVM_REAL,
};

/* Finds out by running a small loop in a throw-away machine: a few hundred microseconds on hardware, a
 * few milliseconds otherwise. Sets *ret_ns_per_loop (0 if absent) for a message. */
enum kvm_quality kvm_probe(double *ret_ns_per_loop);

/* The rest takes a cpu_vm of cpu_accel_kvm. */

/* The way in for interrupts. */
struct irq *kvm_irq(struct cpu_vm *vm);
/* Lets a guest's write of any 2 bytes to `gpa` signal the eventfd `fd` without leaving the kernel. */
int kvm_add_doorbell(struct cpu_vm *vm, gpa_t gpa, int fd) must_check;
void kvm_remove_doorbell(struct cpu_vm *vm, gpa_t gpa, int fd);
/* Interrupt controllers, PIT and clock. No vCPU may be in run(). */
int kvm_save(struct cpu_vm *vm, struct state_writer *out) must_check;
int kvm_load(struct cpu_vm *vm, struct state_reader *in) must_check;
/* Back to power on. */
int kvm_reset(struct cpu_vm *vm) must_check;
