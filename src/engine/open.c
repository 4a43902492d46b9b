/* open: an engine for a command: what earlier ones left behind is put right first. */
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"
#include "engine/engine_priv.h"

/* Made when the first command after a boot has compared everything (G3). */
static const char checked_mark[] = "checked";

static void ignore_problem(const char *problem, bool repaired, void *data)
{
	(void)problem;
	(void)repaired;
	(void)data;
}

/* What the first command after a boot, or with a new state directory, does. */
static int first_look(struct engine *engine, struct error *err)
{
	int rc = engine_check(engine, ENGINE_CHECK_REPAIR, ignore_problem, NULL, err);

	if (rc < 0)
		return rc;
	return file_write(engine->state_fd, checked_mark, "", 0, 0600, FILE_WRITE_PLAIN, err);
}

int engine_open(const struct engine_options *options, struct engine **ret, struct error *err)
{
	own_engine struct engine *engine = NULL;
	int rc = engine_open_at(options->root, options->state, true, &engine, err);

	/* First of all: the checks below open the image store already, which takes it over. */
	if (rc == 0) {
		engine->policy = str_copy(options->policy);
		engine->image_max_age_ns = options->image_max_age_ns;
		engine->image_max_bytes = options->image_max_bytes;
		engine->drops_blobs = options->drops_blobs;
	}
	if (rc == 0 && faccessat(engine->state_fd, checked_mark, F_OK, 0) < 0)
		rc = first_look(engine, err);
	else if (rc == 0)
		rc = engine_recover(engine, err);
	if (rc < 0)
		return rc;
	*ret = take(engine);
	return 0;
}
