/* files: what containers have written: `export`, `diff`, `commit`. `cp` is in cp.c. */
#include <errno.h>
#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/change.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/output.h"

/* --- export -------------------------------------------------------------------------------------- */

static const struct option_spec export_options[] = {
	{"output", 'o', OPTION_STRING, 0, "FILE", "", "Write to this file instead of stdout"},
};

static int write_bytes(const void *data, size_t len, void *context, struct error *err)
{
	const struct output *output = context;
	int rc = fd_write_full(output->fd, data, len);

	return rc < 0 ? fail(err, rc, "write %s", output->path ? output->path : "the output") : 0;
}

static int run_export(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	struct output output;
	int rc = open_engine(args, &engine, err);

	if (rc >= 0)
		rc = output_open(args_string(args, "output"), &output, err);
	if (rc < 0)
		return rc;
	rc = workload_export(engine, args_at(args, 0), write_bytes, &output, err);
	return output_close(&output, rc, err);
}

const struct command export_command = {
	.arguments = "CONTAINER",
	.summary = "Write a container's files as a tar",
	.description = "What is mounted in the container is left out.",
	.examples = "berth export -o web.tar web\tTo a file\n"
		    "berth export web | tar -t\tTo another program\n",
	.options = {OPTION_SET(export_options)},
	.run = run_export,
};

/* --- diff ---------------------------------------------------------------------------------------- */

static int print_change(enum workload_change change, const char *path, void *data,
			struct error *err)
{
	(void)data;
	return printf("%c %s\n", (char)change, path) < 0 ? fail(err, -errno, "write the output")
							 : 0;
}

static int run_diff(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	int rc = open_engine(args, &engine, err);

	if (rc >= 0)
		rc = workload_diff(engine, args_at(args, 0), print_change, NULL, err);
	if (rc >= 0 && fflush(stdout) != 0)
		rc = fail(err, -errno, "write the output");
	return rc;
}

const struct command diff_command = {
	.arguments = "CONTAINER",
	.summary = "Show what a container has changed in its image's files",
	.description = "A: added, C: changed, D: deleted.",
	.run = run_diff,
};

/* --- commit -------------------------------------------------------------------------------------- */

static const struct option_spec commit_options[] = {
	{"author", 'a', OPTION_STRING, 0, "NAME", "", "Who made it (\"Ada <ada@example.org>\")"},
	{"change", 'c', OPTION_LIST, 0, "INSTRUCTION", "",
	 "Set a part of the configuration: 'CMD [\"sh\"]', 'ENV A=1', 'WORKDIR /srv', 'USER 1000', "
	 "'LABEL a=b'"},
	{"message", 'm', OPTION_STRING, 0, "TEXT", "", "A comment for the image's history"},
	{"pause", 'p', OPTION_FLAG, 0, "", "true", "Freeze the container meanwhile"},
	{"quiet", 'q', OPTION_FLAG, OPTION_HIDDEN, "", "", "Accepted for podman's sake"},
};

static int run_commit(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_json json_t *config = NULL;
	own_mem char *line = NULL;
	struct workload_commit commit = {
		.name = args_at(args, 1),
		.author = args_string(args, "author"),
		.comment = args_string(args, "message"),
		.flags = args_flag(args, "pause") ? 0 : WORKLOAD_COMMIT_NO_PAUSE,
	};
	struct digest id;
	int rc = open_engine(args, &engine, err);

	if (rc >= 0)
		rc = workload_image_config(engine, args_at(args, 0), &config, err);
	for (char *const *change = args_list(args, "change"); rc >= 0 && *change != NULL; change++)
		rc = change_config(config, *change, err);
	commit.config = config;
	if (rc >= 0)
		rc = workload_commit(engine, args_at(args, 0), &commit, &id, err);
	if (rc < 0)
		return rc;
	line = str_format("%s\n", id.text);
	return print_text(line, err);
}

const struct command commit_command = {
	.arguments = "CONTAINER [NAME]",
	.summary = "Make an image of a container's image and what it has written",
	.description = "What is mounted in the container is left out. Prints the new image's id.",
	.examples = "berth commit web web:fixed\tUnder a name\n"
		    "berth commit -c 'CMD [\"/srv/run\"]' web web:2\tWith another command\n",
	.options = {OPTION_SET(commit_options)},
	.run = run_commit,
};
