/* vmm_devices: see vmm_devices.h. */
#include "cli/vmm_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sock.h"
#include "base/str.h"
#include "base/tty.h"

enum {
	CID_DEFAULT = 3,
	/* A guest's connection goes to PATH_N, which must fit into a socket's address. */
	VSOCK_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof("_4294967295"),
};

int vmm_listen(const char *path, int *ret_fd, struct error *err)
{
	own_fd int other = sock_connect(AT_FDCWD, path, SOCK_STREAM | SOCK_NONBLOCK);
	int fd;

	if (other >= 0 || other == -EAGAIN)
		return hint(err, refuse(err, -EADDRINUSE, "somebody listens on %s", path),
			    "give each machine a path of its own");
	fd = sock_listen(AT_FDCWD, path, SOCK_STREAM | SOCK_NONBLOCK);
	if (fd == -EADDRINUSE)
		return hint(err, refuse(err, fd, "%s exists and is no socket", path),
			    "name a path where nothing is yet");
	if (fd < 0)
		return fail(err, fd, "listen on %s", path);
	*ret_fd = fd;
	return 0;
}

/* PATH[,cid=N] */
static int open_vsock(const char *text, struct vmm_devices *devices, struct error *err)
{
	own_strv char **words = strv_split(text, ',');
	uint64_t cid = CID_DEFAULT;
	int rc;

	if (strv_len(words) < 1 || !*words[0])
		return refuse(err, -EINVAL, "--vsock \"%s\" names no socket", text);
	for (char **word = words + 1; *word; word++) {
		const char *value = str_after(*word, "cid=");

		if (!value || str_to_uint(value, UINT32_MAX - 1, &cid) < 0 || cid < CID_DEFAULT)
			return hint(err,
				    refuse(err, -EINVAL, "--vsock does not know \"%s\"", *word),
				    "it takes PATH,cid=N with N from 3 to 4294967294");
	}
	if (strlen(words[0]) > VSOCK_PATH_MAX)
		return refuse(err, -ENAMETOOLONG, "the path of --vsock is longer than %d bytes: %s",
			      VSOCK_PATH_MAX, words[0]);
	rc = vmm_listen(words[0], &devices->vsock.listen_fd, err);
	if (rc < 0)
		return rc;
	devices->vsock_path = str_copy(words[0]);
	devices->vsock.cid = cid;
	devices->vsock.path = devices->vsock_path;
	devices->vsock.broker_fd = -1;
	return 0;
}

/* GUEST:HOST:COUNT, a range of ids. */
static int parse_range(const char *text, struct share_map *ret)
{
	own_strv char **words = strv_split(text, ':');
	uint64_t numbers[3];

	if (strv_len(words) != 3 || ret->count == SHARE_MAP_RANGES_MAX)
		return -EINVAL;
	for (unsigned int i = 0; i < 3; i++)
		if (str_to_uint(words[i], UINT32_MAX - 1, &numbers[i]) < 0)
			return -EINVAL;
	if (numbers[2] == 0 || numbers[0] + numbers[2] > UINT32_MAX ||
	    numbers[1] + numbers[2] > UINT32_MAX)
		return -EINVAL;
	ret->ranges[ret->count++] = (struct share_range){.guest = (uint32_t)numbers[0],
							 .host = (uint32_t)numbers[1],
							 .count = (uint32_t)numbers[2]};
	return 0;
}

static int parse_share_option(const char *word, struct machine_share *ret)
{
	const char *tag = str_after(word, "tag="), *cache = str_after(word, "cache="),
		   *users = str_after(word, "uidmap="), *groups = str_after(word, "gidmap=");

	if (str_eq(word, "ro"))
		ret->read_only = true;
	else if (tag && *tag && strlen(tag) <= SHARE_TAG_MAX)
		ret->tag = tag;
	else if (str_eq(cache, "auto"))
		ret->cache = SHARE_CACHE_AUTO;
	else if (str_eq(cache, "none"))
		ret->cache = SHARE_CACHE_NONE;
	else if (str_eq(cache, "always"))
		ret->cache = SHARE_CACHE_ALWAYS;
	else if (users)
		return parse_range(users, &ret->users);
	else if (groups)
		return parse_range(groups, &ret->groups);
	else
		return -EINVAL;
	return 0;
}

