/* bus: see bus.h. */
#include "oci/bus.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sock.h"

#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define BUS_NAME "org.freedesktop.DBus"

enum {
	MESSAGE_MAX = 1 << 20,
	LINE_MAX_ = 512,
	TIMEOUT_MS = 30000,
	HEAD_SIZE = 16,
};

enum { TYPE_CALL = 1, TYPE_RETURN = 2, TYPE_ERROR = 3, TYPE_SIGNAL = 4 };

enum field {
	FIELD_PATH = 1,
	FIELD_INTERFACE = 2,
	FIELD_MEMBER = 3,
	FIELD_ERROR_NAME = 4,
	FIELD_REPLY_SERIAL = 5,
	FIELD_DESTINATION = 6,
	FIELD_SIGNATURE = 8,
	FIELDS,
};

struct bus {
	int sock;
	bool direct; /* the manager itself, without a bus between */
	uint32_t serial;
	char **jobs; /* that ended: "path", "result", ... */
};

struct message {
	uint8_t type;
	uint32_t reply_serial;
	const char *texts[FIELDS]; /* the fields that are strings */
	char *data;                /* owns all */
	const char *body;
	size_t body_len;
};

/* --- writing ------------------------------------------------------------------------------------ */

static void align(struct buf *b, size_t alignment)
{
	while (b->len % alignment != 0)
		buf_add_char(b, '\0');
}

void bus_put_byte(struct buf *b, uint8_t value)
{
	buf_add_char(b, (char)value);
}

void bus_put_u32(struct buf *b, uint32_t value)
{
	align(b, sizeof(value));
	buf_add(b, &value, sizeof(value));
}

void bus_put_u64(struct buf *b, uint64_t value)
{
	align(b, sizeof(value));
	buf_add(b, &value, sizeof(value));
}

void bus_put_bool(struct buf *b, bool value)
{
	bus_put_u32(b, value);
}

void bus_put_string(struct buf *b, const char *text)
{
	bus_put_u32(b, (uint32_t)strlen(text));
	buf_add(b, text, strlen(text) + 1);
}

void bus_put_signature(struct buf *b, const char *text)
{
	bus_put_byte(b, (uint8_t)strlen(text));
	buf_add(b, text, strlen(text) + 1);
}

void bus_put_struct(struct buf *b)
{
	align(b, 8);
}

size_t bus_begin_array(struct buf *b, size_t alignment)
{
	size_t begin;

	bus_put_u32(b, 0);
	begin = b->len;
	align(b, alignment);
	return begin;
}

void bus_end_array(struct buf *b, size_t begin, size_t alignment)
{
	/* The padding before the first element does not count. */
	const size_t first = (begin + alignment - 1) / alignment * alignment;
	const uint32_t len = (uint32_t)(b->len - first);

	memcpy(b->data + begin - sizeof(len), &len, sizeof(len));
}

void bus_put_property(struct buf *b, const char *name, const char *signature)
{
	bus_put_struct(b);
	bus_put_string(b, name);
	bus_put_signature(b, signature);
}

static void put_field(struct buf *b, enum field field, const char *signature, const char *text)
{
	if (text == NULL)
		return;
	bus_put_struct(b);
	bus_put_byte(b, (uint8_t)field);
	bus_put_signature(b, signature);
	if (field == FIELD_SIGNATURE)
		bus_put_signature(b, text);
	else
		bus_put_string(b, text);
}

/* --- reading ------------------------------------------------------------------------------------ */

struct reader {
	const char *data;
	size_t len, at;
};

static bool read_u32(struct reader *r, uint32_t *ret)
{
	const size_t at = (r->at + 3) / 4 * 4;

	if (at + 4 > r->len)
		return false;
	memcpy(ret, r->data + at, 4);
	r->at = at + 4;
	return true;
}

static bool read_text(struct reader *r, size_t len, const char **ret)
{
	if (len >= r->len - r->at || r->data[r->at + len] != '\0')
		return false;
	*ret = r->data + r->at;
	r->at += len + 1;
	return true;
}

