/* commands: every command of berth. See command.h for the types. */
#pragma once

#include "cli/command.h"

/* The top of the table. */
extern const struct command berth_command;

/* Commands, each defined in the file of its subject. */
extern const struct command run_command, create_command;
extern const struct command start_command, stop_command, restart_command, kill_command, rm_command,
	pause_command, unpause_command, wait_command, rename_command, container_prune_command;
extern const struct command exec_command, attach_command, logs_command, ps_command, top_command,
	stats_command, events_command;
extern const struct command export_command, commit_command, diff_command, cp_command;
extern const struct command inspect_command, container_inspect_command, image_inspect_command;
extern const struct command images_command, history_command, tag_command, rmi_command,
	image_prune_command;
extern const struct command pull_command, push_command, load_command, save_command, import_command,
	bootstrap_command, login_command, logout_command;
extern const struct command copy_command, search_command, referrers_command, image_delete_command;
extern const struct command sign_command, verify_command, sbom_command;
extern const struct command version_command, info_command, system_df_command, system_prune_command,
	system_check_command;
extern const struct command completion_command, complete_command, man_command;
extern const struct command kernel_command, template_command, compare_command;
extern const struct command vmm_command, vmm_control_command;
extern const struct command disk_command;
extern const struct command oci_command;
