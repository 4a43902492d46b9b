/* A multiboot kernel that says hello on the serial line and ends with code 21 * 2 + 1. */
#include "multiboot.inc"
	cmp	$0x2badb002, %eax
	jne	fail
	cmpw	$0x9fc0, 0x40e		/* where low memory ends, as a BIOS notes it */
	jne	fail
	cmpw	$639, 0x413
	jne	fail
	mov	$text, %esi
1:	lodsb
	test	%al, %al
	jz	2f
	mov	$0x3f8, %dx
	outb	%al, %dx
	jmp	1b
2:	mov	$21, %al
	jmp	end
fail:	mov	$0, %al
end:	mov	$0xf4, %dx
	outb	%al, %dx
	hlt
	jmp	end
text:	.asciz	"hello from the guest\n"
