/* vmm_control: `berth vmm control`, requests to a machine that runs with --control. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/sock.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "vmm/machine/client.h"
#include "vmm/machine/tap.h"

enum { TIMEOUT_MS = 600000 };

static const struct option_spec options[] = {
	{"index", 0, OPTION_INT, 0, "N", "0",
	 "Which disk or network card, in the order of creation"},
	{"read-only", 0, OPTION_FLAG, 0, "", "", "The new disk is only read"},
	{"then", 0, OPTION_ENUM, 0, "run|pause|stop", "",
	 "What the machine does after a snapshot; default: what it did before"},
};

static int print(const json_t *result)
{
	own_mem char *text = json_text_pretty(result);

	if (json_object_size(result) > 0)
		puts(text);
	return 0;
}

/* disk FILE */
static int replace_disk(const struct args *args, int fd, struct error *err)
{
	const char *path = args_at(args, 2);
	own_json json_t *request = json_object();
	own_fd int disk = -1;

	disk = open(path,
		    (args_flag(args, "read-only") ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (disk < 0)
		return fail(err, -errno, "open the disk %s", path);
	json_set_string(request, "do", "disk");
	json_object_set_new(request, "index", json_integer(args_int(args, "index")));
	return control_call(fd, request, &disk, 1, NULL, err);
}

/* net TAP */
static int replace_net(const struct args *args, int fd, struct error *err)
{
	own_json json_t *request = json_object();
	int tap = -1, rc = tap_open(args_at(args, 2), 1, &tap, err);

	if (rc < 0)
		return rc;
	json_set_string(request, "do", "net");
	json_object_set_new(request, "index", json_integer(args_int(args, "index")));
	rc = control_call(fd, request, &tap, 1, NULL, err);
	fd_close(&tap);
	return rc;
}

/* balloon SIZE */
static int set_balloon(const struct args *args, int fd, struct error *err)
{
	const char *size = args_at(args, 2);
	own_json json_t *request = json_object();
	uint64_t bytes;

	if (str_to_size(size, &bytes) < 0)
		return args_refuse(args, err, "\"%s\" is not a size like 64m", size);
	json_set_string(request, "do", "balloon");
	json_object_set_new(request, "bytes", json_integer((json_int_t)bytes));
	return control_call(fd, request, NULL, 0, NULL, err);
}

/* code FILE */
static int save_code(const struct args *args, int fd, struct error *err)
{
	const char *path = args_at(args, 2);
	own_json json_t *request = json_object();
	own_fd int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (file < 0)
		return fail(err, -errno, "create %s", path);
	json_set_string(request, "do", "code");
	return control_call(fd, request, &file, 1, NULL, err);
}

static int call(const struct args *args, int fd, struct error *err)
{
	const char *what = args_at(args, 1);
	own_json json_t *result = NULL;
	int rc;

	if (str_eq(what, "snapshot"))
		return control_snapshot(fd, args_at(args, 2), args_string(args, "then"), false,
					err);
	if (str_eq(what, "disk"))
		return replace_disk(args, fd, err);
	if (str_eq(what, "net"))
		return replace_net(args, fd, err);
	if (str_eq(what, "balloon"))
		return set_balloon(args, fd, err);
	if (str_eq(what, "code"))
		return save_code(args, fd, err);
	rc = control_do(fd, what, &result, err);
	return rc < 0 ? rc : print(result);
}

static int run(const struct args *args, struct error *err)
{
	const char *what = args_at(args, 1);
	own_fd int fd = -1;
	bool takes_one =
		what && (str_eq(what, "snapshot") || str_eq(what, "disk") || str_eq(what, "net") ||
			 str_eq(what, "balloon") || str_eq(what, "code"));

	if (!what)
		return args_refuse(args, err, "a SOCKET and a REQUEST are needed");
	if (args_count(args) != (takes_one ? 3 : 2))
		return args_refuse(args, err, "the request %s takes %s", what,
				   takes_one ? "one argument" : "no argument");
	fd = control_connect(args_at(args, 0), TIMEOUT_MS, err);
	return fd < 0 ? fd : call(args, fd, err);
}

const struct command vmm_control_command = {
	.summary = "Ask something of a running virtual machine",
	.arguments = "SOCKET REQUEST [ARGUMENT]",
	.description =
		"Sends a request to a machine that was started with --control SOCKET: status, metrics, "
		"pause, resume, powerdown (the power button), stop (at once), snapshot DIR, balloon SIZE "
		"(how much memory the guest is to give back in all), disk FILE and net TAP (put "
		"another in the place of one; pause the machine first), code FILE (what the software CPU "
		"has decoded, for --code).",
	.examples =
		"berth vmm control vm.sock snapshot --then stop base\tSave the machine, end it\n"
		"berth vmm run --restore base\tGo on from there\n",
	.options = {OPTION_SET(options)},
	.run = run,
};
