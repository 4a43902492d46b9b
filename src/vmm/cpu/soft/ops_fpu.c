/* ops_fpu: saving and restoring FPU and vector state, and the vector instructions whose memory operands
 * are elements or masked: those are done element by element, so that only what is touched can fault. */
#include <immintrin.h>

#include "vmm/cpu/soft/address.h"
#include "vmm/cpu/soft/identity.h"
#include "vmm/cpu/soft/decode.h"
#include "vmm/cpu/soft/feature.h"
#include "vmm/cpu/soft/fpu.h"
#include "vmm/cpu/soft/run.h"

enum { FXSAVE_SIZE = 512 };

static void read_bytes(struct soft *c, uint64_t address, void *to, unsigned int size)
{
	for (unsigned int i = 0; i < size; i += 8) {
		uint64_t value = soft_read(c, address + i, size - i < 8 ? 2 : 8);

		memcpy((uint8_t *)to + i, &value, size - i < 8 ? size - i : 8);
	}
}

static void write_bytes(struct soft *c, uint64_t address, const void *from, unsigned int size)
{
	for (unsigned int i = 0; i < size; i += 8) {
		uint64_t value = 0;
		unsigned int n = size - i < 8 ? 2 : 8;

		memcpy(&value, (const uint8_t *)from + i, n);
		soft_write(c, address + i, n, value);
	}
}

static uint64_t aligned(struct soft *c, const struct op *op, unsigned int size,
			enum soft_access access, unsigned int alignment)
{
	uint64_t address = address_of(c, op, size, access);

	soft_check_address(c, address, size); /* may be #SS, which comes first */
	if (address & (alignment - 1))
		soft_throw(c, VECTOR_GP, 0);
	if (size == FXSAVE_SIZE) /* CPUs look at its end first */
		soft_probe(c, address + size - 1, 1, access);
	soft_probe(c, address, size, access);
	return address;
}

static unsigned int vector_count(const struct soft *c)
{
	return is_long64(c) ? 16 : 8;
}

enum { X87_HEADER = 24, X87_HEADER_FOP = 6, FSW_ES = 0x80 };

/* What FXSAVE and XSAVE store before MXCSR. AMD's CPUs tell where the last instruction was only if an
 * exception is pending, and store zeros otherwise (XSaveErPtr). */
static void write_x87_header(struct soft *c, uint64_t address)
{
	uint8_t header[X87_HEADER];

	fpu_sync(c);
	memcpy(header, c->fx, sizeof(header));
	if (feature_host() & FEATURE_AMD && !(header[2] & FSW_ES))
		memset(header + X87_HEADER_FOP, 0, sizeof(header) - X87_HEADER_FOP);
	write_bytes(c, address, header, sizeof(header));
}

static const struct op *do_fxsave(struct soft *c, const struct op *op)
{
	uint64_t address;
	uint32_t mxcsr[2] = {_mm_getcsr(), fpu_mxcsr_mask()};

	c->op = op;
	address = aligned(c, op, FXSAVE_SIZE, ACCESS_WRITE, 16);
	write_x87_header(c, address);
	write_bytes(c, address + 24, mxcsr, 8);
	write_bytes(c, address + 32, c->fx + 32, 128);
	for (unsigned int i = 0; i < vector_count(c); i++)
		write_bytes(c, address + 160 + i * 16, c->vec[i], 16);
	NEXT(c, op);
}

static const struct op *do_fxrstor(struct soft *c, const struct op *op)
{
	uint8_t image[FXSAVE_SIZE];
	uint64_t address;
	uint32_t mxcsr;

	c->op = op;
	address = aligned(c, op, FXSAVE_SIZE, ACCESS_READ, 16);
	read_bytes(c, address, image, 160 + 16 * vector_count(c));
	memcpy(&mxcsr, image + 24, 4);
	if (mxcsr & ~fpu_mxcsr_mask())
		soft_throw(c, VECTOR_GP, 0);
	memcpy(c->fx, image, 160);
	fpu_forget(c);
	_mm_setcsr(mxcsr);
	for (unsigned int i = 0; i < vector_count(c); i++)
		memcpy(c->vec[i], image + 160 + i * 16, 16);
	NEXT(c, op);
}

static uint64_t xsave_mask(const struct soft *c)
{
	return ((uint32_t)c->regs[CPU_RAX] | c->regs[CPU_RDX] << 32) & c->xcr0;
}

