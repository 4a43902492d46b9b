/*
 * read: the states of the reader (see tar.h).
 *
 *   HEADER    a header block, or the zeros that end the archive
 *   META      the contents of a long name or an extended header, kept until the entry's own header
 *   EXTENSION more of the map of a GNU sparse file, a block at a time
 *   MAP       the same for GNU sparse 1.0, where it stands in front of the data
 *   DATA      a file's data, handed on as it comes
 *   SKIP      contents that mean nothing to us, and the filling behind any contents
 *   END       behind the end: everything is ignored, as all tars do
 */
#include "tar/tar_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum state { HEADER, META, EXTENSION, MAP, DATA, SKIP, END };

struct tar_reader {
	struct tar_sink *sink;
	enum state state;
	unsigned char block[TAR_BLOCK]; /* what has come of a header or an extension */
	size_t have;
	bool zero_block; /* the last block was zeros: another one ends the archive */
	bool begun;      /* a header has come: it is a tar */

	uint64_t left;    /* bytes of contents still to come */
	uint32_t padding; /* filling behind them */
	struct buf meta;  /* contents being collected */
	char meta_type;

	/* What earlier headers said of the next entry. */
	struct buf long_name, long_link;
	bool has_long_name, has_long_link;
	struct pax pax;
	struct tar_xattrs xattrs;

	struct tar_entry entry;
	struct buf path, link;
	struct tar_map map;
	size_t extent;        /* of the map, that the next data belongs to */
	uint64_t extent_done; /* bytes of it that have come */
	uint64_t offset;      /* of the next data in a file that is not sparse */
};

struct tar_reader *tar_reader_create(struct tar_sink *sink)
{
	struct tar_reader *r = mem_new(sizeof(*r));

	r->sink = sink;
	pax_clear(&r->pax);
	return r;
}

void tar_reader_destroy(struct tar_reader *r)
{
	if (r == NULL)
		return;
	buf_release(&r->meta);
	buf_release(&r->long_name);
	buf_release(&r->long_link);
	buf_release(&r->pax.path);
	buf_release(&r->pax.link);
	buf_release(&r->path);
	buf_release(&r->link);
	tar_xattrs_clear(&r->xattrs);
	free(r->xattrs.items);
	free(r->map.items);
	free(r);
}

static void forget_extensions(struct tar_reader *r)
{
	r->has_long_name = r->has_long_link = false;
	pax_clear(&r->pax);
	tar_xattrs_clear(&r->xattrs);
	tar_map_begin(&r->map);
}

static void skip(struct tar_reader *r, uint64_t bytes)
{
	r->left = bytes;
	r->state = bytes > 0 ? SKIP : HEADER;
}

static int sink_end(struct tar_reader *r, struct error *err)
{
	return r->sink->ops->end ? r->sink->ops->end(r->sink, err) : 0;
}

static int end_entry(struct tar_reader *r, struct error *err)
{
	int rc = sink_end(r, err);

	forget_extensions(r);
	skip(r, r->padding);
	return rc;
}

/* Everything is known of the entry but its data. */
static int begin_entry(struct tar_reader *r, struct error *err)
{
	struct tar_entry *e = &r->entry;
	int rc;

	if (e->sparse) {
		const struct tar_extent *last =
			r->map.count ? &r->map.items[r->map.count - 1] : NULL;

		if (r->map.data_bytes != r->left ||
		    (last != NULL && last->offset + last->len > e->size))
			return refuse(err, -EBADMSG, "%s: the map of a sparse file does not fit it",
				      e->path);
		e->extents = r->map.items;
		e->extent_count = r->map.count;
	}
	r->extent = 0;
	r->extent_done = 0;
	r->offset = 0;
	rc = r->sink->ops->entry(r->sink, e, err);
	if (rc < 0)
		return rc;
	r->state = DATA;
	return r->left == 0 ? end_entry(r, err) : 0;
}

static int add_pairs(struct tar_map *map, const unsigned char *fields, int pairs, struct error *err)
{
	for (int i = 0; i < pairs; i++) {
		const char *field = (const char *)fields + 24 * (size_t)i;
		int64_t offset = 0, len = 0;
		int rc;

		if (field[0] == '\0' && field[12] == '\0')
			break;
		rc = tar_number(field, 12, "sparse map", &offset, err);
		if (rc >= 0)
			rc = tar_number(field + 12, 12, "sparse map", &len, err);
		if (rc >= 0)
			rc = tar_map_add(map, offset, len, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int take_extension(struct tar_reader *r, struct error *err)
{
	int rc = add_pairs(&r->map, r->block, GNU_EXTENSION_PAIRS, err);

	if (rc < 0)
		return rc;
	r->have = 0;
	return r->block[GNU_EXTENSION_MORE_AT] ? 0 : begin_entry(r, err);
}

/* A header of the old GNU format for sparse files. */
static int begin_gnu_sparse(struct tar_reader *r, const struct tar_header *h, struct error *err)
{
	const unsigned char *bytes = (const unsigned char *)h;
	int64_t size = 0;
	int rc = tar_number((const char *)bytes + GNU_REAL_SIZE_AT, 12, "size", &size, err);

	if (rc < 0)
		return rc;
	if (size < 0 || size > TAR_SIZE_MAX)
		return refuse(err, -EBADMSG, "%s: its size is absurd", r->entry.path);
	tar_map_begin(&r->map);
	r->entry.sparse = true;
	r->entry.size = (uint64_t)size;
	rc = add_pairs(&r->map, bytes + GNU_SPARSE_AT, GNU_SPARSE_PAIRS, err);
	if (rc < 0)
		return rc;
	if (!bytes[GNU_SPARSE_MORE_AT])
		return begin_entry(r, err);
	r->state = EXTENSION;
	return 0;
}

static int begin_file(struct tar_reader *r, const struct tar_header *h, struct error *err)
{
	const struct pax *pax = &r->pax;

	r->entry.size = r->left;
	if (h->type == 'S' && tar_dialect(h) == TAR_GNU)
		return begin_gnu_sparse(r, h, err);
	if (pax->have & (PAX_SPARSE_MAP | PAX_SPARSE_1_0)) {
		if (!(pax->have & PAX_REAL_SIZE) || pax->real_size < 0 ||
		    pax->real_size > TAR_SIZE_MAX)
			return refuse(err, -EBADMSG, "%s: a sparse file without a size",
				      r->entry.path);
		r->entry.sparse = true;
		r->entry.size = (uint64_t)pax->real_size;
	}
	if (pax->have & PAX_SPARSE_1_0) {
		if (r->left < TAR_BLOCK)
			return refuse(err, -EBADMSG, "%s: a sparse file without a map",
				      r->entry.path);
		r->state = MAP;
		tar_map_begin(&r->map);
		return 0;
	}
	return begin_entry(r, err);
}

/* The map of GNU sparse 1.0 fills whole blocks of the contents. */
static int take_map_block(struct tar_reader *r, struct error *err)
{
	int rc = tar_map_parse(&r->map, (const char *)r->block, TAR_BLOCK, err);

	r->have = 0;
	if (rc != 0)
		return rc < 0 ? rc : begin_entry(r, err);
	if (r->left < TAR_BLOCK)
		return refuse(err, -EBADMSG, "%s: the map of a sparse file is not complete",
			      r->entry.path);
	return 0;
}

static int take_ids(struct tar_reader *r, const struct tar_header *h, struct error *err)
{
	int64_t uid = r->pax.uid, gid = r->pax.gid;
	int rc = 0;

	if (!(r->pax.have & PAX_UID))
		rc = tar_number(h->uid, sizeof(h->uid), "user id", &uid, err);
	if (rc >= 0 && !(r->pax.have & PAX_GID))
		rc = tar_number(h->gid, sizeof(h->gid), "group id", &gid, err);
	if (rc < 0)
		return rc;
	/* The largest number means "nobody in particular" to the kernel. */
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return refuse(err, -EBADMSG, "%s: %lld:%lld is no owner", r->entry.path,
			      (long long)uid, (long long)gid);
	r->entry.uid = (uint32_t)uid;
	r->entry.gid = (uint32_t)gid;
	return 0;
}

static void take_names(struct tar_reader *r, const struct tar_header *h)
{
	buf_clear(&r->path);
	buf_clear(&r->link);
	if (r->pax.have & PAX_PATH)
		buf_add(&r->path, r->pax.path.data, r->pax.path.len);
	else if (r->has_long_name)
		buf_add(&r->path, r->long_name.data, r->long_name.len);
	else
		tar_header_name(h, &r->path);
	if (r->pax.have & PAX_LINK)
		buf_add(&r->link, r->pax.link.data, r->pax.link.len);
	else if (r->has_long_link)
		buf_add(&r->link, r->long_link.data, r->long_link.len);
	else
		buf_add(&r->link, h->link, strnlen(h->link, sizeof(h->link)));
	/* A buffer that never held anything has no text at all. */
	r->entry.path = r->path.len > 0 ? r->path.data : "";
	r->entry.link = r->link.len > 0 ? r->link.data : "";
}

/* The type of an entry, or -1 for a header that is none of ours. */
static int entry_type(const struct tar_reader *r, char type)
{
	switch (type) {
	case '\0':
	case '0':
	case '7':
		/* v7 had no directories: a slash at the end made one. */
		if (r->path.len > 0 && r->path.data[r->path.len - 1] == '/')
			return TAR_DIR;
		return TAR_FILE;
	case 'S':
		return TAR_FILE;
	case '1':
		return TAR_HARD_LINK;
	case '2':
		return TAR_SYMLINK;
	case '3':
		return TAR_CHAR;
	case '4':
		return TAR_BLOCK_DEVICE;
	case '5':
	case 'D':
		return TAR_DIR;
	case '6':
		return TAR_FIFO;
	default:
		return -1;
	}
}

/* A header that stands for an entry. r->left and r->padding are set from its size. */
static int take_entry(struct tar_reader *r, const struct tar_header *h, struct error *err)
{
	struct tar_entry *e = &r->entry;
	int type, rc;

	memset(e, 0, sizeof(*e));
	take_names(r, h);
	type = entry_type(r, h->type);
	if (type < 0)
		return refuse(err, -EBADMSG, "%s: an entry of type %#x is not supported", e->path,
			      (unsigned char)h->type);
	e->type = (enum tar_type)type;
	e->xattrs = r->xattrs.items;
	e->xattr_count = r->xattrs.count;
	rc = tar_header_entry(h, e, err);
	if (rc >= 0)
		rc = take_ids(r, h, err);
	if (rc < 0)
		return rc;
	if (r->pax.have & PAX_MTIME) {
		e->mtime = r->pax.mtime;
		e->mtime_ns = r->pax.mtime_ns;
	}
	if (e->path[0] == '\0')
		return refuse(err, -EBADMSG, "an entry has no name");
	if ((type == TAR_HARD_LINK || type == TAR_SYMLINK) && e->link[0] == '\0')
		return refuse(err, -EBADMSG, "%s: a link to nothing", e->path);
	if (type == TAR_FILE)
		return begin_file(r, h, err);
	/* Only a file's size means contents; old writers gave links the size of their target. A
	 * dumped directory (D) has contents, a list of names. */
	if (type != TAR_DIR || h->type == '5')
		r->left = r->padding = 0;
	rc = r->sink->ops->entry(r->sink, e, err);
	if (rc >= 0)
		rc = sink_end(r, err);
	forget_extensions(r);
	skip(r, r->left + r->padding);
	return rc;
}

static int take_size(struct tar_reader *r, const struct tar_header *h, struct error *err)
{
	bool is_meta = h->type == 'x' || h->type == 'g' || h->type == 'X' || h->type == 'L' ||
		       h->type == 'K';
	int64_t size = 0;
	int rc = tar_number(h->size, sizeof(h->size), "size", &size, err);

	if (rc < 0)
		return rc;
	if (!is_meta && r->pax.have & PAX_SIZE)
		size = r->pax.size;
	if (size < 0 || size > TAR_SIZE_MAX)
		return refuse(err, -EBADMSG, "an entry's size of %lld bytes is absurd",
			      (long long)size);
	if (is_meta && size > TAR_META_MAX)
		return refuse(err, -EFBIG, "an extended header of %lld bytes (at most %d)",
			      (long long)size, TAR_META_MAX);
	r->left = (uint64_t)size;
	r->padding = (uint32_t)(-size & (TAR_BLOCK - 1));
	return 0;
}

static int take_meta(struct tar_reader *r, struct error *err)
{
	struct buf *name = r->meta_type == 'L' ? &r->long_name : &r->long_link;

	if (r->meta_type == 'L' || r->meta_type == 'K') {
		buf_clear(name);
		if (r->meta.len > 0)
			buf_add(name, r->meta.data, strnlen(r->meta.data, r->meta.len));
		*(r->meta_type == 'L' ? &r->has_long_name : &r->has_long_link) = true;
	} else if (r->meta_type != 'g') {
		int rc = pax_parse(&r->pax, &r->xattrs, &r->map, r->meta.data, r->meta.len, err);

		if (rc < 0)
			return rc;
	}
	skip(r, r->padding);
	return 0;
}

static int take_header(struct tar_reader *r, struct error *err)
{
	const struct tar_header *h = (const struct tar_header *)(const void *)r->block;
	static const unsigned char zeros[TAR_BLOCK];
	int rc;

	r->have = 0;
	if (memcmp(r->block, zeros, TAR_BLOCK) == 0) {
		if (r->zero_block)
			r->state = END;
		r->zero_block = true;
		return 0;
	}
	if (r->zero_block)
		return refuse(err, -EBADMSG, "an entry behind a block of zeros");
	if (!r->begun && tar_check_header(h, NULL) < 0)
		return tar_refuse(r->block, TAR_BLOCK, err);
	r->begun = true;
	rc = tar_check_header(h, err);
	if (rc >= 0)
		rc = take_size(r, h, err);
	if (rc < 0)
		return rc;
	switch (h->type) {
	case 'L':
	case 'K':
	case 'x':
	case 'X':
	case 'g':
		r->meta_type = h->type;
		r->state = META;
		buf_clear(&r->meta);
		buf_reserve(&r->meta, (size_t)r->left);
		return r->left == 0 ? take_meta(r, err) : 0;
	case 'V': /* a label of the volume */
	case 'A': /* Solaris's ACLs */
		skip(r, r->left + r->padding);
		return 0;
	default:
		return take_entry(r, h, err);
	}
}

/* Hands on data, cut at the ends of a sparse file's pieces. Returns how much. */
static int64_t take_data(struct tar_reader *r, const void *data, size_t len, struct error *err)
{
	size_t n = len < r->left ? len : (size_t)r->left;
	uint64_t offset = r->offset;
	int rc;

	if (r->entry.sparse) {
		const struct tar_extent *extent = &r->map.items[r->extent];

		if (n > extent->len - r->extent_done)
			n = (size_t)(extent->len - r->extent_done);
		offset = extent->offset + r->extent_done;
		r->extent_done += n;
		if (r->extent_done == extent->len) {
			r->extent++;
			r->extent_done = 0;
		}
	}
	rc = r->sink->ops->data ? r->sink->ops->data(r->sink, offset, data, n, err) : 0;
	if (rc < 0)
		return rc;
	r->offset += n;
	r->left -= n;
	if (r->left == 0) {
		rc = end_entry(r, err);
		if (rc < 0)
			return rc;
	}
	return (int64_t)n;
}

/* Completes a block of fixed size. Returns how much was used; r->have says whether it is there. */
static size_t take_block(struct tar_reader *r, const void *data, size_t len)
{
	size_t n = TAR_BLOCK - r->have;

	if (n > len)
		n = len;
	memcpy(r->block + r->have, data, n);
	r->have += n;
	return n;
}

/* One step with at least one byte. Returns how many were used. */
static int64_t step(struct tar_reader *r, const unsigned char *data, size_t len, struct error *err)
{
	size_t n = len < r->left ? len : (size_t)r->left;
	int rc = 0;

	switch (r->state) {
	case HEADER:
		n = take_block(r, data, len);
		if (r->have == TAR_BLOCK)
			rc = take_header(r, err);
		break;
	case EXTENSION:
		n = take_block(r, data, len);
		if (r->have == TAR_BLOCK)
			rc = take_extension(r, err);
		break;
	case META:
		buf_add(&r->meta, data, n);
		r->left -= n;
		if (r->left == 0)
			rc = take_meta(r, err);
		break;
	case MAP:
		n = take_block(r, data, len);
		r->left -= n;
		if (r->have == TAR_BLOCK)
			rc = take_map_block(r, err);
		break;
	case DATA:
		return take_data(r, data, len, err);
	case SKIP:
		r->left -= n;
		break;
	case END:
		n = len;
		break;
	}
	if (r->state == SKIP && r->left == 0)
		r->state = HEADER;
	return rc < 0 ? rc : (int64_t)n;
}

int tar_reader_add(struct tar_reader *r, const void *data, size_t len, struct error *err)
{
	const unsigned char *p = data;

	while (len > 0) {
		int64_t n = step(r, p, len, err);

		if (n < 0)
			return (int)n;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int tar_reader_finish(struct tar_reader *r, struct error *err)
{
	/* Archives without the zeros at their end, or with half of them, are in circulation. */
	if (r->state == END || (r->state == HEADER && r->have == 0))
		return 0;
	if (r->state == HEADER && !r->begun)
		return tar_refuse(r->block, r->have, err);
	if (r->state == HEADER || r->state == SKIP)
		return refuse(err, -EBADMSG, "the archive ends within a block");
	return refuse(err, -EBADMSG, "the archive ends within %s",
		      r->state == META ? "an extended header" : r->entry.path);
}
