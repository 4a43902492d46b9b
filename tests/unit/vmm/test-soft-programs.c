/* Small guest programs in 16, 32 and 64 bits with known results. Each ends with UD2, those that begin in real mode
 * with INT3, and leaves what it found in RAX, or ends in the fault that is expected of it: KVM's emulator of
 * instructions knows INT3 in real mode and user code only, and UD2 everywhere else. */
#include <cpuid.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/guest.h"
#include "vmm/cpu/kvm/kvm_priv.h"

#include <cmocka.h>

#define PROGRAM(name, bits, ...)                                                                   \
	extern const uint8_t name##_begin[], name##_end[];                                         \
	__asm__(".pushsection .rodata\n.intel_syntax noprefix\n.code" #bits "\n" #name             \
		"_begin:\n" __VA_ARGS__ "\n" #name                                                 \
		"_end:\n.code64\n.att_syntax prefix\n.popsection\n")

PROGRAM(real_loop, 16, "xor ax, ax; mov cx, 100; 1: add ax, cx; loop 1b; int3");
PROGRAM(real_segments, 16,
	"mov ax, 0x3000; mov ds, ax; mov es, ax; mov word ptr [0x10], 0xbeef\n"
	"mov si, 0x10; mov di, 0xfffe; cld; movsw; mov ax, [0xfffe]; add ax, di; int3");
PROGRAM(real_interrupt_table, 16,
	"push 0; pop ds; mov word ptr [0x21 * 4], offset 2f - real_interrupt_table_begin\n"
	"mov [0x21 * 4 + 2], cs; int 0x21; inc ax; int3; 2: mov ax, 0x41; iret");
PROGRAM(real_limit, 16, "mov bx, 0xffff; mov ax, [bx]; int3");
PROGRAM(real_wide_operands, 16,
	"mov eax, 0x12345678; rol eax, 8; movzx ebx, al; add eax, ebx; int3");
PROGRAM(real_to_long, 16,
	"cli; mov eax, 0x20; mov cr4, eax; mov eax, 0x1000; mov cr3, eax\n"
	"mov ecx, 0xc0000080; rdmsr; or eax, 0x100; wrmsr\n"
	"mov eax, 0x80000001; mov cr0, eax\n"
	".byte 0x66, 0xea; .long 0x20000 + (3f - real_to_long_begin); .word 8\n"
	".code64\n"
	"3: mov ax, 0x10; mov ss, ax; mov esp, 0xb000\n"
	"lidt [rip + 4f]; mov rax, 0x123456789abcdef0; ud2\n"
	"4: .word 0xfff; .quad 0x8000");
PROGRAM(protected_decimal, 32, "mov eax, 0x79; add al, 0x35; daa; mov ah, 0; aam; ud2");
PROGRAM(protected_stack, 32,
	"mov ebp, 7; pushad; popad; push 5; push esp; pop eax; sub eax, esp; enter 16, 0; leave; ud2");
PROGRAM(protected_far_call, 32,
	"xor eax, eax; call 0x40:2f + 0x300000 - protected_far_call_begin; inc eax; ud2\n"
	"2: add eax, 41; retf");
PROGRAM(protected_limit, 32,
	"mov word ptr [0x5000], 0xfff; mov dword ptr [0x7028], 0x00000fff\n"
	"mov dword ptr [0x702c], 0x00409300; mov ax, 0x28; mov ds, ax; mov al, [0xfff]\n"
	"mov ax, [0xfff]; ud2");
PROGRAM(long_fibonacci, 64,
	"xor eax, eax; mov edx, 1; mov ecx, 90; 1: xadd rax, rdx; dec ecx; jnz 1b; ud2");
PROGRAM(long_self_modifying, 64,
	"lea rdi, [rip + 2f + 1]; mov byte ptr [rdi], 42; jmp 2f; 2: mov eax, 1; ud2");
