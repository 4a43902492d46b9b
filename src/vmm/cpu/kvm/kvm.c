/*
 * kvm: guests on hardware, through /dev/kvm.
 *
 * The interrupt controllers, the PIT and the clock are the kernel's (chips.c). A request from
 * another thread sets immediate_exit and sends the vCPU's thread a signal: if the signal comes before
 * KVM_RUN the flag ends it at once, if it comes during KVM_RUN it interrupts it, so none is lost (C2).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/mem.h"
#include "vmm/cpu/kvm/kvm_priv.h"

enum {
	KICK_SIGNAL = SIGUSR1,
	CPUID_ENTRIES_MAX = 256,
	MSRS_MAX = 4096,
	TSS_ADDRESS = 0xfffbd000, /* three pages that KVM needs in real mode on older CPUs */
	IDENTITY_MAP_ADDRESS = 0xfffbc000,
};

static void on_kick(int signal)
{
	(void)signal;
}

static void close_vm(struct cpu_vm *base)
{
	struct kvm_vm *vm = kvm_vm_of(base);

	own_mem_release(&vm->cpuid);
	own_mem_release(&vm->msrs);
	kvm_routes_release(vm);
	fd_close(&vm->fd);
	fd_close(&vm->kvm_fd);
	own_mem_release(&vm);
}

static int set_memory(struct cpu_vm *base, const struct cpu_region *regions, unsigned int count)
{
	struct kvm_vm *vm = kvm_vm_of(base);

	if (count > CPU_REGIONS_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < vm->region_count; i++) {
		struct kvm_userspace_memory_region none = {.slot = i};

		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &none) < 0)
			return -errno;
	}
	vm->region_count = 0;
	for (unsigned int i = 0; i < count; i++) {
		struct kvm_userspace_memory_region region = {
			.slot = i,
			.flags = regions[i].flags & CPU_REGION_READ_ONLY ? KVM_MEM_READONLY : 0,
			.guest_phys_addr = regions[i].gpa,
			.memory_size = regions[i].size,
			.userspace_addr = (uintptr_t)regions[i].host,
		};

		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
			return -errno;
		vm->region_count++;
	}
	return 0;
}

static int read_cpuid(struct kvm_vm *vm)
{
	vm->cpuid =
		mem_new(sizeof(*vm->cpuid) + CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
	vm->cpuid->nent = CPUID_ENTRIES_MAX;
	return ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, vm->cpuid) < 0 ? -errno : 0;
}

static int read_msr_list(struct kvm_vm *vm)
{
	vm->msrs = mem_new(sizeof(*vm->msrs) + MSRS_MAX * sizeof(vm->msrs->indices[0]));
	vm->msrs->nmsrs = MSRS_MAX;
	return ioctl(vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, vm->msrs) < 0 ? -errno : 0;
}

static int open_kvm(struct error *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return hint(err, fail(err, -errno, "open /dev/kvm"),
			    "--accel soft runs the machine without hardware virtualization");
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		fd_close(&fd);
		return refuse(err, -ENOTSUP, "/dev/kvm has another version than ours");
	}
	return fd;
}

static int set_up(struct kvm_vm *vm, const struct cpu_vm_config *config, struct error *err)
{
	uint64_t identity_map = IDENTITY_MAP_ADDRESS;
	int rc;

	vm->kvm_fd = open_kvm(err);
	if (vm->kvm_fd < 0)
		return vm->kvm_fd;
	do
		vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, 0);
	while (vm->fd < 0 && errno == EINTR);
	if (vm->fd < 0)
		return fail(err, -errno, "create a virtual machine with KVM");
	/* Only needed on hardware without unrestricted guests; KVM may not know them. */
	(void)ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	(void)ioctl(vm->fd, KVM_SET_TSS_ADDR, TSS_ADDRESS);
	rc = read_cpuid(vm);
	if (rc < 0)
		return fail(err, rc, "ask KVM for the CPU's features");
	rc = read_msr_list(vm);
	if (rc < 0)
		return fail(err, rc, "ask KVM for the CPU's registers");
	rc = kvm_chips_create(vm, err);
	if (rc < 0)
		return rc;
	rc = set_memory(&vm->base, config->regions, config->region_count);
	return rc < 0 ? fail(err, rc, "give the guest's memory to KVM") : 0;
}

