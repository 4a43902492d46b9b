/*
 * archive: see archive.h.
 *
 * Only what image archives are made of is understood: files, links and directories with names of
 * ustar, pax (path, size, linkpath) or GNU (types L and K). Members are found by walking from header to
 * header with pread; their content is not touched. Names have "./" cut off.
 */
#include "image/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "base/str.h"
#include "tar/tar.h"

enum { BLOCK = 512, READ_SIZE = 256 << 10, PAX_MAX = 1 << 20 };

struct member {
	char *name;
	char *link; /* of links: the name it leads to, as it is written */
	bool symbolic;
	uint64_t offset, size;
};

struct archive {
	int fd; /* the tar; ours if `own` */
	bool own;
	int dir_fd; /* the directory instead; -1 */
	struct member *members;
	size_t count, capacity;
};

/* What extended headers have said of the next member. */
struct pending {
	char *name, *link;
	uint64_t size;
	bool has_size;
};

static void pending_clear(struct pending *p)
{
	free(p->name);
	free(p->link);
	memset(p, 0, sizeof(*p));
}
#define own_pending __attribute__((cleanup(pending_clear)))

void archive_close(struct archive *a)
{
	if (a == NULL)
		return;
	for (size_t i = 0; i < a->count; i++) {
		free(a->members[i].name);
		free(a->members[i].link);
	}
	free(a->members);
	if (a->own)
		fd_close(&a->fd);
	fd_close(&a->dir_fd);
	free(a);
}

static int parse_number(const unsigned char *field, size_t width, uint64_t *ret)
{
	uint64_t value = 0;
	size_t i = 0;

	if (field[0] == 0x80) {
		for (i = 1; i < width; i++) {
			if (value >> 56)
				return -EBADMSG;
			value = value << 8 | field[i];
		}
		*ret = value;
		return 0;
	}
	while (i < width && field[i] == ' ')
		i++;
	for (; i < width && field[i] >= '0' && field[i] <= '7'; i++)
		value = value << 3 | (unsigned int)(field[i] - '0');
	if (i < width && field[i] != ' ' && field[i] != '\0')
		return -EBADMSG;
	*ret = value;
	return 0;
}

static bool checksum_right(const unsigned char *h)
{
	uint64_t said;
	unsigned int sum = 0;

	for (size_t i = 0; i < BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : h[i];
	return parse_number(h + 148, 8, &said) == 0 && said == sum;
}

static bool all_zero(const unsigned char *h)
{
	for (size_t i = 0; i < BLOCK; i++)
		if (h[i] != 0)
			return false;
	return true;
}

/* Without leading "./" and "/", without a trailing slash. */
static char *clean_name(const char *s, size_t len)
{
	char *name;

	while (len > 0 && (*s == '/' || (len > 1 && s[0] == '.' && s[1] == '/'))) {
		len -= *s == '/' ? 1 : 2;
		s += *s == '/' ? 1 : 2;
	}
	name = str_copy_n(s, len);
	len = strlen(name);
	if (len > 0 && name[len - 1] == '/')
		name[len - 1] = '\0';
	return name;
}

static char *header_name(const unsigned char *h)
{
	const char *name = (const char *)h, *prefix = (const char *)h + 345;
	own_mem char *whole = NULL;

	if (memcmp(h + 257, "ustar\0", 6) != 0 || *prefix == '\0')
		return clean_name(name, strnlen(name, 100));
	whole = str_format("%.*s/%.*s", (int)strnlen(prefix, 155), prefix, (int)strnlen(name, 100),
			   name);
	return clean_name(whole, strlen(whole));
}

static int bad(struct error *err, const char *why)
{
	return refuse(err, -EBADMSG, "the archive is damaged: %s", why);
}

/* One "length key=value\n" record of a pax header. Returns its length or -EBADMSG. */
static int64_t parse_pax_record(const char *s, size_t len, struct pending *p)
{
	char *end;
	unsigned long long record = strtoull(s, &end, 10);
	const char *key = end + 1, *equals, *value;
	size_t value_len;

	if (*end != ' ' || record > len || record < (size_t)(key - s) + 2 || s[record - 1] != '\n')
		return -EBADMSG;
	equals = memchr(key, '=', record - (size_t)(key - s));
	if (equals == NULL)
		return -EBADMSG;
	value = equals + 1;
	value_len = record - (size_t)(value - s) - 1;
	if (value_len < ARCHIVE_NAME_MAX && str_after(key, "path=") != NULL) {
		free(p->name);
		p->name = clean_name(value, value_len);
	} else if (value_len < ARCHIVE_NAME_MAX && str_after(key, "linkpath=") != NULL) {
		free(p->link);
		p->link = str_copy_n(value, value_len);
	} else if (str_after(key, "size=") != NULL) {
		own_mem char *digits = str_copy_n(value, value_len);

		if (str_to_uint(digits, INT64_MAX, &p->size) < 0)
			return -EBADMSG;
		p->has_size = true;
	}
	return (int64_t)record;
}

/* The content of an extended header. */
static int read_extended(struct archive *a, char type, uint64_t offset, uint64_t size,
			 struct pending *p, struct error *err)
{
	own_mem char *text = NULL;
	ssize_t n;

	if (size > (type == 'x' ? PAX_MAX : ARCHIVE_NAME_MAX))
		return bad(err, "an extended header is too large");
	text = mem_new(size + 1);
	n = fd_read_full_at(a->fd, text, size, (off_t)offset);
	if (n < 0 || (uint64_t)n < size)
		return n < 0 ? fail(err, (int)n, "read the archive") : bad(err, "it is cut off");
	if (type == 'L') {
		free(p->name);
		p->name = clean_name(text, strnlen(text, size));
	} else if (type == 'K') {
		free(p->link);
		p->link = str_copy_n(text, strnlen(text, size));
	}
	for (size_t at = 0; type == 'x' && at < size;) {
		int64_t record = parse_pax_record(text + at, size - at, p);

		if (record < 0)
			return bad(err, "an extended header is malformed");
		at += (size_t)record;
	}
	return 0;
}

static int add_member(struct archive *a, const unsigned char *h, uint64_t offset, uint64_t size,
		      struct pending *p, struct error *err)
{
	const char *link = (const char *)h + 157;
	char type = (char)h[156];
	own_mem char *name = NULL;
	struct member *m;

	if (type != '0' && type != '\0' && type != '7' && type != '1' && type != '2')
		return 0;
	name = p->name ? take(p->name) : header_name(h);
	/* The archive's own directory is neither a file nor a link. */
	if (name[0] == '\0')
		return 0;
	if (a->count == ARCHIVE_MEMBERS_MAX)
		return refuse(err, -EFBIG, "the archive has more than %d files",
			      ARCHIVE_MEMBERS_MAX);
	a->members = mem_grow(a->members, a->count, &a->capacity, sizeof(*a->members));
	m = &a->members[a->count++];
	*m = (struct member){.offset = offset, .size = size, .symbolic = type == '2'};
	m->name = take(name);
	if (type == '1' || type == '2')
		m->link = p->link ? take(p->link) : str_copy_n(link, strnlen(link, 100));
	return 0;
}

static int not_a_tar(const unsigned char *begin, size_t len, struct error *err)
{
	int rc = tar_refuse(begin, len, err);

	return rc == -ENOTSUP ? hint(err, rc, "unpack it first: bzip2 -dc FILE | berth load") : rc;
}

/* Walks over all headers. */
static int index_members(struct archive *a, uint64_t offset, struct error *err)
{
	own_pending struct pending pending = {0};
	struct stat st;

	if (fstat(a->fd, &st) < 0)
		return fail(err, -errno, "read the archive");
	for (;;) {
		unsigned char h[BLOCK];
		ssize_t n = fd_read_full_at(a->fd, h, sizeof(h), (off_t)offset);
		uint64_t size;
		bool extended;
		int rc = 0;

		if (n < 0)
			return fail(err, (int)n, "read the archive");
		if (n == 0 || (n == BLOCK && all_zero(h)))
			return a->count > 0 ? 0 : bad(err, "it is empty");
		if ((n < BLOCK || !checksum_right(h)) && a->count == 0)
			return not_a_tar(h, (size_t)n, err);
		if (n < BLOCK || !checksum_right(h) || parse_number(h + 124, 12, &size) < 0)
			return bad(err, "a header is malformed");
		offset += BLOCK;
		extended = h[156] == 'x' || h[156] == 'L' || h[156] == 'K' || h[156] == 'g';
		if (!extended && pending.has_size)
			size = pending.size;
		if (h[156] == '1' || h[156] == '2')
			size = 0;
		if (size > (uint64_t)st.st_size || offset > (uint64_t)st.st_size - size)
			return bad(err, "it is cut off");
		if (extended && h[156] != 'g')
			rc = read_extended(a, (char)h[156], offset, size, &pending, err);
		else if (!extended)
			rc = add_member(a, h, offset, size, &pending, err);
		if (rc < 0)
			return rc;
		if (!extended)
			pending_clear(&pending);
		offset += (size + BLOCK - 1) & ~(uint64_t)(BLOCK - 1);
	}
}

static int write_spool(const void *data, size_t len, void *context, struct error *err)
{
	int rc = fd_write_full(*(int *)context, data, len);

	return rc < 0 ? fail(err, rc, "write a temporary file") : 0;
}

/* Copies the stream, unpacked, into a temporary file of the session. Returns its descriptor. */
static int spool(struct image_session *session, int fd, struct error *err)
{
	own_decompressor struct decompressor *d = NULL;
	own_mem char *chunk = mem_new(READ_SIZE);
	own_fd int file = -1;
	char name[17];

	file = image_session_file(session, name, err);
	if (file < 0)
		return file;
	unlinkat(session->dir_fd, name, 0);
	decompressor_create(write_spool, &file, &d);
	decompressor_set_archive(d);
	for (;;) {
		int rc = interrupt_await(fd, err);
		ssize_t n = rc < 0 ? 0 : read(fd, chunk, READ_SIZE);

		if (rc < 0)
			return rc;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(err, -errno, "read the archive");
		rc = n > 0 ? decompressor_add(d, chunk, (size_t)n, err)
			   : decompressor_finish(d, err);
		if (rc < 0)
			return rc;
		if (n == 0)
			return take(file);
	}
}

int archive_open(struct image_session *session, int fd, struct archive **ret, struct error *err)
{
	own_archive struct archive *a = mem_new(sizeof(*a));
	off_t at = lseek(fd, 0, SEEK_CUR);
	unsigned char magic[4];
	ssize_t n = at < 0 ? 0 : fd_read_full_at(fd, magic, sizeof(magic), at);
	int rc;

	a->fd = fd;
	a->dir_fd = -1;
	if (n < 0)
		return fail(err, (int)n, "read the archive");
	if (at < 0 || compression_sniff_archive(magic, (size_t)n) != COMPRESSION_NONE) {
		a->fd = spool(session, fd, err);
		a->own = true;
		at = 0;
		if (a->fd < 0)
			return a->fd;
	}
	rc = index_members(a, (uint64_t)at, err);
	if (rc < 0)
		return rc;
	*ret = take(a);
	return 0;
}

int archive_open_dir(const char *path, struct archive **ret, struct error *err)
{
	own_archive struct archive *a = mem_new(sizeof(*a));

	a->fd = -1;
	a->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (a->dir_fd < 0)
		return fail(err, -errno, "open the directory %s", path);
	*ret = take(a);
	return 0;
}

/* The last member of that name, as unpacking would leave it. */
static const struct member *find_member(const struct archive *a, const char *name)
{
	for (size_t i = a->count; i-- > 0;)
		if (strcmp(a->members[i].name, name) == 0)
			return &a->members[i];
	return NULL;
}

/* The name that a link leads to; NULL if it leads out. */
static char *resolve(const struct member *m)
{
	own_strv char **parts = NULL, **target = strv_split(m->link, '/');
	size_t depth;

	if (m->symbolic && m->link[0] != '/') {
		parts = strv_split(m->name, '/');
		depth = strv_len(parts);
		free(parts[depth - 1]);
		parts[depth - 1] = NULL;
	}
	for (size_t i = 0; target != NULL && target[i] != NULL; i++) {
		if (target[i][0] == '\0' || str_eq(target[i], "."))
			continue;
		if (!str_eq(target[i], "..")) {
			strv_push(&parts, target[i]);
			continue;
		}
		depth = strv_len(parts);
		if (depth == 0)
			return NULL;
		free(parts[depth - 1]);
		parts[depth - 1] = NULL;
	}
	return strv_join(parts, "/");
}

static int find_in_dir(struct archive *a, const char *name, struct archive_piece *ret,
		       struct error *err)
{
	int fd = beneath_open(a->dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fail(err, fd, "open %s", name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		fd_close(&fd);
		return refuse(err, -EINVAL, "%s is not a regular file", name);
	}
	*ret = (struct archive_piece){.fd = fd, .size = (uint64_t)st.st_size};
	return 1;
}

int archive_find(struct archive *a, const char *name, struct archive_piece *ret, struct error *err)
{
	own_mem char *current = clean_name(name, strlen(name));

	if (a->dir_fd >= 0)
		return find_in_dir(a, current, ret, err);
	for (int links = 0; links <= ARCHIVE_LINKS_MAX; links++) {
		const struct member *m = find_member(a, current);
		char *next;

		if (m == NULL)
			return 0;
		if (m->link == NULL) {
			int fd = fcntl(a->fd, F_DUPFD_CLOEXEC, 3);

			if (fd < 0)
				return fail(err, -errno, "read the archive");
			*ret = (struct archive_piece){
				.fd = fd, .offset = m->offset, .size = m->size};
			return 1;
		}
		next = resolve(m);
		if (next == NULL)
			return refuse(err, -EBADMSG, "the link %s leads out of the archive", name);
		free(current);
		current = next;
	}
	return refuse(err, -ELOOP, "the links of %s in the archive go in circles", name);
}

static int find_required(struct archive *a, const char *name, struct archive_piece *ret,
			 struct error *err)
{
	int rc = archive_find(a, name, ret, err);

	return rc == 0 ? refuse(err, -ENOENT, "%.200s is missing in the archive", name) : rc;
}

int archive_read(struct archive *a, const char *name, size_t max, char **ret_text, size_t *ret_len,
		 struct error *err)
{
	struct archive_piece piece = {.fd = -1};
	own_mem char *text = NULL;
	ssize_t n;
	int rc = find_required(a, name, &piece, err);

	if (rc < 0)
		return rc;
	if (piece.size > max) {
		fd_close(&piece.fd);
		return refuse(err, -EFBIG, "%.200s is larger than %zu bytes", name, max);
	}
	text = mem_new(piece.size + 1);
	n = fd_read_full_at(piece.fd, text, piece.size, (off_t)piece.offset);
	fd_close(&piece.fd);
	if (n < 0 || (uint64_t)n < piece.size)
		return fail(err, n < 0 ? (int)n : -EBADMSG, "read %.200s", name);
	*ret_len = piece.size;
	*ret_text = take(text);
	return 0;
}

int archive_stream(struct archive *a, const char *name, image_bytes_fn *out, void *context,
		   struct error *err)
{
	struct archive_piece piece = {.fd = -1};
	own_mem char *chunk = mem_new(READ_SIZE);
	int rc = find_required(a, name, &piece, err);
	uint64_t done = 0;

	while (rc >= 0 && done < piece.size) {
		size_t want = piece.size - done < READ_SIZE ? piece.size - done : READ_SIZE;
		ssize_t n = fd_read_full_at(piece.fd, chunk, want, (off_t)(piece.offset + done));

		if (n < 0 || (size_t)n < want)
			rc = fail(err, n < 0 ? (int)n : -EBADMSG, "read %.200s", name);
		else
			rc = out(chunk, want, context, err);
		done += want;
	}
	fd_close(&piece.fd);
	return rc < 0 ? rc : 0;
}
