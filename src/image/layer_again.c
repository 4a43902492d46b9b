/*
 * layer_again: follows the recipe in a layer file (layer_recipe.h).
 *
 * The file may be damaged: every number is compared with what there is, and the tar that comes out with
 * the digest that it must have. Where a file's contents stand is asked of its inode alone; no mount is
 * needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/file.h"
#include "base/mem.h"
#include "image/layer_recipe.h"

enum { ROOM = 64 << 10, OUT_ROOM = 256 << 10 };

static int damaged(struct error *err, const char *what)
{
	return refuse(err, -EBADMSG, "the layer file is damaged: %s", what);
}

static int read_at(int fd, uint64_t place, void *out, size_t len, struct error *err)
{
	ssize_t n = place > INT64_MAX ? 0 : fd_read_full_at(fd, out, len, (off_t)place);

	if (n < 0)
		return fail(err, (int)n, "read the layer file");
	return (size_t)n < len ? damaged(err, "it is too short") : 0;
}

/* --- the packed streams ----------------------------------------------------------------------------- */

struct unpacked {
	int fd;
	uint64_t at, end; /* in the layer file: what is still packed */
	ZSTD_DStream *zstd;
	ZSTD_inBuffer in;
	unsigned char packed[ROOM], bytes[ROOM];
	size_t len, used; /* of bytes */
};

static void unpacked_close(struct unpacked *u)
{
	if (u != NULL)
		ZSTD_freeDStream(u->zstd);
	free(u);
}
OWN_DEFINE(own_unpacked, struct unpacked *, unpacked_close);
#define own_unpacked __attribute__((cleanup(own_unpacked_release)))

static struct unpacked *unpacked_open(int fd, uint64_t at, uint64_t len)
{
	struct unpacked *u = mem_new(sizeof(*u));

	u->fd = fd;
	u->at = at;
	u->end = at + len;
	u->zstd = ZSTD_createDStream();
	if (u->zstd == NULL)
		abort();
	return u;
}

/* More bytes: 1, or 0 at the end. */
static int refill(struct unpacked *u, struct error *err)
{
	u->used = u->len = 0;
	while (u->len == 0) {
		ZSTD_outBuffer out = {.dst = u->bytes, .size = ROOM};
		size_t left;

		if (u->in.pos == u->in.size) {
			size_t n = u->end - u->at < ROOM ? (size_t)(u->end - u->at) : ROOM;
			int rc = read_at(u->fd, u->at, u->packed, n, err);

			if (rc < 0)
				return rc;
			u->at += n;
			u->in = (ZSTD_inBuffer){.src = u->packed, .size = n};
		}
		left = ZSTD_decompressStream(u->zstd, &out, &u->in);
		if (ZSTD_isError(left))
			return damaged(err, "its recipe cannot be unpacked");
		u->len = out.pos;
		if (u->len == 0 && u->at == u->end && u->in.pos == u->in.size)
			return 0;
	}
	return 1;
}

/* 1 with a number, 0 at the end. */
static int take_number(struct unpacked *u, uint64_t *ret, struct error *err)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < RECIPE_NUMBER_MAX; i++) {
		unsigned char byte;

		if (u->used == u->len) {
			int rc = refill(u, err);

			if (rc < 0 || (rc == 0 && i == 0))
				return rc;
			if (rc == 0)
				break;
		}
		byte = u->bytes[u->used++];
		n |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte < 0x80) {
			*ret = n;
			return 1;
		}
	}
	return damaged(err, "a number in its recipe has no end");
}

/* --- files ------------------------------------------------------------------------------------------ */

/* Where the contents of a file stand. */
struct file {
	uint64_t size;
	uint16_t layout;
	uint32_t data;
	uint64_t behind; /* the place behind inode and attributes */
};

