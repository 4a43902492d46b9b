/*
 * vsock: the guest's side of a test of its sockets.
 *
 *     vsock echo PORT COUNT    accepts COUNT connections, and sends back what comes on each
 *     vsock send PORT BYTES    sends so many bytes to the host, then says what the host answers
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static char buffer[1 << 16];

static int fail(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	return 1;
}

static int put(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0)
			return -1;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

static int echo(unsigned int port, int count)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
	int listener = socket(AF_VSOCK, SOCK_STREAM, 0), status, bad = 0;

	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 128) < 0)
		return fail("listen");
	printf("VSOCK-LISTENS\n");
	fflush(stdout);
	while (count-- > 0) {
		int fd = accept(listener, NULL, NULL);

		if (fork() == 0) {
			ssize_t n;

			while ((n = read(fd, buffer, sizeof(buffer))) > 0)
				if (put(fd, buffer, (size_t)n) < 0)
					_exit(1);
			_exit(n < 0);
		}
		close(fd);
	}
	while (wait(&status) > 0)
		bad += status != 0;
	printf("%d connections went wrong\n", bad);
	return bad;
}

static int send_to_host(unsigned int port, long bytes)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	ssize_t n;

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fail("connect");
	for (long part; bytes > 0; bytes -= part) {
		part = bytes < (long)sizeof(buffer) ? bytes : (long)sizeof(buffer);
		if (put(fd, buffer, (size_t)part) < 0)
			return fail("write");
	}
	shutdown(fd, SHUT_WR);
	n = read(fd, buffer, sizeof(buffer));
	printf("the host says %.*s\n", n < 0 ? 0 : (int)n, buffer);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "echo") == 0)
		return echo((unsigned int)atoi(argv[2]), atoi(argv[3]));
	if (argc == 4 && strcmp(argv[1], "send") == 0)
		return send_to_host((unsigned int)atoi(argv[2]), atol(argv[3]));
	return 2;
}
