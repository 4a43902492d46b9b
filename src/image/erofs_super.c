/* erofs_super: the superblock; see erofs_priv.h. */
#include <string.h>

#include "base/hex.h"
#include "image/erofs_priv.h"

/* CRC-32C (Castagnoli) from all ones, not inverted at the end, as the kernel uses it. */
static uint32_t crc32c(const unsigned char *p, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return crc;
}

void erofs_put_super(struct erofs_super *s, const struct digest *diffid, unsigned char *first_block)
{
	char half[33];

	s->magic = EROFS_MAGIC;
	s->compat = EROFS_COMPAT_CHECKSUM | EROFS_COMPAT_MTIME;
	s->block_bits = EROFS_BLOCK_BITS;
	/* A UUID (of version 8, one's own scheme) that is different for different layers: overlayfs
	 * tells its lower file systems apart by it. */
	memcpy(half, digest_hex(diffid), 32);
	half[32] = '\0';
	if (hex_parse(half, 16, s->uuid) < 0)
		memset(s->uuid, 0, sizeof(s->uuid));
	s->uuid[6] = (s->uuid[6] & 0x0f) | 0x80;
	s->uuid[8] = (s->uuid[8] & 0x3f) | 0x80;
	s->checksum = 0;
	memcpy(first_block + EROFS_SUPER_AT, s, sizeof(*s));
	s->checksum = crc32c(first_block + EROFS_SUPER_AT, EROFS_BLOCK - EROFS_SUPER_AT);
	memcpy(first_block + EROFS_SUPER_AT, s, sizeof(*s));
}
