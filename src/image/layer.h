/*
 * layer: one image layer as a thing that can be mounted, written in one pass over its tar.
 *
 * A layer is named by its diffid, the digest of its uncompressed tar, and lives in the store's
 * `layers` directory in one of two formats: `erofs`, one immutable file <hex>.erofs that the kernel
 * mounts as it is, and `directory`, a tree <hex>.dir for hosts that may not mount EROFS. Both hold the
 * same: owner, mode, time with nanoseconds, hard links, extended attributes, devices, holes; OCI
 * whiteouts appear as overlayfs wants them (character device 0/0, attribute overlay.opaque).
 *
 *     own_layer_writer struct layer_writer *w = NULL;
 *     rc = layer_writer_begin(layers_fd, layer_format_best(layers_fd), &w, err);
 *     while (...) rc = layer_writer_add(w, bytes, len, err);
 *     rc = layer_writer_finish(w, &diffid, &info, err);
 *
 * The tar is never trusted: resolution of its names happens in a tree that knows nothing but this
 * tar. Different writers may run in different threads or processes at once, one thread per writer.
 *
 * Invariants
 *   Y1  a name <hex>.erofs or <hex>.dir stands for a complete layer that is on disk; what is being
 *       written has another name and a lock, and goes away with layer_recover if its writer died.
 *   Y2  the same tar gives the same bytes (erofs), whatever the sizes of the pieces it came in.
 *   Y3  memory of a writer is at most LAYER_BUFFERS plus 200 bytes for each entry of ordinary name.
 *   Y4  a mount under <state>/layers is only made by who holds the layer's lock shared, and only
 *       taken away by who holds it exclusively: nobody's mount vanishes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/own.h"

enum {
	LAYER_ENTRIES_MAX = 4 << 20,     /* entries of one tar */
	LAYER_PATH_MAX = 4095,           /* bytes of a name or a link's target */
	LAYER_NAME_MAX = 255,            /* bytes of one component */
	LAYER_DEPTH_MAX = 2048,          /* directories within directories */
	LAYER_LINKS_MAX = 65535,         /* names of one file */
	LAYER_XATTRS_MAX = 192 << 10,    /* bytes of extended attributes of one file */
	LAYER_DIR_XATTRS_MAX = 16 << 20, /* of all directories together */
	LAYER_BUFFERS = 32 << 20,        /* fixed memory of one writer, rounded up */
};
#define LAYER_FILE_SIZE_MAX (INT64_C(1) << 43) /* of one file, with its holes: 8 TiB */
#define LAYER_SIZE_MAX (INT64_C(1) << 43)      /* of a layer file */

/* How a layer is stored. The table `layer_formats` is in layer.c; all of it is constant. */
struct layer_format;

/* By name ("erofs", "directory"); NULL if there is none. */
const struct layer_format *layer_format_find(const char *name);
const char *layer_format_name(const struct layer_format *format);
/* The best format that this process can mount: tries to mount an empty EROFS file that it makes in
 * `layers_fd` for it. Costs about a millisecond: ask once per command. Never NULL. */
const struct layer_format *layer_format_best(int layers_fd);

/* What is known of a complete layer. The store keeps it in its database. */
struct layer_info {
	const struct layer_format *format;
	/* erofs: the fs-verity digest (SHA-256, 4096-byte blocks, no salt) of the file, which
	 * FS_IOC_MEASURE_VERITY and `fsverity digest` give too. directory: the digest of its tree. */
	struct digest digest;
	uint64_t size_bytes; /* of the layer file; for a directory what its files take on disk */
	uint64_t
		unpacked_bytes; /* sum of the sizes of the tar's regular files, links not counted */
	uint64_t entries;       /* names in it, the root not counted */
	uint64_t whiteouts;
};

struct layer_writer;

/* Starts a layer in the directory `layers_fd` (stays the caller's). `format` from the table. */
int layer_writer_begin(int layers_fd, const struct layer_format *format, struct layer_writer **ret,
		       struct error *err) must_check;
/* Before the first byte: the layer shall hold what its tar can be made from again, byte for byte. False:
 * layers of this format cannot. */
bool layer_writer_keep_tar(struct layer_writer *w) must_check;
/* Takes the next bytes of the uncompressed tar. After an error the writer can only be closed.
 * -EBADMSG: the tar is malformed, truncated, or hostile; -EFBIG: it exceeds a limit above; -ENOSPC
 * and others from the disk. */
int layer_writer_add(struct layer_writer *w, const void *data, size_t len,
		     struct error *err) must_check;
/* Completes the layer, makes it durable and gives it its name. The caller has compared `diffid` with
 * the digest of what it fed. A layer of that name may be there already (another process was faster):
 * then that one stays, and this is success; except a file of another length, which is replaced. */
int layer_writer_finish(struct layer_writer *w, const struct digest *diffid, struct layer_info *ret,
			struct error *err) must_check;
/* Frees the writer; removes what it wrote unless it was finished. NULL is accepted. */
void layer_writer_close(struct layer_writer *w);

