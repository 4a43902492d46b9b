/* unfinished: functions of store.h whose code has not come yet. */
#include <errno.h>

#include "image/store.h"

#define UNFINISHED(err) refuse(err, -ENOSYS, "%s is not there yet", __func__)
#pragma GCC diagnostic ignored "-Wunused-parameter"

int image_pull(struct image_store *store, const char *name, const struct image_remote *remote,
	       struct image **ret, struct error *err)
{
	return UNFINISHED(err);
}
int image_get(struct image_store *store, const char *name, enum image_pull_policy policy,
	      const struct image_remote *remote, struct image **ret, struct error *err)
{
	return image_find(store, name, ret, err);
}
int image_push(struct image_store *store, const char *name, const char *target,
	       const struct image_remote *remote, struct digest *ret_manifest, struct error *err)
{
	return UNFINISHED(err);
}
int image_remove(struct image_store *store, const char *name, enum image_remove_flags flags,
		 image_removed_fn *removed, void *data, struct error *err)
{
	return UNFINISHED(err);
}
int image_list(struct image_store *store, const struct image_filter *filter, image_row_fn *fn,
	       void *data, struct error *err)
{
	return UNFINISHED(err);
}
int image_inspect(struct image_store *store, const char *name, json_t **ret, struct error *err)
{
	return UNFINISHED(err);
}
int image_history(struct image_store *store, const char *name, image_history_fn *fn, void *data,
		  struct error *err)
{
	return UNFINISHED(err);
}
int image_prune(struct image_store *store, const struct image_filter *filter, bool all,
		image_removed_fn *removed, void *data, uint64_t *ret_reclaimed_bytes,
		struct error *err)
{
	return UNFINISHED(err);
}
int image_usage(struct image_store *store, struct image_usage *ret, struct error *err)
{
	return UNFINISHED(err);
}
int image_store_recover(struct image_store *store, struct error *err)
{
	return UNFINISHED(err);
}
int image_store_check(struct image_store *store, enum image_check_flags flags, image_problem_fn *fn,
		      void *data, struct error *err)
{
	return UNFINISHED(err);
}
int image_load(struct image_store *store, int fd, const struct image_load *options,
	       struct error *err)
{
	return UNFINISHED(err);
}
int image_load_layout(struct image_store *store, const char *dir, const struct image_load *options,
		      struct error *err)
{
	return UNFINISHED(err);
}
int image_save(struct image_store *store, char *const *names, enum image_archive format, int fd,
	       struct error *err)
{
	return UNFINISHED(err);
}
int image_save_layout(struct image_store *store, const char *name, const char *dir,
		      struct error *err)
{
	return UNFINISHED(err);
}
int image_import(struct image_store *store, int fd, const struct image_import *options,
		 struct image **ret, struct error *err)
{
	return UNFINISHED(err);
}
int image_bootstrap(struct image_store *store, const char *what, image_progress_fn *progress,
		    void *progress_data, struct image **ret, struct error *err)
{
	return UNFINISHED(err);
}
