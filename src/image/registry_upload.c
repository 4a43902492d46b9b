/*
 * registry_upload: blobs in pieces (OCI distribution specification 1.1, "Pushing a blob in chunks").
 *
 *     POST  /v2/NAME/blobs/uploads/     -> 202, Location, perhaps OCI-Chunk-Min-Length
 *     PATCH Location, Content-Range     -> 202, another Location, Range: 0-LAST
 *     PUT   Location?digest=...         -> 201
 *
 * When a piece breaks off, GET Location tells in Range how much has arrived, and it goes on from there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/registry_priv.h"

struct registry_upload {
	struct registry *registry;
	char *place;      /* where the next request goes */
	uint64_t at;      /* what has arrived for certain */
	size_t part_size; /* of a stream's pieces */
	struct buf part;  /* of the stream, not sent yet */
	bool finished;
};

/* A piece on its way: from memory, or from a file. */
struct piece {
	const char *data; /* NULL: from `fd` */
	int fd;
	uint64_t begin, end, next; /* offsets in the blob */
	uint64_t *sent;
};

static int64_t read_piece(void *data, size_t len, void *context)
{
	struct piece *p = context;
	ssize_t n;

	if (len > p->end - p->next)
		len = (size_t)(p->end - p->next);
	if (p->data != NULL) {
		memcpy(data, p->data + (p->next - p->begin), len);
		n = (ssize_t)len;
	} else {
		n = fd_read_full_at(p->fd, data, len, (off_t)p->next);
	}
	if (n > 0)
		p->next += (uint64_t)n;
	if (n > 0 && p->sent != NULL)
		*p->sent = p->next;
	return n;
}

static int keep_place(struct registry_upload *u, const struct http_response *response,
		      struct error *err)
{
	char *place = NULL;
	int rc = 0;

	if (response->location == NULL)
		return 0;
	rc = registry_absolute(u->registry, response->location, &place, err);
	if (rc < 0)
		return rc;
	free(u->place);
	u->place = place;
	return 0;
}

/* "0-99" (or "bytes=0-99"): 100 bytes are there. "0-0" is none: nobody sends pieces of one byte. */
static int parse_range(const char *range, uint64_t *ret)
{
	const char *dash = range ? strchr(range, '-') : NULL;
	uint64_t last;

	if (dash == NULL || str_to_uint(dash + 1, INT64_MAX, &last) < 0)
		return -EPROTO;
	*ret = last == 0 ? 0 : last + 1;
	return 0;
}

int registry_upload_begin(struct registry *r, struct registry_upload **ret, struct error *err)
{
	own_registry_upload struct registry_upload *u = mem_new(sizeof(*u));
	own_mem char *path = str_format("%s/blobs/uploads/", r->repository);
	own_http_response struct http_response response = {0};
	struct http_request q = {.method = "POST", .no_redirects = true};
	int rc = registry_send(r, &q, NULL, path, &response, err);

	u->registry = r;
	if (rc == 0 && (response.status != 202 || response.location == NULL))
		rc = registry_status(r, &response, r->repository, err);
	if (rc == 0)
		rc = keep_place(u, &response, err);
	if (rc < 0)
		return rc;
	u->part_size = REGISTRY_PART;
	if (response.chunk_min > u->part_size)
		u->part_size = (size_t)response.chunk_min;
	*ret = take(u);
	return 0;
}

/* Asks how much has arrived. */
static int ask_progress(struct registry_upload *u, uint64_t *ret, struct error *err)
{
	own_http_response struct http_response response = {0};
	struct http_request q = {.method = "GET", .no_redirects = true};
	int rc = registry_send(u->registry, &q, u->place, NULL, &response, err);

	if (rc == 0 && response.status != 204 && response.status != 202)
		rc = registry_status(u->registry, &response, "the upload", err);
	if (rc == 0)
		rc = keep_place(u, &response, err);
	if (rc == 0 && parse_range(response.range, ret) < 0)
		rc = refuse(err, -EPROTO, "%s does not say how much has arrived",
			    u->registry->host);
	return rc;
}

/* One request for what is left of the piece. */
static int send_once(struct registry_upload *u, struct piece *p, struct error *err)
{
	own_mem char *range = str_format("Content-Range: %llu-%llu", (unsigned long long)p->next,
					 (unsigned long long)(p->end - 1));
	char type[] = "Content-Type: application/octet-stream";
	char *headers[] = {type, range, NULL};
	own_http_response struct http_response response = {0};
	struct http_request q = {
		.method = "PATCH",
		.headers = headers,
		.read = read_piece,
		.read_context = p,
		.body_size = p->end - p->next,
		.no_redirects = true,
		.once = true,
	};
	int rc = registry_send(u->registry, &q, u->place, NULL, &response, err);

	if (rc == 0 && response.status != 202)
		rc = response.status == 416
			     ? refuse(err, -EAGAIN, "%s has another part of the upload",
				      u->registry->host)
			     : registry_status(u->registry, &response, "the upload", err);
	return rc < 0 ? rc : keep_place(u, &response, err);
}