static bool has_upper_halves(const struct soft *c)
{
	static const uint8_t zero[16];

	for (unsigned int i = 0; i < vector_count(c); i++) {
		if (memcmp(c->vec[i] + 16, zero, 16) != 0)
			return true;
	}
	return false;
}

/* XSAVE and XSAVEOPT, which leaves out what is in its first state. */
static const struct op *do_xsave(struct soft *c, const struct op *op)
{
	uint64_t mask, address, header, in_use = XSTATE_X87 | XSTATE_SSE;
	uint32_t mxcsr[2] = {_mm_getcsr(), fpu_mxcsr_mask()};

	c->op = op;
	if (op->prefix & PREFIX_LOCK)
		soft_throw(c, VECTOR_UD, 0);
	mask = xsave_mask(c);
	address = aligned(c, op, mask & XSTATE_AVX ? XSAVE_END : XSAVE_AVX, ACCESS_WRITE, 64);
	if (has_upper_halves(c))
		in_use |= XSTATE_AVX;
	if (mask & XSTATE_X87) {
		write_x87_header(c, address);
		write_bytes(c, address + 32, c->fx + 32, 128);
	}
	if (mask & (XSTATE_SSE | XSTATE_AVX))
		write_bytes(c, address + 24, mxcsr, 8);
	for (unsigned int i = 0; i < vector_count(c); i++) {
		if (mask & XSTATE_SSE)
			write_bytes(c, address + 160 + i * 16, c->vec[i], 16);
		if (mask & XSTATE_AVX && (in_use & XSTATE_AVX || !op->imm))
			write_bytes(c, address + XSAVE_AVX + i * 16, c->vec[i] + 16, 16);
	}
	header = soft_read(c, address + XSAVE_HEADER, 8);
	soft_write(c, address + XSAVE_HEADER, 8, (header & ~mask) | (mask & in_use));
	NEXT(c, op);
}

static void restore_x87(struct soft *c, uint64_t address, bool present)
{
	uint8_t image[160];

	if (!present) {
		fpu_init_x87(c);
		return;
	}
	read_bytes(c, address, image, sizeof(image));
	memcpy(c->fx, image, sizeof(image));
	fpu_forget(c);
}

static const struct op *do_xrstor(struct soft *c, const struct op *op)
{
	uint64_t mask, address, header[8];
	uint32_t mxcsr = 0;

	c->op = op;
	mask = xsave_mask(c);
	address = aligned(c, op, mask & XSTATE_AVX ? XSAVE_END : XSAVE_AVX, ACCESS_READ, 64);
	read_bytes(c, address + XSAVE_HEADER, header, 64);
	if (header[0] & ~c->xcr0 || header[1] || header[2])
		soft_throw(c, VECTOR_GP, 0);
	if (mask & (XSTATE_SSE | XSTATE_AVX)) {
		mxcsr = (uint32_t)soft_read(c, address + 24, 4);
		if (mxcsr & ~fpu_mxcsr_mask())
			soft_throw(c, VECTOR_GP, 0);
		_mm_setcsr(mxcsr);
	}
	if (mask & XSTATE_X87)
		restore_x87(c, address, header[0] & XSTATE_X87);
	for (unsigned int i = 0; i < vector_count(c); i++) {
		if (mask & XSTATE_SSE)
			memset(c->vec[i], 0, 16);
		if (mask & header[0] & XSTATE_SSE)
			read_bytes(c, address + 160 + i * 16, c->vec[i], 16);
		if (mask & XSTATE_AVX)
			memset(c->vec[i] + 16, 0, 16);
		if (mask & header[0] & XSTATE_AVX)
			read_bytes(c, address + XSAVE_AVX + i * 16, c->vec[i] + 16, 16);
	}
	NEXT(c, op);
}

/* FNSTENV and FNSAVE (`imm` 1) store the 14 or 28 bytes of the environment, then the registers. */
struct environment {
	uint32_t fcw, fsw, ftw, fip, fcs_fop, fdp, fds;
};

static unsigned int environment_size(const struct op *op)
{
	return op->size == 2 ? 14 : 28;
}

/* Most x87 instructions first raise what an earlier one has left pending. */
static void raise_pending(struct soft *c, const struct op *op)
{
	uint16_t fsw;

	if (!c->fpu_live)
		(void)fpu_enter(c, op);
	__asm__ volatile("fnstsw %0" : "=m"(fsw));
	if (fsw & 0x80)
		soft_throw(c, VECTOR_MF, 0);
}

