/*
 * oci_checkpoint: `berth oci checkpoint` and `restore`.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/oci_priv.h"
#include "oci/checkpoint.h"

static const struct option_spec image_options[] = {
	{"auto-dedup", 0, OPTION_FLAG, 0, "", "", "Keep memory pages once only"},
	{"empty-ns", 0, OPTION_LIST, 0, "network", "", "Namespaces that are left out"},
	{"ext-unix-sk", 0, OPTION_FLAG, 0, "", "", "Allow Unix sockets to the outside"},
	{"file-locks", 0, OPTION_FLAG, 0, "", "", "Allow file locks"},
	{"image-path", 0, OPTION_STRING, 0, "DIR", "checkpoint", "Where the image is"},
	{"lazy-pages", 0, OPTION_FLAG, 0, "", "", "Transfer memory when it is needed"},
	{"manage-cgroups-mode", 0, OPTION_ENUM, 0, "soft|full|strict|ignore", "soft",
	 "What is done about control groups"},
	{"network-lock", 0, OPTION_ENUM, 0, "iptables|nftables|skip", "",
	 "How the network is held still"},
	{"shell-job", 0, OPTION_FLAG, 0, "", "", "Allow a terminal of ours"},
	{"tcp-close", 0, OPTION_FLAG, 0, "", "", "Close TCP connections"},
	{"tcp-established", 0, OPTION_FLAG, 0, "", "", "Allow open TCP connections"},
	{"work-path", 0, OPTION_STRING, 0, "DIR", "", "Where logs and work files are"},
};

static const struct option_spec checkpoint_options[] = {
	{"leave-running", 0, OPTION_FLAG, 0, "", "", "Let the container go on"},
	{"link-remap", 0, OPTION_FLAG, 0, "", "", "Link files that have no name any more"},
	{"page-server", 0, OPTION_STRING, 0, "ADDRESS:PORT", "", "Send memory to this server"},
	{"parent-path", 0, OPTION_STRING, 0, "DIR", "",
	 "The image that this one builds on, relative to --image-path"},
	{"pre-dump", 0, OPTION_FLAG, 0, "", "", "Memory only, the container goes on"},
	{"status-fd", 0, OPTION_INT, 0, "FD", "-1", "Write a byte here when pages are ready"},
	{"tcp-skip-in-flight", 0, OPTION_FLAG, 0, "", "",
	 "Leave out TCP connections that are not open yet"},
};

static const struct option_spec restore_options[] = {
	{"bundle", 'b', OPTION_STRING, 0, "DIR", ".", "The directory with config.json"},
	{"console-socket", 0, OPTION_STRING, 0, "PATH", "",
	 "A socket that gets the terminal's master side"},
	{"detach", 'd', OPTION_FLAG, 0, "", "", "Return when the container runs"},
	{"lsm-mount-context", 0, OPTION_STRING, 0, "LABEL", "", "SELinux label of mounts"},
	{"lsm-profile", 0, OPTION_STRING, 0, "TYPE:NAME", "", "Profile of the processes"},
	{"no-pivot", 0, OPTION_FLAG, 0, "", "", "Accepted: the root is CRIU's to change"},
	{"no-subreaper", 0, OPTION_FLAG, 0, "", "", "Do not become the parent of orphans"},
	{"pid-file", 0, OPTION_STRING, 0, "FILE", "", "Write the process id here"},
};

static enum oci_image_flags image_flags(const struct args *args)
{
	static const struct {
		const char *option;
		enum oci_image_flags flag;
	} flags[] = {
		{"auto-dedup", OCI_IMAGE_AUTO_DEDUP},
		{"ext-unix-sk", OCI_IMAGE_EXT_UNIX},
		{"file-locks", OCI_IMAGE_FILE_LOCKS},
		{"lazy-pages", OCI_IMAGE_LAZY_PAGES},
		{"shell-job", OCI_IMAGE_SHELL_JOB},
		{"tcp-close", OCI_IMAGE_TCP_CLOSE},
		{"tcp-established", OCI_IMAGE_TCP_ESTABLISHED},
	};
	enum oci_image_flags all = 0;

	for (size_t i = 0; i < array_size(flags); i++)
		if (args_flag(args, flags[i].option))
			all |= flags[i].flag;
	return all;
}

static enum oci_image_cgroups cgroups_mode(const struct args *args)
{
	const char *mode = args_string(args, "manage-cgroups-mode");

	if (str_eq(mode, "full"))
		return OCI_IMAGE_CGROUPS_FULL;
	if (str_eq(mode, "strict"))
		return OCI_IMAGE_CGROUPS_STRICT;
	return str_eq(mode, "ignore") ? OCI_IMAGE_CGROUPS_IGNORE : OCI_IMAGE_CGROUPS_SOFT;
}

static int network_lock(const struct args *args)
{
	static const char *const methods[] = {"", "iptables", "nftables", "skip"};
	const char *method = args_string(args, "network-lock");

	for (size_t i = 1; i < array_size(methods); i++)
		if (str_eq(method, methods[i]))
			return (int)i;
	return 0;
}

/* NULL for an option that was not given. */
static const char *given(const struct args *args, const char *option)
{
	const char *text = args_string(args, option);

	return str_empty(text) ? NULL : text;
}

