/*
 * sha256_pair: see sha256_pair.h.
 *
 * The instructions keep the eight words of the state as two vectors, {A,B,E,F} and {C,D,G,H} with A
 * highest, and do two rounds at a time. Four words of the schedule are in a vector; words t to t+3 are
 *
 *     W[t] = s1(W[t-2]) + W[t-7] + s0(W[t-15]) + W[t-16]        (FIPS 180-4, 6.2.2)
 *
 * of which sha256msg1 makes the last two terms and sha256msg2 adds the first.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/sha256_pair.h"

#include <openssl/sha.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static void one(const void *message, size_t len, unsigned char out[SHA256_LEN])
{
	SHA256_CTX ctx;

	SHA256_Init(&ctx);
	SHA256_Update(&ctx, message, len);
	SHA256_Final(out, &ctx);
}

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

#define SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))
#define SHA_INLINE static inline __attribute__((always_inline)) SHA_TARGET

/* The constants of the rounds (FIPS 180-4, 4.2.2). */
static const uint32_t round_constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2};

struct lane {
	__m128i abef, cdgh;
	__m128i w[4]; /* sixteen words of the schedule */
};

SHA_INLINE void begin(struct lane *l)
{
	/* The first 32 bits of the fractions of the square roots of the first primes (5.3.3). */
	l->abef = _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c);
	l->cdgh = _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19);
}

SHA_INLINE void load(struct lane *l, int i, const unsigned char *block)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);

	l->w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(block + 16 * (size_t)i)), swap);
}

/* Four rounds with the words of group `i` of 16. */
SHA_INLINE void rounds(struct lane *l, int i)
{
	__m128i wk = _mm_add_epi32(l->w[i & 3],
				   _mm_loadu_si128((const void *)(round_constants + 4 * i)));

	l->cdgh = _mm_sha256rnds2_epu32(l->cdgh, l->abef, wk);
	l->abef = _mm_sha256rnds2_epu32(l->abef, l->cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

/* The words of the group behind `i`, in place of those 16 words earlier. */
SHA_INLINE void schedule(struct lane *l, int i)
{
	__m128i last = l->w[i & 3];
	__m128i seven_ago = _mm_alignr_epi8(last, l->w[(i + 3) & 3], 4);
	__m128i sum = _mm_sha256msg1_epu32(l->w[(i + 1) & 3], l->w[(i + 2) & 3]);

	l->w[(i + 1) & 3] = _mm_sha256msg2_epu32(_mm_add_epi32(sum, seven_ago), last);
}

SHA_INLINE void block_of_two(struct lane *x, struct lane *y, const unsigned char *a,
			     const unsigned char *b)
{
	const __m128i x_abef = x->abef, x_cdgh = x->cdgh, y_abef = y->abef, y_cdgh = y->cdgh;

#pragma GCC unroll 16
	for (int i = 0; i < 16; i++) {
		if (i < 4) {
			load(x, i, a);
			load(y, i, b);
		}
		rounds(x, i);
		rounds(y, i);
		if (i >= 3 && i < 15) {
			schedule(x, i);
			schedule(y, i);
		}
	}
	x->abef = _mm_add_epi32(x->abef, x_abef);
	x->cdgh = _mm_add_epi32(x->cdgh, x_cdgh);
	y->abef = _mm_add_epi32(y->abef, y_abef);
	y->cdgh = _mm_add_epi32(y->cdgh, y_cdgh);
}

SHA_INLINE void put(const struct lane *l, unsigned char out[SHA256_LEN])
{
	const uint32_t words[8] = {
		(uint32_t)_mm_extract_epi32(l->abef, 3), (uint32_t)_mm_extract_epi32(l->abef, 2),
		(uint32_t)_mm_extract_epi32(l->cdgh, 3), (uint32_t)_mm_extract_epi32(l->cdgh, 2),
		(uint32_t)_mm_extract_epi32(l->abef, 1), (uint32_t)_mm_extract_epi32(l->abef, 0),
		(uint32_t)_mm_extract_epi32(l->cdgh, 1), (uint32_t)_mm_extract_epi32(l->cdgh, 0),
	};

	for (int i = 0; i < 8; i++) {
		uint32_t big_endian = __builtin_bswap32(words[i]);

		memcpy(out + 4 * (size_t)i, &big_endian, 4);
	}
}

SHA_TARGET static void two(const unsigned char *a, const unsigned char *b, size_t len,
			   unsigned char *ret_a, unsigned char *ret_b)
{
	unsigned char padding[SHA256_BLOCK] = {0x80};
	uint64_t bits = __builtin_bswap64((uint64_t)len * 8);
	struct lane x, y;

	memcpy(padding + SHA256_BLOCK - sizeof(bits), &bits, sizeof(bits));
	begin(&x);
	begin(&y);
	for (size_t at = 0; at < len; at += SHA256_BLOCK)
		block_of_two(&x, &y, a + at, b + at);
	block_of_two(&x, &y, padding, padding);
	put(&x, ret_a);
	put(&y, ret_b);
}

static bool has_sha(void)
{
	enum { SSE41 = 1 << 19, SSSE3 = 1 << 9, SHA = 1 << 29 };
	unsigned int a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (SSE41 | SSSE3)) != (SSE41 | SSSE3))
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & SHA);
}

void sha256_pair(const void *a, const void *b, size_t len, unsigned char ret_a[static SHA256_LEN],
		 unsigned char ret_b[static SHA256_LEN])
{
	static int able; /* 0: not known, 1, -1; whoever asks first gets the same answer */

	if (__atomic_load_n(&able, __ATOMIC_RELAXED) == 0)
		__atomic_store_n(&able, has_sha() ? 1 : -1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&able, __ATOMIC_RELAXED) > 0) {
		two(a, b, len, ret_a, ret_b);
		return;
	}
	one(a, len, ret_a);
	one(b, len, ret_b);
}

#else

void sha256_pair(const void *a, const void *b, size_t len, unsigned char ret_a[static SHA256_LEN],
		 unsigned char ret_b[static SHA256_LEN])
{
	one(a, len, ret_a);
	one(b, len, ret_b);
}

#endif
