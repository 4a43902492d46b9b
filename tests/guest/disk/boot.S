/* A boot sector: reads the second sector by the BIOS, asks it for the memory map, says what it found on
 * the serial line, and powers the machine off by ACPI's fixed hardware. */
	.include "sector.inc"
	begin
	mov	%dl, drive
	/* int 0x13, 0x42: the extended read, of one sector to 0x8000 */
	mov	$packet, %si
	mov	$0x42, %ah
	int	$0x13
	jc	fail
	cli				/* at its clock's next tick the BIOS would go on with what it still has to say */
	mov	$0x8000, %si
	call	say
	/* int 0x15, 0xe820: is the second range there? */
	mov	$0xe820, %eax
	mov	$0x534d4150, %edx
	xor	%ebx, %ebx
	mov	$20, %ecx
	mov	$0x9000, %di
	int	$0x15
	jc	fail
	cmp	$0x534d4150, %eax
	jne	fail
	/* The root of the ACPI tables, where systems look for it. */
	mov	$0xe000, %ax
1:	mov	%ax, %es
	cmpl	$0x20445352, %es:0
	jne	2f
	cmpl	$0x20525450, %es:4
	je	found
2:	inc	%ax
	jnz	1b
fail:	mov	$failed, %si
	call	say
	jmp	off
found:	mov	$good, %si
	call	say
off:	power_off

	say_text
	disk_packet 0x8000, 1
drive:	.byte	0
good:	.asciz	" ACPI found\n"
failed:	.asciz	" failed\n"
	.org	510
	.byte	0x55, 0xaa
	.ascii	"the second sector:"
	.org	1024
