/* oci_create: the commands of `berth oci` that make containers. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/oci_priv.h"

static const struct option_spec create_options[] = {
	{"bundle", 'b', OPTION_STRING, 0, "DIR", ".", "The directory with config.json"},
	{"config", 'f', OPTION_STRING, 0, "FILE", "", "A configuration in another place"},
	{"console-socket", 0, OPTION_STRING, 0, "PATH", "",
	 "A socket that gets the terminal's master side"},
	{"no-new-keyring", 0, OPTION_FLAG, 0, "", "", "Keep the session keyring"},
	{"no-pivot", 0, OPTION_FLAG, 0, "", "", "Move the root instead of pivot_root"},
	{"pid-file", 0, OPTION_STRING, 0, "FILE", "", "Write the process id here"},
	{"preserve-fds", 0, OPTION_INT, 0, "N", "0", "Pass on N descriptors from 3 on"},
};

static const struct option_spec run_options[] = {
	{"detach", 'd', OPTION_FLAG, 0, "", "", "Return when the container runs"},
	{"keep", 0, OPTION_FLAG, 0, "", "", "Do not delete the container when it ends"},
};

/* Descriptors handed over by the service manager's protocol count as preserved ones. */
static int listen_fds(void)
{
	const char *count = getenv("LISTEN_FDS");
	int64_t n;

	return count != NULL && str_to_int(count, 0, 1024, &n) == 0 ? (int)n : 0;
}

static int check_preserve(const struct args *args, unsigned int *ret, struct error *err)
{
	const int64_t count = args_int(args, "preserve-fds");

	if (count < 0 || count > 1024)
		return args_refuse(args, err, "--preserve-fds %lld is not a count of descriptors",
				   (long long)count);
	*ret = (unsigned int)count + (unsigned int)listen_fds();
	return 0;
}

static char *absolute(const char *path)
{
	own_mem char *cwd = NULL;

	if (path == NULL || path[0] == '/')
		return str_copy(path);
	cwd = getcwd(NULL, 0);
	return cwd ? str_format("%s/%s", cwd, path) : str_copy(path);
}

static int make(const struct args *args, enum oci_create_flags flags, struct oci_child *child,
		struct error *err)
{
	const char *config = args_string(args, "config");
	own_mem char *root = oci_state_root(args), *bundle = NULL;
	own_json json_t *spec = NULL;
	own_mem char *pid_file = absolute(args_string(args, "pid-file"));
	own_mem char *console = absolute(args_string(args, "console-socket"));
	struct oci_create o = OCI_CREATE_DEFAULTS;
	/* First of all, as it may start again from the arguments, which are relative to where we are. */
	int rc = oci_self_protect(NULL, err);

	if (rc == 0)
		rc = check_preserve(args, &o.preserve_fds, err);
	if (rc == 0 && !str_empty(config))
		rc = oci_read_document(config, &spec, err);
	if (rc < 0)
		return rc;
	bundle = realpath(args_string(args, "bundle"), NULL);
	/* Hooks expect to run in the bundle's directory. */
	if (bundle == NULL || chdir(bundle) < 0)
		return fail(err, -errno, "bundle %s", args_string(args, "bundle"));
	o.state_root = root;
	o.id = args_at(args, 0);
	o.bundle = bundle;
	o.spec = spec;
	o.listen_fds = (unsigned int)listen_fds();
	o.console_socket = console;
	o.pid_file = pid_file;
	o.notify_socket = oci_notify_socket();
	o.cgroup_manager = oci_manager(args);
	o.flags = flags | (args_flag(args, "no-pivot") ? OCI_CREATE_NO_PIVOT : 0) |
		  (args_flag(args, "no-new-keyring") ? OCI_CREATE_NO_KEYRING : 0);
	return oci_create(&o, child, err);
}

static int run_create(const struct args *args, struct error *err)
{
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = make(args, OCI_CREATE_STATUS, &child, err);
	return oci_end(args, rc, err);
}

const struct command oci_create_command = {
	.arguments = "CONTAINER",
	.summary = "Create a container, whose process waits for start",
	.options = {OPTION_SET(create_options)},
	.run = run_create,
};

static int run_foreground(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	const bool detach = args_flag(args, "detach");
	const enum oci_create_flags front = OCI_CREATE_KEEP_TERMINAL | OCI_CREATE_REMEMBER |
					    (isatty(STDOUT_FILENO) ? 0 : OCI_CREATE_PLAIN_OUTPUT);
	int rc = make(args, OCI_CREATE_RUN | (detach ? OCI_CREATE_STATUS : front), &child, err);
	int code;

	if (rc == 0 && detach && child.notify_fd >= 0)
		oci_notify_wait(child.notify_fd, oci_notify_socket(), child.pid, child.pidfd);
	if (rc < 0 || detach)
		return rc;
	code = oci_attend(&child, err);
	if (args_flag(args, "keep"))
		return code;
	rc = code < 0 ? oci_delete(root, args_at(args, 0), OCI_DELETE_FORCE, NULL)
		      : oci_delete_child(root, args_at(args, 0), &child, err);
	return code < 0 ? code : rc < 0 ? rc : code;
}

static int run_run(const struct args *args, struct error *err)
{
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = run_foreground(args, err);
	return oci_end(args, rc, err);
}

const struct command oci_run_command = {
	.arguments = "CONTAINER",
	.summary = "Create a container, start it, and delete it when it ends",
	.options = {OPTION_SET(create_options), OPTION_SET(run_options)},
	.run = run_run,
};
