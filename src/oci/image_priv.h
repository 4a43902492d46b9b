/*
 * image_priv: what checkpoint and restore share.
 *
 * Mounts whose source is the host's are no part of an image: each is named when the image is made, and
 * its source given for that name when it is used. The name is the destination of the configuration, as
 * other runtimes have it.
 */
#pragma once

#include "oci/cgroup.h"
#include "oci/checkpoint.h"
#include "oci/config.h"
#include "oci/criu.h"

#define IMAGE_DESCRIPTORS "descriptors.json"
#define IMAGE_NETWORK_KEY "extRootNetNS"
#define IMAGE_PID_KEY "extRootPidNS"

/* The first descriptors of each request. */
enum { IMAGE_FD_IMAGE, IMAGE_FD_WORK };

struct image_dirs {
	int image_fd, work_fd;
	char *log_path;
};
#define IMAGE_DIRS_EMPTY                                                                           \
	{                                                                                          \
		.image_fd = -1, .work_fd = -1                                                      \
	}
void image_dirs_release(struct image_dirs *d);
#define own_image_dirs __attribute__((cleanup(image_dirs_release)))

/* Opens the directories, and begins the request: directories, log, and the options that both directions
 * have. With `make` a missing one is created. (It is to be read without: CRIU
 * would take offence at the cgroup that is made for it, so that "strict" is restore.c's.) */
int image_begin(const struct oci_image *image, const char *log, bool make, const struct config *c,
		struct image_dirs *ret, struct criu_request *r, struct error *err) must_check;

/* Calls `visit` for every mount of the configuration that shows something of the host: its place in the
 * container and the source. */
typedef void image_outside_fn(const char *destination, const char *source, void *data);
void image_outside(const struct config *c, const char *bundle, const struct cgroup *cg,
		   image_outside_fn *visit, void *data);
