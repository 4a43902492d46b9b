/*
 * native: see the header. The parts of a piece, in this order:
 *
 *   1. x87: the guest's registers into the host's, unless they are there
 *   2. r11 = linear address, r10 = host address (uses rax, rcx)
 *   3. status flags into the host's, if the instruction reads or keeps some (uses rax)
 *   4. general operands into r8, r9, r11 and, where the encoding implies them, rax, rcx, rdx, rbx
 *   5. vector operands into the registers of the same number
 *   6. the instruction. If it faults, nothing has been changed: signal.c turns the host's signal into
 *      the guest's exception
 *   7. general results, then flags, then vectors back
 *   8. if a written operand was not plain memory: soft_commit
 *   9. the next operation
 *
 * rdi is the CPU and rsi the operation throughout. Displacements and the instruction's length are read
 * from the operation, not built in, so that equal instructions share one piece (code_intern).
 */
#include "vmm/cpu/soft/native.h"
#include "vmm/cpu/soft/address.h"
#include "vmm/cpu/soft/encode.h"
#include "vmm/cpu/soft/fpu.h"
#include "vmm/cpu/soft/mmu.h"

#define AT(field) ((int32_t)offsetof(struct soft, field))
#define OP_AT(field) ((int32_t)offsetof(struct op, field))

enum { OPERANDS_MAX = ZYDIS_MAX_OPERAND_COUNT };

struct general {
	uint8_t host;   /* the host's register */
	uint8_t offset; /* in regs */
	uint8_t size;
	bool read, written;
};

struct vector {
	uint8_t number;
	bool wide, read, written;
};

struct plan {
	struct emit e;
	const struct instruction *in;
	const struct op *op;
	const ZydisDecodedOperand *memory;
	struct general generals[OPERANDS_MAX];
	unsigned int general_count;
	struct vector vectors[OPERANDS_MAX];
	unsigned int vector_count;
	unsigned int slow_jump; /* where the jump to the slow path is to be patched; 0: none */
	unsigned int fast_return;
	enum soft_access access;
	bool uses_rbx;
};

static bool writes(const ZydisDecodedOperand *o)
{
	return o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

static bool is_plain_write(const ZydisDecodedOperand *o)
{
	return o->actions == ZYDIS_OPERAND_ACTION_WRITE;
}

/* With a source of 0 these leave their destination as it was. */
static bool keeps_destination(const struct instruction *in)
{
	return in->info.mnemonic == ZYDIS_MNEMONIC_BSF || in->info.mnemonic == ZYDIS_MNEMONIC_BSR;
}

static bool add_general(struct plan *p, const ZydisDecodedOperand *o)
{
	struct general *g = &p->generals[p->general_count++];
	unsigned int offset = (unsigned int)zydis_gpr_offset(o->reg.value);

	*g = (struct general){.offset = (uint8_t)offset,
			      .size = (uint8_t)(o->size / 8),
			      .read = !is_plain_write(o) || keeps_destination(p->in),
			      .written = writes(o)};
	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		g->host = HOST_R8;
		return true;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		g->host = HOST_R9;
		return true;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		g->host = HOST_R11;
		return true;
	default:
		break;
	}
	/* Implied by the opcode. A high byte is treated as the 16 bits around it. */
	if (offset & 1) {
		g->offset--;
		g->size = 2;
	}
	g->read = true;
	g->host = (uint8_t)(offset / 8);
	p->uses_rbx |= g->host == HOST_RBX;
	return g->host <= HOST_RBX;
}

static bool add_vector(struct plan *p, const ZydisDecodedOperand *o)
{
	bool ymm = o->reg.value >= ZYDIS_REGISTER_YMM0 && o->reg.value <= ZYDIS_REGISTER_YMM15;
	bool xmm = o->reg.value >= ZYDIS_REGISTER_XMM0 && o->reg.value <= ZYDIS_REGISTER_XMM15;
	bool vex = p->in->info.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;

	if (!xmm && !ymm)
		return false;
	p->vectors[p->vector_count++] = (struct vector){
		.number =
			(uint8_t)(o->reg.value - (ymm ? ZYDIS_REGISTER_YMM0 : ZYDIS_REGISTER_XMM0)),
		.wide = vex, /* a VEX instruction clears the upper half of what it writes */
		.read = !vex || !is_plain_write(o),
		.written = writes(o),
	};
	return true;
}

