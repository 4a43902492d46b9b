/* program: what the workloads of test-agent.c run. Its first argument says what it does. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Copies stdin to stdout, then says how much on stderr. */
static int copy(void)
{
	char data[4096];
	long total = 0;
	ssize_t n;

	while ((n = read(0, data, sizeof(data))) > 0) {
		if (write(1, data, (size_t)n) != n)
			return 9;
		total += n;
	}
	dprintf(2, "%ld bytes\n", total);
	return 3;
}

static void on_size(int signal)
{
	struct winsize size = {0};

	(void)signal;
	ioctl(0, TIOCGWINSZ, &size);
	dprintf(1, "size %d %d\n", size.ws_row, size.ws_col);
	_exit(4);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "copy") == 0)
		return copy();
	if (strcmp(what, "sleep") == 0) {
		dprintf(1, "sleeping\n");
		sleep(60);
	}
	if (strcmp(what, "terminal") == 0) {
		signal(SIGWINCH, on_size);
		dprintf(1, "terminal %d\n", isatty(0));
		sleep(60);
	}
	if (strcmp(what, "user") == 0)
		dprintf(1, "%d %d %s\n", (int)getuid(), (int)getpid(), getenv("HOME"));
	return 0;
}
