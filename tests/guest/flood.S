/* A multiboot kernel that says the same letter on its serial line for ever, without a look whether it is taken. */
#include "multiboot.inc"
	mov	$0x3f8, %dx
	mov	$'f', %al
1:	outb	%al, %dx
	jmp	1b
