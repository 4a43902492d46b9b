/* oci_common: what the options of the group `berth oci` say to all of its commands. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/oci_priv.h"
#include "oci/config.h"
#include "oci/config_file.h"

/* As root of a user namespace we are an ordinary user outside, who cannot write to /run: so it is with
 * podman without privileges. */
static bool is_ordinary_user(void)
{
	own_mem char *map = NULL;
	unsigned int inside, outside;
	size_t len;

	return geteuid() != 0 ||
	       (file_read(AT_FDCWD, "/proc/self/uid_map", 4096, &map, &len, NULL) == 0 &&
		sscanf(map, "%u %u", &inside, &outside) == 2 && outside != 0);
}

char *oci_state_root(const struct args *args)
{
	const char *root = args_string(args, "root"), *run = getenv("XDG_RUNTIME_DIR");

	if (!str_empty(root))
		return root[0] == '/' ? str_copy(root) : realpath(root, NULL);
	if (!str_empty(run) && is_ordinary_user())
		return str_format("%s/berth/oci", run);
	return str_copy("/run/berth/oci");
}

/* The low numbers are for descriptors that are passed on to the container. */
static int out_of_the_way(int fd)
{
	enum { HIGH = 1000, MIDDLE = 200 };
	int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);

	if (high < 0)
		high = fcntl(fd, F_DUPFD_CLOEXEC, MIDDLE);
	if (high < 0)
		return fd;
	close(fd);
	return high;
}

int oci_read_document(const char *path, json_t **ret, struct error *err)
{
	/* Standard input may be what cannot be opened again: a socket, another user's pipe. */
	own_fd int fd = str_eq(path, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
					  : open(path, O_RDONLY | O_CLOEXEC);
	own_mem char *text = NULL;
	size_t len;
	int rc = fd < 0 ? -errno : fd_read_all(fd, CONFIG_FILE_MAX, &text, &len);

	return rc < 0 ? fail(err, rc, "read %s", path)
		      : config_read_text(text, len, path, ret, err);
}

int oci_begin(const struct args *args, struct error *err)
{
	const char *path = args_string(args, "log");
	const bool json = strcmp(args_string(args, "log-format"), "json") == 0;
	const bool debug = args_flag(args, "debug");
	enum log_format format = json                        ? LOG_FORMAT_JSON
				 : str_empty(path) && !debug ? LOG_FORMAT_PLAIN
							     : LOG_FORMAT_TEXT;
	int fd = STDERR_FILENO;

	if (!str_empty(path)) {
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (fd < 0)
			return fail(err, -errno, "open log %s", path);
		fd = out_of_the_way(fd);
	}
	/* The descriptor belongs to the log until the program ends. */
	log_setup(debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, format, fd);
	return 0;
}

int oci_end(const struct args *args, int rc, struct error *err)
{
	if (rc < 0 && err != NULL && !str_empty(args_string(args, "log")))
		dprintf(STDERR_FILENO, "%s\n", err->text);
	return rc;
}

enum oci_cgroup_manager oci_manager(const struct args *args)
{
	const char *manager = args_string(args, "cgroup-manager");

	if (args_flag(args, "systemd-cgroup") || str_eq(manager, "systemd"))
		return OCI_CGROUP_SYSTEMD;
	return str_eq(manager, "disabled") ? OCI_CGROUP_NONE : OCI_CGROUPFS;
}

const char *oci_notify_socket(void)
{
	return getenv("NOTIFY_SOCKET");
}
