/* Waits until the virtio console's configuration tells of 100 columns. Ends with their number, or with 127
 * if there is no such device. */
	.set ECAM, 0xc0000000
#include "multiboot.inc"
	mov	$ECAM, %ebx
1:	cmpl	$0x10431af4, (%ebx)	/* modern virtio, device 3 */
	je	2f
	add	$0x8000, %ebx		/* the next slot of the bus */
	cmp	$ECAM + 0x100000, %ebx
	jb	1b
	mov	$127, %al
	jmp	end
2:	orw	$2, 4(%ebx)		/* memory decoding */
	movzbl	0x34(%ebx), %ecx
3:	cmpb	$9, (%ebx, %ecx)	/* a capability of virtio's ... */
	jne	4f
	cmpb	$4, 3(%ebx, %ecx)	/* ... that tells where its configuration is */
	je	5f
4:	movzbl	1(%ebx, %ecx), %ecx
	jmp	3b
5:	mov	0x10(%ebx), %esi
	and	$~0xf, %esi
	add	8(%ebx, %ecx), %esi
6:	pause
	mov	(%esi), %ax
	cmp	$100, %ax
	jne	6b
end:	out	%al, $0xf4
	hlt
