/* flags: RFLAGS is kept in two parts: the status flags as LAHF and SETO give them, since generated code
 * stores them after most instructions, and all others. */
#include "vmm/cpu/soft/mmu.h"

uint64_t soft_get_flags(const struct soft *c)
{
	return (c->flags & ~(uint64_t)FLAGS_STATUS) | (c->status >> 8 & 0xd5) |
	       (uint64_t)(c->status & 1) << 11 | FLAG_ONE;
}

void soft_set_flags(struct soft *c, uint64_t flags, uint64_t mask)
{
	uint64_t status = soft_get_flags(c);
	uint64_t old = c->flags;

	soft_set_status(c, (flags & mask) | (status & ~mask));
	c->flags = ((flags & mask) | (c->flags & ~mask)) & ~(uint64_t)FLAGS_STATUS;
	if ((old ^ c->flags) & (FLAG_AC | FLAG_VM))
		soft_select_tlb(c);
	if (c->flags & FLAG_IF && c->interrupt_waits)
		atomic_fetch_or(&c->requests, REQUEST_INTERRUPT);
	if (c->flags & FLAG_TF || c->debug.dr7 & 0xff)
		atomic_fetch_or(&c->requests, REQUEST_STEP);
	else
		atomic_fetch_and(&c->requests, ~(uint32_t)REQUEST_STEP);
}

bool soft_condition(const struct soft *c, unsigned int condition)
{
	uint64_t f = soft_get_flags(c);
	bool sf = f & FLAG_SF, of = f & FLAG_OF, zf = f & FLAG_ZF;
	bool value;

	switch (condition >> 1) {
	case 0:
		value = of;
		break;
	case 1:
		value = f & FLAG_CF;
		break;
	case 2:
		value = zf;
		break;
	case 3:
		value = f & (FLAG_CF | FLAG_ZF);
		break;
	case 4:
		value = sf;
		break;
	case 5:
		value = f & FLAG_PF;
		break;
	case 6:
		value = sf != of;
		break;
	default:
		value = zf || sf != of;
		break;
	}
	return value != (condition & 1);
}
