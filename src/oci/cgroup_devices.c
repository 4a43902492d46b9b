/*
 * cgroup_devices: device rules on cgroup v2, as an eBPF program that is attached to the directory.
 *
 * The program gets {access_type: access << 16 | type, major, minor} and returns 1 to allow. The rules
 * apply in order, the last that matches wins; so they are compiled backwards, and the first that
 * matches decides. A rule that grants only some kinds of access matches if it covers all that is asked
 * for, one that takes some away matches if it touches any of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "oci/cgroup_priv.h"

struct program {
	struct bpf_insn *code;
	size_t count, capacity;
};

enum { LOAD_TRIES = 20 };
enum { REG_ACCESS = BPF_REG_2, REG_TYPE = BPF_REG_3, REG_MAJOR = BPF_REG_4, REG_MINOR = BPF_REG_5 };

static void emit(struct program *p, struct bpf_insn insn)
{
	p->code = mem_grow(p->code, p->count, &p->capacity, sizeof(*p->code));
	p->code[p->count++] = insn;
}

static void emit_op(struct program *p, uint8_t code, uint8_t dst, uint8_t src, int16_t off,
		    int32_t imm)
{
	emit(p, (struct bpf_insn){
			.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm});
}

static void emit_return(struct program *p, bool allow)
{
	emit_op(p, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow);
	emit_op(p, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* Returns true if the rule matches whatever is asked: what followed it could not be reached, which the
 * kernel's verifier refuses. */
static bool emit_rule(struct program *p, const struct config_device_rule *r)
{
	const int32_t access = (r->mknod ? BPF_DEVCG_ACC_MKNOD : 0) |
			       (r->read ? BPF_DEVCG_ACC_READ : 0) |
			       (r->write ? BPF_DEVCG_ACC_WRITE : 0);
	const int32_t all = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;
	size_t jumps[4], jump_count = 0;

	/* Each test jumps behind the rule if it does not hold; the offsets are filled in below. */
	if (r->type != 'a') {
		jumps[jump_count++] = p->count;
		emit_op(p, BPF_JMP | BPF_JNE | BPF_K, REG_TYPE, 0, 0,
			r->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	}
	if (r->major >= 0) {
		jumps[jump_count++] = p->count;
		emit_op(p, BPF_JMP | BPF_JNE | BPF_K, REG_MAJOR, 0, 0, (int32_t)r->major);
	}
	if (r->minor >= 0) {
		jumps[jump_count++] = p->count;
		emit_op(p, BPF_JMP | BPF_JNE | BPF_K, REG_MINOR, 0, 0, (int32_t)r->minor);
	}
	if (access != all) {
		emit_op(p, BPF_ALU | BPF_MOV | BPF_X, BPF_REG_1, REG_ACCESS, 0, 0);
		emit_op(p, BPF_ALU | BPF_AND | BPF_K, BPF_REG_1, 0, 0,
			r->allow ? all & ~access : access);
		jumps[jump_count++] = p->count;
		emit_op(p, r->allow ? BPF_JMP | BPF_JNE | BPF_K : BPF_JMP | BPF_JEQ | BPF_K,
			BPF_REG_1, 0, 0, 0);
	}
	emit_return(p, r->allow);
	for (size_t i = 0; i < jump_count; i++)
		p->code[jumps[i]].off = (int16_t)(p->count - jumps[i] - 1);
	return jump_count == 0;
}

static void compile(struct program *p, const struct config_device_rule *rules, size_t count)
{
	/* r1 is the context. */
	emit_op(p, BPF_LDX | BPF_MEM | BPF_W, REG_TYPE, BPF_REG_1, 0, 0);
	emit_op(p, BPF_ALU | BPF_MOV | BPF_X, REG_ACCESS, REG_TYPE, 0, 0);
	emit_op(p, BPF_ALU | BPF_RSH | BPF_K, REG_ACCESS, 0, 0, 16);
	emit_op(p, BPF_ALU | BPF_AND | BPF_K, REG_TYPE, 0, 0, 0xffff);
	emit_op(p, BPF_LDX | BPF_MEM | BPF_W, REG_MAJOR, BPF_REG_1, 4, 0);
	emit_op(p, BPF_LDX | BPF_MEM | BPF_W, REG_MINOR, BPF_REG_1, 8, 0);
	for (size_t i = count; i-- > 0;)
		if (emit_rule(p, &rules[i]))
			return;
	emit_return(p, true);
}

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* Takes away the programs that an earlier call attached. */
static void detach_old(int dir_fd)
{
	uint32_t ids[64];
	union bpf_attr query = {.query = {
					.target_fd = (uint32_t)dir_fd,
					.attach_type = BPF_CGROUP_DEVICE,
					.prog_ids = (uint64_t)(uintptr_t)ids,
					.prog_cnt = array_size(ids),
				}};

	if (bpf(BPF_PROG_QUERY, &query) < 0)
		return;
	for (uint32_t i = 0; i + 1 < query.query.prog_cnt; i++) {
		union bpf_attr get = {.prog_id = ids[i]};
		own_fd int fd = (int)bpf(BPF_PROG_GET_FD_BY_ID, &get);
		union bpf_attr detach = {
			.target_fd = (uint32_t)dir_fd,
			.attach_bpf_fd = (uint32_t)fd,
			.attach_type = BPF_CGROUP_DEVICE,
		};

		if (fd >= 0 && bpf(BPF_PROG_DETACH, &detach) < 0)
			continue;
	}
}

static int load(const struct program *p, struct error *err)
{
	static const char license[] = "Apache-2.0";
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uint64_t)(uintptr_t)p->code,
		.insn_cnt = (uint32_t)p->count,
		.license = (uint64_t)(uintptr_t)license,
	};
	int fd = -1;

	/* The kernel gives the check of a program up when a signal arrives, and wants to be asked again. */
	for (int tries = 0; tries < LOAD_TRIES; tries++) {
		fd = (int)bpf(BPF_PROG_LOAD, &load);
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd < 0 ? fail(err, -errno, "linux.resources.devices: load the device filter") : fd;
}

