/*
 * tty: terminals: raw mode that is always undone, window sizes, pseudo-terminals.
 */
#pragma once

#include <stdbool.h>
#include <termios.h>

#include "base/error.h"

/* The state of a terminal before tty_raw; restored by tty_restore. Set .fd to -1 at first. */
struct tty_state {
	int fd;
	struct termios before;
};
int tty_raw(int fd, struct tty_state *ret) must_check;
void tty_restore(struct tty_state *state);

struct tty_size {
	unsigned short rows, columns;
};
int tty_get_size(int fd, struct tty_size *ret) must_check;
int tty_set_size(int fd, struct tty_size size) must_check;
