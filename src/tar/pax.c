/*
 * pax: extended headers, a sequence of records "<length> <key>=<value>\n" where the length counts
 * the whole record. An empty value takes an earlier one back (POSIX, pax, "Extended Header").
 */
#include "tar/tar_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct record {
	const char *key; /* ends at '=' */
	size_t key_len;
	const char *value; /* may contain anything, also NULs */
	size_t len;
};

static int broken(struct error *err, const char *what)
{
	return refuse(err, -EBADMSG, "an extended header is malformed: %s", what);
}

static int next_record(const char **text, size_t *left, struct record *ret, struct error *err)
{
	size_t len = 0, digits = 0;
	const char *p = *text, *equals;

	while (digits < *left && p[digits] >= '0' && p[digits] <= '9' && digits < 8)
		len = len * 10 + (size_t)(p[digits++] - '0');
	if (digits == 0 || digits >= *left || p[digits] != ' ')
		return broken(err, "a record has no length");
	if (len > *left || len < digits + 3 || p[len - 1] != '\n')
		return broken(err, "a record's length is wrong");
	ret->key = p + digits + 1;
	equals = memchr(ret->key, '=', len - digits - 2);
	if (equals == NULL || equals == ret->key)
		return broken(err, "a record has no key");
	ret->key_len = (size_t)(equals - ret->key);
	ret->value = equals + 1;
	ret->len = (size_t)(p + len - 1 - ret->value);
	*text += len;
	*left -= len;
	return 0;
}

static bool is_key(const struct record *r, const char *key)
{
	return r->key_len == strlen(key) && memcmp(r->key, key, r->key_len) == 0;
}

static int parse_int(const char *s, size_t len, int64_t *ret, struct error *err)
{
	char text[24];

	if (len == 0 || len >= sizeof(text) || memchr(s, '\0', len) != NULL)
		return broken(err, "a number is not one");
	memcpy(text, s, len);
	text[len] = '\0';
	if (str_to_int(text, INT64_MIN, INT64_MAX, ret) < 0)
		return broken(err, "a number is not one");
	return 0;
}

/* "-1.25" is 1.25 seconds before 1970: seconds -2, nanoseconds 750000000. */
static int parse_time(const struct record *r, struct pax *pax, struct error *err)
{
	const char *point = memchr(r->value, '.', r->len);
	size_t whole = point ? (size_t)(point - r->value) : r->len;
	bool negative = r->len > 0 && r->value[0] == '-';
	int64_t seconds = 0;
	uint32_t ns = 0, unit = 100000000;

	/* "-.5" and ".5" have no whole part. */
	if (whole > (negative ? 1 : 0)) {
		int rc = parse_int(r->value, whole, &seconds, err);

		if (rc < 0)
			return rc;
	}
	for (size_t i = whole + 1; i < r->len; i++, unit /= 10) {
		if (r->value[i] < '0' || r->value[i] > '9')
			return broken(err, "a time is not one");
		ns += unit * (uint32_t)(r->value[i] - '0');
	}
	if (negative && ns > 0) {
		if (seconds == INT64_MIN)
			return broken(err, "a time is not one");
		seconds--;
		ns = 1000000000 - ns;
	}
	pax->mtime = seconds;
	pax->mtime_ns = ns;
	return 0;
}

static int xattr_set(struct tar_xattrs *x, const char *name, size_t name_len, const void *value,
		     size_t len, struct error *err)
{
	struct tar_xattr *at = NULL;

	for (size_t i = 0; i < x->count && at == NULL; i++)
		if (strlen(x->items[i].name) == name_len &&
		    memcmp(x->items[i].name, name, name_len) == 0)
			at = &x->items[i];
	if (at == NULL && x->count == TAR_XATTRS_MAX)
		return refuse(err, -EFBIG, "a file has more than %d extended attributes",
			      TAR_XATTRS_MAX);
	if (at == NULL) {
		x->items = mem_grow(x->items, x->count, &x->capacity, sizeof(*x->items));
		at = &x->items[x->count++];
		at->name = str_copy_n(name, name_len);
	} else {
		free(at->value);
	}
	at->value = mem_copy(value, len);
	at->len = len;
	return 0;
}

