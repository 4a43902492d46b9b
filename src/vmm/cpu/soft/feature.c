/* feature: see the header. */
#include "vmm/cpu/soft/feature.h"

#include <cpuid.h>

#include "base/mem.h"

/* Instructions of the base set that only compute: no control, no stack, no system state. */
static bool is_plain(ZydisMnemonic m)
{
	static const ZydisMnemonic plain[] = {
		ZYDIS_MNEMONIC_ADD,     ZYDIS_MNEMONIC_ADC,       ZYDIS_MNEMONIC_SUB,
		ZYDIS_MNEMONIC_SBB,     ZYDIS_MNEMONIC_AND,       ZYDIS_MNEMONIC_OR,
		ZYDIS_MNEMONIC_XOR,     ZYDIS_MNEMONIC_CMP,       ZYDIS_MNEMONIC_TEST,
		ZYDIS_MNEMONIC_INC,     ZYDIS_MNEMONIC_DEC,       ZYDIS_MNEMONIC_NEG,
		ZYDIS_MNEMONIC_NOT,     ZYDIS_MNEMONIC_MUL,       ZYDIS_MNEMONIC_IMUL,
		ZYDIS_MNEMONIC_DIV,     ZYDIS_MNEMONIC_IDIV,      ZYDIS_MNEMONIC_SHL,
		ZYDIS_MNEMONIC_SHR,     ZYDIS_MNEMONIC_SAR,       ZYDIS_MNEMONIC_ROL,
		ZYDIS_MNEMONIC_ROR,     ZYDIS_MNEMONIC_RCL,       ZYDIS_MNEMONIC_RCR,
		ZYDIS_MNEMONIC_SHLD,    ZYDIS_MNEMONIC_SHRD,      ZYDIS_MNEMONIC_BT,
		ZYDIS_MNEMONIC_BTS,     ZYDIS_MNEMONIC_BTR,       ZYDIS_MNEMONIC_BTC,
		ZYDIS_MNEMONIC_BSF,     ZYDIS_MNEMONIC_BSR,       ZYDIS_MNEMONIC_BSWAP,
		ZYDIS_MNEMONIC_MOV,     ZYDIS_MNEMONIC_MOVZX,     ZYDIS_MNEMONIC_MOVSX,
		ZYDIS_MNEMONIC_MOVSXD,  ZYDIS_MNEMONIC_XCHG,      ZYDIS_MNEMONIC_XADD,
		ZYDIS_MNEMONIC_CMPXCHG, ZYDIS_MNEMONIC_CMPXCHG8B, ZYDIS_MNEMONIC_CMPXCHG16B,
		ZYDIS_MNEMONIC_LEA,     ZYDIS_MNEMONIC_CBW,       ZYDIS_MNEMONIC_CWDE,
		ZYDIS_MNEMONIC_CDQE,    ZYDIS_MNEMONIC_CWD,       ZYDIS_MNEMONIC_CDQ,
		ZYDIS_MNEMONIC_CQO,     ZYDIS_MNEMONIC_LAHF,      ZYDIS_MNEMONIC_SAHF,
		ZYDIS_MNEMONIC_CLC,     ZYDIS_MNEMONIC_STC,       ZYDIS_MNEMONIC_CMC,
	};

	for (unsigned int i = 0; i < array_size(plain); i++) {
		if (plain[i] == m)
			return true;
	}
	return false;
}

struct isa {
	ZydisISASet set;
	unsigned int needs; /* enum feature */
	enum native_kind kind;
	bool native;
};

#define GENERAL NATIVE_GENERAL, true
#define VECTOR NATIVE_VECTOR, true
#define X87 NATIVE_X87, true
#define IN_C NATIVE_GENERAL, false

