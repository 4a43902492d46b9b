/*
 * control: the control socket of a machine: requests and replies in JSON, one per line. docs/vm.md has
 * the protocol.
 *
 * Whoever may connect may end the machine, but not harm the host by it: a request is at most
 * CONTROL_LINE_MAX bytes, at most CONTROL_CLIENTS_MAX clients are served (the one that has been silent
 * longest makes room), replies wait for a slow reader without holding up anybody. On the device thread.
 */
#pragma once

#include "base/error.h"

enum { CONTROL_LINE_MAX = 16 << 10, CONTROL_CLIENTS_MAX = 16 };

struct machine;
struct control;

/* Serves the listening socket `fd`, which stays the caller's. */
int control_create(struct machine *machine, int fd, struct control **ret) must_check;
void control_destroy(struct control *control);
