/* accel: which accelerator a machine gets. */
#include "vmm/machine/machine_priv.h"

#include "base/log.h"
#include "vmm/cpu/kvm/kvm.h"

const struct cpu_accel *machine_choose_accel(enum machine_accel wanted)
{
	double ns_per_loop;

	if (wanted == MACHINE_ACCEL_KVM)
		return &cpu_accel_kvm;
	if (wanted == MACHINE_ACCEL_SOFT)
		return &cpu_accel_soft;
	switch (kvm_probe(&ns_per_loop)) {
	case KVM_REAL:
		log_debug("accelerator kvm: a loop takes %.1f ns", ns_per_loop);
		return &cpu_accel_kvm;
	case KVM_EMULATED:
		log_debug("accelerator soft: /dev/kvm only emulates, a loop takes %.0f ns",
			  ns_per_loop);
		return &cpu_accel_soft;
	case KVM_ABSENT:
		break;
	}
	log_debug("accelerator soft: /dev/kvm cannot be used");
	return &cpu_accel_soft;
}
