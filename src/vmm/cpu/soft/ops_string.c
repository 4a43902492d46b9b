/* ops_string: see the header. */
#include "vmm/cpu/soft/ops_string.h"

#include "vmm/cpu/soft/address.h"
#include "vmm/cpu/soft/debug.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/run.h"
#include "vmm/cpu/soft/segment.h"

static uint64_t address_mask(const struct op *op)
{
	return op->address_size == 8 ? ~0ull : op->address_size == 4 ? 0xffffffffull : 0xffffull;
}

static void advance(struct soft *c, const struct op *op, unsigned int reg, uint64_t count)
{
	uint64_t bytes = count * op->size;
	uint64_t value = c->flags & FLAG_DF ? c->regs[reg] - bytes : c->regs[reg] + bytes;

	reg_set(c, reg * 8, op->address_size, value);
}

static uint64_t source(struct soft *c, const struct op *op)
{
	return address_linear(c, op->segment, c->regs[CPU_RSI] & address_mask(op), op->size,
			      ACCESS_READ);
}

static uint64_t destination(struct soft *c, const struct op *op, enum soft_access access)
{
	uint64_t offset = c->regs[CPU_RDI] & address_mask(op);

	if (is_long64(c))
		return offset;
	return address_linear(c, CPU_ES, offset, op->size, access);
}

static uint64_t counter(const struct soft *c, const struct op *op)
{
	return c->regs[CPU_RCX] & address_mask(op);
}

static void count_down(struct soft *c, const struct op *op, uint64_t by)
{
	reg_set(c, CPU_RCX * 8, op->address_size, counter(c, op) - by);
}

/* How many elements from `address` on lie in its page; only upwards. */
static uint64_t room(const struct op *op, uint64_t address)
{
	return (SOFT_PAGE_SIZE - (address & 0xfff)) / op->size;
}

/* Whether several elements may be done at once: flat addresses, upwards, no stepping. */
static bool may_run(const struct soft *c)
{
	return !(c->flags & FLAG_DF) && (c->key & (MODE_64 | MODE_FLAT)) &&
	       !(atomic_load_explicit(&c->requests, memory_order_relaxed) & REQUEST_STEP);
}

typedef uint64_t (*string_fn)(struct soft *c, const struct op *op, uint64_t left);

/* Whether somebody else's turn has come. That the instruction is to be the only one is no reason. */
static bool is_interrupted(const struct soft *c)
{
	return atomic_load_explicit(&c->requests, memory_order_relaxed) & ~(uint32_t)REQUEST_ONE;
}

/* Between two repetitions: the instruction is begun again, which is no reason for its breakpoint. */
static const struct op *interrupted(struct soft *c, const struct op *op)
{
	c->flags |= FLAG_RF;
	return run_leave(c, op_rip(c, op));
}

/* Repeats until RCX is 0. Requests end the block: the instruction is then begun again. */
static const struct op *repeat(struct soft *c, const struct op *op, string_fn some)
{
	c->op = op;
	if (!(op->prefix & (PREFIX_REP | PREFIX_REPNE))) {
		(void)some(c, op, 1);
	} else {
		while (counter(c, op) != 0) {
			count_down(c, op, some(c, op, counter(c, op)));
			if (counter(c, op) != 0 && is_interrupted(c))
				return interrupted(c, op);
		}
	}
	NEXT(c, op);
}

static uint64_t stos(struct soft *c, const struct op *op, uint64_t left)
{
	uint64_t to = destination(c, op, ACCESS_WRITE), value = c->regs[CPU_RAX];
	uint64_t n = left < room(op, to) ? left : room(op, to);
	uint8_t *host = n > 1 && may_run(c) ? soft_page_pointer(c, to, ACCESS_WRITE) : NULL;

	if (!host) {
		soft_write(c, to, op->size, value);
		advance(c, op, CPU_RDI, 1);
		return 1;
	}
	switch (op->size) {
	case 1:
		memset(host, (int)(value & 0xff), n);
		break;
	default:
		for (uint64_t i = 0; i < n; i++)
			soft_store(host + i * op->size, op->size, value);
		break;
	}
	advance(c, op, CPU_RDI, n);
	return n;
}

