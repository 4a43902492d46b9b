/* server: see server.h. */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/manifest.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { REQUEST_MAX = 16 << 10, FAULTY_TIMES = 2 };

/* base64 of name:secret */
static const char basic[] = "authorization: basic bmftztpzzwnyzxq=";
static const char bearer[] = "authorization: bearer a-token";

struct service {
	enum server_fault fault;
	int blobs_fd;
	int port, other_port;
	bool other; /* this is the other host */
	struct digest manifest, config;
	struct server_seen *seen;
};

static void send_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			_exit(0);
		p += n;
		len -= (size_t)n;
	}
}

__attribute__((format(printf, 2, 3))) static void send_text(int fd, const char *fmt, ...)
{
	own_mem char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = str_format_va(fmt, ap);
	va_end(ap);
	send_all(fd, text, strlen(text));
}

static void send_status(int fd, const char *status, const char *headers)
{
	send_text(fd, "HTTP/1.1 %s\r\n%sContent-Length: 0\r\n\r\n", status, headers);
}

static char *read_blob(struct service *s, const char *hex, size_t *ret_len)
{
	own_mem char *path = str_format("sha256/%s", hex);
	char *text = NULL;

	if (file_read(s->blobs_fd, path, 64 << 20, &text, ret_len, NULL) < 0)
		return NULL;
	return text;
}

static void send_manifest(struct service *s, int fd)
{
	size_t len = 0;
	own_mem char *text = read_blob(s, digest_hex(&s->manifest), &len);
	const char *digest = s->manifest.text;

	if (s->fault == FAULT_ENDLESS_MANIFEST) {
		static const char spaces[65536] = " ";

		send_text(fd, "HTTP/1.1 200 OK\r\nContent-Type: " MEDIA_OCI_MANIFEST
			      "\r\nConnection: close\r\n\r\n");
		for (;;)
			send_all(fd, spaces, sizeof(spaces));
	}
	if (s->fault == FAULT_MANIFEST_NOT_JSON)
		text[0] = '<';
	if (s->fault == FAULT_WRONG_MANIFEST_DIGEST)
		digest = s->config.text;
	send_text(fd, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s%s%sContent-Length: %zu\r\n\r\n",
		  MEDIA_OCI_MANIFEST,
		  s->fault == FAULT_MANIFEST_NOT_JSON ? "" : "Docker-Content-Digest: ",
		  s->fault == FAULT_MANIFEST_NOT_JSON ? "" : digest,
		  s->fault == FAULT_MANIFEST_NOT_JSON ? "" : "\r\n", len);
	send_all(fd, text, len);
}

/* Where the request wants to begin. */
static size_t range_of(const char *request)
{
	const char *range = strstr(request, "\r\nrange: bytes=");

	return range ? strtoul(range + strlen("\r\nrange: bytes="), NULL, 10) : 0;
}

static void send_part(int fd, const char *text, size_t from, size_t len, size_t sent)
{
	if (from > 0)
		send_text(fd,
			  "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %zu-%zu/%zu\r\n",
			  from, len - 1, len);
	else
		send_text(fd, "HTTP/1.1 200 OK\r\n");
	send_text(fd, "Content-Length: %zu\r\n\r\n", len - from);
	send_all(fd, text + from, sent < len - from ? sent : len - from);
}

static void send_layer(struct service *s, int fd, const char *hex, const char *request)
{
	unsigned int nth = __atomic_add_fetch(&s->seen->layer_requests, 1, __ATOMIC_SEQ_CST);
	size_t len = 0, from = range_of(request), part;
	own_mem char *text = read_blob(s, hex, &len);
	bool faulty = nth <= FAULTY_TIMES;

	part = len / 3;
	if (from > 0)
		__atomic_add_fetch(&s->seen->ranges, 1, __ATOMIC_SEQ_CST);
	switch (s->fault) {
	case FAULT_CUT:
		send_part(fd, text, from, len, faulty ? part : len);
		_exit(0);
	case FAULT_CUT_NO_RANGE:
		send_part(fd, text, 0, len, faulty ? part * nth : len);
		_exit(0);
	case FAULT_CUT_ALWAYS:
		send_part(fd, text, 0, len, 10);
		_exit(0);
	case FAULT_WRONG_RANGE:
		send_part(fd, text, from ? from + 1 : 0, len, part);
		_exit(0);
	case FAULT_SHORT:
		send_text(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n", part);
		send_all(fd, text, part);
		send_text(fd, "\r\n0\r\n\r\n");
		return;
	case FAULT_LONG:
		send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", 2 * len);
		send_all(fd, text, len);
		send_all(fd, text, len);
		return;
	case FAULT_WRONG_BYTES:
		text[len - 9] ^= 1;
		break;
	default:
		break;
	}
	send_part(fd, text, from, len, len);
}

static void send_blob(struct service *s, int fd, const char *path, const char *request)
{
	own_mem char *hex = str_copy_n(strstr(path, "sha256:") + 7, DIGEST_HEX_LEN);
	size_t len = 0;
	own_mem char *text = NULL;

	if (!str_eq(hex, digest_hex(&s->config))) {
		if (s->fault == FAULT_REDIRECT && !s->other) {
			own_mem char *location =
				str_format("Location: http://localhost:%d/v2/x/blobs/sha256:%s\r\n",
					   s->other_port, hex);

			send_status(fd, "307 Temporary Redirect", location);
			return;
		}
		if (s->fault == FAULT_REDIRECT_LOOP) {
			send_status(fd, "302 Found", "Location: ?again\r\n");
			return;
		}
		send_layer(s, fd, hex, request);
		return;
	}
	text = read_blob(s, hex, &len);
	if (s->fault == FAULT_WRONG_CONFIG)
		text[1] = ' ';
	send_part(fd, text, 0, len, len);
}

static void send_challenge(struct service *s, int fd)
{
	own_mem char *header =
		s->fault == FAULT_BASIC
			? str_copy("WWW-Authenticate: Basic realm=\"x\"\r\n")
			: str_format("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\","
				     "service=\"test service\",scope=\"repository:x:pull\"\r\n",
				     s->port);

	send_status(fd, "401 Unauthorized", header);
}

static void send_token(struct service *s, int fd, const char *path, const char *request)
{
	static const char body[] = "{\"token\": \"A-Token\", \"expires_in\": 60}";

	__atomic_add_fetch(&s->seen->token_requests, 1, __ATOMIC_SEQ_CST);
	if (strstr(request, basic) == NULL || strstr(path, "service=test%20service") == NULL ||
	    strstr(path, "scope=repository%3ax%3apull") == NULL)
		send_status(fd, "401 Unauthorized", "");
	else
		send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
			  body);
}

