/*
 * container: what is kept of one container: a directory <state_root>/<id>/ with
 *
 *     state.json    what is known of it (the record), and the configuration it was created from
 *     start.sock    exists from creation to start: the waiting process listens on it
 *     status        of one that outlives the command that made it: for others, who know it from crun
 *
 * or, for one that runs at once and has nothing but its state, that file alone as <state_root>/<id>: a
 * directory is a second inode, which on a disk costs as much to make and remove as five control groups.
 *
 * state.json is one JSON object in two lines, written when the container is created:
 *
 *     {"record":{"pid":0         ,"startTime":0                   ,"ready":false,"ociVersion":...}
 *     ,"config":{...}}
 *
 * The record is read without parsing the configuration. When the process exists, its pid and start time
 * are written over the blanks: the file keeps its size, so there is no second file to write and none to
 * be replaced, which costs a journal's flush where /run is on a disk.
 *
 * The lock is flock(2) on the directory or the file itself: it goes with the process that holds it and needs no
 * file. Calls that change a container hold it, those that only look do not.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/own.h"
#include "oci/cgroup.h"
#include "oci/config.h"
#include "oci/runtime.h"

#define CONTAINER_STATE "state.json"
#define CONTAINER_START_SOCKET "start.sock"
#define CONTAINER_STATUS "status"
#define OCI_VERSION "1.2.0"

struct container {
	char *id;
	int root_fd;  /* the state root */
	int dir_fd;   /* its directory; -1: it is a file */
	int state_fd; /* the file, or state.json as long as it may be written; else -1 */
	bool locked;  /* we hold the lock */
	bool saved;   /* by container_save */
	json_t *record;
};

/* With CONTAINER_TRY it is locked if nobody else holds the lock: `locked` says. */
enum container_lock { CONTAINER_LOOK, CONTAINER_LOCK, CONTAINER_TRY };

enum container_form { CONTAINER_DIRECTORY, CONTAINER_FILE };

/* Makes it and locks it. -EEXIST if the id is in use, -EINVAL for what is no id. */
int container_create(const char *state_root, const char *id, enum container_form form,
		     struct container **ret, struct error *err) must_check;
/* Opens an existing one and reads its record (an empty one if a killed runtime left none).
 * -ENOENT: "container X does not exist". */
int container_open(const char *state_root, const char *id, enum container_lock lock,
		   struct container **ret, struct error *err) must_check;
void container_close(struct container *c);
OWN_DEFINE(own_container, struct container *, container_close);
#define own_container __attribute__((cleanup(own_container_release)))

/* Lets others have the lock. */
void container_unlock(struct container *c);
/* Asks who holds the lock to let go of it. */
void container_ask(const struct container *c);
/* For who holds it: a descriptor that is readable when that has been asked, from now on. -errno. */
int container_watch(const struct container *c) must_check;
/* True if it is still what its id stands for: nobody has removed it. */
bool container_is_there(const struct container *c);

/* What oci_create remembers for oci_delete_child. */
struct oci_made {
	struct container *container; /* not locked */
	struct cgroup *cgroup;
};

/* Writes the file: the record, which has no process yet, and the configuration, in the text that it was
 * parsed from if there is one. */
int container_save(struct container *c, const json_t *config, const char *config_text,
		   struct error *err) must_check;
/* Adds the init process to the record, in memory and in the file; not `ready` as long as it may still
 * see the host's files, so that nobody joins it. */
int container_save_process(struct container *c, pid_t pid, uint64_t start_ticks, bool ready,
			   struct error *err) must_check;
/* Takes off what a container without a mount namespace of its own has mounted below its root. */
void container_unmount(const struct container *c);
/* True if the name in the state root `root_fd`, of the type readdir says, is a container's. */
bool container_is(int root_fd, const char *name, unsigned char type);
/* Removes directory or file; the id is free afterwards. */
int container_remove(struct container *c, struct error *err) must_check;

/* The pid of the living init process, 0 if it is gone or was never recorded. */
pid_t container_pid(const struct container *c);
enum oci_status container_status(const struct container *c);
/* From the record; -ENOENT if it has none. */
int container_cgroup(const struct container *c, struct cgroup **ret, struct error *err) must_check;
/* The configuration that the container was created from, as a value and parsed. */
int container_config_json(const struct container *c, json_t **ret, struct error *err) must_check;
int container_config(const struct container *c, struct config **ret, struct error *err) must_check;
