/* zydis: see the header. */
#include "vmm/cpu/soft/zydis.h"

#include <pthread.h>
#include <string.h>

#include "base/dylib.h"
#include "base/mem.h"

struct api {
	__typeof__(&ZydisDecoderInit) decoder_init;
	__typeof__(&ZydisDecoderDecodeFull) decode_full;
	__typeof__(&ZydisDecoderEnableMode) enable_mode;
	__typeof__(&ZydisFormatterInit) formatter_init;
	__typeof__(&ZydisFormatterFormatInstruction) format;
};

static const struct dylib_symbol symbols[] = {
	DYLIB_SYMBOL(struct api, decoder_init, "ZydisDecoderInit"),
	DYLIB_SYMBOL(struct api, decode_full, "ZydisDecoderDecodeFull"),
	DYLIB_SYMBOL(struct api, enable_mode, "ZydisDecoderEnableMode"),
	DYLIB_SYMBOL(struct api, formatter_init, "ZydisFormatterInit"),
	DYLIB_SYMBOL(struct api, format, "ZydisFormatterFormatInstruction"),
};

/* Written once under the lock by the first zydis_load, read-only afterwards. */
static struct {
	pthread_mutex_t lock;
	bool loaded;
	struct api api;
	ZydisDecoder decoders[3]; /* 16, 32, 64 bits */
	ZydisFormatter formatter;
} library = {.lock = PTHREAD_MUTEX_INITIALIZER};

int zydis_load(struct error *err)
{
	int rc = 0;

	pthread_mutex_lock(&library.lock);
	if (!library.loaded)
		rc = dylib_load("libZydis.so.4.0", "libzydis4.0", symbols, array_size(symbols),
				&library.api, err);
	if (rc == 0 && !library.loaded) {
		library.api.decoder_init(&library.decoders[0], ZYDIS_MACHINE_MODE_LEGACY_16,
					 ZYDIS_STACK_WIDTH_16);
		library.api.decoder_init(&library.decoders[1], ZYDIS_MACHINE_MODE_LEGACY_32,
					 ZYDIS_STACK_WIDTH_32);
		library.api.decoder_init(&library.decoders[2], ZYDIS_MACHINE_MODE_LONG_64,
					 ZYDIS_STACK_WIDTH_64);
		/* A CPU without MPX does nothing where one with it checks bounds. */
		for (unsigned int i = 0; i < array_size(library.decoders); i++)
			library.api.enable_mode(&library.decoders[i], ZYDIS_DECODER_MODE_MPX, 0);
		library.api.formatter_init(&library.formatter, ZYDIS_FORMATTER_STYLE_INTEL);
		library.loaded = true;
	}
	pthread_mutex_unlock(&library.lock);
	return rc;
}

enum decode_result zydis_decode(uint32_t mode, const uint8_t *bytes, size_t size,
				struct instruction *ret)
{
	const ZydisDecoder *decoder = &library.decoders[mode & MODE_64       ? 2
							: mode & MODE_CODE32 ? 1
									     : 0];
	ZyanStatus status;

	ret->bytes = bytes;
	status = library.api.decode_full(decoder, bytes, size, &ret->info, ret->operands);
	if (status == ZYDIS_STATUS_NO_MORE_DATA)
		return DECODE_MORE;
	return ZYAN_SUCCESS(status) ? DECODE_OK : DECODE_INVALID;
}

void zydis_format(const struct instruction *in, char *text, size_t size)
{
	library.api.format(&library.formatter, &in->info, in->operands,
			   in->info.operand_count_visible, text, size, 0, NULL);
}

int zydis_gpr_offset(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		return (reg - ZYDIS_REGISTER_AL) * 8;
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return (reg - ZYDIS_REGISTER_AH) * 8 + 1;
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		return (reg - ZYDIS_REGISTER_SPL + 4) * 8;
	if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
		return (reg - ZYDIS_REGISTER_AX) * 8;
	if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		return (reg - ZYDIS_REGISTER_EAX) * 8;
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		return (reg - ZYDIS_REGISTER_RAX) * 8;
	return -1;
}
