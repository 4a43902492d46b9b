/* kvm_chips: the kernel's interrupt controllers, timers and clock. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "vmm/cpu/kvm/kvm_priv.h"

static int get_chips(const struct kvm_vm *vm, struct kvm_irqchip chips[3],
		     struct kvm_pit_state2 *pit)
{
	for (unsigned int i = 0; i < 3; i++) {
		chips[i] = (struct kvm_irqchip){.chip_id = i};
		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chips[i]) < 0)
			return -errno;
	}
	return ioctl(vm->fd, KVM_GET_PIT2, pit) < 0 ? -errno : 0;
}

static int set_chips(const struct kvm_vm *vm, const struct kvm_irqchip chips[3],
		     const struct kvm_pit_state2 *pit)
{
	for (unsigned int i = 0; i < 3; i++)
		if (ioctl(vm->fd, KVM_SET_IRQCHIP, &chips[i]) < 0)
			return -errno;
	return ioctl(vm->fd, KVM_SET_PIT2, pit) < 0 ? -errno : 0;
}

int kvm_chips_create(struct kvm_vm *vm, struct error *err)
{
	/* Without the flag the kernel would not answer port 0x61, which guests calibrate by. */
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int rc;

	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return fail(err, -errno, "create KVM's interrupt controllers");
	rc = kvm_routes_init(vm);
	if (rc < 0)
		return fail(err, rc, "tell KVM which interrupt goes where");
	if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
		return fail(err, -errno, "create KVM's timer");
	rc = get_chips(vm, vm->reset_chips, &vm->reset_pit);
	return rc < 0 ? fail(err, rc, "read KVM's interrupt controllers") : 0;
}

int kvm_reset(struct cpu_vm *base)
{
	struct kvm_vm *vm = kvm_vm_of(base);
	int rc = set_chips(vm, vm->reset_chips, &vm->reset_pit);

	for (unsigned int i = 0; i < vm->vcpu_count && rc == 0; i++) {
		struct kvm_lapic_state lapic = vm->reset_lapic;

		lapic.regs[0x23] = (char)i; /* the APIC id */
		if (ioctl(vm->vcpus[i]->fd, KVM_SET_LAPIC, &lapic) < 0)
			rc = -errno;
	}
	return rc;
}

enum { MSR_TSC_DEADLINE = 0x6e0 };

union one_msr {
	struct kvm_msrs head;
	uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

/* 0 where the host's KVM has no such timer. */
static uint64_t get_deadline(int fd)
{
	union one_msr list = {.head.nmsrs = 1};

	list.head.entries[0].index = MSR_TSC_DEADLINE;
	return ioctl(fd, KVM_GET_MSRS, &list) == 1 ? list.head.entries[0].data : 0;
}

static int set_deadline(int fd, uint64_t deadline)
{
	union one_msr list = {.head.nmsrs = 1};

	if (!deadline)
		return 0;
	list.head.entries[0] = (struct kvm_msr_entry){.index = MSR_TSC_DEADLINE, .data = deadline};
	return ioctl(fd, KVM_SET_MSRS, &list) == 1 ? 0 : -EINVAL;
}

int kvm_save(struct cpu_vm *base, struct state_writer *out)
{
	struct kvm_vm *vm = kvm_vm_of(base);
	struct kvm_irqchip chips[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	int rc = get_chips(vm, chips, &pit);

	if (rc < 0)
		return rc;
	if (ioctl(vm->fd, KVM_GET_CLOCK, &clock) < 0)
		return -errno;
	state_put(out, chips, sizeof(chips));
	state_put(out, &pit, sizeof(pit));
	state_put_u64(out, clock.clock);
	state_put_u32(out, vm->vcpu_count);
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		struct kvm_lapic_state lapic;

		if (ioctl(vm->vcpus[i]->fd, KVM_GET_LAPIC, &lapic) < 0)
			return -errno;
		state_put(out, &lapic, sizeof(lapic));
		state_put_u64(out, get_deadline(vm->vcpus[i]->fd));
	}
	return 0;
}

int kvm_load(struct cpu_vm *base, struct state_reader *in)
{
	struct kvm_vm *vm = kvm_vm_of(base);
	struct kvm_irqchip chips[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock = {0};

	state_get(in, chips, sizeof(chips));
	state_get(in, &pit, sizeof(pit));
	clock.clock = state_get_u64(in);
	if (in->bad || state_get_u32(in) != vm->vcpu_count || set_chips(vm, chips, &pit) < 0)
		return -EINVAL;
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		struct kvm_lapic_state lapic;
		uint64_t deadline;

		state_get(in, &lapic, sizeof(lapic));
		deadline = state_get_u64(in);
		if (in->bad || ioctl(vm->vcpus[i]->fd, KVM_SET_LAPIC, &lapic) < 0 ||
		    set_deadline(vm->vcpus[i]->fd, deadline) < 0)
			return -EINVAL;
	}
	if (ioctl(vm->fd, KVM_SET_CLOCK, &clock) < 0)
		return -EINVAL;
	return state_finish(in);
}

static int doorbell(struct cpu_vm *base, gpa_t gpa, int fd, uint32_t flags)
{
	struct kvm_vm *vm = kvm_vm_of(base);
	struct kvm_ioeventfd request = {.addr = gpa, .len = 2, .fd = fd, .flags = flags};

	return ioctl(vm->fd, KVM_IOEVENTFD, &request) < 0 ? -errno : 0;
}

int kvm_add_doorbell(struct cpu_vm *vm, gpa_t gpa, int fd)
{
	return doorbell(vm, gpa, fd, 0);
}

void kvm_remove_doorbell(struct cpu_vm *vm, gpa_t gpa, int fd)
{
	(void)doorbell(vm, gpa, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
