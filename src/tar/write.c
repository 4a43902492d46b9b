/* write: see write.h. */
#include "tar/write.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tar/tar_priv.h"

enum { OCTAL_8_MAX = 07777777 }; /* what seven octal digits hold */
#define OCTAL_12_MAX INT64_C(077777777777)

static const char zeros[2 * TAR_BLOCK];

static int put(struct tar_writer *w, const void *bytes, size_t len, struct error *err)
{
	return len > 0 ? w->fn(bytes, len, w->data, err) : 0;
}

static int put_padded(struct tar_writer *w, const void *bytes, size_t len, struct error *err)
{
	int rc = put(w, bytes, len, err);

	return rc < 0 ? rc : put(w, zeros, -len & (TAR_BLOCK - 1), err);
}

static void octal_field(char *field, size_t len, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%0*llo", (int)len - 1, (unsigned long long)value);
	memcpy(field, text, len);
}

static int put_header(struct tar_writer *w, char type, const char *name, const char *link,
		      const struct tar_entry *e, uint64_t size, struct error *err)
{
	struct tar_header h = {.type = type, .magic = "ustar"};
	const unsigned char *bytes = (const unsigned char *)&h;
	unsigned int sum = 0;

	memcpy(h.magic + 6, "00", 2);
	memcpy(h.name, name, strnlen(name, sizeof(h.name)));
	memcpy(h.link, link, strnlen(link, sizeof(h.link)));
	/* What does not fit is 0 here and stands in the extended header. */
	octal_field(h.mode, sizeof(h.mode), e->mode & 07777);
	octal_field(h.uid, sizeof(h.uid), e->uid <= OCTAL_8_MAX ? e->uid : 0);
	octal_field(h.gid, sizeof(h.gid), e->gid <= OCTAL_8_MAX ? e->gid : 0);
	octal_field(h.size, sizeof(h.size), size <= OCTAL_12_MAX ? size : 0);
	octal_field(h.mtime, sizeof(h.mtime),
		    e->mtime >= 0 && e->mtime <= OCTAL_12_MAX ? (uint64_t)e->mtime : 0);
	octal_field(h.major, sizeof(h.major), e->major);
	octal_field(h.minor, sizeof(h.minor), e->minor);
	memset(h.checksum, ' ', sizeof(h.checksum));
	for (size_t i = 0; i < sizeof(h); i++)
		sum += bytes[i];
	octal_field(h.checksum, 7, sum);
	return put(w, &h, sizeof(h), err);
}

/* "<length> <key>=<value>\n", where the length counts its own digits. */
static void add_record(struct buf *out, const char *key, const void *value, size_t len)
{
	size_t rest = strlen(key) + len + 3, total = rest + 1, digits = 1;

	for (size_t limit = 10; total >= limit; limit *= 10) {
		digits++;
		total = rest + digits;
	}
	buf_format(out, "%zu %s=", total, key);
	buf_add(out, value, len);
	buf_add_char(out, '\n');
}

static void add_number(struct buf *out, const char *key, int64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)value);
	add_record(out, key, text, strlen(text));
}

/* -1.25 s has the seconds -2 and 750000000 ns. */
static void add_time(struct buf *out, const struct tar_entry *e)
{
	bool negative = e->mtime < 0 && e->mtime_ns > 0;
	int64_t seconds = negative ? e->mtime + 1 : e->mtime;
	uint32_t ns = negative ? 1000000000 - e->mtime_ns : e->mtime_ns;
	char text[48];
	size_t len;

	snprintf(text, sizeof(text), "%s%lld.%09u", negative && seconds == 0 ? "-" : "",
		 (long long)seconds, ns);
	for (len = strlen(text); text[len - 1] == '0'; len--)
		;
	if (text[len - 1] == '.')
		len--;
	add_record(out, "mtime", text, len);
}

/* The extended header; empty if none is needed. */
static void extended(struct buf *out, const struct tar_entry *e, uint64_t size)
{
	if (strlen(e->path) > sizeof(((struct tar_header *)0)->name) && !e->sparse)
		add_record(out, "path", e->path, strlen(e->path));
	if (e->link != NULL && strlen(e->link) > sizeof(((struct tar_header *)0)->link))
		add_record(out, "linkpath", e->link, strlen(e->link));
	if (e->uid > OCTAL_8_MAX)
		add_number(out, "uid", e->uid);
	if (e->gid > OCTAL_8_MAX)
		add_number(out, "gid", e->gid);
	if (size > OCTAL_12_MAX)
		add_number(out, "size", (int64_t)size);
	if (e->mtime < 0 || e->mtime > OCTAL_12_MAX || e->mtime_ns != 0)
		add_time(out, e);
	if (e->sparse) {
		add_record(out, "GNU.sparse.major", "1", 1);
		add_record(out, "GNU.sparse.minor", "0", 1);
		add_record(out, "GNU.sparse.name", e->path, strlen(e->path));
		add_number(out, "GNU.sparse.realsize", (int64_t)e->size);
	}
	for (size_t i = 0; i < e->xattr_count; i++) {
		own_mem char *key = str_format("SCHILY.xattr.%s", e->xattrs[i].name);

		add_record(out, key, e->xattrs[i].value, e->xattrs[i].len);
	}
}

/* A hole at the end ends in a piece of no length: without it GNU tar cuts the file off there. */
static void sparse_map(struct buf *out, const struct tar_entry *e)
{
	const struct tar_extent *last = e->extent_count ? &e->extents[e->extent_count - 1] : NULL;
	bool hole = last == NULL || last->offset + last->len < e->size;

	buf_format(out, "%zu\n", e->extent_count + hole);
	for (size_t i = 0; i < e->extent_count; i++)
		buf_format(out, "%llu\n%llu\n", (unsigned long long)e->extents[i].offset,
			   (unsigned long long)e->extents[i].len);
	if (hole)
		buf_format(out, "%llu\n0\n", (unsigned long long)e->size);
	while (out->len % TAR_BLOCK != 0)
		buf_add_char(out, '\0');
}

int tar_write_entry(struct tar_writer *w, const struct tar_entry *e, struct error *err)
{
	static const char types[] = {
		[TAR_FILE] = '0', [TAR_HARD_LINK] = '1',    [TAR_SYMLINK] = '2',
		[TAR_CHAR] = '3', [TAR_BLOCK_DEVICE] = '4', [TAR_DIR] = '5',
		[TAR_FIFO] = '6',
	};
	const struct tar_entry plain = {.mode = 0644, .mtime = e->mtime > 0 ? e->mtime : 0};
	own_buf struct buf records = {0}, map = {0};
	uint64_t size = 0;
	int rc = 0;

	w->left = 0;
	if (e->type == TAR_FILE && e->sparse) {
		for (size_t i = 0; i < e->extent_count; i++)
			w->left += e->extents[i].len;
		sparse_map(&map, e);
		size = map.len + w->left;
	} else if (e->type == TAR_FILE) {
		size = w->left = e->size;
	}
	w->padding = (uint32_t)(-w->left & (TAR_BLOCK - 1));
	extended(&records, e, size);
	if (records.len > TAR_META_MAX)
		return refuse(err, -EFBIG, "%s: its attributes are too large for an archive",
			      e->path);
	if (records.len > 0) {
		rc = put_header(w, 'x', "PaxHeader", "", &plain, records.len, err);
		if (rc >= 0)
			rc = put_padded(w, records.data, records.len, err);
	}
	if (rc >= 0)
		rc = put_header(w, types[e->type], e->path, e->link ? e->link : "", e, size, err);
	if (rc >= 0)
		rc = put(w, map.data, map.len, err);
	return rc;
}

int tar_write_data(struct tar_writer *w, const void *bytes, size_t len, struct error *err)
{
	int rc = put(w, bytes, len, err);

	w->left -= len;
	if (rc >= 0 && w->left == 0)
		rc = put(w, zeros, w->padding, err);
	return rc;
}

int tar_write_end(struct tar_writer *w, struct error *err)
{
	return put(w, zeros, sizeof(zeros), err);
}
