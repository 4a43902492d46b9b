/*
 * vsock_broker: makes the connections that a guest wants, for a machine whose jail has no paths. It runs
 * in a process of its own, outside of the jail, which blocks in one receive.
 */
#pragma once

#include "base/error.h"

/* Answers VSOCK_MESSAGE_CONNECT (virtio/devices.h) on the SOCK_SEQPACKET socket `fd`: port N is the Unix
 * socket `path`_N. Returns 0 when the other end is closed, else -errno. */
int vsock_broker_serve(int fd, const char *path) must_check;