PROGRAM(long_modifies_next, 64, "mov byte ptr [rip + 2f + 1], 42; 2: mov eax, 1; ud2");
PROGRAM(long_read_only, 64, "mov dword ptr [0x10001000], 1; ud2");
PROGRAM(long_supervisor_page, 64, "mov eax, [0x1000]; ud2");
PROGRAM(long_not_present, 64, "mov eax, [0x40000000]; ud2");
PROGRAM(long_fetch, 64, "mov eax, 0x40000000; jmp rax");
PROGRAM(long_not_canonical, 64, "mov rax, 0x800000000000; mov rax, [rax]");
PROGRAM(long_stack_not_canonical, 64, "mov rsp, 0x900000000000; push rax");
/* A call looks at its stack before it looks where it leads. */
PROGRAM(long_call_from_no_stack, 64,
	"mov rax, 0x900000000000; mov [0x10000000], rax; mov rsp, rax; call [0x10000000]");
PROGRAM(long_privileged, 64, "cli");
PROGRAM(long_divide, 64, "xor ecx, ecx; mov eax, 5; cdq; div ecx");
PROGRAM(long_undefined, 64, "ud2");
PROGRAM(protected_breakpoint, 32, "int3");
PROGRAM(long_breakpoint, 64, "int3");
PROGRAM(long_misaligned, 64, "movaps xmm0, [0x10000004]");
PROGRAM(long_split_pages, 64,
	"mov rax, 0x1122334455667788; mov [0x10000ffc], rax; lock inc qword ptr [0x10000ffc]\n"
	"mov rax, [0x10000ffc]; ud2");
PROGRAM(long_strings, 64,
	"mov edi, 0x10000003; mov ecx, 9000; mov al, 0x5a; rep stosb\n"
	"mov esi, 0x10000003; mov edi, 0x10000100; mov ecx, 9000; std; add rsi, 8999; add rdi, 8999\n"
	"rep movsb; cld; mov edi, 0x10000100; mov ecx, 10000; repe scasb; mov eax, ecx; ud2");
PROGRAM(long_syscall, 64,
	"mov ecx, 0xc0000082; lea rax, [rip + 2f]; mov rdx, rax; shr rdx, 32; wrmsr\n"
	"mov ecx, 0xc0000081; xor eax, eax; mov edx, 0x00180008; wrmsr\n"
	"mov eax, 1; syscall; ud2; 2: add eax, 10; lea rdx, [rip + 3f]; push 0x23\n"
	"push rsp; pushfq; push 0x2b; push rdx; iretq; 3: mov ecx, cs; mov ax, cs; ud2");
PROGRAM(long_single_step, 64, "pushfq; or dword ptr [rsp], 0x100; popfq; nop; ud2");
PROGRAM(long_step_over_syscall, 64, /* which clears TF: the user's step ends with SYSRET */
	"mov ecx, 0xc0000082; lea rax, [rip + 2f]; mov rdx, rax; shr rdx, 32; wrmsr\n"
	"mov ecx, 0xc0000084; mov eax, 0x100; xor edx, edx; wrmsr\n"
	"mov ecx, 0xc0000081; xor eax, eax; mov edx, 0x001b0008; wrmsr\n"
	"lea rcx, [rip + 1f]; mov esp, 0x10001000; mov r11d, 0x202; sysretq\n"
	"1: pushfq; or dword ptr [rsp], 0x100; popfq; syscall; mov eax, 43; ud2\n"
	"2: mov eax, 42; sysretq");
PROGRAM(long_watch, 64,
	"mov rax, 0x10000010; mov dr0, rax; mov eax, 0x000d0001; mov dr7, rax\n"
	"mov byte ptr [0x10000012], 1; nop; ud2");
PROGRAM(long_smap, 64, "mov rax, cr4; or eax, 0x200000; mov cr4, rax; mov eax, [0x10000000]");
PROGRAM(long_umip_absent, 64, "sgdt [0x10000000]; movzx eax, word ptr [0x10000000]; ud2");
PROGRAM(long_watch_held_back, 64, /* by the load of SS that hits the watchpoint */
	"mov word ptr [0x10000010], 0x10; mov rax, 0x10000010; mov dr0, rax\n"
	"mov eax, 0x00070001; mov dr7, rax; mov ss, [0x10000010]; mov eax, 42; mov eax, 43; ud2");
PROGRAM(long_step_held_back, 64,
	"mov bx, ss; pushfq; or dword ptr [rsp], 0x100; popfq; mov ss, bx; mov eax, 42\n"
	"mov eax, 43; ud2");
PROGRAM(long_breakpoint_bits, 64, /* DR6 tells of this #DB only in bits 0 to 3 */
	"mov eax, 0xe; mov dr6, rax; lea rax, [rip + 1f]; mov dr0, rax; mov eax, 1; mov dr7, rax\n"
	"mov eax, 42; 1: nop; ud2");
PROGRAM(long_resume, 64, /* RF, as IRET sets it, lets the instruction with a breakpoint pass */
	"lea rax, [rip + 1f]; mov dr0, rax; mov ecx, 1; mov dr7, rcx; mov rcx, rsp; push 0x10\n"
	"push rcx; pushfq; bts dword ptr [rsp], 16; push 8; push rax; iretq\n"
	"1: mov eax, 42; ud2");
PROGRAM(long_resume_repeated, 64, /* and stays set until the last repetition is done */
	"lea rax, [rip + 1f]; mov dr0, rax; mov ecx, 1; mov dr7, rcx; mov rcx, rsp; push 0x10\n"
	"push rcx; pushfq; bts dword ptr [rsp], 16; push 8; push rax; mov ecx, 5\n"
	"mov edi, 0x10000000; iretq; 1: rep stosb; mov eax, 42; ud2");
PROGRAM(long_breakpoint_held_back, 64, /* by a load of SS: one right behind it is passed over */
	"lea rax, [rip + 1f]; mov dr0, rax; mov eax, 1; mov dr7, rax; mov bx, ss; mov ss, bx\n"
	"1: mov eax, 42; ud2");
PROGRAM(long_step_over_lss, 64, /* which holds nothing back */
	"mov dword ptr [0x10000000], 0xa800; mov word ptr [0x10000004], 0x10; pushfq\n"
	"or dword ptr [rsp], 0x100; mov eax, 42; popfq; lss esp, [0x10000000]; mov eax, 43; ud2");
PROGRAM(long_step_into_interrupt, 64, /* is no step: INT clears TF */
	"pushfq; or dword ptr [rsp], 0x100; popfq; int 0x21");
PROGRAM(long_null_loses_rpl, 64,
	"mov ax, 3; mov fs, ax; lea rdx, [rip + 1f]; push 0x23; push 0x10001000; pushfq\n"
	"push 0x2b; push rdx; iretq; 1: mov eax, fs; ud2");
PROGRAM(long_hypercall, 64, "mov eax, 0x7fff; vmmcall; ud2");
PROGRAM(long_amd_configuration, 64, /* HWCR and a performance counter's selector */
	"mov ecx, 0xc0010015; rdmsr; wrmsr; mov ecx, 0xc0010000; rdmsr; wrmsr; add eax, edx; ud2");
PROGRAM(long_no_bounds, 64, /* BNDCU of an address, BNDMK: nothing without MPX */
	"mov eax, 42; .byte 0xf2, 0x0f, 0x1a, 0xc0, 0xf3, 0x0f, 0x1b, 0x00; ud2");
PROGRAM(long_jump_not_canonical, 64, "mov rax, 0x800000000000; jmp rax");
PROGRAM(long_pending_before_mask, 64, /* MASKMOVQ raises what an x87 instruction has left pending */
	"fninit; push 0x37b; fldcw [rsp]; fld1; fldz; fdivp st(1), st; mov edi, 0x10000000\n"
	"maskmovq mm0, mm1; ud2");
PROGRAM(long_jump_faults_itself,
	64, /* and has not been done: the handler finds it, and its stack */
	"mov r8, rsp; lea rbx, [rip + 2f]; mov [0x80d0], bx; shr rbx, 16\n"
	"mov [0x80d6], bx; shr rbx, 16; mov [0x80d8], ebx; mov rax, 0x900000000000; push rax; push rax\n"
	"lea rdx, [rip + 1f]; 1: ret; ud2; 2: xor eax, eax; cmp [rsp + 8], rdx; sete al\n"
	"lea rcx, [r8 - 16]; cmp [rsp + 32], rcx; sete ah; ud2");
PROGRAM(long_pcid, 64,
	"mov rax, cr4; bts rax, 17; mov cr4, rax; mov rax, cr3; or eax, 5; bts rax, 63\n"
	"mov cr3, rax; mov rax, cr3; ud2");
PROGRAM(long_pcid_needs_zero, 64,
	"mov rax, cr3; or eax, 8; mov cr3, rax; mov rax, cr4; bts rax, 17; mov cr4, rax; ud2");
PROGRAM(long_null_keeps_base, 64, /* a return to user code drops the kernel's GS, not its base */
	"mov ax, 0x10; mov gs, ax; mov ecx, 0xc0000101; mov eax, 0x10000000; xor edx, edx; wrmsr\n"
	"mov dword ptr [0x10000020], 77; lea rdx, [rip + 1f]; push 0x23; push 0x10001000; pushfq\n"
	"push 0x2b; push rdx; iretq; 1: mov eax, gs:[0x20]; mov edx, gs; add eax, edx; ud2");
PROGRAM(compat_syscall, 64,
	"mov ecx, 0xc0000083; lea rax, [rip + 2f]; mov rdx, rax; shr rdx, 32; wrmsr\n"
	"mov ecx, 0xc0000081; xor eax, eax; mov edx, 0x00180008; wrmsr\n"
	"lea rdx, [rip + 1f]; push 0x23; push 0x10001000; pushfq; push 0x1b; push rdx; iretq\n"
	".code32\n1: mov eax, 40; syscall; ud2\n.code64\n2: add eax, 2; ud2");
PROGRAM(compat_add, 32,
	"mov eax, 0xffffffff; inc eax; mov eax, 0x10000000; mov [eax], eax; sub eax, [eax]; sbb eax, -7; ud2");

enum need {
	NEED_HARDWARE = 1, /* a /dev/kvm that only emulates does not do it, or not right */
	NEED_AMD = 2,
	NEED_PCID = 4,
};

struct program {
	const char *name;
	const uint8_t *begin, *end;
	enum guest_mode mode;
	unsigned int vector; /* or AT_THE_END */
	uint32_t error;
	uint64_t rax;       /* at the end, and if not 0 */
	unsigned int needs; /* enum need */
};

enum { AT_THE_END = 256 };

#define RUNS(name, mode, rax, needs)                                                               \
	{                                                                                          \
#name, name##_begin, name##_end, mode, AT_THE_END, 0, rax, needs                   \
	}
#define FAULTS(name, mode, vector, error, needs)                                                   \
	{                                                                                          \
#name, name##_begin, name##_end, mode, vector, error, 0, needs                     \
	}
#define TRAPS(name, mode, rax, needs)                                                              \
	{                                                                                          \
#name, name##_begin, name##_end, mode, 1, 0, rax, needs                            \
	}

