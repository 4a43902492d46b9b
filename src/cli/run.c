/* run: `run` and `create`. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/progress.h"
#include "cli/run_priv.h"
#include "cli/streams.h"
#include "cli/transfer.h"

/* Sees to it that the image is here, pulling it if --pull says so. */
static int get_image(const struct args *args, struct engine *engine, struct error *err)
{
	static const char *const policies[] = {
		[IMAGE_PULL_MISSING] = "missing",
		[IMAGE_PULL_ALWAYS] = "always",
		[IMAGE_PULL_NEVER] = "never",
		[IMAGE_PULL_NEWER] = "newer",
	};
	own_progress struct progress *progress = progress_new(args_flag(args, "quiet"));
	const struct image_remote remote = {
		.platform = args_string(args, "platform"),
		.progress = progress_report,
		.progress_data = progress,
		.choose = transfer_choose(),
	};
	own_image struct image *image = NULL;
	struct image_store *store;
	unsigned int policy = 0;
	int rc = engine_images(engine, &store, err);

	if (rc < 0)
		return rc;
	if (args_count(args) == 0)
		return 0; /* a full machine has none */
	while (strcmp(args_string(args, "pull"), policies[policy]) != 0)
		policy++;
	return image_get(store, args_at(args, 0), policy, &remote, &image, err);
}

/* The file of --cidfile, made before there is anything whose id it could lack. */
struct cidfile {
	const char *path; /* NULL: none */
	int fd;
	bool written;
};

static int open_cidfile(const struct args *args, struct cidfile *ret, struct error *err)
{
	ret->path = args_string(args, "cidfile");
	ret->fd = -1;
	ret->written = false;
	if (ret->path == NULL)
		return 0;
	ret->fd = open(ret->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (ret->fd >= 0)
		return 0;
	if (errno == EEXIST)
		return hint(err, refuse(err, -EEXIST, "--cidfile: %s exists already", ret->path),
			    "remove it, if the workload whose id it holds is gone");
	return fail(err, -errno, "--cidfile: create %s", ret->path);
}

static int write_cidfile(struct cidfile *file, const char *id, struct error *err)
{
	int rc;

	if (file->path == NULL)
		return 0;
	rc = fd_write_full(file->fd, id, strlen(id));
	if (rc < 0)
		return fail(err, rc, "--cidfile: write %s", file->path);
	file->written = true;
	return 0;
}

/* One that got no id is taken away. */
static void close_cidfile(struct cidfile *file)
{
	if (file->path != NULL && file->fd >= 0 && !file->written)
		unlink(file->path);
	fd_close(&file->fd);
}

struct run_state {
	struct cidfile cidfile;
	bool detach;
};

static int on_started(const char *id, void *data, struct error *err)
{
	struct run_state *state = data;
	own_mem char *line = str_format("%s\n", id);
	int rc = write_cidfile(&state->cidfile, id, err);

	if (rc < 0 || !state->detach)
		return rc;
	return print_text(line, err);
}

static int run_stdio(const struct args *args, const struct workload_config *config,
		     struct workload_run *run, struct error *err)
{
	int rc;

	run->detach = args_flag(args, "detach");
	if (run->detach && args_given(args, "attach"))
		return args_refuse(args, err, "--detach and --attach exclude each other");
	rc = streams_read(args, (config->flags & WORKLOAD_STDIN_OPEN) != 0, &run->stdio, err);
	if (rc < 0 || run->detach)
		return rc;
	return streams_check_terminal(&run->stdio, (config->flags & WORKLOAD_TTY) != 0, err);
}

/* What the errors of run and create begin with. */
static int name_failure(const struct workload_config *config, int rc, const char *verb,
			struct error *err)
{
	if (err->text[0] != '\0')
		refuse(err, rc, "cannot %s \"%s\"", verb,
		       config->name    ? config->name
		       : config->image ? config->image
				       : config->disks[0]);
	return rc;
}

/* --replace: who has the name goes; a name that is the beginning of somebody's id is not his. */
static int replace(const struct args *args, struct engine *engine, const char *name,
		   struct error *err)
{
	own_workload struct workload old = {0};
	struct error none = {0};

	if (!args_flag(args, "replace"))
		return 0;
	if (name == NULL)
		return args_refuse(args, err, "--replace needs --name");
	if (workload_find(engine, name, &old, &none) < 0 || strcmp(old.name, name) != 0)
		return 0;
	return workload_remove(engine, old.id, WORKLOAD_REMOVE_FORCE, err);
}

int run_run(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_workload_config struct workload_config config;
	struct run_state state = {.detach = args_flag(args, "detach"), .cidfile.fd = -1};
	struct workload_run run = {.stdio = WORKLOAD_STDIO_DEFAULTS};
	int rc;

	workload_config_init(&config);
	run.started = on_started;
	run.data = &state;
	rc = run_config(args, &config, err);
	if (rc >= 0)
		rc = run_stdio(args, &config, &run, err);
	if (rc < 0)
		return rc;
	rc = open_cidfile(args, &state.cidfile, err);
	if (rc >= 0)
		rc = open_engine(args, &engine, err);
	if (rc >= 0 && !args_flag(args, "quiet"))
		engine_on_wait(engine, progress_wait);
	if (rc >= 0)
		rc = get_image(args, engine, err);
	if (rc >= 0)
		rc = replace(args, engine, config.name, err);
	if (rc >= 0)
		rc = workload_run(engine, &config, &run, err);
	close_cidfile(&state.cidfile);
	return rc < 0 ? name_failure(&config, rc, "run", err) : rc;
}

int run_create(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_workload_config struct workload_config config;
	struct cidfile cidfile = {.fd = -1};
	char id[WORKLOAD_ID_LEN + 2];
	int rc;

	workload_config_init(&config);
	rc = run_config(args, &config, err);
	if (rc < 0)
		return rc;
	rc = open_cidfile(args, &cidfile, err);
	if (rc >= 0)
		rc = open_engine(args, &engine, err);
	if (rc >= 0)
		rc = get_image(args, engine, err);
	if (rc >= 0)
		rc = replace(args, engine, config.name, err);
	if (rc >= 0)
		rc = workload_create(engine, &config, id, err);
	if (rc >= 0)
		rc = write_cidfile(&cidfile, id, err);
	close_cidfile(&cidfile);
	if (rc < 0)
		return name_failure(&config, rc, "create", err);
	strcat(id, "\n");
	return print_text(id, err);
}
