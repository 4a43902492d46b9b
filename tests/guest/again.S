/* Resets the machine by the keyboard controller, again and again. Ends with 1 if an instruction runs after the one
 * that resets. */
#include "multiboot.inc"
	mov	$0xfe, %al
	outb	%al, $0x64
	mov	$0, %al
	out	%al, $0xf4
	hlt
