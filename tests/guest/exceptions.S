/* Exceptions that the host's CPU raises for the software CPU. The command line has a letter for each: `d` a
 * division, `p` a misaligned SSE operand, `u` an undefined instruction, `x` and `s` x87 and SSE arithmetic with
 * unmasked exceptions. Each handler prints its letter and goes on behind the instruction. How it returns is the
 * subject only of `u`, which takes IRET. Ends with 1 if all that were asked for came. */
#include "multiboot.inc"
	mov	$stack, %esp
	cld
	mov	16(%ebx), %esi		/* the command line */
	lgdt	gdtr
	ljmp	$8, $1f
1:	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	.macro	trap vector, handler
	mov	$\handler, %eax
	mov	%ax, idt + \vector * 8
	movw	$8, idt + \vector * 8 + 2
	movw	$0x8e00, idt + \vector * 8 + 4
	shr	$16, %eax
	mov	%ax, idt + \vector * 8 + 6
	.endm
	trap	0, on_divide
	trap	6, on_undefined
	trap	13, on_protection
	trap	16, on_x87
	trap	19, on_simd
	lidt	idtr
	mov	%cr4, %eax
	or	$0x600, %eax		/* OSFXSR, OSXMMEXCPT */
	mov	%eax, %cr4
	mov	%cr0, %eax
	or	$0x22, %eax		/* NE, MP */
	mov	%eax, %cr0

name:	lodsb				/* the kernel's name */
	test	%al, %al
	jz	end
	cmp	$' ', %al
	jne	name
next:	lodsb
	test	%al, %al
	jz	end
	incl	wanted
	.macro	part letter, to
	cmp	$\letter, %al
	je	\to
	.endm
	part	'd', divide
	part	'p', protection
	part	'u', undefined
	part	'x', x87
	part	's', simd
end:	mov	$'\n', %al
	call	print
	mov	count, %eax
	cmp	wanted, %eax
	setne	%al
	out	%al, $0xf4
	hlt

divide:	xor	%edx, %edx
	xor	%ecx, %ecx
	mov	$next, %edi
	div	%ecx
	jmp	next
protection:
	mov	$next, %edi
	movaps	one + 1, %xmm1
	jmp	next
undefined:
	mov	$next, %edi
	ud2
	jmp	next
x87:	fninit
	fldcw	control
	fld1
	fldz
	fdivrp
	mov	$1f, %edi
	fwait
1:	fnclex
	jmp	next
simd:	ldmxcsr	mxcsr
	movss	one, %xmm0
	mov	$next, %edi
	divss	zero, %xmm0
	jmp	next

	/* EDI: where to go on. The stack has the flags, CS and EIP, and for some an error code. */
	.macro	handler name, letter, words=0
\name:	mov	$\letter, %al
	call	print
	incl	count
	add	$4 * (2 + \words), %esp
	popf
	jmp	*%edi
	.endm
	handler	on_divide, 'd'
	handler	on_x87, 'x'
	handler	on_simd, 's'
	handler	on_protection, 'p', 1
on_undefined:
	mov	$'u', %al
	call	print
	incl	count
	mov	%edi, (%esp)
	iret

print:	mov	$0x3f8, %dx
	out	%al, %dx
	ret

	.balign	16
one:	.float	1, 0, 0, 0, 0, 0, 0, 0
zero:	.float	0
control: .long	0x340			/* nothing masked */
mxcsr:	.long	0
wanted:	.long	0
count:	.long	0
	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word	23
	.long	gdt
idtr:	.word	20 * 8 - 1
	.long	idt
	.balign	8
idt:	.skip	20 * 8
	.skip	256
stack:
