/* pending_layer: stands in for the layer formats, so that programs link, until they are there. Whoever
 * brings them deletes this file. */
#include <errno.h>

#include "image/layer.h"

static int pending(struct error *err)
{
	return refuse(err, -ENOSYS, "layers cannot be written or mounted yet");
}

const struct layer_format *layer_format_best(int layers_fd)
{
	(void)layers_fd;
	return NULL;
}

const char *layer_format_name(const struct layer_format *format)
{
	(void)format;
	return "none";
}

const struct layer_format *layer_format_find(const char *name)
{
	(void)name;
	return NULL;
}

int layer_writer_begin(int layers_fd, const struct layer_format *format, struct layer_writer **ret,
		       struct error *err)
{
	(void)layers_fd;
	(void)format;
	(void)ret;
	return pending(err);
}

int layer_writer_add(struct layer_writer *w, const void *data, size_t len, struct error *err)
{
	(void)w;
	(void)data;
	(void)len;
	return pending(err);
}

int layer_writer_finish(struct layer_writer *w, const struct digest *diffid, struct layer_info *ret,
			struct error *err)
{
	(void)w;
	(void)diffid;
	(void)ret;
	return pending(err);
}

void layer_writer_close(struct layer_writer *w)
{
	(void)w;
}

int layer_stat(int layers_fd, const struct digest *diffid, struct layer_info *ret,
	       struct error *err)
{
	(void)layers_fd;
	(void)diffid;
	(void)ret;
	return pending(err);
}

int layer_remove(int layers_fd, int state_fd, const struct digest *diffid, struct error *err)
{
	(void)layers_fd;
	(void)state_fd;
	(void)diffid;
	return pending(err);
}

int layer_use(int layers_fd, int state_fd, const struct digest *diffid, struct layer_use *ret,
	      struct error *err)
{
	(void)layers_fd;
	(void)state_fd;
	(void)diffid;
	(void)ret;
	return pending(err);
}

int layer_release(int state_fd, const struct digest *diffid, struct layer_use *use,
		  struct error *err)
{
	(void)state_fd;
	(void)diffid;
	(void)use;
	return pending(err);
}

int layer_release_lock(int state_fd, const struct digest *diffid, int *lock_fd, struct error *err)
{
	(void)state_fd;
	(void)diffid;
	(void)lock_fd;
	return pending(err);
}

int layer_verify(int layers_fd, const struct digest *diffid, const struct layer_info *expected,
		 struct error *err)
{
	(void)layers_fd;
	(void)diffid;
	(void)expected;
	return pending(err);
}

int layer_list(int layers_fd, layer_list_fn *fn, void *data, struct error *err)
{
	(void)layers_fd;
	(void)fn;
	(void)data;
	return pending(err);
}

int layer_recover(int layers_fd, int state_fd, enum layer_recover_flags flags,
		  struct layer_leftovers *ret, struct error *err)
{
	(void)layers_fd;
	(void)state_fd;
	(void)flags;
	(void)ret;
	return pending(err);
}

int layer_tar(int root_fd, enum layer_tar_kind kind, layer_tar_fn *fn, void *data,
	      struct error *err)
{
	(void)root_fd;
	(void)kind;
	(void)fn;
	(void)data;
	return pending(err);
}
