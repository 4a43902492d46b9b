/* The tar reader: what it makes of each dialect, and what it refuses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tar/tar.h"
#include "tarball.h"

/* cmocka has a macro of the name of our function. */
#include <cmocka.h>

/* Writes down what it is told, one line for each entry. */
struct scribe {
	struct tar_sink sink;
	struct buf text;
	uint64_t next; /* where the next data would follow the last */
};

static int on_entry(struct tar_sink *sink, const struct tar_entry *e, struct error *err)
{
	struct scribe *s = container_of(sink, struct scribe, sink);

	(void)err;
	s->next = UINT64_MAX;
	buf_format(&s->text, "%d %s", e->type, e->path);
	if (e->link[0] != '\0')
		buf_format(&s->text, ">%s", e->link);
	buf_format(&s->text, " %o %u:%u %lld.%09u %llu", e->mode, e->uid, e->gid,
		   (long long)e->mtime, e->mtime_ns, (unsigned long long)e->size);
	if (e->type == TAR_CHAR || e->type == TAR_BLOCK_DEVICE)
		buf_format(&s->text, " %u,%u", e->major, e->minor);
	for (size_t i = 0; i < e->xattr_count; i++)
		buf_format(&s->text, " %s=%.*s", e->xattrs[i].name, (int)e->xattrs[i].len,
			   (const char *)e->xattrs[i].value);
	return 0;
}

static int on_data(struct tar_sink *sink, uint64_t offset, const void *data, size_t len,
		   struct error *err)
{
	struct scribe *s = container_of(sink, struct scribe, sink);

	(void)err;
	/* Joined where one piece follows the other, so that cutting does not show. */
	if (offset != s->next)
		buf_format(&s->text, " @%llu:", (unsigned long long)offset);
	buf_add(&s->text, data, len);
	s->next = offset + len;
	return 0;
}

static int on_end(struct tar_sink *sink, struct error *err)
{
	struct scribe *s = container_of(sink, struct scribe, sink);

	(void)err;
	buf_add_char(&s->text, '\n');
	return 0;
}

static const struct tar_sink_ops scribe_ops = {.entry = on_entry, .data = on_data, .end = on_end};

/* Reads the tar in pieces. Returns the result, and what the scribe wrote or the reason. */
static int read_tar(const struct buf *ball, size_t piece, char **ret)
{
	struct scribe s = {.sink.ops = &scribe_ops};
	struct tar_reader *r = tar_reader_create(&s.sink);
	struct error err = {0};
	int rc = 0;

	for (size_t at = 0; at < ball->len && rc == 0; at += piece)
		rc = tar_reader_add(r, ball->data + at,
				    ball->len - at < piece ? ball->len - at : piece, &err);
	if (rc == 0)
		rc = tar_reader_finish(r, &err);
	tar_reader_destroy(r);
	if (rc < 0) {
		assert_string_not_equal(err.text, "");
		buf_release(&s.text);
		*ret = str_copy(err.text);
	} else {
		*ret = buf_take(&s.text);
	}
	return rc;
}

static void one(struct buf *b, const struct ball_entry *e)
{
	ball_add(b, e);
}

static void pax_text(struct buf *b, const char *key, const char *value)
{
	ball_pax(b, key, value, strlen(value));
}

static void make_file(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "a/b", .data = "hello", .mode = 0755, .mtime = 7});
}

static void make_v7_directory(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "d/", .mode = 0755, .v7 = 1});
}

static void make_types(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "h", .type = '1', .link = "a"});
	one(b, &(struct ball_entry){.name = "s", .type = '2', .link = "../x"});
	one(b, &(struct ball_entry){.name = "c", .type = '3', .major = 5, .minor = 1});
	one(b, &(struct ball_entry){.name = "k", .type = '4', .major = 8, .minor = 300});
	one(b, &(struct ball_entry){.name = "d", .type = '5'});
	one(b, &(struct ball_entry){.name = "f", .type = '6'});
}

static void make_link_with_size(struct buf *b)
{
	one(b, &(struct ball_entry){
		       .name = "h", .type = '1', .link = "a", .size_field = "00000001000"});
	one(b, &(struct ball_entry){.name = "n"});
}