static void write_environment(struct soft *c, const struct op *op, uint64_t address,
			      const struct environment *e)
{
	const uint32_t *from = (const uint32_t *)e;

	for (unsigned int i = 0; i < 7; i++) {
		if (op->size == 2)
			soft_write(c, address + i * 2, 2, from[i]);
		else
			soft_write(c, address + i * 4, 4, from[i]);
	}
}

static const struct op *do_fnstenv(struct soft *c, const struct op *op)
{
	unsigned int size = environment_size(op) + (op->imm ? 80 : 0);
	struct environment e;
	uint64_t address;
	uint8_t registers[108];

	c->op = op;
	address = address_of(c, op, size, ACCESS_WRITE);
	soft_probe(c, address, size, ACCESS_WRITE);
	if (!c->fpu_live)
		(void)fpu_enter(c, op);
	/* Storing the environment masks all exceptions, storing everything initialises. */
	if (op->imm)
		__asm__ volatile("fnsave %0" : "=m"(registers));
	else
		__asm__ volatile("fnstenv %0" : "=m"(registers));
	memcpy(&e, registers, sizeof(e));
	e.fip = (uint32_t)c->fpu_ip;
	e.fdp = (uint32_t)c->fpu_dp;
	e.fcs_fop = op->size == 2 ? 0 : (uint32_t)(c->fpu_opcode & 0x7ff) << 16;
	e.fds = 0xffff0000; /* unused upper halves are stored as ones */
	write_environment(c, op, address, &e);
	if (op->imm) {
		write_bytes(c, address + environment_size(op), registers + 28, 80);
		c->fpu_ip = c->fpu_dp = c->fpu_opcode = 0;
	}
	NEXT(c, op);
}

/* The image has them from the top of the stack on: another top means another order. */
static void turn_registers(uint8_t *st, unsigned int old_top, unsigned int top)
{
	uint8_t old[80];

	memcpy(old, st, sizeof(old));
	for (unsigned int i = 0; i < 8; i++)
		memcpy(st + i * 10, old + ((top + i - old_top) & 7) * 10, 10);
}

static const struct op *do_fldenv(struct soft *c, const struct op *op)
{
	unsigned int size = environment_size(op) + (op->imm ? 80 : 0);
	uint8_t registers[108];
	struct environment e;
	uint32_t *to = (uint32_t *)&e;
	uint64_t address;

	c->op = op;
	raise_pending(c, op);
	address = address_of(c, op, size, ACCESS_READ);
	soft_probe(c, address, size, ACCESS_READ);
	for (unsigned int i = 0; i < 7; i++)
		to[i] = (uint32_t)soft_read(c, address + i * (op->size == 2 ? 2u : 4u),
					    op->size == 2 ? 2 : 4);
	__asm__ volatile("fnsave %0" : "=m"(registers));
	if (op->imm)
		read_bytes(c, address + environment_size(op), registers + 28, 80);
	else
		turn_registers(registers + 28, registers[5] >> 3 & 7, e.fsw >> 11 & 7);
	memcpy(registers, &e, 12);
	__asm__ volatile("frstor %0" : : "m"(registers));
	c->fpu_ip = e.fip;
	c->fpu_dp = e.fdp;
	c->fpu_opcode = op->size == 2 ? 0 : e.fcs_fop >> 16 & 0x7ff;
	NEXT(c, op);
}

/* VMASKMOV and VPMASKMOV: `dst` data, `src` mask, `scale_bits` unused; element in `size`, the operand's
 * width in `access_size`. */
static bool element_selected(const struct soft *c, unsigned int mask, unsigned int at,
			     unsigned int size)
{
	return c->vec[mask][at + size - 1] & 0x80;
}

static const struct op *do_masked_load(struct soft *c, const struct op *op)
{
	uint8_t result[32] = {0};
	uint64_t address;

	c->op = op;
	address = address_of(c, op, 1, ACCESS_READ);
	for (unsigned int at = 0; at < op->access_size; at += op->size) {
		if (element_selected(c, op->src, at, op->size))
			soft_store(result + at, op->size, soft_read(c, address + at, op->size));
	}
	memcpy(c->vec[op->dst], result, sizeof(result));
	NEXT(c, op);
}