static bool is_silent_register(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_ST0 && reg <= ZYDIS_REGISTER_MM7)
		return true;
	if (reg >= ZYDIS_REGISTER_FLAGS && reg <= ZYDIS_REGISTER_RFLAGS)
		return true;
	return reg == ZYDIS_REGISTER_MXCSR;
}

static bool plan_operands(struct plan *p)
{
	for (unsigned int i = 0; i < p->in->info.operand_count; i++) {
		const ZydisDecodedOperand *o = &p->in->operands[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			if (p->memory || o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN ||
			    o->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
				return false;
			p->memory = o;
		} else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			if (is_silent_register(o->reg.value))
				continue;
			if (zydis_gpr_offset(o->reg.value) >= 0 ? !add_general(p, o)
								: !add_vector(p, o))
				return false;
		} else if (o->type == ZYDIS_OPERAND_TYPE_POINTER) {
			return false;
		}
	}
	return true;
}

static void emit_call(struct emit *e, enum soft_call call)
{
	emit_literal(
		e, "\x57\x56\x48\x83\xec\x08\xff"); /* push rdi, rsi; sub rsp, 8; call [rdi + at] */
	emit_modrm(e, 2, HOST_RDI, AT(calls) + (int32_t)(call * sizeof(soft_call_fn)));
	emit_literal(e, "\x48\x83\xc4\x08\x5e\x5f"); /* add rsp, 8; pop rsi, rdi */
}

void native_bind(struct soft *c)
{
	c->calls[CALL_MEMORY] = (soft_call_fn)soft_memory_slow;
	c->calls[CALL_COMMIT] = (soft_call_fn)soft_commit;
	c->calls[CALL_FPU_ENTER] = (soft_call_fn)fpu_enter;
	c->calls[CALL_ADDRESS] = (soft_call_fn)address_checked;
}

/* BT and its kin with a bit offset in a register: it may lie far from the operand. */
static bool is_bit_string(const struct plan *p)
{
	switch (p->in->info.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return p->memory && p->in->operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
	default:
		return false;
	}
}

/* r11 += (offset >> log2(bits)) * size */
static void emit_bit_offset(struct plan *p)
{
	const ZydisDecodedOperand *bit = &p->in->operands[1];
	unsigned int size = p->memory->size / 8;
	unsigned int shift = size == 2 ? 1 : size == 4 ? 2 : 3;
	int32_t at;

	if (!is_bit_string(p))
		return;
	at = AT(regs) + zydis_gpr_offset(bit->reg.value);
	if (size == 2) {
		emit_literal(&p->e, "\x48\x0f\xbf"); /* movsx rax, word [rdi + at] */
		emit_modrm(&p->e, HOST_RAX, HOST_RDI, at);
	} else {
		emit_op64(&p->e, size == 4 ? 0x63 : 0x8b, HOST_RAX, HOST_RDI, at);
	}
	emit_literal(&p->e, "\x48\xc1\xf8"); /* sar rax, n */
	emit_byte(&p->e, shift + 3);
	emit_literal(&p->e, "\x48\xc1\xe0"); /* shl rax, n */
	emit_byte(&p->e, shift);
	emit_literal(&p->e, "\x49\x01\xc3"); /* add r11, rax */
}

/* r11 = the linear address */
static void emit_address(struct plan *p)
{
	struct emit *e = &p->e;
	const struct op *op = p->op;

	emit_load64(e, HOST_R11, HOST_RSI, OP_AT(disp));
	if (op->base != SOFT_ZERO)
		emit_op64(e, 0x03, HOST_R11, HOST_RDI, AT(regs) + op->base * 8);
	if (op->index != SOFT_ZERO) {
		emit_load64(e, HOST_RAX, HOST_RDI, AT(regs) + op->index * 8);
		emit_literal(e, "\x4d\x8d\x1c"); /* lea r11, [r11 + rax << n] */
		emit_byte(e, (unsigned int)op->scale_bits << 6 | HOST_RAX << 3 | (HOST_R11 & 7));
	}
	emit_bit_offset(p);
	switch (op->address) {
	case ADDRESS_FLAT:
		break;
	case ADDRESS_BASED:
	case ADDRESS_WRAP32:
		if (op->address_size == 4)
			emit_literal(e, "\x45\x8b\xdb"); /* mov r11d, r11d */
		if (op->address_size == 2)
			emit_literal(e, "\x45\x0f\xb7\xdb"); /* movzx r11d, r11w */
		if (op->address == ADDRESS_BASED)
			emit_op64(e, 0x03, HOST_R11, HOST_RDI, AT(segment_base) + op->segment * 8);
		break;
	case ADDRESS_CHECKED:
		emit_literal(e, "\x4c\x89\xda"); /* mov rdx, r11 */
		emit_byte(e, 0xb9);              /* mov ecx, size and access */
		emit_32(e, p->memory->size / 8 | (uint32_t)p->access << 16);
		emit_call(e, CALL_ADDRESS);
		emit_literal(e, "\x49\x89\xc3"); /* mov r11, rax */
		break;
	}
}