static const struct isa sets[] = {
	{ZYDIS_ISA_SET_ADOX_ADCX, FEATURE_ADX, GENERAL},
	{ZYDIS_ISA_SET_AES, FEATURE_AES, VECTOR},
	{ZYDIS_ISA_SET_AMD, FEATURE_AMD, IN_C}, /* SYSCALL outside of 64-bit mode */
	{ZYDIS_ISA_SET_AVX, FEATURE_AVX, VECTOR},
	{ZYDIS_ISA_SET_AVX2, FEATURE_AVX2, VECTOR},
	{ZYDIS_ISA_SET_AVX2GATHER, FEATURE_AVX2, IN_C},
	{ZYDIS_ISA_SET_AVXAES, FEATURE_AVX | FEATURE_AES, VECTOR},
	{ZYDIS_ISA_SET_BMI1, FEATURE_BMI1, GENERAL},
	{ZYDIS_ISA_SET_BMI2, FEATURE_BMI2, GENERAL},
	{ZYDIS_ISA_SET_CMOV, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_CMPXCHG16B, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_CLFLUSHOPT, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_CLFSH, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_F16C, FEATURE_F16C, VECTOR},
	{ZYDIS_ISA_SET_FAT_NOP, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_FCMOV, FEATURE_ALWAYS, X87},
	{ZYDIS_ISA_SET_FMA, FEATURE_FMA, VECTOR},
	{ZYDIS_ISA_SET_FXSAVE, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_FXSAVE64, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_I186, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_I286PROTECTED, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_I286REAL, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_I386, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_I486, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_I486REAL, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_I86, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_LAHF, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_LONGMODE, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_LZCNT, FEATURE_LZCNT, GENERAL},
	{ZYDIS_ISA_SET_MOVBE, FEATURE_MOVBE, GENERAL},
	{ZYDIS_ISA_SET_PAUSE, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_PCLMULQDQ, FEATURE_PCLMUL, VECTOR},
	{ZYDIS_ISA_SET_PENTIUMMMX, FEATURE_ALWAYS, NATIVE_X87_CONTROL, true},
	{ZYDIS_ISA_SET_PENTIUMREAL, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_POPCNT, FEATURE_POPCNT, GENERAL},
	{ZYDIS_ISA_SET_PPRO, FEATURE_ALWAYS, GENERAL},
	{ZYDIS_ISA_SET_PREFETCH_NOP, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_RDRAND, FEATURE_RDRAND, GENERAL},
	{ZYDIS_ISA_SET_RDSEED, FEATURE_RDSEED, GENERAL},
	{ZYDIS_ISA_SET_RDPID, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_RDTSCP, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_RDWRFSGS, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_SHA, FEATURE_SHA, VECTOR},
	{ZYDIS_ISA_SET_SMAP, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_SSE, FEATURE_ALWAYS, VECTOR},
	{ZYDIS_ISA_SET_SSE2, FEATURE_ALWAYS, VECTOR},
	{ZYDIS_ISA_SET_SSE2MMX, FEATURE_ALWAYS, NATIVE_X87_CONTROL, true},
	{ZYDIS_ISA_SET_SSE3, FEATURE_SSE3, VECTOR},
	{ZYDIS_ISA_SET_SSE3X87, FEATURE_SSE3, X87},
	{ZYDIS_ISA_SET_SSE4, FEATURE_SSE41, VECTOR},
	{ZYDIS_ISA_SET_SSE42, FEATURE_SSE42, VECTOR},
	{ZYDIS_ISA_SET_SSEMXCSR, FEATURE_ALWAYS, VECTOR},
	{ZYDIS_ISA_SET_SSE_PREFETCH, FEATURE_ALWAYS, IN_C},
	{ZYDIS_ISA_SET_SSSE3, FEATURE_SSSE3, VECTOR},
	{ZYDIS_ISA_SET_SSSE3MMX, FEATURE_SSSE3, NATIVE_X87_CONTROL, true},
	{ZYDIS_ISA_SET_X87, FEATURE_ALWAYS, X87},
	{ZYDIS_ISA_SET_XSAVE, FEATURE_AVX, IN_C},
	{ZYDIS_ISA_SET_XSAVEOPT, FEATURE_AVX, IN_C},
	{ZYDIS_ISA_SET_INVPCID, FEATURE_ALWAYS, IN_C},
};

enum { HYGON_EBX = 0x6f677948 };

unsigned int feature_host(void)
{
	static _Atomic unsigned int found;
	static const struct {
		uint8_t reg, bit; /* of leaf 1: 2 is ECX; of leaf 7: 1 is EBX */
		unsigned int feature;
	} leaf1[] = {{2, 0, FEATURE_SSE3},   {2, 1, FEATURE_PCLMUL},  {2, 9, FEATURE_SSSE3},
		     {2, 12, FEATURE_FMA},   {2, 19, FEATURE_SSE41},  {2, 20, FEATURE_SSE42},
		     {2, 22, FEATURE_MOVBE}, {2, 23, FEATURE_POPCNT}, {2, 25, FEATURE_AES},
		     {2, 28, FEATURE_AVX},   {2, 29, FEATURE_F16C},   {2, 30, FEATURE_RDRAND}},
	  leaf7[] = {{1, 3, FEATURE_BMI1},    {1, 5, FEATURE_AVX2}, {1, 8, FEATURE_BMI2},
		     {1, 18, FEATURE_RDSEED}, {1, 19, FEATURE_ADX}, {1, 29, FEATURE_SHA}};
	unsigned int r[4] = {0}, features = FEATURE_ALWAYS;

	if (found)
		return found;
	__get_cpuid(0, &r[0], &r[1], &r[2], &r[3]);
	if (r[1] == signature_AMD_ebx || r[1] == HYGON_EBX)
		features |= FEATURE_AMD;
	__get_cpuid(1, &r[0], &r[1], &r[2], &r[3]);
	for (unsigned int i = 0; i < array_size(leaf1); i++)
		features |= r[leaf1[i].reg] >> leaf1[i].bit & 1 ? leaf1[i].feature : 0;
	if (__get_cpuid_count(7, 0, &r[0], &r[1], &r[2], &r[3])) {
		for (unsigned int i = 0; i < array_size(leaf7); i++)
			features |= r[leaf7[i].reg] >> leaf7[i].bit & 1 ? leaf7[i].feature : 0;
	}
	if (__get_cpuid(0x80000001, &r[0], &r[1], &r[2], &r[3]) && r[2] >> 5 & 1)
		features |= FEATURE_LZCNT;
	if (!(features & FEATURE_AVX))
		features &= ~(unsigned int)(FEATURE_AVX2 | FEATURE_FMA | FEATURE_F16C);
	found = features;
	return features;
}

