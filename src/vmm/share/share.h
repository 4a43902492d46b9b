/*
 * share: a server of the FUSE protocol (7.31 and later, as Linux's virtio-fs driver speaks it) on one
 * directory of the host, or one file: then the client sees a directory that holds nothing else. It knows nothing of queues: it gets a request as buffers and fills a reply in.
 *
 * The client is a guest, hostile until proven otherwise. It must not reach anything outside of the
 * directory, whatever it sends, and whatever other programs of the host do in the directory meanwhile:
 *
 *   F1  every file that the client knows is an O_PATH descriptor here; the client has its number only.
 *   F2  a name is one component, never "." or "..": it is looked up beneath the descriptor of its
 *       directory, without following a link. Links are the client's business.
 *   F3  a descriptor is opened for reading or writing only if it is a regular file or a directory: no
 *       device, FIFO or socket of the host is ever opened.
 *   F4  the client makes no devices, but for the character device 0:0 (overlayfs's whiteout).
 *   F5  a number that the client makes up is not found: a slot of a table that is used again gets a
 *       new generation.
 *   F6  with the directory that is made up around a file nothing can be done but to find the file.
 *
 * Any number of threads may call share_serve, each with a share_thread of its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "vmm/state.h"

struct share;
struct share_thread;

enum {
	SHARE_MAP_RANGES_MAX = 8,
	SHARE_TAG_MAX = 36, /* bytes of the name that a guest mounts */
};
#define SHARE_FILE_NAME "file" /* what the client finds a single file by */

/* `count` ids from `guest` on are those from `host` on. */
struct share_range {
	uint32_t guest, host, count;
};

/* No range at all: every id is itself. Else what is in no range does not exist for the guest: such an
 * owner appears as 65534, and cannot be set. */
struct share_map {
	unsigned int count;
	struct share_range ranges[SHARE_MAP_RANGES_MAX];
};

enum share_cache {
	SHARE_CACHE_AUTO,  /* the guest looks again after a second */
	SHARE_CACHE_NONE,  /* at once */
	SHARE_CACHE_ALWAYS /* never: nobody else changes the directory */
};

struct share_config {
	int directory_fd; /* of the directory or regular file, taken unless creating fails */
	bool read_only;
	enum share_cache cache;
	struct share_map users, groups;
};

/* Needs /proc, once. -errno. */
int share_create(const struct share_config *config, struct share **ret,
		 struct error *err) must_check;
void share_destroy(struct share *share);

/* Prepares the calling thread: it gets a working directory and file mode mask of its own. Files are made
 * with the caller's ids in the guest if this process may do so, else with its own. -errno. */
int share_thread_create(struct share *share, struct share_thread **ret) must_check;
void share_thread_destroy(struct share_thread *thread);

/* A request, copied nowhere yet: what the client sent, and where the answer goes. The buffers are the
 * client's memory and may change at any time. */
struct share_request {
	const struct iovec *out;
	unsigned int out_count;
	uint64_t out_bytes;
	const struct iovec *in;
	unsigned int in_count;
	uint64_t in_bytes;
};

/* Serves one request. Returns the size of the answer in bytes, 0 if there is none; -EAGAIN for a lock
 * that has to be waited for: the request is to be served again later, until then nothing has happened;
 * -EPROTO if it makes no sense. */
int64_t share_serve(struct share_thread *thread, const struct share_request *request) must_check;

/* Forgets all that the client knows, as at its first day. No thread may be in share_serve. */
void share_reset(struct share *share);
/* What the client knows, as paths: a restored share opens them again. What is not there any more is
 * stale for the client. Locks are lost. No thread may be in share_serve. */
void share_save(struct share *share, struct state_writer *out);
void share_load(struct share *share, struct state_reader *in);