static void copy_up(uint8_t *to, const uint8_t *from, uint64_t n, unsigned int size)
{
	/* An overlap with the destination above the source repeats a pattern, as the CPU does it. */
	if (to > from && to < from + n * size) {
		for (uint64_t i = 0; i < n; i++)
			soft_store(to + i * size, size, soft_load(from + i * size, size));
		return;
	}
	memmove(to, from, n * size);
}

static uint64_t movs(struct soft *c, const struct op *op, uint64_t left)
{
	uint64_t from = source(c, op), to = destination(c, op, ACCESS_WRITE);
	uint64_t n = left;

	n = n < room(op, from) ? n : room(op, from);
	n = n < room(op, to) ? n : room(op, to);
	if (n > 1 && may_run(c)) {
		const uint8_t *host_from = soft_page_pointer(c, from, ACCESS_READ);
		uint8_t *host_to = host_from ? soft_page_pointer(c, to, ACCESS_WRITE) : NULL;

		if (host_to) {
			copy_up(host_to, host_from, n, op->size);
			advance(c, op, CPU_RSI, n);
			advance(c, op, CPU_RDI, n);
			return n;
		}
	}
	soft_write(c, to, op->size, soft_read(c, from, op->size));
	advance(c, op, CPU_RSI, 1);
	advance(c, op, CPU_RDI, 1);
	return 1;
}

static uint64_t lods(struct soft *c, const struct op *op, uint64_t left)
{
	(void)left;
	reg_set(c, 0, op->size, soft_read(c, source(c, op), op->size));
	advance(c, op, CPU_RSI, 1);
	return 1;
}

static uint64_t ins(struct soft *c, const struct op *op, uint64_t left)
{
	uint64_t to = destination(c, op, ACCESS_WRITE);
	uint16_t port = (uint16_t)c->regs[CPU_RDX];

	(void)left;
	if (!segment_io_allowed(c, port, op->size))
		soft_throw(c, VECTOR_GP, 0);
	soft_probe(c, to, op->size, ACCESS_WRITE); /* before the device has given its data away */
	soft_write(c, to, op->size, machine_in(c, port, op->size));
	debug_check_io(c, port, op->size);
	advance(c, op, CPU_RDI, 1);
	return 1;
}

static uint64_t outs(struct soft *c, const struct op *op, uint64_t left)
{
	uint16_t port = (uint16_t)c->regs[CPU_RDX];

	(void)left;
	if (!segment_io_allowed(c, port, op->size))
		soft_throw(c, VECTOR_GP, 0);
	machine_out(c, port, op->size, (uint32_t)soft_read(c, source(c, op), op->size));
	debug_check_io(c, port, op->size);
	advance(c, op, CPU_RSI, 1);
	return 1;
}

static const struct op *do_stos(struct soft *c, const struct op *op)
{
	return repeat(c, op, stos);
}

static const struct op *do_movs(struct soft *c, const struct op *op)
{
	return repeat(c, op, movs);
}

static const struct op *do_lods(struct soft *c, const struct op *op)
{
	return repeat(c, op, lods);
}

static const struct op *do_ins(struct soft *c, const struct op *op)
{
	return repeat(c, op, ins);
}

static const struct op *do_outs(struct soft *c, const struct op *op)
{
	return repeat(c, op, outs);
}

/* The flags of `a` - `b`. */
static void compare(struct soft *c, uint64_t a, uint64_t b, unsigned int size)
{
	unsigned int top = size * 8 - 1;
	uint64_t mask = size == 8 ? ~0ull : (1ull << size * 8) - 1;
	uint64_t r = (a - b) & mask, flags = 0;

	flags |= a < b ? FLAG_CF : 0;
	flags |= __builtin_parity(r & 0xff) ? 0 : FLAG_PF;
	flags |= (a ^ b ^ r) & FLAG_AF;
	flags |= r == 0 ? FLAG_ZF : 0;
	flags |= r >> top & 1 ? FLAG_SF : 0;
	flags |= ((a ^ b) & (a ^ r)) >> top & 1 ? FLAG_OF : 0;
	soft_set_status(c, flags);
}

static void scas_one(struct soft *c, const struct op *op)
{
	uint64_t value = soft_read(c, destination(c, op, ACCESS_READ), op->size);

	compare(c, reg_get(c, 0, op->size), value, op->size);
	advance(c, op, CPU_RDI, 1);
}