static bool uses_mmx(const struct instruction *in)
{
	for (unsigned int i = 0; i < in->info.operand_count; i++) {
		const ZydisDecodedOperand *o = &in->operands[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_MM0 &&
		    o->reg.value <= ZYDIS_REGISTER_MM7)
			return true;
	}
	return in->info.mnemonic == ZYDIS_MNEMONIC_EMMS;
}

/* Those that do not change the x87's instruction and operand pointers. */
static bool is_x87_control(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_FNSTSW:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FLDCW:
	case ZYDIS_MNEMONIC_FNCLEX:
	case ZYDIS_MNEMONIC_FNINIT:
	case ZYDIS_MNEMONIC_FWAIT:
		return true;
	default:
		return false;
	}
}

/* Which of CR0 and CR4 must allow it. */
static enum feature_check check_state(uint32_t mode, const struct instruction *in,
				      enum native_kind kind)
{
	bool vex = in->info.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;

	if (kind == NATIVE_GENERAL)
		return vex && !(mode & MODE_PROTECTED) ? FEATURE_MISSING : FEATURE_NATIVE;
	if (kind == NATIVE_X87 || kind == NATIVE_X87_CONTROL) {
		bool mmx = uses_mmx(in);

		if (mode & MODE_EM)
			return mmx ? FEATURE_MISSING : FEATURE_UNAVAILABLE;
		if (in->info.mnemonic == ZYDIS_MNEMONIC_FWAIT && !(mode & MODE_MP))
			return FEATURE_NATIVE;
		return mode & MODE_TS ? FEATURE_UNAVAILABLE : FEATURE_NATIVE;
	}
	if (vex ? !(mode & MODE_AVX) || !(mode & MODE_PROTECTED)
		: mode & MODE_EM || !(mode & MODE_SSE))
		return FEATURE_MISSING;
	return mode & MODE_TS ? FEATURE_UNAVAILABLE : FEATURE_NATIVE;
}

enum feature_check feature_check(uint32_t mode, const struct instruction *in,
				 enum native_kind *ret_kind)
{
	const struct isa *isa = NULL;
	enum feature_check state;

	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_ENDBR32: /* in the space of instructions that do nothing on older CPUs */
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_RDSSPD:
	case ZYDIS_MNEMONIC_RDSSPQ:
	case ZYDIS_MNEMONIC_VMCALL: /* of the hypervisor that CPUID names, whatever the CPU */
	case ZYDIS_MNEMONIC_VMMCALL:
		return FEATURE_OTHER;
	default:
		break;
	}
	for (unsigned int i = 0; i < array_size(sets) && !isa; i++) {
		if (sets[i].set == in->info.meta.isa_set)
			isa = &sets[i];
	}
	if (!isa || (feature_host() & isa->needs) != isa->needs ||
	    in->info.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
		return FEATURE_MISSING;
	*ret_kind = isa->kind;
	/* FCOMI, FISTTP and FCMOV came with later sets that are not x87's. */
	if (in->info.meta.category == ZYDIS_CATEGORY_X87_ALU ||
	    in->info.meta.category == ZYDIS_CATEGORY_FCMOV)
		*ret_kind = is_x87_control(in->info.mnemonic) ? NATIVE_X87_CONTROL : NATIVE_X87;
	if (isa->kind == NATIVE_VECTOR && uses_mmx(in))
		*ret_kind = NATIVE_X87_CONTROL;
	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_CRC32:
	case ZYDIS_MNEMONIC_MOVNTI:
		*ret_kind = NATIVE_GENERAL;
		return FEATURE_NATIVE;
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
		*ret_kind = NATIVE_GENERAL;
		return FEATURE_OTHER;
	default:
		break;
	}
	if (!isa->native && isa->set != ZYDIS_ISA_SET_AVX2GATHER)
		return FEATURE_OTHER;
	state = check_state(mode, in,
			    isa->set == ZYDIS_ISA_SET_AVX2GATHER ? NATIVE_VECTOR : *ret_kind);
	if (state != FEATURE_NATIVE)
		return state;
	if (isa->kind == NATIVE_GENERAL && (in->info.meta.isa_ext == ZYDIS_ISA_EXT_BASE ||
					    in->info.meta.isa_ext == ZYDIS_ISA_EXT_LONGMODE))
		return is_plain(in->info.mnemonic) ||
				       in->info.meta.category == ZYDIS_CATEGORY_CMOV ||
				       in->info.meta.category == ZYDIS_CATEGORY_SETCC
			       ? FEATURE_NATIVE
			       : FEATURE_OTHER;
	return isa->native ? FEATURE_NATIVE : FEATURE_OTHER;
}

int feature_set(unsigned int i)
{
	if (i >= array_size(sets))
		return -1;
	return (feature_host() & sets[i].needs) == sets[i].needs ? (int)sets[i].set : 0;
}
