/* vmm_devices: the options of `berth vmm run` that are devices with something to set up and to take
 * away again. */
#pragma once

#include "cli/args.h"
#include "vmm/machine/machine.h"

/* What the options of a machine take, for `berth vmm run` and for run --vm alike. */
#define VM_ACCEL "auto|kvm|soft"
#define VM_ACCEL_DEFAULT "auto"
#define VM_DISK "FILE[,ro][,format=raw|qcow2][,backing=any]"
#define VM_FIRMWARE "bios|uefi|FILE"

/* What of a port's host side has to be taken away, or to stay open. */
struct vmm_port_end {
	char *name, *socket_path;
	int terminal_fd; /* the other side of a pseudo terminal: without it there is none */
};

struct vmm_devices {
	struct machine_vsock vsock;
	char *vsock_path; /* where the listening socket is */
	unsigned int port_count;
	struct machine_port *ports;
	struct vmm_port_end *port_ends;
	unsigned int share_count;
	struct machine_share *shares;
	char ***share_words; /* what the shares' strings are part of */
};

/* Listens at a path. A socket that somebody listens on is somebody's; one that was left behind is replaced. */
int vmm_listen(const char *path, int *ret_fd, struct error *err) must_check;

/* Makes a pseudo terminal and says on standard error what it is called: "the WHAT is /dev/pts/N". It lasts while
 * its other side is open, too. */
int vmm_open_terminal(const char *what, int *ret_fd, int *ret_other_fd,
		      struct error *err) must_check;

/* Reads the options and opens what they name; `config` then refers to `ret`. On failure nothing is left
 * but what vmm_devices_release takes away. */
int vmm_devices_open(const struct args *args, struct vmm_devices *ret,
		     struct machine_config *config, struct error *err) must_check;
/* For a `struct vmm_devices` that is zeroed or has been opened. */
void vmm_devices_release(struct vmm_devices *devices);
