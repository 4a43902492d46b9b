/*
 * net_device: interfaces of the host's that become a container's (linux.netDevices).
 *
 * The kernel takes the addresses off an interface that changes its namespace: permanent global ones are
 * added again there. The rest (MTU, hardware address) stays. When the container's namespace ends, an
 * interface of hardware returns to the host by itself.
 */
#pragma once

#include "base/error.h"
#include "oci/config.h"

/* Moves all of them to the network namespace `ns_fd` (of a namespace, or a pidfd of a process in it),
 * and brings them up under their new names. The calling thread visits the namespace meanwhile. Errors name
 * the field. Those moved before a failure go the way of their namespace. */
int net_devices_move(const struct config_linux *l, int ns_fd, struct error *err) must_check;
