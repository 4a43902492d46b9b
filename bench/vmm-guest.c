/*
 * vmm-guest: /init of the guest that bench/vmm boots. It loads the modules that /modules names, in order,
 * says "ready", then does one workload after the other, each between a line "begin NAME" and a line "end
 * NAME", and powers off. Who reads the lines has the times: no clock of the guest's is trusted.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/route.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SIEVE = 2000000,
	MATRIX = 128,
	MATRICES = 4,
	COPY = 16 << 20,
	COPIES = 12,
	CALLS = 300000,
	FORKS = 150,
	PAGES = 20000,
	BLOCK = 1 << 20,
	BLOCKS = 48,
	SENT = 24 << 20,
	PORT = 5001,
};

static volatile uint64_t sink;

static void fail(const char *what)
{
	printf("failed %s\n", what);
	fflush(stdout);
	reboot(RB_POWER_OFF);
}

static void integers(void)
{
	char *composite = calloc(SIEVE, 1);
	uint64_t hash = 14695981039346656037ull, primes = 0;

	for (uint64_t i = 2; i < SIEVE; i++) {
		if (composite[i])
			continue;
		primes++;
		for (uint64_t j = i * i; j < SIEVE; j += i)
			composite[j] = 1;
	}
	for (unsigned int i = 0; i < 6000000; i++)
		hash = (hash ^ (i & 0xff)) * 1099511628211ull;
	sink = hash + primes;
	free(composite);
}

static void floats(void)
{
	static double a[MATRIX][MATRIX], b[MATRIX][MATRIX], c[MATRIX][MATRIX];

	for (int i = 0; i < MATRIX; i++)
		for (int j = 0; j < MATRIX; j++) {
			a[i][j] = i + 0.5 * j;
			b[i][j] = i - 0.25 * j;
		}
	for (int n = 0; n < MATRICES; n++)
		for (int i = 0; i < MATRIX; i++)
			for (int j = 0; j < MATRIX; j++) {
				double sum = 0;

				for (int k = 0; k < MATRIX; k++)
					sum += a[i][k] * b[k][j];
				c[i][j] += sum;
			}
	sink = (uint64_t)c[3][5];
}

static void memory(void)
{
	char *from = malloc(COPY), *to = malloc(COPY);

	memset(from, 1, COPY);
	for (int i = 0; i < COPIES; i++) {
		memcpy(to, from, COPY);
		from[i] = to[COPY - 1 - i];
	}
	sink = (uint64_t)to[COPY / 2];
	free(from);
	free(to);
}

static void calls(void)
{
	for (int i = 0; i < CALLS; i++)
		sink += (uint64_t)syscall(SYS_getppid);
}

static void forks(void)
{
	for (int i = 0; i < FORKS; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			execl("/init", "init", "exit", (char *)NULL);
			_exit(1);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			fail("fork");
	}
}

static void faults(void)
{
	char *p = mmap(NULL, PAGES * 4096ul, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	madvise(p, PAGES * 4096ul, MADV_NOHUGEPAGE);
	for (unsigned long i = 0; i < PAGES; i++)
		p[i * 4096] = 1;
	munmap(p, PAGES * 4096ul);
}

static void disk(void)
{
	int fd = open("/dev/vda", O_RDWR | O_DIRECT);
	char *block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (fd < 0 || block == MAP_FAILED)
		fail("disk");
	memset(block, 7, BLOCK);
	for (int i = 0; i < BLOCKS; i++)
		if (pwrite(fd, block, BLOCK, (off_t)i * BLOCK) != BLOCK)
			fail("write");
	for (int i = 0; i < BLOCKS; i++)
		if (pread(fd, block, BLOCK, (off_t)i * BLOCK) != BLOCK)
			fail("read");
	fsync(fd);
	close(fd);
}

static void bring_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq request = {.ifr_name = "eth0"};
	struct sockaddr_in address = {.sin_family = AF_INET};

	address.sin_addr.s_addr = inet_addr("10.77.0.2");
	memcpy(&request.ifr_addr, &address, sizeof(address));
	if (ioctl(fd, SIOCSIFADDR, &request) < 0)
		fail("address");
	address.sin_addr.s_addr = inet_addr("255.255.255.0");
	memcpy(&request.ifr_netmask, &address, sizeof(address));
	(void)ioctl(fd, SIOCSIFNETMASK, &request);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		fail("interface");
	close(fd);
}

static void network(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	static char part[1 << 16];
	size_t left = SENT;
	char end;

	address.sin_addr.s_addr = inet_addr("10.77.0.1");
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("connect");
	while (left > 0) {
		ssize_t n = write(fd, part, left < sizeof(part) ? left : sizeof(part));

		if (n <= 0)
			fail("send");
		left -= (size_t)n;
	}
	shutdown(fd, SHUT_WR);
	if (read(fd, &end, 1) != 1) /* the other side has got all of it */
		fail("receive");
	close(fd);
}

static void load_modules(void)
{
	FILE *list = fopen("/modules", "r");
	char name[256];

	while (list && fgets(name, sizeof(name), list)) {
		int fd;

		name[strcspn(name, "\n")] = '\0';
		fd = open(name, O_RDONLY);
		if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0) < 0)
			perror(name);
		if (fd >= 0)
			close(fd);
	}
	for (int i = 0; i < 100 && list && access("/dev/vda", F_OK) < 0; i++)
		usleep(50000);
}

static void run(const char *name, void (*workload)(void))
{
	printf("begin %s\n", name);
	fflush(stdout);
	workload();
	printf("end %s\n", name);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "exit") == 0)
		return 0;
	printf("ready\n");
	fflush(stdout);
	mount("none", "/dev", "devtmpfs", 0, NULL);
	load_modules();
	run("integer", integers);
	run("floating point", floats);
	run("memory", memory);
	run("system calls", calls);
	run("fork and exec", forks);
	run("page faults", faults);
	if (access("/dev/vda", F_OK) == 0)
		run("disk", disk);
	if (access("/network", F_OK) == 0) {
		bring_up();
		run("network", network);
	}
	printf("done\n");
	fflush(stdout);
	reboot(RB_POWER_OFF);
	return 0;
}
