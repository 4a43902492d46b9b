/* Resets the machine once, by the keyboard controller; the CMOS memory outlives that. Ends with code
 * 1 * 2 + 1 the second time. */
#include "multiboot.inc"
	mov	$0x60, %al		/* a byte of CMOS memory that nobody uses */
	outb	%al, $0x70
	inb	$0x71, %al
	mov	$second, %esi
	cmp	$0x5a, %al
	je	1f
	mov	$first, %esi
1:	mov	%al, %bl
2:	lodsb
	test	%al, %al
	jz	3f
	mov	$0x3f8, %dx
	outb	%al, %dx
	jmp	2b
3:	cmp	$0x5a, %bl
	je	4f
	mov	$0x60, %al
	outb	%al, $0x70
	mov	$0x5a, %al
	outb	%al, $0x71
	mov	$0xfe, %al
	outb	%al, $0x64
	/* No instruction may run after the one that resets. */
	mov	$0, %al
	mov	$0xf4, %dx
	outb	%al, %dx
4:	mov	$1, %al
	mov	$0xf4, %dx
	outb	%al, %dx
	hlt
first:	.asciz	"first\n"
second:	.asciz	"second\n"
