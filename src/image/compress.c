/* compress: see compress.h. */
#include "image/compress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/mem.h"

enum { OUT_SIZE = 256 << 10, GZIP_WINDOW = 15 + 16, MEMORY_LEVEL = 9 };

struct compressor {
	image_bytes_fn *out;
	void *context;
	z_stream gzip;
	unsigned char buffer[OUT_SIZE];
};

int compressor_create(image_bytes_fn *out, void *context, struct compressor **ret,
		      struct error *err)
{
	struct compressor *c = mem_new(sizeof(*c));

	c->out = out;
	c->context = context;
	if (deflateInit2(&c->gzip, COMPRESS_LEVEL, Z_DEFLATED, GZIP_WINDOW, MEMORY_LEVEL,
			 Z_DEFAULT_STRATEGY) != Z_OK) {
		free(c);
		return refuse(err, -ENOMEM, "cannot begin to compress");
	}
	*ret = c;
	return 0;
}

static int run(struct compressor *c, const void *data, size_t len, int flush, struct error *err)
{
	z_stream *z = &c->gzip;

	/* zlib's pointer is not to const, although it only reads. */
	memcpy(&z->next_in, &data, sizeof(data));
	z->avail_in = (unsigned int)len;
	do {
		int code, rc;

		z->next_out = c->buffer;
		z->avail_out = OUT_SIZE;
		code = deflate(z, flush);
		if (code == Z_STREAM_ERROR)
			return refuse(err, -EIO, "compressing failed");
		if (z->avail_out == OUT_SIZE)
			continue;
		rc = c->out(c->buffer, OUT_SIZE - z->avail_out, c->context, err);
		if (rc < 0)
			return rc;
	} while (z->avail_out == 0);
	return 0;
}

int compressor_add(struct compressor *c, const void *data, size_t len, struct error *err)
{
	const char *p = data;
	int rc = 0;

	while (rc == 0 && len > 0) {
		size_t piece = len < (1U << 30) ? len : 1U << 30;

		rc = run(c, p, piece, Z_NO_FLUSH, err);
		p += piece;
		len -= piece;
	}
	return rc;
}

int compressor_finish(struct compressor *c, struct error *err)
{
	return run(c, "", 0, Z_FINISH, err);
}

void compressor_destroy(struct compressor *c)
{
	if (c == NULL)
		return;
	deflateEnd(&c->gzip);
	free(c);
}