static void make_pax(struct buf *b)
{
	pax_text(b, "mtime", "-1.25");
	pax_text(b, "uid", "4000000000");
	pax_text(b, "gid", "3000000");
	pax_text(b, "path", "long\xff/name");
	ball_pax(b, "SCHILY.xattr.user.x", "v=1\n2", 5);
	pax_text(b, "LIBARCHIVE.xattr.user.y%20z", "aGk");
	one(b, &(struct ball_entry){.name = "short", .data = "D"});
	one(b, &(struct ball_entry){.name = "next"});
}

static void make_pax_taken_back(struct buf *b)
{
	pax_text(b, "path", "gone");
	pax_text(b, "path", "");
	one(b, &(struct ball_entry){.name = "kept"});
}

static void make_global_header(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "g", .type = 'g', .data = "13 path=glob\n"});
	one(b, &(struct ball_entry){.name = "kept"});
}

static void make_gnu_long(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "L", .type = 'L', .data = "very/long", .len = 10});
	one(b, &(struct ball_entry){.name = "K", .type = 'K', .data = "target", .len = 7});
	one(b, &(struct ball_entry){.name = "ver", .type = '2', .link = "tar"});
	one(b, &(struct ball_entry){.name = "next"});
}

static void make_base256(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "a", .uid_field = "\x80\0\0\0\0\x2d\xc6\xc0"});
}

static void make_negative_time(struct buf *b)
{
	struct buf tar = {0};
	unsigned int sum = 0;

	one(&tar, &(struct ball_entry){.name = "a"});
	memcpy(tar.data + 136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12);
	memset(tar.data + 148, ' ', 8);
	for (size_t i = 0; i < 512; i++)
		sum += (unsigned char)tar.data[i];
	snprintf(tar.data + 148, 8, "%06o", sum);
	buf_add(b, tar.data, tar.len);
	buf_release(&tar);
}

static void make_sparse_0_0(struct buf *b)
{
	static const char records[] =
		"22 GNU.sparse.size=20\n26 GNU.sparse.numblocks=2\n23 GNU.sparse.offset=3\n"
		"25 GNU.sparse.numbytes=2\n24 GNU.sparse.offset=10\n25 GNU.sparse.numbytes=1\n";

	ball_pax_raw(b, records, sizeof(records) - 1);
	one(b, &(struct ball_entry){.name = "s", .data = "abc"});
}

static void make_sparse_0_1(struct buf *b)
{
	pax_text(b, "GNU.sparse.name", "real");
	pax_text(b, "GNU.sparse.size", "20");
	pax_text(b, "GNU.sparse.map", "3,2,10,1");
	one(b, &(struct ball_entry){.name = "GNUSparseFile.0/real", .data = "abc"});
}

static void make_sparse_1_0(struct buf *b)
{
	char data[515] = "2\n3\n2\n10\n1\n";

	memcpy(data + 512, "abc", 3);
	pax_text(b, "GNU.sparse.major", "1");
	pax_text(b, "GNU.sparse.minor", "0");
	pax_text(b, "GNU.sparse.name", "real");
	pax_text(b, "GNU.sparse.realsize", "20");
	one(b, &(struct ball_entry){
		       .name = "GNUSparseFile.0/real", .data = data, .len = sizeof(data)});
	one(b, &(struct ball_entry){.name = "next"});
}

/* --- refused --- */

static void make_garbage(struct buf *b)
{
	for (int i = 0; i < 1024; i++)
		buf_add_char(b, (char)(i * 7));
}

static void make_xz(struct buf *b)
{
	buf_add(b, "\xfd\x37zXZ\0\0\4", 8);
	make_garbage(b);
}

static void make_bzip2(struct buf *b)
{
	buf_add_str(b, "BZh91AY&SY");
}

static void make_name_of_bzip2(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "BZh91AY"});
}

static void make_late_garbage(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "a"});
	b->len = TAR_BLOCK;
	make_garbage(b);
}

static void make_bad_size(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "a", .size_field = "9999999999x"});
}

static void make_huge_size(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "a", .size_field = "\x80\0\0\0\x7f\0\0\0\0\0\0"});
}

static void make_huge_header(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "x", .type = 'x', .size_field = "07777777777"});
}

static void make_nul_name(struct buf *b)
{
	ball_pax(b, "path", "a\0b", 3);
	one(b, &(struct ball_entry){.name = "a"});
}

static void make_bad_record(struct buf *b)
{
	ball_pax_raw(b, "99 path=x\n", 10);
	one(b, &(struct ball_entry){.name = "a"});
}

static void make_no_owner(struct buf *b)
{
	pax_text(b, "uid", "4294967295");
	one(b, &(struct ball_entry){.name = "a"});
}

static void make_unknown_type(struct buf *b)
{
	one(b, &(struct ball_entry){.name = "a", .type = 'Q'});
}

static void make_no_name(struct buf *b)
{
	one(b, &(struct ball_entry){.name = ""});
}

static void make_overlapping_map(struct buf *b)
{
	pax_text(b, "GNU.sparse.size", "20");
	pax_text(b, "GNU.sparse.map", "3,4,5,1");
	one(b, &(struct ball_entry){.name = "s", .data = "abcde"});
}

static void make_map_beyond_end(struct buf *b)
{
	pax_text(b, "GNU.sparse.size", "4");
	pax_text(b, "GNU.sparse.map", "3,3");
	one(b, &(struct ball_entry){.name = "s", .data = "abc"});
}

static void make_map_of_other_size(struct buf *b)
{
	pax_text(b, "GNU.sparse.size", "40");
	pax_text(b, "GNU.sparse.map", "3,3");
	one(b, &(struct ball_entry){.name = "s", .data = "abcd"});
}

static void make_many_pieces(struct buf *b)
{
	char data[512] = "99999999999\n";

	pax_text(b, "GNU.sparse.major", "1");
	pax_text(b, "GNU.sparse.realsize", "20");
	one(b, &(struct ball_entry){.name = "s", .data = data, .len = sizeof(data)});
}

static const struct {
	const char *name;
	void (*make)(struct buf *b);
	const char *expected; /* lines, or a part of the reason */
	int rc;
} cases[] = {
	{"reads_a_file", make_file, "0 a/b 755 0:0 7.000000000 5 @0:hello\n", 0},
	{"takes_a_v7_slash_for_a_directory", make_v7_directory, "5 d/ 755 0:0 0.000000000 0\n", 0},
	{"reads_all_types", make_types,
	 "1 h>a 644 0:0 0.000000000 0\n2 s>../x 644 0:0 0.000000000 0\n"
	 "3 c 644 0:0 0.000000000 0 5,1\n4 k 644 0:0 0.000000000 0 8,300\n"
	 "5 d 644 0:0 0.000000000 0\n6 f 644 0:0 0.000000000 0\n",
	 0},
	{"ignores_the_size_of_a_link", make_link_with_size,
	 "1 h>a 644 0:0 0.000000000 0\n0 n 644 0:0 0.000000000 0\n", 0},
	{"applies_pax_to_one_entry", make_pax,
	 "0 long\xff/name 644 4000000000:3000000 -2.750000000 1 user.x=v=1\n2 user.y z=hi @0:D\n"
	 "0 next 644 0:0 0.000000000 0\n",
	 0},
	{"takes_back_an_empty_pax_value", make_pax_taken_back, "0 kept 644 0:0 0.000000000 0\n", 0},
	{"does_not_apply_global_headers", make_global_header, "0 kept 644 0:0 0.000000000 0\n", 0},
	{"reads_gnu_long_names", make_gnu_long,
	 "2 very/long>target 644 0:0 0.000000000 0\n0 next 644 0:0 0.000000000 0\n", 0},
	{"reads_base_256", make_base256, "0 a 644 3000000:0 0.000000000 0\n", 0},
	{"reads_times_before_1970", make_negative_time, "0 a 644 0:0 -2.000000000 0\n", 0},
	{"reads_sparse_0_0", make_sparse_0_0, "0 s 644 0:0 0.000000000 20 @3:ab @10:c\n", 0},
	{"reads_sparse_0_1", make_sparse_0_1, "0 real 644 0:0 0.000000000 20 @3:ab @10:c\n", 0},
	{"reads_sparse_1_0", make_sparse_1_0,
	 "0 real 644 0:0 0.000000000 20 @3:ab @10:c\n0 next 644 0:0 0.000000000 0\n", 0},
	{"refuses_garbage", make_garbage, "no tar", -EBADMSG},
	{"refuses_xz", make_xz, "compressed with xz", -ENOTSUP},
	{"refuses_a_few_bytes_of_bzip2", make_bzip2, "compressed with bzip2", -ENOTSUP},
	{"reads_a_name_like_bzip2", make_name_of_bzip2, "0 BZh91AY 644 0:0 0.000000000 0\n", 0},
	{"refuses_garbage_behind_an_entry", make_late_garbage, "checksum", -EBADMSG},
	{"refuses_a_size_that_is_no_number", make_bad_size, "size is not a number", -EBADMSG},
	{"refuses_an_absurd_size", make_huge_size, "absurd", -EBADMSG},
	{"refuses_an_absurd_header", make_huge_header, "extended header of", -EFBIG},
	{"refuses_a_name_with_nul", make_nul_name, "NUL", -EBADMSG},
	{"refuses_a_broken_record", make_bad_record, "length is wrong", -EBADMSG},
	{"refuses_the_owner_nobody_has", make_no_owner, "no owner", -EBADMSG},
	{"refuses_unknown_types", make_unknown_type, "0x51", -EBADMSG},
	{"refuses_an_empty_name", make_no_name, "no name", -EBADMSG},
	{"refuses_overlapping_pieces", make_overlapping_map, "malformed", -EBADMSG},
	{"refuses_pieces_beyond_the_end", make_map_beyond_end, "does not fit", -EBADMSG},
	{"refuses_pieces_of_other_size", make_map_of_other_size, "does not fit", -EBADMSG},
	{"refuses_too_many_pieces", make_many_pieces, "more than", -EFBIG},
};

