/* http: see http.h. */
#include "image/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/dylib.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/http_proxy.h"

enum { CA_BUNDLE_MAX = 16 << 20, RETRY_AFTER_MAX_S = 3600, RECEIVE_SIZE = 256 << 10 };

static const char system_ca[] = "/etc/ssl/certs/ca-certificates.crt";

struct curl_api {
	CURLcode (*global_init)(long flags);
	CURL *(*easy_init)(void);
	CURLcode (*easy_setopt)(CURL *curl, CURLoption option, ...);
	CURLcode (*easy_perform)(CURL *curl);
	CURLcode (*easy_getinfo)(CURL *curl, CURLINFO info, ...);
	void (*easy_reset)(CURL *curl);
	void (*easy_cleanup)(CURL *curl);
	const char *(*easy_strerror)(CURLcode code);
	struct curl_slist *(*slist_append)(struct curl_slist *list, const char *s);
	void (*slist_free_all)(struct curl_slist *list);
};

static const struct dylib_symbol symbols[] = {
	DYLIB_SYMBOL(struct curl_api, global_init, "curl_global_init"),
	DYLIB_SYMBOL(struct curl_api, easy_init, "curl_easy_init"),
	DYLIB_SYMBOL(struct curl_api, easy_setopt, "curl_easy_setopt"),
	DYLIB_SYMBOL(struct curl_api, easy_perform, "curl_easy_perform"),
	DYLIB_SYMBOL(struct curl_api, easy_getinfo, "curl_easy_getinfo"),
	DYLIB_SYMBOL(struct curl_api, easy_reset, "curl_easy_reset"),
	DYLIB_SYMBOL(struct curl_api, easy_cleanup, "curl_easy_cleanup"),
	DYLIB_SYMBOL(struct curl_api, easy_strerror, "curl_easy_strerror"),
	DYLIB_SYMBOL(struct curl_api, slist_append, "curl_slist_append"),
	DYLIB_SYMBOL(struct curl_api, slist_free_all, "curl_slist_free_all"),
};

struct http {
	struct curl_api api;
	CURL *curl;
	char reason[CURL_ERROR_SIZE];
};

/* One exchange, without redirects. */
struct exchange {
	const struct http_request *request;
	struct http_response *response;
	struct buf error_body;
	uint64_t sent;
	int rc; /* of the caller's functions */
	struct error *err;
};

void http_tls_release(struct http_tls *tls)
{
	free(tls->ca_pem);
	free(tls->client_cert);
	free(tls->client_key);
	memset(tls, 0, sizeof(*tls));
}

int http_create(struct http **ret, struct error *err)
{
	own_http struct http *http = mem_new(sizeof(*http));
	int rc = dylib_load("libcurl.so.4", "libcurl4", symbols, array_size(symbols), &http->api,
			    err);

	if (rc < 0)
		return rc;
	if (http->api.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return refuse(err, -EIO, "libcurl does not start");
	http->curl = http->api.easy_init();
	if (http->curl == NULL)
		return refuse(err, -ENOMEM, "libcurl does not start");
	*ret = take(http);
	return 0;
}

void http_destroy(struct http *http)
{
	if (http == NULL)
		return;
	if (http->curl != NULL)
		http->api.easy_cleanup(http->curl);
	free(http);
}

void http_response_release(struct http_response *r)
{
	free(r->content_type);
	free(r->location);
	free(r->digest);
	free(r->challenge);
	free(r->range);
	free(r->link);
	free(r->subject);
	free(r->warning);
	free(r->error_body);
	memset(r, 0, sizeof(*r));
}

char *http_escape(const char *s)
{
	struct buf b = {0};

	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (isalnum(c) || strchr("-._~", c) != NULL)
			buf_add_char(&b, (char)c);
		else
			buf_format(&b, "%%%02X", c);
	}
	return buf_take(&b);
}

bool http_same_origin(const char *a, const char *b)
{
	const char *host_a = strstr(a, "://"), *host_b = strstr(b, "://");
	size_t len_a, len_b;

	if (host_a == NULL || host_b == NULL)
		return false;
	len_a = (size_t)(host_a - a) + 3 + strcspn(host_a + 3, "/?#");
	len_b = (size_t)(host_b - b) + 3 + strcspn(host_b + 3, "/?#");
	return len_a == len_b && strncasecmp(a, b, len_a) == 0;
}