void tar_xattrs_clear(struct tar_xattrs *x)
{
	for (size_t i = 0; i < x->count; i++) {
		free(x->items[i].name);
		free(x->items[i].value);
	}
	x->count = 0;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
				      : -1;
}

static int base64_digit(char c)
{
	return c >= 'A' && c <= 'Z'   ? c - 'A'
	       : c >= 'a' && c <= 'z' ? c - 'a' + 26
	       : c >= '0' && c <= '9' ? c - '0' + 52
	       : c == '+'             ? 62
	       : c == '/'             ? 63
				      : -1;
}

/* libarchive's form: the name with %XX escapes, the value in base 64, with or without padding. */
static int libarchive_xattr(struct tar_xattrs *x, const char *name, size_t name_len,
			    const struct record *r, struct error *err)
{
	own_buf struct buf key = {0}, value = {0};
	uint32_t bits = 0;
	int have = 0;

	for (size_t i = 0; i < name_len; i++) {
		int high = name[i] == '%' && i + 2 < name_len ? hex_digit(name[i + 1]) : -1;
		int low = high >= 0 ? hex_digit(name[i + 2]) : -1;

		buf_add_char(&key, low >= 0 ? (char)(high << 4 | low) : name[i]);
		if (low >= 0)
			i += 2;
	}
	if (memchr(key.data, '\0', key.len) != NULL)
		return broken(err, "an attribute's name is not one");
	for (size_t i = 0; i < r->len && r->value[i] != '='; i++) {
		int digit = base64_digit(r->value[i]);

		if (digit < 0)
			return broken(err, "an attribute is not in base 64");
		bits = bits << 6 | (uint32_t)digit;
		have += 6;
		if (have >= 8) {
			have -= 8;
			buf_add_char(&value, (char)(bits >> have));
		}
	}
	return xattr_set(x, key.data, key.len, value.data, value.len, err);
}

/* 1 if the record was an attribute. */
static int parse_xattr(struct tar_xattrs *x, const struct record *r, struct error *err)
{
	static const char star[] = "SCHILY.xattr.", libarchive[] = "LIBARCHIVE.xattr.";
	const size_t star_len = sizeof(star) - 1, libarchive_len = sizeof(libarchive) - 1;
	int rc;

	if (r->key_len > star_len && memcmp(r->key, star, star_len) == 0) {
		if (memchr(r->key, '\0', r->key_len) != NULL)
			return broken(err, "an attribute's name is not one");
		rc = xattr_set(x, r->key + star_len, r->key_len - star_len, r->value, r->len, err);
		return rc < 0 ? rc : 1;
	}
	if (r->key_len <= libarchive_len || memcmp(r->key, libarchive, libarchive_len) != 0)
		return 0;
	rc = libarchive_xattr(x, r->key + libarchive_len, r->key_len - libarchive_len, r, err);
	return rc < 0 ? rc : 1;
}

/* "offset,length,offset,length,..." (GNU sparse 0.1) */
static int parse_map(struct tar_map *map, const struct record *r, struct error *err)
{
	const char *p = r->value, *end = r->value + r->len;
	int64_t pair[2] = {0, 0};

	tar_map_begin(map);
	for (unsigned int i = 0; p < end; i++) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		int rc;

		if (comma == NULL)
			comma = end;
		rc = parse_int(p, (size_t)(comma - p), &pair[i % 2], err);
		if (rc >= 0 && i % 2 == 1)
			rc = tar_map_add(map, pair[0], pair[1], err);
		if (rc < 0)
			return rc;
		p = comma + 1;
	}
	return 0;
}

/* The records with which GNU tar describes sparse files. 1 if it was one. */
static int parse_sparse(struct pax *pax, struct tar_map *map, const struct record *r,
			struct error *err)
{
	int64_t number = 0;
	int rc;

	if (is_key(r, "GNU.sparse.name")) {
		if (memchr(r->value, '\0', r->len) != NULL)
			return broken(err, "a name contains a NUL");
		buf_clear(&pax->path);
		buf_add(&pax->path, r->value, r->len);
		pax->have |= PAX_PATH | PAX_SPARSE_NAME;
		return 1;
	}
	if (is_key(r, "GNU.sparse.map")) {
		rc = parse_map(map, r, err);
		pax->have |= PAX_SPARSE_MAP;
		return rc < 0 ? rc : 1;
	}
	if (is_key(r, "GNU.sparse.numblocks")) {
		tar_map_begin(map);
		pax->have |= PAX_SPARSE_MAP;
		return 1;
	}
	rc = parse_int(r->value, r->len, &number, err);
	if (rc < 0)
		return rc;
	if (is_key(r, "GNU.sparse.size") || is_key(r, "GNU.sparse.realsize")) {
		pax->real_size = number;
		pax->have |= PAX_REAL_SIZE;
	} else if (is_key(r, "GNU.sparse.major")) {
		pax->sparse_major = number;
	} else if (is_key(r, "GNU.sparse.minor")) {
		pax->sparse_minor = number;
	} else if (is_key(r, "GNU.sparse.offset")) {
		pax->pending_offset = number;
	} else if (is_key(r, "GNU.sparse.numbytes")) {
		if (pax->pending_offset < 0)
			return broken(err, "a sparse file's map is not in pairs");
		rc = tar_map_add(map, pax->pending_offset, number, err);
		pax->pending_offset = -1;
	}
	return rc < 0 ? rc : 1;
}

static int set_text(struct buf *out, const struct record *r, struct error *err)
{
	if (memchr(r->value, '\0', r->len) != NULL)
		return broken(err, "a name contains a NUL");
	buf_clear(out);
	buf_add(out, r->value, r->len);
	return 0;
}

static int set_number(int64_t *out, const struct record *r, struct error *err)
{
	return parse_int(r->value, r->len, out, err);
}

static int parse_record(struct pax *pax, const struct record *r, struct error *err)
{
	unsigned int which;
	int rc = 0;

	if (is_key(r, "path") && !(pax->have & PAX_SPARSE_NAME))
		which = PAX_PATH;
	else if (is_key(r, "linkpath"))
		which = PAX_LINK;
	else if (is_key(r, "size"))
		which = PAX_SIZE;
	else if (is_key(r, "uid"))
		which = PAX_UID;
	else if (is_key(r, "gid"))
		which = PAX_GID;
	else if (is_key(r, "mtime"))
		which = PAX_MTIME;
	else
		return 0;
	if (r->len == 0) {
		pax->have &= ~which;
		return 0;
	}
	pax->have |= which;
	if (which == PAX_PATH || which == PAX_LINK)
		rc = set_text(which == PAX_PATH ? &pax->path : &pax->link, r, err);
	else if (which == PAX_MTIME)
		rc = parse_time(r, pax, err);
	else
		rc = set_number(which == PAX_SIZE  ? &pax->size
				: which == PAX_UID ? &pax->uid
						   : &pax->gid,
				r, err);
	return rc;
}

void pax_clear(struct pax *pax)
{
	pax->have = 0;
	pax->sparse_major = pax->sparse_minor = 0;
	pax->pending_offset = -1;
}

int pax_parse(struct pax *pax, struct tar_xattrs *xattrs, struct tar_map *map, const char *text,
	      size_t len, struct error *err)
{
	static const char sparse[] = "GNU.sparse.";
	struct record r = {0};

	/* Some writers fill the block's rest with NULs and count them. */
	while (len > 0 && text[0] != '\0') {
		int rc = next_record(&text, &len, &r, err);

		if (rc >= 0)
			rc = parse_xattr(xattrs, &r, err);
		if (rc == 0 && r.key_len >= sizeof(sparse) - 1 &&
		    memcmp(r.key, sparse, sizeof(sparse) - 1) == 0)
			rc = parse_sparse(pax, map, &r, err);
		if (rc == 0)
			rc = parse_record(pax, &r, err);
		if (rc < 0)
			return rc;
	}
	if (pax->sparse_major == 1 && pax->sparse_minor == 0)
		pax->have |= PAX_SPARSE_1_0;
	else if (pax->sparse_major != 0)
		return refuse(err, -EBADMSG, "a sparse file's format %lld.%lld is not known",
			      (long long)pax->sparse_major, (long long)pax->sparse_minor);
	return 0;
}