void oci_device_filter_release(struct oci_device_filter *filter)
{
	if (filter->code != NULL)
		fd_close(&filter->fd);
	free(filter->code);
	*filter = (struct oci_device_filter){.fd = -1};
}

/* What is the same instructions is the same program. */
static bool is_kept(const struct oci_device_filter *kept, const struct program *p)
{
	return kept->code != NULL && kept->size_bytes == p->count * sizeof(*p->code) &&
	       memcmp(kept->code, p->code, kept->size_bytes) == 0;
}

/* The descriptor becomes the caller's. `kept` may be NULL. */
static int get_program(struct program *p, struct oci_device_filter *kept, struct error *err)
{
	own_fd int fd = -1;
	int copy;

	if (kept != NULL && is_kept(kept, p)) {
		copy = fcntl(kept->fd, F_DUPFD_CLOEXEC, 0);
		return copy < 0 ? fail(err, -errno,
				       "linux.resources.devices: the kept device filter")
				: copy;
	}
	fd = load(p, err);
	if (fd < 0 || kept == NULL)
		return take(fd);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return fail(err, -errno, "linux.resources.devices: keep the device filter");
	oci_device_filter_release(kept);
	*kept = (struct oci_device_filter){
		.code = p->code, .size_bytes = p->count * sizeof(*p->code), .fd = copy};
	p->code = NULL;
	return take(fd);
}

int cgroup_attach_devices(int dir_fd, const struct config_device_rule *rules, size_t count,
			  struct oci_device_filter *kept, struct error *err)
{
	struct program p = {0};
	own_fd int fd = -1;
	union bpf_attr attach;

	compile(&p, rules, count);
	fd = get_program(&p, kept, err);
	free(p.code);
	if (fd < 0)
		return fd;
	/* Together with what is attached already, so that there is no moment without a filter. */
	attach = (union bpf_attr){
		.target_fd = (uint32_t)dir_fd,
		.attach_bpf_fd = (uint32_t)fd,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI,
	};
	if (bpf(BPF_PROG_ATTACH, &attach) < 0)
		return fail(err, -errno, "linux.resources.devices: attach the device filter");
	detach_old(dir_fd);
	return 0;
}
