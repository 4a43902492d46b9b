/* A multiboot kernel that says the same letter on its serial line for ever, without a look whether it is taken. */
	.code32
	.section .text
	.align 4
	.long 0x1badb002, 0, -0x1badb002
	.globl _start
_start:
	mov	$0x3f8, %dx
	mov	$'f', %al
1:	outb	%al, %dx
	jmp	1b
