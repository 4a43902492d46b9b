/* From multiboot's 32 bits, and for the other CPUs from real mode, to long mode and smp.c. Physical memory is
 * mapped as it is, 4 GiB in pages of 2 MiB; smp.c has one table for pages of its own at `OWN_PAGES`. */
	.set TRAMPOLINE, 0x8000
	.set STACK_SIZE, 8192
	.set CPUS_MAX, 8
	.section .text
	.code32
	.balign	4
	.long	0x1badb002, 0, -0x1badb002
	.globl	_start
_start:
	mov	16(%ebx), %eax
	mov	%eax, command_line
	mov	$pointers + 3, %eax
	mov	%eax, top
	movl	$own_pointers + 3, top + 8
	movl	$own_directory + 3, own_pointers
	movl	$own_pages + 3, own_directory
	mov	$directories + 3, %eax
	mov	$pointers, %edi
	mov	$4, %ecx
1:	mov	%eax, (%edi)
	add	$8, %edi
	add	$4096, %eax
	loop	1b
	mov	$0x83, %eax		/* present, writable, 2 MiB */
	mov	$directories, %edi
	mov	$2048, %ecx
2:	mov	%eax, (%edi)
	add	$8, %edi
	add	$0x200000, %eax
	loop	2b
	mov	$trampoline, %esi
	mov	$TRAMPOLINE, %edi
	mov	$trampoline_end - trampoline, %ecx
	cld
	rep movsb
	lgdt	gdt_pointer
second:	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	mov	%eax, %cr4
	mov	$top, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax		/* LME */
	wrmsr
	mov	%cr0, %eax
	or	$0x80000001, %eax
	mov	%eax, %cr0
	ljmp	$8, $3f
	.code64
3:	mov	$1, %edi		/* its place among the stacks */
	lock xadd %edi, started
	lea	1(%rdi), %esp
	imul	$STACK_SIZE, %esp
	add	$stacks, %esp
	call	smp_main
4:	hlt
	jmp	4b

	.code16
trampoline:
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	trampoline_gdt - trampoline
	mov	%cr0, %eax
	or	$1, %eax
	mov	%eax, %cr0
	ljmpl	$24, $second
trampoline_gdt:
	.word	31
	.long	gdt
trampoline_end:

	.data
	.balign	8
gdt:	.quad	0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff
gdt_pointer:
	.word	31
	.long	gdt
	.globl	command_line, started
command_line:
	.quad	0
started:
	.long	0

	.bss
	.balign	4096
top:	.skip	4096
pointers:
	.skip	4096
directories:
	.skip	4 * 4096
own_pointers:
	.skip	4096
own_directory:
	.skip	4096
	.globl	own_pages
own_pages:
	.skip	4096
stacks:	.skip	CPUS_MAX * STACK_SIZE
	.section .note.GNU-stack, "", @progbits
