/* address: see the header. */
#include "vmm/cpu/soft/address.h"

static bool within_limit(const struct cpu_segment *s, uint64_t offset, unsigned int size)
{
	uint64_t last = offset + size - 1;
	bool expand_down = (s->access & (CPU_ACCESS_S | 0xc)) == (CPU_ACCESS_S | 0x4);

	if (expand_down)
		return offset > s->limit &&
		       last <= (s->access & CPU_ACCESS_DB ? 0xffffffffull : 0xffffull);
	return last <= s->limit;
}

static bool has_rights(const struct soft *c, const struct cpu_segment *s, enum soft_access access)
{
	bool code = s->access & 8;

	if (!is_protected(c))
		return true;
	if (s->access & CPU_ACCESS_UNUSABLE)
		return false;
	if (access == ACCESS_READ)
		return !code || s->access & 2;
	return !code && s->access & 2;
}

uint64_t address_linear(struct soft *c, unsigned int segment, uint64_t offset, unsigned int size,
			enum soft_access access)
{
	const struct cpu_segment *s = &c->segments[segment];

	if (is_long64(c))
		return offset + c->segment_base[segment];
	if (!has_rights(c, s, access) || !within_limit(s, offset, size))
		soft_throw(c, segment == CPU_SS ? VECTOR_SS : VECTOR_GP, 0);
	return (uint32_t)(offset + s->base);
}

uint64_t address_checked(struct soft *c, const struct op *op, uint64_t offset, uint32_t size_access)
{
	c->op = op;
	offset = op->address_size == 2 ? (uint16_t)offset : (uint32_t)offset;
	return address_linear(c, op->segment, offset, size_access & 0xffff, size_access >> 16);
}
