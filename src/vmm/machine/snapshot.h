/*
 * snapshot: a machine on disk, and back. A snapshot is a directory of three files:
 *
 *     memory         the guest's memory as it lies in the memfd (memory.h), sparse
 *     state          "BERTHVM1", then one section (state.h) per vCPU and device
 *     machine.json   the configuration, and what the host must have in common with that of the snapshot
 *
 * The memory of a machine that goes on from a snapshot is a private mapping of the file: it is read as
 * the guest touches it, pages that are not written are shared by all machines from one snapshot, and
 * the file is never written. It must not be truncated while such a machine runs; deleting it is fine.
 *
 * A snapshot is written through descriptors that the asker opened, so that a jailed machine needs no
 * right to open anything.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "vmm/machine/machine.h"

enum snapshot_file { SNAPSHOT_MEMORY, SNAPSHOT_STATE, SNAPSHOT_MACHINE, SNAPSHOT_FILES };
extern const char *const snapshot_names[SNAPSHOT_FILES];

/* What must be the same where a snapshot is restored; read while files can still be opened. */
struct snapshot_host {
	char boot[40]; /* the kernel's boot id: the TSC's rate is the same as long as this is */
	uint64_t cpu;  /* a hash of the CPU's features */
};

struct snapshot {
	json_t *json;
	char *state; /* the file, whole */
	size_t state_size;
	int memory_fd;
	uint32_t tsc_khz;
	/* Those that the configuration did not name; point into json. */
	struct machine_disk *disks;
	struct machine_net *nets;
	struct machine_share *shares;
	struct machine_port *ports;
	struct machine_vsock vsock;
};

void snapshot_host_read(struct snapshot_host *ret);

/* Opens the snapshot in the directory config->restore and fills in what `config` leaves to it: always
 * memory, vCPUs, accelerator and test device, the rest where it says nothing. -errno; -EINVAL for a
 * damaged snapshot, -ENOTSUP for one that this host cannot continue. */
int snapshot_open(const struct snapshot_host *host, struct machine_config *config,
		  struct snapshot **ret, struct error *err) must_check;
void snapshot_close(struct snapshot *snapshot);

/* What machine.json will say, but for the TSC's rate; made before the machine can no longer look at the
 * host's files. `accel` is the accelerator's name. */
json_t *snapshot_describe(const struct snapshot_host *host, const struct machine_config *config,
			  const char *accel);

/* snapshot_devices.c: the devices with a host's side (sockets, shares) in machine.json, and from there
 * into a configuration that does not name them. */
void snapshot_describe_devices(json_t *root, const struct machine_config *config);
int snapshot_read_devices(const struct json_at *root, struct snapshot *snapshot,
			  struct machine_config *config, struct error *err) must_check;
/* Sets `key` to a path, made absolute; nothing for NULL. */
void snapshot_set_path(json_t *object, const char *key, const char *path);

/* Writes a paused machine to files that are open for writing, and empty. */
int snapshot_save(struct machine *machine, const int fds[static SNAPSHOT_FILES],
		  struct error *err) must_check;
/* Puts the state of machine->from into a machine whose vCPUs are parked, and tells the guest by a new
 * VM generation id that it is not alone. */
int snapshot_load(struct machine *machine, struct error *err) must_check;
