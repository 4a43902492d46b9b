/* A program for UEFI firmware, with its headers written by hand (PE32+, Microsoft's PE format): says whether
 * its variable is there, sets it, says whether there are ACPI tables, and resets the machine if it was not,
 * or else powers it off. */
	.set	ALIGN, 0x1000
	.set	BASE, 0
	.text
	.globl _start
_start:
	.ascii	"MZ"
	.org	0x3c
	.long	0x40
	.org	0x40
	.ascii	"PE\0\0"
	.word	0x8664, 1		/* x86-64, one section */
	.long	0, 0, 0
	.word	optional_end - optional, 0x22e
optional:
	.word	0x20b, 0
	.long	text_end - text, 0, 0, text - _start, text - _start
	.quad	BASE
	.long	ALIGN, 0x200
	.word	0, 0, 0, 0, 0, 0
	.long	0, text_end - _start, text - _start, 0
	.word	10, 0			/* an EFI application */
	.quad	0, 0, 0, 0
	.long	0, 6
	.quad	0, 0, 0, 0, 0, 0
optional_end:
	.ascii	".text\0\0\0"
	.long	text_end - text, text - _start, text_end - text, text - _start
	.long	0, 0, 0, 0xe0000020
	.org	ALIGN
text:	/* rcx: our handle, rdx: the system table */
	push	%rbx
	push	%rsi
	sub	$0x48, %rsp
	mov	%rdx, %rbx
	/* GetVariable(name, vendor, NULL, &size, data) */
	lea	name(%rip), %rcx
	lea	vendor(%rip), %rdx
	xor	%r8, %r8
	lea	size(%rip), %r9
	lea	data(%rip), %rax
	mov	%rax, 0x20(%rsp)
	mov	0x58(%rbx), %rax
	call	*0x48(%rax)
	lea	again(%rip), %rdx
	test	%rax, %rax
	setnz	new(%rip)
	jz	1f
	lea	first(%rip), %rdx
1:	call	say
	/* SetVariable(name, vendor, non-volatile | boot services, 4, data) */
	lea	name(%rip), %rcx
	lea	vendor(%rip), %rdx
	mov	$3, %r8d
	mov	$4, %r9d
	lea	data(%rip), %rax
	mov	%rax, 0x20(%rsp)
	mov	0x58(%rbx), %rax
	call	*0x58(%rax)
	/* Among the configuration tables: ACPI's, of version 2 on. */
	mov	0x68(%rbx), %rcx
	mov	0x70(%rbx), %rsi
	lea	none(%rip), %rdx
2:	test	%rcx, %rcx
	jz	4f
	mov	acpi(%rip), %rax
	cmp	%rax, (%rsi)
	jne	3f
	mov	acpi + 8(%rip), %rax
	cmp	%rax, 8(%rsi)
	jne	3f
	mov	16(%rsi), %rax		/* the RSDP; at 24 its XSDT */
	mov	24(%rax), %rax
	cmpl	$0x54445358, (%rax)
	jne	3f
	lea	found(%rip), %rdx
	jmp	4f
3:	add	$24, %rsi
	dec	%rcx
	jmp	2b
4:	call	say
	/* ResetSystem(shutdown or cold, 0, 0, NULL) */
	mov	$2, %ecx
	cmpb	$0, new(%rip)
	jz	6f
	xor	%ecx, %ecx
6:
	xor	%edx, %edx
	xor	%r8, %r8
	xor	%r9, %r9
	mov	0x58(%rbx), %rax
	call	*0x68(%rax)
5:	jmp	5b

say:	/* ConOut->OutputString(ConOut, rdx) */
	sub	$0x28, %rsp
	mov	0x40(%rbx), %rcx
	call	*8(%rcx)
	add	$0x28, %rsp
	ret

	.align	8
acpi:	.long	0x8868e871
	.word	0xe4f1, 0x11d3
	.byte	0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81
vendor:	.long	0x5a3c1d10
	.word	0x77aa, 0x4b0e
	.byte	0x91, 0x11, 0x42, 0x45, 0x52, 0x54, 0x48, 0x21
size:	.quad	4
data:	.long	0x68747262
new:	.byte	0
	.macro	wide text
	.irpc	c, "\text"
	.ascii	"\c\0"
	.endr
	.endm
name:	wide	sample
	.word	0
first:	wide	the-first-time
	.word	13, 10, 0
again:	wide	once-again
	.word	13, 10, 0
found:	wide	ACPI-found
	.word	13, 10, 0
none:	wide	no-ACPI
	.word	13, 10, 0
	.org	0x1400
text_end:
