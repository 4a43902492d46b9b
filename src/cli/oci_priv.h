/* oci_priv: what the files of `berth oci` share. */
#pragma once

#include <jansson.h>

#include "cli/args.h"
#include "oci/runtime.h"

/* Where the containers of this runtime are kept: --root, or the user's default. Never NULL. */
char *oci_state_root(const struct args *args);
/* Applies --log, --log-format, --debug. */
int oci_begin(const struct args *args, struct error *err) must_check;
/* Ends a command: a failure that goes to a log file is shown on stderr as well. Returns rc. */
int oci_end(const struct args *args, int rc, struct error *err);
enum oci_cgroup_manager oci_manager(const struct args *args);

/* The service manager's socket that a container's readiness is passed on to, or NULL. */
const char *oci_notify_socket(void);
/* Waits for a process in the foreground: passes signals on, and the terminal if there is one.
 * Returns its exit code. */
int oci_attend(struct oci_child *child, struct error *err) must_check;

extern const struct command oci_create_command, oci_run_command, oci_start_command,
	oci_state_command, oci_kill_command, oci_delete_command, oci_list_command, oci_spec_command,
	oci_checkpoint_command, oci_restore_command, oci_features_command, oci_exec_command,
	oci_ps_command, oci_pause_command, oci_resume_command, oci_update_command,
	oci_events_command;

/* Reads a JSON document that an option names; also from a pipe, as a shell passes it. */
int oci_read_document(const char *path, json_t **ret, struct error *err) must_check;
