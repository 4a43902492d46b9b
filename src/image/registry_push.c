/* registry_push: the requests that write (OCI distribution specification 1.1, "Push"). */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "image/registry_priv.h"

int registry_has_blob(struct registry *r, const struct digest *digest, struct error *err)
{
	own_mem char *path = str_format("%s/blobs/%s", r->repository, digest->text);
	own_http_response struct http_response response = {0};
	struct http_request q = {.method = "HEAD"};
	int rc = registry_send(r, &q, NULL, path, &response, err);

	if (rc < 0 || response.status == 404)
		return rc;
	return response.status == 200 ? 1 : registry_status(r, &response, r->repository, err);
}

int registry_mount(struct registry *r, const struct digest *digest, const char *from,
		   struct error *err)
{
	own_mem char *escaped = http_escape(from);
	own_mem char *path = str_format("%s/blobs/uploads/?mount=%s&from=%s", r->repository,
					digest->text, escaped);
	own_http_response struct http_response response = {0};
	struct http_request q = {.method = "POST", .no_redirects = true};
	int rc = registry_send(r, &q, NULL, path, &response, err);

	/* 202: it has opened an upload instead, which it will forget. */
	return rc < 0 ? rc : response.status == 201;
}

struct upload {
	int fd;
	uint64_t offset;
	uint64_t *sent;
};

static int64_t read_upload(void *data, size_t len, void *context)
{
	struct upload *u = context;
	ssize_t n = fd_read_full_at(u->fd, data, len, (off_t)u->offset);

	if (n > 0)
		u->offset += (uint64_t)n;
	if (n > 0 && u->sent != NULL)
		*u->sent = u->offset;
	return n;
}

static int upload_once(struct registry *r, const struct digest *digest, struct upload *u,
		       uint64_t size, struct error *err)
{
	own_mem char *path = str_format("%s/blobs/uploads/", r->repository), *url = NULL;
	own_mem char *place = NULL;
	own_http_response struct http_response opened = {0}, done = {0};
	char type[] = "Content-Type: application/octet-stream";
	char *headers[] = {type, NULL};
	struct http_request q = {.method = "POST", .no_redirects = true};
	int rc = registry_send(r, &q, NULL, path, &opened, err);

	if (rc == 0 && (opened.status != 202 || opened.location == NULL))
		rc = registry_status(r, &opened, r->repository, err);
	if (rc == 0)
		rc = registry_absolute(r, opened.location, &place, err);
	if (rc < 0)
		return rc;
	url = str_format("%s%sdigest=%s", place, strchr(place, '?') ? "&" : "?", digest->text);
	q = (struct http_request){
		.method = "PUT",
		.headers = headers,
		.read = read_upload,
		.read_context = u,
		.body_size = size,
	};
	rc = registry_send(r, &q, url, NULL, &done, err);
	if (rc == 0 && done.status != 201)
		rc = registry_status(r, &done, digest->text, err);
	return rc;
}

static int upload_whole(struct registry *r, const struct digest *digest, int fd, uint64_t size,
			uint64_t *sent, struct error *err)
{
	unsigned int tries = 0;

	for (;;) {
		struct upload u = {.fd = fd, .sent = sent};
		struct error why = {0};
		int rc = upload_once(r, digest, &u, size, &why);

		if (rc == 0)
			return 0;
		if ((!registry_may_retry(rc) && rc != -EREMOTEIO && rc != -EAGAIN) ||
		    ++tries >= r->tries) {
			if (err != NULL)
				*err = why;
			return rc;
		}
		registry_wait(tries - 1, r->retry_after_s);
	}
}

int registry_upload(struct registry *r, const struct digest *digest, int fd, uint64_t size,
		    uint64_t *sent, struct error *err)
{
	return size <= REGISTRY_WHOLE_MAX ? upload_whole(r, digest, fd, size, sent, err)
					  : registry_upload_file(r, digest, fd, size, sent, err);
}