static int find_file(int fd, uint64_t nid, struct file *ret, struct error *err)
{
	const uint64_t place = nid * EROFS_SLOT;
	struct erofs_extended e;
	size_t head = sizeof(e);
	int rc = nid > UINT64_MAX / EROFS_SLOT ? damaged(err, "a file is nowhere")
					       : read_at(fd, place, &e, sizeof(e), err);

	if (rc < 0)
		return rc;
	ret->size = e.size;
	ret->data = e.data;
	if (!(e.format & EROFS_EXTENDED)) {
		struct erofs_compact c;

		memcpy(&c, &e, sizeof(c));
		head = sizeof(c);
		ret->size = c.size;
		ret->data = c.data;
	}
	ret->layout = e.format & (uint16_t)~EROFS_EXTENDED;
	if (!S_ISREG(e.mode) || ret->size > (uint64_t)LAYER_FILE_SIZE_MAX)
		return damaged(err, "an inode is no file's");
	ret->behind = place + head;
	if (e.xattr_count > 0)
		ret->behind +=
			sizeof(struct erofs_xattr_header) + 4 * (uint64_t)(e.xattr_count - 1);
	return 0;
}

/* Where byte `at` of the file stands, and how many follow it there. */
static int find_bytes(int fd, const struct file *f, uint64_t at, uint64_t *ret_place,
		      uint64_t *ret_len, struct error *err)
{
	uint64_t blocks = f->size;
	uint32_t block, bits;
	int rc;

	switch (f->layout) {
	case EROFS_INLINE:
		blocks -= f->size % EROFS_BLOCK;
		if (at >= blocks) {
			*ret_place = f->behind + (at - blocks);
			*ret_len = f->size - at;
			return 0;
		}
		__attribute__((fallthrough));
	case EROFS_PLAIN:
		*ret_place = (uint64_t)f->data * EROFS_BLOCK + at;
		*ret_len = blocks - at;
		return 0;
	case EROFS_CHUNKED:
		break;
	default:
		return damaged(err, "a file is laid out in an unknown way");
	}
	if (f->data > EROFS_CHUNK_BITS_MAX)
		return damaged(err, "a file's chunks are too large");
	bits = f->data + EROFS_BLOCK_BITS;
	rc = read_at(fd, f->behind + (at >> bits) * sizeof(block), &block, sizeof(block), err);
	if (rc == 0 && block == EROFS_HOLE)
		rc = damaged(err, "a file has a hole instead of data");
	if (rc < 0)
		return rc;
	at &= (UINT64_C(1) << bits) - 1;
	*ret_place = (uint64_t)block * EROFS_BLOCK + at;
	*ret_len = (UINT64_C(1) << bits) - at;
	return 0;
}

/* --- the tar ---------------------------------------------------------------------------------------- */

struct again {
	int fd;
	struct recipe_head head;
	uint64_t recipe_at;
	struct unpacked *steps, *files; /* borrowed */
	struct file file;
	bool in_file;
	uint64_t at; /* in it */

	layer_tar_fn *fn;
	void *data;
	struct digest_state digest;
	uint64_t made;
	unsigned char *out;
	size_t used;
};

static int flush(struct again *a, struct error *err)
{
	size_t len = a->used;

	a->used = 0;
	a->made += len;
	digest_add(&a->digest, a->out, len);
	if (a->made > a->head.tar_bytes)
		return damaged(err, "its recipe makes too much");
	return len > 0 ? a->fn(a->out, len, a->data, err) : 0;
}

/* Room in the buffer for at least a byte, at most `len`. */
static int make_room(struct again *a, uint64_t len, size_t *ret, struct error *err)
{
	int rc = a->used == OUT_ROOM ? flush(a, err) : 0;

	*ret = OUT_ROOM - a->used < len ? OUT_ROOM - a->used : (size_t)len;
	return rc;
}

static int put_bytes(struct again *a, uint64_t len, struct error *err)
{
	while (len > 0) {
		struct unpacked *u = a->steps;
		size_t n;
		int rc = make_room(a, len, &n, err);

		if (rc == 0 && u->used == u->len) {
			rc = refill(u, err);
			if (rc == 0)
				return damaged(err, "its recipe is cut off");
		}
		if (rc < 0)
			return rc;
		if (n > u->len - u->used)
			n = u->len - u->used;
		memcpy(a->out + a->used, u->bytes + u->used, n);
		a->used += n;
		u->used += n;
		len -= n;
	}
	return 0;
}

static int put_data(struct again *a, uint64_t len, struct error *err)
{
	if (!a->in_file || a->at > a->file.size || len > a->file.size - a->at)
		return damaged(err, "its recipe wants more of a file than there is");
	while (len > 0) {
		uint64_t place, there;
		size_t n = 0;
		int rc = find_bytes(a->fd, &a->file, a->at, &place, &there, err);

		if (rc == 0)
			rc = make_room(a, there < len ? there : len, &n, err);
		if (rc == 0)
			rc = read_at(a->fd, place, a->out + a->used, n, err);
		if (rc < 0)
			return rc;
		a->used += n;
		a->at += n;
		len -= n;
	}
	return 0;
}

static int next_file(struct again *a, struct error *err)
{
	uint64_t nid;
	int rc = take_number(a->files, &nid, err);

	if (rc == 0)
		return damaged(err, "its recipe has too few files");
	a->in_file = true;
	a->at = 0;
	return rc < 0 ? rc : find_file(a->fd, nid, &a->file, err);
}

static int follow(struct again *a, struct error *err)
{
	uint64_t step;
	int rc;

	while ((rc = take_number(a->steps, &step, err)) > 0) {
		switch ((enum recipe_step)(step & 3)) {
		case RECIPE_BYTES:
			rc = put_bytes(a, step >> 2, err);
			break;
		case RECIPE_FILE:
			rc = next_file(a, err);
			break;
		case RECIPE_SEEK:
			a->at = step >> 2;
			break;
		case RECIPE_DATA:
			rc = put_data(a, step >> 2, err);
			break;
		}
		if (rc < 0)
			return rc;
	}
	return rc < 0 ? rc : flush(a, err);
}

/* Reads the recipe's head. -ENOENT, without text: there is none. */
static int read_head(int fd, struct recipe_head *ret, uint64_t *ret_at, struct error *err)
{
	struct erofs_super s;
	struct stat st;
	uint64_t end, room;
	int rc = read_at(fd, EROFS_SUPER_AT, &s, sizeof(s), err);

	if (rc < 0)
		return rc;
	if (fstat(fd, &st) < 0)
		return fail(err, -errno, "look at the layer file");
	end = (uint64_t)s.blocks * EROFS_BLOCK;
	if (s.magic != EROFS_MAGIC || (uint64_t)st.st_size < end)
		return damaged(err, "its superblock");
	if ((uint64_t)st.st_size == end)
		return -ENOENT;
	rc = read_at(fd, end, ret, sizeof(*ret), err);
	if (rc < 0)
		return rc;
	room = (uint64_t)st.st_size - end - sizeof(*ret);
	if (ret->magic != RECIPE_MAGIC || ret->version != RECIPE_VERSION ||
	    ret->steps_bytes > room || ret->files_bytes > room - ret->steps_bytes)
		return damaged(err, "the head of its recipe");
	*ret_at = end + sizeof(*ret);
	return 0;
}

int layer_again_open(int layers_fd, const struct digest *diffid, uint64_t *ret_tar_bytes,
		     struct error *err)
{
	char name[LAYER_FILE_NAME_MAX];
	own_fd int fd = -1;
	struct recipe_head head;
	uint64_t at;
	int rc;

	layer_file_name(name, &layer_erofs, diffid);
	fd = openat(layers_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : fail(err, -errno, "open %s", name);
	rc = read_head(fd, &head, &at, err);
	if (rc < 0)
		return rc;
	*ret_tar_bytes = head.tar_bytes;
	return take(fd);
}

int layer_again(int fd, const struct digest *diffid, layer_tar_fn *fn, void *data,
		struct error *err)
{
	struct again a = {.fd = fd, .fn = fn, .data = data};
	own_unpacked struct unpacked *steps = NULL, *files = NULL;
	own_mem unsigned char *out = mem_new(OUT_ROOM);
	struct digest is;
	int rc = read_head(fd, &a.head, &a.recipe_at, err);

	if (rc == -ENOENT)
		return damaged(err, "it has no recipe");
	if (rc < 0)
		return rc;
	steps = unpacked_open(fd, a.recipe_at, a.head.steps_bytes);
	files = unpacked_open(fd, a.recipe_at + a.head.steps_bytes, a.head.files_bytes);
	a.steps = steps;
	a.files = files;
	a.out = out;
	digest_begin(&a.digest, diffid);
	rc = follow(&a, err);
	if (rc < 0)
		return rc;
	digest_end(&a.digest, &is);
	return digest_eq(&is, diffid)
		       ? 0
		       : refuse(err, -EBADMSG, "the tar made from the layer %s has the digest %s",
				diffid->text, is.text);
}
