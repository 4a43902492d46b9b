/*
 * fuzz-gunzip: a gzip stream through both libraries, in pieces of the size that the first byte says, with
 * room of the size that the second one says for what comes out. What zlib takes the other must take too,
 * with the same result. What only igzip takes (some codes that are not complete) must have the CRC and the
 * length that its trailer says. Input and room are exact allocations, so that the sanitizer sees what our side does,
 * and the room is followed by a page that must not be written.
 *
 * The rest is either taken as it is or, if the first byte is odd, packed first (so that most inputs are
 * sound), with some bits turned as the next bytes say.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include "image/gunzip.h"

enum { OUT_MAX = 4 << 20, PAGE = 4096 };

/* What came out, of each library. */
static unsigned char results[2][OUT_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	int rc; /* 1: the member ended, 0: it did not, -EBADMSG */
	size_t used, len;
	unsigned char *bytes;
};

/* `room` bytes that end where the memory ends. */
static unsigned char *room_of(size_t room)
{
	static unsigned char *end;

	if (end == NULL) {
		size_t size = (size_t)64 * PAGE;
		unsigned char *p = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || mprotect(p + size, PAGE, PROT_NONE) < 0)
			abort();
		end = p + size;
	}
	return end - room;
}

static struct outcome unpack(enum gunzip_engine engine, const uint8_t *data, size_t size,
			     size_t piece, size_t room)
{
	own_gunzip struct gunzip *g = NULL;
	struct outcome o = {.bytes = results[engine == GUNZIP_ISAL]};
	unsigned char *out = room_of(room);

	if (gunzip_create(engine, &g, NULL) < 0)
		abort();
	while (o.rc == 0 && o.len + room <= OUT_MAX) {
		size_t n = size - o.used < piece ? size - o.used : piece;
		unsigned char *in = memcpy(malloc(n + !n), data + o.used, n);
		struct gunzip_step step = {.in = in, .in_len = n, .out = out, .out_len = room};
		size_t came;

		o.rc = gunzip_step(g, &step, NULL);
		came = room - step.out_len;
		if (o.rc >= 0) {
			memcpy(o.bytes + o.len, out, came);
			o.len += came;
			o.used += n - step.in_len;
		}
		free(in);
		if (o.used == size && step.out_len > 0)
			break;
	}
	return o;
}

/* Packs with a level and a strategy of the input's choice, then turns some bits. */
static uint8_t *pack(const uint8_t *data, size_t size, size_t *ret)
{
	z_stream z = {0};
	size_t bound = compressBound(size) + 1024;
	uint8_t *packed = malloc(bound);

	if (deflateInit2(&z, data[0] % 10, Z_DEFLATED, 31, 1 + data[1] % 9, data[2] % 5) != Z_OK)
		abort();
	memcpy(&z.next_in, &(const uint8_t *){data + 8}, sizeof(z.next_in));
	z.avail_in = (uInt)size - 8;
	z.next_out = packed;
	z.avail_out = (uInt)bound;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		abort();
	*ret = z.total_out;
	deflateEnd(&z);
	for (int i = 0; i < data[3] % 4; i++)
		packed[(data[4 + i] * *ret) >> 8] ^= (uint8_t)(1 << data[4 + i] % 8);
	return packed;
}

static void check_trailer(const struct outcome *o, const uint8_t *data)
{
	uLong crc = crc32(0, o->bytes, (uInt)o->len);
	uint32_t trailer[2];

	memcpy(trailer, data + o->used - sizeof(trailer), sizeof(trailer));
	if (trailer[0] != crc || trailer[1] != o->len)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome zlib, isal;
	uint8_t *packed = NULL;
	size_t piece, room;

	if (size < 10)
		return 0;
	piece = data[0] < 2 ? size + 100 : (size_t)data[0] * data[0] / 8 + 1;
	room = data[1] == 0 ? (size_t)64 * PAGE : (size_t)data[1] * data[1] / 2 + 64;
	if (data[0] & 1)
		data = packed = pack(data + 2, size - 2, &size);
	else
		data += 2, size -= 2;
	zlib = unpack(GUNZIP_ZLIB, data, size, piece, room);
	isal = unpack(GUNZIP_ISAL, data, size, piece, room);
	if (zlib.rc == 1 && (isal.rc != 1 || zlib.len != isal.len || zlib.used != isal.used))
		abort();
	if (isal.rc == 1 && zlib.rc != 1)
		check_trailer(&isal, data);
	/* One may see damage before the other does. */
	if (memcmp(zlib.bytes, isal.bytes, zlib.len < isal.len ? zlib.len : isal.len) != 0)
		abort();
	free(packed);
	return 0;
}
