/* segment: see the header. */
#include "vmm/cpu/soft/segment.h"
#include "vmm/cpu/soft/mmu.h"

static uint32_t error_of(uint16_t selector)
{
	return selector & 0xfffcu;
}

bool segment_read(struct soft *c, uint16_t selector, struct descriptor *ret)
{
	uint64_t base = selector & 4 ? c->ldt.base : c->gdt.base;
	uint64_t limit = selector & 4 ? c->ldt.limit : c->gdt.limit;
	uint64_t offset = selector & 0xfff8u;

	if ((selector & 4 && c->ldt.access & CPU_ACCESS_UNUSABLE) || offset + 7 > limit)
		return false;
	ret->address = base + offset;
	ret->low = soft_read_system(c, ret->address, 8);
	ret->high = 0;
	if (!descriptor_is_segment(ret) && c->efer & EFER_LMA && offset + 15 <= limit)
		ret->high = soft_read_system(c, ret->address + 8, 8);
	return true;
}

struct descriptor segment_must_read(struct soft *c, uint16_t selector, enum soft_vector vector)
{
	struct descriptor d;

	if (!segment_read(c, selector, &d))
		soft_throw(c, vector, error_of(selector));
	return d;
}

struct cpu_segment segment_from(const struct descriptor *d, uint16_t selector)
{
	struct cpu_segment s = {.selector = selector};

	s.base = (d->low >> 16 & 0xffffff) | (d->low >> 32 & 0xff000000);
	s.limit = (uint32_t)((d->low & 0xffff) | (d->low >> 32 & 0xf0000));
	s.access = (uint32_t)(d->low >> 40 & 0xf0ff);
	if (s.access & CPU_ACCESS_G)
		s.limit = s.limit << 12 | 0xfff;
	return s;
}

void segment_mark_accessed(struct soft *c, struct descriptor *d)
{
	if (d->low >> 40 & 1)
		return;
	d->low |= 1ull << 40;
	soft_write_system(c, d->address + 5, 1, d->low >> 40 & 0xff);
}

void segment_load_real(struct soft *c, enum cpu_segment_name name, uint16_t selector)
{
	struct cpu_segment *s = &c->segments[name];

	s->selector = selector;
	s->base = (uint64_t)selector << 4;
	if (is_vm86(c)) {
		s->limit = 0xffff;
		s->access = CPU_ACCESS_P | CPU_ACCESS_S | 3 << CPU_ACCESS_DPL_SHIFT | 3;
	} else {
		s->access &= ~(uint32_t)CPU_ACCESS_UNUSABLE; /* the limit stays: "unreal mode" */
	}
	soft_update_mode(c);
}

static void load_null(struct soft *c, enum cpu_segment_name name, uint16_t selector)
{
	struct cpu_segment *s = &c->segments[name];

	if (name == CPU_SS && (!is_long64(c) || c->cpl == 3 || (selector & 3) != c->cpl))
		soft_throw(c, VECTOR_GP, 0);
	s->selector = selector;
	s->access = CPU_ACCESS_UNUSABLE | (name == CPU_SS ? (uint32_t)c->cpl << 5 : 0);
	/* AMD keeps the base and limit of a null selector, Intel clears them: as Intel. */
	s->base = 0;
	s->limit = 0;
	soft_update_mode(c);
}

static void check_data(struct soft *c, const struct descriptor *d, uint16_t selector)
{
	unsigned int rpl = selector & 3, dpl = descriptor_dpl(d);
	bool code = descriptor_is_code(d);

	if (!descriptor_is_segment(d) || (code && !(d->low >> 41 & 1)))
		soft_throw(c, VECTOR_GP, error_of(selector));
	if ((!code || !descriptor_is_conforming(d)) && (rpl > dpl || c->cpl > dpl))
		soft_throw(c, VECTOR_GP, error_of(selector));
	if (!descriptor_is_present(d))
		soft_throw(c, VECTOR_NP, error_of(selector));
}

static void check_stack(struct soft *c, const struct descriptor *d, uint16_t selector,
			unsigned int cpl, enum soft_vector vector)
{
	bool writable = d->low >> 41 & 1;

	if (!descriptor_is_segment(d) || descriptor_is_code(d) || !writable ||
	    (selector & 3u) != cpl || descriptor_dpl(d) != cpl)
		soft_throw(c, vector, error_of(selector));
	if (!descriptor_is_present(d))
		soft_throw(c, VECTOR_SS, error_of(selector));
}

void segment_load(struct soft *c, enum cpu_segment_name name, uint16_t selector)
{
	struct descriptor d;

	if (!is_protected(c)) {
		segment_load_real(c, name, selector);
		return;
	}
	if (!(selector & 0xfffc)) {
		load_null(c, name, selector);
		return;
	}
	d = segment_must_read(c, selector, VECTOR_GP);
	if (name == CPU_SS)
		check_stack(c, &d, selector, c->cpl, VECTOR_GP);
	else
		check_data(c, &d, selector);
	segment_mark_accessed(c, &d);
	c->segments[name] = segment_from(&d, selector);
	soft_update_mode(c);
}

