/* registry_priv: what the files of registry share. */
#pragma once

#include "image/auth.h"
#include "image/registry.h"

struct registry {
	char *host;     /* as in references */
	char *api_host; /* where it really is */
	char *repository;
	enum registry_access access;
	bool insecure;      /* certificates are not verified, plain HTTP is allowed */
	const char *scheme; /* "https", or "http" once that has turned out */
	struct http_tls tls;
	struct http *http;
	unsigned int tries;
	struct credentials credentials;
	bool credentials_known; /* looked for */
	int retry_after_s;      /* what the last answer said; 0: nothing */
	const struct image_remote *remote;
	char **warned;       /* what it has told the user already */
	char **also;         /* other repositories that a token shall let us read */
	char *authorization; /* the header's value that the registry has accepted or will */
};

/* Adds the certificates for a host from the usual directories, or from `cert_dir` (not NULL). A pair of
 * which one half is missing is an error. */
int registry_find_certs(const char *cert_dir, const char *host, struct http_tls *tls,
			struct error *err) must_check;
/* Sends a request to `url` (absolute) or `path` below /v2/: finds the scheme, answers a 401, tries
 * again what may be tried again. Returns 0 with a status that is not 401, 429 or 5xx. `q` has method,
 * headers and so on; url, tls and authorization are filled in here. */
int registry_send(struct registry *registry, struct http_request *q, const char *url,
		  const char *path, struct http_response *response, struct error *err) must_check;
/* Gets an authorization for a challenge. -EACCES if there is none to be had. */
int registry_authenticate(struct registry *registry, const char *challenge,
			  struct error *err) must_check;
/* The absolute form of an address that the registry has given. -EPROTO: it would lead away from
 * encryption. */
int registry_absolute(struct registry *registry, const char *location, char **ret,
		      struct error *err) must_check;
/* Hands a header "Warning" on to the user, each text once. */
void registry_pass_warning(struct registry *registry, const char *header);
/* Turns an unexpected status into an error: -ENOENT, -EACCES, -EPROTO ... */
int registry_status(struct registry *registry, const struct http_response *response,
		    const char *what, struct error *err);
/* Puts a manifest, without a look at what it refers to. `response` is the caller's to release. */
int registry_put_plain(struct registry *registry, const char *which, const char *type,
		       const void *text, size_t len, struct http_response *response,
		       struct error *err) must_check;
/* registry_upload() for what is too large for one piece. */
int registry_upload_file(struct registry *registry, const struct digest *digest, int fd,
			 uint64_t size, uint64_t *sent, struct error *err) must_check;
/* Adds the descriptor to the index under the subject's tag. */
int registry_note_referrer(struct registry *registry, const struct digest *subject,
			   json_t *descriptor, struct error *err) must_check;
/* After a manifest was put that the registry has said nothing of a subject of: keeps the list for it, if
 * it has a subject. */
int registry_note_subject(struct registry *registry, const struct digest *digest, const char *type,
			  const char *text, size_t len, struct error *err) must_check;
/* After a manifest was deleted: takes it off the list, if we keep that. */
int registry_forget_subject(struct registry *registry, const struct digest *digest,
			    const char *text, size_t len, struct error *err) must_check;
/* GETs a JSON document of at most REGISTRY_DOCUMENT_MAX bytes. `path` below /v2/ or, if it is that,
 * an absolute address. Returns the status; only with 200 there is a document. `next`, the address of the
 * next page, may be NULL. */
enum { REGISTRY_DOCUMENT_MAX = 16 << 20, REGISTRY_PAGES_MAX = 1000 };
int registry_document(struct registry *registry, const char *path, json_t **ret, char **next,
		      struct error *err) must_check;
/* The error for a list with more than REGISTRY_LIST_MAX entries or REGISTRY_PAGES_MAX pages: -EFBIG. */
int registry_endless(struct registry *registry, struct error *err);
/* Waits before another try. */
void registry_wait(unsigned int tries_made, int retry_after_s);
bool registry_may_retry(int rc);
