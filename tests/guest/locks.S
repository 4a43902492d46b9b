/* Locked instructions of two CPUs on the same operands: aligned, across two cache lines, across two pages,
 * and across two pages that are no neighbours in memory. Ends with 1 if no addition was lost, else with
 * 2 * (the operand's number) + 1. */
	.set ROUNDS, 20000
	.set APIC_ICR, 0xfee00300
	.set TRAMPOLINE, 0x8000
	.set DIRECTORY, 0x300000
	.set TABLE, 0x301000		/* maps two pages at 1 GiB, in the wrong order */
	.set LOW, 0x304000
	.set HIGH, 0x306000
	.set MAPPED, 0x40000000
	.set LINE, LOW + 62
	.set ACROSS, LOW + 0xffe
	.set APART, MAPPED + 0xffe
	.code32
	.section .text
	.align 4
	.long 0x1badb002, 0, -0x1badb002
	.globl _start
_start:
	mov	$stack, %esp
	mov	$DIRECTORY, %edi
	mov	$0x83, %eax		/* present, writable, 4 MiB */
	mov	$1024, %ecx
1:	mov	%eax, (%edi)
	add	$4, %edi
	add	$0x400000, %eax
	loop	1b
	movl	$TABLE + 3, DIRECTORY + (MAPPED >> 20)
	movl	$HIGH + 3, TABLE
	movl	$LOW + 0x1000 + 3, TABLE + 4
	call	paging
	mov	$trampoline, %esi
	mov	$TRAMPOLINE, %edi
	mov	$trampoline_end - trampoline, %ecx
	cld
	rep movsb
	movl	$0xc4500, APIC_ICR	/* INIT, then startup, to all the others */
	movl	$0xc4600 + (TRAMPOLINE >> 12), APIC_ICR
	call	work
1:	pause
	cmpl	$2, finished
	jne	1b
	mov	$1, %bl
	mov	$sums, %esi
2:	mov	(%esi), %edi
	test	%edi, %edi
	jz	3f
	cmpl	$2 * ROUNDS, (%edi)
	jne	end
	inc	%bl
	add	$4, %esi
	jmp	2b
3:	mov	$0, %bl
end:	mov	%bl, %al
	out	%al, $0xf4
	hlt

paging:	mov	$DIRECTORY, %eax
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$0x10, %eax
	mov	%eax, %cr4
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	ret

work:	lock incl present
1:	pause
	cmpl	$2, present
	jne	1b
	mov	$ROUNDS, %ecx
2:	lock incl aligned
	lock addl $1, LINE
	lock addl $1, ACROSS
	mov	$1, %eax
	lock xadd %eax, APART
	loop	2b
	lock incl finished
	ret

	.code16
trampoline:
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	gdt_pointer - trampoline
	mov	%cr0, %eax
	or	$1, %eax
	mov	%eax, %cr0
	ljmpl	$8, $second
gdt_pointer:
	.word	23
	.long	gdt
trampoline_end:
	.code32
second:	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %ss
	mov	$stack2, %esp
	call	paging
	call	work
1:	hlt
	jmp	1b

	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
sums:	.long	aligned, LINE, ACROSS, APART, 0
	.balign	64
aligned: .long	0
	.balign	64
present: .long	0
finished: .long	0
	.skip	256
stack:	.skip	256
stack2:
