/* engine: see engine.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/engine_priv.h"
#include "engine/rootless.h"
#include "engine/schema.h"
#include "image/store.h"

/* The directory for `what`: as given, from the environment, or where it belongs. */
static char *choose(const char *given, const char *variable, const char *system_path,
		    const char *xdg_variable, const char *xdg_fallback)
{
	const char *value = given ? given : getenv(variable);
	own_mem char *cwd = NULL;

	if (str_empty(value) && proc_is_root())
		return str_copy(system_path);
	if (str_empty(value)) {
		const char *xdg = getenv(xdg_variable), *home = getenv("HOME");

		if (!str_empty(xdg))
			return str_format("%s/berth", xdg);
		if (xdg_fallback[0] == '/')
			return str_format("%s-%u", xdg_fallback, rootless_user());
		return str_format("%s/%s/berth", home ? home : "", xdg_fallback);
	}
	if (value[0] == '/')
		return str_copy(value);
	cwd = getcwd(NULL, 0);
	return str_format("%s/%s", cwd ? cwd : "", value);
}

static int open_directory(const char *path, const char *flag, struct error *err)
{
	int fd = dir_open(AT_FDCWD, path, 0700, err);

	if (fd == -EACCES || fd == -EPERM || fd == -EROFS)
		hint(err, fd, "run as root, or give a directory of your own with %s", flag);
	return fd;
}

static int open_parts(struct engine *engine, struct error *err)
{
	own_mem char *database = str_format("%s/berth.db", engine->root);
	int rc;

	engine->root_fd = open_directory(engine->root, "--root", err);
	if (engine->root_fd < 0)
		return engine->root_fd;
	engine->state_fd = open_directory(engine->state, "--state", err);
	if (engine->state_fd < 0)
		return engine->state_fd;
	rc = db_open(database, &engine->db, err);
	return rc < 0 ? rc : schema_migrate(engine->db, err);
}

void engine_init_paths(struct engine *engine, const char *root, const char *state)
{
	*engine = (struct engine){.root_fd = -1, .state_fd = -1, .rootless = !proc_is_root()};
	engine->root =
		choose(root, "BERTH_ROOT", "/var/lib/berth", "XDG_DATA_HOME", ".local/share");
	engine->state =
		choose(state, "BERTH_STATE", "/run/berth", "XDG_RUNTIME_DIR", "/tmp/berth-run");
}

int engine_open_at(const char *root, const char *state, bool enter, struct engine **ret,
		   struct error *err)
{
	own_engine struct engine *engine = mem_new(sizeof(*engine));
	int rc = 0;

	engine_init_paths(engine, root, state);
	if (enter)
		rc = rootless_enter(engine->state, err);
	if (rc == 0)
		rc = open_parts(engine, err);
	if (rc < 0)
		return rc;
	*ret = take(engine);
	return 0;
}

int engine_open_plain(const char *root, const char *state, struct engine **ret, struct error *err)
{
	return engine_open_at(root, state, false, ret, err);
}

void engine_close(struct engine *engine)
{
	if (engine == NULL)
		return;
	if (engine->images != NULL)
		image_store_close(engine->images);
	db_close(engine->db);
	fd_close(&engine->root_fd);
	fd_close(&engine->state_fd);
	free(engine->root);
	free(engine->state);
	free(engine->policy);
	free(engine);
}

void engine_on_wait(struct engine *engine, engine_wait_fn *fn)
{
	engine->on_wait = fn;
}

struct db *engine_db(struct engine *engine)
{
	return engine->db;
}

int engine_root_fd(const struct engine *engine)
{
	return engine->root_fd;
}

int engine_state_fd(const struct engine *engine)
{
	return engine->state_fd;
}

const char *engine_root_path(const struct engine *engine)
{
	return engine->root;
}

const char *engine_state_path(const struct engine *engine)
{
	return engine->state;
}

bool engine_rootless(const struct engine *engine)
{
	return engine->rootless;
}

int engine_images(struct engine *engine, struct image_store **ret, struct error *err)
{
	if (engine->images == NULL) {
		int rc = image_store_open(engine->root_fd, engine->state_fd, engine->db,
					  &engine->images, err);

		if (rc < 0)
			return rc;
		image_store_set_policy(engine->images, engine->policy);
		image_store_set_keep_blobs(engine->images, !engine->drops_blobs);
		image_store_set_limits(engine->images,
				       &(struct image_limits){
					       .max_age_ns = engine->image_max_age_ns,
					       .max_bytes = engine->image_max_bytes,
				       });
	}
	*ret = engine->images;
	return 0;
}

struct workload_dir workload_dir(const char *id)
{
	struct workload_dir dir;

	snprintf(dir.path, sizeof(dir.path), "workloads/%s", id);
	return dir;
}
