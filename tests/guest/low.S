/* A kernel of 128 KiB whose bytes must all be there: it adds them up. Prints its command line; ends with 1
 * if the sum is right. Linked to low addresses by the test. */
	.set SIZE, 0x20000
#include "multiboot.inc"
	mov	16(%ebx), %esi		/* the command line */
	mov	$0x3f8, %edx
1:	lodsb
	test	%al, %al
	jz	2f
	out	%al, %dx
	jmp	1b
2:	mov	$filler, %esi
	mov	$SIZE, %ecx
	xor	%ebx, %ebx
	xor	%eax, %eax
3:	lodsb
	add	%eax, %ebx
	loop	3b
	cmp	$SIZE * 0x5a, %ebx
	setne	%al
	mov	$0xf4, %edx
	out	%al, %dx
	hlt
filler:	.fill	SIZE, 1, 0x5a
