/*
 * packages_rpm_old: rpm databases from before SQLite, as far as it takes to read every header in them.
 *
 * ndb ("Packages.db", SUSE; rpm's lib/backend/ndb/rpmpkg.c). Numbers are little-endian:
 *
 *     page 0...    "RpmP", version, generation, how many pages have slots, 16 bytes more; then slots of
 *                  16 bytes: "Slot", package, first block (0: the slot is free), blocks
 *     block n      16 bytes each: "BlbS", package, time, length, then so many bytes
 *
 * Berkeley DB ("Packages", up to RHEL 8; Berkeley DB's dbinc/db_page.h), a hash of number to header, in the
 * byte order of the machine that wrote it, of which we take little-endian:
 *
 *     page 0       at 12 the magic, at 20 the size of pages, at 32 the number of the last one
 *     any page     at 8 its number, 16 the next one, 20 how many entries, 22 bytes in use (overflow pages),
 *                  25 its type; from 26 on offsets of entries (2 bytes each), keys and values in turn
 *     an entry     its type, then the bytes (1), or 3 bytes, first overflow page, length (3)
 *
 * Nothing of it is believed: whatever leads outside, or on forever, ends the reading of that header.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/packages_priv.h"

enum {
	NDB_PAGE = 4096,
	NDB_UNIT = 16,
	NDB_FIRST_SLOT = 2,
	NDB_MAGIC = 0x506d7052,
	NDB_SLOT_MAGIC = 0x746f6c53,
	NDB_BLOB_MAGIC = 0x53626c42,

	BDB_HASH_MAGIC = 0x061561,
	BDB_PAGE_MIN = 512,
	BDB_PAGE_MAX = 64 << 10,
	BDB_HEADER = 26,
	BDB_PAGE_UNSORTED = 2,
	BDB_PAGE_OVERFLOW = 7,
	BDB_PAGE_HASH = 13,
	BDB_ENTRY_BYTES = 1,
	BDB_ENTRY_ELSEWHERE = 3,
	BDB_ELSEWHERE_LEN = 12,

	HEADER_LEN_MIN = 16, /* less is a counter */
};

struct file {
	const unsigned char *bytes;
	size_t len;
};

static uint32_t u32_at(const struct file *f, size_t at)
{
	uint32_t value;

	memcpy(&value, f->bytes + at, sizeof(value));
	return le32toh(value);
}

static uint16_t u16_at(const struct file *f, size_t at)
{
	uint16_t value;

	memcpy(&value, f->bytes + at, sizeof(value));
	return le16toh(value);
}

static void damaged(struct packages *list, const char *path)
{
	packages_note(list, "/%s: a part of the database is damaged", path);
}

/* --- ndb -------------------------------------------------------------------------------------------- */

static int read_slot(struct packages *list, const char *path, const struct file *f, size_t slot,
		     struct error *err)
{
	const uint64_t place = (uint64_t)u32_at(f, slot + 8) * NDB_UNIT;
	uint32_t len;

	if (u32_at(f, slot) != NDB_SLOT_MAGIC || place == 0)
		return 0;
	if (place + NDB_UNIT > f->len || u32_at(f, place) != NDB_BLOB_MAGIC) {
		damaged(list, path);
		return 0;
	}
	len = u32_at(f, place + 12);
	if (len > f->len - place - NDB_UNIT) {
		damaged(list, path);
		return 0;
	}
	return packages_add_rpm_header(list, path, f->bytes + place + NDB_UNIT, len, err);
}

static int read_ndb(struct packages *list, const char *path, const struct file *f,
		    struct error *err)
{
	const uint64_t slots = (uint64_t)u32_at(f, 12) * (NDB_PAGE / NDB_UNIT);
	int rc = 0;

	for (uint64_t i = NDB_FIRST_SLOT; rc == 0 && i < slots; i++) {
		if ((i + 1) * NDB_UNIT > f->len) {
			damaged(list, path);
			return 0;
		}
		rc = read_slot(list, path, f, (size_t)i * NDB_UNIT, err);
	}
	return rc;
}

/* --- Berkeley DB ------------------------------------------------------------------------------------- */

