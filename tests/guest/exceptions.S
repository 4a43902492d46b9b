/* Exceptions that the host's CPU raises for the software CPU: a division, x87 and SSE arithmetic with
 * unmasked exceptions, and a misaligned SSE operand. Each handler prints its letter and goes on behind
 * the instruction. Ends with 1 if all came in order. */
	.code32
	.section .text
	.align 4
	.long 0x1badb002, 0, -0x1badb002
	.globl _start
_start:
	mov	$stack, %esp
	.macro	trap vector, handler
	mov	$\handler, %eax
	mov	%ax, idt + \vector * 8
	movw	$0x10, idt + \vector * 8 + 2
	movw	$0x8e00, idt + \vector * 8 + 4
	shr	$16, %eax
	mov	%ax, idt + \vector * 8 + 6
	.endm
	trap	0, divide
	trap	13, protection
	trap	16, x87
	trap	19, simd
	lidt	idtr
	mov	%cr4, %eax
	or	$0x600, %eax		/* OSFXSR, OSXMMEXCPT */
	mov	%eax, %cr4

	xor	%edx, %edx
	xor	%ecx, %ecx
	mov	$1f, %edi
	div	%ecx
1:	fninit
	fldcw	control
	fld1
	fldz
	fdivrp
	mov	$1f, %edi
	fwait
1:	ldmxcsr	mxcsr
	movss	one, %xmm0
	mov	$1f, %edi
	divss	zero, %xmm0
1:	mov	$1f, %edi
	movaps	one + 1, %xmm1
1:	mov	$'\n', %al
	call	print
	mov	$0, %al
	cmpl	$4, count
	je	end
	mov	$1, %al
end:	out	%al, $0xf4
	hlt

	.macro	handler name, letter, words
\name:	mov	$\letter, %al
	call	print
	incl	count
	fnclex
	add	$4 * \words, %esp	/* the error code */
	mov	%edi, (%esp)
	iret
	.endm
	handler	divide, 'd', 0
	handler	x87, 'x', 0
	handler	simd, 's', 0
	handler	protection, 'p', 1

print:	mov	$0x3f8, %dx
	out	%al, %dx
	ret

	.balign	16
one:	.float	1, 0, 0, 0, 0, 0, 0, 0
zero:	.float	0
control: .long	0x340			/* nothing masked */
mxcsr:	.long	0
count:	.long	0
idtr:	.word	20 * 8 - 1
	.long	idt
	.balign	8
idt:	.skip	20 * 8
	.skip	256
stack:
