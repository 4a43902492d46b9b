/* A bzImage without a payload: one setup sector, then 32-bit code that is entered where its header wants
 * to be. It prints its command line and ends with the first byte of its initial RAM disk. */
	.set SETUP, 512		/* after the boot sector; "objcopy -O binary" makes the file */
	.code32
	.section .text
	.globl _start
_start:
image:	.org 0x1f1
	.byte	1		/* setup sectors */
	.org 0x1fe
	.word	0xaa55
	.byte	0xeb, 0x62	/* the header ends at 0x264 */
	.ascii	"HdrS"
	.word	0x20c
	.org 0x211
	.byte	1		/* loaded high */
	.org 0x214
	.long	0x100000
	.org 0x22c
	.long	0x7fffffff	/* where the initial RAM disk may end */
	.org 0x258
	.quad	0x200000	/* where it wants to be */
	.long	0x10000		/* and what it needs there */
	.org 2 * SETUP
code:	mov	$0x80000, %esp
	call	1f
1:	cmpl	$0x20000a, (%esp)	/* is it there? */
	jne	bad
	cmpl	$0x53726448, 0x202(%esi)	/* the header came along */
	jne	bad
	cmpw	$0x20c, 0x206(%esi)
	jne	bad
	mov	0x218(%esi), %ebx	/* the RAM disk */
	mov	0x228(%esi), %esi	/* the command line */
	mov	$0x3f8, %edx
2:	lodsb
	test	%al, %al
	jz	3f
	outb	%al, %dx
	jmp	2b
3:	mov	$10, %al
	outb	%al, %dx
	mov	(%ebx), %al
	jmp	4f
bad:	mov	$0, %al
4:	mov	$0xf4, %edx
	outb	%al, %dx
	hlt