int registry_upload_bytes(struct registry *r, const void *data, size_t len, struct error *err)
{
	const struct digest digest = digest_of(data, len);
	own_fd int fd = -1;
	int rc = registry_has_blob(r, &digest, err);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	fd = memfd_create("blob", MFD_CLOEXEC);
	if (fd < 0)
		return fail(err, -errno, "memfd_create");
	rc = fd_write_full(fd, data, len);
	return rc < 0 ? fail(err, rc, "write a memfd")
		      : registry_upload(r, &digest, fd, len, NULL, err);
}

void registry_also(struct registry *r, const char *repository)
{
	strv_push(&r->also, repository);
}

int registry_put_manifest(struct registry *r, const char *which, const char *type, const void *text,
			  size_t len, struct error *err)
{
	own_http_response struct http_response response = {0};
	int rc = registry_put_plain(r, which, type, text, len, &response, err);
	struct digest digest;

	/* A registry that has understood the subject says so. */
	if (rc < 0 || response.subject != NULL)
		return rc;
	/* Named by its digest it is listed by that one. */
	if (digest_parse(which, &digest, NULL) < 0)
		digest = digest_of(text, len);
	return registry_note_subject(r, &digest, type, text, len, err);
}

int registry_tag_manifest(struct registry *r, const char *tag, const char *type, const char *text,
			  size_t len, const struct digest *is, struct digest *ret,
			  struct error *err)
{
	struct digest there = digest_of(text, len);
	struct error why = {0};
	int rc = 0;

	if (is != NULL && !digest_eq(is, &there)) {
		rc = registry_put_manifest(r, is->text, type, text, len, &why);
		if (rc == 0)
			there = *is;
		else if (rc == -EPROTO)
			log_warn("%s does not name manifests by %s; the digest there is %s",
				 r->host, digest_algorithm_name(is), there.text);
		else if (err != NULL)
			*err = why;
	}
	if (rc == 0 || rc == -EPROTO)
		rc = registry_put_manifest(r, tag, type, text, len, err);
	if (rc == 0)
		*ret = there;
	return rc;
}

int registry_put_referrer(struct registry *r, const struct digest *subject, const char *type,
			  const void *text, size_t len, json_t *descriptor, struct error *err)
{
	const char *which = json_string_value(json_object_get(descriptor, "digest"));
	own_http_response struct http_response response = {0};
	int rc = registry_put_plain(r, which, type, text, len, &response, err);

	/* A registry that has understood the subject says so. */
	if (rc < 0 || response.subject != NULL)
		return rc;
	return registry_note_referrer(r, subject, descriptor, err);
}

static bool was_deleted(const struct http_response *response)
{
	return response->status == 202 || response->status == 200 || response->status == 204;
}

int registry_delete_blob(struct registry *r, const struct digest *digest, struct error *err)
{
	own_mem char *path = str_format("%s/blobs/%s", r->repository, digest->text);
	own_http_response struct http_response response = {0};
	struct http_request q = {.method = "DELETE"};
	int rc = registry_send(r, &q, NULL, path, &response, err);

	if (rc < 0 || was_deleted(&response))
		return rc;
	if (response.status == 405)
		return refuse(err, -ENOTSUP, "%s does not delete blobs", r->host);
	return registry_status(r, &response, path, err);
}

int registry_delete(struct registry *r, const char *which, struct error *err)
{
	own_mem char *path = str_format("%s/manifests/%s", r->repository, which);
	own_mem char *text = NULL, *type = NULL;
	own_http_response struct http_response response = {0};
	struct http_request q = {.method = "DELETE"};
	const bool is_tag = strchr(which, ':') == NULL;
	struct digest digest;
	size_t len;
	int rc = registry_manifest(r, which, &text, &len, &type, &digest, err);

	if (rc == 0)
		rc = registry_send(r, &q, NULL, path, &response, err);
	if (rc < 0)
		return rc;
	if (response.status == 405 || (response.status == 400 && is_tag))
		return hint(err,
			    refuse(err, -ENOTSUP, "%s does not delete %s", r->host,
				   is_tag ? "tags" : "manifests"),
			    is_tag ? "with all of its tags it goes by: berth image delete %s/%s@%s"
				   : "its owner has to allow it: %s/%s@%s",
			    r->host, r->repository, digest.text);
	if (!was_deleted(&response))
		return registry_status(r, &response, path, err);
	return is_tag ? 0 : registry_forget_subject(r, &digest, text, len, err);
}
