/* kvm_state: a vCPU's state between KVM's structures and struct cpu_state. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "vmm/cpu/kvm/kvm_priv.h"

enum { MSR_TSC = 0x10 };

/* Besides EFER and APIC_BASE, which travel in kvm_sregs. Those that the host's KVM does not know are
 * left out when reading. The order matters on writing: the TSC's value before its adjustment. The
 * deadline goes with the local APIC (chips.c), which has to be in its mode first. */
static const uint32_t saved_msrs[] = {
	MSR_TSC,    0x3b,                               /* TSC_ADJUST */
	0x174,      0x175,      0x176,                  /* SYSENTER */
	0x277,                                          /* PAT */
	0x1a0,                                          /* MISC_ENABLE */
	0x48,                                           /* SPEC_CTRL */
	0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, /* SYSCALL */
	0xc0000102,                                     /* KERNEL_GS_BASE */
	0xc0000103,                                     /* TSC_AUX */
	0x2ff,      0x250,      0x258,      0x259,      0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d,
	0x26e,      0x26f,      0x200,      0x201,      0x202, 0x203, 0x204, 0x205, 0x206, 0x207,
	0x208,      0x209,      0x20a,      0x20b,      0x20c, 0x20d, 0x20e, 0x20f, /* MTRRs */
};

/* Saved if KVM says that guests have them: it may read one that it does not write. The vector of asynchronous
 * page faults comes before what switches them on, which sends one. */
static const uint32_t listed_msrs[] = {
	0x4b564d06, 0x4b564d00, 0x4b564d01, 0x4b564d02,
	0x4b564d03, 0x4b564d04, 0x4b564d05, /* paravirtual */
	0xda0,                              /* XSS */
	0x6a0,      0x6a2,      0x6a4,      0x6a5,
	0x6a6,      0x6a7,      0x6a8, /* CET */
	0xe1,       0x1c4,      0x1c5, /* UMWAIT_CONTROL, XFD, XFD_ERR */
	0x122,      0x140,             /* TSX_CTRL, MISC_FEATURES_ENABLES */
	0xc001011f, 0xc0010015,        /* VIRT_SPEC_CTRL, HWCR */
};
_Static_assert(array_size(saved_msrs) + array_size(listed_msrs) <= CPU_MSRS_MAX,
	       "cpu_state holds them all");

static void get_segment(const struct kvm_segment *from, struct cpu_segment *to)
{
	*to = (struct cpu_segment){
		.base = from->base,
		.limit = from->limit,
		.selector = from->selector,
		.access = from->type | (from->s ? CPU_ACCESS_S : 0) |
			  (uint32_t)from->dpl << CPU_ACCESS_DPL_SHIFT |
			  (from->present ? CPU_ACCESS_P : 0) | (from->avl ? CPU_ACCESS_AVL : 0) |
			  (from->l ? CPU_ACCESS_L : 0) | (from->db ? CPU_ACCESS_DB : 0) |
			  (from->g ? CPU_ACCESS_G : 0) | (from->unusable ? CPU_ACCESS_UNUSABLE : 0),
	};
}

static void set_segment(const struct cpu_segment *from, struct kvm_segment *to)
{
	*to = (struct kvm_segment){
		.base = from->base,
		.limit = from->limit,
		.selector = from->selector,
		.type = from->access & CPU_ACCESS_TYPE,
		.s = !!(from->access & CPU_ACCESS_S),
		.dpl = (from->access >> CPU_ACCESS_DPL_SHIFT) & 3,
		.present = !!(from->access & CPU_ACCESS_P),
		.avl = !!(from->access & CPU_ACCESS_AVL),
		.l = !!(from->access & CPU_ACCESS_L),
		.db = !!(from->access & CPU_ACCESS_DB),
		.g = !!(from->access & CPU_ACCESS_G),
		.unusable = !!(from->access & CPU_ACCESS_UNUSABLE),
	};
}

/* KVM's field for each segment, in the order of enum cpu_segment_name. */
static struct kvm_segment *segment_of(struct kvm_sregs *sregs, unsigned int i)
{
	struct kvm_segment *const fields[CPU_SEGMENTS] = {
		[CPU_ES] = &sregs->es, [CPU_CS] = &sregs->cs, [CPU_SS] = &sregs->ss,
		[CPU_DS] = &sregs->ds, [CPU_FS] = &sregs->fs, [CPU_GS] = &sregs->gs,
	};

	return fields[i];
}

static void get_special(struct kvm_sregs *sregs, struct cpu_state *state)
{
	for (unsigned int i = 0; i < CPU_SEGMENTS; i++)
		get_segment(segment_of(sregs, i), &state->segments[i]);
	get_segment(&sregs->tr, &state->tr);
	get_segment(&sregs->ldt, &state->ldt);
	state->gdt = (struct cpu_table){.base = sregs->gdt.base, .limit = sregs->gdt.limit};
	state->idt = (struct cpu_table){.base = sregs->idt.base, .limit = sregs->idt.limit};
	state->cr0 = sregs->cr0;
	state->cr2 = sregs->cr2;
	state->cr3 = sregs->cr3;
	state->cr4 = sregs->cr4;
	state->cr8 = sregs->cr8;
	state->efer = sregs->efer;
	state->apic_base = sregs->apic_base;
}

