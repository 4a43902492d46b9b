/* vm_template: the snapshots that virtual machines start from: `template ls`, `rm`. */
#include "engine/vm_template.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/when.h"

static const struct option_spec ls_options[] = {
	LISTING_OPTION_FORMAT,
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Only the keys"},
};

static const struct listing_heading headings[] = {
	{"Key", "KEY"},
	{"Kernel", "KERNEL"},
	{"Cpus", "CPUS"},
	{"Memory", "MEMORY"},
	{"Accel", "ACCEL"},
	{"Shares", "SHARES"},
	{"CreatedSince", "CREATED"},
	{"CreatedAt", "CREATED AT"},
	{"Size", "SIZE"},
};

static const struct listing_spec templates_listing = {
	.table =
		"{{.Key}}\t{{.Kernel}}\t{{.Cpus}}\t{{.Memory}}\t{{.Accel}}\t{{.Shares}}\t{{.CreatedSince}}\t{{.Size}}",
	.quiet = "{{.Key}}",
	.headings = headings,
	.headings_count = array_size(headings),
};

static int add_row(const struct vm_template *t, void *data, struct error *err)
{
	char size[24], memory[24], created[CLOCK_TEXT_MAX], ago[CLOCK_TEXT_MAX], cpus[16],
		shares[16];
	json_t *row = json_object();

	str_from_size((uint64_t)t->size_bytes, 3, size);
	/* As --memory says it. Machines have whole MiB. */
	snprintf(memory, sizeof(memory), "%lldMiB", (long long)(t->memory_bytes >> 20));
	when_local(t->created_ns, created);
	when_ago(t->created_ns, ago);
	snprintf(cpus, sizeof(cpus), "%u", t->cpus);
	snprintf(shares, sizeof(shares), "%u", t->shares);
	json_set_string(row, "Key", t->key);
	json_set_string(row, "Kernel", t->kernel);
	json_set_string(row, "Cpus", cpus);
	json_set_string(row, "Memory", memory);
	json_set_string(row, "Accel", t->accel);
	json_set_string(row, "Shares", shares);
	json_set_string(row, "Size", size);
	json_set_string(row, "CreatedAt", created);
	json_set_string(row, "CreatedSince", ago);
	return listing_add(data, row, err);
}

static int run_ls(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_listing struct listing listing = {0};
	int rc = listing_begin(&listing, &templates_listing, args, err);

	if (rc >= 0)
		rc = open_engine(args, &engine, err);
	if (rc >= 0)
		rc = vm_template_list(engine, add_row, &listing, err);
	return rc < 0 ? rc : listing_end(&listing, err);
}

static const struct command ls_command = {
	.summary = "List the templates",
	.options = {OPTION_SET(ls_options)},
	.run = run_ls,
};

static int remove_one(struct engine *engine, const char *key, const struct args *args,
		      struct error *err)
{
	int rc = vm_template_remove(engine, key, err);

	(void)args;
	return rc < 0 ? refuse(err, rc, "cannot remove \"%.80s\"", key) : 0;
}

static int run_rm(const struct args *args, struct error *err)
{
	return for_each_argument(args, remove_one, true, err);
}

static const struct command rm_command_ = {
	.arguments = "TEMPLATE...",
	.summary = "Remove templates",
	.description =
		"Virtual machines that run from them go on. One that is needed again is made "
		"again, which takes as long as its kernel takes to boot.",
	.run = run_rm,
};

static const struct command_entry entries[] = {
	{"ls", "list", &ls_command, NULL},
	{"rm", "remove", &rm_command_, NULL},
	{0},
};

const struct command template_command = {
	.summary = "Work with the snapshots that virtual machines start from",
	.entries = entries,
};
