/* seccomp_filter: see seccomp_filter.h. */
#include "oci/seccomp_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/seccomp_shrink.h"

void seccomp_program_release(struct seccomp_program *program)
{
	free(program->code);
	program->code = NULL;
	program->count = 0;
}

static void own_filter_release(scmp_filter_ctx *filter)
{
	if (*filter != NULL)
		seccomp_release(*filter);
}
#define own_filter __attribute__((cleanup(own_filter_release)))

static int add_rule(scmp_filter_ctx filter, const struct config_seccomp_rule *r, const char *name,
		    struct error *err)
{
	const int number = seccomp_syscall_resolve_name(name);
	struct scmp_arg_cmp args[6];
	int rc;

	/* Profiles name system calls of every architecture and age. */
	if (number == __NR_SCMP_ERROR)
		return 0;
	if (r->arg_count > array_size(args))
		return refuse(err, -EINVAL, "linux.seccomp: %s has more than %zu arguments", name,
			      array_size(args));
	for (size_t i = 0; i < r->arg_count; i++)
		args[i] = (struct scmp_arg_cmp){
			.arg = r->args[i].index,
			.op = (enum scmp_compare)r->args[i].op,
			.datum_a = r->args[i].value,
			.datum_b = r->args[i].value_two,
		};
	rc = seccomp_rule_add_array(filter, r->action, number, (unsigned int)r->arg_count, args);
	/* Several conditions on one argument cannot be one rule: they become alternatives, which is
	 * what other runtimes make of them. */
	if (rc == -EINVAL && r->arg_count > 1) {
		rc = 0;
		for (size_t i = 0; rc == 0 && i < r->arg_count; i++)
			rc = seccomp_rule_add_array(filter, r->action, number, 1, &args[i]);
	}
	if (rc == -EEXIST)
		rc = 0;
	return rc < 0 ? fail(err, rc, "linux.seccomp: add a rule for %s", name) : 0;
}

static int build(const struct config_seccomp *s, scmp_filter_ctx filter, struct error *err)
{
	int rc;

	for (size_t i = 0; i < s->architecture_count; i++) {
		rc = seccomp_arch_add(filter, s->architectures[i]);
		if (rc < 0 && rc != -EEXIST)
			return fail(err, rc, "linux.seccomp.architectures[%zu]", i);
	}
	/* We set no_new_privs ourselves. A binary tree of numbers instead of a list: a filter of 300
	 * rules then costs each system call about 9 comparisons. */
	if ((rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0)) < 0 ||
	    (rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2)) < 0)
		return fail(err, rc, "linux.seccomp");
	for (size_t i = 0; i < s->rule_count; i++) {
		/* What happens anyway needs no rule; the library refuses one. */
		if (s->rules[i].action == s->default_action)
			continue;
		for (size_t k = 0; s->rules[i].names[k] != NULL; k++) {
			rc = add_rule(filter, &s->rules[i], s->rules[i].names[k], err);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int load(int fd, struct seccomp_program *ret)
{
	struct stat st;
	struct sock_filter *code;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size <= 0 || st.st_size % (off_t)sizeof(*code) != 0 ||
	    st.st_size / (off_t)sizeof(*code) > BPF_MAXINSNS)
		return -EINVAL;
	code = mem_new((size_t)st.st_size);
	n = fd_read_full_at(fd, code, (size_t)st.st_size, 0);
	if (n != st.st_size) {
		free(code);
		return n < 0 ? (int)n : -EIO;
	}
	ret->code = code;
	ret->count = (size_t)st.st_size / sizeof(*code);
	return 0;
}

/* --- calls that are newer than the profile ------------------------------------------------------ */

/* The highest number that a name of the profile has on the architecture, or -1. */
static int highest_number(const struct config_seccomp *s, uint32_t architecture)
{
	int highest = -1;

	for (size_t i = 0; i < s->rule_count; i++)
		for (size_t k = 0; s->rules[i].names[k] != NULL; k++) {
			int number = seccomp_syscall_resolve_name_arch(architecture,
								       s->rules[i].names[k]);

			highest = number > highest ? number : highest;
		}
	return highest;
}

/* Programs try a new system call and fall back on -ENOSYS: a profile that was written before the call
 * existed must not answer with its own error, which they take for final. */
static bool answers_for_unknown_calls(const struct config_seccomp *s)
{
	return (s->default_action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO &&
	       (s->default_action & SECCOMP_RET_DATA) != ENOSYS;
}

/* Puts before the filter, for one architecture: a number above `highest` is -ENOSYS.
 *
 *     jeq  architecture, else over the rest
 *     ld   number
 *     jset the bit of x32: those calls are another architecture's, let the filter see them
 *     jgt  highest
 *     ret  -ENOSYS
 *     ld   architecture, for the next
 */
static void add_unknown_calls(struct sock_filter *code, size_t *count, uint32_t architecture,
			      int highest)
{
	enum { X32_BIT = 0x40000000 };
	const struct sock_filter part[] = {
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, X32_BIT, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)highest, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	};

	memcpy(code + *count, part, sizeof(part));
	*count += array_size(part);
}

static void prepend_unknown_calls(const struct config_seccomp *s, struct seccomp_program *p)
{
	enum { PART_LEN = 6 };
	const size_t max = p->count + 1 + (s->architecture_count + 1) * PART_LEN;
	struct sock_filter *code = mem_new_array(max, sizeof(*code));
	size_t count = 0;

	code[count++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						     offsetof(struct seccomp_data, arch));
	for (size_t i = 0; i <= s->architecture_count; i++) {
		uint32_t architecture =
			i < s->architecture_count ? s->architectures[i] : seccomp_arch_native();
		int highest = highest_number(s, architecture);

		if (architecture != SCMP_ARCH_X32 && highest >= 0)
			add_unknown_calls(code, &count, architecture, highest);
	}
	memcpy(code + count, p->code, p->count * sizeof(*code));
	free(p->code);
	p->code = code;
	p->count += count;
}

static int compile(const struct config_seccomp *s, struct seccomp_program *ret, struct error *err)
{
	own_filter scmp_filter_ctx filter = seccomp_init(s->default_action);
	own_fd int fd = -1;
	int rc;

	if (filter == NULL)
		return refuse(err, -EINVAL, "linux.seccomp.defaultAction: not supported here");
	rc = build(s, filter, err);
	if (rc < 0)
		return rc;
	fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (fd < 0)
		return fail(err, -errno, "linux.seccomp: create a file in memory");
	rc = seccomp_export_bpf(filter, fd);
	if (rc == 0)
		rc = load(fd, ret);
	if (rc == 0 && answers_for_unknown_calls(s))
		prepend_unknown_calls(s, ret);
	if (rc == 0)
		seccomp_shrink(ret);
	return rc < 0 ? fail(err, rc, "linux.seccomp: compile the filter") : 0;
}

int seccomp_compile(const struct config_seccomp *s, int state_root_fd, struct seccomp_program *ret,
		    struct error *err)
{
	const struct scmp_version *version = seccomp_version();
	own_mem char *name = str_format("%s/%s-3-%u.%u.%u", SECCOMP_CACHE, digest_hex(&s->content),
					version->major, version->minor, version->micro);
	own_fd int fd = state_root_fd < 0 ? -1 : openat(state_root_fd, name, O_RDONLY | O_CLOEXEC);
	int rc;

	if (fd >= 0 && load(fd, ret) == 0)
		return 0;
	rc = compile(s, ret, err);
	if (rc < 0 || state_root_fd < 0)
		return rc;
	/* A cache that cannot be written costs time, nothing else. */
	if (mkdirat(state_root_fd, SECCOMP_CACHE, 0700) == 0 || errno == EEXIST)
		(void)!file_write(state_root_fd, name, ret->code, ret->count * sizeof(*ret->code),
				  0600, FILE_WRITE_ATOMIC, NULL);
	return 0;
}

struct oci_filter {
	struct seccomp_program program;
	uint32_t default_action;
	unsigned int flags;
};

int oci_filter_compile(json_t *seccomp, struct oci_filter **ret, struct error *err)
{
	own_json json_t *spec =
		json_pack("{s:s,s:{s:O}}", "ociVersion", "1.2.0", "linux", "seccomp", seccomp);
	own_config struct config *c = NULL;
	const struct config_seccomp *s;
	struct seccomp_program program = {0};
	struct oci_filter *filter;
	int rc = config_parse(spec, &c, err);

	if (rc < 0)
		return rc;
	s = &c->linux_.seccomp;
	if (!str_empty(s->listener_path))
		return refuse(err, -ENOTSUP,
			      "linux.seccomp.listenerPath: such a filter is not kept");
	rc = seccomp_compile(s, -1, &program, err);
	if (rc < 0)
		return rc;
	filter = mem_new(sizeof(*filter));
	*filter = (struct oci_filter){
		.program = program, .default_action = s->default_action, .flags = s->flags};
	*ret = filter;
	return 0;
}

void oci_filter_free(struct oci_filter *filter)
{
	if (filter == NULL)
		return;
	seccomp_program_release(&filter->program);
	free(filter);
}

void seccomp_use(const struct oci_filter *filter, struct config_seccomp *s,
		 struct seccomp_program *ret)
{
	const size_t count = filter->program.count;

	*s = (struct config_seccomp){
		.given = true, .default_action = filter->default_action, .flags = filter->flags};
	ret->code = mem_new_array(count + 1, sizeof(*ret->code));
	ret->count = count;
	memcpy(ret->code, filter->program.code, count * sizeof(*ret->code));
}

int seccomp_install(const struct seccomp_program *program, const struct config_seccomp *s,
		    struct error *err)
{
	const struct sock_fprog prog = {
		.len = (unsigned short)program->count,
		.filter = program->code,
	};
	unsigned int flags = s->flags;
	long rc;

	if (!str_empty(s->listener_path))
		flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
	/* With both, a failed synchronisation must not look like a descriptor. There is one thread. */
	if (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
		flags &= ~(unsigned int)SECCOMP_FILTER_FLAG_TSYNC;
	rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
	if (rc < 0)
		return fail(err, -errno, "linux.seccomp: install the filter");
	return (int)rc;
}
