/* Resets the machine by the keyboard controller, again and again. Ends with 1 if an instruction runs after the one
 * that resets. */
	.code32
	.section .text
	.align 4
	.long 0x1badb002, 0, -0x1badb002
	.globl _start
_start:
	mov	$0xfe, %al
	outb	%al, $0x64
	mov	$0, %al
	out	%al, $0xf4
	hlt