static const struct program programs[] = {
	RUNS(real_loop, GUEST_REAL, 5050, 0),
	RUNS(real_segments, GUEST_REAL, 0xbeef, 0),
	RUNS(real_interrupt_table, GUEST_REAL, 0x42, 0),
	FAULTS(real_limit, GUEST_REAL, 13, 0, 0),
	RUNS(real_wide_operands, GUEST_REAL, 0x34567824, 0),
	RUNS(real_to_long, GUEST_REAL, 0x123456789abcdef0, 0),
	RUNS(protected_decimal, GUEST_PROTECTED, 0x200, NEED_HARDWARE),
	RUNS(protected_stack, GUEST_PROTECTED, 0, 0),
	RUNS(protected_far_call, GUEST_PROTECTED, 42, 0),
	FAULTS(protected_limit, GUEST_PROTECTED, 13, 0, 0),
	RUNS(long_fibonacci, GUEST_LONG_USER, 2880067194370816120, 0),
	RUNS(long_self_modifying, GUEST_LONG_USER, 42, 0),
	RUNS(long_modifies_next, GUEST_LONG_USER, 42, 0),
	FAULTS(long_read_only, GUEST_LONG_USER, 14, 7, 0),
	FAULTS(long_supervisor_page, GUEST_LONG_USER, 14, 5, 0),
	FAULTS(long_not_present, GUEST_LONG_USER, 14, 4, 0),
	FAULTS(long_fetch, GUEST_LONG_USER, 14, 0x14, 0),
	FAULTS(long_not_canonical, GUEST_LONG_USER, 13, 0, 0),
	FAULTS(long_stack_not_canonical, GUEST_LONG_USER, 12, 0, 0),
	FAULTS(long_call_from_no_stack, GUEST_LONG_USER, 12, 0, 0),
	FAULTS(long_privileged, GUEST_LONG_USER, 13, 0, 0),
	FAULTS(long_divide, GUEST_LONG_USER, 0, 0, 0),
	FAULTS(long_undefined, GUEST_LONG_USER, 6, 0, 0),
	FAULTS(protected_breakpoint, GUEST_PROTECTED, 3, 0, NEED_HARDWARE),
	FAULTS(long_breakpoint, GUEST_LONG_KERNEL, 3, 0, NEED_HARDWARE),
	FAULTS(long_breakpoint, GUEST_LONG_USER, 3, 0, 0),
	FAULTS(long_misaligned, GUEST_LONG_USER, 13, 0, 0),
	RUNS(long_split_pages, GUEST_LONG_KERNEL, 0x1122334455667789, 0),
	RUNS(long_strings, GUEST_LONG_KERNEL, 999, 0),
	RUNS(long_syscall, GUEST_LONG_KERNEL, 0x2b, NEED_HARDWARE),
	TRAPS(long_single_step, GUEST_LONG_KERNEL, 0, 0),
	TRAPS(long_step_over_syscall, GUEST_LONG_KERNEL, 42, NEED_HARDWARE),
	TRAPS(long_watch, GUEST_LONG_KERNEL, 0, NEED_HARDWARE),
	FAULTS(long_smap, GUEST_LONG_KERNEL, 14, 1, 0),
	RUNS(long_umip_absent, GUEST_LONG_USER, 0x47, 0),
	TRAPS(long_watch_held_back, GUEST_LONG_KERNEL, 42, NEED_HARDWARE),
	TRAPS(long_step_held_back, GUEST_LONG_KERNEL, 42, NEED_HARDWARE),
	RUNS(long_resume, GUEST_LONG_KERNEL, 42, 0),
	RUNS(long_resume_repeated, GUEST_LONG_KERNEL, 42, NEED_HARDWARE),
	RUNS(long_breakpoint_held_back, GUEST_LONG_KERNEL, 42, NEED_HARDWARE),
	TRAPS(long_step_over_lss, GUEST_LONG_KERNEL, 42, NEED_HARDWARE),
	FAULTS(long_step_into_interrupt, GUEST_LONG_KERNEL, 0x21, 0, NEED_HARDWARE),
	RUNS(long_null_loses_rpl, GUEST_LONG_KERNEL, 0, 0),
	TRAPS(long_breakpoint_bits, GUEST_LONG_KERNEL, 42, 0),
	RUNS(long_hypercall, GUEST_LONG_KERNEL, (uint64_t)-1000, NEED_HARDWARE),
	RUNS(long_amd_configuration, GUEST_LONG_KERNEL, 0, NEED_AMD),
	RUNS(long_no_bounds, GUEST_LONG_KERNEL, 42, NEED_HARDWARE),
	FAULTS(long_jump_not_canonical, GUEST_LONG_KERNEL, 13, 0, 0),
	FAULTS(long_pending_before_mask, GUEST_LONG_KERNEL, 16, 0, NEED_HARDWARE),
	RUNS(long_jump_faults_itself, GUEST_LONG_KERNEL, 0x101, 0),
	RUNS(long_pcid, GUEST_LONG_KERNEL, 0x1005, NEED_PCID),
	FAULTS(long_pcid_needs_zero, GUEST_LONG_KERNEL, 13, 0, NEED_PCID),
	RUNS(long_null_keeps_base, GUEST_LONG_KERNEL, 77, 0),
	RUNS(compat_syscall, GUEST_LONG_KERNEL, 42, NEED_AMD),
	RUNS(compat_add, GUEST_COMPAT_USER, 7, 0),
};

