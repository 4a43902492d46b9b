/* machine_accel: which accelerator a machine gets. */
#include "vmm/machine/machine_priv.h"

#include <errno.h>

#include "base/log.h"
#include "vmm/cpu/kvm/kvm.h"

static const struct cpu_accel *soft(struct error *err)
{
#ifdef VMM_SOFT
	(void)err;
	return &cpu_accel_soft;
#else
	refuse(err, -ENOTSUP, "this berth has been built without the software CPU");
	return NULL;
#endif
}

const struct cpu_accel *machine_choose_accel(enum machine_accel wanted, struct error *err)
{
	double ns_per_loop;

	if (wanted == MACHINE_ACCEL_KVM)
		return &cpu_accel_kvm;
	if (wanted == MACHINE_ACCEL_SOFT)
		return soft(err);
	switch (kvm_probe(&ns_per_loop)) {
	case KVM_REAL:
		log_debug("accelerator kvm: a loop takes %.1f ns", ns_per_loop);
		return &cpu_accel_kvm;
	case KVM_EMULATED:
		log_debug("accelerator soft: /dev/kvm only emulates, a loop takes %.0f ns",
			  ns_per_loop);
		return soft(err);
	case KVM_ABSENT:
		break;
	}
	log_debug("accelerator soft: /dev/kvm cannot be used");
	return soft(err);
}