/* Bytes that stand on a chain of overflow pages. False if the chain does not hold them. */
static bool gather(const struct file *f, uint32_t page_size, uint32_t page, uint32_t len,
		   struct buf *ret)
{
	const uint64_t pages = f->len / page_size;

	for (uint64_t i = 0; ret->len < len; i++) {
		const uint64_t at = (uint64_t)page * page_size;
		uint32_t n;

		if (page == 0 || page >= pages || i >= pages ||
		    f->bytes[at + 25] != BDB_PAGE_OVERFLOW)
			return false;
		n = u16_at(f, at + 22);
		if (n > page_size - BDB_HEADER || n > len - ret->len)
			return false;
		buf_add(ret, f->bytes + at + BDB_HEADER, n);
		page = u32_at(f, at + 16);
	}
	return true;
}

/* The value that stands from `from` up to `end` of the page at `at`. */
static int read_value(struct packages *list, const char *path, const struct file *f,
		      uint32_t page_size, uint64_t at, uint32_t from, uint32_t end,
		      struct error *err)
{
	const unsigned char *entry = f->bytes + at + from;
	own_buf struct buf gathered = {0};
	uint32_t len;

	if (entry[0] == BDB_ENTRY_BYTES) {
		len = end - from - 1;
		return len < HEADER_LEN_MIN
			       ? 0
			       : packages_add_rpm_header(list, path, entry + 1, len, err);
	}
	len = entry[0] == BDB_ENTRY_ELSEWHERE && end - from >= BDB_ELSEWHERE_LEN
		      ? u32_at(f, at + from + 8)
		      : UINT32_MAX;
	if (len > f->len || !gather(f, page_size, u32_at(f, at + from + 4), len, &gathered)) {
		damaged(list, path);
		return 0;
	}
	return packages_add_rpm_header(list, path, (unsigned char *)gathered.data, gathered.len,
				       err);
}

/* The values of a page: every second entry. Entries are added from the page's end downwards. */
static int read_page(struct packages *list, const char *path, const struct file *f,
		     uint32_t page_size, uint64_t at, struct error *err)
{
	const uint32_t count = u16_at(f, at + 20);
	int rc = 0;

	if (BDB_HEADER + 2 * count > page_size) {
		damaged(list, path);
		return 0;
	}
	for (uint32_t i = 1; rc == 0 && i < count; i += 2) {
		const uint32_t from = u16_at(f, at + BDB_HEADER + 2 * (size_t)i);
		const uint32_t end = u16_at(f, at + BDB_HEADER + 2 * (size_t)(i - 1));

		if (from < BDB_HEADER + 2 * count || end > page_size || from >= end)
			damaged(list, path);
		else
			rc = read_value(list, path, f, page_size, at, from, end, err);
	}
	return rc;
}

static int read_bdb(struct packages *list, const char *path, const struct file *f,
		    struct error *err)
{
	const uint32_t page_size = u32_at(f, 20);
	int rc = 0;

	if (page_size < BDB_PAGE_MIN || page_size > BDB_PAGE_MAX ||
	    (page_size & (page_size - 1)) != 0) {
		damaged(list, path);
		return 0;
	}
	for (uint64_t at = page_size; rc == 0 && at + page_size <= f->len; at += page_size) {
		const unsigned char type = f->bytes[at + 25];

		if (type == BDB_PAGE_UNSORTED || type == BDB_PAGE_HASH)
			rc = read_page(list, path, f, page_size, at, err);
	}
	return rc;
}

int packages_read_rpm_old(struct packages *list, const char *path, const char *text, size_t len,
			  struct error *err)
{
	const struct file f = {.bytes = (const unsigned char *)text, .len = len};

	if (len >= NDB_PAGE && u32_at(&f, 0) == NDB_MAGIC && u32_at(&f, 4) == 0)
		return read_ndb(list, path, &f, err);
	if (len >= BDB_PAGE_MIN && u32_at(&f, 12) == BDB_HASH_MAGIC)
		return read_bdb(list, path, &f, err);
	packages_note(list, "/%s: this form of rpm database cannot be read", path);
	return 0;
}