static bool read_string(struct reader *r, const char **ret)
{
	uint32_t len;

	return read_u32(r, &len) && read_text(r, len, ret);
}

static bool read_signature(struct reader *r, const char **ret)
{
	size_t len;

	if (r->at >= r->len)
		return false;
	len = (unsigned char)r->data[r->at++];
	return read_text(r, len, ret);
}

static bool read_field(struct reader *r, struct message *m)
{
	const char *signature, *text = NULL;
	uint32_t number = 0;
	unsigned char code;

	r->at = (r->at + 7) / 8 * 8;
	if (r->at >= r->len)
		return false;
	code = (unsigned char)r->data[r->at++];
	if (!read_signature(r, &signature))
		return false;
	switch (signature[0]) {
	case 's':
	case 'o':
		if (!read_string(r, &text))
			return false;
		break;
	case 'g':
		if (!read_signature(r, &text))
			return false;
		break;
	case 'u':
		if (!read_u32(r, &number))
			return false;
		break;
	default:
		return false;
	}
	if (code == FIELD_REPLY_SERIAL)
		m->reply_serial = number;
	else if (code < FIELDS)
		m->texts[code] = text;
	return true;
}

static void message_release(struct message *m)
{
	free(m->data);
}
#define own_message __attribute__((cleanup(message_release)))

/* Reads exactly `len` bytes before the deadline. */
static int receive(int sock, void *data, size_t len, int64_t deadline_ns)
{
	char *to = data;

	while (len > 0) {
		const int64_t left_ms = (deadline_ns - clock_monotonic_ns()) / 1000000;
		struct pollfd wait = {.fd = sock, .events = POLLIN};
		ssize_t n;

		if (left_ms <= 0)
			return -ETIMEDOUT;
		n = poll(&wait, 1, (int)left_ms);
		if (n > 0)
			n = recv(sock, to, len, 0);
		else if (n == 0)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		to += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int receive_message(struct bus *bus, int64_t deadline_ns, struct message *ret)
{
	own_message struct message m = {0};
	unsigned char head[HEAD_SIZE];
	uint32_t body_len, fields_len;
	size_t padded;
	int rc = receive(bus->sock, head, sizeof(head), deadline_ns);

	if (rc < 0)
		return rc;
	memcpy(&body_len, head + 4, 4);
	memcpy(&fields_len, head + 12, 4);
	if (head[0] != (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 'l' : 'B') ||
	    body_len > MESSAGE_MAX || fields_len > MESSAGE_MAX)
		return -EBADMSG;
	padded = (fields_len + 7) / 8 * 8;
	m.type = head[1];
	m.data = mem_new(HEAD_SIZE + padded + body_len);
	memcpy(m.data, head, HEAD_SIZE);
	rc = receive(bus->sock, m.data + HEAD_SIZE, padded + body_len, deadline_ns);
	if (rc < 0)
		return rc;
	for (struct reader r = {m.data, HEAD_SIZE + fields_len, HEAD_SIZE}; r.at < r.len;)
		if (!read_field(&r, &m))
			return -EBADMSG;
	m.body = m.data + HEAD_SIZE + padded;
	m.body_len = body_len;
	*ret = m;
	m.data = NULL;
	return 0;
}

/* A signal that a job ended: number, path, unit, result. */
static void note_signal(struct bus *bus, const struct message *m)
{
	struct reader r = {m->body, m->body_len, 0};
	const char *path, *unit, *result;
	uint32_t id;

	if (str_eq(m->texts[FIELD_MEMBER], "JobRemoved") && read_u32(&r, &id) &&
	    read_string(&r, &path) && read_string(&r, &unit) && read_string(&r, &result)) {
		strv_push(&bus->jobs, path);
		strv_push(&bus->jobs, result);
	}
}

/* --- calls -------------------------------------------------------------------------------------- */

static int send_call(struct bus *bus, const char *destination, const char *path,
		     const char *interface, const char *member, const char *signature,
		     const struct buf *body)
{
	own_buf struct buf b = {0};
	size_t fields;

	bus_put_byte(&b, __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 'l' : 'B');
	bus_put_byte(&b, TYPE_CALL);
	bus_put_byte(&b, 0);
	bus_put_byte(&b, 1); /* the protocol's version */
	bus_put_u32(&b, body ? (uint32_t)body->len : 0);
	bus_put_u32(&b, ++bus->serial);
	fields = bus_begin_array(&b, 8);
	put_field(&b, FIELD_PATH, "o", path);
	put_field(&b, FIELD_DESTINATION, "s", bus->direct ? NULL : destination);
	put_field(&b, FIELD_INTERFACE, "s", interface);
	put_field(&b, FIELD_MEMBER, "s", member);
	put_field(&b, FIELD_SIGNATURE, "g", body ? signature : NULL);
	bus_end_array(&b, fields, 8);
	align(&b, 8);
	if (body != NULL)
		buf_add(&b, body->data, body->len);
	return fd_write_full(bus->sock, b.data, b.len);
}

static int explain(const struct message *m, const char *member, struct error *err)
{
	struct reader r = {m->body, m->body_len, 0};
	const char *name = m->texts[FIELD_ERROR_NAME], *text = NULL;
	int rc = -EIO;

	if (!str_eq(m->texts[FIELD_SIGNATURE], "s") || !read_string(&r, &text))
		text = name ? name : "failed";
	if (str_eq(name, SYSTEMD_NAME ".NoSuchUnit"))
		rc = -ENOENT;
	else if (str_eq(name, SYSTEMD_NAME ".UnitExists"))
		rc = -EEXIST;
	else if (str_eq(name, BUS_NAME ".Error.AccessDenied") ||
		 str_eq(name, BUS_NAME ".Error.InteractiveAuthorizationRequired"))
		rc = -EACCES;
	return refuse(err, rc, "systemd: %s: %s", member, text);
}

static char *first_text(const struct message *m)
{
	struct reader r = {m->body, m->body_len, 0};
	const char *signature = m->texts[FIELD_SIGNATURE], *text;

	if (signature != NULL && signature[0] == 'v' && !read_signature(&r, &signature))
		return NULL;
	if (signature == NULL || (signature[0] != 's' && signature[0] != 'o') ||
	    !read_string(&r, &text))
		return NULL;
	return str_copy(text);
}

static int call(struct bus *bus, const char *destination, const char *path, const char *interface,
		const char *member, const char *signature, const struct buf *body, char **ret_text,
		struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + TIMEOUT_MS * INT64_C(1000000);
	int rc = send_call(bus, destination, path, interface, member, signature, body);

	while (rc == 0) {
		own_message struct message m = {0};

		rc = receive_message(bus, deadline, &m);
		if (rc < 0)
			break;
		if (m.type == TYPE_SIGNAL)
			note_signal(bus, &m);
		if (m.reply_serial != bus->serial)
			continue;
		if (m.type == TYPE_ERROR)
			return explain(&m, member, err);
		if (ret_text != NULL)
			*ret_text = first_text(&m);
		return 0;
	}
	return fail(err, rc, "systemd: %s", member);
}

int bus_call(struct bus *bus, const char *interface, const char *member, const char *signature,
	     const struct buf *body, char **ret_text, struct error *err)
{
	return call(bus, SYSTEMD_NAME, SYSTEMD_PATH, interface, member, signature, body, ret_text,
		    err);
}

int bus_wait_job(struct bus *bus, const char *job, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + TIMEOUT_MS * INT64_C(1000000);

	for (;;) {
		own_message struct message m = {0};
		int rc;

		for (size_t i = 0; bus->jobs != NULL && bus->jobs[i] != NULL; i += 2)
			if (str_eq(bus->jobs[i], job))
				return str_eq(bus->jobs[i + 1], "done")
					       ? 0
					       : refuse(err, -EIO, "systemd: the job ended: %s",
							bus->jobs[i + 1]);
		rc = receive_message(bus, deadline, &m);
		if (rc < 0)
			return fail(err, rc, "systemd: wait for a job");
		if (m.type == TYPE_SIGNAL)
			note_signal(bus, &m);
	}
}

/* --- connecting --------------------------------------------------------------------------------- */

/* The identity is that of the socket's credentials: none is claimed, which also works from within a user
 * namespace, where our number is another one. All is said at once and answered before the first call, which
 * systemd would not notice if it came together with the end of this. */
static int authenticate(int sock)
{
	static const char hello[] = "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
	const int64_t deadline = clock_monotonic_ns() + TIMEOUT_MS * INT64_C(1000000);
	int rc = fd_write_full(sock, hello, sizeof(hello) - 1);

	/* Two lines: DATA, then OK with the server's id. */
	for (int line = 0; rc == 0 && line < 2; line++) {
		char text[LINE_MAX_] = "";
		size_t n = 0;

		while (rc == 0 && n < sizeof(text) - 1 && (n == 0 || text[n - 1] != '\n'))
			rc = receive(sock, &text[n++], 1, deadline);
		if (rc == 0 && str_after(text, line == 0 ? "DATA" : "OK") == NULL)
			rc = -EACCES;
	}
	return rc;
}

/* "unix:path=/x,guid=...": the path of the first such address. */
static char *address_path(const char *address)
{
	const char *path = address ? str_after(address, "unix:path=") : NULL;

	return path ? str_copy_n(path, strcspn(path, ",;")) : NULL;
}

static int connect_first(enum bus_kind kind, bool *ret_direct)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	const bool user = kind == BUS_USER;
	own_mem char *bus =
		address_path(getenv(user ? "DBUS_SESSION_BUS_ADDRESS" : "DBUS_SYSTEM_BUS_ADDRESS"));
	own_mem char *manager = NULL;
	int sock;

	if (user && str_empty(runtime) && bus == NULL)
		return -ENOENT;
	if (bus == NULL)
		bus = user ? str_format("%s/bus", runtime)
			   : str_copy("/run/dbus/system_bus_socket");
	manager = user ? str_format("%s/systemd/private", runtime ? runtime : "")
		       : str_copy("/run/systemd/private");
	sock = sock_connect(AT_FDCWD, bus, SOCK_STREAM);
	*ret_direct = sock < 0;
	return sock < 0 ? sock_connect(AT_FDCWD, manager, SOCK_STREAM) : sock;
}

static int subscribe(struct bus *bus, struct error *err)
{
	own_buf struct buf match = {0};
	int rc = 0;

	bus_put_string(&match, "type='signal',interface='" SYSTEMD_NAME ".Manager',"
			       "member='JobRemoved',path='" SYSTEMD_PATH "'");
	if (!bus->direct)
		rc = call(bus, BUS_NAME, "/org/freedesktop/DBus", BUS_NAME, "Hello", NULL, NULL,
			  NULL, err);
	if (rc == 0 && !bus->direct)
		rc = call(bus, BUS_NAME, "/org/freedesktop/DBus", BUS_NAME, "AddMatch", "s", &match,
			  NULL, err);
	return rc < 0 ? rc
		      : bus_call(bus, SYSTEMD_NAME ".Manager", "Subscribe", NULL, NULL, NULL, err);
}

int bus_open(enum bus_kind kind, struct bus **ret, struct error *err)
{
	own_bus struct bus *bus = mem_new(sizeof(*bus));
	int rc;

	bus->sock = connect_first(kind, &bus->direct);
	if (bus->sock < 0)
		return hint(err,
			    fail(err, bus->sock, "connect to systemd%s",
				 kind == BUS_USER ? " of the user" : ""),
			    "without systemd use --cgroup-manager cgroupfs");
	rc = authenticate(bus->sock);
	if (rc < 0)
		return fail(err, rc, "introduce ourselves to systemd");
	rc = subscribe(bus, err);
	if (rc == 0)
		*ret = take(bus);
	return rc;
}

void bus_close(struct bus *bus)
{
	if (bus == NULL)
		return;
	fd_close(&bus->sock);
	strv_free(bus->jobs);
	free(bus);
}
