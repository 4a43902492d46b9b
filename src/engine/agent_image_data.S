/* The agent as data, never as code of ours. */
	.section .rodata.agent_image, "a"
	.balign 4096
	.globl agent_image_start, agent_image_size
	.hidden agent_image_start, agent_image_size
agent_image_start:
#include "agent_path.h" /* .incbin "<the agent>" */
1:
	.balign 8
agent_image_size:
	.quad 1b - agent_image_start
	.section .note.GNU-stack, "", @progbits