OWN_DEFINE(own_layer_writer, struct layer_writer *, layer_writer_close);
#define own_layer_writer __attribute__((cleanup(own_layer_writer_release)))

/* Finds the layer: 1 and its format and size (the other members of *ret are zero), 0 if it is not
 * there, -errno. */
int layer_stat(int layers_fd, const struct digest *diffid, struct layer_info *ret,
	       struct error *err) must_check;
/* Calls `fn` for every complete layer in no order, until it returns nonzero, which is returned. */
typedef int layer_list_fn(const struct digest *diffid, const struct layer_info *info, void *data,
			  struct error *err);
int layer_list(int layers_fd, layer_list_fn *fn, void *data, struct error *err) must_check;
/* Checks a layer against what was recorded when it was written: size and digest. 0, -ENOENT,
 * -EBADMSG with what differs. Reads everything, unless the file system guarantees the digest
 * (fs-verity). */
int layer_verify(int layers_fd, const struct digest *diffid, const struct layer_info *expected,
		 struct error *err) must_check;
/* Removes a layer; one that is not there is success. -EBUSY if it is in use. */
int layer_remove(int layers_fd, int state_fd, const struct digest *diffid,
		 struct error *err) must_check;

/* A layer in use. Whoever inherits or receives a duplicate of `lock_fd` keeps it mounted. */
struct layer_use {
	int root_fd; /* its root directory (O_PATH): a lower layer for overlayfs, or for reading */
	int lock_fd; /* close it, or better layer_release */
};
#define LAYER_USE_NONE ((struct layer_use){.root_fd = -1, .lock_fd = -1})

/* Makes the layer available below the directory `state_fd`, as layers/<hex>, unless it is already,
 * and holds it there. Works at once in several processes. -ENOENT: there is no such layer. */
int layer_use(int layers_fd, int state_fd, const struct digest *diffid, struct layer_use *ret,
	      struct error *err) must_check;
/* Lets go; the last one unmounts. Closes the descriptors. `diffid` as in layer_use. A layer that
 * others use still is success. A process that has handed lock_fd on (by fork, exec or a socket) must not
 * call this but close its own copies: the copies are one lock, and this would take it from all. */
int layer_release(int state_fd, const struct digest *diffid, struct layer_use *use,
		  struct error *err) must_check;
/* For a process that has only inherited the lock: layer_release with that descriptor. */
int layer_release_lock(int state_fd, const struct digest *diffid, int *lock_fd,
		       struct error *err) must_check;

/* The layers of an image in use, from the lowest up. Those before `bottom` must not be mounted: what is in
 * them is hidden. */
struct layer_stack {
	struct layer_use *uses;
	struct digest *diffids;
	size_t bottom, count;
};
/* Uses the layers, without one that comes again higher up: it has no effect, and overlayfs refuses to see
 * it twice. One that hides everything below is the bottom: overlayfs does not see that of a root
 * directory. On failure *ret has what was taken so far. */
int layer_stack_use(int layers_fd, int state_fd, const struct digest *diffids, size_t count,
		    struct layer_stack *ret, struct error *err) must_check;
/* Lets go of all of them (layer_release); what fails of it is tidied up by the next command. */
void layer_stack_release(int state_fd, struct layer_stack *stack);
/* Closes the descriptors and frees the rest: for who has handed the locks on. */
void layer_stack_close(struct layer_stack *stack);
#define own_layer_stack __attribute__((cleanup(layer_stack_close)))
/* Gives the directory `fd` what the root directory of the stack is: owner, mode, attributes, time, as the
 * topmost layer has them that has an entry for it. Of a stack without layers: mode 0755. */
int layer_stack_copy_root(const struct layer_stack *stack, int fd, struct error *err) must_check;

enum layer_recover_flags {
	LAYER_RECOVER_REPORT = 1, /* change nothing, only count */
};
/* What a crash left. */
struct layer_leftovers {
	unsigned int mounts; /* layers mounted that nobody holds */
	unsigned int writes; /* unfinished layers whose writer is gone */
};
/* Takes away what killed processes left. Safe at any time beside running ones. */
int layer_recover(int layers_fd, int state_fd, enum layer_recover_flags flags,
		  struct layer_leftovers *ret, struct error *err) must_check;

/* Receives tar bytes. 0, or -errno with a reason, which ends the production. */
typedef int layer_tar_fn(const void *data, size_t len, void *context, struct error *err);

/* Opens a layer that holds its tar (layer_writer_keep_tar) and returns a descriptor, which the layer's
 * removal does not disturb. Sets the tar's length. -ENOENT, without text: there is no such layer, or it
 * does not hold its tar. */
int layer_again_open(int layers_fd, const struct digest *diffid, uint64_t *ret_tar_bytes,
		     struct error *err) must_check;
/* Produces that tar. -EBADMSG: the file is damaged; what has been produced before that is worth nothing. */
int layer_again(int fd, const struct digest *diffid, layer_tar_fn *fn, void *data,
		struct error *err) must_check;
