/* oci: `berth oci`, the command line that container engines use: the group and its options. */
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/oci_priv.h"

static const struct option_spec group_options[] = {
	{"cgroup-manager", 0, OPTION_ENUM, 0, "cgroupfs|systemd|disabled", "cgroupfs",
	 "What makes the container's control groups"},
	{"criu", 0, OPTION_STRING, OPTION_HIDDEN, "FILE", "", "The program that checkpoints"},
	{"debug", 0, OPTION_FLAG, 0, "", "", "Say what is being done"},
	{"log", 0, OPTION_STRING, 0, "FILE", "", "Write messages to this file"},
	{"log-format", 0, OPTION_ENUM, 0, "text|json", "text", "How messages are written"},
	{"log-level", 0, OPTION_ENUM, OPTION_HIDDEN, "error|warning|info|debug", "warning",
	 "The least important messages that are written"},
	{"root", 0, OPTION_STRING, 0, "DIR", "",
	 "Where containers are recorded (default /run/berth/oci; an ordinary user's, below "
	 "$XDG_RUNTIME_DIR)"},
	{"rootless", 0, OPTION_STRING, 0, "auto|true|false", "auto",
	 "Ignore cgroups that may not be written"},
	{"systemd-cgroup", 0, OPTION_FLAG, 0, "", "", "The same as --cgroup-manager systemd"},
	{"version", 'v', OPTION_FLAG, 0, "", "",
	 "Print the versions of the program and the format"},
};

static const struct command_entry entries[] = {
	{"create", NULL, &oci_create_command, "Containers"},
	{"start", NULL, &oci_start_command, NULL},
	{"run", NULL, &oci_run_command, NULL},
	{"exec", NULL, &oci_exec_command, NULL},
	{"kill", NULL, &oci_kill_command, NULL},
	{"pause", NULL, &oci_pause_command, NULL},
	{"resume", NULL, &oci_resume_command, NULL},
	{"update", NULL, &oci_update_command, NULL},
	{"delete", NULL, &oci_delete_command, NULL},
	{"checkpoint", NULL, &oci_checkpoint_command, NULL},
	{"restore", NULL, &oci_restore_command, NULL},
	{"state", NULL, &oci_state_command, "Looking"},
	{"list", NULL, &oci_list_command, NULL},
	{"ps", NULL, &oci_ps_command, NULL},
	{"events", NULL, &oci_events_command, NULL},
	{"spec", NULL, &oci_spec_command, "The runtime"},
	{"features", NULL, &oci_features_command, NULL},
	{0},
};

const struct command oci_command = {
	.summary = "Open Container Initiative runtime, for container engines",
	.description =
		"Runs containers from a bundle: a directory with a config.json and a root file "
		"system. Called through a link named berth-oci, the program is this alone, "
		"with the options before the command as other runtimes have them.",
	.options = {OPTION_SET(group_options)},
	.entries = entries,
	.flags = COMMAND_ISOLATED,
	.error_status = 1,
};
