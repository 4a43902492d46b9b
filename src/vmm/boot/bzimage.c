/*
 * bzimage: the compressed kernel inside a bzImage.
 *
 * Documentation/arch/x86/boot.rst of Linux: the setup header begins at 0x1f1; from protocol 2.08 on it
 * tells where the payload is, counted from the start of the protected-mode code, which follows the
 * setup sectors. The payload is one compressed stream and, behind it, four bytes with the size of what
 * comes out (with gzip they are the stream's own trailer).
 *
 * What has no such payload, or one in a format that we do not unpack, is loaded as a boot loader would
 * and entered by the 32-bit protocol: its own code unpacks it.
 */
#include "vmm/boot/boot_priv.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/dylib.h"
#include "base/mem.h"

enum {
	SETUP_SECTORS = 0x1f1,
	SETUP_SECTORS_DEFAULT = 4,
	SETUP_MAGIC = 0x202,
	SETUP_VERSION = 0x206,
	SETUP_LOADFLAGS = 0x211,
	SETUP_CODE32_START = 0x214,
	SETUP_INITRD_MAX = 0x22c,
	SETUP_PAYLOAD_OFFSET = 0x248,
	SETUP_PAYLOAD_LENGTH = 0x24c,
	SETUP_END = 0x250,
	SETUP_PREF_ADDRESS = 0x258,
	SETUP_INIT_SIZE = 0x260,
	SETUP_END_2_10 = 0x264,
	LOADED_HIGH = 1,
	LOAD_ADDRESS = 0x100000,
	INITRD_MAX_DEFAULT = 0x37ffffff, /* before protocol 2.03 */
	LZ4_LEGACY_MAGIC = 0x184c2102,
	LZ4_LEGACY_BLOCK = 8 << 20,
};

struct stream {
	const uint8_t *in;
	size_t in_size;
	uint8_t *out;
	size_t out_size;
};

static uint32_t get_le32(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static int unpack_gzip(const struct stream *s, struct error *err)
{
	z_stream z = {.avail_in = (uInt)s->in_size, .avail_out = (uInt)s->out_size};
	int rc;

	(void)err;
	z.next_in = (z_const Bytef *)(uintptr_t)s->in;
	z.next_out = s->out;
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return rc == Z_STREAM_END && z.avail_out == 0 ? 0 : -EINVAL;
}

static int unpack_zstd(const struct stream *s, struct error *err)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	ZSTD_inBuffer in = {.src = s->in, .size = s->in_size};
	ZSTD_outBuffer out = {.dst = s->out, .size = s->out_size};
	size_t rc = 1;

	(void)err;
	if (!z)
		return -ENOMEM;
	while (rc != 0 && !ZSTD_isError(rc) && in.pos < in.size && out.pos < out.size)
		rc = ZSTD_decompressStream(z, &out, &in);
	ZSTD_freeDStream(z);
	return !ZSTD_isError(rc) && out.pos == out.size ? 0 : -EINVAL;
}

/* The legacy frame: a magic number, then blocks with their compressed size before them. */
static int unpack_lz4(const struct stream *s, struct error *err)
{
	size_t at = 4, done = 0;

	(void)err;
	while (done < s->out_size && s->in_size - at >= 4) {
		uint32_t size = get_le32(s->in + at);
		size_t room = s->out_size - done;
		int got;

		at += 4;
		if (size == LZ4_LEGACY_MAGIC) /* another frame begins */
			continue;
		if (size > s->in_size - at)
			return -EINVAL;
		got = LZ4_decompress_safe((const char *)s->in + at, (char *)s->out + done,
					  (int)size,
					  room > LZ4_LEGACY_BLOCK ? LZ4_LEGACY_BLOCK : (int)room);
		if (got <= 0)
			return -EINVAL;
		at += size;
		done += (size_t)got;
	}
	return done == s->out_size ? 0 : -EINVAL;
}

struct lzma_api {
	__typeof__(lzma_stream_buffer_decode) *decode;
};

static int load_lzma(struct lzma_api *ret, struct error *err)
{
	static const struct dylib_symbol symbols[] = {
		DYLIB_SYMBOL(struct lzma_api, decode, "lzma_stream_buffer_decode"),
	};

	return dylib_load("liblzma.so.5", "liblzma5", symbols, array_size(symbols), ret, err);
}

static int unpack_xz(const struct stream *s, struct error *err)
{
	struct lzma_api api;
	uint64_t limit = 256 << 20;
	size_t in_at = 0, out_at = 0;
	int rc = load_lzma(&api, err);

	if (rc < 0)
		return rc;
	if (api.decode(&limit, 0, NULL, s->in, &in_at, s->in_size, s->out, &out_at, s->out_size) !=
	    LZMA_OK)
		return -EINVAL;
	return out_at == s->out_size ? 0 : -EINVAL;
}