/* Answers faults that concern every request. True if it did. */
static bool answer_fault(struct service *s, int fd, const char *path, const char *request)
{
	unsigned int nth = __atomic_add_fetch(&s->seen->requests, 1, __ATOMIC_SEQ_CST);
	bool wants_auth = s->fault == FAULT_BASIC || s->fault == FAULT_BEARER ||
			  (s->fault == FAULT_REDIRECT && !s->other);
	const char *expected = s->fault == FAULT_BEARER ? bearer : basic;

	if (s->other) {
		__atomic_add_fetch(&s->seen->redirected, 1, __ATOMIC_SEQ_CST);
		if (strstr(request, "\r\nauthorization:") != NULL)
			__atomic_add_fetch(&s->seen->credentials_at_other_host, 1,
					   __ATOMIC_SEQ_CST);
	}
	if (str_after(path, "/token") != NULL) {
		send_token(s, fd, path, request);
		return true;
	}
	if (s->fault == FAULT_BUSY && nth <= FAULTY_TIMES)
		send_status(fd, "503 Service Unavailable", "");
	else if (s->fault == FAULT_RATE_LIMIT && nth <= 1)
		send_status(fd, "429 Too Many Requests", "Retry-After: 1\r\n");
	else if (s->fault == FAULT_BROKEN)
		send_status(fd, "500 Internal Server Error", "");
	else if (s->fault == FAULT_FORBIDDEN)
		send_status(fd, "403 Forbidden", "");
	else if (wants_auth && strstr(request, expected) == NULL) {
		struct service challenger = *s;

		if (s->fault == FAULT_REDIRECT)
			challenger.fault = FAULT_BASIC;
		send_challenge(&challenger, fd);
	} else
		return false;
	return true;
}

/* Reads one request's head, in lower case. False at the end of the connection. */
static bool read_request(int fd, char *request)
{
	size_t len = 0;

	while (len < REQUEST_MAX - 1) {
		ssize_t n = recv(fd, request + len, 1, 0);

		/* A TLS client: what does not speak that says so, or hangs up. */
		if (n <= 0 || (len == 0 && request[0] == 0x16))
			return false;
		request[len] = (char)(request[len] >= 'A' && request[len] <= 'Z' ? request[len] + 32
										 : request[len]);
		request[++len] = '\0';
		if (len >= 4 && strcmp(request + len - 4, "\r\n\r\n") == 0)
			return true;
	}
	return false;
}

static void serve_connection(struct service *s, int fd)
{
	char request[REQUEST_MAX];

	while (read_request(fd, request)) {
		const char *path = strchr(request, ' ');
		own_mem char *copy =
			path ? str_copy_n(path + 1, strcspn(path + 1, " ")) : str_copy("");

		if (answer_fault(s, fd, copy, request))
			continue;
		if (strstr(copy, "/manifests/") != NULL)
			send_manifest(s, fd);
		else if (strstr(copy, "/blobs/sha256:") != NULL)
			send_blob(s, fd, copy, request);
		else
			send_status(fd, "404 Not Found", "");
	}
}

static int listen_on_loopback(int *ret_port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

static int start(struct service *s, int listener)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			serve_connection(s, fd);
			_exit(0);
		}
		close(fd);
	}
}

void server_begin(struct server *server, struct fixture *f, const char *image_name,
		  enum server_fault fault)
{
	own_image struct image *image = NULL;
	own_fd int listener = listen_on_loopback(&server->port);
	own_fd int other = listen_on_loopback(&server->other_port);
	struct service s = {.fault = fault};
	void *shared = mmap(NULL, sizeof(*server->seen), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(shared != MAP_FAILED);
	server->seen = shared;
	assert_int_equal(image_find(f->store, image_name, &image, NULL), 0);
	s.manifest = image->manifest;
	s.config = image->id;
	s.blobs_fd = image_store_blobs_fd(f->store, NULL);
	s.port = server->port;
	s.other_port = server->other_port;
	s.seen = server->seen;
	server->pid = start(&s, listener);
	s.other = true;
	server->other_pid = start(&s, other);
}

void server_end(struct server *s)
{
	kill(s->pid, SIGKILL);
	kill(s->other_pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	waitpid(s->other_pid, NULL, 0);
	munmap(s->seen, sizeof(*s->seen));
}
