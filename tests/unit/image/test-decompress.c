/* Tests of image/decompress.h and image/compress.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <lzma.h>
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

/* One after the other, each of so many bytes of `plain`. `dictionary`: 0 for the usual. */
static void xz_of(const struct buf *plain, size_t each, uint32_t dictionary, struct buf *packed)
{
	lzma_options_lzma options;
	lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
	size_t bound = lzma_stream_buffer_bound(each);
	own_mem uint8_t *room = mem_new(bound);

	assert_false(lzma_lzma_preset(&options, 0));
	if (dictionary > 0)
		options.dict_size = dictionary;
	for (size_t at = 0; at < plain->len; at += each) {
		size_t n = plain->len - at < each ? plain->len - at : each, done = 0;

		assert_int_equal(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC64, NULL,
							   (const uint8_t *)plain->data + at, n,
							   room, &done, bound),
				 LZMA_OK);
		buf_add(packed, room, done);
	}
}

/* Feeds the stream to `d` in pieces of `step` bytes. */
static int feed(struct decompressor *d, const struct buf *packed, size_t step, struct error *err)
{
	for (size_t at = 0; at < packed->len; at += step) {
		size_t n = packed->len - at < step ? packed->len - at : step;
		int rc = decompressor_add(d, packed->data + at, n, err);

		if (rc < 0)
			return rc;
	}
	return decompressor_finish(d, err);
}

static int unpack_archive(const struct buf *packed, size_t step, struct buf *out, struct error *err)
{
	own_decompressor struct decompressor *d = NULL;

	decompressor_create(collect, out, &d);
	decompressor_set_archive(d);
	return feed(d, packed, step, err);
}

static int unpack_with(enum gunzip_engine engine, const struct buf *packed, size_t step,
		       struct buf *out, struct error *err)
{
	own_decompressor struct decompressor *d = NULL;

	decompressor_create(collect, out, &d);
	decompressor_set_gunzip(d, engine);
	return feed(d, packed, step, err);
}

