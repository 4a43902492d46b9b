/* unxz: see unxz.h. */
#include "image/unxz.h"

#include <errno.h>
#include <lzma.h>
#include <stdlib.h>

#include "base/dylib.h"
#include "base/mem.h"

struct lzma_api {
	__typeof__(lzma_stream_decoder) *decoder;
	__typeof__(lzma_code) *code;
	__typeof__(lzma_end) *end;
};

struct unxz {
	struct lzma_api api;
	lzma_stream stream;
};

static int load(struct lzma_api *ret, struct error *err)
{
	static const struct dylib_symbol symbols[] = {
		DYLIB_SYMBOL(struct lzma_api, decoder, "lzma_stream_decoder"),
		DYLIB_SYMBOL(struct lzma_api, code, "lzma_code"),
		DYLIB_SYMBOL(struct lzma_api, end, "lzma_end"),
	};

	return dylib_load("liblzma.so.5", "liblzma5", symbols, array_size(symbols), ret, err);
}

int unxz_create(struct unxz **ret, struct error *err)
{
	struct lzma_api api;
	struct unxz *x;
	int rc = load(&api, err);

	if (rc < 0)
		return rc;
	x = mem_new(sizeof(*x));
	x->api = api;
	x->stream = (lzma_stream)LZMA_STREAM_INIT;
	if (api.decoder(&x->stream, UNXZ_MEMORY_MAX, LZMA_CONCATENATED) != LZMA_OK) {
		free(x);
		return refuse(err, -ENOMEM, "cannot begin to unpack xz");
	}
	*ret = x;
	return 0;
}

void unxz_destroy(struct unxz *x)
{
	if (x == NULL)
		return;
	x->api.end(&x->stream);
	free(x);
}

static int refuse_code(lzma_ret code, struct error *err)
{
	if (code == LZMA_MEMLIMIT_ERROR)
		return refuse(err, -EFBIG, "unpacking the xz stream takes more than %lld MiB",
			      (long long)(UNXZ_MEMORY_MAX >> 20));
	if (code == LZMA_MEM_ERROR)
		return refuse(err, -ENOMEM, "there is no memory to unpack the xz stream");
	if (code == LZMA_BUF_ERROR)
		return refuse(err, -EBADMSG, "the xz stream ends too early");
	return refuse(err, -EBADMSG, "the xz stream is damaged");
}

int unxz_step(struct unxz *x, struct gunzip_step *step, struct error *err)
{
	lzma_stream *s = &x->stream;
	lzma_ret code;

	s->next_in = step->in;
	s->avail_in = step->in_len;
	s->next_out = step->out;
	s->avail_out = step->out_len;
	code = x->api.code(s, LZMA_RUN);
	step->in = s->next_in;
	step->in_len = s->avail_in;
	step->out = s->next_out;
	step->out_len = s->avail_out;
	/* It can go no further for now: that the stream was cut off is found at its end. */
	return code == LZMA_OK || code == LZMA_BUF_ERROR ? 0 : refuse_code(code, err);
}

int unxz_finish(struct unxz *x, struct error *err)
{
	lzma_stream *s = &x->stream;
	unsigned char more;
	lzma_ret code;

	s->next_in = NULL;
	s->avail_in = 0;
	s->next_out = &more;
	s->avail_out = 1;
	code = x->api.code(s, LZMA_FINISH);
	if (code == LZMA_STREAM_END && s->avail_out == 1)
		return 0;
	/* It is content with getting nothing, once. */
	return refuse_code(code == LZMA_OK ? LZMA_BUF_ERROR : code, err);
}
