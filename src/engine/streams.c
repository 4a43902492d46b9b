/* streams: see streams.h. */
#include "engine/streams.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sock.h"
#include "base/str.h"
#include "base/tty.h"
#include "engine/channel.h"
#include "engine/detach_keys.h"

/* As much as a pipe or terminal that polls as writable takes without blocking. */
enum { WRITE_MAX = 4096 };

struct carry {
	struct streams *streams;
	int signal_fd;
	struct tty_state raw;
	struct detach_keys keys;
	bool stdin_open;
	bool broken[3]; /* the user's stdout or stderr takes nothing any more */
	/* to the user: one packet of output, partly written */
	struct packet *in;
	size_t in_len, in_at;
	int in_fd; /* where it goes, -1: nothing is pending */
	/* to the monitor: one packet of input that it had no room for */
	struct packet *out;
	size_t out_len;
	bool out_pending;
	bool detached;
	bool ended;
	int exit_code;
	char *reason; /* of the end, or NULL */
};

static const struct workload_stdio *stdio_of(const struct carry *c)
{
	return c->streams->stdio;
}

/* --- to the monitor --------------------------------------------------------------------------------- */

static int send_pending(struct carry *c)
{
	int rc = channel_send(c->streams->channel_fd, c->out, c->out_len, false);

	if (rc == -EAGAIN) {
		c->out_pending = true;
		return 0;
	}
	c->out_pending = false;
	/* A monitor that is gone is noticed where its packets are read. */
	return 0;
}

static int send_input(struct carry *c, enum channel_type type, size_t len)
{
	c->out->type = type;
	c->out->arg = c->out->arg2 = c->out->zero = 0;
	c->out_len = len;
	return send_pending(c);
}

static int read_input(struct carry *c)
{
	char typed[CHANNEL_PAYLOAD_MAX - DETACH_KEYS_MAX];
	ssize_t n = read(stdio_of(c)->fds[0], typed, sizeof(typed));
	size_t len;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		c->stdin_open = false;
		return send_input(c, CHANNEL_STDIN_END, 0);
	}
	c->detached = detach_keys_filter(&c->keys, typed, (size_t)n, c->out->payload, &len);
	return len ? send_input(c, CHANNEL_STDIN, len) : 0;
}

static void send_size(struct carry *c)
{
	struct tty_size size;
	int rc = tty_get_size(stdio_of(c)->fds[0], &size);

	if (rc < 0)
		rc = tty_get_size(stdio_of(c)->fds[1], &size);
	if (rc < 0)
		return;
	/* No room: the monitor has much input to take; the next change will tell. */
	rc = channel_send_head(c->streams->channel_fd, CHANNEL_RESIZE, size.rows, size.columns,
			       false);
	(void)rc;
}