/* Each program begins at a multiple of 64 KiB. */
static bool is_at_the_end(const struct program *p, const struct guest_fault *fault)
{
	const size_t at = fault->rip & 0xffff, size = (size_t)(p->end - p->begin);

	if (fault->vector == 3)
		return at > 0 && at <= size && p->begin[at - 1] == 0xcc;
	return fault->vector == 6 && at + 2 <= size && p->begin[at] == 0x0f &&
	       p->begin[at + 1] == 0x0b;
}

static void run_program(struct guest *g, const struct program *p)
{
	struct guest_fault fault;
	struct cpu_state state;
	bool ended, well;

	guest_load(g, p->mode, p->begin, (uint64_t)(p->end - p->begin));
	guest_start_state(g, p->mode, &state);
	if (p->mode <= GUEST_LONG_KERNEL)
		state.gpr[CPU_RSP] = p->mode == GUEST_LONG_KERNEL ? 0xa800 : GUEST_DATA + 0x2000;
	assert_int_equal(g->vm->accel->set_state(g->vcpu, &state), 0);
	if (!guest_run_to_fault(g, &state, &fault))
		fail_msg("%s does not reach a handler: rip %#lx", p->name, state.rip);
	ended = p->vector == AT_THE_END;
	well = ended ? is_at_the_end(p, &fault)
		     : fault.vector == p->vector && fault.error == p->error;
	if (!well || ((ended || p->rax) && state.gpr[CPU_RAX] != p->rax))
		fail_msg("%s: vector %u error %#x rip %#lx rax %#lx", p->name, fault.vector,
			 fault.error, fault.rip, state.gpr[CPU_RAX]);
}

/* A page that user code may not write, for long_read_only. */
static void protect_second_page(struct guest *g)
{
	g->memory[0x5008] &= (uint8_t)~2u;
}

static bool has_pcid(const struct guest *g)
{
	const struct kvm_cpuid2 *cpuid = kvm_vm_of(g->vm)->cpuid;

	for (unsigned int i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			return cpuid->entries[i].ecx & 1u << 17;
	return false;
}

static void run_all(const struct cpu_accel *accel, unsigned int missing)
{
	unsigned int ebx = 0, unused;

	__get_cpuid(0, &unused, &ebx, &unused, &unused);
	if (ebx != signature_AMD_ebx)
		missing |= NEED_AMD;
	for (unsigned int i = 0; i < sizeof(programs) / sizeof(*programs); i++) {
		const struct program *p = &programs[i];
		struct error err = {0};
		struct guest g;

		if (guest_open_on(&g, accel, &err) < 0)
			fail_msg("%s: %s", accel->name, err.text);
		if (p->vector == 14)
			protect_second_page(&g);
		if (accel == &cpu_accel_kvm && !has_pcid(&g))
			missing |= NEED_PCID;
		if (p->needs & missing)
			print_message("%s is NOT tested on this CPU of %s\n", p->name, accel->name);
		else
			run_program(&g, p);
		guest_close(&g);
	}
}

static void programs_have_their_known_results(void **unused)
{
	(void)unused;
	run_all(&cpu_accel_soft, 0);
}

static void programs_have_the_same_results_on_kvm(void **unused)
{
	double ns_per_loop;
	enum kvm_quality quality = kvm_probe(&ns_per_loop);

	(void)unused;
	if (quality == KVM_ABSENT) {
		print_message("no /dev/kvm here: the accelerator kvm is NOT tested\n");
		skip();
	}
	run_all(&cpu_accel_kvm, quality == KVM_EMULATED ? NEED_HARDWARE : 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(programs_have_their_known_results),
		cmocka_unit_test(programs_have_the_same_results_on_kvm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
