/*
 * filter: which system calls each kind of thread may make, and why. Everything else ends the process.
 *
 * The program is built here, not by a library: it is one list of numbers, some with a look at an
 * argument, and a machine that starts in milliseconds has no time to load and run a compiler for it.
 *
 *     load architecture; not ours: end.  load number;
 *     per call:  is it this number? yes: check the argument or allow. no: the next one
 *     end
 *
 * Arguments that are pointers are not looked at: they could change after the look.
 */
#include "vmm/jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

enum {
	CPU = 1 << JAIL_VCPU,
	KVM = 1 << JAIL_VCPU_KVM,
	DEV = 1 << JAIL_DEVICES,
	DISKS = 1 << JAIL_DISKS,
	FILES = 1 << JAIL_FILES,
	VCPUS = CPU | KVM,
	ALL = VCPUS | DEV | DISKS | FILES,

	PROGRAM_MAX = 512,
	X32_FIRST = 0x40000000, /* numbers of another ABI on the same architecture */
};

/* What an argument must be. */
enum check {
	ANY,
	NOT_EXECUTABLE,  /* mmap, mprotect: memory that may be executed was made before */
	KVM_REQUEST,     /* ioctl: only KVM's */
	DEVICE_REQUEST,  /* ioctl: KVM's, and those below */
	MESSAGE_REQUEST, /* ioctl: an interrupt that has no eventfd */
	OURSELVES,       /* tgkill: our process */
	FLAGS_ONLY,      /* fcntl: no locks, no owners, no leases */
	FILE_COMMANDS,   /* fcntl: duplicates and locks of open files */
};

struct call {
	uint16_t number, threads;
	enum check check;
};

