/* terminal: see terminal.h. */
#include "oci/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/sock.h"
#include "base/str.h"

/* The multiplexer: a character device 5:2 on devpts, whatever its path says. */
static int open_multiplexer(int root_fd, struct error *err)
{
	own_fd int fd = beneath_open(root_fd, "dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
	struct stat st;
	struct statfs fs;

	if (fd < 0)
		fd = beneath_open(root_fd, "dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
	if (fd < 0)
		return fail(err, fd, "open /dev/ptmx in the container");
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return fail(err, -errno, "look at /dev/ptmx");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2) || fs.f_type != DEVPTS_SUPER_MAGIC)
		return hint(err,
			    refuse(err, -ENODEV,
				   "/dev/ptmx in the container is not a terminal "
				   "multiplexer"),
			    "the configuration needs a mount of type devpts on /dev/pts");
	if (fcntl(fd, F_SETFL, O_RDWR) < 0)
		return fail(err, -errno, "set up the terminal");
	return take(fd);
}

int terminal_open(int root_fd, const struct config_process *p, int *ret_master, int *ret_slave,
		  struct error *err)
{
	own_fd int master = open_multiplexer(root_fd, err), slave = -1;
	int unlock = 0;

	if (master < 0)
		return master;
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return fail(err, -errno, "unlock the terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return fail(err, -errno, "open the terminal");
	if (p->console_rows != 0 || p->console_columns != 0) {
		struct winsize size = {.ws_row = p->console_rows, .ws_col = p->console_columns};

		if (ioctl(master, TIOCSWINSZ, &size) < 0)
			return fail(err, -errno, "process.consoleSize");
	}
	*ret_master = take(master);
	*ret_slave = take(slave);
	return 0;
}

int terminal_keep_newlines(int slave)
{
	struct termios modes;

	if (tcgetattr(slave, &modes) < 0)
		return -errno;
	modes.c_oflag &= ~(tcflag_t)ONLCR;
	return tcsetattr(slave, TCSANOW, &modes) < 0 ? -errno : 0;
}

int terminal_attach(int slave, struct error *err)
{
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return fail(err, -errno, "make the terminal the controlling one");
	for (int fd = 0; fd < 3; fd++)
		if (dup2(slave, fd) < 0)
			return fail(err, -errno, "use the terminal");
	return 0;
}

int terminal_send(const char *path, int master, struct error *err)
{
	/* Other runtimes send the name; readers show it at most. */
	static const char name[] = "/dev/ptmx";
	own_fd int sock = sock_connect(AT_FDCWD, path, SOCK_STREAM);
	int rc = sock < 0 ? sock : sock_send_fds(sock, name, sizeof(name) - 1, &master, 1);

	return rc < 0 ? fail(err, rc, "send the terminal to console socket %s", path) : 0;
}
