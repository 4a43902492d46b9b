/*
 * machine: one virtual machine, built from a plain configuration.
 *
 * machine_create opens and builds everything, machine_run runs it on the calling thread, which becomes
 * the device thread, and on one thread per vCPU. One machine per process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/own.h"
#include "vmm/disk/disk.h"
#include "vmm/share/share.h"

enum machine_firmware { MACHINE_NO_FIRMWARE, MACHINE_BIOS, MACHINE_UEFI };

enum machine_accel { MACHINE_ACCEL_AUTO, MACHINE_ACCEL_KVM, MACHINE_ACCEL_SOFT };

struct machine_disk {
	char *path;
	enum disk_format format;
	unsigned int flags; /* enum disk_open_flags */
	char **layers;      /* not NULL: instead of `path`, these files one behind the other
			* (disk/disk.h), read-only */
};

struct machine_net {
	char *tap;           /* the interface's name */
	unsigned int queues; /* pairs; 0: one */
	uint8_t mac[6];      /* all zero: one is made up */
};

/* Sockets between guest and host; the fields are those of struct vsock_config (virtio/devices.h). The
 * machine takes the descriptors once it has made the device. */
struct machine_vsock {
	uint64_t cid;
	const char *path;
	int listen_fd, broker_fd;
};

/* A directory of the host that the guest can mount. */
struct machine_share {
	const char *path;
	int fd;          /* the directory or file; taken; -1: `path` is opened */
	const char *tag; /* what the guest mounts */
	bool read_only;
	enum share_cache cache;
	struct share_map users, groups;
};

/* A named port of the guest's; the fields are those of struct port_config (virtio/devices.h). The machine
 * takes the descriptors once it has made the device. */
struct machine_port {
	const char *name;
	bool is_terminal;
	int listen_fd, fd;
};

struct machine_config {
	uint64_t memory_bytes;
	unsigned int cpus;
	enum machine_accel accel;
	const char *kernel;
	enum machine_firmware firmware; /* what `kernel` is, if it is no kernel */
	const char *
		vars; /* of UEFI: the file with its variables; it is written to, unless vars_lost */
	bool vars_lost;            /* what it writes is lost in the end */
	const char *modules;       /* an archive that goes before the initrd; NULL: none */
	const char *initrd;        /* NULL: none */
	const char *command_line;  /* NULL: empty */
	int serial_in, serial_out; /* -1: none; stay the caller's */
	bool debug_exit;
	bool no_reset; /* a guest that resets has ended, with MACHINE_WAS_RESET */
	/* Whoever runs the machine ends it by SIGKILL only: the signals that would end it press its power
	 * button, and all others do nothing. */
	bool power_button;
	unsigned int disk_count;
	const struct machine_disk *disks;
	unsigned int net_count;
	const struct machine_net *nets;
	struct machine_vsock *vsock; /* NULL: none */
	unsigned int port_count;
	struct machine_port *ports;
	unsigned int share_count;
	struct machine_share *shares;
	/* The virtio console's first port, instead of the serial line; -1: no such device, unless
	 * `console` wants it all the same. */
	int console_in, console_out;
	bool console;
	bool escape_key; /* ctrl-a x on the serial line or the console ends the machine */
	/* The directory of a snapshot to go on from, which then says what memory, vCPUs, accelerator and
	 * devices there are; disks and nets given here, as many as there were, take the place of those
	 * of then. NULL: boot. */
	const char *restore;
	/* What another machine from that snapshot had found out about its code (cpu.h, save_code); NULL:
	 * nothing. What is in it is executed, so it must be trusted as this program is. */
	const char *code;
	/* The process was made by jail_fork (jail/jail.h): machine_run shuts it in before the guest runs. */
	bool jail;
	int parent_fd; /* with jail: the writing end of a pipe whose other end only the parent has */
	bool paused;   /* wait for a request to resume */
	int control_fd; /* a listening Unix socket, which stays the caller's (control.h); -1: none */
};

/* What a configuration starts from: no descriptors. */
#define MACHINE_CONFIG_INIT                                                                        \
	{                                                                                          \
		.serial_in = -1, .serial_out = -1, .console_in = -1, .console_out = -1,            \
		.control_fd = -1                                                                   \
	}

/* UEFI firmware of the host's: its code, and what its variables begin as. */
struct machine_uefi {
	const char *code, *vars;
};
/* `vars`: the code must fit to this file with variables; NULL: any. -ENOENT, -EINVAL. */
int machine_find_uefi(const char *vars, struct machine_uefi *ret, struct error *err) must_check;

struct machine;

enum { MACHINE_WAS_RESET = 124 };

int machine_create(const struct machine_config *config, struct machine **ret,
		   struct error *err) must_check;
/* Runs until the guest powers off (0), ends with a code (that code), or cannot go on (-errno). A guest
 * that resets is started anew. SIGTERM, SIGINT, SIGHUP and SIGQUIT end it with 128 and their number,
 * unless power_button.
 * With config.jail this process can do nothing else any more, from then on. */
int machine_run(struct machine *machine, struct error *err) must_check;
void machine_destroy(struct machine *machine);

/* All of this in a child of its own, shut in a jail: returns what machine_run has. The calling process,
 * of one thread, stays outside, connects the guest with vsock->path (unless there is a broker already),
 * and passes on the signals that end the machine. The child keeps the configuration's descriptors and
 * standard error, and opens what the configuration names as the caller could. The listening socket of
 * vsock stays the caller's. */
int machine_run_jailed(const struct machine_config *config, struct error *err) must_check;
OWN_DEFINE(own_machine, struct machine *, machine_destroy);
#define own_machine __attribute__((cleanup(own_machine_release)))