/* To either library for gzip: they must agree. */
static int unpack(const struct buf *packed, size_t step, struct buf *out, struct error *err)
{
	own_buf struct buf other = {0};
	int rc = unpack_with(GUNZIP_ZLIB, packed, step, out, err);

	assert_int_equal(unpack_with(GUNZIP_ISAL, packed, step, &other, err), rc);
	if (rc == 0) {
		assert_int_equal(other.len, out->len);
		if (other.len > 0)
			assert_memory_equal(other.data, out->data, other.len);
	}
	return rc;
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

/* The output's end falls on that of a buffer. */
static void ends_where_a_buffer_ends(void **state)
{
	static const size_t sizes[] = {DECOMPRESS_ROOM - 1, DECOMPRESS_ROOM, DECOMPRESS_ROOM + 1,
				       3 * DECOMPRESS_ROOM};

	(void)state;
	for (size_t i = 0; i < array_size(sizes); i++) {
		own_buf struct buf plain = {0}, gzip = {0}, zstd = {0}, out = {0};

		while (plain.len < sizes[i])
			buf_format(&plain, "%zu,", plain.len * 7919 % 10007);
		plain.len = sizes[i];
		gzip_of(&plain, &gzip);
		zstd_of(&plain, &zstd);
		assert_int_equal(unpack(&gzip, 1000, &out, NULL), 0);
		assert_int_equal(out.len, sizes[i]);
		assert_memory_equal(out.data, plain.data, sizes[i]);
		buf_clear(&out);
		assert_int_equal(unpack(&zstd, zstd.len, &out, NULL), 0);
		assert_int_equal(out.len, sizes[i]);
		assert_memory_equal(out.data, plain.data, sizes[i]);
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

static void refuses_a_wrong_header_or_trailer(void **state)
{
	static const struct {
		const char *what;
		int at; /* negative: from the end */
		unsigned char flip;
	} cases[] = {
		{"the method", 2, 1},         {"reserved flags", 3, 0x80},
		{"a flag too many", 3, 0x02}, {"the CRC's start", -8, 1},
		{"the CRC's end", -5, 0x80},  {"the length's start", -4, 1},
		{"the length's end", -1, 1},
	};
	static const size_t steps[] = {1, 7, 10 << 20};
	own_buf struct buf plain = {0}, gzip = {0};

	(void)state;
	make_plain(&plain);
	gzip_of(&plain, &gzip);
	for (size_t i = 0; i < array_size(cases); i++)
		for (size_t k = 0; k < array_size(steps); k++) {
			size_t at = cases[i].at < 0 ? gzip.len - (size_t)-cases[i].at
						    : (size_t)cases[i].at;
			own_buf struct buf out = {0};
			struct error err = {0};

			gzip.data[at] ^= (char)cases[i].flip;
			print_message("%s, steps of %zu\n", cases[i].what, steps[k]);
			assert_int_equal(unpack(&gzip, steps[k], &out, &err), -EBADMSG);
			gzip.data[at] ^= (char)cases[i].flip;
		}
}

/* Every optional part of a header (RFC 1952): extra field, name, comment, CRC of the header. */
static void takes_all_parts_of_a_header(void **state)
{
	static const unsigned char parts[] = {4, 0,   'A', 'p', 0,   0,   'n', 'a', 'm', 'e',
					      0, 'c', 'o', 'm', 'm', 'e', 'n', 't', 0};
	static const size_t steps[] = {1, 5, 10 << 20};
	own_buf struct buf plain = {0}, gzip = {0}, whole = {0};
	unsigned char crc[2];
	uint32_t sum;

	(void)state;
	buf_add_str(&plain, "a tar");
	gzip_of(&plain, &gzip);
	buf_add(&whole, gzip.data, 10);
	whole.data[3] = 0x1e;
	buf_add(&whole, parts, sizeof(parts));
	sum = (uint32_t)crc32(0, (unsigned char *)whole.data, (unsigned int)whole.len);
	crc[0] = sum & 0xff;
	crc[1] = sum >> 8 & 0xff;
	buf_add(&whole, crc, sizeof(crc));
	buf_add(&whole, gzip.data + 10, gzip.len - 10);
	for (size_t i = 0; i < array_size(steps); i++) {
		own_buf struct buf out = {0};

		assert_int_equal(unpack(&whole, steps[i], &out, NULL), 0);
		assert_string_equal(out.data, "a tar");
		whole.data[10 + sizeof(parts)] ^= 1;
		buf_clear(&out);
		assert_int_equal(unpack(&whole, steps[i], &out, NULL), -EBADMSG);
		whole.data[10 + sizeof(parts)] ^= 1;
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

static void archives_may_be_xz(void **state)
{
	static const size_t steps[] = {1, 4096, 10 << 20}, sizes[] = {DECOMPRESS_ROOM, 100000};
	own_buf struct buf plain = {0};

	(void)state;
	make_plain(&plain);
	for (size_t s = 0; s < array_size(sizes); s++)
		for (size_t i = 0; i < array_size(steps); i++) {
			own_buf struct buf xz = {0}, out = {0};
			struct error err = {0};

			xz_of(&plain, sizes[s], 0, &xz);
			/* Streams may be followed by zeros, four at a time. */
			buf_add(&xz, "\0\0\0\0", 4);
			assert_int_equal(unpack_archive(&xz, steps[i], &out, &err), 0);
			assert_int_equal(out.len, plain.len);
			assert_memory_equal(out.data, plain.data, plain.len);
		}
}

static void damaged_xz_is_refused(void **state)
{
	own_buf struct buf plain = {0}, xz = {0}, large = {0};
	static const struct {
		size_t cut, flip;
		const char *more, *why;
	} cases[] = {
		{1, 0, "", "ends too early"},
		{100, 0, "", "ends too early"},
		{0, 200, "", "damaged"},
		{0, 6, "", "damaged"},
		{0, 0, "more bytes than a header has", "damaged"},
		{0, 0,
		 "\xfd"
		 "7zXZ",
		 "ends too early"},
	};

	(void)state;
	make_plain(&plain);
	xz_of(&plain, plain.len, 0, &xz);
	for (size_t i = 0; i < array_size(cases); i++) {
		own_buf struct buf bad = {0}, out = {0};
		struct error err = {0};

		buf_add(&bad, xz.data, xz.len - cases[i].cut);
		if (cases[i].flip > 0)
			bad.data[cases[i].flip] ^= 0x55;
		buf_add_str(&bad, cases[i].more);
		assert_int_equal(unpack_archive(&bad, 1000, &out, &err), -EBADMSG);
		if (strstr(err.text, cases[i].why) == NULL)
			fail_msg("case %zu: %s", i, err.text);
	}
	/* What it would take to unpack stands in its beginning. */
	xz_of(&plain, plain.len, 1U << 30, &large);
	{
		own_buf struct buf out = {0};
		struct error err = {0};

		assert_int_equal(unpack_archive(&large, 1000, &out, &err), -EFBIG);
		assert_non_null(strstr(err.text, "256 MiB"));
	}
	/* No layer is packed so: its bytes come as they are, and are no tar. */
	{
		own_buf struct buf out = {0};

		assert_int_equal(unpack(&xz, 1000, &out, NULL), 0);
		assert_int_equal(out.len, xz.len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_text_comes_out_whatever_the_pieces),
		cmocka_unit_test(ends_where_a_buffer_ends),
		cmocka_unit_test(several_members_and_padding_are_one_stream),
		cmocka_unit_test(an_empty_or_tiny_stream_is_plain),
		cmocka_unit_test(refuses_damage),
		cmocka_unit_test(refuses_a_wrong_header_or_trailer),
		cmocka_unit_test(takes_all_parts_of_a_header),
		cmocka_unit_test(stops_a_bomb),
		cmocka_unit_test(the_sinks_error_ends_it),
		cmocka_unit_test(archives_may_be_xz),
		cmocka_unit_test(damaged_xz_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
