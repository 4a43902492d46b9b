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
	{"keep-blobs", 0, OPTION_FLAG, 0, "", "true",
	 "Keep layers compressed, too, as they came; without, push compresses them anew"},
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

/* Reasons and ways out; the options of run that need these things say the same (run_table.c). */
#define NO_NETWORKS                                                                                \
	"there are no networks yet", "a container can have the host's: berth run --network host"
#define NO_UPDATE                                                                                  \
	"limits stay as they were when a container was made",                                      \
		"make it again with other ones; \"berth commit\" keeps what it has written"
#define NO_SNAPSHOT                                                                                \
	"running workloads cannot be saved yet",                                                   \
		"\"berth oci checkpoint\" and \"berth vmm control SOCKET snapshot\" save what they run"
#define NO_HEALTH                                                                                  \
	"there are no health checks yet", "\"berth exec\" runs a check and has its exit code"
#define NO_BUILD                                                                                   \
	"there are no builds from Dockerfiles yet",                                                \
		"build with buildah, podman or docker, and hand it over: podman save IMAGE | berth load"
#define NO_MOUNT                                                                                   \
	"files are not mounted for others to see", "\"berth cp\" and \"berth export\" read them"
#define NO_UNTAG "the same is done by rmi", "\"berth rmi NAME\" takes one of several names away"

static const struct missing_command missing_container_commands[] = {
	{"port", NO_NETWORKS},
	{"update", NO_UPDATE},
	{"checkpoint restore", NO_SNAPSHOT},
	{"mount umount unmount", NO_MOUNT},
	{"exists", "inspect tells it, too",
	 "use the exit code of \"berth container inspect NAME\""},
	{""},
};

static const struct missing_command missing_image_commands[] = {
	{"build", NO_BUILD},
	{"untag", NO_UNTAG},
	{"mount umount unmount", NO_MOUNT},
	{"exists", "inspect tells it, too", "use the exit code of \"berth image inspect NAME\""},
	{""},
};

static const struct missing_command missing_commands[] = {
	{"network port", NO_NETWORKS},
	{"volume", "there are no named volumes yet",
	 "mount a directory of the host: berth run -v /srv/data:/data ..."},
	{"build builder buildx", NO_BUILD},
	{"update", NO_UPDATE},
	{"checkpoint restore snapshot migrate", NO_SNAPSHOT},
	{"healthcheck", NO_HEALTH},
	{"serve", "there is no server for other programs' clients yet",
	 "other engines can run their containers with \"berth oci\""},
	{"compose", "several containers cannot be described in one file",
	 "start each of them with \"berth run\""},
	{"pod kube play generate", "there are no pods", "start each container with \"berth run\""},
	{"swarm service stack node config", "berth runs on one host only",
	 "start containers on each host with \"berth run\""},
	{"secret", "there are no secrets kept",
	 "mount a file: berth run -v FILE:/run/secrets/NAME:ro ..."},
	{"context machine", "berth works on the host that it is called on",
	 "call it there, for instance with ssh"},
	{"manifest", "lists of images are not made here",
	 "\"berth copy --all\" takes one along as it is"},
	{"trust", "signatures have commands of their own",
	 "see \"berth sign --help\" and \"berth verify --help\""},
	{"plugin", "there are no plugins", "\"berth --help\" lists what there is"},
	{"mount umount unmount", NO_MOUNT},
	{"untag", NO_UNTAG},
	{""},
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
	.missing = missing_container_commands,
};

static const struct command_entry image_entries[] = {
	{"copy", NULL, &copy_command, NULL},
	{"delete", NULL, &image_delete_command, NULL},
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
	.missing = missing_image_commands,
};

static const struct command_entry system_entries[] = {
	{"check", NULL, &system_check_command, NULL}, {"df", NULL, &system_df_command, NULL},
	{"events", NULL, &events_command, NULL},      {"info", NULL, &info_command, NULL},
	{"prune", NULL, &system_prune_command, NULL}, {0},
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
	{"events", NULL, &events_command, NULL},
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
	.summary = "Run OCI images as containers and as virtual machines",
	.options = {OPTION_SET(global_options)},
	.entries = entries,
	.missing = missing_commands,
};
