/* vmm_devices: see vmm_devices.h. */
#include "cli/vmm_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sock.h"
#include "base/str.h"

enum {
	CID_DEFAULT = 3,
	/* A guest's connection goes to PATH_N, which must fit into a socket's address. */
	VSOCK_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof("_4294967295"),
};

/* A socket that somebody listens on is somebody's; one that was left behind is replaced. */
static int listen_vsock(const char *path, int *ret_fd, struct error *err)
{
	own_fd int other = sock_connect(AT_FDCWD, path, SOCK_STREAM | SOCK_NONBLOCK);

	if (other >= 0 || other == -EAGAIN)
		return hint(err, refuse(err, -EADDRINUSE, "somebody listens on %s", path),
			    "give each machine a --vsock path of its own");
	*ret_fd = sock_listen(AT_FDCWD, path, SOCK_STREAM | SOCK_NONBLOCK);
	return *ret_fd < 0 ? fail(err, *ret_fd, "listen on %s", path) : 0;
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
	rc = listen_vsock(words[0], &devices->vsock.listen_fd, err);
	if (rc < 0)
		return rc;
	devices->vsock_path = str_copy(words[0]);
	devices->vsock.cid = cid;
	devices->vsock.path = devices->vsock_path;
	devices->vsock.broker_fd = -1;
	return 0;
}

int vmm_devices_open(const struct args *args, struct vmm_devices *ret,
		     struct machine_config *config, struct error *err)
{
	const char *vsock = args_string(args, "vsock");

	if (vsock) {
		int rc = open_vsock(vsock, ret, err);

		if (rc < 0)
			return rc;
		config->vsock = &ret->vsock;
	}
	return 0;
}

void vmm_devices_release(struct vmm_devices *devices)
{
	fd_close(&devices->vsock.listen_fd);
	fd_close(&devices->vsock.broker_fd);
	if (devices->vsock_path)
		unlink(devices->vsock_path);
	own_mem_release(&devices->vsock_path);
}
