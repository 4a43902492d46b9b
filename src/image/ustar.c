/*
 * ustar: see ustar.h. POSIX.1-1988 "ustar", with GNU's binary numbers for sizes from 8 GiB.
 *
 *     0 name  100 mode  108 uid  116 gid  124 size  136 mtime  148 checksum  156 type
 *     157 link name  257 magic "ustar\0" "00"  265 user  297 group  329 major  337 minor  345 prefix
 */
#include "image/ustar.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const unsigned char zeros[2 * USTAR_BLOCK];

/* A number as octal digits, or as a big-endian one with the top bit set if they do not suffice. */
static void put_number(unsigned char *field, size_t width, uint64_t value)
{
	char text[32];

	if (value < (UINT64_C(1) << (3 * (width - 1)))) {
		snprintf(text, sizeof(text), "%0*llo", (int)width - 1, (unsigned long long)value);
		memcpy(field, text, width);
		return;
	}
	for (size_t i = width; i-- > 1; value >>= 8)
		field[i] = (unsigned char)value;
	field[0] = 0x80;
}

int ustar_header(const struct ustar_entry *e, image_bytes_fn *out, void *context, struct error *err)
{
	unsigned char h[USTAR_BLOCK] = {0};
	unsigned int sum = 0;
	size_t name_len = strlen(e->name), link_len = e->link ? strlen(e->link) : 0;

	if (name_len > USTAR_NAME_MAX || link_len > USTAR_NAME_MAX)
		return fail(err, -ENAMETOOLONG, "put %s into a tar", e->name);
	memcpy(h, e->name, name_len);
	put_number(h + 100, 8, e->mode);
	put_number(h + 108, 8, 0);
	put_number(h + 116, 8, 0);
	put_number(h + 124, 12, e->size_bytes);
	put_number(h + 136, 12, e->mtime_s > 0 ? (uint64_t)e->mtime_s : 0);
	memset(h + 148, ' ', 8);
	h[156] = (unsigned char)e->type;
	if (link_len > 0)
		memcpy(h + 157, e->link, link_len);
	memcpy(h + 257,
	       "ustar\0"
	       "00",
	       8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += h[i];
	put_number(h + 148, 7, sum);
	return out(h, sizeof(h), context, err);
}

int ustar_pad(uint64_t size_bytes, image_bytes_fn *out, void *context, struct error *err)
{
	size_t pad = (size_t)(-size_bytes & (USTAR_BLOCK - 1));

	return pad ? out(zeros, pad, context, err) : 0;
}

int ustar_file(const struct ustar_entry *entry, const void *data, image_bytes_fn *out,
	       void *context, struct error *err)
{
	int rc = ustar_header(entry, out, context, err);

	if (rc == 0 && entry->size_bytes > 0)
		rc = out(data, entry->size_bytes, context, err);
	return rc < 0 ? rc : ustar_pad(entry->size_bytes, out, context, err);
}

int ustar_end(image_bytes_fn *out, void *context, struct error *err)
{
	return out(zeros, sizeof(zeros), context, err);
}