static const struct format {
	const char *name;
	uint8_t magic[6];
	uint8_t magic_size;
	bool counts_size; /* the size behind the stream is part of it */
	int (*unpack)(const struct stream *stream, struct error *err);
} formats[] = {
	{"gzip", {0x1f, 0x8b}, 2, true, unpack_gzip},
	{"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, false, unpack_zstd},
	{"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, false, unpack_lz4},
	{"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, false, unpack_xz},
};

static bool is_bzimage(const struct boot_image *image)
{
	return image->size >= SETUP_END && memcmp(image->data + SETUP_MAGIC, "HdrS", 4) == 0;
}

static unsigned int protocol(const struct boot_image *image)
{
	return image->data[SETUP_VERSION + 1] << 8 | image->data[SETUP_VERSION];
}

/* Where the protected-mode code begins. */
static uint64_t code_offset(const uint8_t *setup)
{
	unsigned int sectors = setup[SETUP_SECTORS];

	return ((sectors ? sectors : SETUP_SECTORS_DEFAULT) + 1) * 512ull;
}

/* Finds the payload. -ENOEXEC: not a bzImage; -ENOTSUP: one that has none. */
static int find_payload(const struct boot_image *image, const uint8_t **ret, size_t *ret_size,
			struct error *err)
{
	uint64_t offset, length;

	if (!is_bzimage(image))
		return -ENOEXEC;
	length = protocol(image) < 0x208 ? 0 : get_le32(image->data + SETUP_PAYLOAD_LENGTH);
	if (length == 0)
		return refuse(err, -ENOTSUP, "the kernel %s has no payload to unpack", image->name);
	offset = code_offset(image->data) + get_le32(image->data + SETUP_PAYLOAD_OFFSET);
	if (offset > image->size || length > image->size - offset || length < 8)
		return refuse(err, -EINVAL, "the kernel %s is cut short", image->name);
	*ret = image->data + offset;
	*ret_size = length;
	return 0;
}

/* The code may run anywhere its header says; init_size is what it needs from there on until it has
 * unpacked itself (protocol 2.10). */
int boot_bzimage_load(struct boot_plan *plan, const struct boot_image *image, uint32_t *ret_entry,
		      struct error *err)
{
	uint64_t offset = code_offset(image->data), at = LOAD_ADDRESS, size;
	uint64_t initrd_max = protocol(image) >= 0x203 ? get_le32(image->data + SETUP_INITRD_MAX)
						       : INITRD_MAX_DEFAULT;
	uint8_t *to;

	if (!(image->data[SETUP_LOADFLAGS] & LOADED_HIGH) ||
	    get_le32(image->data + SETUP_CODE32_START) == 0)
		return hint(err,
			    refuse(err, -EINVAL,
				   "the kernel %s starts in real mode and needs a BIOS",
				   image->name),
			    "--firmware bios, with a disk that it is on");
	if (offset >= image->size)
		return refuse(err, -EINVAL, "the kernel %s is cut short", image->name);
	size = image->size - offset;
	if (protocol(image) >= 0x20a && image->size >= SETUP_END_2_10) {
		uint64_t needs = get_le32(image->data + SETUP_INIT_SIZE);
		uint64_t wants = get_le32(image->data + SETUP_PREF_ADDRESS);

		at = wants >= LOAD_ADDRESS ? wants : at;
		size = needs > size ? needs : size;
	}
	to = memory_at(plan->memory, at, size);
	if (!to)
		return refuse(err, -E2BIG,
			      "%s needs memory at 0x%llx, which the guest does not have",
			      image->name, (unsigned long long)(at + size));
	memcpy(to, image->data + offset, image->size - offset);
	plan->setup = image->data;
	plan->kernel_end = at + size;
	if (initrd_max < plan->initrd_max)
		plan->initrd_max = initrd_max;
	*ret_entry = (uint32_t)at;
	return 0;
}

int boot_bzimage_unpack(const struct boot_image *image, uint8_t **ret, size_t *ret_size,
			struct error *err)
{
	struct stream s;
	own_mem uint8_t *out = NULL;
	const struct format *format = NULL;
	int rc = find_payload(image, &s.in, &s.in_size, err);

	if (rc < 0)
		return rc;
	for (unsigned int i = 0; i < array_size(formats) && !format; i++)
		if (memcmp(s.in, formats[i].magic, formats[i].magic_size) == 0)
			format = &formats[i];
	if (!format)
		return refuse(err, -ENOTSUP,
			      "the kernel %s is compressed with something other than gzip, "
			      "lz4, xz or zstd",
			      image->name);
	s.out_size = get_le32(s.in + s.in_size - 4);
	if (!format->counts_size)
		s.in_size -= 4;
	if (s.out_size > BOOT_KERNEL_MAX || !(out = mem_try(s.out_size)))
		return refuse(err, -E2BIG, "the kernel %s unpacks to %zu MiB", image->name,
			      s.out_size >> 20);
	s.out = out;
	rc = format->unpack(&s, err);
	if (rc < 0)
		return fail(err, rc, "unpack the kernel %s (%s)", image->name, format->name);
	*ret_size = s.out_size;
	*ret = take(out);
	return 0;
}

int boot_prepare(int kernel_fd, struct error *err)
{
	uint8_t head[SETUP_END], magic[6];
	struct lzma_api api;
	uint64_t offset;

	if (pread(kernel_fd, head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    memcmp(head + SETUP_MAGIC, "HdrS", 4) != 0)
		return 0;
	offset = code_offset(head) + get_le32(head + SETUP_PAYLOAD_OFFSET);
	if (pread(kernel_fd, magic, sizeof(magic), (off_t)offset) != (ssize_t)sizeof(magic) ||
	    memcmp(magic, "\xfd\x37\x7a\x58\x5a", sizeof(magic)) != 0)
		return 0;
	return load_lzma(&api, err);
}