static int parse_image(const struct args *args, struct oci_image *ret, struct error *err)
{
	char *const *empty = args_list(args, "empty-ns");

	*ret = (struct oci_image){
		.path = args_string(args, "image-path"),
		.work_path = given(args, "work-path"),
		.flags = image_flags(args),
		.cgroups = cgroups_mode(args),
		.network_lock = network_lock(args),
		.criu = given(args_group(args), "criu"),
	};
	for (size_t i = 0; empty != NULL && empty[i] != NULL; i++) {
		if (!str_eq(empty[i], "network"))
			return args_refuse(args, err,
					   "--empty-ns \"%s\": only \"network\" can be left out",
					   empty[i]);
		ret->flags |= OCI_IMAGE_EMPTY_NETWORK;
	}
	return 0;
}

/* --- checkpoint --------------------------------------------------------------------------------- */

static int parse_server(const struct args *args, char **ret_address, uint16_t *ret_port,
			struct error *err)
{
	const char *server = args_string(args, "page-server");
	const char *colon = str_empty(server) ? NULL : strrchr(server, ':');
	uint64_t port;

	if (str_empty(server))
		return 0;
	if (colon == NULL || colon == server || str_to_uint(colon + 1, UINT16_MAX, &port) < 0)
		return args_refuse(args, err, "--page-server \"%s\" is not ADDRESS:PORT", server);
	*ret_address = str_copy_n(server, (size_t)(colon - server));
	*ret_port = (uint16_t)port;
	return 0;
}

static int make_checkpoint(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args), *server = NULL;
	struct oci_checkpoint o = {
		.state_root = root,
		.id = args_at(args, 0),
		.parent_path = given(args, "parent-path"),
		.status_fd = (int)args_int(args, "status-fd"),
	};
	int rc;

	if (o.parent_path != NULL && o.parent_path[0] == '/')
		return args_refuse(args, err, "--parent-path \"%s\" has to be relative",
				   o.parent_path);
	if ((rc = parse_image(args, &o.image, err)) < 0 ||
	    (rc = parse_server(args, &server, &o.page_server_port, err)) < 0)
		return rc;
	o.page_server = server;
	if (args_flag(args, "leave-running"))
		o.image.flags |= OCI_IMAGE_LEAVE_RUNNING;
	if (args_flag(args, "pre-dump"))
		o.image.flags |= OCI_IMAGE_PRE_DUMP;
	if (args_flag(args, "link-remap"))
		o.image.flags |= OCI_IMAGE_LINK_REMAP;
	if (args_flag(args, "tcp-skip-in-flight"))
		o.image.flags |= OCI_IMAGE_TCP_SKIP_IN_FLIGHT;
	return oci_checkpoint(&o, err);
}

static int run_checkpoint(const struct args *args, struct error *err)
{
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = make_checkpoint(args, err);
	return oci_end(args, rc, err);
}

const struct command oci_checkpoint_command = {
	.arguments = "CONTAINER",
	.summary = "Write a running container to files (by CRIU)",
	.options = {OPTION_SET(image_options), OPTION_SET(checkpoint_options)},
	.run = run_checkpoint,
};

/* --- restore ------------------------------------------------------------------------------------ */

static int restore(const struct args *args, struct oci_child *child, struct error *err)
{
	own_mem char *root = oci_state_root(args), *bundle = NULL;
	struct oci_restore o = {
		.state_root = root,
		.id = args_at(args, 0),
		.stdio = {0, 1, 2},
		.console_socket = given(args, "console-socket"),
		.pid_file = given(args, "pid-file"),
		.lsm_profile = given(args, "lsm-profile"),
		.lsm_mount_context = given(args, "lsm-mount-context"),
		.cgroup_manager = oci_manager(args),
		.keep_terminal = !args_flag(args, "detach"),
	};
	int rc = parse_image(args, &o.image, err);

	if (rc < 0)
		return rc;
	bundle = realpath(args_string(args, "bundle"), NULL);
	if (bundle == NULL)
		return fail(err, -errno, "bundle %s", args_string(args, "bundle"));
	o.bundle = bundle;
	return oci_restore(&o, child, err);
}

static int restore_and_attend(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	int rc = restore(args, &child, err);
	int code;

	if (rc < 0 || args_flag(args, "detach"))
		return rc;
	code = oci_attend(&child, err);
	rc = oci_delete(root, args_at(args, 0), OCI_DELETE_FORCE, code < 0 ? NULL : err);
	return code < 0 ? code : rc < 0 ? rc : code;
}

static int run_restore(const struct args *args, struct error *err)
{
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = restore_and_attend(args, err);
	return oci_end(args, rc, err);
}

const struct command oci_restore_command = {
	.arguments = "CONTAINER",
	.summary = "Make a container from such files (by CRIU)",
	.options = {OPTION_SET(image_options), OPTION_SET(restore_options)},
	.run = run_restore,
};