static const struct call calls[] = {
	/* Waiting for each other, and for requests when the guest is idle. */
	{SYS_futex, ALL, ANY},
	{SYS_sched_yield, ALL, ANY}, /* a guest's spin loop lets the others work */
	/* Guest code enters the kernel here. */
	{SYS_ioctl, KVM, KVM_REQUEST},
	{SYS_ioctl, DEV, DEVICE_REQUEST},
	{SYS_ioctl, DISKS | FILES, MESSAGE_REQUEST},
	{SYS_eventfd2, KVM | DEV,
	 ANY}, /* what a guest's interrupt is sent by, when it sets one up */
	/* Doorbells and wake-ups are eventfds; the serial line and the consoles write where they were
	 * told; a device that a vCPU touches writes to them. */
	{SYS_write, ALL, ANY},
	{SYS_read, ALL, ANY},
	{SYS_poll, VCPUS | DEV, ANY}, /* whether the reader of a serial line takes more */
	/* A guest's timers. */
	{SYS_timerfd_settime, ALL, ANY},
	{SYS_clock_gettime, ALL, ANY},
	{SYS_clock_nanosleep, ALL, ANY},
	/* The loops; a vCPU can move a device's interest. */
	{SYS_epoll_wait, DEV | DISKS, ANY},
	{SYS_epoll_pwait, DEV | DISKS, ANY},
	{SYS_epoll_ctl, ALL, ANY},
	/* Disks. */
	{SYS_preadv, DEV | DISKS | FILES, ANY},
	{SYS_pwritev, DEV | DISKS | FILES, ANY},
	{SYS_pread64, DEV | DISKS | FILES, ANY},
	{SYS_pwrite64, DEV | DISKS | FILES, ANY},
	{SYS_fdatasync, DEV | DISKS | FILES, ANY},
	{SYS_fsync, DEV | DISKS | FILES, ANY},
	{SYS_fallocate, DEV | DISKS | FILES, ANY},
	{SYS_ftruncate, DEV | DISKS | FILES, ANY},
	{SYS_lseek, DEV | DISKS | FILES, ANY}, /* also: what of the memory is to be saved */
	{SYS_fstat, DEV | DISKS | FILES, ANY}, /* a disk that comes over the control socket */
	/* A ring takes nothing but reads and flushes (disk/uring.c). The device thread waits for what is under
	 * way when the machine ends. */
	{SYS_io_uring_enter, DEV | DISKS, ANY},
	{SYS_newfstatat, DEV | FILES,
	 ANY}, /* the same by the C library; there is no file to name */
	{SYS_fcntl, DEV, FLAGS_ONLY},
	/* Taps, the control socket, connections of the guest's. */
	{SYS_readv, DEV, ANY},
	{SYS_writev, DEV, ANY},
	{SYS_accept4, DEV, ANY},
	{SYS_recvfrom, DEV, ANY},
	{SYS_recvmsg, DEV, ANY},
	{SYS_sendto, DEV, ANY},
	{SYS_sendmsg, DEV, ANY},
	{SYS_shutdown, DEV, ANY},
	{SYS_getsockopt, DEV, ANY},
	{SYS_close, DEV | FILES, ANY},
	/* Entropy for the guest, the VM generation id. */
	{SYS_getrandom, ALL, ANY},
	/* Metrics. */
	{SYS_getrusage, DEV, ANY},
	/* Kicks of KVM's vCPUs; an assertion that fails. */
	{SYS_tgkill, ALL, OURSELVES},
	{SYS_getpid, ALL, ANY},
	{SYS_gettid, ALL, ANY},
	/* Faults of guest instructions come as signals. */
	{SYS_rt_sigreturn, ALL, ANY},
	{SYS_rt_sigprocmask, ALL, ANY},
	{SYS_rt_sigaction, ALL, ANY},
	{SYS_restart_syscall, ALL, ANY},
	/* Memory. */
	{SYS_brk, ALL, ANY},
	{SYS_mmap, ALL, NOT_EXECUTABLE},
	{SYS_mprotect, ALL, NOT_EXECUTABLE},
	{SYS_munmap, ALL, ANY},
	{SYS_mremap, ALL, ANY},
	{SYS_madvise, ALL, ANY}, /* also: the balloon */
	/* A guest's directory: names beneath it, and what they stand for. */
	{SYS_openat, FILES, ANY},
	{SYS_openat2, FILES, ANY},
	{SYS_open, FILES,
	 ANY}, /* a descriptor anew: the working directory is that of descriptors */
	{SYS_statx, FILES, ANY},
	{SYS_fstatfs, FILES, ANY},
	{SYS_readlinkat, FILES, ANY},
	{SYS_faccessat, FILES, ANY},
	{SYS_faccessat2, FILES, ANY},
	{SYS_fchmod, FILES, ANY},
	{SYS_fchmodat, FILES, ANY},
	{SYS_fchownat, FILES, ANY},
	{SYS_utimensat, FILES, ANY},
	{SYS_mkdirat, FILES, ANY},
	{SYS_mknodat, FILES, ANY},
	{SYS_symlinkat, FILES, ANY},
	{SYS_linkat, FILES, ANY},
	{SYS_unlinkat, FILES, ANY},
	{SYS_renameat, FILES, ANY},
	{SYS_renameat2, FILES, ANY},
	{SYS_getdents64, FILES, ANY},
	{SYS_getxattr, FILES, ANY},
	{SYS_setxattr, FILES, ANY},
	{SYS_listxattr, FILES, ANY},
	{SYS_removexattr, FILES, ANY},
	{SYS_pwritev2, FILES, ANY},
	{SYS_copy_file_range, FILES, ANY},
	{SYS_syncfs, FILES, ANY},
	{SYS_flock, FILES, ANY},
	{SYS_fcntl, FILES, FILE_COMMANDS},
	/* As the user of the guest's who asked. */
	{SYS_umask, FILES, ANY},
	{SYS_setfsuid, FILES, ANY},
	{SYS_setfsgid, FILES, ANY},
	{SYS_capget, FILES, ANY},
	{SYS_capset, FILES, ANY},
	/* The end of a thread or of the machine. */
	{SYS_exit, ALL, ANY},
	{SYS_exit_group, ALL, ANY},
};

static const uint32_t device_requests[] = {
	TUNSETVNETHDRSZ, TUNSETOFFLOAD, TUNSETQUEUE, /* a tap's features and queues */
	BLKGETSIZE64,    BLKDISCARD,    BLKZEROOUT,  /* block devices */
	FIONREAD,        TIOCGWINSZ,
};

