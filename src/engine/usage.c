/* usage: what workloads take on the disk (declared in workload.h). */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/str.h"
#include "engine/engine_priv.h"
#include "engine/vm.h"
#include "image/store.h"
#include "tar/pack.h"

/* Of a directory of the workload; one that is not there takes nothing. */
static int usage_of(struct engine *engine, const char *path, uint64_t *ret, struct error *err)
{
	own_fd int fd = openat(engine->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t disk_bytes;

	*ret = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : fail(err, -errno, "open %s", path);
	return pack_usage(fd, &disk_bytes, ret, err);
}

/* A machine's disk is a sparse file: it is what of it there is that counts, and all of that is what was
 * written. */
static void count_disk(struct engine *engine, const char *dir, struct workload_usage *usage)
{
	own_mem char *path = str_format("%s/" VM_DISK_NAME, dir);
	struct stat st;

	if (fstatat(engine->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	usage->written_bytes = (uint64_t)st.st_blocks * 512;
	usage->total_bytes += usage->written_bytes - (uint64_t)st.st_size;
}

static int image_size(struct engine *engine, const char *id, uint64_t *ret, struct error *err)
{
	own_image struct image *image = NULL;
	struct image_store *store;
	int rc = engine_images(engine, &store, err);

	if (rc == 0)
		rc = image_find(store, id, &image, err);
	if (rc == 0)
		*ret = image->size_bytes;
	return rc;
}

int workload_get_usage(struct engine *engine, const struct workload *workload,
		       struct workload_usage *ret, struct error *err)
{
	struct workload_dir dir = workload_dir(workload->id);
	own_mem char *upper = str_format("%s/upper", dir.path);
	struct workload_usage usage = {0};
	int rc = usage_of(engine, upper, &usage.written_bytes, err);

	if (rc == 0)
		rc = usage_of(engine, dir.path, &usage.total_bytes, err);
	if (rc == 0 && workload->config.image_id != NULL)
		rc = image_size(engine, workload->config.image_id, &usage.image_bytes, err);
	if (rc < 0)
		return rc;
	if (workload->config.isolation == WORKLOAD_VM)
		count_disk(engine, dir.path, &usage);
	*ret = usage;
	return 0;
}