/* r10 = the host's address of r11 */
static void emit_lookup(struct plan *p)
{
	struct emit *e = &p->e;
	unsigned int size = p->memory->size / 8;

	_Static_assert(sizeof(struct tlb_entry) == 32, "shift and mask below");
	emit_literal(e, "\x49\x8d\x43"); /* lea rax, [r11 + size - 1] */
	emit_byte(e, size - 1);
	emit_literal(e, "\x4c\x89\xd9\x48\xc1\xe9"); /* mov rcx, r11; shr rcx, 12 - 5 */
	emit_byte(e, SOFT_PAGE_BITS - 5);
	emit_literal(e, "\x48\x25\x00\xf0\xff\xff\x81\xe1"); /* and rax, -4096; and ecx, */
	emit_32(e, (SOFT_TLB_SIZE - 1) * 32);
	emit_op64(e, 0x03, HOST_RCX, HOST_RDI, AT(tlb));
	emit_literal(e, "\x48\x3b\x41"); /* cmp rax, [rcx + tag] */
	emit_byte(e, p->access == ACCESS_READ ? offsetof(struct tlb_entry, read)
					      : offsetof(struct tlb_entry, write));
	emit_literal(e, "\x0f\x85"); /* jne slow */
	p->slow_jump = e->length;
	emit_32(e, 0);
	emit_literal(e, "\x4c\x8b\x51"); /* mov r10, [rcx + addend] */
	emit_byte(e, offsetof(struct tlb_entry, addend));
	emit_literal(e, "\x4d\x01\xda"); /* add r10, r11 */
	p->fast_return = e->length;
}

static void emit_slow_path(struct plan *p)
{
	struct emit *e = &p->e;

	if (!p->slow_jump)
		return;
	emit_patch32(e, p->slow_jump, e->length);
	emit_literal(e, "\x4c\x89\xda\xb9"); /* mov rdx, r11; mov ecx, */
	emit_32(e, p->memory->size / 8 | (uint32_t)p->access << 16);
	emit_literal(e, "\x41\x53\x48\x83\xec\x08"); /* push r11; sub rsp, 8 */
	emit_call(e, CALL_MEMORY);
	emit_literal(e, "\x48\x83\xc4\x08\x41\x5b"); /* add rsp, 8; pop r11 */
	emit_literal(e, "\x49\x89\xc2\xe9");         /* mov r10, rax; jmp */
	emit_32(e, 0);
	emit_patch32(e, e->length - 4, p->fast_return);
}

static bool is_shift(const struct instruction *in)
{
	return in->info.meta.category == ZYDIS_CATEGORY_SHIFT ||
	       in->info.meta.category == ZYDIS_CATEGORY_ROTATE;
}

static uint32_t flags_written(const struct instruction *in)
{
	const ZydisAccessedFlags *f = in->info.cpu_flags;

	return f ? (f->modified | f->set_0 | f->set_1 | f->undefined) & FLAGS_STATUS : 0;
}

static bool flags_needed(const struct instruction *in)
{
	const ZydisAccessedFlags *f = in->info.cpu_flags;
	uint32_t written = flags_written(in);

	if (!f)
		return false;
	return f->tested & FLAGS_STATUS || is_shift(in) || (written && written != FLAGS_STATUS) ||
	       (f->undefined & FLAGS_STATUS && in->info.meta.category != ZYDIS_CATEGORY_LOGICAL);
}

