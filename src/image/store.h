/*
 * store: the images of this host: names -> images -> manifest, configuration, layers.
 *
 *     <root>/blobs/sha256/<hex>     (or sha512) blobs exactly as a registry serves them (manifests, configurations,
 *                                   compressed layers unless they are not to be kept)
 *     <root>/layers/<hex>.erofs     layers ready to be mounted (layer.h)
 *     <root>/ingest/<session>       what is being written, with the writer's lock beside it
 *     tables image_* in berth.db    everything else
 *
 * An image is one platform's manifest with its configuration; its id is the configuration's digest,
 * as docker and podman have it. Opening the store costs no scan and makes nothing: directories are
 * created by the first command that writes. One thread at a time may use a store.
 *
 * Invariants
 *   I1  a file under blobs/ or layers/ has the content that its name says, and is on disk, before a
 *       row speaks of it; rows are deleted before files are.
 *   I2  what is referenced is never counted, only asked: an image by its names and uses, a blob or
 *       layer by the images that list it. No counter can be wrong after a crash.
 *   I3  files are deleted only under the exclusive store lock, which everybody who is adding holds
 *       shared; what cannot be deleted now is garbage that a later command finds by asking again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/db.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/own.h"
#include "image/config.h"
#include "image/progress.h"
#include "image/reference.h"

struct image_store;

/* `root_fd` is the root directory, `state_fd` the state directory (for layers in use; may be -1 where
 * nothing will be removed); both stay the caller's, as `db` does, and outlive the store. */
int image_store_open(int root_fd, int state_fd, struct db *db, struct image_store **ret,
		     struct error *err) must_check;
void image_store_close(struct image_store *store);
OWN_DEFINE(own_image_store, struct image_store *, image_store_close);
#define own_image_store __attribute__((cleanup(own_image_store_release)))

/* Another policy file (policy.h) than the usual ones, for what comes from now on; NULL: those. */
void image_store_set_policy(struct image_store *store, const char *path);

/* What may stay without being used. Zeroed: everything. */
struct image_limits {
	int64_t max_age_ns; /* an image that nobody has used for so long goes; 0: none does */
	uint64_t
		max_bytes; /* of blobs and layers; beyond it those go that were used least recently */
};
/* From now on every command that adds images keeps to them; see image_trim. */
void image_store_set_limits(struct image_store *store, const struct image_limits *limits);

/* Whether layers that come from now on are also kept compressed, as they came (the default). Without, a
 * layer file holds what its tar is made from again (layer_again); formats that cannot are kept all the
 * same. */
void image_store_set_keep_blobs(struct image_store *store, bool keep);

/* The directory of the layer files, for layer_use(). Borrowed. -ENOENT before the first layer. */
int image_store_layers_fd(struct image_store *store, struct error *err) must_check;

/* What the tables know of an image. */
struct image {
	struct digest id;       /* of the configuration */
	struct digest manifest; /* of the manifest that was stored first */
	char *os, *architecture, *variant;
	char *name;         /* the full name it was found by, NULL if by id or digest */
	int64_t created_ns; /* from the configuration; 0 if it does not say */
	int64_t added_ns;
	uint64_t size_bytes;   /* the unpacked layers, as `docker images` shows it */
	char *runtime_text;    /* JSON for image_read_config */
	struct digest *layers; /* diffids, the lowest first */
	size_t layers_count;
};
void image_free(struct image *image);
OWN_DEFINE(own_image, struct image *, image_free);
#define own_image __attribute__((cleanup(own_image_release)))

/* Finds an image that is here: by name ("busybox", "host/a:1", "a@sha256:..."), by id or a unique
 * beginning of it (with or without "sha256:"). Two indexed queries.
 * -ENOENT: not here, with a hint (near names, or the pull command); -EINVAL: neither name nor id;
 * -ENOTUNIQ: several ids begin so. */
int image_find(struct image_store *store, const char *name, struct image **ret,
	       struct error *err) must_check;
/* What the image asks of who runs it. Parses image->runtime_text. */
int image_read_config(const struct image *image, struct image_config *ret,
		      struct error *err) must_check;

enum image_pull_policy {
	IMAGE_PULL_MISSING,
	IMAGE_PULL_ALWAYS,
	IMAGE_PULL_NEVER,
	IMAGE_PULL_NEWER
};
enum image_tls { IMAGE_TLS_DEFAULT, IMAGE_TLS_VERIFY, IMAGE_TLS_INSECURE }; /* --tls-verify */

/* Asks the user which of several names, a list ended by NULL, a short one shall stand for: its place in the
 * list, or an error. */
typedef int image_choose_fn(const char *name, char *const *names, struct error *err);

/* How to talk to registries. A zeroed one is the default. */
struct image_remote {
	const char *platform; /* "linux/arm64/v8"; NULL: the host's */
	enum image_tls tls;
	const char *auth_file; /* NULL: $REGISTRY_AUTH_FILE, ~/.docker/config.json, ... */
	const char *user;      /* "name:password"; NULL: from the files */
	const char *cert_dir;  /* NULL: /etc/containers/certs.d, /etc/docker/certs.d */
	unsigned int retries;  /* 0: the default */
	image_progress_fn *progress;
	void *progress_data;
	image_choose_fn *choose; /* for `pull`; NULL: there is nobody to ask */
};

/* Fetches the image from its registry and gives it its name. -ENOENT: the registry has no such image;
 * -EACCES: it wants (other) credentials; -ENETUNREACH, -ETIMEDOUT, -EPROTO: talking failed;
 * -EBADMSG: what came is not what its digest says; -EPERM: the policy does not allow it;
 * -EKEYREJECTED: its signatures do not satisfy the policy; -EINTR: SIGINT or SIGTERM came. */
int image_pull(struct image_store *store, const char *name, const struct image_remote *remote,
	       struct image **ret, struct error *err) must_check;
/* image_find or image_pull, as the policy says. `remote` may be NULL. */
int image_get(struct image_store *store, const char *name, enum image_pull_policy policy,
	      const struct image_remote *remote, struct image **ret, struct error *err) must_check;
/* Sends an image to the registry under the name `target` (NULL: its own). A layer that neither the
 * registry nor the store has compressed is compressed anew; if that gives another digest the manifest
 * is another one, too, and *ret_manifest not the image's. */
int image_push(struct image_store *store, const char *name, const char *target,
	       const struct image_remote *remote, struct digest *ret_manifest,
	       struct error *err) must_check;

/* Marks an image as needed by `user` ("workload/<id>"), so that rmi refuses. One INSERT and no
 * transaction of its own: call it inside the transaction that records the user. */
int image_use_add(struct image_store *store, const struct digest *id, const char *user,
		  struct error *err) must_check;
/* Removes all marks of `user`; none is success. */
int image_use_remove(struct image_store *store, const char *user, struct error *err) must_check;

/* Calls `fn` for every mark, in no order; it may add and remove marks. */
typedef int image_use_fn(const char *user, const struct digest *id, void *data, struct error *err);
int image_use_list(struct image_store *store, image_use_fn *fn, void *data,
		   struct error *err) must_check;

/* Gives an image another name; a name that another image had moves. */
int image_tag(struct image_store *store, const char *source, const char *target,
	      struct error *err) must_check;

/* What image_remove and image_prune did, for printing: "Untagged: name", "Deleted: sha256:..." */
typedef void image_removed_fn(bool deleted, const char *what, void *data);
enum image_remove_flags {
	IMAGE_REMOVE_FORCE = 1, /* also if it has other names (when named by id) or users: untags */
	IMAGE_REMOVE_KEEP_PARENTS = 2, /* --no-prune: accepted; there are no hidden parents here */
};
/* Removes a name, and the image with it if that was its last one. By id: the image with all its
 * names; refused with -EBUSY if it has several, or if it is in use. */
int image_remove(struct image_store *store, const char *name, enum image_remove_flags flags,
		 image_removed_fn *removed, void *data, struct error *err) must_check;

/* Which images to show or to prune. Zeroed: all that have a name. */
struct image_filter {
	const char *reference;      /* a name, or a pattern with * and ?; NULL: any */
	char *const *references;    /* more of them, of which any will do; NULL: none */
	char *const *labels;        /* "key" or "key=value", all must hold */
	char *const *labels_absent; /* label!= */
	const char *before, *since; /* images created before or after that one */
	int64_t until_ns;           /* created before this moment; 0: any */
	int dangling;               /* 1: only without a name; -1: only with one; 0: both */
};
/* A line of `berth images`: one per name, or one for an image without. */
struct image_row {
	const char *name;       /* full, "docker.io/library/busybox:latest"; NULL if dangling */
	const char *repository; /* familiar, "busybox"; NULL if dangling */
	const char *tag;        /* NULL if dangling */
	struct digest id;
	struct digest repo_digest; /* of what the name was pulled as; "" if it was not */
	int64_t created_ns;
	uint64_t size_bytes;
	size_t uses; /* by workloads */
};
/* Calls `fn` for each row, newest first, until it returns nonzero, which is returned. */
typedef int image_row_fn(const struct image_row *row, void *data, struct error *err);
int image_list(struct image_store *store, const struct image_filter *filter, image_row_fn *fn,
	       void *data, struct error *err) must_check;

/* The document of `docker image inspect` for one image (an object). */
int image_inspect(struct image_store *store, const char *name, json_t **ret,
		  struct error *err) must_check;
/* A line of `berth history`, the newest first. */
struct image_history {
	const char *id; /* "<missing>", or the image's id in the first line */
	int64_t created_ns;
	const char *created_by, *comment;
	uint64_t size_bytes;
};
typedef int image_history_fn(const struct image_history *line, void *data, struct error *err);
int image_history(struct image_store *store, const char *name, image_history_fn *fn, void *data,
		  struct error *err) must_check;