static int open_vm(const struct cpu_vm_config *config, struct cpu_vm **ret, struct error *err)
{
	struct kvm_vm *vm = mem_new(sizeof(*vm));
	struct sigaction action = {.sa_handler = on_kick};
	int rc;

	vm->base = (struct cpu_vm){.accel = &cpu_accel_kvm, .client = config->client};
	vm->kvm_fd = vm->fd = -1;
	vm->vcpu_count = config->vcpus;
	pthread_mutex_init(&vm->routes_lock, NULL);
	sigaction(KICK_SIGNAL, &action, NULL);
	rc = set_up(vm, config, err);
	if (rc < 0) {
		close_vm(&vm->base);
		return rc;
	}
	*ret = &vm->base;
	return 0;
}

/* KVM sees device writes through the host's page tables. */
static void written(struct cpu_vm *vm, gpa_t gpa, uint64_t size)
{
	(void)vm;
	(void)gpa;
	(void)size;
}

static int dirty(struct cpu_vm *vm, unsigned int region, uint64_t *ret_bitmap)
{
	(void)vm;
	(void)region;
	(void)ret_bitmap;
	return -ENOTSUP;
}

static void destroy(struct vcpu *base)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(base);

	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	fd_close(&vcpu->fd);
	own_mem_release(&vcpu);
}

/* What KVM offers, with this vCPU's number where the CPU tells it. */
static int set_cpuid(struct kvm_vm *vm, const struct kvm_vcpu *vcpu)
{
	size_t size = sizeof(*vm->cpuid) + vm->cpuid->nent * sizeof(struct kvm_cpuid_entry2);
	own_mem struct kvm_cpuid2 *cpuid = mem_copy(vm->cpuid, size);
	uint32_t id = vcpu->base.index;

	for (unsigned int i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		switch (e->function) {
		case 1:
			/* Initial APIC id, count of CPUs in the package; the TSC deadline timer is
			 * the in-kernel APIC's and so never reported; hypervisor present. */
			e->ebx = (e->ebx & 0xffff) | id << 24 | vm->vcpu_count << 16;
			e->ecx |= 1u << 24 | 1u << 31;
			break;
		case 0xb:
		case 0x1f:
			e->edx = id;
			/* One thread per core, all in one package. */
			e->eax = e->index == 0 ? 0 : 7;
			e->ebx = e->index == 0 ? 1 : vm->vcpu_count;
			e->ecx = e->index | (e->index == 0 ? 1u << 8 : 2u << 8);
			if (e->index > 1)
				e->eax = e->ebx = e->ecx = 0;
			break;
		}
	}
	return ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0 ? -errno : 0;
}

static int set_up_vcpu(struct kvm_vm *vm, struct kvm_vcpu *vcpu, struct error *err)
{
	int size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;
	int rc;

	if (size < 0)
		return fail(err, -errno, "ask KVM for the size of a vCPU");
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)vcpu->base.index);
	if (vcpu->fd < 0)
		return fail(err, -errno, "create vCPU %u with KVM", vcpu->base.index);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return fail(err, -errno, "map vCPU %u", vcpu->base.index);
	vcpu->run = run;
	vcpu->run_size = (size_t)size;
	rc = set_cpuid(vm, vcpu);
	if (rc < 0)
		return fail(err, rc, "set the features of vCPU %u", vcpu->base.index);
	if (vcpu->base.index == 0 && ioctl(vcpu->fd, KVM_GET_LAPIC, &vm->reset_lapic) < 0)
		return fail(err, -errno, "read the local APIC of vCPU 0");
	return 0;
}

static int create(struct cpu_vm *base, unsigned int index, struct vcpu **ret, struct error *err)
{
	struct kvm_vm *vm = kvm_vm_of(base);
	struct kvm_vcpu *vcpu = mem_new(sizeof(*vcpu));
	int rc;

	vcpu->base = (struct vcpu){.vm = base, .index = index};
	vcpu->fd = -1;
	vcpu->thread = pthread_self();
	rc = set_up_vcpu(vm, vcpu, err);
	if (rc < 0) {
		destroy(&vcpu->base);
		return rc;
	}
	vm->vcpus[index] = vcpu;
	*ret = &vcpu->base;
	return 0;
}

static void handle_port(struct kvm_vcpu *vcpu)
{
	struct cpu_client *client = vcpu->base.vm->client;
	const struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)vcpu->run + run->io.data_offset;
	unsigned int size = run->io.size;

	for (unsigned int i = 0; i < run->io.count; i++, data += size) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			client->ops->port_read(client, &vcpu->base, run->io.port, size, data);
		else
			client->ops->port_write(client, &vcpu->base, run->io.port, size, data);
	}
}