static void emit_flags_in(struct plan *p)
{
	if (!flags_needed(p->in))
		return;
	emit_literal(&p->e, "\x0f\xb7"); /* movzx eax, word [rdi + status] */
	emit_modrm(&p->e, HOST_RAX, HOST_RDI, AT(status));
	emit_literal(&p->e, "\x04\x7f\x9e"); /* add al, 7f (sets OF if al is 1); sahf */
}

static void emit_inputs(struct plan *p)
{
	struct emit *e = &p->e;

	emit_flags_in(p);
	for (unsigned int i = 0; i < p->general_count; i++) {
		struct general *g = &p->generals[i];

		if (!g->read)
			continue;
		if (g->offset & 1) { /* a high byte */
			emit_byte(e, 0x40 | (g->host >> 3) << 2);
			emit_literal(e, "\x0f\xb6");
			emit_modrm(e, g->host, HOST_RDI, AT(regs) + g->offset);
		} else {
			emit_load64(e, g->host, HOST_RDI, AT(regs) + g->offset);
		}
	}
}

/* The address has the bit offset's upper part already: the instruction must not add it again. */
static void emit_bit_mask(struct plan *p)
{
	if (!is_bit_string(p))
		return;
	emit_literal(&p->e, "\x41\x83\xe0"); /* and r8d, bits - 1 */
	emit_byte(&p->e, p->memory->size - 1u);
	emit_flags_in(p); /* which the AND has changed */
}

static void emit_vector_move(struct emit *e, const struct vector *v, unsigned int opcode)
{
	int32_t at = AT(vec) + v->number * 32;

	if (v->wide) { /* vmovups ymm */
		emit_byte(e, 0xc5);
		emit_byte(e, (v->number < 8 ? 0x80 : 0) | 0x7c);
		emit_byte(e, opcode);
	} else { /* movups xmm */
		if (v->number >= 8)
			emit_byte(e, 0x44);
		emit_byte(e, 0x0f);
		emit_byte(e, opcode);
	}
	emit_modrm(e, v->number, HOST_RDI, at);
}

static void emit_results(struct plan *p)
{
	struct emit *e = &p->e;

	/* From the last operand to the first: where two are the same register the first one wins. */
	for (unsigned int i = p->general_count; i-- > 0;) {
		struct general *g = &p->generals[i];

		if (g->written)
			emit_store(e, g->size, g->host, HOST_RDI, AT(regs) + g->offset);
	}
	if (flags_written(p->in)) {
		emit_literal(e, "\x9f\x0f\x90\xc0\x66\x89"); /* lahf; seto al; mov [status], ax */
		emit_modrm(e, HOST_RAX, HOST_RDI, AT(status));
	}
	for (unsigned int i = p->vector_count; i-- > 0;) {
		if (p->vectors[i].written)
			emit_vector_move(e, &p->vectors[i], 0x11);
	}
	if (p->in->info.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && p->vector_count > 0)
		emit_literal(e, "\xc5\xf8\x77"); /* vzeroupper */
}

static void emit_next(struct emit *e)
{
#if SOFT_TAIL_CALLS
	emit_literal(e, "\x48\x83\xc6"); /* add rsi, sizeof(struct op); jmp [rsi] */
	emit_byte(e, sizeof(struct op));
	emit_literal(e, "\xff\x26");
#else
	emit_literal(e, "\x48\x8d\x46"); /* lea rax, [rsi + sizeof(struct op)]; ret */
	emit_byte(e, sizeof(struct op));
	emit_byte(e, 0xc3);
#endif
	_Static_assert(sizeof(struct op) < 128 && offsetof(struct op, fn) == 0, "encoded above");
}

static void emit_end(struct plan *p)
{
	struct emit *e = &p->e;
	unsigned int jump = 0;

	if (p->memory && p->access != ACCESS_READ && p->slow_jump) {
		emit_literal(e, "\x83"); /* cmp dword [rdi + commit.kind], 0; jne */
		emit_modrm(e, 7, HOST_RDI, AT(commit.kind));
		emit_literal(e, "\x00\x0f\x85");
		jump = e->length;
		emit_32(e, 0);
	}
	emit_next(e);
	if (jump) {
		emit_patch32(e, jump, e->length);
		emit_call(e, CALL_COMMIT);
		emit_next(e);
	}
	emit_slow_path(p);
}

