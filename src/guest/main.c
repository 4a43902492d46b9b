/*
 * berth-agent: the first process of a virtual machine that holds a workload (agent.h, protocol.h).
 *
 * `berth-agent --listen FD --directory DIR` serves on a Unix socket of the host instead: for tests.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/own.h"
#include "base/str.h"
#include "guest/agent.h"
#include "guest/protocol.h"

static void child_ended(struct loop *loop, struct loop_source *source, int signal, void *data)
{
	(void)loop;
	(void)source;
	(void)signal;
	process_reap(data);
}

static void look(struct loop *loop, struct loop_source *source, void *data)
{
	(void)loop;
	(void)source;
	process_reap(data);
}

static int listen_on_vsock(struct error *err)
{
	const struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_port = AGENT_PORT, .svm_cid = VMADDR_CID_ANY};
	own_fd int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return fail(err, -errno, "open a socket to the host");
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 64) < 0)
		return fail(err, -errno, "listen for the host");
	return take(fd);
}

static int serve(struct agent *agent, int listen_fd, struct error *err)
{
	int rc = loop_create(&agent->loop);

	signal(SIGPIPE, SIG_IGN);
	if (rc == 0)
		rc = loop_add_signal(agent->loop, SIGCHLD, child_ended, agent, NULL);
	if (rc == 0)
		rc = loop_add_timer(agent->loop, -1, look, agent, &agent->look);
	if (rc == 0)
		rc = agent_listen(agent, listen_fd);
	if (rc == 0)
		rc = loop_run(agent->loop);
	return rc < 0 ? fail(err, rc, "serve") : rc;
}

/* Never returns: the kernel panics when its first process ends. */
static _Noreturn void be_first_process(void)
{
	struct agent agent = {.directory = AGENT_DIRECTORY, .is_machine = true, .root_fd = -1};
	struct error why = {0};
	int rc = setup_machine(&why);

	if (rc == 0)
		rc = listen_on_vsock(&why);
	if (rc >= 0)
		rc = serve(&agent, rc, &why);
	if (rc < 0)
		fprintf(stderr, "berth-agent: %s\n", why.text);
	sync();
	reboot(LINUX_REBOOT_CMD_POWER_OFF);
	_exit(1);
}

int main(int argc, char **argv)
{
	struct agent agent = {.root_fd = -1};
	struct error why = {0};
	int64_t fd;

	/* In the container of process_warm. */
	if (str_eq(argv[0], "/true"))
		return 0;
	if (getpid() == 1 && argc < 5)
		be_first_process();
	if (argc != 5 || !str_eq(argv[1], "--listen") || !str_eq(argv[3], "--directory") ||
	    str_to_int(argv[2], 0, INT32_MAX, &fd) < 0) {
		fputs("berth-agent is the first process of a virtual machine; berth starts it.\n",
		      stderr);
		return 1;
	}
	agent.directory = argv[4];
	if (serve(&agent, (int)fd, &why) < 0) {
		fprintf(stderr, "berth-agent: %s\n", why.text);
		return 1;
	}
	return 0;
}
