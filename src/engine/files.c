/*
 * files: export, diff, commit, cp (verbs of workload.h).
 *
 * While its files are read a workload is held: one that does not run is locked, so that nobody starts it
 * meanwhile, and one that runs is paused for a commit, which must be of one moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/beneath.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/container_files.h"
#include "engine/find.h"
#include "engine/guard.h"
#include "engine/isolation.h"
#include "engine/lock.h"
#include "engine/overlay.h"
#include "engine/spec.h"
#include "image/build.h"
#include "image/config.h"
#include "tar/pack.h"
#include "tar/tar.h"

enum hold_how { HOLD_PAUSED, HOLD_RUNNING };

struct hold {
	struct engine *engine;
	struct workload workload;
	int lock_fd;
	struct guard guard; /* pauses it */
	sigset_t signals;   /* as they were before */
};

static const struct isolation *isolation_in(const struct hold *hold)
{
	return isolation_of(hold->workload.config.isolation);
}

static void hold_end(struct hold *hold)
{
	if (hold->guard.fd >= 0) {
		guard_end(hold->engine, &hold->workload, &hold->guard);
		sigprocmask(SIG_SETMASK, &hold->signals, NULL);
	}
	if (hold->lock_fd >= 0)
		lock_release(hold->engine, hold->workload.id, &hold->lock_fd);
	workload_release(&hold->workload);
}
#define own_hold __attribute__((cleanup(hold_end)))

static int hold_begin(struct engine *engine, const char *ref, enum hold_how how, struct hold *ret,
		      struct error *err)
{
	struct workload *w = &ret->workload;
	sigset_t ending;
	int rc;

	sigemptyset(&ending);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGHUP);
	sigaddset(&ending, SIGPIPE);
	*ret = (struct hold){.engine = engine, .lock_fd = -1, .guard = GUARD_NONE};
	rc = workload_find(engine, ref, w, err);
	if (rc == 0)
		rc = isolation_check_inside(w, err);
	if (rc < 0)
		return rc;
	if (w->status == WORKLOAD_RUNNING && how == HOLD_PAUSED) {
		/* We see it running again before we end, but for SIGKILL: then the guard is alone. */
		sigprocmask(SIG_BLOCK, &ending, &ret->signals);
		rc = guard_begin(engine, w, &ret->guard, err);
		/* Nothing is delegated to an ordinary user, often: then it is not of one moment. */
		if (rc == -ENOTSUP && engine->rootless) {
			log_warn("\"%s\" runs on meanwhile: %s", ref, err ? err->text : "");
			error_clear(err);
			rc = 0;
		}
		if (rc < 0)
			sigprocmask(SIG_SETMASK, &ret->signals, NULL);
		return rc < 0 ? fail(err, rc, "cannot pause \"%s\"", ref) : 0;
	}
	if (w->status == WORKLOAD_RUNNING || w->status == WORKLOAD_PAUSED)
		return 0;
	w->pid = 0;
	ret->lock_fd = lock_take(engine, w->id, err);
	if (ret->lock_fd == -EBUSY)
		return refuse(err, -EBUSY, "\"%s\" is just starting or ending", ref);
	return ret->lock_fd < 0 ? ret->lock_fd : 0;
}

int workload_export(struct engine *engine, const char *ref, workload_bytes_fn *out, void *context,
		    struct error *err)
{
	own_hold struct hold hold;
	int rc = hold_begin(engine, ref, HOLD_RUNNING, &hold, err);

	if (rc == 0)
		rc = isolation_in(&hold)->read_tree(engine, &hold.workload, out, context, err);
	return rc < 0 ? fail(err, rc, "cannot export \"%s\"", ref) : 0;
}

/* --- diff ------------------------------------------------------------------------------------------ */

/* A directory that was removed and made again: what the image has in it is hidden. */
struct hidden {
	char *path;
	char **seen; /* names in it that have come again */
};

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Reads the names of what was written, and looks for each in the image. */
struct diff {
	struct tar_sink sink;
	struct tar_reader *reader;
	int image_fd; /* the root of the image alone */
	workload_change_fn *fn;
	void *data;
	struct hidden *hidden; /* each within the one before */
	size_t hidden_count, hidden_capacity;
	char *unsure; /* a directory that is told of only if something in it is */
};

