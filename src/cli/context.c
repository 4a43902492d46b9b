/* context: see context.h. */
#include "cli/context.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"

int open_engine(const struct args *args, struct engine **ret, struct error *err)
{
	const struct engine_options options = {
		.root = args_string(args, "root"),
		.state = args_string(args, "state"),
		.policy = args_string(args, "signature-policy"),
		.image_max_age_ns = args_duration(args, "image-max-age"),
		.image_max_bytes = args_size(args, "image-max-size"),
		.drops_blobs = !args_flag(args, "keep-blobs"),
	};

	return engine_open(&options, ret, err);
}

int open_images(const struct args *args, struct engine **ret_engine, struct image_store **ret,
		struct error *err)
{
	own_engine struct engine *engine = NULL;
	int rc = open_engine(args, &engine, err);

	if (rc >= 0)
		rc = engine_images(engine, ret, err);
	if (rc < 0)
		return rc;
	*ret_engine = take(engine);
	return 0;
}

static int for_each_name(struct engine *engine, const struct args *args, char *const *names,
			 each_fn *fn, bool echo, struct error *err)
{
	bool failed = false;

	for (; names != NULL && *names != NULL; names++) {
		struct error one = {0};

		if (fn(engine, *names, args, &one) < 0) {
			failed = true;
			log_failure(&one);
		} else if (echo) {
			puts(*names);
		}
	}
	if (fflush(stdout) != 0)
		return fail(err, -errno, "write the output");
	if (failed)
		err->code = -EIO;
	return failed ? -EIO : 0;
}

int for_each_argument(const struct args *args, each_fn *fn, bool echo, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_strv char **names = NULL;
	int rc = open_engine(args, &engine, err);

	for (int i = 0; i < args_count(args); i++)
		strv_push(&names, args_at(args, i));
	return rc < 0 ? rc : for_each_name(engine, args, names, fn, echo, err);
}

static int add_name(const struct workload *workload, void *data, struct error *err)
{
	(void)err;
	strv_push(data, workload->name);
	return 0;
}

int for_each_workload(const struct args *args, bool running, each_fn *fn, bool echo,
		      struct error *err)
{
	const struct workload_filter filter = {.all = !running};
	own_engine struct engine *engine = NULL;
	own_strv char **names = NULL;
	int rc;

	if (!args_flag(args, "all"))
		return for_each_argument(args, fn, echo, err);
	if (args_count(args) > 0)
		return args_refuse(args, err, "--all and \"%s\" exclude each other",
				   args_at(args, 0));
	/* All names before the first is done: what is done changes what there is. */
	rc = open_engine(args, &engine, err);
	if (rc >= 0)
		rc = workload_list(engine, &filter, add_name, &names, err);
	return rc < 0 ? rc : for_each_name(engine, args, names, fn, echo, err);
}

bool confirm(const char *question)
{
	char answer[16] = "";

	if (!isatty(0))
		return false;
	printf("%s [y/N] ", question);
	fflush(stdout);
	return fgets(answer, sizeof(answer), stdin) != NULL &&
	       (answer[0] == 'y' || answer[0] == 'Y');
}
