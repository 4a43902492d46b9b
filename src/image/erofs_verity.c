/*
 * erofs_verity: see erofs_verity.h.
 *
 * Level 0 are the digests of the blocks, 128 of which fill a block; level 1 are the digests of those
 * blocks, and so on up to the level that has one digest only. The first block of each level waits for
 * the file's first block and is kept; of the others only the one being filled is.
 *
 * SHA-256 as in base/digest.c: OpenSSL's plain functions, which need no initialisation.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "image/erofs_verity.h"

#include <errno.h>
#include <linux/fsverity.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/file.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/sha256_pair.h"

enum {
	BLOCK = 4096,
	HASH = SHA256_DIGEST_LENGTH,
	FAN = BLOCK / HASH,
	LEVELS = 8, /* 128^8 blocks are more than there can be */
};

struct level {
	uint64_t count; /* digests so far; number 0 is open until the end */
	unsigned char first[BLOCK];
	unsigned char current[BLOCK];
};

struct verity {
	struct level levels[LEVELS];
	uint64_t blocks;
	unsigned char zero[HASH]; /* the digest of a block of zeros */
};

static void hash_block(const void *block, unsigned char out[HASH])
{
	SHA256_CTX ctx;

	SHA256_Init(&ctx);
	SHA256_Update(&ctx, block, BLOCK);
	SHA256_Final(out, &ctx);
}

struct verity *verity_create(void)
{
	struct verity *v = mem_new(sizeof(*v));
	static const unsigned char zeros[BLOCK];

	for (int i = 0; i < LEVELS; i++)
		v->levels[i].count = 1;
	v->blocks = 1;
	hash_block(zeros, v->zero);
	return v;
}

void verity_destroy(struct verity *v)
{
	free(v);
}

static void add_hash(struct verity *v, int at, const unsigned char hash[HASH])
{
	struct level *l = &v->levels[at];
	unsigned char *block = l->count < FAN ? l->first : l->current;
	unsigned char next[HASH];

	memcpy(block + l->count % FAN * HASH, hash, HASH);
	l->count++;
	if (l->count % FAN != 0 || l->count == FAN)
		return;
	hash_block(l->current, next);
	add_hash(v, at + 1, next);
}

void verity_add(struct verity *v, const void *blocks, size_t count)
{
	const unsigned char *block = blocks;
	unsigned char hash[2][HASH];

	v->blocks += count;
	for (; count >= 2; count -= 2, block += (size_t)2 * BLOCK) {
		sha256_pair(block, block + BLOCK, BLOCK, hash[0], hash[1]);
		add_hash(v, 0, hash[0]);
		add_hash(v, 0, hash[1]);
	}
	if (count > 0) {
		hash_block(block, hash[0]);
		add_hash(v, 0, hash[0]);
	}
}

void verity_add_zeros(struct verity *v, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		add_hash(v, 0, v->zero);
	v->blocks += count;
}

static void descriptor_digest(uint64_t size, const unsigned char root[HASH], struct digest *ret)
{
	struct fsverity_descriptor d = {
		.version = 1,
		.hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
		.log_blocksize = 12,
		.data_size = size,
	};

	memcpy(d.root_hash, root, HASH);
	*ret = digest_of(&d, sizeof(d));
}

/* Closes the levels upwards. Sets `root` from the digest of the file's first block. */
static void close_levels(struct verity *v, unsigned char root[HASH])
{
	for (int i = 0; i < LEVELS - 1; i++) {
		struct level *l = &v->levels[i];
		size_t open = l->count % FAN * HASH;
		unsigned char hash[HASH];

		memcpy(l->first, root, HASH);
		if (l->count == 1)
			return;
		if (l->count > FAN && open > 0) {
			memset(l->current + open, 0, BLOCK - open);
			hash_block(l->current, hash);
			add_hash(v, i + 1, hash);
		}
		if (l->count < FAN)
			memset(l->first + open, 0, BLOCK - open);
		hash_block(l->first, root);
	}
}

void verity_end(struct verity *v, const void *first_block, struct digest *ret)
{
	unsigned char root[HASH];

	hash_block(first_block, root);
	close_levels(v, root);
	descriptor_digest(v->blocks * BLOCK, root, ret);
}

static ssize_t read_blocks(int fd, unsigned char *out, size_t max)
{
	ssize_t n = fd_read_full(fd, out, max);

	if (n > 0 && n % BLOCK != 0)
		memset(out + n, 0, BLOCK - (size_t)(n % BLOCK));
	return n;
}

int verity_of_fd(int fd, struct digest *ret)
{
	enum { CHUNK = 256 * 1024 };
	own_mem unsigned char *chunk = mem_new(CHUNK), *first = mem_new(BLOCK);
	unsigned char root[HASH] = {0};
	struct verity *v;
	uint64_t size;
	ssize_t n = read_blocks(fd, first, BLOCK);

	if (n < 0)
		return (int)n;
	if (n == 0) {
		descriptor_digest(0, root, ret);
		return 0;
	}
	size = (uint64_t)n;
	v = verity_create();
	while ((n = read_blocks(fd, chunk, CHUNK)) > 0) {
		verity_add(v, chunk, ((size_t)n + BLOCK - 1) / BLOCK);
		size += (uint64_t)n;
	}
	if (n == 0) {
		hash_block(first, root);
		close_levels(v, root);
		descriptor_digest(size, root, ret);
	}
	verity_destroy(v);
	return (int)n;
}

int verity_measure(int fd, struct digest *ret)
{
	union {
		struct fsverity_digest d;
		unsigned char room[sizeof(struct fsverity_digest) + 64];
	} u = {.d.digest_size = 64};

	if (ioctl(fd, FS_IOC_MEASURE_VERITY, &u.d) < 0)
		return errno == ENOTTY ? -EOPNOTSUPP : -errno;
	if (u.d.digest_algorithm != FS_VERITY_HASH_ALG_SHA256 || u.d.digest_size != HASH)
		return -EOPNOTSUPP;
	memcpy(ret->text, "sha256:", 7);
	hex_format(u.d.digest, HASH, ret->text + 7);
	return 0;
}

int verity_enable(int fd)
{
	struct fsverity_enable_arg arg = {
		.version = 1,
		.hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
		.block_size = BLOCK,
	};

	return ioctl(fd, FS_IOC_ENABLE_VERITY, &arg) < 0 ? -errno : 0;
}