static const uint32_t fcntl_commands[] = {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC};

static const uint32_t file_commands[] = {F_DUPFD_CLOEXEC, F_OFD_GETLK, F_OFD_SETLK};

struct program {
	unsigned int length;
	struct sock_filter code[PROGRAM_MAX];
};

static void add(struct program *p, struct sock_filter instruction)
{
	if (p->length < PROGRAM_MAX)
		p->code[p->length] = instruction;
	p->length++;
}

static void load(struct program *p, size_t offset)
{
	add(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void give(struct program *p, uint32_t action)
{
	add(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* Allows if the value is `k`, else goes on behind. */
static void allow_if(struct program *p, uint32_t k)
{
	add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1));
	give(p, SECCOMP_RET_ALLOW);
}

/* The lower half of an argument (the upper is of no meaning to these calls). */
static void load_argument(struct program *p, unsigned int n)
{
	load(p, offsetof(struct seccomp_data, args) + 8 * n);
}

static void allow_list(struct program *p, unsigned int argument, const uint32_t *values,
		       unsigned int count)
{
	load_argument(p, argument);
	for (unsigned int i = 0; i < count; i++)
		allow_if(p, values[i]);
}

static void allow_kvm(struct program *p)
{
	load_argument(p, 1);
	add(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, _IOC_TYPESHIFT));
	add(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, _IOC_TYPEMASK));
	allow_if(p, KVMIO);
}

static void add_check(struct program *p, enum check check)
{
	switch (check) {
	case ANY:
		give(p, SECCOMP_RET_ALLOW);
		return;
	case NOT_EXECUTABLE:
		load_argument(p, 2);
		add(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_EXEC));
		allow_if(p, 0);
		break;
	case KVM_REQUEST:
		allow_kvm(p);
		break;
	case DEVICE_REQUEST:
		allow_kvm(p);
		allow_list(p, 1, device_requests, array_size(device_requests));
		break;
	case MESSAGE_REQUEST:
		load_argument(p, 1);
		allow_if(p, KVM_SIGNAL_MSI);
		break;
	case OURSELVES:
		load_argument(p, 0);
		allow_if(p, (uint32_t)getpid());
		break;
	case FLAGS_ONLY:
		allow_list(p, 1, fcntl_commands, array_size(fcntl_commands));
		break;
	case FILE_COMMANDS:
		allow_list(p, 1, file_commands, array_size(file_commands));
		break;
	}
	give(p, SECCOMP_RET_KILL_PROCESS);
}

static void add_call(struct program *p, const struct call *call)
{
	unsigned int jump = p->length;

	add(p, (struct sock_filter){0});
	add_check(p, call->check);
	/* No check is longer than what a jump can skip. */
	p->code[jump] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call->number, 0,
						     (uint8_t)(p->length - jump - 1));
}

/* Rights are a thread's. */
static int drop_rights(struct error *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	return syscall(SYS_capset, &header, none) < 0 ? fail(err, -errno, "drop capabilities") : 0;
}

int jail_filter(enum jail_thread kind, struct error *err)
{
	struct program *p;
	struct sock_fprog fprog;
	int rc = kind == JAIL_FILES ? 0 : drop_rights(err);

	if (rc < 0)
		return rc;
	p = mem_new(sizeof(*p));

	load(p, offsetof(struct seccomp_data, arch));
	add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
	give(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
	add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_FIRST, 0, 1));
	give(p, SECCOMP_RET_KILL_PROCESS);
	for (unsigned int i = 0; i < array_size(calls); i++)
		if (calls[i].threads & (1u << kind))
			add_call(p, &calls[i]);
	give(p, SECCOMP_RET_KILL_PROCESS);
	fprog = (struct sock_fprog){.len = (unsigned short)p->length, .filter = p->code};
	if (p->length > PROGRAM_MAX)
		rc = refuse(err, -E2BIG, "the filter of system calls is too long");
	else if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &fprog) < 0)
		rc = fail(err, -errno, "filter system calls");
	own_mem_release(&p);
	return rc;
}
