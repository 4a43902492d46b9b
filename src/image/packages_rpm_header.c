/*
 * packages_rpm_header: a header of rpm's databases, which is that of its package files:
 *
 *     index count   u32, big-endian
 *     data length   u32
 *     index entries 16 bytes each: tag, type, offset into the data, count (u32 each)
 *     data
 *
 * It comes from an image: every offset is checked.
 */
#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/str.h"
#include "image/packages_priv.h"

enum rpm_tag {
	RPM_NAME = 1000,
	RPM_VERSION = 1001,
	RPM_RELEASE = 1002,
	RPM_EPOCH = 1003,
	RPM_LICENSE = 1014,
	RPM_ARCH = 1022,
	RPM_SOURCE = 1044,
};
enum rpm_type { RPM_TYPE_INT32 = 4, RPM_TYPE_STRING = 6, RPM_TYPE_I18N_STRING = 9 };
enum { RPM_ENTRY_SIZE = 16, RPM_HEADER_MAX = 64 << 20 };

struct rpm_header {
	const uint8_t *index;
	uint32_t index_count;
	const uint8_t *data;
	uint32_t data_len;
};

static uint32_t read_u32(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return be32toh(value);
}

static int header_parse(const uint8_t *blob, size_t len, struct rpm_header *ret)
{
	uint64_t need;

	if (len < 8 || len > RPM_HEADER_MAX)
		return -EBADMSG;
	ret->index_count = read_u32(blob);
	ret->data_len = read_u32(blob + 4);
	need = 8 + (uint64_t)ret->index_count * RPM_ENTRY_SIZE + ret->data_len;
	if (need > len)
		return -EBADMSG;
	ret->index = blob + 8;
	ret->data = ret->index + (size_t)ret->index_count * RPM_ENTRY_SIZE;
	return 0;
}

/* The data of a tag of one of two types; NULL if it is absent or lies outside. */
static const uint8_t *header_find(const struct rpm_header *h, enum rpm_tag tag, enum rpm_type type,
				  enum rpm_type or_type)
{
	for (uint32_t i = 0; i < h->index_count; i++) {
		const uint8_t *entry = h->index + (size_t)i * RPM_ENTRY_SIZE;
		uint32_t found = read_u32(entry + 4), offset = read_u32(entry + 8);

		if (read_u32(entry) != (uint32_t)tag)
			continue;
		if ((found != (uint32_t)type && found != (uint32_t)or_type) ||
		    offset >= h->data_len)
			return NULL;
		return h->data + offset;
	}
	return NULL;
}

/* A copy of a string tag, or NULL. */
static char *header_string(const struct rpm_header *h, enum rpm_tag tag)
{
	const uint8_t *at = header_find(h, tag, RPM_TYPE_STRING, RPM_TYPE_I18N_STRING);
	size_t room = at ? (size_t)(h->data + h->data_len - at) : 0;

	if (at == NULL || memchr(at, '\0', room) == NULL)
		return NULL;
	return str_copy((const char *)at);
}

static char *header_version(const struct rpm_header *h)
{
	own_mem char *version = header_string(h, RPM_VERSION);
	own_mem char *release = header_string(h, RPM_RELEASE);
	const uint8_t *epoch = header_find(h, RPM_EPOCH, RPM_TYPE_INT32, RPM_TYPE_INT32);

	if (version == NULL || release == NULL)
		return NULL;
	if (epoch != NULL && h->data + h->data_len - epoch >= 4)
		return str_format("%u:%s-%s", read_u32(epoch), version, release);
	return str_format("%s-%s", version, release);
}

int packages_add_rpm_header(struct packages *list, const char *path, const uint8_t *blob,
			    size_t len, struct error *err)
{
	struct rpm_header h;
	struct package *p;
	int rc;

	if (header_parse(blob, len, &h) < 0) {
		packages_note(list, "/%s: a malformed header was left out", path);
		return 0;
	}
	rc = packages_add(list, "rpm", path, &p, err);
	if (rc < 0)
		return rc;
	p->name = header_string(&h, RPM_NAME);
	p->version = header_version(&h);
	p->architecture = header_string(&h, RPM_ARCH);
	p->license = header_string(&h, RPM_LICENSE);
	p->source_name = header_string(&h, RPM_SOURCE);
	/* gpg-pubkey entries are keys, not software. */
	if (p->name == NULL || p->version == NULL || str_eq(p->name, "gpg-pubkey"))
		packages_drop_last(list);
	return 0;
}
