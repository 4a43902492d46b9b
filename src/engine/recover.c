/*
 * recover: what is done for a workload that somebody left in the middle of work (engine.h, G1-G5), and
 * at the regular end of every workload, which is the same work in the same order:
 *
 *   processes, runtime state, cgroup   isolation->destroy
 *   layers                             the monitor's descriptors; a crash: layer_recover
 *   what it wrote, if --rm             workload_erase
 *   the row
 *   the state directory, the lock last
 *
 * Every step is repeatable and finds nothing to do the second time, so that a crash within recovery is
 * only another crash.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "engine/engine_priv.h"
#include "engine/live.h"
#include "engine/lock.h"
#include "engine/name.h"
#include "engine/record.h"
#include "image/layer.h"
#include "image/store.h"

int workload_erase(struct engine *engine, const char *id, const struct workload_end *end,
		   struct error *err)
{
	int rc = tree_remove(engine->root_fd, workload_dir(id).path, err);

	if (rc == 0)
		rc = record_delete(engine, id, end, err);
	return rc;
}

int workload_finish(struct engine *engine, const char *id, enum workload_isolation isolation,
		    bool auto_remove, const struct workload_end *end, struct error *err)
{
	int rc = isolation_of(isolation)->destroy(engine, id, err);

	if (rc < 0)
		return rc;
	if (auto_remove)
		return workload_erase(engine, id, end, err);
	return record_set_ended(engine, id, end, err);
}

/* What is known of the end of a workload whose monitor died. */
static void reconstruct_end(struct engine *engine, const char *id, struct workload_end *ret)
{
	struct live live;

	*ret = (struct workload_end){.exit_code = 255, .finished_ns = clock_now_ns()};
	if (live_read(engine, id, &live) < 0) {
		ret->error = "it was running when the machine stopped";
		return;
	}
	ret->restart_count = live.restart_count;
	ret->started_ns = live.started_ns;
	if (live.phase == LIVE_ENDED || live.phase == LIVE_WAITING) {
		ret->exit_code = live.exit_code;
		ret->finished_ns = live.finished_ns;
		return;
	}
	ret->exit_code = 137;
	ret->error = "its monitor was killed, and it was stopped with it";
}

static int settle(struct engine *engine, const char *id, enum record_status status,
		  struct error *err)
{
	own_workload struct workload w = {0};
	struct workload_end end;
	int rc;

	switch (status) {
	case RECORD_ACTIVE:
		rc = record_load(engine, id, &w, &status, err);
		if (rc < 0)
			return rc;
		reconstruct_end(engine, id, &end);
		return workload_finish(engine, id, w.config.isolation,
				       (w.config.flags & WORKLOAD_AUTO_REMOVE) != 0, &end, err);
	case RECORD_REMOVING:
		return workload_erase(engine, id, NULL, err);
	case RECORD_CREATED:
	case RECORD_EXITED:
		break;
	}
	return 0;
}

int engine_recover_one(struct engine *engine, const char *id, int *lock_fd, struct error *err)
{
	enum record_status status;
	struct error absent = {0};
	int rc = lock_await_helpers(*lock_fd);

	if (rc < 0)
		return fail(err, rc, "recover workload %s", id);
	rc = isolation_container.destroy(engine, id, err);
	/* The two kinds of machines leave the same. */
	if (rc == 0)
		rc = isolation_vm.destroy(engine, id, err);
	if (rc < 0)
		return rc;
	rc = record_get_status(engine, id, &status, &absent);
	if (rc == -ENOENT)
		rc = tree_remove(engine->root_fd, workload_dir(id).path, err);
	else if (rc == 0)
		rc = settle(engine, id, status, err);
	else
		rc = fail(err, rc, "recover workload %s: %s", id, absent.text);
	if (rc == 0)
		lock_release(engine, id, lock_fd);
	else
		lock_leave(lock_fd);
	return rc;
}

int engine_recover_layers(struct engine *engine, struct error *err)
{
	struct layer_leftovers found;
	struct image_store *images;
	int layers_fd, rc = engine_images(engine, &images, err);

	if (rc < 0)
		return rc;
	layers_fd = image_store_layers_fd(images, NULL);
	return layers_fd < 0 ? 0 : layer_recover(layers_fd, engine->state_fd, 0, &found, err);
}

/* Repairs one workload if nobody holds its lock. Returns 1 if something was done. A workload that
 * cannot be repaired now must not keep others from working: it is told, and tried again next time. */
static int try_one(struct engine *engine, const char *id)
{
	struct error why = {0};
	own_fd int lock_fd = lock_try(engine, id, &why);
	int rc = lock_fd;

	if (lock_fd == -EWOULDBLOCK)
		return 0;
	if (rc >= 0)
		rc = engine_recover_one(engine, id, &lock_fd, &why);
	if (rc < 0)
		log_warn("cannot clean up after a crash: %s", why.text);
	return 1;
}

/* Everything that has a directory in <state>. */
static int recover_states(struct engine *engine, unsigned int *present, unsigned int *count,
			  struct error *err)
{
	int fd = openat(engine->state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (dir == NULL)
		return fail(err, -errno, "read %s", engine->state);
	while ((entry = readdir(dir)) != NULL)
		if (id_is_valid(entry->d_name)) {
			*count += (unsigned int)try_one(engine, entry->d_name);
			++*present;
		}
	return 0;
}

/* With no workload at work no layer is in use: what is there is left over. */
static bool has_layers(struct engine *engine)
{
	int fd = openat(engine->state_fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			return true;
	return false;
}

int engine_recover(struct engine *engine, struct error *err)
{
	own_strv char **ids = NULL;
	unsigned int count = 0;
	unsigned int present = 0;
	int rc = recover_states(engine, &present, &count, err);

	if (rc == 0)
		rc = record_unsettled(engine, &ids, err);
	/* Those that have a directory have been looked at. */
	for (size_t i = 0; rc == 0 && ids != NULL && ids[i] != NULL; i++)
		if (faccessat(engine->state_fd, ids[i], F_OK, AT_SYMLINK_NOFOLLOW) < 0)
			count += (unsigned int)try_one(engine, ids[i]);
	if (rc == 0 && (count > 0 || (present == 0 && has_layers(engine))))
		rc = engine_recover_layers(engine, err);
	return rc;
}
