/*
 * http: one HTTP(S) request at a time, over libcurl, which is loaded when the first client is made.
 *
 * Redirects are followed here, not by libcurl: at most HTTP_REDIRECTS_MAX, never from https to http,
 * and Authorization is left out as soon as scheme, host or port are others. A body reaches the caller
 * only with a status of 2xx; of other answers the beginning is kept for the error's text.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/own.h"
#include "image/decompress.h"

enum {
	HTTP_REDIRECTS_MAX = 10,
	HTTP_CONNECT_TIMEOUT_S = 20,
	HTTP_STALL_TIMEOUT_S = 30, /* without a byte for so long, the connection is given up */
	HTTP_ERROR_BODY_MAX = 16 << 10,
};

struct http;
struct http_tls {
	bool verify;
	char *ca_pem;                   /* certificates beside the system's; NULL: none */
	char *client_cert, *client_key; /* paths; NULL: none */
};
void http_tls_release(struct http_tls *tls);

int http_create(struct http **ret, struct error *err) must_check;
void http_destroy(struct http *http);
OWN_DEFINE(own_http, struct http *, http_destroy);
#define own_http __attribute__((cleanup(own_http_release)))

/* Gives bytes to send: fills `data`, returns how many, 0 at the end, -errno. */
typedef int64_t http_read_fn(void *data, size_t len, void *context);

struct http_request {
	const char *method; /* "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" */
	const char *url;
	char *const *headers;      /* "Name: value" */
	const char *authorization; /* the header's value; NULL: none */
	const struct http_tls *tls;
	bool once;        /* registry_send must not repeat it */
	uint64_t offset;  /* ask for the bytes from here on */
	const void *body; /* to send; or `read` */
	uint64_t body_size;
	http_read_fn *read;
	void *read_context;
	image_bytes_fn *out; /* for the body of the answer; NULL: it is thrown away */
	void *out_context;
	bool no_redirects;
};
struct http_response {
	long status;
	uint64_t offset;     /* where the body begins: of a 206 */
	uint64_t body_bytes; /* delivered */
	char *content_type, *location, *digest, *challenge, *range, *link, *subject, *warning;
	int retry_after_s;  /* 0: not said */
	uint64_t chunk_min; /* the least bytes of a piece that it takes; 0: not said */
	char *error_body;   /* text; NULL if there was none */
};
void http_response_release(struct http_response *response);
#define own_http_response __attribute__((cleanup(http_response_release)))

/* 0 whatever the status is. -EHOSTUNREACH, -ECONNREFUSED, -ETIMEDOUT, -ECONNRESET (broken in the
 * middle), -EPROTONOSUPPORT (the other side does not speak TLS), -EKEYREJECTED (its certificate is not
 * to be trusted), -EPROTO; or what `out` returned. On failure *ret is filled as far as it came. */
int http_perform(struct http *http, const struct http_request *request, struct http_response *ret,
		 struct error *err) must_check;

/* "a b&c" -> "a%20b%26c", for queries. */
char *http_escape(const char *s);
/* True if both URLs have the same scheme, host and port. */
bool http_same_origin(const char *a, const char *b);