static void set_special(const struct cpu_state *state, struct kvm_sregs *sregs)
{
	for (unsigned int i = 0; i < CPU_SEGMENTS; i++)
		set_segment(&state->segments[i], segment_of(sregs, i));
	set_segment(&state->tr, &sregs->tr);
	set_segment(&state->ldt, &sregs->ldt);
	sregs->gdt = (struct kvm_dtable){.base = state->gdt.base, .limit = state->gdt.limit};
	sregs->idt = (struct kvm_dtable){.base = state->idt.base, .limit = state->idt.limit};
	sregs->cr0 = state->cr0;
	sregs->cr2 = state->cr2;
	sregs->cr3 = state->cr3;
	sregs->cr4 = state->cr4;
	sregs->cr8 = state->cr8;
	sregs->efer = state->efer;
	sregs->apic_base = state->apic_base;
}

/* KVM orders rbx before rcx and rsi before rbp; this is where encoding i is. */
static __u64 *gpr_of(struct kvm_regs *regs, unsigned int i)
{
	__u64 *const fields[CPU_GPRS] = {&regs->rax, &regs->rcx, &regs->rdx, &regs->rbx,
					 &regs->rsp, &regs->rbp, &regs->rsi, &regs->rdi,
					 &regs->r8,  &regs->r9,  &regs->r10, &regs->r11,
					 &regs->r12, &regs->r13, &regs->r14, &regs->r15};

	return fields[i];
}

union msr_list {
	struct kvm_msrs head;
	uint8_t space[sizeof(struct kvm_msrs) + CPU_MSRS_MAX * sizeof(struct kvm_msr_entry)];
};

/* One at a time: KVM stops at the first that it does not know. */
static void get_msr(int fd, uint32_t index, struct cpu_state *state)
{
	union msr_list list = {.head.nmsrs = 1};

	list.head.entries[0].index = index;
	if (ioctl(fd, KVM_GET_MSRS, &list) == 1)
		state->msrs[state->msr_count++] =
			(struct cpu_msr){.index = index, .value = list.head.entries[0].data};
}

static bool is_listed(const struct kvm_vm *vm, uint32_t index)
{
	for (unsigned int i = 0; i < vm->msrs->nmsrs; i++)
		if (vm->msrs->indices[i] == index)
			return true;
	return false;
}

static void get_msrs(const struct kvm_vm *vm, int fd, struct cpu_state *state)
{
	state->msr_count = 0;
	for (unsigned int i = 0; i < array_size(saved_msrs); i++)
		get_msr(fd, saved_msrs[i], state);
	for (unsigned int i = 0; i < array_size(listed_msrs); i++)
		if (is_listed(vm, listed_msrs[i]))
			get_msr(fd, listed_msrs[i], state);
}

static int set_msrs(int fd, const struct cpu_state *state)
{
	union msr_list list = {.head.nmsrs = state->msr_count};
	int rc;

	if (state->msr_count > CPU_MSRS_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < state->msr_count; i++)
		list.head.entries[i] = (struct kvm_msr_entry){.index = state->msrs[i].index,
							      .data = state->msrs[i].value};
	rc = ioctl(fd, KVM_SET_MSRS, &list);
	if (rc < 0)
		return -errno;
	return rc == (int)state->msr_count ? 0 : -EINVAL;
}

/* The TSC's place among the MSRs; msr_count if it is not there. */
static unsigned int find_tsc(const struct cpu_state *state)
{
	unsigned int i = 0;

	while (i < state->msr_count && state->msrs[i].index != MSR_TSC)
		i++;
	return i;
}

static int tsc_offset(int fd, unsigned long request, uint64_t *offset)
{
	struct kvm_device_attr attribute = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};

	return ioctl(fd, request, &attribute) < 0 ? -errno : 0;
}

/* Of all vCPUs at one moment (cpu.h). Through the MSR each has another moment, and KVM takes a value of less than a
 * second from what it has for an attempt to set that again. Kernels before 5.16 have nothing but the MSR. */
static void get_tsc(const struct cpu_vm *vm, int fd, struct cpu_state *state)
{
	const unsigned int i = find_tsc(state);
	uint64_t offset;

	if (vm->moment_tsc && i < state->msr_count &&
	    tsc_offset(fd, KVM_GET_DEVICE_ATTR, &offset) == 0)
		state->msrs[i].value = vm->moment_tsc + offset;
}

static void set_tsc(const struct cpu_vm *vm, int fd, const struct cpu_state *state)
{
	const unsigned int i = find_tsc(state);
	uint64_t offset;

	if (!vm->moment_tsc || i == state->msr_count)
		return;
	offset = state->msrs[i].value - vm->moment_tsc;
	(void)tsc_offset(fd, KVM_SET_DEVICE_ATTR, &offset);
}

