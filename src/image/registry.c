/* registry: see registry.h. Authorization is in registry_auth.c, what writes in registry_push.c. */
#include "image/registry.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/interrupt.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "image/registry_priv.h"

static const char *const manifest_headers[] = {
	"Accept: " MEDIA_OCI_MANIFEST,
	"Accept: " MEDIA_OCI_INDEX,
	"Accept: " MEDIA_DOCKER_MANIFEST,
	"Accept: " MEDIA_DOCKER_INDEX,
	NULL,
};

/* True for a host (perhaps with a port) that is this machine. */
static bool is_local(const char *host)
{
	own_mem char *name = host[0] == '[' ? str_copy_n(host, strcspn(host, "]") + 1)
					    : str_copy_n(host, strcspn(host, ":"));

	struct in_addr address;

	/* 127.example.org is no address. */
	return str_eq(name, "localhost") || str_eq(name, "[::1]") ||
	       (str_after(name, "127.") != NULL && inet_pton(AF_INET, name, &address) == 1);
}

void registry_close(struct registry *r)
{
	if (r == NULL)
		return;
	free(r->host);
	free(r->api_host);
	free(r->repository);
	free(r->authorization);
	strv_free(r->also);
	strv_free(r->warned);
	http_tls_release(&r->tls);
	http_destroy(r->http);
	credentials_release(&r->credentials);
	free(r);
}

int registry_open(const char *host, const char *repository, bool insecure,
		  enum registry_access access, const struct image_remote *remote,
		  struct registry **ret, struct error *err)
{
	own_registry struct registry *r = mem_new(sizeof(*r));
	int rc;

	r->host = str_copy(host);
	r->api_host = str_copy(str_eq(host, "docker.io") ? "registry-1.docker.io" : host);
	r->repository = str_copy(repository);
	r->access = access;
	r->remote = remote;
	r->scheme = "https";
	r->tries = remote->retries ? remote->retries : REGISTRY_TRIES;
	rc = registry_find_certs(remote->cert_dir, host, &r->tls, err);
	if (rc < 0)
		return rc;
	/* Who has put certificates there wants them to be used, on this machine too. */
	r->insecure = insecure || (is_local(host) && r->tls.ca_pem == NULL);
	if (remote->tls == IMAGE_TLS_VERIFY)
		r->insecure = false;
	if (remote->tls == IMAGE_TLS_INSECURE)
		r->insecure = true;
	r->tls.verify = !r->insecure;
	rc = http_create(&r->http, err);
	if (rc < 0)
		return rc;
	*ret = take(r);
	return 0;
}

int registry_reconnect(struct registry *r, struct error *err)
{
	/* The old client is not closed: that would say goodbye on the parent's connection. */
	r->http = NULL;
	return http_create(&r->http, err);
}

bool registry_may_retry(int rc)
{
	return rc == -ECONNRESET || rc == -ETIMEDOUT;
}

void registry_wait(unsigned int tries_made, int retry_after_s)
{
	int64_t ms = (int64_t)REGISTRY_BACKOFF_MS << (tries_made < 8 ? tries_made : 8);
	unsigned char dice;

	if (ms > REGISTRY_BACKOFF_MAX_MS)
		ms = REGISTRY_BACKOFF_MAX_MS;
	/* Up to a quarter more, so that several who were refused at once do not come at once. */
	random_bytes(&dice, 1);
	ms += ms * dice / 1024;
	if (retry_after_s > 0)
		ms = (int64_t)(retry_after_s < REGISTRY_WAIT_MAX_S ? retry_after_s
								   : REGISTRY_WAIT_MAX_S) *
		     1000;
	interrupt_sleep((unsigned int)ms);
}

/* Whether plain HTTP shall be tried after this failure of HTTPS. */
static bool fall_back_to_http(const struct registry *r, int rc)
{
	return r->insecure && str_eq(r->scheme, "https") &&
	       (rc == -EPROTONOSUPPORT || rc == -ECONNREFUSED || rc == -ECONNRESET);
}

static int send_once(struct registry *r, struct http_request *q, const char *url, const char *path,
		     struct http_response *response, struct error *err)
{
	own_mem char *whole =
		url ? str_copy(url) : str_format("%s://%s/v2/%s", r->scheme, r->api_host, path);
	own_mem char *home = str_format("%s://%s", r->scheme, r->api_host);
	int rc;

	q->url = whole;
	q->tls = &r->tls;
	/* An upload's address may be another host's. */
	q->authorization = http_same_origin(whole, home) ? r->authorization : NULL;
	rc = http_perform(r->http, q, response, err);
	if (rc == 0 && response->warning != NULL)
		registry_pass_warning(r, response->warning);
	return rc;
}

