/*
 * disk FILE DEPTH COUNT [cold]: COUNT reads of 4 KiB at random places of a file, DEPTH at a time, by the block
 * device, with the driver of the unit tests in a guest's place. Prints the CPU time of what serves the disk (its
 * thread, and the kernel's for io_uring) and the time, both per read. Without "cold", of the first 32 MiB, which
 * are in the host's memory; with it, of all of the file, of which nothing is.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "driver.h"
#include "vmm/virtio/devices.h"

enum { BLOCK = 4096, SECTORS = BLOCK / 512, WARM = 32 << 20, HEADER = 16 };

static int64_t cpu_us(int who)
{
	struct rusage r;

	getrusage(who, &r);
	return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000ll + r.ru_utime.tv_usec +
	       r.ru_stime.tv_usec;
}

static void *serve(void *loop)
{
	exit(loop_run(loop) < 0 ? 1 : 0);
}

static void ask(struct driver *d, unsigned int slot, uint64_t blocks)
{
	uint64_t sector = ((uint64_t)rand() << 16 ^ (uint64_t)rand()) % blocks * SECTORS;
	uint8_t *header = driver_out(d, 0, slot);

	memset(header, 0, HEADER);
	memcpy(header + 8, &sector, sizeof(sector));
	driver_offer(d, 0, slot, HEADER, BLOCK + 1);
}

static void warm_or_cool(int fd, bool cold)
{
	static uint8_t data[1 << 20];

	if (fdatasync(fd) < 0 || (cold && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0))
		exit(1);
	for (off_t at = 0; !cold && at < WARM; at += sizeof(data))
		if (pread(fd, data, sizeof(data), at) <= 0)
			exit(1);
}

int main(int argc, char **argv)
{
	int fd = argc > 3 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
	unsigned int depth = argc > 2 ? (unsigned int)atoi(argv[2]) : 0, sent = 0, done = 0;
	unsigned int count = argc > 3 ? (unsigned int)atoi(argv[3]) : 0;
	bool cold = argc > 4;
	struct driver_board board;
	struct virtio *virtio = NULL;
	struct disk *disk = NULL;
	struct driver driver;
	int64_t start, cpu, own;
	uint64_t blocks;
	pthread_t thread;

	if (fd < 0 || depth < 1 || depth > DRIVER_SLOTS || disk_open_raw(fd, false, &disk) < 0)
		return 2;
	blocks = (cold ? disk->size_bytes : WARM) / BLOCK;
	driver_board_init(&board);
	if (virtio_blk_create(&board.board, 0, disk, 1, &virtio) < 0)
		return 1;
	driver_start_with(&driver, &board, virtio,
			  VIRTIO_BIT(VIRTIO_FEATURE_PACKED) |
				  VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX));
	warm_or_cool(fd, cold);
	start = clock_monotonic_ns();
	cpu = cpu_us(RUSAGE_SELF);
	own = cpu_us(RUSAGE_THREAD);
	pthread_create(&thread, NULL, serve, board.board.loop);
	for (; sent < depth; sent++)
		ask(&driver, sent, blocks);
	while (done < count) {
		int slot = driver_used(&driver, 0, NULL);

		if (slot < 0) {
			sched_yield();
			continue;
		}
		done++;
		ask(&driver, (unsigned int)slot, blocks);
	}
	cpu = cpu_us(RUSAGE_SELF) - cpu - (cpu_us(RUSAGE_THREAD) - own);
	printf("%s, %u at a time: %.1f us of CPU, %.1f us\n", cold ? "cold" : "cached", depth,
	       (double)cpu / count, (double)(clock_monotonic_ns() - start) / 1e3 / count);
	fflush(stdout);
	_exit(0);
}