/* A link in the image where there is a directory now has nothing in common with it. */
static bool is_in_image(const struct diff *d, const char *path)
{
	own_fd int fd = beneath_open_plain(d->image_fd, path, O_PATH | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	return !(S_ISCHR(st.st_mode) && st.st_rdev == 0);
}

static int tell(struct diff *d, enum workload_change change, const char *path, struct error *err)
{
	own_mem char *absolute = str_format("/%s", path);

	return d->fn(change, absolute, d->data, err);
}

/* Leaves the innermost hidden directory: what has not come again is deleted. */
static int leave_hidden(struct diff *d, struct error *err)
{
	struct hidden *h = &d->hidden[--d->hidden_count];
	own_mem char *dir_path = take(h->path);
	own_strv char **seen = take(h->seen), **gone = NULL;
	int fd = beneath_open_plain(d->image_fd, dir_path, O_RDONLY | O_DIRECTORY);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int rc = 0;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..") &&
		    !strv_has(seen, entry->d_name))
			strv_push(&gone, entry->d_name);
	if (gone != NULL)
		qsort(gone, strv_len(gone), sizeof(*gone), compare_texts);
	for (size_t i = 0; rc == 0 && gone != NULL && gone[i] != NULL; i++) {
		own_mem char *path = str_format("%s/%s", dir_path, gone[i]);

		rc = tell(d, WORKLOAD_DELETED, path, err);
	}
	return rc;
}