/* What can be done about a request that has not come through. */
static int advise(const struct registry *r, int rc, struct error *err)
{
	const char *why = err ? err->text : "";

	switch (rc) {
	case -EKEYREJECTED:
		if (strstr(why, "expired") != NULL || strstr(why, "not yet valid") != NULL)
			return hint(err, rc,
				    "the registry needs a new certificate, or this machine's clock "
				    "is wrong");
		if (strstr(why, "subject name") != NULL)
			return hint(err, rc,
				    "the certificate is for another name: use that one, or "
				    "--tls-verify=false");
		return hint(err, rc,
			    "put its authority's certificate into "
			    "/etc/containers/certs.d/%s/ca.crt, or use --tls-verify=false",
			    r->host);
	case -EPROTONOSUPPORT:
		if (strstr(why, "does not speak TLS") == NULL)
			return rc;
		return hint(
			err, rc,
			"if that is plain HTTP: --tls-verify=false, or insecure = true for it in "
			"registries.conf");
	case -EHOSTUNREACH:
		return hint(err, rc,
			    "check the name and this machine's network; proxies are named by "
			    "HTTPS_PROXY; \"berth bootstrap\" makes busybox and debian without a "
			    "registry");
	case -ECONNREFUSED:
		return hint(err, rc,
			    "check the address and the port, and that a registry runs there");
	default:
		return rc;
	}
}

int registry_send(struct registry *r, struct http_request *q, const char *url, const char *path,
		  struct http_response *response, struct error *err)
{
	bool authenticated = false;
	unsigned int tries = 0;

	for (;;) {
		struct error why = {0};
		int rc = send_once(r, q, url, path, response, &why);

		r->retry_after_s = response->retry_after_s;
		if (rc < 0 && url == NULL && fall_back_to_http(r, rc)) {
			r->scheme = "http";
			continue;
		}
		if (rc == 0 && response->status == 401 && !authenticated) {
			rc = registry_authenticate(r, response->challenge, err);
			if (rc < 0)
				return rc;
			/* Some of the body may be gone: who has it begins again. */
			if (q->read != NULL)
				return refuse(err, -EAGAIN, "%s asked for credentials again",
					      r->host);
			authenticated = true;
			continue;
		}
		/* What has taken bytes from the caller or given it some is the caller's to repeat. */
		if ((rc == 0 && response->status != 429 && response->status < 500) ||
		    (rc < 0 && !registry_may_retry(rc)) || ++tries >= r->tries ||
		    response->body_bytes > 0 || q->read != NULL || q->once) {
			if (rc < 0 && err != NULL)
				*err = why;
			return rc < 0 ? advise(r, rc, err) : 0;
		}
		registry_wait(tries - 1, response->retry_after_s);
	}
}

struct text_sink {
	struct buf text;
	size_t max;
};

static int add_text(const void *data, size_t len, void *context, struct error *err)
{
	struct text_sink *sink = context;

	if (len > sink->max - sink->text.len)
		return refuse(err, -EFBIG, "the answer is larger than %zu bytes", sink->max);
	buf_add(&sink->text, data, len);
	return 0;
}

/* The digest of a manifest, with the algorithm of the one that was asked for, else of the one that the
 * registry knows it by; compared with both. */
static int check_manifest(const char *which, const struct http_response *response,
			  const struct buf *text, struct digest *ret, struct error *err)
{
	struct digest asked, said, is;
	bool has_asked = digest_parse(which, &asked, NULL) == 0;
	bool has_said =
		response->digest != NULL && digest_parse(response->digest, &said, NULL) == 0;

	if (has_said) {
		is = digest_of_like(&said, text->data, text->len);
		if (!digest_eq(&said, &is) && !has_asked)
			return refuse(err, -EBADMSG,
				      "the manifest has the digest %s, but the registry says %s",
				      is.text, said.text);
	}
	*ret = digest_of_like(has_asked ? &asked : has_said ? &said : NULL, text->data, text->len);
	if (has_asked && !digest_eq(&asked, ret))
		return refuse(err, -EBADMSG, "the manifest that came has the digest %s, not %s",
			      ret->text, which);
	return 0;
}

int registry_manifest(struct registry *r, const char *which, char **ret_text, size_t *ret_len,
		      char **ret_type, struct digest *ret_digest, struct error *err)
{
	own_mem char *path = str_format("%s/manifests/%s", r->repository, which);
	own_mem char *what = str_format("manifest %s of %s", which, r->repository);
	own_http_response struct http_response response = {0};
	struct text_sink sink = {.max = MANIFEST_SIZE_MAX};
	struct http_request q = {.method = "GET", .out = add_text, .out_context = &sink};
	struct digest is;
	int rc;

	/* The table is const, http_request's pointer for the general case is not. */
	memcpy(&q.headers, &(const char *const *){manifest_headers}, sizeof(q.headers));
	rc = registry_send(r, &q, NULL, path, &response, err);
	if (rc == 0 && response.status != 200)
		rc = registry_status(r, &response, what, err);
	if (rc == -ENOENT && strchr(which, ':') == NULL)
		hint(err, rc, "the tags that there are: berth search --list-tags %s/%s", r->host,
		     r->repository);
	if (rc == 0)
		rc = check_manifest(which, &response, &sink.text, &is, err);
	if (rc < 0) {
		buf_release(&sink.text);
		return rc;
	}
	*ret_len = sink.text.len;
	*ret_text = buf_take(&sink.text);
	*ret_type = str_copy_n(response.content_type ? response.content_type : "",
			       strcspn(response.content_type ? response.content_type : "", "; "));
	*ret_digest = is;
	return 0;
}

