/*
 * erofs_out: see erofs_priv.h.
 *
 * One write of a megabyte at a time, in order. Every few megabytes the kernel is asked to start writing
 * to the disk, so that the one fsync at the end finds little left to do.
 */
#include "image/erofs_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { START_WRITING = 8 << 20 };

void out_init(struct erofs_out *o, int fd)
{
	memset(o, 0, sizeof(*o));
	o->fd = fd;
	o->buffer = mem_new(OUT_BUFFER);
	o->at = EROFS_BLOCK;
	o->verity = verity_create();
}

void out_release(struct erofs_out *o)
{
	free(o->buffer);
	verity_destroy(o->verity);
}

static int flush(struct erofs_out *o, struct error *err)
{
	int rc;

	if (o->used == 0)
		return 0;
	if (o->at + o->used > (uint64_t)LAYER_SIZE_MAX)
		return refuse(err, -EFBIG, "the layer is larger than %lld bytes",
			      (long long)LAYER_SIZE_MAX);
	rc = fd_write_full_at(o->fd, o->buffer, o->used, (off_t)o->at);
	if (rc < 0)
		return fail(err, rc, "write the layer file");
	verity_add(o->verity, o->buffer, o->used / EROFS_BLOCK);
	o->at += o->used;
	o->used = 0;
	if (o->at - o->started >= START_WRITING) {
		/* Only a hint: its failure shows again in fsync, if it matters. */
		(void)sync_file_range(o->fd, (off_t)o->started, (off_t)(o->at - o->started),
				      SYNC_FILE_RANGE_WRITE);
		o->started = o->at;
	}
	return 0;
}

int out_add(struct erofs_out *o, const void *data, size_t len, struct error *err)
{
	const unsigned char *p = data;

	while (len > 0) {
		size_t n = OUT_BUFFER - o->used;
		int rc;

		if (n > len)
			n = len;
		memcpy(o->buffer + o->used, p, n);
		o->used += n;
		p += n;
		len -= n;
		if (o->used < OUT_BUFFER)
			break;
		rc = flush(o, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int out_align(struct erofs_out *o, struct error *err)
{
	static const unsigned char zeros[EROFS_BLOCK];

	return out_add(o, zeros, -out_place(o) & (EROFS_BLOCK - 1), err);
}

int out_zeros(struct erofs_out *o, uint64_t blocks, struct error *err)
{
	int rc = flush(o, err);

	if (rc < 0)
		return rc;
	if (blocks > ((uint64_t)LAYER_SIZE_MAX - o->at) / EROFS_BLOCK)
		return refuse(err, -EFBIG, "the layer is larger than %lld bytes",
			      (long long)LAYER_SIZE_MAX);
	verity_add_zeros(o->verity, blocks);
	o->at += blocks * EROFS_BLOCK;
	return 0;
}

int out_read(struct erofs_out *o, uint64_t place, void *out, size_t len, struct error *err)
{
	ssize_t n;

	if (place >= o->at) {
		memcpy(out, o->buffer + (place - o->at), len);
		return 0;
	}
	if (place + len > o->at) {
		size_t before = (size_t)(o->at - place);

		memcpy((unsigned char *)out + before, o->buffer, len - before);
		len = before;
	}
	n = fd_read_full_at(o->fd, out, len, (off_t)place);
	if (n >= 0 && (size_t)n < len)
		n = -EIO;
	return n < 0 ? fail(err, (int)n, "read the layer file") : 0;
}

int out_end(struct erofs_out *o, const void *first_block, uint64_t *ret_size, struct digest *ret,
	    struct error *err)
{
	int rc = out_align(o, err);

	if (rc >= 0)
		rc = flush(o, err);
	if (rc < 0)
		return rc;
	rc = fd_write_full_at(o->fd, first_block, EROFS_BLOCK, 0);
	/* Zeros at the very end would otherwise leave the file too short. */
	if (rc >= 0 && ftruncate(o->fd, (off_t)o->at) < 0)
		rc = -errno;
	if (rc < 0)
		return fail(err, rc, "write the layer file");
	verity_end(o->verity, first_block, ret);
	*ret_size = o->at;
	return 0;
}