/* The value of the header `name` in the line, copied; NULL if it is another one. */
static char *header_value(const char *line, size_t len, const char *name)
{
	size_t name_len = strlen(name);
	const char *value = line + name_len + 1;

	if (len <= name_len || strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
		return NULL;
	len -= name_len + 1;
	while (len > 0 && (*value == ' ' || *value == '\t')) {
		value++;
		len--;
	}
	while (len > 0 && isspace((unsigned char)value[len - 1]))
		len--;
	return str_copy_n(value, len);
}

static void keep_header(char **to, char *value)
{
	if (value == NULL)
		return;
	free(*to);
	*to = value;
}

/* Several challenges may be offered; Bearer is the one that is wanted. */
static void keep_challenge(char **to, char *value)
{
	if (value != NULL && *to != NULL && strncasecmp(*to, "bearer", 6) == 0) {
		free(value);
		return;
	}
	keep_header(to, value);
}

static void parse_content_range(const char *line, size_t len, struct http_response *r)
{
	own_mem char *value = header_value(line, len, "content-range");
	const char *range = value ? str_after(value, "bytes ") : NULL;

	if (range != NULL)
		r->offset = strtoull(range, NULL, 10);
}

/* A number of seconds, or a point in time (RFC 9110, 10.2.3). */
static void parse_retry_after(const char *line, size_t len, struct http_response *r)
{
	own_mem char *value = header_value(line, len, "retry-after");
	struct tm tm = {0};
	uint64_t seconds;
	int64_t left;

	if (value == NULL)
		return;
	if (str_to_uint(value, RETRY_AFTER_MAX_S, &seconds) == 0) {
		r->retry_after_s = (int)seconds;
	} else if (strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm) != NULL) {
		left = timegm(&tm) - time(NULL);
		r->retry_after_s = (int)(left < 0                   ? 0
					 : left > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S
								    : left);
	}
}

static void parse_chunk_min(const char *line, size_t len, struct http_response *r)
{
	own_mem char *value = header_value(line, len, "oci-chunk-min-length");
	uint64_t bytes;

	if (value != NULL && str_to_uint(value, UINT32_MAX, &bytes) == 0)
		r->chunk_min = bytes;
}

static size_t on_header(char *line, size_t size, size_t count, void *data)
{
	struct exchange *x = data;
	struct http_response *r = x->response;
	size_t len = size * count;

	/* A new status line: what an earlier one (100 Continue, a proxy's) said is void. */
	if (len > 9 && strncasecmp(line, "HTTP/", 5) == 0) {
		const char *space = memchr(line, ' ', len);

		http_response_release(r);
		r->status = space ? strtol(space, NULL, 10) : 0;
		return len;
	}
	keep_header(&r->content_type, header_value(line, len, "content-type"));
	keep_header(&r->location, header_value(line, len, "location"));
	keep_header(&r->digest, header_value(line, len, "docker-content-digest"));
	keep_challenge(&r->challenge, header_value(line, len, "www-authenticate"));
	keep_header(&r->range, header_value(line, len, "range"));
	keep_header(&r->link, header_value(line, len, "link"));
	keep_header(&r->subject, header_value(line, len, "oci-subject"));
	keep_header(&r->warning, header_value(line, len, "warning"));
	parse_content_range(line, len, r);
	parse_retry_after(line, len, r);
	parse_chunk_min(line, len, r);
	return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
	struct exchange *x = context;
	size_t len = size * count;

	if (x->response->status < 200 || x->response->status > 299) {
		if (x->error_body.len < HTTP_ERROR_BODY_MAX)
			buf_add(&x->error_body, data, len);
		return len;
	}
	if (x->request->out != NULL) {
		x->rc = x->request->out(data, len, x->request->out_context, x->err);
		/* Another count than it gave us makes libcurl stop. */
		if (x->rc < 0)
			return len + 1;
	}
	x->response->body_bytes += len;
	return len;
}

static size_t on_send(char *data, size_t size, size_t count, void *context)
{
	struct exchange *x = context;
	const struct http_request *q = x->request;
	size_t len = size * count;
	int64_t n;

	if (q->read != NULL) {
		n = q->read(data, len, q->read_context);
		if (n < 0)
			x->rc = (int)n;
		return n < 0 ? CURL_READFUNC_ABORT : (size_t)n;
	}
	if (len > q->body_size - x->sent)
		len = (size_t)(q->body_size - x->sent);
	if (len > 0)
		memcpy(data, (const char *)q->body + x->sent, len);
	x->sent += len;
	return len;
}