/* DIR[,tag=TAG][,ro][,cache=..][,uidmap=..][,gidmap=..]. The words stay in `devices`. */
static int open_share(const char *text, unsigned int i, struct vmm_devices *devices,
		      struct error *err)
{
	struct machine_share *share = &devices->shares[i];
	char **words = strv_split(text, ',');
	struct stat st;

	*share = (struct machine_share){.fd = -1};
	devices->share_words[i] = words;
	devices->share_count = i + 1;
	if (strv_len(words) < 1 || !*words[0])
		return refuse(err, -EINVAL, "--share \"%s\" names no directory and no file", text);
	share->path = words[0];
	for (char **word = words + 1; *word; word++)
		if (parse_share_option(*word, share) < 0)
			return hint(err,
				    refuse(err, -EINVAL, "--share does not know \"%s\"", *word),
				    "it takes DIR or FILE, tag=NAME (1 to %d bytes), ro, "
				    "cache=auto|none|always, uidmap= and gidmap=GUEST:HOST:COUNT",
				    SHARE_TAG_MAX);
	if (!share->tag) {
		char *tag = str_format("share%u", i);

		strv_push_take(&devices->share_words[i], tag);
		share->path = devices->share_words[i][0];
		share->tag = tag;
	}
	for (unsigned int other = 0; other < i; other++)
		if (str_eq(devices->shares[other].tag, share->tag))
			return hint(
				err,
				refuse(err, -EEXIST, "two shares have the tag \"%s\"", share->tag),
				"give each --share a tag= of its own");
	share->fd = open(share->path, O_PATH | O_CLOEXEC);
	if (share->fd < 0 || fstat(share->fd, &st) < 0)
		return fail(err, -errno, "share %s", share->path);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return refuse(err, -EINVAL, "%s is neither a directory nor a file", share->path);
	return 0;
}

/* Every file that the guest knows is a descriptor here. */
static void allow_many_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int open_shares(char *const *texts, struct vmm_devices *devices, struct error *err)
{
	size_t count = strv_len(texts);
	int rc = 0;

	if (count == 0)
		return 0;
	allow_many_files();
	devices->shares = mem_new_array(count, sizeof(*devices->shares));
	devices->share_words = mem_new_array(count, sizeof(*devices->share_words));
	for (unsigned int i = 0; i < count && rc == 0; i++)
		rc = open_share(texts[i], i, devices, err);
	return rc;
}

int vmm_open_terminal(const char *what, int *ret_fd, int *ret_other_fd, struct error *err)
{
	own_fd int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), other = -1;
	struct tty_state before;
	char path[64];
	int rc;

	if (fd < 0 || grantpt(fd) < 0 || unlockpt(fd) < 0 || ptsname_r(fd, path, sizeof(path)) != 0)
		return fail(err, -errno, "make a pseudo terminal for the %s", what);
	other = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (other < 0)
		return fail(err, -errno, "open %s", path);
	/* Else what the guest writes would come back to it as if it had been typed. */
	rc = tty_raw(other, &before);
	if (rc < 0)
		return fail(err, rc, "set up %s", path);
	fprintf(stderr, "berth: the %s is %s\n", what, path);
	*ret_fd = take(fd);
	*ret_other_fd = take(other);
	return 0;
}

static int open_port_terminal(struct machine_port *port, struct vmm_port_end *end,
			      struct error *err)
{
	own_mem char *what = str_format("port %s", port->name);

	port->is_terminal = true;
	return vmm_open_terminal(what, &port->fd, &end->terminal_fd, err);
}

/* NAME=socket:PATH, NAME=file:FILE or NAME=pty */
static int open_port(const char *text, struct machine_port *port, struct vmm_port_end *end,
		     struct error *err)
{
	const char *where = strchr(text, '='), *socket, *file;

	*port = (struct machine_port){.listen_fd = -1, .fd = -1};
	*end = (struct vmm_port_end){.terminal_fd = -1};
	where = where ? where + 1 : "";
	socket = str_after(where, "socket:");
	file = str_after(where, "file:");
	if (where - text < 2 || !((socket && *socket) || (file && *file) || str_eq(where, "pty")))
		return hint(err, refuse(err, -EINVAL, "--port does not know \"%s\"", text),
			    "it takes NAME=socket:PATH, NAME=file:FILE or NAME=pty");
	end->name = str_copy_n(text, (size_t)(where - text - 1));
	port->name = end->name;
	if (socket) {
		int rc = vmm_listen(socket, &port->listen_fd, err);

		if (rc == 0)
			end->socket_path = str_copy(socket);
		return rc;
	}
	if (!file)
		return open_port_terminal(port, end, err);
	port->fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC, 0644);
	return port->fd < 0 ? fail(err, -errno, "open %s", file) : 0;
}

static int open_ports(char *const *texts, struct vmm_devices *devices, struct error *err)
{
	size_t count = strv_len(texts);
	int rc = 0;

	if (count == 0)
		return 0;
	devices->ports = mem_new_array(count, sizeof(*devices->ports));
	devices->port_ends = mem_new_array(count, sizeof(*devices->port_ends));
	for (unsigned int i = 0; i < count && rc == 0; i++) {
		rc = open_port(texts[i], &devices->ports[i], &devices->port_ends[i], err);
		for (unsigned int other = 0; rc == 0 && other < i; other++)
			if (str_eq(devices->ports[other].name, devices->ports[i].name))
				rc = refuse(err, -EEXIST, "two ports have the name \"%s\"",
					    devices->ports[i].name);
		devices->port_count = i + 1;
	}
	return rc;
}

int vmm_devices_open(const struct args *args, struct vmm_devices *ret,
		     struct machine_config *config, struct error *err)
{
	const char *vsock = args_string(args, "vsock");
	int rc = vsock ? open_vsock(vsock, ret, err) : 0;

	if (rc == 0)
		rc = open_shares(args_list(args, "share"), ret, err);
	if (rc == 0)
		rc = open_ports(args_list(args, "port"), ret, err);
	if (rc < 0)
		return rc;
	config->vsock = vsock ? &ret->vsock : NULL;
	config->ports = ret->ports;
	config->port_count = ret->port_count;
	config->shares = ret->shares;
	config->share_count = ret->share_count;
	return 0;
}

void vmm_devices_release(struct vmm_devices *devices)
{
	fd_close(&devices->vsock.listen_fd);
	fd_close(&devices->vsock.broker_fd);
	if (devices->vsock_path)
		unlink(devices->vsock_path);
	own_mem_release(&devices->vsock_path);
	for (unsigned int i = 0; i < devices->share_count; i++) {
		fd_close(&devices->shares[i].fd);
		strv_free(devices->share_words[i]);
	}
	for (unsigned int i = 0; i < devices->port_count; i++) {
		struct vmm_port_end *end = &devices->port_ends[i];

		fd_close(&devices->ports[i].listen_fd);
		fd_close(&devices->ports[i].fd);
		fd_close(&end->terminal_fd);
		if (end->socket_path)
			unlink(end->socket_path);
		own_mem_release(&end->socket_path);
		own_mem_release(&end->name);
	}
	own_mem_release(&devices->ports);
	own_mem_release(&devices->port_ends);
	own_mem_release(&devices->shares);
	own_mem_release(&devices->share_words);
}