static const struct op *do_masked_store(struct soft *c, const struct op *op)
{
	uint64_t address;

	c->op = op;
	address = address_of(c, op, 1, ACCESS_WRITE);
	for (unsigned int at = 0; at < op->access_size; at += op->size) {
		if (element_selected(c, op->src, at, op->size))
			soft_probe(c, address + at, op->size, ACCESS_WRITE);
	}
	for (unsigned int at = 0; at < op->access_size; at += op->size) {
		if (element_selected(c, op->src, at, op->size))
			soft_write(c, address + at, op->size,
				   soft_load(c->vec[op->dst] + at, op->size));
	}
	NEXT(c, op);
}

/* MASKMOVDQU, MASKMOVQ: bytes to DS:RDI. `imm` is 1 for the latter, whose registers are MMX. */
static const struct op *do_masked_bytes(struct soft *c, const struct op *op)
{
	uint64_t offset = c->regs[CPU_RDI], address;
	const uint8_t *data = c->vec[op->dst], *mask = c->vec[op->src];
	unsigned int count = op->imm ? 8 : 16;

	c->op = op;
	offset = op->address_size == 8   ? offset
		 : op->address_size == 4 ? (uint32_t)offset
					 : (uint16_t)offset;
	address = address_linear(c, op->segment, offset, count, ACCESS_WRITE);
	if (op->imm) {
		raise_pending(c, op);
		/* Any MMX instruction makes MM(i) the register ST(i) of the image. */
		__asm__ volatile("movd %%mm0, %%eax" : : : "eax");
		fpu_sync(c);
		data = c->fx + 32 + op->dst * 16;
		mask = c->fx + 32 + op->src * 16;
	}
	for (unsigned int i = 0; i < count; i++) {
		if (mask[i] & 0x80)
			soft_probe(c, address + i, 1, ACCESS_WRITE);
	}
	for (unsigned int i = 0; i < count; i++) {
		if (mask[i] & 0x80)
			soft_write(c, address + i, 1, data[i]);
	}
	NEXT(c, op);
}

/* Gathers: `index` and `prefix` name the index register and its element size, `src` the mask; `size` is
 * the data element, `condition` the number of elements, `imm` the bytes of the result. Elements already
 * loaded are marked in the mask, so that a fault can go on after them. */
static const struct op *do_gather(struct soft *c, const struct op *op)
{
	uint64_t base = c->regs[op->base] + (uint64_t)op->disp;

	c->op = op;
	for (unsigned int i = 0; i < op->condition; i++) {
		const uint8_t *at = c->vec[op->index] + i * op->prefix;
		int64_t index =
			op->prefix == 4 ? (int32_t)soft_load(at, 4) : (int64_t)soft_load(at, 8);
		uint64_t address = base + ((uint64_t)index << op->scale_bits);
		uint8_t *mask = c->vec[op->src] + i * op->size;

		if (!(mask[op->size - 1] & 0x80)) {
			memset(mask, 0, op->size);
			continue;
		}
		if (op->address_size == 4)
			address = (uint32_t)address;
		address = is_long64(c) ? address + c->segment_base[op->segment]
				       : address_linear(c, op->segment, (uint32_t)address, op->size,
							ACCESS_READ);
		soft_store(c->vec[op->dst] + i * op->size, op->size,
			   soft_read(c, address, op->size));
		memset(mask, 0, op->size);
	}
	memset(c->vec[op->src], 0, 32);
	memset(c->vec[op->dst] + op->imm, 0, 32 - op->imm);
	NEXT(c, op);
}

/* VZEROALL; VZEROUPPER with `imm` 16. */
static const struct op *do_vzero(struct soft *c, const struct op *op)
{
	for (unsigned int i = 0; i < vector_count(c); i++)
		memset(c->vec[i] + op->imm, 0, 32 - op->imm);
	NEXT(c, op);
}

static uint8_t vector_number(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_YMM0 && reg <= ZYDIS_REGISTER_YMM15)
		return (uint8_t)(reg - ZYDIS_REGISTER_YMM0);
	if (reg >= ZYDIS_REGISTER_MM0 && reg <= ZYDIS_REGISTER_MM7)
		return (uint8_t)(reg - ZYDIS_REGISTER_MM0);
	return (uint8_t)(reg - ZYDIS_REGISTER_XMM0);
}