static void handle_mmio(struct kvm_vcpu *vcpu)
{
	struct cpu_client *client = vcpu->base.vm->client;
	struct kvm_run *run = vcpu->run;

	if (run->mmio.is_write)
		client->ops->mmio_write(client, &vcpu->base, run->mmio.phys_addr, run->mmio.len,
					run->mmio.data);
	else
		client->ops->mmio_read(client, &vcpu->base, run->mmio.phys_addr, run->mmio.len,
				       run->mmio.data);
}

/* A KVM that emulates does not know every instruction, and says which one it was. */
static void report_emulation(const struct kvm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;
	char bytes[3 * sizeof(run->emulation_failure.insn_bytes) + 1] = "";
	unsigned int size = 0;

	if (run->internal.ndata > 0 &&
	    run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
		size = run->emulation_failure.insn_size;
	for (unsigned int i = 0; i < size && i < sizeof(run->emulation_failure.insn_bytes); i++)
		snprintf(bytes + 3 * i, 4, " %02x", run->emulation_failure.insn_bytes[i]);
	log_error("vCPU %u: KVM cannot emulate an instruction%s%s", vcpu->base.index,
		  size ? ":" : "", bytes);
}

static enum cpu_exit report_failure(const struct kvm_vcpu *vcpu)
{
	const struct kvm_run *run = vcpu->run;

	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		log_error("vCPU %u: the CPU refuses the guest's state (reason 0x%llx)",
			  vcpu->base.index,
			  (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
	else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
		 run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		report_emulation(vcpu);
	else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		log_error("vCPU %u: KVM cannot go on (internal error %u)", vcpu->base.index,
			  run->internal.suberror);
	else
		log_error("vCPU %u: KVM gave up for reason %u", vcpu->base.index, run->exit_reason);
	return CPU_EXIT_FAILED;
}

/* Deals with what KVM_RUN returned for. -1: go on, else the exit. */
static int handle_exit(struct kvm_vcpu *vcpu)
{
	switch (vcpu->run->exit_reason) {
	case KVM_EXIT_IO:
		handle_port(vcpu);
		return -1;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return -1;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_HLT: /* the in-kernel APIC sleeps by itself */
		return -1;
	case KVM_EXIT_DEBUG:
		return CPU_EXIT_DEBUG;
	case KVM_EXIT_SHUTDOWN:
		return CPU_EXIT_SHUTDOWN;
	case KVM_EXIT_SYSTEM_EVENT:
		return CPU_EXIT_SHUTDOWN;
	default:
		return (int)report_failure(vcpu);
	}
}

static enum cpu_exit run(struct vcpu *base)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(base);

	/* It may have stood still for long: a guest with KVM's clock, and only that takes this, must not think that
	 * its own tasks have held the CPU. */
	(void)ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
	for (;;) {
		int rc = ioctl(vcpu->fd, KVM_RUN, 0), next;

		if (rc < 0 && errno == EINTR) {
			/* KVM has completed the last instruction's I/O by now (C1). */
			__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
			return CPU_EXIT_KICKED;
		}
		if (rc < 0 && errno == EAGAIN) /* a vCPU that has just been started */
			continue;
		if (rc < 0) {
			log_error("vCPU %u: KVM_RUN: %s", base->index, strerror(errno));
			return CPU_EXIT_FAILED;
		}
		next = handle_exit(vcpu);
		if (next >= 0)
			return (enum cpu_exit)next;
	}
}

static void request(struct vcpu *base, enum cpu_request what, unsigned int argument)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(base);

	(void)argument;
	switch (what) {
	case CPU_REQUEST_KICK:
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vcpu->thread, KICK_SIGNAL);
		break;
	case CPU_REQUEST_NMI:
		ioctl(vcpu->fd, KVM_NMI);
		break;
	case CPU_REQUEST_INTERRUPT: /* these are between the kernel's APIC and CPU */
	case CPU_REQUEST_INIT:
	case CPU_REQUEST_STARTUP:
	case CPU_REQUEST_FLUSH:
		break;
	}
}

const struct cpu_accel cpu_accel_kvm = {
	.name = "kvm",
	.flags = CPU_ACCEL_IRQCHIP,
	.open = open_vm,
	.close = close_vm,
	.set_memory = set_memory,
	.written = written,
	.dirty = dirty,
	.create = create,
	.destroy = destroy,
	.run = run,
	.request = request,
	.get_state = kvm_get_state,
	.set_state = kvm_set_state,
};
