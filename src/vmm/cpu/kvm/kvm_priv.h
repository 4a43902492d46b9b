/* kvm_priv: what the files of the accelerator kvm share. */
#pragma once

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"

#include "vmm/cpu/kvm/kvm.h"

struct kvm_vcpu {
	struct vcpu base;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
};

/* A message that an eventfd sends. */
struct kvm_route {
	uint64_t address;
	uint32_t data;
	int fd;
};

enum { KVM_ROUTES_MAX = 1024 };

struct kvm_vm {
	struct cpu_vm base;
	int kvm_fd, fd;
	struct irq irq;
	unsigned int vcpu_count;
	struct kvm_vcpu *vcpus[CPU_VCPUS_MAX];
	unsigned int region_count;
	struct kvm_cpuid2 *cpuid;  /* what the host can give */
	struct kvm_msr_list *msrs; /* those that it says a guest has */
	struct kvm_irqchip reset_chips[3];
	struct kvm_pit_state2 reset_pit;
	struct kvm_lapic_state reset_lapic;
	/* Guards changes of routes. Each is signalled by one device, which has its own lock, and changes it
	 * under that, too. */
	pthread_mutex_t routes_lock;
	unsigned int route_count;
	struct kvm_route routes[KVM_ROUTES_MAX];
};

static inline struct kvm_vm *kvm_vm_of(struct cpu_vm *vm)
{
	return container_of(vm, struct kvm_vm, base);
}

static inline struct kvm_vcpu *kvm_vcpu_of(struct vcpu *vcpu)
{
	return container_of(vcpu, struct kvm_vcpu, base);
}

/* state.c */
int kvm_get_state(struct vcpu *vcpu, struct cpu_state *ret_state);
int kvm_set_state(struct vcpu *vcpu, const struct cpu_state *state);
/* routes.c */
extern const struct irq_ops kvm_irq_ops;
int kvm_routes_init(struct kvm_vm *vm) must_check;
void kvm_routes_release(struct kvm_vm *vm);
/* chips.c */
int kvm_chips_create(struct kvm_vm *vm, struct error *err) must_check;
