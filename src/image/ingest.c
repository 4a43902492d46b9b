/*
 * ingest: see ingest.h.
 *
 * The blob is written with plain write(2), in large pieces whatever comes; its pages are asked to go to
 * the disk early (sync_file_range), so that the fsync at the end waits for little.
 */
#include "image/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "image/blob.h"
#include "image/compress.h"
#include "image/stage.h"
#include "image/store_priv.h"

enum { BUFFER = 256 << 10, WRITEBACK_STEP = 8 << 20 };
_Static_assert((int)DECOMPRESS_ROOM == (int)STAGE_ROOM,
	       "what is unpacked fills the stage's buffers");

struct ingest {
	struct image_session *session;
	enum ingest_mode mode;
	struct ingest_expect expect;
	bool keeps_blob; /* writes it into a file */
	struct decompressor *decompressor;
	struct compressor *compressor; /* INGEST_TAR */
	struct digest_state blob_state;
	int blob_fd;
	char blob_name[17];
	unsigned char *buffer; /* bytes of the blob that have only been collected yet */
	size_t buffered;
	uint64_t blob_size, blob_flushed;

	/* The thread's until the stage is drained. */
	struct stage *stage;
	struct layer_writer *layer;
	struct digest_state diffid_state;
};

/* What comes is the blob itself. */
static bool brings_blob(const struct ingest *ingest)
{
	return ingest->mode == INGEST_BLOB || ingest->mode == INGEST_KEPT;
}

/* A piece of the blob, large if it can be. */
static int write_blob(struct ingest *ingest, const void *data, size_t len, struct error *err)
{
	int rc;

	digest_add(&ingest->blob_state, data, len);
	ingest->blob_size += len;
	if (!ingest->keeps_blob)
		return 0;
	rc = fd_write_full(ingest->blob_fd, data, len);
	if (rc < 0)
		return fail(err, rc, "write the blob");
	if (ingest->blob_size - ingest->blob_flushed >= WRITEBACK_STEP) {
		/* Only a hint: the fsync at the end is what counts. */
		sync_file_range(ingest->blob_fd, (off_t)ingest->blob_flushed, 0,
				SYNC_FILE_RANGE_WRITE);
		ingest->blob_flushed = ingest->blob_size;
	}
	return 0;
}

/* What the compressor has made. */
static int take_blob(const void *data, size_t len, void *context, struct error *err)
{
	return write_blob(context, data, len, err);
}

/* In the thread. */
static int take_tar(const void *data, size_t len, void *context, struct error *err)
{
	struct ingest *ingest = context;

	digest_add(&ingest->diffid_state, data, len);
	return layer_writer_add(ingest->layer, data, len, err);
}

static void *tar_room(void *context)
{
	struct ingest *ingest = context;

	return stage_room(ingest->stage);
}

/* Hands on what has been unpacked: it stands in the thread's buffer already, unless it was never
 * compressed. */
static int pass_tar(const void *data, size_t len, void *context, struct error *err)
{
	struct ingest *ingest = context;
	const unsigned char *p = data;
	int rc = 0;

	if (ingest->compressor != NULL)
		rc = compressor_add(ingest->compressor, data, len, err);
	while (rc == 0 && len > 0) {
		unsigned char *room = stage_room(ingest->stage);
		size_t n = len < STAGE_ROOM ? len : STAGE_ROOM;

		if (p != room)
			memcpy(room, p, n);
		rc = stage_send(ingest->stage, n, err);
		p += n;
		len -= n;
	}
	return rc;
}

/* The layer, and the file of the blob if there is to be one. */
static int begin_layer(struct ingest *ingest, int layers_fd, const struct layer_format *format,
		       struct error *err)
{
	bool drops = ingest->session->store->drops_blobs || ingest->mode == INGEST_AGAIN;
	int rc = layer_writer_begin(layers_fd, format, &ingest->layer, err);

	if (rc < 0 || ingest->mode == INGEST_KEPT)
		return rc;
	if (drops && layer_writer_keep_tar(ingest->layer))
		return 0;
	/* It will be in the way of nobody, but its tar could not be had again. */
	if (ingest->mode == INGEST_AGAIN)
		return refuse(err, -ENOTSUP, "layers of this host's format do not hold their tar");
	ingest->keeps_blob = true;
	ingest->blob_fd = image_session_file(ingest->session, ingest->blob_name, err);
	return ingest->blob_fd < 0 ? ingest->blob_fd : 0;
}

int ingest_begin(struct image_session *session, const struct layer_format *format,
		 enum ingest_mode mode, const struct ingest_expect *expect, struct ingest **ret,
		 struct error *err)
{
	own_ingest struct ingest *ingest = mem_new(sizeof(*ingest));
	int rc, layers_fd = image_store_layers_fd(session->store, err);

	ingest->blob_fd = -1;
	if (layers_fd < 0)
		return layers_fd;
	ingest->session = session;
	ingest->mode = mode;
	ingest->expect = *expect;
	digest_begin(&ingest->blob_state, &expect->blob);
	digest_begin(&ingest->diffid_state, &expect->diffid);
	ingest->buffer = mem_new(BUFFER);
	decompressor_create(pass_tar, ingest, &ingest->decompressor);
	decompressor_set_room(ingest->decompressor, tar_room);
	if (mode == INGEST_TAR) {
		decompressor_set_archive(ingest->decompressor);
		rc = compressor_create(take_blob, ingest, &ingest->compressor, err);
		if (rc < 0)
			return rc;
	}
	rc = begin_layer(ingest, layers_fd, format, err);
	if (rc == 0)
		rc = stage_create(take_tar, ingest, &ingest->stage, err);
	if (rc < 0)
		return rc;
	*ret = take(ingest);
	return 0;
}

/* Everything that is done with what has been collected. */
static int work_off(struct ingest *ingest, struct error *err)
{
	size_t len = ingest->buffered;
	struct error why = {0};
	int rc = 0, rc_before;

	ingest->buffered = 0;
	if (brings_blob(ingest))
		rc = write_blob(ingest, ingest->buffer, len, err);
	if (rc == 0)
		rc = decompressor_add(ingest->decompressor, ingest->buffer, len, err);
	if (rc == 0)
		return 0;
	/* What the thread finds wrong stands before what was found wrong here. */
	rc_before = stage_drain(ingest->stage, &why);
	if (rc_before == 0)
		return rc;
	if (err != NULL)
		*err = why;
	return rc_before;
}

int ingest_add(struct ingest *ingest, const void *data, size_t len, struct error *err)
{
	const unsigned char *p = data;

	/* Before it is written: a server that does not stop must not fill the disk. */
	if (brings_blob(ingest) &&
	    len > ingest->expect.blob_size - ingest->blob_size - ingest->buffered)
		return refuse(err, -EBADMSG, "more bytes came than the %llu that were promised",
			      (unsigned long long)ingest->expect.blob_size);
	while (len > 0) {
		size_t room = BUFFER - ingest->buffered, n = len < room ? len : room;
		int rc = 0;

		memcpy(ingest->buffer + ingest->buffered, p, n);
		ingest->buffered += n;
		p += n;
		len -= n;
		if (n == room)
			rc = work_off(ingest, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int differs(struct error *err, const char *what, const struct digest *is,
		   const struct digest *promised)
{
	if (promised->text[0] == '\0' || digest_eq(is, promised))
		return 0;
	return refuse(err, -EBADMSG, "the %s is %s, but %s was promised", what, is->text,
		      promised->text);
}

/* Compares the blob that came with what was promised. */
static int check_blob(struct ingest *ingest, struct digest *ret, struct error *err)
{
	if (ingest->expect.blob_size != UINT64_MAX && ingest->blob_size != ingest->expect.blob_size)
		return refuse(err, -EBADMSG, "%llu bytes came of the %llu that were promised",
			      (unsigned long long)ingest->blob_size,
			      (unsigned long long)ingest->expect.blob_size);
	digest_end(&ingest->blob_state, ret);
	return differs(err, "digest of what came", ret, &ingest->expect.blob);
}

int ingest_finish(struct ingest *ingest, struct ingest_result *ret, struct error *err)
{
	struct ingest_result result = {0};
	struct error why = {0};
	int worked = work_off(ingest, &why);
	int rc = 0;

	/* The blob first: if its digest is wrong, that is the reason, not what unpacking found. */
	if (brings_blob(ingest))
		rc = check_blob(ingest, &result.blob, err);
	if (rc == 0 && worked < 0) {
		if (err != NULL)
			*err = why;
		rc = worked;
	}
	if (rc < 0)
		return rc;
	rc = decompressor_finish(ingest->decompressor, err);
	if (rc == 0 && ingest->compressor != NULL) {
		rc = compressor_finish(ingest->compressor, err);
		digest_end(&ingest->blob_state, &result.blob);
	}
	if (rc == 0)
		rc = stage_drain(ingest->stage, err);
	if (rc < 0)
		return rc;
	digest_end(&ingest->diffid_state, &result.diffid);
	rc = differs(err, "digest of the unpacked layer", &result.diffid, &ingest->expect.diffid);
	if (rc < 0)
		return rc;
	rc = layer_writer_finish(ingest->layer, &result.diffid, &result.layer, err);
	if (rc == 0 && ingest->keeps_blob)
		rc = image_session_keep(ingest->session, ingest->blob_fd, ingest->blob_name,
					&result.blob, err);
	if (rc < 0)
		return rc;
	result.blob_size = ingest->blob_size;
	result.blob_here = ingest->keeps_blob || ingest->mode == INGEST_KEPT;
	result.compression = ingest->mode == INGEST_TAR ? COMPRESSION_GZIP
							: decompressor_kind(ingest->decompressor);
	if (ingest->mode == INGEST_AGAIN) {
		result.blob = ingest->expect.blob;
		result.blob_size = ingest->expect.blob_size;
		result.compression = ingest->expect.compression;
	}
	*ret = result;
	return 0;
}

void ingest_close(struct ingest *ingest)
{
	if (ingest == NULL)
		return;
	stage_destroy(ingest->stage);
	decompressor_destroy(ingest->decompressor);
	compressor_destroy(ingest->compressor);
	layer_writer_close(ingest->layer);
	/* An unnamed blob file is the session's to remove. */
	fd_close(&ingest->blob_fd);
	free(ingest->buffer);
	free(ingest);
}

static int add_piece(const void *data, size_t len, void *context, struct error *err)
{
	return ingest_add(context, data, len, err);
}

int ingest_kept_blob(struct image_session *session, const struct layer_format *format,
		     const struct ingest_expect *expect, struct ingest_result *ret,
		     struct error *err)
{
	own_ingest struct ingest *ingest = NULL;
	int rc = ingest_begin(session, format, INGEST_KEPT, expect, &ingest, err);

	if (rc == 0)
		rc = image_blob_stream(session->store, &expect->blob, add_piece, ingest, err);
	return rc < 0 ? rc : ingest_finish(ingest, ret, err);
}

int ingest_again(struct image_session *session, const struct layer_format *format, int layer_fd,
		 const struct ingest_expect *expect, struct ingest_result *ret, struct error *err)
{
	own_ingest struct ingest *ingest = NULL;
	int rc = ingest_begin(session, format, INGEST_AGAIN, expect, &ingest, err);

	if (rc == 0)
		rc = layer_again(layer_fd, &expect->diffid, add_piece, ingest, err);
	return rc < 0 ? rc : ingest_finish(ingest, ret, err);
}
