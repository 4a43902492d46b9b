/* layer_recipe: writing it down; see layer_recipe.h. Following it is in layer_again.c. */
#include "image/layer_recipe.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"

enum { ROOM = 64 << 10, LEVEL = 3 };

/* A stream that is packed on its way into memory. It is fed in pieces of ROOM bytes: what the packer
 * makes of it must not depend on how it came. */
struct packed {
	ZSTD_CCtx *zstd;
	size_t used;
	unsigned char room[ROOM];
	struct buf bytes;
};

struct recipe {
	struct packed steps;
	uint64_t tar_bytes;

	/* What has come and is not read yet. */
	const unsigned char *come;
	size_t come_len;

	/* The step that is being gathered: bytes, or contents. */
	unsigned char bytes[ROOM];
	size_t bytes_len;
	uint64_t data_len;

	bool in_file;
	uint64_t at; /* in the file */
	uint32_t *objects;
	size_t object_count, object_capacity;
};

static void pack_piece(struct packed *p, ZSTD_EndDirective end)
{
	ZSTD_inBuffer in = {.src = p->room, .size = p->used};
	size_t left;

	do {
		ZSTD_outBuffer out;

		buf_reserve(&p->bytes, ZSTD_CStreamOutSize());
		out = (ZSTD_outBuffer){.dst = p->bytes.data + p->bytes.len,
				       .size = ZSTD_CStreamOutSize()};
		left = ZSTD_compressStream2(p->zstd, &out, &in, end);
		p->bytes.len += out.pos;
	} while (!ZSTD_isError(left) && (end == ZSTD_e_end ? left > 0 : in.pos < in.size));
	p->used = 0;
}

static void pack(struct packed *p, const void *data, size_t len)
{
	const unsigned char *from = data;

	while (len > 0) {
		size_t n = ROOM - p->used < len ? ROOM - p->used : len;

		memcpy(p->room + p->used, from, n);
		p->used += n;
		from += n;
		len -= n;
		if (p->used == ROOM)
			pack_piece(p, ZSTD_e_continue);
	}
}

static void pack_number(struct packed *p, uint64_t n)
{
	unsigned char bytes[RECIPE_NUMBER_MAX];
	size_t len = 0;

	for (; n >= 0x80; n >>= 7)
		bytes[len++] = (unsigned char)(n | 0x80);
	bytes[len++] = (unsigned char)n;
	pack(p, bytes, len);
}

static void packed_begin(struct packed *p)
{
	p->zstd = ZSTD_createCCtx();
	if (p->zstd == NULL)
		abort();
	ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, LEVEL);
}

static void packed_release(struct packed *p)
{
	ZSTD_freeCCtx(p->zstd);
	buf_release(&p->bytes);
}

struct recipe *recipe_create(void)
{
	struct recipe *r = mem_new(sizeof(*r));

	packed_begin(&r->steps);
	return r;
}

void recipe_destroy(struct recipe *r)
{
	if (r == NULL)
		return;
	packed_release(&r->steps);
	free(r->objects);
	free(r);
}

static void add_step(struct recipe *r, enum recipe_step step, uint64_t n)
{
	pack_number(&r->steps, n << 2 | step);
}

/* Writes down the step that was being gathered. */
static void end_step(struct recipe *r)
{
	if (r->bytes_len > 0) {
		add_step(r, RECIPE_BYTES, r->bytes_len);
		pack(&r->steps, r->bytes, r->bytes_len);
		r->bytes_len = 0;
	}
	if (r->data_len > 0) {
		add_step(r, RECIPE_DATA, r->data_len);
		r->data_len = 0;
	}
}

static void add_bytes(struct recipe *r, const unsigned char *data, size_t len)
{
	if (r->data_len > 0 && len > 0)
		end_step(r);
	while (len > 0) {
		size_t n = ROOM - r->bytes_len < len ? ROOM - r->bytes_len : len;

		memcpy(r->bytes + r->bytes_len, data, n);
		r->bytes_len += n;
		data += n;
		len -= n;
		if (r->bytes_len == ROOM)
			end_step(r);
	}
}

void recipe_come(struct recipe *r, const void *data, size_t len)
{
	r->come = data;
	r->come_len = len;
	r->tar_bytes += len;
}

void recipe_contents(struct recipe *r, uint64_t offset, const void *data, size_t len)
{
	const unsigned char *p = data;
	size_t before = (size_t)(p - r->come);

	add_bytes(r, r->come, before);
	r->come += before + len;
	r->come_len -= before + len;
	if (len == 0)
		return;
	if (!r->in_file) {
		end_step(r);
		add_step(r, RECIPE_FILE, 0);
		r->in_file = true;
		r->at = 0;
	}
	if (offset != r->at || r->bytes_len > 0)
		end_step(r);
	if (offset != r->at)
		add_step(r, RECIPE_SEEK, offset);
	r->data_len += len;
	r->at = offset + len;
}

void recipe_file_end(struct recipe *r, uint32_t object)
{
	if (!r->in_file)
		return;
	r->in_file = false;
	r->objects =
		mem_grow(r->objects, r->object_count, &r->object_capacity, sizeof(*r->objects));
	r->objects[r->object_count++] = object;
}

void recipe_pass(struct recipe *r)
{
	add_bytes(r, r->come, r->come_len);
	r->come_len = 0;
}

int recipe_put(struct recipe *r, const struct layer_tree *tree, const struct erofs_meta *meta,
	       struct erofs_out *out, struct error *err)
{
	struct packed *files = mem_new(sizeof(*files));
	struct recipe_head head = {
		.magic = RECIPE_MAGIC, .version = RECIPE_VERSION, .tar_bytes = r->tar_bytes};
	int rc;

	end_step(r);
	pack_piece(&r->steps, ZSTD_e_end);
	packed_begin(files);
	for (size_t i = 0; i < r->object_count; i++)
		pack_number(files, meta_nid(meta, tree->objects[r->objects[i]].place));
	pack_piece(files, ZSTD_e_end);
	head.steps_bytes = r->steps.bytes.len;
	head.files_bytes = files->bytes.len;
	rc = out_add(out, &head, sizeof(head), err);
	if (rc >= 0)
		rc = out_add(out, r->steps.bytes.data, r->steps.bytes.len, err);
	if (rc >= 0)
		rc = out_add(out, files->bytes.data, files->bytes.len, err);
	packed_release(files);
	free(files);
	return rc;
}
