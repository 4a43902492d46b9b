/* Says that it has started, then faults with no interrupt table: a triple fault, which resets. */
	.code32
	.section .text
	.align 4
	.long 0x1badb002, 0, -0x1badb002
	.globl _start
_start:
	mov	$text, %esi
1:	lodsb
	test	%al, %al
	jz	2f
	mov	$0x3f8, %dx
	outb	%al, %dx
	jmp	1b
2:	lidt	empty
	ud2
empty:	.word	0
	.long	0
text:	.asciz	"started\n"
