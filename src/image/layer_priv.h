/* layer_priv: what the formats of layers and the code around them share. */
#pragma once

#include <sys/types.h>

#include "base/str.h"
#include "image/layer_tree.h"
#include "image/layer.h"
#include "tar/tar.h"

enum {
	LAYER_FILE_NAME_MAX = DIGEST_HEX_MAX + 16,
	LAYER_BLOCK = 4096,
	/* What a name of an unfinished layer starts with; random digits follow. */
};
#define LAYER_UNFINISHED "tmp."

/* The storage of one layer in the making: what a format adds to the common part of the writer. */
struct layer_body {
	const struct layer_format *format;
	int layers_fd;                  /* borrowed */
	char name[LAYER_FILE_NAME_MAX]; /* of the unfinished thing in it */
	struct layer_tree *tree;        /* borrowed; complete when finish() is called */
	struct recipe *recipe;          /* borrowed: to be kept with the layer; or NULL */
	int fd;                         /* of the unfinished thing; locked */
};

struct layer_format {
	const char *name;
	const char *suffix; /* of the layer's name */
	bool keeps_recipe;

	/* Writing. `parent` is the node of a directory; `name` is not terminated; `object` is what
	 * the format wants to be known by later. */

	/* Creates the unfinished thing. */
	int (*begin)(int layers_fd, struct layer_tree *tree, struct layer_body **ret,
		     struct error *err);
	/* A regular file: its start; its data in rising, disjoint pieces; its end. */
	int (*file_begin)(struct layer_body *b, uint32_t parent, const char *name, size_t len,
			  const struct tar_entry *e, struct error *err);
	int (*file_data)(struct layer_body *b, uint64_t offset, const void *data, size_t len,
			 struct error *err);
	int (*file_end)(struct layer_body *b, uint32_t *ret_object, struct error *err);
	/* Anything else that is no directory. For NODE_WHITEOUT only the times in `e` count. */
	int (*special)(struct layer_body *b, uint32_t parent, const char *name, size_t len,
		       enum node_kind kind, const struct tar_entry *e, uint32_t *ret_object,
		       struct error *err);
	/* The rest only needs something done where names are real. */
	int (*dir)(struct layer_body *b, uint32_t node, struct error *err);
	int (*link)(struct layer_body *b, uint32_t target, uint32_t parent, const char *name,
		    size_t len, struct error *err);
	int (*remove)(struct layer_body *b, uint32_t node, struct error *err);
	/* The target of a symbolic link into `out`, at most LAYER_PATH_MAX + 1 bytes with its NUL. */
	int (*read_link)(struct layer_body *b, uint32_t node, char *out, struct error *err);
	/* Writes what the tree says, makes all of it durable, names it. Fills digest and size. */
	int (*finish)(struct layer_body *b, const struct digest *diffid, struct layer_info *ret,
		      struct error *err);
	/* Frees; removes what finish has not named. */
	void (*discard)(struct layer_body *b);

	/* Complete layers. `name` is relative to layers_fd. */

	int (*size)(int layers_fd, const char *name, uint64_t *ret_bytes, struct error *err);
	int (*digest)(int layers_fd, const char *name, struct digest *ret, struct error *err);
	/* Removes one. */
	int (*unlink)(int layers_fd, const char *name, struct error *err);
	/* Mounts one, detached, and returns the mount's descriptor. NULL: it need not be mounted. */
	int (*mount)(int layers_fd, const char *name, struct error *err);
};

extern const struct layer_format layer_erofs, layer_directory;

/* The tar's entries on their way into a tree and a body (layer_build.c). */
struct layer_build {
	struct tar_sink sink;
	struct layer_tree tree;
	struct layer_body *body;
	const struct layer_format *format;
	struct recipe *recipe; /* NULL: nobody wants the tar again */

	/* The file whose data is coming. */
	bool in_file;
	uint32_t parent;
	uint8_t name_len;
	char file_name[LAYER_NAME_MAX];

	uint64_t unpacked_bytes;
	char *target;    /* room for a link's target */
	struct buf rest; /* of the name being walked */
};
void build_init(struct layer_build *b, const struct layer_format *format);
void build_release(struct layer_build *b);

/* "<hex><suffix>" */
void layer_file_name(char out[static LAYER_FILE_NAME_MAX], const struct layer_format *format,
		     const struct digest *diffid);
/* Makes an unfinished layer, a file or a directory, and locks it so that nobody takes it for one that
 * was left behind. Fills name. Returns its descriptor. */
int layer_make_unfinished(int layers_fd, bool directory, char name[static LAYER_FILE_NAME_MAX],
			  struct error *err) must_check;
/* Gives an unfinished, durable layer its name. One that is there already stays: 0 as well, and
 * *ret_existed is set. */
int layer_publish(int layers_fd, const char *unfinished, const char *name, bool *ret_existed,
		  struct error *err) must_check;
/* Where there is one already: puts it in its place if that file has another length. Who has it mounted keeps
 * what he has. */
int layer_replace_other(int layers_fd, const char *unfinished, const char *name, uint64_t bytes,
			bool *ret_stays, struct error *err) must_check;

/* Removes a layer in whatever format; nobody may be using it. */
int layer_remove_files(int layers_fd, const struct digest *diffid, struct error *err) must_check;
/* Opens a layer's root: a detached mount, or its directory. -ENOENT. */
int layer_open(int layers_fd, const struct digest *diffid, struct error *err) must_check;
/* True if the layer is there and is one that has to be mounted. */
bool layer_must_mount(int layers_fd, const struct digest *diffid);

/* layer_mount.c: mounts the EROFS file read-only and returns the mount as a detached descriptor.
 * -ENOTSUP where the kernel cannot, -EPERM where it must not. */
int layer_mount_file(int dirfd, const char *name, struct error *err) must_check;

/* The prefix of overlayfs's own attributes for this process: trusted.overlay., or user.overlay.
 * where it may not set the former (then overlayfs is to be mounted with userxattr). */
const char *layer_overlay_prefix(void);

/* erofs.c: writes all that is missing of an EROFS file, which then can be mounted. */
int erofs_complete(struct layer_body *b, const struct digest *diffid, struct layer_info *ret,
		   struct error *err) must_check;