int registry_put_plain(struct registry *r, const char *which, const char *type, const void *text,
		       size_t len, struct http_response *response, struct error *err)
{
	own_mem char *path = str_format("%s/manifests/%s", r->repository, which);
	own_mem char *type_header = str_format("Content-Type: %s", type);
	char *headers[] = {type_header, NULL};
	struct http_request q = {
		.method = "PUT", .headers = headers, .body = text, .body_size = len};
	struct digest is, said;
	int rc = registry_send(r, &q, NULL, path, response, err);

	if (rc == 0 && response->status != 201)
		rc = registry_status(r, response, path, err);
	if (rc < 0 || response->digest == NULL || digest_parse(response->digest, &said, NULL) < 0)
		return rc;
	is = digest_of_like(&said, text, len);
	if (!digest_eq(&is, &said))
		return refuse(err, -EBADMSG, "%s has stored the manifest as %s instead of %s",
			      r->host, said.text, is.text);
	return 0;
}

/* A blob on its way: what has been delivered stays delivered, whatever happens to connections. */
struct blob_sink {
	image_bytes_fn *out;
	void *context;
	uint64_t delivered, size;
	struct http_response *response;
	uint64_t skip; /* bytes of this answer that were delivered before */
	bool begun;    /* this answer has begun */
};

/* Where this answer's body begins, and so how much of it is known. */
static int begin_answer(struct blob_sink *s, struct error *err)
{
	uint64_t at = s->response->status == 206 ? s->response->offset : 0;

	s->begun = true;
	if (at > s->delivered)
		return refuse(err, -EPROTO, "the registry sent bytes from %llu on instead of %llu",
			      (unsigned long long)at, (unsigned long long)s->delivered);
	s->skip = s->delivered - at;
	return 0;
}

static int deliver(const void *data, size_t len, void *context, struct error *err)
{
	struct blob_sink *s = context;
	const char *p = data;
	int rc = s->begun ? 0 : begin_answer(s, err);

	if (rc < 0)
		return rc;
	if (s->skip >= len) {
		s->skip -= len;
		return 0;
	}
	p += s->skip;
	len -= s->skip;
	s->skip = 0;
	if (len > s->size - s->delivered)
		return refuse(err, -EBADMSG, "more bytes came than the %llu that were promised",
			      (unsigned long long)s->size);
	rc = s->out(p, len, s->context, err);
	if (rc == 0)
		s->delivered += len;
	return rc;
}

/* One request for what is missing. 0 with the blob complete or not. */
static int blob_part(struct registry *r, const char *path, struct blob_sink *s, struct error *err)
{
	own_http_response struct http_response response = {0};
	struct http_request q = {
		.method = "GET", .offset = s->delivered, .out = deliver, .out_context = s};
	int rc;

	s->response = &response;
	s->begun = false;
	s->skip = 0;
	rc = registry_send(r, &q, NULL, path, &response, err);
	if (rc == 0 && response.status != 200 && response.status != 206)
		return registry_status(r, &response, path, err);
	return rc;
}

int registry_blob(struct registry *r, const struct digest *digest, uint64_t size,
		  image_bytes_fn *out, void *context, struct error *err)
{
	own_mem char *path = str_format("%s/blobs/%s", r->repository, digest->text);
	struct blob_sink s = {.out = out, .context = context, .size = size};
	unsigned int tries = 0;

	while (s.delivered < size) {
		struct error why = {0};
		uint64_t before = s.delivered;
		int rc = blob_part(r, path, &s, &why);

		/* The end came early although nothing broke: that too may be a proxy's fault. */
		if (rc == 0 && s.delivered < size)
			rc = refuse(&why, -ECONNRESET,
				    "%s sent %llu bytes instead of the %llu that were promised",
				    r->host, (unsigned long long)s.delivered,
				    (unsigned long long)size);
		if (rc == 0)
			break;
		tries = s.delivered > before ? 1 : tries + 1;
		if (!registry_may_retry(rc) || tries >= r->tries) {
			if (err != NULL)
				*err = why;
			return rc;
		}
		registry_wait(tries - 1, r->retry_after_s);
	}
	return 0;
}

int registry_ping(struct registry *r, struct error *err)
{
	own_http_response struct http_response response = {0};
	struct http_request q = {.method = "GET"};
	int rc = registry_send(r, &q, NULL, "", &response, err);

	if (rc == 0 && response.status != 200)
		rc = registry_status(r, &response, "the registry", err);
	return rc;
}
