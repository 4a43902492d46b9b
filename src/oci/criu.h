/*
 * criu: CRIU, the program that writes a tree of processes to files and brings it back.
 *
 * It is found on PATH and started once per request, with a socket on which one request is sent (its RPC
 * protocol, messages in the format of protobuf.h). While it works it tells of the points that it has
 * reached; each is answered before it goes on.
 *
 * Only what is asked of CRIU is here; what a container needs asked is checkpoint.c and restore.c.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/str.h"

enum criu_request_type {
	CRIU_DUMP = 1,
	CRIU_RESTORE = 2,
	CRIU_PRE_DUMP = 4,
	CRIU_NOTIFY = 6,
	CRIU_FEATURE_CHECK = 9,
};

/* The fields of criu_opts that are used. */
enum criu_option {
	CRIU_IMAGES_DIR_FD = 1,
	CRIU_PID = 2,
	CRIU_LEAVE_RUNNING = 3,
	CRIU_EXT_UNIX_SK = 4,
	CRIU_TCP_ESTABLISHED = 5,
	CRIU_EVASIVE_DEVICES = 6,
	CRIU_SHELL_JOB = 7,
	CRIU_FILE_LOCKS = 8,
	CRIU_LOG_LEVEL = 9,
	CRIU_LOG_FILE = 10,
	CRIU_PAGE_SERVER = 11,
	CRIU_NOTIFY_SCRIPTS = 12,
	CRIU_ROOT = 13,
	CRIU_PARENT_IMAGE = 14,
	CRIU_TRACK_MEMORY = 15,
	CRIU_AUTO_DEDUP = 16,
	CRIU_WORK_DIR_FD = 17,
	CRIU_LINK_REMAP = 18,
	CRIU_MANAGE_CGROUPS = 24,
	CRIU_CGROUP_ROOT = 25,
	CRIU_RESTORE_SIBLING = 26,
	CRIU_INHERIT_FD = 27,
	CRIU_CGROUPS_MODE = 34,
	CRIU_EXTERNAL = 37,
	CRIU_EMPTY_NS = 38,
	CRIU_JOIN_NS = 39,
	CRIU_FREEZE_CGROUP = 44,
	CRIU_TCP_SKIP_IN_FLIGHT = 46,
	CRIU_LAZY_PAGES = 48,
	CRIU_STATUS_FD = 49,
	CRIU_ORPHAN_PTS_MASTER = 50,
	CRIU_CONFIG_FILE = 51,
	CRIU_TCP_CLOSE = 52,
	CRIU_LSM_PROFILE = 53,
	CRIU_LSM_MOUNT_CONTEXT = 63,
	CRIU_NETWORK_LOCK = 64,
};

enum { CRIU_FDS_MAX = 8 };

/* A request being put together; release with criu_request_release. */
struct criu_request {
	enum criu_request_type type;
	struct buf options;
	int fds[CRIU_FDS_MAX]; /* descriptors that it inherits, borrowed */
	size_t fd_count;
	int stdio[3];
	/* Called in CRIU's process before the program is executed, or NULL: its errors are reported. It may
	 * put others in the place of the descriptors. */
	int (*prepare)(void *data, struct error *err);
	/* Called when CRIU's process exists, before the request is sent: it may add options. Or NULL. */
	int (*started)(struct criu_request *r, pid_t pid, void *data, struct error *err);
	/* Called at each point that CRIU reports; `fd` is a descriptor that came with it, or -1; or NULL. */
	int (*reached)(const char *point, pid_t pid, int fd, void *data, struct error *err);
	void *data;
	const char *log_path; /* the log of this request, for messages */
	const char *program;  /* NULL: the one on PATH */
};
void criu_request_release(struct criu_request *r);
#define own_criu_request __attribute__((cleanup(criu_request_release)))

/* Passes a descriptor on; returns the number that it has for CRIU. */
int criu_pass_fd(struct criu_request *r, int fd);
/* "KEY" names what was outside of the image when it was made: descriptor `fd` takes its place. */
void criu_inherit_fd(struct criu_request *r, const char *key, int fd);
/* A thing outside of the image: "net[123]:name". */
void criu_external(struct criu_request *r, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Performs the request. *ret_pid (may be NULL) gets the restored process. -ENOENT: no CRIU; -EIO: it
 * failed, with its reason. */
int criu_perform(struct criu_request *r, pid_t *ret_pid, struct error *err) must_check;

enum criu_feature { CRIU_MEMORY_TRACKING = 1, CRIU_LAZY = 2 };
/* Whether CRIU (the `program`, NULL: on PATH) and the kernel can do that. 1, 0, -errno. */
int criu_can(const char *program, enum criu_feature feature, struct error *err) must_check;
/* Whether the program is on PATH, may be used and works on this kernel: it is asked. */
bool criu_works(void);
