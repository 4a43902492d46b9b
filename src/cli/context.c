/* context: see context.h. */
#include "cli/context.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"

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

int for_each_argument(const struct args *args, each_fn *fn, bool echo, struct error *err)
{
	own_engine struct engine *engine = NULL;
	bool failed = false;
	int rc = open_engine(args, &engine, err);

	if (rc < 0)
		return rc;
	for (int i = 0; i < args_count(args); i++) {
		struct error one = {0};

		rc = fn(engine, args_at(args, i), args, &one);
		if (rc < 0) {
			failed = true;
			log_failure(&one);
		} else if (echo) {
			puts(args_at(args, i));
		}
	}
	if (fflush(stdout) != 0)
		return fail(err, -errno, "write the output");
	if (failed)
		err->code = -EIO;
	return failed ? -EIO : 0;
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
