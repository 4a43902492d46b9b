/* A multiboot kernel that lives by its timer: the interval timer interrupts it a hundred times a second;
 * at every tenth interrupt it writes the next letter of the alphabet on a line of its own, and behind z
 * it ends with code 21 * 2 + 1. The letter is in memory, the count of interrupts in a register. */
#include "multiboot.inc"
	cli
	mov	$stack, %esp
	lgdt	gdt_pointer
	ljmp	$8, $1f
1:	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	/* the gate of vector 0x20 */
	mov	$tick, %eax
	mov	%ax, idt + 0x20 * 8
	movw	$8, idt + 0x20 * 8 + 2
	movw	$0x8e00, idt + 0x20 * 8 + 4
	shr	$16, %eax
	mov	%ax, idt + 0x20 * 8 + 6
	lidt	idt_pointer
	/* the interrupt controllers: vectors from 0x20, only line 0 */
	mov	$setup, %esi
2:	lodsw
	test	%ax, %ax
	jz	3f
	movzbl	%ah, %edx
	outb	%al, %dx
	jmp	2b
3:	mov	$0x34, %al		/* counter 0: a rate, both bytes */
	out	%al, $0x43
	mov	$11932 & 0xff, %al
	out	%al, $0x40
	mov	$11932 >> 8, %al
	out	%al, $0x40
	xor	%ebx, %ebx
	sti
4:	hlt
	jmp	4b

tick:	mov	$0x20, %al
	out	%al, $0x20
	inc	%ebx
	cmp	$10, %ebx
	jb	5f
	xor	%ebx, %ebx
	mov	$0x3f8, %dx
	mov	letter, %al
	outb	%al, %dx
	incb	letter
	mov	$'\n', %al
	outb	%al, %dx
	cmpb	$'z', letter
	jbe	5f
	mov	$0xf4, %dx
	mov	$21, %al
	outb	%al, %dx
	/* Not IRET, which KVM's own emulator does not know: the loop is all that there is to return to. */
5:	add	$12, %esp
	sti
	jmp	4b

	.align 8
gdt:	.quad	0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
	.word	. - gdt - 1
	.long	gdt
idt_pointer:
	.word	0x21 * 8 - 1
	.long	idt
/* value, port */
setup:	.byte	0x11, 0x20, 0x11, 0xa0, 0x20, 0x21, 0x28, 0xa1, 0x04, 0x21, 0x02, 0xa1
	.byte	0x01, 0x21, 0x01, 0xa1, 0xfe, 0x21, 0xff, 0xa1, 0, 0
letter:	.byte	'a'
	.section .bss
	.align 16
idt:	.skip	0x21 * 8
	.skip	1024
stack:
