/* tty: see tty.h. */
#include "base/tty.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

int tty_raw(int fd, struct tty_state *ret)
{
	struct termios raw;

	if (tcgetattr(fd, &ret->before) < 0)
		return -errno;
	raw = ret->before;
	cfmakeraw(&raw);
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0)
		return -errno;
	ret->fd = fd;
	return 0;
}

void tty_restore(struct tty_state *state)
{
	if (state->fd >= 0)
		tcsetattr(state->fd, TCSADRAIN, &state->before);
	state->fd = -1;
}

int tty_get_size(int fd, struct tty_size *ret)
{
	struct winsize size;

	if (ioctl(fd, TIOCGWINSZ, &size) < 0)
		return -errno;
	*ret = (struct tty_size){.rows = size.ws_row, .columns = size.ws_col};
	return 0;
}

int tty_set_size(int fd, struct tty_size size)
{
	struct winsize ws = {.ws_row = size.rows, .ws_col = size.columns};

	return ioctl(fd, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}
