/* Has Linux's random generator start anew from what it has collected: what a guest does whose kernel has no driver
 * for generation ids, when it goes on from a snapshot. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include <linux/random.h>

int main(void)
{
	int fd = open("/dev/urandom", O_RDONLY);

	if (fd < 0 || ioctl(fd, RNDRESEEDCRNG) < 0) {
		perror("/dev/urandom");
		return 1;
	}
	return 0;
}
