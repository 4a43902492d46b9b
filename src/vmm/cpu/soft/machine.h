/*
 * machine: the software CPU's calls of the machine around it. They put the host's MXCSR in place, since
 * device models may calculate with floating point (S5).
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

void machine_read(struct soft *c, gpa_t gpa, void *data, unsigned int size);
void machine_write(struct soft *c, gpa_t gpa, const void *data, unsigned int size);
uint32_t machine_in(struct soft *c, uint16_t port, unsigned int size);
void machine_out(struct soft *c, uint16_t port, unsigned int size, uint32_t value);
bool machine_read_msr(struct soft *c, uint32_t index, uint64_t *ret);
bool machine_write_msr(struct soft *c, uint32_t index, uint64_t value);
int machine_take_interrupt(struct soft *c);
uint8_t machine_get_priority(struct soft *c);
void machine_set_priority(struct soft *c, uint8_t cr8);
