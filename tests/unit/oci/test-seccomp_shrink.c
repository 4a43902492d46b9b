/* The shortened filter decides everything as the one that libseccomp made: random profiles, every number
 * near a boundary, arguments near the compared ones, all architectures and some that are not there. */
#include <fcntl.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "oci/seccomp_shrink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { PROFILES = 30, X32_BIT = 0x40000000 };

static uint32_t seed;

static uint32_t chance(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

/* As the kernel executes a filter. */
static uint32_t decide(const struct seccomp_program *p, const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (size_t i = 0; i < p->count; i++) {
		const struct sock_filter *c = &p->code[i];
		bool yes;

		switch (c->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(c->k <= sizeof(*data) - 4);
			memcpy(&a, (const char *)data + c->k, 4);
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= c->k;
			continue;
		case BPF_JMP | BPF_JA:
			i += c->k;
			continue;
		case BPF_RET | BPF_K:
			return c->k;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = a == c->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = a > c->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = a >= c->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = a & c->k;
			break;
		default:
			fail_msg("an instruction of the kind %x", c->code);
			return 0;
		}
		i += yes ? c->jt : c->jf;
	}
	fail_msg("the program has no end");
	return 0;
}

static void add_rules(scmp_filter_ctx filter)
{
	static const uint32_t actions[] = {SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(2), SCMP_ACT_KILL_PROCESS,
					   SCMP_ACT_TRAP};
	/* From runs of a few numbers to almost all alike. */
	const uint32_t run = 2 + chance(60);
	bool is_named = true;

	for (int number = 0; number < 460; number++) {
		const struct scmp_arg_cmp arg = {.arg = chance(3),
						 .op = (enum scmp_compare)(1 + chance(7)),
						 .datum_a = chance(2) ? chance(4) : 0x1ffffffffull,
						 .datum_b = chance(4)};
		const uint32_t action = actions[chance(run) ? 0 : chance(4)];

		if (chance(run) == 0)
			is_named = !is_named;
		if (!is_named)
			continue;
		/* What the library cannot say is left out. */
		(void)seccomp_rule_add_array(filter, action, number, chance(run) ? 0 : 1, &arg);
	}
}

/* What seccomp_filter.c puts before it. */
static void prepend(struct seccomp_program *p)
{
	const struct sock_filter part[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SCMP_ARCH_X86_64, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, X32_BIT, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 450, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 38),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4),
	};
	struct sock_filter *code = mem_new_array(p->count + array_size(part), sizeof(*code));

	memcpy(code, part, sizeof(part));
	memcpy(code + array_size(part), p->code, p->count * sizeof(*code));
	free(p->code);
	p->code = code;
	p->count += array_size(part);
}

static void make_profile(struct seccomp_program *ret)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(1));
	int fd = memfd_create("filter", MFD_CLOEXEC);
	off_t size;

	if (chance(3))
		assert_int_equal(seccomp_arch_add(filter, SCMP_ARCH_X86), 0);
	if (chance(3))
		assert_int_equal(seccomp_arch_add(filter, SCMP_ARCH_X32), 0);
	if (chance(4) == 0)
		assert_int_equal(seccomp_arch_add(filter, SCMP_ARCH_AARCH64), 0);
	if (chance(4))
		assert_int_equal(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2), 0);
	add_rules(filter);
	assert_int_equal(seccomp_export_bpf(filter, fd), 0);
	seccomp_release(filter);
	size = lseek(fd, 0, SEEK_END);
	ret->code = mem_new((size_t)size);
	ret->count = (size_t)size / sizeof(*ret->code);
	assert_int_equal(fd_read_full_at(fd, ret->code, (size_t)size, 0), size);
	close(fd);
	if (chance(2))
		prepend(ret);
}

static void compare(const struct seccomp_program *a, const struct seccomp_program *b,
		    uint32_t architecture, uint32_t number)
{
	struct seccomp_data data = {.nr = (int)number, .arch = architecture};

	for (int i = 0; i < 3; i++) {
		for (size_t k = 0; k < array_size(data.args); k++)
			data.args[k] = chance(3) ? chance(5) : 0x1fffffffdull + chance(4);
		if (decide(a, &data) != decide(b, &data))
			fail_msg("architecture %x, number %x: %x became %x", architecture, number,
				 decide(a, &data), decide(b, &data));
	}
}

static void decides_alike(void **state)
{
	static const uint32_t architectures[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_AARCH64,
						 SCMP_ARCH_ARM, 0};
	static const uint32_t starts[] = {0, X32_BIT - 2, X32_BIT, 0x80000000u - 2, 0xfffffe00u};
	size_t before = 0, after = 0;

	(void)state;
	for (seed = 1; seed <= PROFILES; seed++) {
		own_seccomp_program struct seccomp_program program = {0}, original = {0};
		const uint32_t kept = seed;

		make_profile(&program);
		original.count = program.count;
		original.code = mem_new_array(program.count, sizeof(*program.code));
		memcpy(original.code, program.code, program.count * sizeof(*program.code));
		seccomp_shrink(&program);
		before += original.count;
		after += program.count;
		for (size_t i = 0; i < array_size(architectures); i++)
			for (size_t s = 0; s < array_size(starts); s++)
				for (uint32_t n = 0; n < 512; n++)
					compare(&original, &program, architectures[i],
						starts[s] + n);
		seed = kept;
	}
	assert_true(after < before * 3 / 4);
}

static void leaves_other_programs_alone(void **state)
{
	static const struct sock_filter parts[][3] = {
		/* arithmetic on the number */
		{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1),
		 BPF_STMT(BPF_RET | BPF_A, 0)},
		/* no end */
		{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 4),
		 BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SCMP_ARCH_X86_64, 1, 0),
		 BPF_STMT(BPF_RET | BPF_K, 0)},
	};

	(void)state;
	for (size_t i = 0; i < array_size(parts); i++) {
		own_seccomp_program struct seccomp_program p = {.code = mem_new(sizeof(parts[i])),
								.count = array_size(parts[i])};

		memcpy(p.code, parts[i], sizeof(parts[i]));
		seccomp_shrink(&p);
		assert_int_equal(p.count, array_size(parts[i]));
		assert_memory_equal(p.code, parts[i], sizeof(parts[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decides_alike),
		cmocka_unit_test(leaves_other_programs_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
