/*
 * erofs_inode: inodes and their extended attributes in bytes; see erofs_format.h.
 *
 * An attribute's name is stored without its prefix, of which EROFS knows five. Attributes of other
 * name spaces cannot be held, and no file system that an image comes from could hold them either.
 */
#include "image/erofs_priv.h"

#include <endian.h>
#include <string.h>
#include <sys/stat.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the layer writer stores numbers as they are in memory, which must be little-endian"
#endif

static const struct {
	const char *prefix;
	uint8_t index;
	bool whole; /* it is all of the name */
} prefixes[] = {
	{"user.", 1, false},
	{"system.posix_acl_access", 2, true},
	{"system.posix_acl_default", 3, true},
	{"trusted.", 4, false},
	{"security.", 6, false},
};

/* The entry for one attribute, filled up to four bytes. False if EROFS has no place for its name. */
static bool put_entry(struct buf *out, const struct tar_xattr *x)
{
	static const char zeros[4];

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		const char *name = str_after(x->name, prefixes[i].prefix);
		struct erofs_xattr_entry entry;
		size_t name_len;

		if (name == NULL || (*name != '\0') == prefixes[i].whole)
			continue;
		name_len = strlen(name);
		entry = (struct erofs_xattr_entry){
			.name_len = (uint8_t)name_len,
			.prefix = prefixes[i].index,
			.value_len = (uint16_t)x->len,
		};
		buf_add(out, &entry, sizeof(entry));
		buf_add(out, name, name_len);
		buf_add(out, x->value, x->len);
		buf_add(out, zeros, -out->len & 3);
		return true;
	}
	return false;
}

/* FNV-1a, never 0. Two entries that collide are only shared needlessly early. */
static uint64_t entry_hash(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3;
	return h | 1;
}

/* The number of the shared entry with these bytes, or 0. Makes it if they are seen again. */
static uint32_t share(struct erofs_shared *s, const char *entry, size_t len)
{
	uint64_t hash, *seen;

	if (len > 256)
		return 0;
	for (size_t at = 0; at < s->used;) {
		struct erofs_xattr_entry e;
		size_t e_len;

		memcpy(&e, s->area + at, sizeof(e));
		e_len = (sizeof(e) + e.name_len + e.value_len + 3) & ~(size_t)3;
		if (e_len == len && memcmp(s->area + at, entry, len) == 0)
			return (uint32_t)(EROFS_SHARED_AT + at) / 4;
		at += e_len;
	}
	hash = entry_hash(entry, len);
	seen = &s->seen[hash % 256];
	if (*seen != hash || sizeof(s->area) - s->used < len) {
		*seen = hash;
		return 0;
	}
	memcpy(s->area + s->used, entry, len);
	s->used += len;
	return (uint32_t)(EROFS_SHARED_AT + s->used - len) / 4;
}

void erofs_put_xattrs(struct buf *out, const struct tar_xattr *xattrs, size_t count,
		      struct erofs_shared *shared)
{
	struct erofs_xattr_header header = {0};
	own_buf struct buf entries = {0};
	uint32_t numbers[UINT8_MAX];

	for (size_t i = 0; i < count; i++) {
		size_t before = entries.len;
		uint32_t number;

		if (!put_entry(&entries, &xattrs[i]) || shared == NULL ||
		    header.shared_count == UINT8_MAX)
			continue;
		number = share(shared, entries.data + before, entries.len - before);
		if (number != 0) {
			numbers[header.shared_count++] = number;
			entries.len = before;
		}
	}
	if (entries.len == 0 && header.shared_count == 0)
		return;
	buf_add(out, &header, sizeof(header));
	buf_add(out, numbers, header.shared_count * sizeof(numbers[0]));
	buf_add(out, entries.data, entries.len);
}

static bool is_compact(const struct erofs_inode *i, const struct erofs_time *time)
{
	return time->set && i->mtime == time->seconds && i->mtime_ns == time->ns &&
	       i->size <= UINT32_MAX && i->uid <= UINT16_MAX && i->gid <= UINT16_MAX &&
	       i->links <= UINT16_MAX;
}

size_t erofs_inode_len(const struct erofs_inode *inode, const struct erofs_time *time)
{
	return is_compact(inode, time) ? sizeof(struct erofs_compact)
				       : sizeof(struct erofs_extended);
}

size_t erofs_put_inode(unsigned char out[static 64], const struct erofs_inode *i,
		       size_t xattr_bytes, const struct erofs_time *time)
{
	uint16_t xattr_count = 0;

	if (xattr_bytes > 0)
		xattr_count = (uint16_t)(1 + (xattr_bytes - sizeof(struct erofs_xattr_header)) / 4);
	if (is_compact(i, time)) {
		struct erofs_compact c = {
			.format = i->layout,
			.xattr_count = xattr_count,
			.mode = (uint16_t)i->mode,
			.links = (uint16_t)i->links,
			.size = (uint32_t)i->size,
			.data = i->data,
			.uid = (uint16_t)i->uid,
			.gid = (uint16_t)i->gid,
		};

		memcpy(out, &c, sizeof(c));
		return sizeof(c);
	}
	struct erofs_extended e = {
		.format = i->layout | EROFS_EXTENDED,
		.xattr_count = xattr_count,
		.mode = (uint16_t)i->mode,
		.size = i->size,
		.data = i->data,
		.uid = i->uid,
		.gid = i->gid,
		.mtime = (uint64_t)i->mtime,
		.mtime_ns = i->mtime_ns,
		.links = i->links,
	};

	memcpy(out, &e, sizeof(e));
	return sizeof(e);
}
