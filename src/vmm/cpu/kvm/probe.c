/* kvm_probe: whether /dev/kvm is hardware. Some hosts offer one that emulates every instruction: guests
 * work there, some thousand times slower than they should. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "base/own.h"
#include "vmm/cpu/kvm/kvm.h"

enum { LOOPS = 2000, PAGE = 4096 };
/* Hardware takes below 1 ns a loop and some microseconds for the entry. */
static const double emulated_ns_per_loop = 40;

/* Real-mode code at address 0:  1: dec %ecx;  jnz 1b;  hlt */
static const uint8_t code[] = {0x66, 0x49, 0x75, 0xfc, 0xf4};

/* Runs `loops` loops. 0 or -errno. */
static int run_loops(int vcpu, const struct kvm_run *run, unsigned int loops)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rflags = 2, .rcx = loops};

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return -errno;
	while (ioctl(vcpu, KVM_RUN, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return run->exit_reason == KVM_EXIT_HLT ? 0 : -EIO;
}

/* Of this thread, the guest's included: on a busy host the loop may be interrupted for longer than it takes. */
static int64_t cpu_time_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int time_loop(int kvm, void *page, int64_t *ret_ns)
{
	struct kvm_userspace_memory_region region = {.memory_size = PAGE,
						     .userspace_addr = (uintptr_t)page};
	own_fd int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	own_fd int vcpu = -1;
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), rc;
	int64_t start;
	void *run;

	if (vm < 0 || size < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		return -errno;
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		return -errno;
	/* The first entry takes the page faults. */
	rc = run_loops(vcpu, run, 1);
	start = cpu_time_ns();
	if (rc == 0)
		rc = run_loops(vcpu, run, LOOPS);
	*ret_ns = cpu_time_ns() - start;
	munmap(run, (size_t)size);
	return rc;
}

enum kvm_quality kvm_probe(double *ret_ns_per_loop)
{
	own_fd int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int64_t ns = 0;
	void *page;
	int rc;

	*ret_ns_per_loop = 0;
	if (kvm < 0 || ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return KVM_ABSENT;
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return KVM_ABSENT;
	memcpy(page, code, sizeof(code));
	rc = time_loop(kvm, page, &ns);
	munmap(page, PAGE);
	if (rc < 0)
		return KVM_ABSENT;
	*ret_ns_per_loop = (double)ns / LOOPS;
	return *ret_ns_per_loop > emulated_ns_per_loop ? KVM_EMULATED : KVM_REAL;
}
