/* create: making a workload that does not run yet (verbs of workload.h). */
#include "engine/create.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "engine/isolation.h"
#include "engine/lock.h"
#include "engine/name.h"
#include "engine/record.h"
#include "engine/spec.h"
#include "image/config.h"
#include "image/store.h"

enum { NAME_ATTEMPTS = 6 };

/* What the image says and the user did not. */
static int take_from_image(struct engine *engine, struct workload *w, struct error *err)
{
	own_image_config struct image_config image_config = {0};
	own_image struct image *image = NULL;
	struct workload_config *c = &w->config;
	struct image_store *store;
	int rc = engine_images(engine, &store, err);

	if (rc == 0)
		rc = image_find(store, c->image, &image, err);
	if (rc == 0)
		rc = image_read_config(image, &image_config, err);
	if (rc == 0)
		rc = spec_command(c, &image_config, &w->argv, err);
	if (rc < 0)
		return rc;
	free(c->image_id);
	c->image_id = str_copy(image->id.text);
	if (c->stop_signal == NULL)
		c->stop_signal = str_copy(image_config.stop_signal);
	/* The image's labels first, so that the user's replace them. */
	for (size_t i = 0; image_config.labels != NULL && image_config.labels[i] != NULL; i++) {
		own_mem char *key =
			str_copy_n(image_config.labels[i], strcspn(image_config.labels[i], "="));

		if (env_get(c->labels, key) == NULL)
			env_set_pair(&c->labels, image_config.labels[i]);
	}
	return 0;
}

/* The parts of create_begin that can fail, but for the lock. */
static int complete(struct engine *engine, struct workload *w, struct error *err)
{
	int rc = workload_config_check(&w->config, err);

	if (rc == 0)
		rc = isolation_of(w->config.isolation)->check(&w->config, err);
	if (rc == 0 && w->config.isolation != WORKLOAD_MACHINE)
		rc = take_from_image(engine, w, err);
	else if (rc == 0) /* what it begins with */
		strv_push(&w->argv, w->config.firmware ? w->config.firmware : "bios");
	if (rc < 0)
		return rc;
	w->name = w->config.name ? str_copy(w->config.name) : name_make(0);
	if (w->config.hostname == NULL && !(w->config.flags & WORKLOAD_UTS_HOST) &&
	    w->config.network != WORKLOAD_NETWORK_HOST)
		w->config.hostname = str_copy_n(w->id, WORKLOAD_SHORT_ID_LEN);
	return 0;
}

int create_begin(struct engine *engine, struct workload_config *config, struct workload *ret,
		 int *ret_lock_fd, struct error *err)
{
	struct workload w = {.config = *config, .created_ns = clock_now_ns()};
	int lock_fd = -1, rc;

	id_make(w.id);
	rc = complete(engine, &w, err);
	if (rc == 0)
		rc = lock_fd = lock_new(engine, w.id, err);
	if (rc >= 0)
		rc = dir_make(engine->root_fd, workload_dir(w.id).path, 0700, err);
	if (rc < 0) {
		if (lock_fd >= 0)
			create_undo(engine, w.id, &lock_fd);
		create_give_back(&w, config);
		return rc;
	}
	*ret_lock_fd = lock_fd;
	*ret = w;
	return 0;
}

void create_give_back(struct workload *w, struct workload_config *config)
{
	*config = w->config;
	workload_config_init(&w->config);
	workload_release(w);
}

int create_commit(struct engine *engine, struct workload *w, enum record_status status,
		  struct error *err)
{
	int rc;

	for (unsigned int attempt = 1;; attempt++) {
		rc = record_insert(engine, w, status, err);
		/* A made-up name that is taken already: another one. */
		if (rc != -EEXIST || w->config.name != NULL || attempt == NAME_ATTEMPTS)
			return rc;
		error_clear(err);
		free(w->name);
		w->name = name_make(attempt);
	}
}

void create_undo(struct engine *engine, const char *id, int *lock_fd)
{
	/* What cannot be removed now has no row and no lock: the next command tries again. */
	if (tree_remove(engine->root_fd, workload_dir(id).path, NULL) == 0)
		lock_release(engine, id, lock_fd);
	else
		lock_leave(lock_fd);
}

int workload_create(struct engine *engine, struct workload_config *config,
		    char ret_id[static WORKLOAD_ID_LEN + 1], struct error *err)
{
	struct workload w;
	int lock_fd = -1, rc = create_begin(engine, config, &w, &lock_fd, err);

	if (rc < 0)
		return rc;
	rc = create_commit(engine, &w, RECORD_CREATED, err);
	if (rc < 0) {
		create_undo(engine, w.id, &lock_fd);
	} else {
		strcpy(ret_id, w.id);
		lock_release(engine, w.id, &lock_fd);
	}
	create_give_back(&w, config);
	return rc;
}