/* Removes images that nothing uses: those without a name, or with `all` every one; and the garbage. */
int image_prune(struct image_store *store, const struct image_filter *filter, bool all,
		image_removed_fn *removed, void *data, uint64_t *ret_reclaimed_bytes,
		struct error *err) must_check;

/* Removes what the limits do not let stay, but nothing that workloads use or that has come or been used since
 * `since_ns`. Done by every command that adds, at its end. */
int image_trim(struct image_store *store, int64_t since_ns, image_removed_fn *removed, void *data,
	       struct error *err) must_check;

/* For `system df`: exact to the byte. */
struct image_usage {
	size_t images, active; /* in use by a workload */
	uint64_t size_bytes;   /* blobs and layers on disk */
	uint64_t reclaimable_bytes;
};
int image_usage(struct image_store *store, struct image_usage *ret, struct error *err) must_check;

/* The same for each image, newest first; for `system df -v`. */
struct image_usage_row {
	struct digest id;
	const char *name; /* full; NULL: none */
	int64_t created_ns;
	uint64_t size_bytes;   /* all its blobs and layers */
	uint64_t shared_bytes; /* those that other images have, too */
	size_t uses;           /* by workloads */
};
typedef int image_usage_fn(const struct image_usage_row *row, void *data, struct error *err);
int image_usage_list(struct image_store *store, image_usage_fn *fn, void *data,
		     struct error *err) must_check;

/* Removes what killed commands left (sessions, garbage). Safe beside running ones; cheap if there is
 * nothing. Also done by every command that adds or removes. */
int image_store_recover(struct image_store *store, struct error *err) must_check;

enum image_check_flags {
	IMAGE_CHECK_CONTENT = 1, /* read every file and compare its digest */
	IMAGE_CHECK_REPAIR = 2,  /* mend what can be: drop garbage, drop images that lack parts */
};
typedef void image_problem_fn(const char *problem, bool repaired, void *data);
/* Compares tables and files. Returns the number of problems found and not repaired. */
int image_store_check(struct image_store *store, enum image_check_flags flags, image_problem_fn *fn,
		      void *data, struct error *err) must_check;

/* Reads all files of one image and compares their digests. Returns the number of problems, each of which
 * `fn` is told (repaired: false); and how many blobs and layers it looked at. */
int image_verify_files(struct image_store *store, const struct digest *id, image_problem_fn *fn,
		       void *data, size_t *ret_blobs, size_t *ret_layers,
		       struct error *err) must_check;

/* `load`: every image of an archive (docker-archive or OCI layout as tar, plain, gzip or zstd), read
 * from a descriptor; and from a directory that holds an OCI layout. `loaded` is told each image. */
typedef void image_loaded_fn(const struct digest *id, const char *name, void *data);
struct image_load {
	const char *platform;
	const char *name; /* for an image that brings no name; may be NULL */
	image_loaded_fn *loaded;
	void *loaded_data;
	image_progress_fn *progress;
	void *progress_data;
};
int image_load(struct image_store *store, int fd, const struct image_load *options,
	       struct error *err) must_check;
int image_load_layout(struct image_store *store, const char *dir, const struct image_load *options,
		      struct error *err) must_check;

enum image_archive { IMAGE_ARCHIVE_DOCKER, IMAGE_ARCHIVE_OCI };
/* `save`: one or several images as a tar to a descriptor, or as an OCI layout directory. */
int image_save(struct image_store *store, char *const *names, enum image_archive format, int fd,
	       struct error *err) must_check;
int image_save_layout(struct image_store *store, const char *name, const char *dir,
		      struct error *err) must_check;

/* A new image of one layer, or with one layer more than another has, from a tar (plain, gzip, zstd or xz). */
struct image_import {
	const char *name;     /* NULL: none */
	const char *platform; /* NULL: the host's, or the other image's */
	const char *base;     /* the image that the layer comes on top of; NULL: none */
	const char *author;   /* NULL: not said */
	json_t *config; /* the image's `config` object (Env, Cmd, ...); NULL: empty. Borrowed */
	const char *created_by, *comment; /* for the history */
	int64_t created_ns; /* 0: none is recorded, so that equal input gives an equal id */
	image_progress_fn *progress;
	void *progress_data;
};
int image_import(struct image_store *store, int fd, const struct image_import *options,
		 struct image **ret, struct error *err) must_check;

/* Images without a registry: "busybox" (from the busybox-static package's program), "debian" or
 * "debian:<suite>" (from the distribution's mirror, with mmdebstrap). */
int image_bootstrap(struct image_store *store, const char *what, image_progress_fn *progress,
		    void *progress_data, struct image **ret, struct error *err) must_check;