static void get_events(const struct kvm_vcpu_events *from, uint32_t activity, struct cpu_events *to)
{
	*to = (struct cpu_events){
		.activity = activity == KVM_MP_STATE_HALTED     ? CPU_HALTED
			    : activity == KVM_MP_STATE_RUNNABLE ? CPU_RUNNABLE
								: CPU_WAITS_FOR_STARTUP,
		.nmi_pending = from->nmi.pending || from->nmi.injected,
		.nmi_blocked = from->nmi.masked,
		.interrupt_shadow = from->interrupt.shadow,
		.exception_pending = from->exception.injected,
		.exception_vector = from->exception.nr,
		.exception_has_error = from->exception.has_error_code,
		.exception_error = from->exception.error_code,
		.interrupt_pending = from->interrupt.injected && !from->interrupt.soft,
		.interrupt_vector = from->interrupt.nr,
	};
}

/* KVM's "uninitialized" would not take a startup message before another INIT: one that waits has had it. */
static int set_events(int fd, const struct cpu_events *from)
{
	struct kvm_vcpu_events to = {
		.exception = {.injected = from->exception_pending,
			      .nr = from->exception_vector,
			      .has_error_code = from->exception_has_error,
			      .error_code = from->exception_error},
		.interrupt = {.injected = from->interrupt_pending,
			      .nr = from->interrupt_vector,
			      .shadow = from->interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0},
		.nmi = {.pending = from->nmi_pending, .masked = from->nmi_blocked},
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	};
	struct kvm_mp_state activity = {
		.mp_state = from->activity == CPU_HALTED     ? KVM_MP_STATE_HALTED
			    : from->activity == CPU_RUNNABLE ? KVM_MP_STATE_RUNNABLE
							     : KVM_MP_STATE_INIT_RECEIVED,
	};

	if (ioctl(fd, KVM_SET_VCPU_EVENTS, &to) < 0 || ioctl(fd, KVM_SET_MP_STATE, &activity) < 0)
		return -errno;
	return 0;
}

int kvm_get_state(struct vcpu *vcpu, struct cpu_state *ret)
{
	int fd = kvm_vcpu_of(vcpu)->fd;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_mp_state activity;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs = {0};

	_Static_assert(sizeof(xsave.region) == CPU_XSAVE_SIZE, "the same area");
	if (ioctl(fd, KVM_GET_MP_STATE, &activity) < 0 || ioctl(fd, KVM_GET_REGS, &regs) < 0 ||
	    ioctl(fd, KVM_GET_SREGS, &sregs) < 0 || ioctl(fd, KVM_GET_DEBUGREGS, &debug) < 0 ||
	    ioctl(fd, KVM_GET_VCPU_EVENTS, &events) < 0 || ioctl(fd, KVM_GET_XSAVE, &xsave) < 0)
		return -errno;
	memset(ret, 0, sizeof(*ret));
	for (unsigned int i = 0; i < CPU_GPRS; i++)
		ret->gpr[i] = *gpr_of(&regs, i);
	ret->rip = regs.rip;
	ret->rflags = regs.rflags;
	get_special(&sregs, ret);
	memcpy(ret->dr, debug.db, sizeof(ret->dr));
	ret->dr6 = debug.dr6;
	ret->dr7 = debug.dr7;
	get_events(&events, activity.mp_state, &ret->events);
	memcpy(ret->xsave, xsave.region, sizeof(ret->xsave));
	ret->xcr0 = 1;
	if (ioctl(fd, KVM_GET_XCRS, &xcrs) == 0 && xcrs.nr_xcrs > 0)
		ret->xcr0 = xcrs.xcrs[0].value;
	get_msrs(kvm_vm_of(vcpu->vm), fd, ret);
	get_tsc(vcpu->vm, fd, ret);
	return 0;
}

int kvm_set_state(struct vcpu *vcpu, const struct cpu_state *state)
{
	int fd = kvm_vcpu_of(vcpu)->fd;
	struct kvm_regs regs = {.rip = state->rip, .rflags = state->rflags};
	struct kvm_sregs sregs = {0};
	struct kvm_debugregs debug = {.dr6 = state->dr6, .dr7 = state->dr7};
	struct kvm_xsave xsave = {0};
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = state->xcr0};
	int rc;

	if (!cpu_events_are_valid(&state->events))
		return -EINVAL;
	for (unsigned int i = 0; i < CPU_GPRS; i++)
		*gpr_of(&regs, i) = state->gpr[i];
	set_special(state, &sregs);
	memcpy(debug.db, state->dr, sizeof(debug.db));
	memcpy(xsave.region, state->xsave, sizeof(state->xsave));
	if (ioctl(fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(fd, KVM_SET_REGS, &regs) < 0 ||
	    ioctl(fd, KVM_SET_DEBUGREGS, &debug) < 0 || ioctl(fd, KVM_SET_XSAVE, &xsave) < 0)
		return -errno;
	if (ioctl(fd, KVM_SET_XCRS, &xcrs) < 0 && state->xcr0 != 1)
		return -errno;
	rc = set_msrs(fd, state);
	if (rc < 0)
		return rc;
	set_tsc(vcpu->vm, fd, state);
	return set_events(fd, &state->events);
}