static int take_signal(struct carry *c)
{
	struct signalfd_siginfo info;
	int rc = 0;

	if (read(c->signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	if (info.ssi_signo == SIGWINCH) {
		if (c->streams->tty)
			send_size(c);
		return 0;
	}
	if (c->streams->forward_signals)
		rc = channel_send_head(c->streams->channel_fd, CHANNEL_SIGNAL, info.ssi_signo, 0,
				       true);
	return rc == -EPIPE || rc == -ECONNRESET ? 0 : rc;
}

/* --- to the user ------------------------------------------------------------------------------------ */

/* The reader is gone. */
static void broke(struct carry *c, int stream)
{
	int rc = 0;

	c->broken[stream] = true;
	c->in_fd = -1;
	if (c->streams->foreground)
		rc = channel_send_head(c->streams->channel_fd, CHANNEL_BREAK, (uint32_t)stream, 0,
				       true);
	(void)rc;
}

static void write_output(struct carry *c)
{
	size_t len = c->in_len - c->in_at;
	ssize_t n = write(c->in_fd, c->in->payload + c->in_at, len > WRITE_MAX ? WRITE_MAX : len);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) {
		broke(c, (int)c->in->arg);
		return;
	}
	c->in_at += (size_t)n;
	if (c->in_at == c->in_len)
		c->in_fd = -1;
}

static int take_packet(struct carry *c, struct error *err)
{
	struct streams *s = c->streams;
	ssize_t n = channel_receive(s->channel_fd, c->in);

	if (n == -EAGAIN)
		return 0;
	if (n < 0)
		return refuse(err, -EPIPE, "its monitor ended unexpectedly");
	switch ((enum channel_type)c->in->type) {
	case CHANNEL_OUTPUT:
		if (c->in->arg < 1 || c->in->arg > 2 || c->broken[c->in->arg])
			return 0;
		c->in_fd = stdio_of(c)->fds[c->in->arg];
		c->in_len = (size_t)n;
		c->in_at = 0;
		return 0;
	case CHANNEL_STARTED:
		if (s->tty)
			send_size(c);
		return s->on_started ? s->on_started(s->data, err) : 0;
	case CHANNEL_EXIT:
		c->ended = true;
		c->exit_code = (int)c->in->arg;
		c->reason = n > 0 ? str_copy_n(c->in->payload, (size_t)n) : NULL;
		return 0;
	case CHANNEL_ERROR:
		return channel_error(c->in, (size_t)n, err);
	default:
		return 0;
	}
}

/* --- the loop --------------------------------------------------------------------------------------- */

enum { ON_CHANNEL, ON_STDIN, ON_OUTPUT, ON_SIGNAL, ON_COUNT };

static int carry_on(struct carry *c, struct error *err)
{
	struct pollfd polls[ON_COUNT] = {
		[ON_CHANNEL] = {.fd = c->streams->channel_fd},
		[ON_STDIN] = {.fd = -1, .events = POLLIN},
		[ON_OUTPUT] = {.fd = c->in_fd, .events = POLLOUT},
		[ON_SIGNAL] = {.fd = c->signal_fd, .events = POLLIN},
	};
	int rc = 0;

	if (c->in_fd < 0)
		polls[ON_CHANNEL].events |= POLLIN;
	if (c->out_pending)
		polls[ON_CHANNEL].events |= POLLOUT;
	else if (c->stdin_open)
		polls[ON_STDIN].fd = stdio_of(c)->fds[0];
	/* With output pending the end of the connection would wake us for nothing. */
	if (polls[ON_CHANNEL].events == 0)
		polls[ON_CHANNEL].fd = -1;
	if (poll(polls, ON_COUNT, -1) < 0)
		return errno == EINTR ? 0 : fail(err, -errno, "poll");
	if (polls[ON_SIGNAL].revents)
		rc = take_signal(c);
	if (rc == 0 && polls[ON_OUTPUT].revents)
		write_output(c);
	if (rc == 0 && polls[ON_CHANNEL].revents & POLLOUT && c->out_pending)
		rc = send_pending(c);
	if (rc == 0 && polls[ON_STDIN].revents)
		rc = read_input(c);
	if (rc == 0 && c->in_fd < 0 && polls[ON_CHANNEL].revents & (POLLIN | POLLHUP | POLLERR))
		rc = take_packet(c, err);
	return rc;
}

/* All that can be caught and mean something to a workload; stops and continues are for us. */
static void signals_to_take(sigset_t *set)
{
	static const int kept[] = {SIGCHLD, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGURG,
				   SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGABRT, SIGTRAP, SIGSYS};

	sigfillset(set);
	for (size_t i = 0; i < array_size(kept); i++)
		sigdelset(set, kept[i]);
}

static int begin(struct carry *c, sigset_t *before, struct error *err)
{
	const struct workload_stdio *io = stdio_of(c);
	sigset_t set;
	int rc;

	c->in = mem_new(sizeof(*c->in));
	c->out = mem_new(sizeof(*c->out));
	c->in_fd = c->raw.fd = -1;
	c->stdin_open = (io->flags & WORKLOAD_ATTACH_STDIN) != 0;
	if (c->streams->tty) {
		const char *keys = io->detach_keys ? io->detach_keys : DETACH_KEYS_DEFAULT;

		rc = detach_keys_parse(keys, &c->keys, err);
		if (rc < 0)
			return rc;
	}
	signals_to_take(&set);
	if (!c->streams->forward_signals) {
		sigemptyset(&set);
		sigaddset(&set, SIGWINCH);
	}
	sigprocmask(SIG_BLOCK, &set, before);
	signal(SIGPIPE, SIG_IGN);
	c->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (c->signal_fd < 0)
		return fail(err, -errno, "receive signals");
	if (c->streams->tty && c->stdin_open && isatty(io->fds[0])) {
		rc = tty_raw(io->fds[0], &c->raw);
		if (rc < 0)
			return fail(err, rc, "switch the terminal to raw mode");
	}
	if (c->streams->tty && c->streams->started)
		send_size(c);
	return 0;
}

static void end(struct carry *c, const sigset_t *before)
{
	tty_restore(&c->raw);
	fd_close(&c->signal_fd);
	sigprocmask(SIG_SETMASK, before, NULL);
	free(c->in);
	free(c->out);
}

int streams_run(struct streams *streams, struct error *err)
{
	struct carry c = {.streams = streams, .signal_fd = -1, .in_fd = -1};
	sigset_t before;
	int rc;

	sigprocmask(SIG_BLOCK, NULL, &before);
	rc = begin(&c, &before, err);
	while (rc == 0 && !c.ended && !c.detached)
		rc = carry_on(&c, err);
	end(&c, &before);
	/* The terminal is as it was again. */
	if (c.reason != NULL)
		log_error("\"%s\" ended: %s", streams->name, c.reason);
	free(c.reason);
	if (rc < 0)
		return rc;
	return c.detached ? 0 : c.exit_code;
}

/* --- requests ---------------------------------------------------------------------------------------- */

int streams_connect(struct engine *engine, const struct workload *workload, struct error *err)
{
	own_mem char *path = str_format("%s/monitor.sock", workload->id);
	int fd = sock_connect(engine->state_fd, path, SOCK_SEQPACKET);

	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return refuse(err, -ESRCH, "container not running");
	return fd < 0 ? fail(err, fd, "connect to the monitor of \"%s\"", workload->name) : fd;
}

int streams_answer(int channel_fd, int *ret_exit_code, struct error *err)
{
	struct streams streams = {.channel_fd = channel_fd};
	struct carry c = {.streams = &streams, .in = mem_new(sizeof(*c.in))};
	own_mem struct packet *packet = c.in;
	ssize_t n = channel_receive(channel_fd, packet);

	if (n < 0)
		return refuse(err, -EPIPE, "its monitor ended unexpectedly");
	if (packet->type == CHANNEL_ERROR)
		return channel_error(c.in, (size_t)n, err);
	if (packet->type == CHANNEL_EXIT && ret_exit_code != NULL)
		*ret_exit_code = (int)packet->arg;
	return 0;
}
