/* Tests of image/decompress.h and image/compress.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/compress.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { PLAIN_LEN = 1 << 20 };

static int collect(const void *data, size_t len, void *context, struct error *err)
{
	(void)err;
	buf_add(context, data, len);
	return 0;
}

static void make_plain(struct buf *plain)
{
	for (size_t i = 0; plain->len < PLAIN_LEN; i++)
		buf_format(plain, "line %zu of a text that can be made smaller\n", i * 7919);
}

static void gzip_of(const struct buf *plain, struct buf *packed)
{
	own_compressor struct compressor *c = NULL;

	assert_int_equal(compressor_create(collect, packed, &c, NULL), 0);
	assert_int_equal(compressor_add(c, plain->data, plain->len, NULL), 0);
	assert_int_equal(compressor_finish(c, NULL), 0);
}

static void zstd_of(const struct buf *plain, struct buf *packed)
{
	size_t bound = ZSTD_compressBound(plain->len), n;
	own_mem char *room = mem_new(bound);

	n = ZSTD_compress(room, bound, plain->data, plain->len, 1);
	assert_false(ZSTD_isError(n));
	buf_add(packed, room, n);
}

/* Feeds the stream in pieces of `step` bytes. */
static int unpack(const struct buf *packed, size_t step, struct buf *out, struct error *err)
{
	own_decompressor struct decompressor *d = NULL;

	decompressor_create(collect, out, &d);
	for (size_t at = 0; at < packed->len; at += step) {
		size_t n = packed->len - at < step ? packed->len - at : step;
		int rc = decompressor_add(d, packed->data + at, n, err);

		if (rc < 0)
			return rc;
	}
	return decompressor_finish(d, err);
}

static void same_text_comes_out_whatever_the_pieces(void **state)
{
	static const size_t steps[] = {1, 3, 4096, 100000, 10 << 20};
	own_buf struct buf plain = {0}, gzip = {0}, zstd = {0};
	const struct buf *streams[] = {&plain, &gzip, &zstd};

	(void)state;
	make_plain(&plain);
	gzip_of(&plain, &gzip);
	zstd_of(&plain, &zstd);
	for (size_t s = 0; s < array_size(streams); s++)
		for (size_t i = 0; i < array_size(steps); i++) {
			own_buf struct buf out = {0};
			struct error err = {0};

			assert_int_equal(unpack(streams[s], steps[i], &out, &err), 0);
			assert_int_equal(out.len, plain.len);
			assert_memory_equal(out.data, plain.data, plain.len);
		}
}

static void several_members_and_padding_are_one_stream(void **state)
{
	static const char zeros[700];
	own_buf struct buf plain = {0}, gzip = {0}, zstd = {0}, out = {0};
	/* A skippable frame of four bytes, as zstd:chunked puts behind the data. */
	static const unsigned char skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};

	(void)state;
	buf_add_str(&plain, "half a tar");
	gzip_of(&plain, &gzip);
	gzip_of(&plain, &gzip);
	buf_add(&gzip, zeros, sizeof(zeros));
	assert_int_equal(unpack(&gzip, 5, &out, NULL), 0);
	assert_string_equal(out.data, "half a tarhalf a tar");
	buf_clear(&out);
	zstd_of(&plain, &zstd);
	buf_add(&zstd, skippable, sizeof(skippable));
	zstd_of(&plain, &zstd);
	assert_int_equal(unpack(&zstd, 5, &out, NULL), 0);
	assert_string_equal(out.data, "half a tarhalf a tar");
}

static void an_empty_or_tiny_stream_is_plain(void **state)
{
	own_buf struct buf tiny = {0}, out = {0};

	(void)state;
	assert_int_equal(unpack(&tiny, 1, &out, NULL), 0);
	assert_int_equal(out.len, 0);
	buf_add_str(&tiny, "ab");
	assert_int_equal(unpack(&tiny, 1, &out, NULL), 0);
	assert_string_equal(out.data, "ab");
}

static void refuses_damage(void **state)
{
	own_buf struct buf plain = {0}, gzip = {0}, zstd = {0};
	struct buf *streams[] = {&gzip, &zstd};

	(void)state;
	make_plain(&plain);
	gzip_of(&plain, &gzip);
	zstd_of(&plain, &zstd);
	for (size_t s = 0; s < array_size(streams); s++) {
		struct buf *stream = streams[s];
		own_buf struct buf out = {0};
		struct error err = {0};
		size_t len = stream->len;

		/* cut off */
		stream->len = len / 2;
		assert_int_equal(unpack(stream, 4096, &out, &err), -EBADMSG);
		stream->len = len - 1;
		assert_int_equal(unpack(stream, 4096, &out, &err), -EBADMSG);
		stream->len = len;
	}
	/* a flipped bit in the middle: gzip's checksum or its code finds it */
	gzip.data[gzip.len / 2] ^= 4;
	{
		own_buf struct buf out = {0};

		assert_int_equal(unpack(&gzip, 4096, &out, NULL), -EBADMSG);
	}
	gzip.data[gzip.len / 2] ^= 4;
	/* something behind the end */
	buf_add_str(&gzip, "x");
	{
		own_buf struct buf out = {0};

		assert_int_equal(unpack(&gzip, 4096, &out, NULL), -EBADMSG);
	}
}

static int count(const void *data, size_t len, void *context, struct error *err)
{
	(void)data;
	(void)err;
	*(uint64_t *)context += len;
	return 0;
}

static void stops_a_bomb(void **state)
{
	enum { PIECE = 64 << 20 };
	own_decompressor struct decompressor *d = NULL;
	own_buf struct buf bomb = {0};
	own_mem char *zeros = mem_new(PIECE);
	struct error err = {0};
	struct buf piece = {.data = zeros, .len = PIECE};
	uint64_t total = 0;
	int rc = 0;

	(void)state;
	zstd_of(&piece, &bomb);
	decompressor_create(count, &total, &d);
	for (int i = 0; rc == 0 && i < 1000; i++)
		rc = decompressor_add(d, bomb.data, bomb.len, &err);
	assert_int_equal(rc, -EFBIG);
	assert_true(total <= DECOMPRESS_RATIO_FREE + PIECE);
	assert_non_null(strstr(err.text, "bomb"));
}

static int refuse_all(const void *data, size_t len, void *context, struct error *err)
{
	(void)data;
	(void)len;
	(void)context;
	return refuse(err, -ENOSPC, "full");
}

static void the_sinks_error_ends_it(void **state)
{
	own_decompressor struct decompressor *d = NULL;
	own_buf struct buf plain = {0}, gzip = {0};
	struct error err = {0};

	(void)state;
	make_plain(&plain);
	gzip_of(&plain, &gzip);
	decompressor_create(refuse_all, NULL, &d);
	assert_int_equal(decompressor_add(d, gzip.data, gzip.len, &err), -ENOSPC);
	assert_string_equal(err.text, "full");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_text_comes_out_whatever_the_pieces),
		cmocka_unit_test(several_members_and_padding_are_one_stream),
		cmocka_unit_test(an_empty_or_tiny_stream_is_plain),
		cmocka_unit_test(refuses_damage),
		cmocka_unit_test(stops_a_bomb),
		cmocka_unit_test(the_sinks_error_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
