/* system: what berth itself is and has: info, version, system df, prune, check. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/prune.h"

#define FORMAT_OPTION                                                                              \
	{                                                                                          \
		"format", 'f', OPTION_STRING, 0, "TEMPLATE", "",                                   \
			"Print by a template, or \"json\""                                         \
	}

/* --- version ------------------------------------------------------------------------------------- */

static const struct option_spec version_options[] = {FORMAT_OPTION};

static int run_version(const struct args *args, struct error *err)
{
	const char *format = args_string(args, "format");
	own_json json_t *version = json_object(), *parts = json_object();
	struct utsname host;

	if (format == NULL)
		return print_text("berth " BERTH_VERSION "\n", err);
	uname(&host);
	json_object_set_new(parts, "Version", json_string(BERTH_VERSION));
	json_object_set_new(parts, "Os", json_string("linux"));
	json_object_set_new(parts, "Arch", json_string("amd64"));
	json_object_set_new(parts, "KernelVersion", json_string(host.release));
	/* There is no server: both are this program. */
	json_object_set(version, "Client", parts);
	json_object_set(version, "Server", parts);
	return print_formatted(version, format, err);
}

const struct command version_command = {
	.summary = "Show the version",
	.options = {OPTION_SET(version_options)},
	.run = run_version,
};

/* --- info ---------------------------------------------------------------------------------------- */

static const struct option_spec info_options[] = {FORMAT_OPTION};

/* An object as indented "Key: value" lines. */
static void add_lines(json_t *object, int depth, struct buf *out)
{
	const char *key;
	json_t *value;

	json_object_foreach (object, key, value) {
		buf_format(out, "%*s%s:", depth * 2, "", key);
		if (json_is_object(value)) {
			buf_add_char(out, '\n');
			add_lines(value, depth + 1, out);
			continue;
		}
		buf_add_char(out, ' ');
		if (json_is_string(value)) {
			buf_add_str(out, json_string_value(value));
		} else {
			own_mem char *text = json_text(value);

			buf_add_str(out, text);
		}
		buf_add_char(out, '\n');
	}
}

static int run_info(const struct args *args, struct error *err)
{
	const char *format = args_string(args, "format");
	own_engine struct engine *engine = NULL;
	own_json json_t *info = NULL;
	own_buf struct buf out = {0};
	int rc = open_engine(args, &engine, err);

	if (rc >= 0)
		rc = engine_info(engine, &info, err);
	if (rc < 0)
		return rc;
	if (format != NULL)
		return print_formatted(info, format, err);
	add_lines(info, 0, &out);
	return print_text(out.data ? out.data : "", err);
}

const struct command info_command = {
	.summary = "Show what berth and the host it runs on have",
	.options = {OPTION_SET(info_options)},
	.run = run_info,
};

/* --- prune --------------------------------------------------------------------------------------- */

static const struct option_spec prune_options[] = {
	{"all", 'a', OPTION_FLAG, 0, "", "",
	 "All images that nothing uses, not only those without a name"},
	{"filter", 0, OPTION_LIST, 0, "KEY=VALUE", "", "Only some: until=TIME, label=NAME[=VALUE]"},
	{"force", 'f', OPTION_FLAG, 0, "", "", "Do not ask"},
	{"volumes", 0, OPTION_FLAG, OPTION_REFUSED, "", "", "there are no volumes yet"},
};

static int run_prune(const struct args *args, struct error *err)
{
	const bool all = args_flag(args, "all");
	own_engine struct engine *engine = NULL;
	struct image_store *store;
	int rc;

	if (!args_flag(args, "force") &&
	    !confirm(
		    all ? "This removes all containers that do not run and all images that are not "
			  "used. Go on?"
			: "This removes all containers that do not run and all images without a name. "
			  "Go on?"))
		return hint(err, refuse(err, -ECANCELED, "nothing was removed"),
			    "confirm with y, or give --force");
	rc = open_images(args, &engine, &store, err);
	if (rc >= 0)
		rc = prune_workloads(engine, args_list(args, "filter"), err);
	return rc < 0 ? rc : prune_images(store, args, all, err);
}

const struct command system_prune_command = {
	.summary = "Remove containers that do not run and images that nothing uses",
	.options = {OPTION_SET(prune_options)},
	.run = run_prune,
};

/* --- check --------------------------------------------------------------------------------------- */

static const struct option_spec check_options[] = {
	{"content", 0, OPTION_FLAG, 0, "", "",
	 "Read every stored file and compare its digest, too"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Say nothing if all is well"},
	{"repair", 0, OPTION_FLAG, 0, "", "",
	 "Mend what can be mended, and remove what is left over"},
};

static void print_problem(const char *problem, bool repaired, void *data)
{
	(void)data;
	printf("%s%s\n", problem, repaired ? " (repaired)" : "");
}

static int check_all(const struct args *args, struct engine *engine, struct error *err)
{
	unsigned int flags = 0;

	if (args_flag(args, "content"))
		flags |= ENGINE_CHECK_CONTENT;
	if (args_flag(args, "repair"))
		flags |= ENGINE_CHECK_REPAIR;
	return engine_check(engine, flags, print_problem, NULL, err);
}

static int run_check(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	struct image_store *store;
	int rc = open_images(args, &engine, &store, err);

	if (rc >= 0)
		rc = check_all(args, engine, err);
	if (rc < 0)
		return rc;
	if (rc == 0 && !args_flag(args, "quiet"))
		puts("No problems found.");
	if (fflush(stdout) != 0)
		return fail(err, -errno, "write the output");
	if (rc == 0)
		return 0;
	if (!args_flag(args, "repair"))
		hint(err, 0, "\"berth system check --repair\" mends what can be mended");
	return refuse(err, -EUCLEAN, "%d problem%s found", rc, rc == 1 ? "" : "s");
}

const struct command system_check_command = {
	.summary = "Check that what berth keeps is complete and nothing is left over",
	.description =
		"Compares the database, the files, mounts, control groups and processes with each "
		"other. The exit code is 0 if there is no problem (any more), else 125.",
	.options = {OPTION_SET(check_options)},
	.run = run_check,
};