/* libcurl sends a body again if a connection that it kept turns out to be closed. What comes from a
 * function cannot be had again here; who has it repeats the request. */
static int on_seek(void *context, curl_off_t offset, int origin)
{
	struct exchange *x = context;

	if (x->request->read != NULL || origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	x->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

/* libcurl asks as bytes come, and every second. */
static int on_progress(void *context, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
		       curl_off_t up)
{
	(void)context, (void)down_all, (void)down, (void)up_all, (void)up;
	return interrupt_pending();
}

static int map_error(struct http *http, CURLcode code, const char *url, struct error *err)
{
	const char *why = http->reason[0] ? http->reason : http->api.easy_strerror(code);
	long proxy_status = 0;
	int rc = -EPROTO;

	/* What a proxy refuses it will refuse again. */
	http->api.easy_getinfo(http->curl, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
	if (code == CURLE_RECV_ERROR && proxy_status >= 400)
		return refuse(err, -EACCES, "%.*s: the proxy answered %ld", (int)strcspn(url, "?"),
			      url, proxy_status);
	switch (code) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		rc = -EHOSTUNREACH;
		break;
	case CURLE_COULDNT_CONNECT:
		rc = -ECONNREFUSED;
		break;
	case CURLE_OPERATION_TIMEDOUT:
		rc = -ETIMEDOUT;
		break;
	case CURLE_PARTIAL_FILE:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_GOT_NOTHING:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		rc = -ECONNRESET;
		break;
	case CURLE_SSL_CONNECT_ERROR:
		rc = -EPROTONOSUPPORT;
		/* OpenSSL's words for what is no TLS record. */
		if (strstr(why, "wrong version number") != NULL)
			why = "what answers there does not speak TLS";
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
		rc = -EKEYREJECTED;
		break;
	default:
		break;
	}
	return refuse(err, rc, "%.*s: %s", (int)strcspn(url, "?"), url, why);
}

/* The system's certificates and the extra ones as one text. NULL: libcurl's own default will do. */
static char *all_ca(const struct http_tls *tls, size_t *ret_len)
{
	own_mem char *text = NULL;
	struct buf b = {0};
	size_t len;

	if (tls->ca_pem == NULL)
		return NULL;
	if (file_read(AT_FDCWD, system_ca, CA_BUNDLE_MAX, &text, &len, NULL) == 0)
		buf_add(&b, text, len);
	buf_add_char(&b, '\n');
	buf_add_str(&b, tls->ca_pem);
	*ret_len = b.len;
	return buf_take(&b);
}

static void set_tls(struct http *http, const struct http_tls *tls)
{
	CURLcode (*set)(CURL *, CURLoption, ...) = http->api.easy_setopt;
	own_mem char *ca = NULL;
	size_t len;

	if (tls == NULL)
		return;
	set(http->curl, CURLOPT_SSL_VERIFYPEER, tls->verify ? 1L : 0L);
	set(http->curl, CURLOPT_SSL_VERIFYHOST, tls->verify ? 2L : 0L);
	ca = all_ca(tls, &len);
	if (ca != NULL) {
		struct curl_blob blob = {.data = ca, .len = len, .flags = CURL_BLOB_COPY};

		set(http->curl, CURLOPT_CAINFO_BLOB, &blob);
	}
	if (tls->client_cert != NULL)
		set(http->curl, CURLOPT_SSLCERT, tls->client_cert);
	if (tls->client_key != NULL)
		set(http->curl, CURLOPT_SSLKEY, tls->client_key);
}

static struct curl_slist *make_headers(struct http *http, const struct http_request *q)
{
	struct curl_slist *list = NULL;

	for (size_t i = 0; q->headers != NULL && q->headers[i] != NULL; i++)
		list = http->api.slist_append(list, q->headers[i]);
	if (q->authorization != NULL) {
		own_mem char *line = str_format("Authorization: %s", q->authorization);

		list = http->api.slist_append(list, line);
	}
	/* No waiting for "100 Continue", which half of the registries never send. */
	return http->api.slist_append(list, "Expect:");
}

static void set_method(struct http *http, const struct http_request *q)
{
	CURLcode (*set)(CURL *, CURLoption, ...) = http->api.easy_setopt;
	bool sends = q->body != NULL || q->read != NULL;

	if (str_eq(q->method, "HEAD")) {
		set(http->curl, CURLOPT_NOBODY, 1L);
		return;
	}
	if (sends || str_eq(q->method, "POST") || str_eq(q->method, "PUT") ||
	    str_eq(q->method, "PATCH")) {
		set(http->curl, CURLOPT_UPLOAD, 1L);
		set(http->curl, CURLOPT_READFUNCTION, on_send);
		set(http->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->body_size);
	}
	set(http->curl, CURLOPT_CUSTOMREQUEST, q->method);
}

static int exchange(struct http *http, const struct http_request *q, const char *url,
		    struct http_response *response, struct error *err)
{
	CURLcode (*set)(CURL *, CURLoption, ...) = http->api.easy_setopt;
	struct exchange x = {.request = q, .response = response, .err = err};
	struct curl_slist *headers = make_headers(http, q);
	own_mem char *proxy = http_proxy_for(url);
	CURLcode code;

	http->api.easy_reset(http->curl);
	http->reason[0] = '\0';
	set(http->curl, CURLOPT_URL, url);
	set(http->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	set(http->curl, CURLOPT_NOSIGNAL, 1L);
	set(http->curl, CURLOPT_ERRORBUFFER, http->reason);
	set(http->curl, CURLOPT_USERAGENT, "berth/" BERTH_VERSION);
	set(http->curl, CURLOPT_CONNECTTIMEOUT, (long)HTTP_CONNECT_TIMEOUT_S);
	set(http->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	set(http->curl, CURLOPT_LOW_SPEED_TIME, (long)HTTP_STALL_TIMEOUT_S);
	set(http->curl, CURLOPT_BUFFERSIZE, (long)RECEIVE_SIZE);
	set(http->curl, CURLOPT_HTTPHEADER, headers);
	set(http->curl, CURLOPT_HEADERFUNCTION, on_header);
	set(http->curl, CURLOPT_HEADERDATA, &x);
	set(http->curl, CURLOPT_WRITEFUNCTION, on_body);
	set(http->curl, CURLOPT_WRITEDATA, &x);
	set(http->curl, CURLOPT_READDATA, &x);
	set(http->curl, CURLOPT_NOPROGRESS, 0L);
	set(http->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	set(http->curl, CURLOPT_SEEKFUNCTION, on_seek);
	set(http->curl, CURLOPT_SEEKDATA, &x);
	/* Said in any case: libcurl would read the environment in its own way. */
	set(http->curl, CURLOPT_PROXY, proxy ? proxy : "");
	set(http->curl, CURLOPT_NOPROXY, "");
	if (q->offset > 0) {
		own_mem char *range = str_format("%llu-", (unsigned long long)q->offset);

		set(http->curl, CURLOPT_RANGE, range);
	}
	set_method(http, q);
	set_tls(http, q->tls);
	code = http->api.easy_perform(http->curl);
	http->api.slist_free_all(headers);
	if (x.error_body.len > 0)
		response->error_body = buf_take(&x.error_body);
	if (x.rc < 0)
		return x.rc;
	if (code == CURLE_ABORTED_BY_CALLBACK && interrupt_pending())
		return interrupt_check(err);
	if (code != CURLE_OK)
		return map_error(http, code, url, err);
	return 0;
}

/* The absolute form of a redirect's target. */
static char *redirect_target(struct http *http)
{
	char *url = NULL;

	http->api.easy_getinfo(http->curl, CURLINFO_REDIRECT_URL, &url);
	return str_copy(url);
}

static bool is_redirect(long status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

int http_perform(struct http *http, const struct http_request *request, struct http_response *ret,
		 struct error *err)
{
	struct http_request q = *request;
	own_mem char *url = str_copy(request->url);

	for (int i = 0; i <= HTTP_REDIRECTS_MAX; i++) {
		own_mem char *next = NULL;
		int rc;

		http_response_release(ret);
		rc = exchange(http, &q, url, ret, err);
		if (rc < 0 || q.no_redirects || !is_redirect(ret->status))
			return rc;
		next = redirect_target(http);
		if (next == NULL)
			return refuse(err, -EPROTO, "%s redirects to nowhere", url);
		if (str_after(url, "https://") && !str_after(next, "https://"))
			return refuse(err, -EPROTO, "%s redirects to %.80s, away from encryption",
				      url, next);
		if (!http_same_origin(url, next))
			q.authorization = NULL;
		free(url);
		url = take(next);
	}
	return refuse(err, -ELOOP, "%s redirects without end", request->url);
}
