/*
 * channel: what a command and a monitor say to each other.
 *
 * A connection is a SOCK_SEQPACKET Unix socket: the command that starts a workload hands its monitor
 * one end of a pair; later ones connect to <state>/<id>/monitor.sock (mode 0600, in a directory that
 * only the owner can enter). A packet is a head and up to CHANNEL_PAYLOAD_MAX bytes:
 *
 *     0        4        8        12       16
 *     | type   | arg    | arg2   | 0      | payload ...
 *
 * Both ends are the same program file, so numbers have the host's form, and there is a version only
 * in the monitor's order (handover.h).
 *
 * A connection begins with one request (ATTACH, EXEC, WAIT, SIGNAL, STOP, RESIZE). Data then flows
 * under the socket's own flow control: a monitor that cannot get rid of a workload's output to a
 * command that started it in the foreground stops reading it, as a pipe would, until it is asked to
 * stop the workload.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

enum { CHANNEL_PAYLOAD_MAX = 32 << 10 };

enum channel_type {
	/* requests */
	CHANNEL_ATTACH = 1, /* arg: enum workload_attach_flags */
	CHANNEL_EXEC,       /* arg: attach flags, arg2: enum channel_exec_flags; one descriptor: the
			     * process as JSON */
	CHANNEL_WAIT,       /* arg: 1: the next exit, also if it will be restarted */
	CHANNEL_SIGNAL,     /* arg: the signal; without an answer on an attached connection */
	CHANNEL_STOP, /* arg: the signal, arg2: milliseconds until SIGKILL, UINT32_MAX: never */
	/* on an attached connection, to the monitor */
	CHANNEL_STDIN,     /* payload */
	CHANNEL_STDIN_END, /* no more will come */
	CHANNEL_RESIZE,    /* arg: rows, arg2: columns */
	CHANNEL_BREAK,     /* arg: 1 or 2: its reader is gone; only from who started the session */
	/* from the monitor */
	CHANNEL_STARTED, /* arg: the pid */
	CHANNEL_OUTPUT,  /* arg: 1 or 2; payload */
	CHANNEL_EXIT, /* arg: the exit code; payload: why, if that does not say it; the last packet */
	CHANNEL_OK,   /* the request is carried out */
	CHANNEL_ERROR, /* payload: struct error; the last packet */
};

enum channel_exec_flags {
	CHANNEL_EXEC_TTY = 1,
	CHANNEL_EXEC_STDIN = 2,
};

struct packet {
	uint32_t type; /* enum channel_type */
	uint32_t arg, arg2;
	uint32_t zero;
	char payload[CHANNEL_PAYLOAD_MAX];
};
enum { PACKET_HEAD = offsetof(struct packet, payload) };

/* Sends a packet with `len` bytes of payload (in packet->payload). With `wait` false -EAGAIN if there
 * is no room. -EPIPE, -ECONNRESET: nobody is there. */
int channel_send(int fd, const struct packet *packet, size_t len, bool wait) must_check;
/* Sends a packet without payload. */
int channel_send_head(int fd, enum channel_type type, uint32_t arg, uint32_t arg2,
		      bool wait) must_check;
/* Never waits. */
int channel_send_error(int fd, const struct error *why) must_check;
/* Receives one. Returns the length of the payload, -EPIPE at the end, -EAGAIN, -EPROTO. */
ssize_t channel_receive(int fd, struct packet *ret) must_check;
/* What a CHANNEL_ERROR packet with `len` bytes of payload says, in `err`. Returns its code, -EPROTO. */
int channel_error(const struct packet *packet, size_t len, struct error *err) must_check;