void segment_set_code(struct soft *c, struct descriptor *d, uint16_t selector, unsigned int cpl)
{
	segment_mark_accessed(c, d);
	c->segments[CPU_CS] = segment_from(d, (uint16_t)((selector & ~3u) | cpl));
	soft_set_cpl(c, cpl);
}

void segment_set_stack(struct soft *c, uint16_t selector, unsigned int cpl, enum soft_vector vector)
{
	struct descriptor d;

	if (!(selector & 0xfffc))
		soft_throw(c, vector, 0);
	d = segment_must_read(c, selector, vector);
	check_stack(c, &d, selector, cpl, vector);
	segment_mark_accessed(c, &d);
	c->segments[CPU_SS] = segment_from(&d, selector);
}

void segment_drop_privileged(struct soft *c)
{
	static const enum cpu_segment_name names[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct cpu_segment *s = &c->segments[names[i]];
		bool conforming = (s->access & 0xc) == 0xc;
		unsigned int dpl = s->access >> CPU_ACCESS_DPL_SHIFT & 3;

		if (!(s->selector & 0xfffc))
			s->selector = 0; /* a null selector loses its RPL, too */
		if (s->access & CPU_ACCESS_UNUSABLE || conforming || dpl >= c->cpl)
			continue;
		s->selector = 0;
		s->access = CPU_ACCESS_UNUSABLE; /* the base stays, as 64-bit code can see */
	}
	soft_update_mode(c);
}

/* LDT and TSS descriptors have 16 bytes in long mode. */
static struct cpu_segment system_segment(const struct soft *c, const struct descriptor *d,
					 uint16_t selector)
{
	struct cpu_segment s = segment_from(d, selector);

	if (c->efer & EFER_LMA)
		s.base |= d->high << 32;
	return s;
}

void segment_load_ldt(struct soft *c, uint16_t selector)
{
	struct descriptor d;

	if (!(selector & 0xfffc)) {
		c->ldt = (struct cpu_segment){.selector = selector, .access = CPU_ACCESS_UNUSABLE};
		return;
	}
	if (selector & 4)
		soft_throw(c, VECTOR_GP, error_of(selector));
	d = segment_must_read(c, selector, VECTOR_GP);
	if (descriptor_is_segment(&d) || descriptor_type(&d) != TYPE_LDT)
		soft_throw(c, VECTOR_GP, error_of(selector));
	if (!descriptor_is_present(&d))
		soft_throw(c, VECTOR_NP, error_of(selector));
	c->ldt = system_segment(c, &d, selector);
}

void segment_load_tr(struct soft *c, uint16_t selector)
{
	struct descriptor d;

	if (!(selector & 0xfffc))
		soft_throw(c, VECTOR_GP, 0);
	if (selector & 4)
		soft_throw(c, VECTOR_GP, error_of(selector));
	d = segment_must_read(c, selector, VECTOR_GP);
	if (descriptor_is_segment(&d) ||
	    (descriptor_type(&d) != TYPE_TSS &&
	     (descriptor_type(&d) != TYPE_TSS16 || c->efer & EFER_LMA)))
		soft_throw(c, VECTOR_GP, error_of(selector));
	if (!descriptor_is_present(&d))
		soft_throw(c, VECTOR_NP, error_of(selector));
	d.low |= 2ull << 40; /* busy */
	soft_write_system(c, d.address + 5, 1, d.low >> 40 & 0xff);
	c->tr = system_segment(c, &d, selector);
}

void segment_tss_stack(struct soft *c, unsigned int cpl, uint16_t *ret_ss, uint64_t *ret_sp)
{
	bool wide = (c->tr.access & 8) != 0;
	uint32_t at = wide ? 4 + cpl * 8 : 2 + cpl * 4;

	if (at + (wide ? 7 : 3) > c->tr.limit)
		soft_throw(c, VECTOR_TS, error_of(c->tr.selector));
	*ret_sp = soft_read_system(c, c->tr.base + at, wide ? 4 : 2);
	*ret_ss = (uint16_t)soft_read_system(c, c->tr.base + at + (wide ? 4 : 2), 2);
}

uint64_t segment_tss_rsp(struct soft *c, unsigned int index_from_rsp0)
{
	uint32_t at = 4 + index_from_rsp0 * 8;

	if (at + 7 > c->tr.limit)
		soft_throw(c, VECTOR_TS, error_of(c->tr.selector));
	return soft_read_system(c, c->tr.base + at, 8);
}

bool segment_io_allowed(struct soft *c, uint16_t port, unsigned int size)
{
	uint32_t map;
	uint64_t bits;

	if (!(c->cr0 & CR0_PE) || (!is_vm86(c) && c->cpl <= iopl(c)))
		return true;
	if (!(c->tr.access & 8) || c->tr.access & CPU_ACCESS_UNUSABLE || c->tr.limit < 103)
		return false;
	map = (uint32_t)soft_read_system(c, c->tr.base + 102, 2) + port / 8;
	if (map + 1 > c->tr.limit)
		return false;
	bits = soft_read_system(c, c->tr.base + map, 2);
	return !(bits >> port % 8 & ((1u << size) - 1));
}