/* Leaves the hidden directories that the path is not in, and notes its name in the one it is in. */
static int pass_hidden(struct diff *d, const char *path, struct error *err)
{
	while (d->hidden_count > 0) {
		struct hidden *h = &d->hidden[d->hidden_count - 1];
		const char *rest = str_after(path, h->path);
		int rc;

		if (rest != NULL && rest[0] == '/') {
			if (strchr(rest + 1, '/') == NULL)
				strv_push(&h->seen, rest + 1);
			return 0;
		}
		rc = leave_hidden(d, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The runtime makes the places that it mounts on, and that copies the directories above them: they are as they
 * were but for their time. */
static bool is_above_stub(const struct diff *d, const char *path, const struct tar_entry *e)
{
	own_fd int fd = beneath_open_plain(d->image_fd, path, O_PATH | O_NOFOLLOW);

	struct stat st;

	if (e->type != TAR_DIR)
		return false;
	if (fd >= 0 &&
	    (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode) || (st.st_mode & 07777) != e->mode ||
	     st.st_uid != e->uid || st.st_gid != e->gid))
		return false;
	for (size_t i = 0; container_stubs[i] != NULL; i++) {
		const char *rest = str_after(container_stubs[i], path);

		if (rest != NULL && rest[0] == '/')
			return true;
	}
	return false;
}

/* Tells of the directory that was waited with if `path` is in it. */
static int settle_unsure(struct diff *d, const char *path, struct error *err)
{
	own_mem char *unsure = take(d->unsure);
	const char *rest = unsure ? str_after(path, unsure) : NULL;

	if (rest == NULL || rest[0] != '/')
		return 0;
	return tell(d, is_in_image(d, unsure) ? WORKLOAD_CHANGED : WORKLOAD_ADDED, unsure, err);
}

/* The path of an entry without dots and slashes around it; "" for the root. */
static char *plain_path(const char *path)
{
	const char *rest = str_after(path, "./");
	char *plain = str_copy(rest ? rest : path);

	while (str_ends_with(plain, "/"))
		plain[strlen(plain) - 1] = '\0';
	return plain;
}

static int on_name(struct tar_sink *sink, const struct tar_entry *e, struct error *err)
{
	struct diff *d = container_of(sink, struct diff, sink);
	own_mem char *path = plain_path(e->path);
	const char *slash = strrchr(path, '/');
	const char *hidden = str_after(slash ? slash + 1 : path, ".wh.");
	int rc;

	if (path[0] == '\0')
		return 0;
	rc = settle_unsure(d, path, err);
	if (rc < 0)
		return rc;
	if (hidden != NULL && str_eq(hidden, ".wh..opq")) {
		if (slash == NULL)
			return 0;
		d->hidden = mem_grow(d->hidden, d->hidden_count, &d->hidden_capacity,
				     sizeof(*d->hidden));
		d->hidden[d->hidden_count++] =
			(struct hidden){.path = str_copy_n(path, (size_t)(slash - path))};
		return 0;
	}
	rc = pass_hidden(d, path, err);
	if (rc < 0)
		return rc;
	if (hidden != NULL) {
		own_mem char *gone =
			str_format("%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, hidden);

		return tell(d, WORKLOAD_DELETED, gone, err);
	}
	if (is_above_stub(d, path, e)) {
		d->unsure = take(path);
		return 0;
	}
	return tell(d, is_in_image(d, path) ? WORKLOAD_CHANGED : WORKLOAD_ADDED, path, err);
}

static int add_names(const void *data, size_t len, void *context, struct error *err)
{
	struct diff *d = context;

	return tar_reader_add(d->reader, data, len, err);
}

int workload_diff(struct engine *engine, const char *ref, workload_change_fn *fn, void *data,
		  struct error *err)
{
	static const struct tar_sink_ops ops = {.entry = on_name};
	struct diff d = {.sink.ops = &ops, .fn = fn, .data = data};
	struct overlay_view view = OVERLAY_VIEW_NONE;
	own_hold struct hold hold;
	int rc = hold_begin(engine, ref, HOLD_RUNNING, &hold, err);

	if (rc == 0)
		rc = overlay_view_open(engine, &hold.workload, OVERLAY_IMAGE, &view, err);
	if (rc < 0)
		return fail(err, rc, "cannot compare \"%s\" with its image", ref);
	d.image_fd = view.root_fd;
	d.reader = tar_reader_create(&d.sink);
	rc = isolation_in(&hold)->read_changes(engine, &hold.workload, PACK_NAMES, add_names, &d,
					       err);
	if (rc == 0)
		rc = tar_reader_finish(d.reader, err);
	while (rc == 0 && d.hidden_count > 0)
		rc = leave_hidden(&d, err);
	tar_reader_destroy(d.reader);
	while (d.hidden_count > 0) {
		struct hidden *h = &d.hidden[--d.hidden_count];

		free(h->path);
		strv_free(h->seen);
	}
	free(d.hidden);
	free(d.unsure);
	overlay_view_close(engine, &view);
	return rc < 0 ? fail(err, rc, "cannot compare \"%s\" with its image", ref) : 0;
}

/* --- commit ---------------------------------------------------------------------------------------- */

static json_t *object_in(json_t *config, const char *key)
{
	json_t *o = json_object_get(config, key);

	if (json_is_object(o))
		return o;
	o = json_object();
	json_object_set_new(config, key, o);
	return o;
}

static void set_list(json_t *config, const char *key, char *const *list)
{
	json_t *array = json_array();

	for (size_t i = 0; list[i] != NULL; i++)
		json_array_append_new(array, json_string(list[i]));
	json_object_set_new(config, key, array);
}

/* The environment that it was given joins the image's. */
static void join_environment(json_t *config, char *const *given)
{
	own_strv char **env = NULL;
	json_t *old = json_object_get(config, "Env");

	for (size_t i = 0; i < json_array_size(old); i++)
		if (json_is_string(json_array_get(old, i)))
			env_set_pair(&env, json_string_value(json_array_get(old, i)));
	for (size_t i = 0; given != NULL && given[i] != NULL; i++)
		env_set_pair(&env, given[i]);
	if (env != NULL)
		set_list(config, "Env", env);
}

static void join_config(json_t *config, const struct workload_config *c)
{
	join_environment(config, c->env);
	/* As docker: with another entrypoint the image's command is void. */
	if (c->entrypoint != NULL) {
		set_list(config, "Entrypoint", c->entrypoint);
		json_object_del(config, "Cmd");
	}
	if (c->command != NULL)
		set_list(config, "Cmd", c->command);
	if (c->user != NULL)
		json_set_string(config, "User", c->user);
	if (c->working_dir != NULL)
		json_set_string(config, "WorkingDir", c->working_dir);
	if (c->stop_signal != NULL)
		json_set_string(config, "StopSignal", c->stop_signal);
	for (size_t i = 0; c->labels != NULL && c->labels[i] != NULL; i++) {
		const char *equals = strchr(c->labels[i], '=');
		own_mem char *key = str_copy_n(c->labels[i], strcspn(c->labels[i], "="));

		json_set_string(object_in(config, "Labels"), key, equals ? equals + 1 : "");
	}
}

int workload_image_config(struct engine *engine, const char *ref, json_t **ret, struct error *err)
{
	own_workload struct workload w = {0};
	own_image struct image *image = NULL;
	own_json json_t *config = NULL;
	struct image_store *store;
	int rc = workload_find(engine, ref, &w, err);

	if (rc == 0)
		rc = isolation_check_inside(&w, err);
	if (rc == 0)
		rc = engine_images(engine, &store, err);
	if (rc == 0)
		rc = image_find(store, w.config.image_id, &image, err);
	if (rc == 0)
		rc = json_parse(image->runtime_text, strlen(image->runtime_text),
				"the image's configuration", &config, err);
	if (rc < 0)
		return rc;
	if (!json_is_object(config)) {
		json_decref(config);
		config = json_object();
	}
	join_config(config, &w.config);
	*ret = take(config);
	return 0;
}

static int produce_changes(image_bytes_fn *out, void *out_context, void *context, struct error *err)
{
	struct hold *hold = context;

	return isolation_in(hold)->read_changes(hold->engine, &hold->workload, 0, out, out_context,
						err);
}

int workload_commit(struct engine *engine, const char *ref, const struct workload_commit *options,
		    struct digest *ret_id, struct error *err)
{
	own_hold struct hold hold;
	own_image struct image *image = NULL;
	own_mem char *command = NULL;
	own_json json_t *config = json_deep_copy(options->config);
	struct image_store *store;
	struct image_import import = {
		.name = options->name,
		.config = config,
		.author = options->author,
		.comment = options->comment,
		.created_ns = clock_now_ns(),
	};
	int rc = hold_begin(engine, ref,
			    options->flags & WORKLOAD_COMMIT_NO_PAUSE ? HOLD_RUNNING : HOLD_PAUSED,
			    &hold, err);

	if (rc == 0)
		rc = engine_images(engine, &store, err);
	if (rc < 0)
		return fail(err, rc, "cannot commit \"%s\"", ref);
	import.base = hold.workload.config.image_id;
	import.created_by = command = strv_join(hold.workload.argv, " ");
	rc = image_build(store, &import, produce_changes, &hold, &image, err);
	if (rc < 0)
		return fail(err, rc, "cannot commit \"%s\"", ref);
	*ret_id = image->id;
	return 0;
}

/* --- paths ----------------------------------------------------------------------------------------- */

void workload_path_release(struct workload_path *path)
{
	free(path->target);
	path->target = NULL;
}

int workload_stat_path(struct engine *engine, const char *ref, const char *path,
		       struct workload_path *ret, struct error *err)
{
	own_hold struct hold hold;
	int rc = hold_begin(engine, ref, HOLD_RUNNING, &hold, err);

	return rc < 0 ? rc : isolation_in(&hold)->stat_path(engine, &hold.workload, path, ret, err);
}

int workload_read_path(struct engine *engine, const char *ref, const char *path, const char *as,
		       workload_bytes_fn *out, void *context, struct error *err)
{
	own_hold struct hold hold;
	int rc = hold_begin(engine, ref, HOLD_RUNNING, &hold, err);

	return rc < 0 ? rc
		      : isolation_in(&hold)->read_path(engine, &hold.workload, path, as, out,
						       context, err);
}

int workload_write_path(struct engine *engine, const char *ref, const char *dir,
			enum workload_put_flags flags, workload_produce_fn *produce, void *context,
			struct error *err)
{
	own_hold struct hold hold;
	int rc = hold_begin(engine, ref, HOLD_RUNNING, &hold, err);

	return rc < 0 ? rc
		      : isolation_in(&hold)->write_path(engine, &hold.workload, dir, flags, produce,
							context, err);
}