static void cmps_one(struct soft *c, const struct op *op)
{
	uint64_t a, b;

	/* Where both would fault CPUs report the destination, but for REPE CMPSB the source. */
	if (op->prefix & PREFIX_REP && op->size == 1) {
		a = soft_read(c, source(c, op), op->size);
		b = soft_read(c, destination(c, op, ACCESS_READ), op->size);
	} else {
		b = soft_read(c, destination(c, op, ACCESS_READ), op->size);
		a = soft_read(c, source(c, op), op->size);
	}
	compare(c, a, b, op->size);
	advance(c, op, CPU_RSI, 1);
	advance(c, op, CPU_RDI, 1);
}

/* REPE goes on while equal, REPNE while not. */
static const struct op *repeat_compare(struct soft *c, const struct op *op,
				       void (*one)(struct soft *c, const struct op *op))
{
	bool wanted = op->prefix & PREFIX_REP;
	unsigned int done = 0;

	c->op = op;
	if (!(op->prefix & (PREFIX_REP | PREFIX_REPNE))) {
		one(c, op);
		NEXT(c, op);
	}
	while (counter(c, op) != 0) {
		one(c, op);
		count_down(c, op, 1);
		if (((c->status & 0x4000) != 0) != wanted)
			break;
		if (counter(c, op) != 0 && ++done % 64 == 0 && is_interrupted(c))
			return interrupted(c, op);
		if (counter(c, op) != 0 && c->requests & REQUEST_STEP)
			return interrupted(c, op);
	}
	NEXT(c, op);
}

static const struct op *do_scas(struct soft *c, const struct op *op)
{
	return repeat_compare(c, op, scas_one);
}

static const struct op *do_cmps(struct soft *c, const struct op *op)
{
	return repeat_compare(c, op, cmps_one);
}

void string_segment(const struct instruction *in, struct op *op)
{
	op->segment = CPU_DS;
	for (unsigned int i = 0; i < in->info.raw.prefix_count; i++) {
		switch (in->info.raw.prefixes[i].value) {
		case 0x26:
			op->segment = CPU_ES;
			break;
		case 0x2e:
			op->segment = CPU_CS;
			break;
		case 0x36:
			op->segment = CPU_SS;
			break;
		case 0x3e:
			op->segment = CPU_DS;
			break;
		case 0x64:
			op->segment = CPU_FS;
			break;
		case 0x65:
			op->segment = CPU_GS;
			break;
		}
	}
	if (in->info.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && op->segment < CPU_FS)
		op->segment = CPU_DS; /* the other prefixes mean nothing there */
}

static enum decoded string(const struct instruction *in, struct op *op, op_fn fn, unsigned int size)
{
	op->fn = fn;
	op->size = (uint8_t)size;
	op->prefix = 0;
	/* The last one counts; any repetition prefix repeats the moves. */
	for (unsigned int i = 0; i < in->info.raw.prefix_count; i++) {
		if (in->info.raw.prefixes[i].value == 0xf3)
			op->prefix = PREFIX_REP;
		else if (in->info.raw.prefixes[i].value == 0xf2)
			op->prefix = PREFIX_REPNE;
	}
	string_segment(in, op);
	return DECODED;
}

static unsigned int element_size(const struct instruction *in)
{
	return !(in->info.opcode & 1) ? 1 : in->info.operand_width / 8u;
}

enum decoded decode_string(uint32_t mode, const struct instruction *in, struct op *op)
{
	unsigned int size = element_size(in);

	(void)mode;
	if (in->info.meta.category != ZYDIS_CATEGORY_STRINGOP &&
	    in->info.meta.category != ZYDIS_CATEGORY_IOSTRINGOP)
		return DECODED_NO;
	switch (in->info.opcode & 0xfe) {
	case 0xa4:
		return string(in, op, do_movs, size);
	case 0xa6:
		return string(in, op, do_cmps, size);
	case 0xaa:
		return string(in, op, do_stos, size);
	case 0xac:
		return string(in, op, do_lods, size);
	case 0xae:
		return string(in, op, do_scas, size);
	case 0x6c:
		return string(in, op, do_ins, size > 4 ? 4 : size);
	case 0x6e:
		return string(in, op, do_outs, size > 4 ? 4 : size);
	default:
		return DECODED_NO;
	}
}
