/*
 * decode: see the header. What most instructions have in common is filled in here (the memory operand);
 * then the groups are asked, each for the instructions that have a function in C. All others are plain
 * data processing and become generated code (native.c), if their instruction set is one we offer.
 */
#include "vmm/cpu/soft/decode.h"

#include "vmm/cpu/soft/cache.h"
#include "vmm/cpu/soft/feature.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/native.h"
#include "vmm/cpu/soft/run.h"

struct builder {
	struct soft *c;
	uint32_t mode;
	struct op ops[BLOCK_OPS_MAX + 1];
	unsigned int count, bytes;
	bool full;
};

static const struct op *do_throw(struct soft *c, const struct op *op)
{
	c->op = op;
	soft_throw(c, op->imm, 0);
}

enum decoded decode_throw(struct op *op, enum soft_vector vector)
{
	op->fn = do_throw;
	op->imm = vector;
	return DECODED_LAST;
}

static const struct op *do_end(struct soft *c, const struct op *op)
{
	return run_follow(c, op, op_rip(c, op) & rip_mask(c));
}

bool decode_has_link(const struct op *op)
{
	return op->fn == do_end || control_has_link(op);
}

static unsigned int segment_number(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_ES && reg <= ZYDIS_REGISTER_GS ? reg - ZYDIS_REGISTER_ES
								    : CPU_DS;
}

static unsigned int address_register(ZydisRegister reg)
{
	int number = zydis_gpr_number(reg);

	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return SOFT_RIP;
	return number < 0 ? SOFT_ZERO : (unsigned int)number;
}

static enum soft_address address_kind(uint32_t mode, unsigned int segment, unsigned int width)
{
	if (mode & MODE_64) {
		if (segment == CPU_FS || segment == CPU_GS)
			return ADDRESS_BASED;
		return width == 64 ? ADDRESS_FLAT : ADDRESS_WRAP32;
	}
	if (mode & MODE_FLAT && width == 32 &&
	    (segment == CPU_DS || segment == CPU_ES || segment == CPU_SS))
		return ADDRESS_WRAP32;
	return ADDRESS_CHECKED;
}

static void fill_memory(uint32_t mode, const struct instruction *in, struct op *op)
{
	op->base = op->index = SOFT_ZERO;
	op->segment = CPU_DS;
	op->address_size = in->info.address_width / 8;
	for (unsigned int i = 0; i < in->info.operand_count; i++) {
		const ZydisDecodedOperand *o = &in->operands[i];

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN)
			continue;
		op->has_memory = true;
		op->segment = (uint8_t)segment_number(o->mem.segment);
		op->base = (uint8_t)address_register(o->mem.base);
		if (o->mem.type != ZYDIS_MEMOP_TYPE_VSIB)
			op->index = (uint8_t)address_register(o->mem.index);
		op->scale_bits = o->mem.scale ? (uint8_t)__builtin_ctz(o->mem.scale) : 0;
		op->disp = o->mem.disp.value;
		/* Zydis 4.0 names r13 as a base where, with 32-bit addresses, there is none. */
		if (in->info.attributes & ZYDIS_ATTRIB_HAS_SIB && in->info.raw.modrm.mod == 0 &&
		    (in->info.raw.sib.base & 7) == 5) {
			op->base = SOFT_ZERO;
			op->disp = in->info.raw.disp.value;
		}
		if (op->base == SOFT_RIP)
			op->disp += op->offset + op->length;
		op->access_size = o->size <= 8 * 128 ? (uint8_t)(o->size / 8) : 0;
		op->address = (uint8_t)address_kind(mode, op->segment, in->info.address_width);
		return;
	}
}

/* What a misaligned vector operand throws comes before what its page would: generated code finds it only
 * after the page (the host throws it), so the slow way asks first. */
static unsigned int alignment_of(const struct instruction *in, const struct op *op)
{
	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI:
	case ZYDIS_MNEMONIC_PCMPISTRM:
		return 0;
	case ZYDIS_MNEMONIC_CMPXCHG16B:
	case ZYDIS_MNEMONIC_CVTPD2PI:
	case ZYDIS_MNEMONIC_CVTTPD2PI:
		return 15;
	default:
		break;
	}
	if (in->info.meta.isa_set == ZYDIS_ISA_SET_SHA)
		return 0;
	switch (in->info.meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_SSE1:
	case ZYDIS_EXCEPTION_CLASS_SSE2:
	case ZYDIS_EXCEPTION_CLASS_SSE4:
		return op->access_size == 16 ? 15 : 0;
	case ZYDIS_EXCEPTION_CLASS_AVX1:
		return op->access_size >= 16 ? op->access_size - 1u : 0;
	default:
		return 0;
	}
}

