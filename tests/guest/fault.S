/* Says that it has started, then faults with no interrupt table: a triple fault, which resets. */
#include "multiboot.inc"
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
