/* frame: see frame.h. */
#include "guest/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

enum { HEAD = 4, PIECE = 64 << 10 };

static size_t length_of(const struct buf *data)
{
	const unsigned char *p = (const unsigned char *)data->data;

	return p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
}

/* How many bytes to ask for: up to the end of the message, or a piece of whatever there is. */
static size_t wanted(const struct frame_in *in)
{
	if (in->data.len < HEAD)
		return in->stop_after ? HEAD - in->data.len : PIECE;
	return in->stop_after ? HEAD + length_of(&in->data) - in->data.len : PIECE;
}

static int take_message(struct frame_in *in, json_t **ret)
{
	size_t len = length_of(&in->data), rest = in->data.len - HEAD - len;
	json_t *message = json_loadb(in->data.data + HEAD, len, JSON_REJECT_DUPLICATES, NULL);

	memmove(in->data.data, in->data.data + HEAD + len, rest);
	in->data.len = rest;
	if (!json_is_object(message)) {
		json_decref(message);
		return -EPROTO;
	}
	*ret = message;
	return 1;
}

static bool is_complete(const struct frame_in *in)
{
	return in->data.len >= HEAD && in->data.len - HEAD >= length_of(&in->data);
}

int frame_receive(struct frame_in *in, int fd, json_t **ret)
{
	while (!is_complete(in)) {
		size_t size;
		ssize_t n;

		if (in->data.len >= HEAD && length_of(&in->data) > FRAME_MAX)
			return -EPROTO;
		size = wanted(in);
		buf_reserve(&in->data, size);
		n = read(fd, in->data.data + in->data.len, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return n == 0 || errno == ECONNRESET ? -EPIPE : -errno;
		in->data.len += (size_t)n;
	}
	return length_of(&in->data) > FRAME_MAX ? -EPROTO : take_message(in, ret);
}

void frame_in_release(struct frame_in *in)
{
	buf_release(&in->data);
}

void frame_add(struct frame_out *out, const json_t *message)
{
	own_mem char *text = json_text(message);
	size_t len = strlen(text);
	const unsigned char head[HEAD] = {(unsigned char)len, (unsigned char)(len >> 8),
					  (unsigned char)(len >> 16), (unsigned char)(len >> 24)};

	buf_add(&out->data, head, sizeof(head));
	buf_add(&out->data, text, len);
}

int frame_flush(struct frame_out *out, int fd)
{
	while (out->sent < out->data.len) {
		ssize_t n = send(fd, out->data.data + out->sent, out->data.len - out->sent,
				 MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 1;
		if (n < 0)
			return errno == ECONNRESET ? -EPIPE : -errno;
		out->sent += (size_t)n;
	}
	buf_clear(&out->data);
	out->sent = 0;
	return 0;
}

void frame_out_release(struct frame_out *out)
{
	buf_release(&out->data);
}

int frame_send(int fd, const json_t *message)
{
	struct frame_out out = {0};
	int rc;

	frame_add(&out, message);
	rc = frame_flush(&out, fd);
	frame_out_release(&out);
	return rc > 0 ? -EAGAIN : rc;
}

json_t *frame_error(const struct error *err)
{
	json_t *o = json_object();

	json_object_set_new(o, "code", json_integer(err->code));
	json_object_set_new(o, "status", json_integer(err->exit_status));
	json_object_set_new(o, "text", json_from_string(err->text));
	json_object_set_new(o, "hint", json_from_string(err->hint));
	return o;
}

int frame_get_error(const json_t *message, struct error *err)
{
	const json_t *o = json_object_get(message, "error");
	json_int_t code = json_integer_value(json_object_get(o, "code"));
	json_int_t status = json_integer_value(json_object_get(o, "status"));
	const char *text = json_string_value(json_object_get(o, "text"));
	const char *advice = json_string_value(json_object_get(o, "hint"));
	int rc = code < 0 && code > -4096 ? (int)code : -EIO;

	if (o == NULL)
		return 0;
	rc = refuse(err, rc, "%s", text ? text : "the agent gives no reason");
	if (!str_empty(advice))
		rc = hint(err, rc, "%s", advice);
	return status > 0 && status < 256 ? exit_with(err, rc, (int)status) : rc;
}
