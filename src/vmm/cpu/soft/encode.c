/* encode: see the header. The bytes are put together anew from Zydis' parts, since the guest's mode may
 * differ from ours: in 16-bit code the meaning of prefix 66 is turned round, 40-4F are INC and DEC. */
#include "vmm/cpu/soft/encode.h"

struct parts {
	unsigned int reg, rm, vvvv; /* as encoded, 4 bits each */
	bool has_modrm, memory, uses_vvvv;
	uint8_t opcode;
};

static int vector_number(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_XMM0 && reg <= ZYDIS_REGISTER_XMM15)
		return reg - ZYDIS_REGISTER_XMM0;
	if (reg >= ZYDIS_REGISTER_YMM0 && reg <= ZYDIS_REGISTER_YMM15)
		return reg - ZYDIS_REGISTER_YMM0;
	if (reg >= ZYDIS_REGISTER_MM0 && reg <= ZYDIS_REGISTER_MM7)
		return reg - ZYDIS_REGISTER_MM0;
	if (reg >= ZYDIS_REGISTER_ST0 && reg <= ZYDIS_REGISTER_ST7)
		return reg - ZYDIS_REGISTER_ST0;
	return -1;
}

static bool place_operand(struct parts *p, const ZydisDecodedOperand *operand)
{
	bool general = zydis_gpr_offset(operand->reg.value) >= 0;
	int number = vector_number(operand->reg.value);

	switch (operand->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		p->reg = general ? HOST_R8 : (unsigned int)number;
		break;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		p->rm = general ? HOST_R9 : (unsigned int)number;
		break;
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		p->rm = general ? HOST_R9 : (unsigned int)number;
		p->opcode = (uint8_t)((p->opcode & ~7u) | (p->rm & 7));
		break;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		p->vvvv = general ? HOST_R11 : (unsigned int)number;
		p->uses_vvvv = true;
		break;
	default: /* IS4: in the immediate; NONE: implied by the opcode */
		return true;
	}
	return general || number >= 0;
}

static bool find_parts(const struct instruction *in, struct parts *p)
{
	*p = (struct parts){.opcode = in->info.opcode,
			    .reg = in->info.raw.modrm.reg,
			    .rm = in->info.raw.modrm.rm,
			    .has_modrm = in->info.attributes & ZYDIS_ATTRIB_HAS_MODRM};
	for (unsigned int i = 0; i < in->info.operand_count; i++) {
		const ZydisDecodedOperand *operand = &in->operands[i];

		if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			p->memory = true;
			p->rm = HOST_R10;
		} else if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER &&
			   !place_operand(p, operand)) {
			return false;
		}
	}
	return true;
}

/* Short forms that do not exist in 64-bit mode, or have no ModRM where we need one. */
static void widen(const struct instruction *in, struct parts *p)
{
	bool one_byte = in->info.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT;

	if (!one_byte || in->info.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return;
	if (in->info.opcode >= 0x40 && in->info.opcode <= 0x4f) {
		p->reg = in->info.opcode < 0x48 ? 0 : 1;
		p->opcode = 0xff;
		p->has_modrm = true;
	} else if (in->info.opcode >= 0xa0 && in->info.opcode <= 0xa3) {
		static const uint8_t moves[] = {0x8a, 0x8b, 0x88, 0x89};

		p->opcode = moves[in->info.opcode - 0xa0];
		p->reg = HOST_RAX;
		p->has_modrm = true;
	} else if (in->info.opcode == 0x82) {
		p->opcode = 0x80;
	}
}

static bool wants_66(const struct instruction *in, bool is_general)
{
	bool mandatory = false, effective = false;

	for (unsigned int i = 0; i < in->info.raw.prefix_count; i++) {
		if (in->info.raw.prefixes[i].value != 0x66)
			continue;
		mandatory |= in->info.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY;
		effective |= in->info.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_EFFECTIVE;
	}
	if (is_general && in->info.machine_mode == ZYDIS_MACHINE_MODE_LEGACY_16)
		return mandatory || in->info.operand_width == 16;
	return mandatory || effective;
}

static bool emit_legacy(struct emit *e, const struct instruction *in, const struct parts *p,
			bool is_general)
{
	unsigned int w = in->info.attributes & ZYDIS_ATTRIB_HAS_REX ? in->info.raw.rex.W : 0;

	if (wants_66(in, is_general))
		emit_byte(e, 0x66);
	for (unsigned int i = 0; i < in->info.raw.prefix_count; i++) {
		uint8_t value = in->info.raw.prefixes[i].value;

		if ((value == 0xf2 || value == 0xf3) &&
		    in->info.raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY)
			emit_byte(e, value);
	}
	if (in->info.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		emit_byte(e, 0xf0);
	if (in->info.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || p->opcode < 0xd8 ||
	    p->opcode > 0xdf || p->memory)
		emit_byte(e, 0x40 | w << 3 | (p->reg >> 3) << 2 | p->rm >> 3);
	switch (in->info.opcode_map) {
	case ZYDIS_OPCODE_MAP_DEFAULT:
		break;
	case ZYDIS_OPCODE_MAP_0F:
		emit_byte(e, 0x0f);
		break;
	case ZYDIS_OPCODE_MAP_0F38:
		emit_literal(e, "\x0f\x38");
		break;
	case ZYDIS_OPCODE_MAP_0F3A:
		emit_literal(e, "\x0f\x3a");
		break;
	default:
		return false;
	}
	return true;
}

static bool emit_vex(struct emit *e, const struct instruction *in, const struct parts *p)
{
	const ZydisDecodedInstructionRawVex *vex = &in->info.raw.vex;
	unsigned int vvvv = p->uses_vvvv ? p->vvvv : 0;

	emit_byte(e, 0xc4);
	emit_byte(e, (~p->reg >> 3 & 1) << 7 | 1 << 6 | (~p->rm >> 3 & 1) << 5 | vex->m_mmmm);
	emit_byte(e, (unsigned int)vex->W << 7 | (~vvvv & 15) << 3 | (unsigned int)vex->L << 2 |
			     vex->pp);
	return in->info.raw.sib.offset == 0 || p->memory;
}

bool encode_instruction(struct emit *e, const struct instruction *in, bool is_general)
{
	struct parts p;
	unsigned int imm = in->info.raw.imm[0].offset;

	if (!find_parts(in, &p))
		return false;
	widen(in, &p);
	if (in->info.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX
		    ? !emit_vex(e, in, &p)
		    : !emit_legacy(e, in, &p, is_general))
		return false;
	emit_byte(e, p.opcode);
	if (p.has_modrm)
		emit_byte(e, (p.memory ? 0x00u : 0xc0u) | (p.reg & 7) << 3 | (p.rm & 7));
	if (in->info.raw.imm[0].size > 0)
		emit_bytes(e, in->bytes + imm, in->info.length - imm);
	return true;
}