static enum decoded decode_gather(const struct instruction *in, struct op *op, unsigned int size,
				  unsigned int index_size)
{
	const ZydisDecodedOperand *o = in->operands;
	unsigned int index_width, data_width = o[0].size / 8, by_index;

	op->fn = do_gather;
	op->size = (uint8_t)size;
	op->prefix = (uint8_t)index_size;
	op->dst = vector_number(o[0].reg.value);
	op->src = vector_number(o[2].reg.value);
	op->index = vector_number(o[1].mem.index);
	index_width = o[1].mem.index >= ZYDIS_REGISTER_YMM0 ? 32 : 16;
	by_index = index_width / index_size;
	op->condition = (uint8_t)(data_width / size < by_index ? data_width / size : by_index);
	op->imm = op->condition * size;
	if (op->dst == op->src || op->dst == op->index || op->src == op->index)
		return decode_throw(op, VECTOR_UD);
	return DECODED;
}

static enum decoded decode_masked(const struct instruction *in, struct op *op, unsigned int size)
{
	bool store = in->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY;

	op->fn = store ? do_masked_store : do_masked_load;
	op->size = (uint8_t)size;
	op->dst = vector_number(in->operands[store ? 2 : 0].reg.value);
	op->src = vector_number(in->operands[1].reg.value);
	return DECODED;
}

static enum decoded decode_masked_bytes(uint32_t mode, const struct instruction *in, struct op *op)
{
	(void)mode;
	op->fn = do_masked_bytes;
	op->dst = vector_number(in->operands[0].reg.value);
	op->src = vector_number(in->operands[1].reg.value);
	op->imm = in->info.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;
	op->segment = CPU_DS;
	for (unsigned int i = 0; i < in->info.operand_count; i++) {
		if (in->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			op->segment = (uint8_t)(in->operands[i].mem.segment - ZYDIS_REGISTER_ES);
	}
	return DECODED;
}

static enum decoded decode_state(uint32_t mode, const struct instruction *in, struct op *op)
{
	bool old = true;

	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		op->fn = do_fxsave;
		break;
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		op->fn = do_fxrstor;
		break;
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
		op->imm = 1;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64:
		op->fn = do_xsave;
		old = false;
		break;
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
		op->fn = do_xrstor;
		old = false;
		break;
	default:
		return DECODED_NO;
	}
	if (!old && !(mode & MODE_XSAVE))
		return decode_throw(op, VECTOR_UD);
	if (mode & MODE_TS || (old && mode & MODE_EM))
		return decode_throw(op, VECTOR_NM);
	return DECODED;
}

static enum decoded decode_environment(struct op *op, op_fn fn, bool all)
{
	op->fn = fn;
	op->imm = all;
	op->size = op->access_size == 14 || op->access_size == 94 ? 2 : 4;
	return DECODED;
}

enum decoded decode_fpu(uint32_t mode, const struct instruction *in, struct op *op)
{
	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_VZEROALL:
	case ZYDIS_MNEMONIC_VZEROUPPER:
		op->fn = do_vzero;
		op->imm = in->info.mnemonic == ZYDIS_MNEMONIC_VZEROUPPER ? 16 : 0;
		return DECODED;
	case ZYDIS_MNEMONIC_FNSTENV:
		return decode_environment(op, do_fnstenv, false);
	case ZYDIS_MNEMONIC_FNSAVE:
		return decode_environment(op, do_fnstenv, true);
	case ZYDIS_MNEMONIC_FLDENV:
		return decode_environment(op, do_fldenv, false);
	case ZYDIS_MNEMONIC_FRSTOR:
		return decode_environment(op, do_fldenv, true);
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_MASKMOVQ:
		return decode_masked_bytes(mode, in, op);
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
		return decode_masked(in, op, 4);
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		return decode_masked(in, op, 8);
	case ZYDIS_MNEMONIC_VGATHERDPS:
	case ZYDIS_MNEMONIC_VPGATHERDD:
		return decode_gather(in, op, 4, 4);
	case ZYDIS_MNEMONIC_VGATHERDPD:
	case ZYDIS_MNEMONIC_VPGATHERDQ:
		return decode_gather(in, op, 8, 4);
	case ZYDIS_MNEMONIC_VGATHERQPS:
	case ZYDIS_MNEMONIC_VPGATHERQD:
		return decode_gather(in, op, 4, 8);
	case ZYDIS_MNEMONIC_VGATHERQPD:
	case ZYDIS_MNEMONIC_VPGATHERQQ:
		return decode_gather(in, op, 8, 8);
	default:
		return decode_state(mode, in, op);
	}
}