/* The x87 state must be in the host's registers; a non-control instruction leaves its address. */
static void emit_x87_enter(struct plan *p)
{
	struct emit *e = &p->e;
	unsigned int jump;

	emit_byte(e, 0x80); /* cmp byte [rdi + fpu_live], 0; jne over */
	emit_modrm(e, 7, HOST_RDI, AT(fpu_live));
	emit_literal(e, "\x00\x0f\x85");
	jump = e->length;
	emit_32(e, 0);
	emit_call(e, CALL_FPU_ENTER);
	emit_patch32(e, jump, e->length);
}

/* What an earlier instruction has left pending is raised before this one touches memory. */
static void emit_x87_wait(struct plan *p)
{
	switch (p->in->info.mnemonic) {
	case ZYDIS_MNEMONIC_FNSTSW:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FNCLEX:
	case ZYDIS_MNEMONIC_FNINIT:
		return;
	default:
		emit_byte(&p->e, 0x9b); /* fwait */
	}
}

static void emit_x87_pointers(struct plan *p)
{
	struct emit *e = &p->e;
	unsigned int opcode =
		(p->in->info.opcode & 7u) << 8 | p->in->bytes[p->in->info.raw.modrm.offset];

	emit_literal(e, "\x0f\xb7"); /* movzx eax, word [rsi + offset]; add rax, [rdi + rip] */
	emit_modrm(e, HOST_RAX, HOST_RSI, OP_AT(offset));
	emit_op64(e, 0x03, HOST_RAX, HOST_RDI, AT(regs) + SOFT_RIP * 8);
	emit_op64(e, 0x89, HOST_RAX, HOST_RDI, AT(fpu_ip));
	emit_literal(e, "\x66\xc7"); /* mov word [rdi + fpu_opcode], imm */
	emit_modrm(e, 0, HOST_RDI, AT(fpu_opcode));
	emit_byte(e, opcode & 0xff);
	emit_byte(e, opcode >> 8);
	if (p->memory)
		emit_op64(e, 0x89, HOST_R11, HOST_RDI, AT(fpu_dp));
}

static void *finish(struct code *code, const struct plan *p, bool *ret_full)
{
	void *piece;

	if (emit_full(&p->e))
		return NULL;
	piece = code_intern(code, p->e.bytes, p->e.length);
	*ret_full = !piece;
	return piece;
}

void *native_compile(struct code *code, const struct instruction *in, const struct op *op,
		     enum native_kind kind, bool *ret_full)
{
	struct plan p = {.in = in, .op = op};
	bool x87 = kind == NATIVE_X87 || kind == NATIVE_X87_CONTROL;

	*ret_full = false;
	if (!plan_operands(&p))
		return NULL;
	if (x87) {
		emit_x87_enter(&p);
		emit_x87_wait(&p);
	}
	if (p.memory) {
		if (p.memory->size == 0 || p.memory->size > 8 * 128)
			return NULL;
		p.access = !writes(p.memory)          ? ACCESS_READ
			   : is_plain_write(p.memory) ? ACCESS_WRITE
						      : ACCESS_MODIFY;
		emit_address(&p);
		emit_lookup(&p);
	}
	if (kind == NATIVE_X87)
		emit_x87_pointers(&p);
	if (p.uses_rbx)
		emit_byte(&p.e, 0x53);
	emit_inputs(&p);
	emit_bit_mask(&p);
	for (unsigned int i = 0; i < p.vector_count; i++) {
		if (p.vectors[i].read)
			emit_vector_move(&p.e, &p.vectors[i], 0x10);
	}
	if (!encode_instruction(&p.e, in, kind == NATIVE_GENERAL))
		return NULL;
	emit_results(&p);
	if (p.uses_rbx)
		emit_byte(&p.e, 0x5b);
	emit_end(&p);
	return finish(code, &p, ret_full);
}

void *native_compile_lea(struct code *code, const struct instruction *in, const struct op *op,
			 bool *ret_full)
{
	struct plan p = {.in = in, .op = op, .memory = &in->operands[1]};
	unsigned int size = in->operands[0].size / 8;

	*ret_full = false;
	emit_address(&p);
	if (size == 4)
		emit_literal(&p.e, "\x45\x8b\xdb"); /* mov r11d, r11d */
	emit_store(&p.e, size, HOST_R11, HOST_RDI,
		   AT(regs) + zydis_gpr_offset(in->operands[0].reg.value));
	emit_next(&p.e);
	return finish(code, &p, ret_full);
}