static void check(const char *name, const struct buf *ball, size_t piece, const char *expected,
		  int expected_rc)
{
	char *text = NULL;
	int rc = read_tar(ball, piece, &text);
	bool good = rc == expected_rc &&
		    (rc < 0 ? strstr(text, expected) != NULL : strcmp(text, expected) == 0);

	if (!good)
		fail_msg("%s, pieces of %zu: %d, \"%s\"", name, piece, rc, text);
	free(text);
}

static void every_dialect_in_pieces_of_every_size(void **state)
{
	static const size_t pieces[] = {1, 3, 511, 512, 513, 1 << 20};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_buf struct buf ball = {0};

		cases[i].make(&ball);
		ball_end(&ball);
		for (size_t k = 0; k < array_size(pieces); k++)
			check(cases[i].name, &ball, pieces[k], cases[i].expected, cases[i].rc);
	}
}

static void accepts_an_archive_without_its_end(void **state)
{
	own_buf struct buf ball = {0};

	(void)state;
	make_file(&ball);
	check("no end", &ball, 100, cases[0].expected, 0);
	ball_end(&ball);
	buf_add_str(&ball, "trailing garbage");
	check("trailing", &ball, 100, cases[0].expected, 0);
}

static void refuses_every_truncation(void **state)
{
	own_buf struct buf ball = {0};
	size_t whole;

	(void)state;
	make_file(&ball);
	whole = ball.len;
	for (size_t len = 1; len < whole; len++) {
		ball.len = len;
		check("truncated", &ball, whole, len < TAR_BLOCK ? "no tar" : "archive ends within",
		      -EBADMSG);
	}
}

static void refuses_an_entry_behind_zeros(void **state)
{
	own_buf struct buf ball = {0};

	(void)state;
	for (int i = 0; i < 512; i++)
		buf_add_char(&ball, 0);
	make_file(&ball);
	check("lone zeros", &ball, 4096, "behind a block of zeros", -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_dialect_in_pieces_of_every_size),
		cmocka_unit_test(accepts_an_archive_without_its_end),
		cmocka_unit_test(refuses_every_truncation),
		cmocka_unit_test(refuses_an_entry_behind_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
