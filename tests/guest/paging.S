/* The two kinds of paging that there are in 32 bits: without PAE, large pages of 4 MiB, and with PAE, of 2 MiB;
 * both also with two small pages at 1 GiB that lie in memory the other way round. What is written across the two
 * arrives in both, as the identical mapping shows. Ends with 1 if it does in both kinds. */
	.set TOP, 0x300000
	.set DIRECTORIES, 0x301000	/* of PAE: four */
	.set TABLE, 0x305000
	.set LOW, 0x306000
	.set HIGH, LOW + 0x2000
	.set MAPPED, 0x40000000
#include "multiboot.inc"
	mov	$stack, %esp
	cld
	mov	$0x83, %eax		/* present, writable, large */
	mov	$TOP, %edi
1:	stosl
	add	$0x400000, %eax
	jnc	1b
	movl	$TABLE + 3, TOP + (MAPPED >> 20)
	movl	$HIGH + 3, TABLE
	movl	$LOW + 3, TABLE + 4
	mov	$0x10, %ebx		/* PSE */
	call	check
	mov	$0x83, %eax
	mov	$DIRECTORIES, %edi
2:	stosl
	movl	$0, (%edi)
	add	$4, %edi
	add	$0x200000, %eax
	jnc	2b
	mov	$TOP, %edi
	mov	$DIRECTORIES + 1, %eax
	mov	$4, %ecx
3:	stosl
	movl	$0, (%edi)
	add	$4, %edi
	add	$4096, %eax
	loop	3b
	movl	$TABLE + 3, DIRECTORIES + 0x1000
	movl	$0, TABLE + 4
	movl	$LOW + 3, TABLE + 8
	movl	$0, TABLE + 12
	mov	$0x20, %ebx		/* PAE */
	call	check
	mov	$0, %al
end:	out	%al, $0xf4
	hlt

/* With these bits of CR4. Paging is off afterwards. */
check:	mov	%cr4, %eax
	and	$~0x30, %eax
	or	%ebx, %eax
	mov	%eax, %cr4
	mov	$TOP, %eax
	mov	%eax, %cr3
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	movl	$0, HIGH + 0xffc
	movl	$0, LOW
	movl	$0x11223344, MAPPED + 0xffe
	cmpl	$0x33440000, HIGH + 0xffc
	jne	wrong
	cmpl	$0x1122, LOW
	jne	wrong
	mov	%cr0, %eax
	and	$~0x80000000, %eax
	mov	%eax, %cr0
	ret
wrong:	mov	$1, %al
	jmp	end

	.skip	256
stack:
