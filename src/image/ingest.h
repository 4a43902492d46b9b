/*
 * ingest: one layer on its way into the store, in one pass over its bytes:
 *
 *     INGEST_BLOB   bytes -> blob file, sha256 -> unpack -> sha256 (diffid) -> layer writer
 *     INGEST_TAR    bytes -> unpack -> sha256 (diffid) -> layer writer
 *                                   `-> gzip -> blob file, sha256
 *     INGEST_KEPT   as INGEST_BLOB, but without writing the blob
 *     INGEST_AGAIN  tar -> sha256 (diffid) -> layer writer
 *
 * Where the store keeps no compressed copies, no blob is written either; the layer file holds its tar
 * instead (layer_again). What follows "unpack ->" is done by a thread beside the rest (stage.h); making gzip is not.
 *
 * Nothing gets its name before every digest that was promised has been compared.
 */
#pragma once

#include "image/decompress.h"
#include "image/layer.h"
#include "image/session.h"

enum ingest_mode {
	INGEST_BLOB,  /* what comes is the blob, to be kept byte for byte */
	INGEST_TAR,   /* what comes is a tar, perhaps compressed; the blob is made from it */
	INGEST_KEPT,  /* what comes is a blob that the store has already; only the layer is made */
	INGEST_AGAIN, /* the tar of a layer that holds it; the blob is as promised, but not here */
};

/* What is promised about the layer; a digest with an empty text and UINT64_MAX: nothing. */
struct ingest_expect {
	struct digest blob, diffid;
	uint64_t blob_size;
	enum compression compression; /* INGEST_AGAIN: the blob's, which nobody looks at */
};
#define INGEST_EXPECT_NOTHING ((struct ingest_expect){.blob_size = UINT64_MAX})

/* Plain data: it is sent through a pipe. */
struct ingest_result {
	struct digest blob, diffid;
	uint64_t blob_size;
	enum compression compression; /* of the blob */
	bool blob_here;               /* a blob file of this digest is in the store */
	struct layer_info layer;
};

struct ingest;
int ingest_begin(struct image_session *session, const struct layer_format *format,
		 enum ingest_mode mode, const struct ingest_expect *expect, struct ingest **ret,
		 struct error *err) must_check;
/* -EBADMSG: damaged, or longer than promised; -EFBIG; -ENOSPC and others from the disk. */
int ingest_add(struct ingest *ingest, const void *data, size_t len, struct error *err) must_check;
/* Compares, makes blob and layer durable, names them. -EBADMSG: a digest or the size differs. */
int ingest_finish(struct ingest *ingest, struct ingest_result *ret, struct error *err) must_check;
/* The layer of a blob that is in the store, all at once. */
int ingest_kept_blob(struct image_session *session, const struct layer_format *format,
		     const struct ingest_expect *expect, struct ingest_result *ret,
		     struct error *err) must_check;
/* The layer from a layer file that holds its tar, open as layer_again_open() says. */
int ingest_again(struct image_session *session, const struct layer_format *format, int layer_fd,
		 const struct ingest_expect *expect, struct ingest_result *ret,
		 struct error *err) must_check;
void ingest_close(struct ingest *ingest);
OWN_DEFINE(own_ingest, struct ingest *, ingest_close);
#define own_ingest __attribute__((cleanup(own_ingest_release)))