static int send_piece(struct registry_upload *u, struct piece *p, struct error *err)
{
	unsigned int tries = 0;

	for (;;) {
		struct error why = {0};
		uint64_t arrived = u->at;
		int rc = send_once(u, p, &why);

		if (rc == 0) {
			u->at = p->end;
			return 0;
		}
		if ((!registry_may_retry(rc) && rc != -EREMOTEIO && rc != -EAGAIN) ||
		    ++tries >= u->registry->tries) {
			if (err != NULL)
				*err = why;
			return rc;
		}
		registry_wait(tries - 1, u->registry->retry_after_s);
		rc = ask_progress(u, &arrived, err);
		if (rc < 0)
			return rc;
		if (arrived < p->begin || arrived > p->end)
			return refuse(err, -ECONNRESET,
				      "%s has lost a part of the upload: %llu bytes are there",
				      u->registry->host, (unsigned long long)arrived);
		/* Something has got through: that is no failure in a row. */
		if (arrived > u->at)
			tries = 1;
		u->at = p->next = arrived;
		if (arrived == p->end)
			return 0;
	}
}

static int send_part(struct registry_upload *u, struct error *err)
{
	struct piece p = {
		.data = u->part.data,
		.fd = -1,
		.begin = u->at,
		.next = u->at,
		.end = u->at + u->part.len,
	};
	int rc = u->part.len > 0 ? send_piece(u, &p, err) : 0;

	buf_clear(&u->part);
	return rc;
}

int registry_upload_add(struct registry_upload *u, const void *data, size_t len, struct error *err)
{
	const char *p = data;

	while (len > 0) {
		size_t n = u->part_size - u->part.len;
		int rc;

		if (n > len)
			n = len;
		buf_add(&u->part, p, n);
		p += n;
		len -= n;
		rc = u->part.len == u->part_size ? send_part(u, err) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

int registry_upload_finish(struct registry_upload *u, const struct digest *digest,
			   struct error *err)
{
	own_http_response struct http_response response = {0};
	own_mem char *url = NULL;
	struct http_request q = {.method = "PUT", .no_redirects = true};
	int rc = send_part(u, err);

	if (rc < 0)
		return rc;
	url = str_format("%s%sdigest=%s", u->place, strchr(u->place, '?') ? "&" : "?",
			 digest->text);
	rc = registry_send(u->registry, &q, url, NULL, &response, err);
	if (rc == 0 && response.status != 201)
		rc = registry_status(u->registry, &response, digest->text, err);
	u->finished = rc == 0;
	return rc;
}

void registry_upload_close(struct registry_upload *u)
{
	struct http_request q = {.method = "DELETE", .no_redirects = true, .once = true};
	own_http_response struct http_response response = {0};

	if (u == NULL)
		return;
	/* A registry forgets unfinished uploads by itself, only later. */
	if (!u->finished && u->place != NULL &&
	    registry_send(u->registry, &q, u->place, NULL, &response, NULL) < 0)
		u->finished = false;
	buf_release(&u->part);
	free(u->place);
	free(u);
}

/* All pieces of a file in one upload. */
static int file_once(struct registry *r, const struct digest *digest, int fd, uint64_t size,
		     uint64_t *sent, struct error *err)
{
	own_registry_upload struct registry_upload *u = NULL;
	int rc = registry_upload_begin(r, &u, err);

	while (rc == 0 && u->at < size) {
		struct piece p = {.fd = fd, .begin = u->at, .next = u->at, .sent = sent};
		uint64_t len = u->part_size > REGISTRY_PIECE ? u->part_size : REGISTRY_PIECE;

		p.end = size - u->at > len ? u->at + len : size;
		rc = send_piece(u, &p, err);
	}
	return rc < 0 ? rc : registry_upload_finish(u, digest, err);
}

int registry_upload_file(struct registry *r, const struct digest *digest, int fd, uint64_t size,
			 uint64_t *sent, struct error *err)
{
	unsigned int tries = 0;

	for (;;) {
		struct error why = {0};
		int rc = file_once(r, digest, fd, size, sent, &why);

		/* What pieces can survive they have survived: this is a registry that forgot. */
		if (rc == 0 || (!registry_may_retry(rc) && rc != -ENOENT) || ++tries >= r->tries) {
			if (err != NULL && rc < 0)
				*err = why;
			return rc;
		}
		registry_wait(tries - 1, r->retry_after_s);
	}
}
