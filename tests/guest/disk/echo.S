/* A boot sector that is a whole system: it says "ready" on the serial line, sends back what it is sent, and
 * powers the machine off when the power button is pressed, after "bye". "w" writes the first byte of the
 * second disk's first sector, if there is one, "r" resets the machine, and "d" makes it deaf to the button. */
	.include "sector.inc"
	begin
	mov	$ready, %si
	call	say
loop:	/* The BIOS would take what is typed for its keyboard, at every tick of its clock. */
	cli
	/* PM1's status: the button */
	cmpb	$0, deaf
	jne	1f
	mov	$0x600, %dx
	inw	%dx, %ax
	test	$0x100, %ax
	jnz	off
1:	/* The line's status: a byte has come. */
	mov	$0x3fd, %dx
	inb	%dx, %al
	test	$1, %al
	jz	loop
	mov	$0x3f8, %dx
	inb	%dx, %al
	cmp	$'d', %al
	je	hear
	cmp	$'w', %al
	je	write
	cmp	$'r', %al
	je	reset
	outb	%al, %dx
	jmp	loop
hear:	movb	$1, deaf
	mov	$is_deaf, %si
	call	say
	jmp	loop
write:	/* int 0x13, 0x43: the extended write */
	mov	$packet, %si
	mov	$0x81, %dl
	mov	$0x4300, %ax
	int	$0x13
	mov	$written, %si
	jnc	2f
	mov	$failed, %si
2:	call	say
	jmp	loop
reset:	mov	$0xfe, %al
	outb	%al, $0x64
	jmp	reset
off:	mov	$bye, %si
	call	say
	power_off

	say_text
	disk_packet 0x7c00, 0
deaf:	.byte	0
ready:	.asciz	"ready\n"
is_deaf: .asciz	"deaf\n"
written: .asciz	"written\n"
failed:	.asciz	"failed\n"
bye:	.asciz	"bye\n"
	.org	510
	.byte	0x55, 0xaa
