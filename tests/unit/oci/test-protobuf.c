/* Tests of the wire format that CRIU is spoken to in. */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "oci/protobuf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Each expected text is what protoc --encode gives for the message. */
static void writes_what_others_read(void **state)
{
	static const char expected[] = "\x08\x96\x01"
				       "\x12\x03"
				       "abc"
				       "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
				       "\xa2\x04\x02"
				       "hi";
	own_buf struct buf b = {0};

	(void)state;
	protobuf_add_number(&b, 1, 150);
	protobuf_add_bytes(&b, 2, "abc", 3);
	protobuf_add_number(&b, 3, -1);
	protobuf_add_string(&b, 68, "hi");
	protobuf_add_string(&b, 69, NULL);
	assert_int_equal(b.len, sizeof(expected) - 1);
	assert_memory_equal(b.data, expected, b.len);
}

static void reads_every_type(void **state)
{
	static const uint8_t data[] = "\x08\x96\x01"
				      "\x11\x01\x02\x00\x00\x00\x00\x00\x00"
				      "\x1d\x05\x00\x00\x00"
				      "\x22\x00"
				      "\x2a\x02xy";
	struct protobuf_reader r = {data, sizeof(data) - 1};
	struct protobuf_field f;

	(void)state;
	assert_int_equal(protobuf_next(&r, &f), 1);
	assert_int_equal(f.value, 150);
	assert_null(f.data);
	assert_int_equal(protobuf_next(&r, &f), 1);
	assert_int_equal(f.value, 0x201);
	assert_int_equal(protobuf_next(&r, &f), 1);
	assert_int_equal(f.value, 5);
	assert_int_equal(protobuf_next(&r, &f), 1);
	assert_non_null(f.data);
	assert_int_equal(f.len, 0);
	assert_int_equal(protobuf_next(&r, &f), 1);
	assert_int_equal(f.number, 5);
	assert_memory_equal(f.data, "xy", 2);
	assert_int_equal(protobuf_next(&r, &f), 0);
}

/* The bytes are on the heap, so that a tool notices a read beyond them. */
static void refuses(const char *data, size_t len)
{
	own_mem uint8_t *copy = mem_copy(data, len);
	struct protobuf_reader r = {copy, len};
	struct protobuf_field f;

	assert_int_equal(protobuf_next(&r, &f), -EBADMSG);
}

static void refuses_what_is_cut_short_or_endless(void **state)
{
	(void)state;
	refuses("\x08", 1);
	refuses("\x08\x96", 2);
	refuses("\x12\x05zz", 4);
	refuses("\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10);
	refuses("\x11\x01\x02", 3);
	refuses("\x1d\x01", 2);
	refuses("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11);
	refuses("\x0b", 1);     /* a group */
	refuses("\x00\x01", 2); /* field 0 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_what_others_read),
		cmocka_unit_test(reads_every_type),
		cmocka_unit_test(refuses_what_is_cut_short_or_endless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
