/*
 * vm_template_builder: a template is built by a process of its own, which goes on with it when the command that
 * waits for the template is cancelled: whoever comes next finds it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/str.h"
#include "engine/channel.h"
#include "engine/vm_template.h"
#include "engine/workload.h"
#include "oci/runtime.h"

enum { CHANNEL_FD = 3 };

/* What the builder says last. */
static int await_word(int channel_fd, struct error *err)
{
	own_mem struct packet *packet = mem_new(sizeof(*packet));
	ssize_t len = channel_receive(channel_fd, packet);

	if (len == 0 && packet->type == CHANNEL_OK)
		return 0;
	if (len >= 0 && packet->type == CHANNEL_ERROR)
		return channel_error(packet, (size_t)len, err);
	return refuse(err, -EIO, "the process that builds it ended unexpectedly");
}

int vm_template_build_apart(struct engine *engine, const struct vm_shape *shape, struct error *err)
{
	own_fd int exe = oci_protected_exe_fd(err), ours = -1, theirs = -1, pidfd = -1;
	own_mem char *kernel = str_copy(shape->kernel->name), *accel = str_copy(shape->accel);
	own_mem char *cpus = str_format("%u", shape->cpus);
	own_mem char *memory = str_format("%lld", (long long)shape->memory_bytes);
	own_mem char *shares = str_format("%u", shape->shares);
	char name[] = "berth", verb[] = "template-builder";
	char *argv[] = {name, verb,   engine->root, engine->state, kernel,
			cpus, memory, accel,        shares,        NULL};
	struct proc_spawn spawn = {
		.exe_fd = exe,
		.argv = argv,
		.stdio = {-1, -1, -1},
		.keep = &theirs,
		.keep_count = 1,
		.new_session = true,
	};
	int pair[2], rc;
	pid_t pid;

	if (exe < 0)
		return exe;
	rc = sock_pair(SOCK_SEQPACKET, pair);
	if (rc < 0)
		return fail(err, rc, "talk to the process that builds it");
	ours = pair[0];
	theirs = pair[1];
	rc = proc_spawn(&spawn, &pid, &pidfd, err);
	if (rc < 0)
		return rc;
	fd_close(&theirs);
	rc = await_word(ours, err);
	if (proc_wait(pidfd, NULL) < 0 && rc == 0)
		rc = refuse(err, -EIO, "the process that builds it cannot be waited for");
	return rc;
}

static int build(char *const *words, struct error *err)
{
	struct engine engine;
	own_kernel struct kernel *kernel = NULL;
	struct vm_shape shape = {.accel = words[5]};
	int64_t cpus, shares;
	int rc;

	engine_init_paths(&engine, words[0], words[1]);
	engine.root_fd = open(engine.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	rc = engine.root_fd < 0 ? fail(err, -errno, "open %s", engine.root)
				: kernel_find(engine.root, words[2], &kernel, err);
	if (rc == 0 && (str_to_int(words[3], 1, 1024, &cpus) < 0 ||
			str_to_int(words[4], 1, INT64_MAX, &shape.memory_bytes) < 0 ||
			str_to_int(words[6], 0, VM_SHARES_MAX, &shares) < 0))
		rc = refuse(err, -EINVAL, "the machine to build a template of is not understood");
	if (rc == 0) {
		shape.kernel = kernel;
		shape.cpus = (unsigned int)cpus;
		shape.shares = (unsigned int)shares;
		rc = vm_template_build(&engine, &shape, err);
	}
	fd_close(&engine.root_fd);
	free(engine.root);
	free(engine.state);
	return rc;
}

/* argv: "template-builder" <root> <state> <kernel> <vCPUs> <bytes of memory> <accelerator> <shares> */
int vm_template_builder_main(int argc, char **argv)
{
	struct error why = {0};
	int rc;

	if (argc != 8 || fcntl(CHANNEL_FD, F_GETFD) < 0 || proc_cloexec_from(CHANNEL_FD) < 0)
		return 125;
	/* Who waited may have gone. */
	signal(SIGPIPE, SIG_IGN);
	rc = build(argv + 1, &why);
	/* That nobody hears it any more is no failure. */
	rc = rc == 0 ? channel_send_head(CHANNEL_FD, CHANNEL_OK, 0, 0, true)
		     : channel_send_error(CHANNEL_FD, &why);
	return rc < 0 && rc != -EPIPE && rc != -ECONNRESET ? 125 : 0;
}