static void fill_common(uint32_t mode, const struct instruction *in, struct op *op)
{
	op->length = in->info.length;
	op->size = in->info.operand_width / 8;
	if (in->info.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		op->prefix |= PREFIX_REP;
	if (in->info.attributes & ZYDIS_ATTRIB_HAS_REPNE)
		op->prefix |= PREFIX_REPNE;
	if (in->info.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		op->prefix |= PREFIX_LOCK;
	fill_memory(mode, in, op);
	op->alignment = (uint8_t)alignment_of(in, op);
}

static enum decoded decode_native(struct builder *b, const struct instruction *in, struct op *op,
				  enum native_kind kind)
{
	struct code *code = cache_code(b->c->cache);

	if (in->info.mnemonic == ZYDIS_MNEMONIC_LEA) {
		op->address = ADDRESS_WRAP32; /* no segment, only the address size */
		op->fn = (op_fn)native_compile_lea(code, in, op, &b->full);
	} else {
		op->fn = (op_fn)native_compile(code, in, op, kind, &b->full);
	}
	if (!op->fn)
		return decode_throw(op, VECTOR_UD);
	return DECODED;
}

static enum decoded decode_one(struct builder *b, const struct instruction *in, struct op *op)
{
	enum feature_check check;
	enum decoded done;
	enum native_kind kind;

	fill_common(b->mode, in, op);
	check = feature_check(b->mode, in, &kind);
	if (check == FEATURE_MISSING)
		return decode_throw(op, VECTOR_UD);
	if (check == FEATURE_UNAVAILABLE)
		return decode_throw(op, VECTOR_NM);
	done = decode_control(b->mode, in, op);
	if (done == DECODED_NO)
		done = decode_data(b->mode, in, op);
	if (done == DECODED_NO)
		done = decode_system(b->mode, in, op);
	if (done == DECODED_NO)
		done = decode_fpu(b->mode, in, op);
	if (done == DECODED_NO && check == FEATURE_NATIVE)
		done = decode_native(b, in, op, kind);
	return done == DECODED_NO ? decode_throw(op, VECTOR_UD) : done;
}

/* The bytes from the linear address on: those in its page, and as many of the next as may be needed
 * (then in `buffer`). */
struct fetch {
	uint8_t buffer[2 * ZYDIS_MAX_INSTRUCTION_LENGTH];
	const uint8_t *bytes;
	unsigned int available;
	gpa_t next_page; /* SOFT_NO_PAGE: not used */
};

static const uint8_t no_memory[ZYDIS_MAX_INSTRUCTION_LENGTH] = {
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void fetch_page(struct soft *c, gpa_t gpa, struct fetch *f)
{
	const uint8_t *host = soft_host(c->vm, gpa, NULL);

	f->bytes = host ? host : no_memory; /* an empty bus reads as ones: an invalid instruction */
	f->available = host ? SOFT_PAGE_SIZE - (gpa & 0xfff) : sizeof(no_memory);
	f->next_page = SOFT_NO_PAGE;
}

static void fetch_across(struct soft *c, uint64_t linear, struct fetch *f,
			 void (*mark)(struct soft *c, gpa_t gpa))
{
	gpa_t gpa = soft_fetch_gpa(c, (linear | 0xfff) + 1);
	const uint8_t *host;

	mark(c, gpa);
	host = soft_host(c->vm, gpa, NULL);
	memcpy(f->buffer, f->bytes, f->available);
	memcpy(f->buffer + f->available, host ? host : no_memory, ZYDIS_MAX_INSTRUCTION_LENGTH);
	f->bytes = f->buffer;
	f->available += ZYDIS_MAX_INSTRUCTION_LENGTH;
	f->next_page = gpa;
}

static struct block *finish(struct builder *b, gpa_t gpa, const struct fetch *f)
{
	struct op *end = &b->ops[b->count];
	struct block *block;

	*end = (struct op){.fn = do_end, .offset = (uint16_t)b->bytes};
	if (b->full)
		return NULL;
	block = cache_allocate(b->c->cache, b->count + 1);
	if (!block)
		return NULL;
	*block = (struct block){
		.gpa = gpa,
		.gpa_next_page = f->next_page,
		.mode = b->mode,
		.count = (uint16_t)b->count,
		.bytes = (uint16_t)b->bytes & 0x7fff,
		.key = NO_KEY,
	};
	memcpy(block->ops, b->ops, (b->count + 1) * sizeof(struct op));
	return block;
}

struct block *decode_block(struct soft *c, uint32_t mode, uint64_t linear, gpa_t gpa,
			   void (*mark)(struct soft *c, gpa_t gpa))
{
	struct builder b = {.c = c, .mode = mode};
	unsigned int limit = mode & MODE_ONE ? 1 : BLOCK_OPS_MAX;
	enum decoded done = DECODED;
	struct instruction in;
	struct fetch f;

	fetch_page(c, gpa, &f);
	while (b.count < limit && done == DECODED) {
		struct op *op = &b.ops[b.count];
		enum decode_result result =
			zydis_decode(mode, f.bytes + b.bytes, f.available - b.bytes, &in);

		if (result == DECODE_MORE && f.next_page == SOFT_NO_PAGE &&
		    f.available >= b.bytes) {
			if (b.count > 0)
				break; /* a block of its own: fetching the rest may fault */
			fetch_across(c, linear, &f, mark);
			continue;
		}
		*op = (struct op){.offset = (uint16_t)b.bytes};
		if (result != DECODE_OK) {
			decode_throw(op, f.available - b.bytes >= 15 && result == DECODE_MORE
						 ? VECTOR_GP
						 : VECTOR_UD);
			b.count++;
			break;
		}
		done = decode_one(&b, &in, op);
		b.count++;
		b.bytes += in.info.length;
		if (f.next_page != SOFT_NO_PAGE || b.full)
			break;
	}
	return finish(&b, gpa, &f);
}
