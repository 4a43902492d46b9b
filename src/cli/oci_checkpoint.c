/*
 * oci_checkpoint: `berth oci checkpoint` and `restore`: their options, and why they are refused.
 *
 * Engines ask for these commands by name and look at the first thing that goes wrong: so all options of
 * other runtimes are understood and checked, and what is missing is said in one sentence.
 */
#include <errno.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/oci_priv.h"

static const struct option_spec image_options[] = {
	{"auto-dedup", 0, OPTION_FLAG, 0, "", "", "Keep memory pages once only"},
	{"empty-ns", 0, OPTION_LIST, 0, "network", "", "Namespaces that are left out"},
	{"ext-unix-sk", 0, OPTION_FLAG, 0, "", "", "Allow Unix sockets to the outside"},
	{"file-locks", 0, OPTION_FLAG, 0, "", "", "Allow file locks"},
	{"image-path", 0, OPTION_STRING, 0, "DIR", "checkpoint", "Where the image is"},
	{"lazy-pages", 0, OPTION_FLAG, 0, "", "", "Transfer memory when it is needed"},
	{"manage-cgroups-mode", 0, OPTION_ENUM, 0, "soft|full|strict|ignore", "soft",
	 "What is done about control groups"},
	{"shell-job", 0, OPTION_FLAG, 0, "", "", "Allow a terminal of ours"},
	{"tcp-established", 0, OPTION_FLAG, 0, "", "", "Allow open TCP connections"},
	{"work-path", 0, OPTION_STRING, 0, "DIR", "", "Where logs and work files are"},
};

static const struct option_spec checkpoint_options[] = {
	{"leave-running", 0, OPTION_FLAG, 0, "", "", "Let the container go on"},
	{"page-server", 0, OPTION_STRING, 0, "ADDRESS:PORT", "", "Send memory to this server"},
	{"parent-path", 0, OPTION_STRING, 0, "DIR", "",
	 "The image that this one builds on, relative to --image-path"},
	{"pre-dump", 0, OPTION_FLAG, 0, "", "", "Memory only, the container goes on"},
	{"status-fd", 0, OPTION_INT, 0, "FD", "-1", "Write a byte here when pages are ready"},
};

static const struct option_spec restore_options[] = {
	{"bundle", 'b', OPTION_STRING, 0, "DIR", ".", "The directory with config.json"},
	{"console-socket", 0, OPTION_STRING, 0, "PATH", "",
	 "A socket that gets the terminal's master side"},
	{"detach", 'd', OPTION_FLAG, 0, "", "", "Return when the container runs"},
	{"lsm-mount-context", 0, OPTION_STRING, 0, "LABEL", "", "SELinux label of mounts"},
	{"lsm-profile", 0, OPTION_STRING, 0, "TYPE:NAME", "", "Profile of the processes"},
	{"no-pivot", 0, OPTION_FLAG, 0, "", "", "Move the root instead of pivot_root"},
	{"no-subreaper", 0, OPTION_FLAG, 0, "", "", "Do not become the parent of orphans"},
	{"pid-file", 0, OPTION_STRING, 0, "FILE", "", "Write the process id here"},
};

static int refuse_criu(struct error *err)
{
	return hint(err,
		    refuse(err, -ENOTSUP,
			   "checkpoint and restore (CRIU) are not supported by this runtime"),
		    "\"features\" says so in org.opencontainers.runc.checkpoint.enabled");
}

/* The image that one builds on is a directory, named relative to the new image. */
static int check_parent(const struct args *args, struct error *err)
{
	const char *parent = args_string(args, "parent-path");
	own_mem char *path = NULL;
	struct stat st;

	if (str_empty(parent))
		return 0;
	if (parent[0] == '/')
		return args_refuse(args, err, "--parent-path \"%s\" has to be relative", parent);
	path = str_format("%s/%s", args_string(args, "image-path"), parent);
	if (stat(path, &st) < 0)
		return fail(err, -errno, "invalid --parent-path: %s", path);
	return S_ISDIR(st.st_mode)
		       ? 0
		       : refuse(err, -ENOTDIR, "invalid --parent-path: %s is no directory", path);
}

static int run_checkpoint(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	own_oci_state struct oci_state state = {0};
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = oci_get_state(root, args_at(args, 0), &state, err);
	if (rc == 0 && state.status != OCI_RUNNING && state.status != OCI_PAUSED)
		rc = refuse(err, -EINVAL,
			    "container %s is %s: only a running one has a state to keep", state.id,
			    oci_status_name(state.status));
	if (rc == 0)
		rc = check_parent(args, err);
	if (rc == 0)
		rc = refuse_criu(err);
	return oci_end(args, rc, err);
}

const struct command oci_checkpoint_command = {
	.arguments = "CONTAINER",
	.summary = "Checkpoint a running container (not supported)",
	.options = {OPTION_SET(image_options), OPTION_SET(checkpoint_options)},
	.run = run_checkpoint,
};

static int run_restore(const struct args *args, struct error *err)
{
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = refuse_criu(err);
	return oci_end(args, rc, err);
}

const struct command oci_restore_command = {
	.arguments = "CONTAINER",
	.summary = "Restore a container from a checkpoint (not supported)",
	.options = {OPTION_SET(image_options), OPTION_SET(restore_options)},
	.run = run_restore,
};
