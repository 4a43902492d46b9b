/*
 * agent: what the parts of the agent share. One process, one thread, one loop; nothing in it blocks
 * except the creation of a process and of the root file system, which take milliseconds.
 *
 *     main.c        the first process: modules, mounts, the listening socket
 *     setup.c       what a fresh machine needs
 *     connection.c  connections and the streams that wait to be used
 *     requests.c    what the engine can ask for
 *     process.c     the workload's processes
 *     root.c        the workload's root file system
 *     files.c       its files as tars
 *     devices.c     disks and other devices of the machine for it
 *     network.c     addresses and routes
 *
 * Invariants
 *   A1  every process but those of the agent belongs to the connection that made it, and is killed
 *       when that is gone.
 *   A2  the exit of a process is told after its output has been taken by its streams.
 *   A3  the exit of process 0 is told when no other process of the workload lives and its file systems
 *       are unmounted.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/pump.h"
#include "guest/frame.h"
#include "oci/runtime.h"

struct agent;
struct connection;
struct process;
struct worker;

struct agent {
	struct loop *loop;
	struct loop_source *look; /* a timer: soon, process_reap */
	int listen_fd;
	const char *directory; /* of its own; the state of the runtime is in it */
	bool is_machine;       /* it is the first process of a machine, not of a test */
	bool prepared;
	bool has_usual_disk; /* it is mounted, read-only, in a template */
	bool is_volatile;    /* what the workload wrote is removed with it */
	int root_fd;         /* the workload's root file system, -1: none */
	int next_process;
	struct connection *connections, *dead;
	struct process *processes;
	json_t *usual;             /* the warm container's configuration; NULL: there was none */
	struct oci_filter *filter; /* and its system call filter */
	char *cgroup;              /* the workload's, below the root of all */
	bool filtered;             /* the workload has that filter */
	struct oci_device_filter device_filter;
	struct worker *workers;
};
#define WORKLOAD_ID "workload" /* the name of the only container here */

/* --- connection.c ---------------------------------------------------------------------------------- */

int agent_listen(struct agent *agent, int listen_fd) must_check;
/* Sends a message; the connection may be gone afterwards. */
void connection_send(struct connection *connection, const json_t *message);
/* The stream that was opened by this name, whose descriptor is the caller's; -ENOENT. */
int agent_take_stream(struct agent *agent, const char *name, struct error *err) must_check;
/* Its descriptor, which stays its own; -1: it is closed. */
int connection_fd(const struct connection *connection);
/* Lets go of it, without a word. */
void connection_close(struct connection *connection);
/* Frees what was closed. */
void agent_sweep(struct agent *agent);

/* --- requests.c ------------------------------------------------------------------------------------ */

/* Carries a request out and sends the answer. */
void agent_request(struct agent *agent, struct connection *from, json_t *request);

/* --- process.c ------------------------------------------------------------------------------------- */

int process_run(struct agent *agent, struct connection *owner, const struct json_at *request,
		int *ret_number, struct error *err) must_check;
/* Runs a container of the request's "spec", whose root file system has only the program /true, and
 * removes it: what every start needs is in memory then, and filters are compiled. */
int process_warm(struct agent *agent, const struct json_at *request, struct error *err) must_check;
int process_exec(struct agent *agent, struct connection *owner, const struct json_at *request,
		 int *ret_number, struct error *err) must_check;
int process_signal(struct agent *agent, int number, int signal, bool all,
		   struct error *err) must_check;
int process_resize(struct agent *agent, int number, unsigned int rows, unsigned int columns,
		   struct error *err) must_check;
/* Its connection is gone. */
void process_disown(struct agent *agent, const struct connection *owner);
/* Collects children that have ended. */
void process_reap(struct agent *agent);
/* The root directory as the workload's first process sees it; that of the workload if it has not been
 * started. -ESRCH: it has ended. */
int process_open_root(struct agent *agent, struct error *err) must_check;
/* "<directory>/oci"; the caller frees it. */
char *agent_runtime_root(const struct agent *agent);

/* --- files.c --------------------------------------------------------------------------------------- */

/* Starts a process that carries out the request and has the connection from now on. */
int files_start(struct agent *agent, struct connection *from, const struct json_at *request,
		struct error *err) must_check;
/* A child has ended, which may have been one of these. */
void files_reaped(struct agent *agent, pid_t pid);
/* Ends all of them: their files are about to be unmounted. */
void files_end(struct agent *agent);

/* --- devices.c ------------------------------------------------------------------------------------- */

/* Adds to config.json what the request's "disks" ([{"path","access","index" of the disk}]) and
 * "allDevices" say. */
int devices_add(const struct json_at *request, json_t *spec, struct error *err) must_check;

/* --- root.c ---------------------------------------------------------------------------------------- */

/* Opens a device that may still be on its way. */
int device_open(const char *path, int flags, struct error *err) must_check;
/* Puts the root file system together as the request says: {"layers":[[offset,size],...], "bytes":of
 * that disk, "upper":"disk"|"memory", "upperBytes":n, "options":of ext4, "usual":bool (the disk
 * is a copy of the template's), "volatile":bool}; in a test {"directory":path}. Fills agent->root_fd. */
int root_prepare(struct agent *agent, const struct json_at *root, struct error *err) must_check;
/* Mounts the disk that most workloads begin with, an empty one, with the directories that stacking needs. The
 * machines from the template find it mounted: their own copy of it, or another disk. `root` has "upperBytes" and
 * "options". */
int root_mount_usual(struct agent *agent, const struct json_at *root, struct error *err) must_check;
/* Unmounts it, written to disk. What cannot be unmounted is at least written. */
void root_release(struct agent *agent);

/* --- setup.c --------------------------------------------------------------------------------------- */

/* As the first process: modules, file systems of the kernel. */
int setup_machine(struct error *err) must_check;
/* Clock, random pool, host name, machine id, files, as the request says. */
int setup_identity(struct agent *agent, const struct json_at *request,
		   struct error *err) must_check;

/* The files alone. */
int setup_files(struct agent *agent, const struct json_at *request, struct error *err) must_check;

/* --- network.c ------------------------------------------------------------------------------------- */

/* Loopback up; then each of the array: {"mac":..., "addresses":["a.b.c.d/n"], "gateway":..., "mtu":n}. */
int network_set_up(const struct json_at *request, struct error *err) must_check;
