/* commands: the top of the command table: the program's own options, the groups and their entries. */
#include "cli/commands.h"

#include "base/mem.h"

static const struct option_spec global_options[] = {
	{"config", 0, OPTION_STRING, 0, "FILE", "",
	 "Read settings from this file, not from /etc/berth and ~/.config/berth"},
	{"debug", 'D', OPTION_FLAG, 0, "", "",
	 "Say what is being done (the same as --log-level debug)"},
	{"image-max-age", 0, OPTION_DURATION, 0, "TIME", "",
	 "Remove images that nothing has used for so long (720h)"},
	{"image-max-size", 0, OPTION_SIZE, 0, "BYTES", "",
	 "Remove unused images, the longest unused first, beyond this size of all (20g)"},
	{"log-format", 0, OPTION_ENUM, 0, "plain|text|json", "plain", "How messages are written"},
	{"log-level", 'l', OPTION_ENUM, 0, "error|warn|info|debug", "warn",
	 "The least important messages that are written"},
	{"root", 0, OPTION_STRING, 0, "DIR", "",
	 "Where images and workloads are kept (default /var/lib/berth)"},
	{"signature-policy", 0, OPTION_STRING, 0, "FILE", "",
	 "Which images may be pulled and loaded, instead of policy.json (see trust.md)"},
	{"state", 0, OPTION_STRING, 0, "DIR", "",
	 "Where sockets and locks are kept until the next boot (default /run/berth)"},
	{"version", 'v', OPTION_FLAG, 0, "", "", "Print the version"},
};

static const struct command_entry container_entries[] = {
	{"attach", NULL, &attach_command, NULL},
	{"commit", NULL, &commit_command, NULL},
	{"cp", NULL, &cp_command, NULL},
	{"create", NULL, &create_command, NULL},
	{"diff", NULL, &diff_command, NULL},
	{"exec", NULL, &exec_command, NULL},
	{"export", NULL, &export_command, NULL},
	{"inspect", NULL, &container_inspect_command, NULL},
	{"kill", NULL, &kill_command, NULL},
	{"logs", NULL, &logs_command, NULL},
	{"ls", "list ps", &ps_command, NULL},
	{"pause", NULL, &pause_command, NULL},
	{"prune", NULL, &container_prune_command, NULL},
	{"rename", NULL, &rename_command, NULL},
	{"restart", NULL, &restart_command, NULL},
	{"rm", "remove", &rm_command, NULL},
	{"run", NULL, &run_command, NULL},
	{"start", NULL, &start_command, NULL},
	{"stats", NULL, &stats_command, NULL},
	{"stop", NULL, &stop_command, NULL},
	{"top", NULL, &top_command, NULL},
	{"unpause", NULL, &unpause_command, NULL},
	{"wait", NULL, &wait_command, NULL},
	{0},
};

static const struct command container_command = {
	.summary = "Work with containers",
	.entries = container_entries,
};

static const struct command_entry image_entries[] = {
	{"copy", NULL, &copy_command, NULL},
	{"history", NULL, &history_command, NULL},
	{"import", NULL, &import_command, NULL},
	{"inspect", NULL, &image_inspect_command, NULL},
	{"load", NULL, &load_command, NULL},
	{"ls", "list", &images_command, NULL},
	{"prune", NULL, &image_prune_command, NULL},
	{"pull", NULL, &pull_command, NULL},
	{"push", NULL, &push_command, NULL},
	{"referrers", NULL, &referrers_command, NULL},
	{"rm", "remove", &rmi_command, NULL},
	{"save", NULL, &save_command, NULL},
	{"sbom", NULL, &sbom_command, NULL},
	{"sign", NULL, &sign_command, NULL},
	{"tag", NULL, &tag_command, NULL},
	{"verify", NULL, &verify_command, NULL},
	{0},
};

static const struct command image_command = {
	.summary = "Work with images",
	.entries = image_entries,
};

static const struct command_entry system_entries[] = {
	{"check", NULL, &system_check_command, NULL},
	{"df", NULL, &system_df_command, NULL},
	{"info", NULL, &info_command, NULL},
	{"prune", NULL, &system_prune_command, NULL},
	{0},
};

static const struct command system_command = {
	.summary = "Work with what berth keeps",
	.entries = system_entries,
};

static const struct command_entry entries[] = {
	{"run", NULL, &run_command, "Workloads"},
	{"create", NULL, &create_command, NULL},
	{"start", NULL, &start_command, NULL},
	{"stop", NULL, &stop_command, NULL},
	{"restart", NULL, &restart_command, NULL},
	{"kill", NULL, &kill_command, NULL},
	{"pause", NULL, &pause_command, NULL},
	{"unpause", NULL, &unpause_command, NULL},
	{"wait", NULL, &wait_command, NULL},
	{"rename", NULL, &rename_command, NULL},
	{"rm", NULL, &rm_command, NULL},
	{"ps", NULL, &ps_command, "Looking"},
	{"inspect", NULL, &inspect_command, NULL},
	{"logs", NULL, &logs_command, NULL},
	{"attach", NULL, &attach_command, NULL},
	{"exec", NULL, &exec_command, NULL},
	{"top", NULL, &top_command, NULL},
	{"stats", NULL, &stats_command, NULL},
	{"cp", NULL, &cp_command, "Files"},
	{"diff", NULL, &diff_command, NULL},
	{"export", NULL, &export_command, NULL},
	{"commit", NULL, &commit_command, NULL},
	{"images", NULL, &images_command, "Images"},
	{"pull", NULL, &pull_command, NULL},
	{"push", NULL, &push_command, NULL},
	{"bootstrap", NULL, &bootstrap_command, NULL},
	{"rmi", NULL, &rmi_command, NULL},
	{"tag", NULL, &tag_command, NULL},
	{"history", NULL, &history_command, NULL},
	{"load", NULL, &load_command, NULL},
	{"save", NULL, &save_command, NULL},
	{"import", NULL, &import_command, NULL},
	{"verify", NULL, &verify_command, NULL},
	{"sign", NULL, &sign_command, NULL},
	{"sbom", NULL, &sbom_command, NULL},
	{"login", NULL, &login_command, "Registries"},
	{"logout", NULL, &logout_command, NULL},
	{"search", NULL, &search_command, NULL},
	{"copy", NULL, &copy_command, NULL},
	{"container", NULL, &container_command, "Groups"},
	{"disk", NULL, &disk_command, NULL},
	{"image", NULL, &image_command, NULL},
	{"kernel", NULL, &kernel_command, NULL},
	{"system", NULL, &system_command, NULL},
	{"template", NULL, &template_command, NULL},
	{"vmm", NULL, &vmm_command, NULL},
	{"info", NULL, &info_command, "Berth itself"},
	{"compare", NULL, &compare_command, NULL},
	{"version", NULL, &version_command, NULL},
	{"completion", NULL, &completion_command, NULL},
	{"man", NULL, &man_command, NULL},
	{"oci", NULL, &oci_command, "Low level"},
	{"__complete", NULL, &complete_command, NULL},
	{0},
};

const struct command berth_command = {
	.summary = "Run OCI images as containers",
	.options = {OPTION_SET(global_options)},
	.entries = entries,
};
