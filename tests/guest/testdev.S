/* What test kernels find besides: prints its command line, the count of CPUs and the memory in MiB as the
 * configuration ports tell them; then writes and reads the latch and the slow memory. Ends with 1 if
 * all is as it should be. */
	.set MAGIC, 0x1badb002
	.set FLAGS, 0
	.long MAGIC, FLAGS, -(MAGIC + FLAGS)
	.globl _start
_start:
	cld
	mov $stack, %esp
	mov 16(%ebx), %esi	/* the command line */
	call print
	mov $5, %ax
	call config
	add $'0', %al
	mov %al, cpus + 1
	mov $cpus, %esi
	call print
	mov $3, %ax
	call config
	shr $20, %eax
	add $'0', %al
	mov %al, mib + 1
	mov $mib, %esi
	call print
	mov $0x1234abcd, %eax
	out %eax, $0xe0
	in $0xe2, %ax
	cmp $0x1234, %ax
	jne bad
	mov $0xff000ffe, %edi
	movl $0x55667788, (%edi)
	cmpl $0x55667788, (%edi)
	jne bad
	cmpw $0x5566, 2(%edi)
	jne bad
	mov $0, %al
	jmp end
bad:
	mov $1, %al
end:
	out %al, $0xf4
	hlt

config:				/* item ax: its first four bytes in eax */
	mov $0x510, %dx
	out %ax, %dx
	inc %dx
	mov $4, %ecx
1:	in %dx, %al
	ror $8, %eax
	loop 1b
	ret

print:
	mov $0x3f8, %dx
1:	lodsb
	test %al, %al
	jz 2f
	out %al, %dx
	jmp 1b
2:	ret

cpus:	.asciz " 0"
mib:	.asciz " 0\n"
	.balign 16
	.skip 256
stack:
