/*
 * header: the fixed header block of every dialect.
 *
 * Number fields are octal text, or, where octal is too narrow, base 256: the first bit of the field is
 * set, and the rest is a big-endian two's complement number (GNU, star).
 */
#include "tar/tar_priv.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

static int base256(const unsigned char *field, size_t len, int64_t *ret)
{
	/* The second bit of the first byte is the sign, extended over the marker bit. */
	bool negative = field[0] & 0x40;
	uint64_t value = negative ? UINT64_MAX : 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char byte = field[i];

		if (i == 0)
			byte = negative ? byte | 0x80 : byte & 0x7f;
		/* What is shifted out must be nothing but sign. */
		if ((value >> 55) != (negative ? 0x1ff : 0))
			return -ERANGE;
		value = value << 8 | byte;
	}
	if ((value >> 63) != negative)
		return -ERANGE;
	*ret = (int64_t)value;
	return 0;
}

static int octal(const char *field, size_t len, int64_t *ret)
{
	size_t i = 0, end = len;
	uint64_t value = 0;

	/* Writers have padded with spaces or NULs on either side. */
	while (i < end && (field[i] == ' ' || field[i] == '\0'))
		i++;
	for (; i < end && field[i] >= '0' && field[i] <= '7'; i++) {
		if (value >> 60)
			return -ERANGE;
		value = value << 3 | (uint64_t)(field[i] - '0');
	}
	if (i < end && field[i] != ' ' && field[i] != '\0')
		return -EINVAL;
	*ret = (int64_t)value;
	return 0;
}

int tar_number(const char *field, size_t len, const char *what, int64_t *ret, struct error *err)
{
	int rc = (unsigned char)field[0] & 0x80 ? base256((const unsigned char *)field, len, ret)
						: octal(field, len, ret);

	if (rc == -ERANGE)
		return refuse(err, -EBADMSG, "a header's %s is too large a number", what);
	if (rc < 0)
		return refuse(err, -EBADMSG, "a header's %s is not a number", what);
	return 0;
}

int tar_check_header(const struct tar_header *h, struct error *err)
{
	const unsigned char *bytes = (const unsigned char *)h;
	const size_t at = offsetof(struct tar_header, checksum);
	int64_t unsigned_sum = 0, signed_sum = 0, expected = 0;
	int rc = tar_number(h->checksum, sizeof(h->checksum), "checksum", &expected, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < sizeof(*h); i++) {
		/* The checksum counts as eight spaces in its own place. */
		unsigned char byte = i >= at && i < at + sizeof(h->checksum) ? ' ' : bytes[i];

		unsigned_sum += byte;
		signed_sum += (signed char)byte; /* some old writers summed chars */
	}
	if (expected != unsigned_sum && expected != signed_sum)
		return refuse(err, -EBADMSG,
			      "a header's checksum is wrong: not a tar archive, or damaged");
	return 0;
}

/* What people take for a tar, since a tar is in it. */
static const struct {
	const char *magic;
	unsigned char len;
	const char *name;
} wrappings[] = {
	{"\xfd\x37zXZ", 6, "xz"},
	{"BZh", 3, "bzip2"},
	{"LZIP", 4, "lzip"},
	{"\x5d\0\0", 3, "lzma"},
	{"\x04\x22\x4d\x18", 4, "lz4"},
};

int tar_refuse(const void *data, size_t len, struct error *err)
{
	for (size_t i = 0; i < array_size(wrappings); i++)
		if (len >= wrappings[i].len &&
		    memcmp(data, wrappings[i].magic, wrappings[i].len) == 0)
			return refuse(err, -ENOTSUP,
				      "it is compressed with %s, which is not read here",
				      wrappings[i].name);
	return refuse(err, -EBADMSG, "it is no tar archive, or its beginning is damaged");
}

enum tar_dialect tar_dialect(const struct tar_header *h)
{
	if (memcmp(h->magic, "ustar  \0", 8) == 0)
		return TAR_GNU;
	if (memcmp(h->magic, "ustar\0", 6) != 0)
		return TAR_V7;
	return memcmp(h->pad + 8, "tar\0", 4) == 0 ? TAR_STAR : TAR_USTAR;
}

void tar_header_name(const struct tar_header *h, struct buf *out)
{
	enum tar_dialect dialect = tar_dialect(h);
	/* star's prefix is 131 bytes, times follow it; GNU has none. */
	size_t prefix_max = dialect == TAR_USTAR ? 155 : dialect == TAR_STAR ? 131 : 0;
	size_t prefix = strnlen(h->prefix, prefix_max);

	buf_clear(out);
	if (prefix > 0) {
		buf_add(out, h->prefix, prefix);
		buf_add_char(out, '/');
	}
	buf_add(out, h->name, strnlen(h->name, sizeof(h->name)));
}

static int device_number(const char *field, const char *what, uint32_t *ret, struct error *err)
{
	int64_t value = 0;
	int rc = tar_number(field, 8, what, &value, err);

	if (rc < 0)
		return rc;
	if (value < 0 || value > UINT32_MAX)
		return refuse(err, -EBADMSG, "a header's %s is too large a number", what);
	*ret = (uint32_t)value;
	return 0;
}

int tar_header_entry(const struct tar_header *h, struct tar_entry *e, struct error *err)
{
	int64_t mode = 0;
	int rc = tar_number(h->mode, sizeof(h->mode), "mode", &mode, err);

	if (rc >= 0)
		rc = tar_number(h->mtime, sizeof(h->mtime), "time", &e->mtime, err);
	if (rc < 0)
		return rc;
	e->mode = (uint32_t)mode & 07777;
	if (h->type == '3' || h->type == '4') {
		rc = device_number(h->major, "major device number", &e->major, err);
		if (rc >= 0)
			rc = device_number(h->minor, "minor device number", &e->minor, err);
	}
	return rc < 0 ? rc : 0;
}
