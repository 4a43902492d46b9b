/* The block device in front of files, by io_uring and without it, from several queues. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"
#include "vmm/disk/uring.h"
#include "vmm/virtio/devices.h"

#include <cmocka.h>

enum {
	SECTORS = 1024,
	SECTOR = 512,
	QUEUES = 3,
	HEADER = 16,
	RANGE = 16, /* of a request to discard or to write zeroes */
	TYPE_IN = 0,
	TYPE_OUT = 1,
	TYPE_FLUSH = 4,
	TYPE_DISCARD = 11,
	TYPE_WRITE_ZEROES = 13,
	STATUS_OK = 0,
	STATUS_IO_ERROR = 1,
	STATUS_UNSUPPORTED = 2,
	F_FLUSH = 9,
	CONFIG_QUEUES = 34, /* in the device's configuration */
};

struct fixture {
	struct driver_board board;
	struct virtio *virtio;
	struct driver driver;
	int file;
};

static const uint64_t rings[] = {
	0,
	VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX),
	VIRTIO_BIT(VIRTIO_FEATURE_PACKED),
	VIRTIO_BIT(VIRTIO_FEATURE_PACKED) | VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX),
	VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT),
	VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT) | VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX),
	VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT) | VIRTIO_BIT(VIRTIO_FEATURE_PACKED),
	VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT) | VIRTIO_BIT(VIRTIO_FEATURE_PACKED) |
		VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX),
};

static uint8_t pattern(uint64_t sector, unsigned int i)
{
	return (uint8_t)(sector * 31 + i * 7 + i / 256);
}

/* A real file: one in memory is never waited for. */
static int make_file(void)
{
	char name[] = "/var/tmp/test-blk-XXXXXX";
	uint8_t data[SECTOR];
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	for (uint64_t sector = 0; sector < SECTORS; sector++) {
		for (unsigned int i = 0; i < SECTOR; i++)
			data[i] = pattern(sector, i);
		assert_int_equal(pwrite(fd, data, SECTOR, (off_t)(sector * SECTOR)), SECTOR);
	}
	return fd;
}

static struct fixture *set_up_disk(uint64_t form, bool read_only)
{
	struct fixture *f = mem_new(sizeof(*f));
	struct disk *disk = NULL;
	int fd = make_file();

	f->file = dup(fd);
	assert_int_equal(disk_open_raw(fd, read_only, &disk), 0);
	driver_board_init(&f->board);
	assert_int_equal(virtio_blk_create(&f->board.board, 0, disk, QUEUES, &f->virtio), 0);
	driver_start_with(&f->driver, &f->board, f->virtio, form);
	return f;
}

static struct fixture *set_up(uint64_t form)
{
	return set_up_disk(form, false);
}

static void tear_down(struct fixture *f)
{
	f->virtio->ops->destroy(f->virtio);
	driver_board_release(&f->board);
	close(f->file);
	own_mem_release(&f);
}

static void offer(struct fixture *f, unsigned int queue, unsigned int slot, uint32_t type,
		  uint64_t sector, uint32_t out, uint32_t in)
{
	uint8_t *header = driver_out(&f->driver, queue, slot);

	memset(header, 0, HEADER);
	memcpy(header, &type, sizeof(type));
	memcpy(header + 8, &sector, sizeof(sector));
	driver_in(&f->driver, queue, slot)[in] = 0xff;
	driver_offer(&f->driver, queue, slot, HEADER + out, in + 1);
}

static unsigned int status_of(struct fixture *f, unsigned int queue, int slot, uint32_t in)
{
	return driver_in(&f->driver, queue, (unsigned int)slot)[in];
}

static void check_sectors(const uint8_t *data, uint64_t sector, unsigned int count)
{
	for (unsigned int i = 0; i < count * SECTOR; i++)
		assert_int_equal(data[i], pattern(sector + i / SECTOR, i % SECTOR));
}

static void what_is_read_is_the_file(void **state)
{
	(void)state;
	for (size_t form = 0; form < array_size(rings); form++) {
		struct fixture *f = set_up(rings[form]);

		assert_int_equal(driver_read(&f->driver, 0x2000 + CONFIG_QUEUES, 2), QUEUES);
		/* All slots of all queues at once, again and again: more than are under way at once. */
		for (unsigned int turn = 0; turn < 20; turn++) {
			for (unsigned int i = 0; i < QUEUES * DRIVER_SLOTS; i++)
				offer(f, i % QUEUES, i / QUEUES, TYPE_IN,
				      (turn * 37 + i * 11) % 1000, 0, (1 + i % 8) * SECTOR);
			for (unsigned int n = 0; n < QUEUES * DRIVER_SLOTS; n++) {
				uint32_t written;
				int slot = driver_wait(&f->driver, n % QUEUES, &written);
				unsigned int i = (unsigned int)slot * QUEUES + n % QUEUES;

				assert_true(slot >= 0);
				assert_int_equal(written, (1 + i % 8) * SECTOR + 1);
				assert_int_equal(status_of(f, n % QUEUES, slot, written - 1),
						 STATUS_OK);
				check_sectors(driver_in(&f->driver, n % QUEUES, (unsigned int)slot),
					      (turn * 37 + i * 11) % 1000, 1 + i % 8);
			}
		}
		tear_down(f);
	}
}

static void what_is_written_and_flushed_is_in_the_file(void **state)
{
	(void)state;
	for (size_t form = 0; form < array_size(rings); form++) {
		struct fixture *f = set_up(rings[form]);
		uint8_t data[2 * SECTOR];
		int slot;

		for (unsigned int i = 0; i < sizeof(data); i++)
			driver_out(&f->driver, 1, 3)[HEADER + i] = pattern(77, i);
		offer(f, 1, 3, TYPE_OUT, 5, sizeof(data), 0);
		slot = driver_wait(&f->driver, 1, NULL);
		assert_int_equal(slot, 3);
		assert_int_equal(status_of(f, 1, slot, 0), STATUS_OK);
		offer(f, 2, 0, TYPE_FLUSH, 0, 0, 0);
		slot = driver_wait(&f->driver, 2, NULL);
		assert_int_equal(slot, 0);
		assert_int_equal(status_of(f, 2, slot, 0), STATUS_OK);
		assert_int_equal(pread(f->file, data, sizeof(data), 5 * SECTOR), sizeof(data));
		assert_memory_equal(data, driver_out(&f->driver, 1, 3) + HEADER, sizeof(data));
		tear_down(f);
	}
}

static unsigned int flushes;

static int count_flush(struct disk *disk)
{
	(void)disk;
	flushes++;
	return 0;
}

static int forget_parts(struct disk *disk, struct iovec *parts, unsigned int count, uint64_t offset)
{
	(void)disk;
	(void)parts;
	(void)count;
	(void)offset;
	return 0;
}

static int forget_range(struct disk *disk, uint64_t offset, uint64_t size)
{
	(void)disk;
	(void)offset;
	(void)size;
	return 0;
}

static void leave(struct disk *disk)
{
	(void)disk;
}

/* 5.2.6.2: firmware's drivers know no flushes. */
static void what_is_written_is_on_the_medium_for_a_driver_that_does_not_flush(void **state)
{
	static const struct disk_ops ops = {.name = "test",
					    .read = forget_parts,
					    .write = forget_parts,
					    .flush = count_flush,
					    .discard = forget_range,
					    .close = leave};
	struct disk disk = {.ops = &ops, .size_bytes = SECTORS * SECTOR, .plain_fd = -1};
	struct fixture f = {.file = -1};

	(void)state;
	for (unsigned int knows = 0; knows < 2; knows++) {
		driver_board_init(&f.board);
		assert_int_equal(virtio_blk_create(&f.board.board, 0, &disk, QUEUES, &f.virtio), 0);
		f.virtio->offered &= knows ? UINT64_MAX : ~VIRTIO_BIT(F_FLUSH);
		driver_start(&f.driver, &f.board, f.virtio);
		flushes = 0;
		offer(&f, 0, 0, TYPE_IN, 0, 0, SECTOR);
		assert_int_equal(driver_wait(&f.driver, 0, NULL), 0);
		assert_int_equal(flushes, 0);
		offer(&f, 0, 0, TYPE_OUT, 0, SECTOR, 0);
		assert_int_equal(driver_wait(&f.driver, 0, NULL), 0);
		assert_int_equal(flushes, knows ? 0 : 1);
		f.virtio->ops->destroy(f.virtio);
		driver_board_release(&f.board);
	}
}

/* Each is answered, and the device works on. */
static void nonsense_is_an_error(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t out, in, status;
	} cases[] = {
		{TYPE_IN, SECTORS, 0, SECTOR, STATUS_IO_ERROR},
		{TYPE_IN, SECTORS - 1, 0, 2 * SECTOR, STATUS_IO_ERROR},
		{TYPE_IN, UINT64_MAX, 0, SECTOR, STATUS_IO_ERROR},
		{TYPE_IN, UINT64_MAX / SECTOR, 0, SECTOR, STATUS_IO_ERROR},
		{TYPE_IN, 0, 0, SECTOR - 1, STATUS_IO_ERROR},
		{TYPE_IN, 0, 0, 0, STATUS_OK},
		{TYPE_OUT, SECTORS, SECTOR, 0, STATUS_IO_ERROR},
		{TYPE_OUT, 0, SECTOR + 1, 0, STATUS_IO_ERROR},
		{TYPE_DISCARD, 0, 15, 0, STATUS_IO_ERROR},
		{TYPE_DISCARD, 0, 4096 * RANGE, 0, STATUS_IO_ERROR},
		{TYPE_WRITE_ZEROES, 0, 65 * RANGE, 0, STATUS_IO_ERROR},
		{99, 0, 0, 0, STATUS_UNSUPPORTED},
	};
	struct fixture *f = set_up(0);

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int slot;

		offer(f, 0, 0, cases[i].type, cases[i].sector, cases[i].out, cases[i].in);
		slot = driver_wait(&f->driver, 0, NULL);
		assert_int_equal(slot, 0);
		assert_int_equal(status_of(f, 0, slot, cases[i].in), cases[i].status);
		assert_false(driver_needs_reset(&f->driver));
	}
	tear_down(f);
}

static void ranges_that_are_not_of_the_disk_are_not_cleared(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t count, flags, status;
	} cases[] = {
		{SECTORS, 1, 0, STATUS_IO_ERROR},
		{SECTORS - 1, 2, 0, STATUS_IO_ERROR},
		{UINT64_MAX, 2, 0, STATUS_IO_ERROR},
		{UINT64_MAX / SECTOR, UINT32_MAX, 0, STATUS_IO_ERROR},
		{0, 1, 2, STATUS_UNSUPPORTED},
		{SECTORS - 1, 1, 0, STATUS_OK},
	};
	struct fixture *f = set_up(0);
	struct stat st;

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int slot;

		memcpy(driver_out(&f->driver, 0, 0) + HEADER, &cases[i], RANGE);
		offer(f, 0, 0, TYPE_WRITE_ZEROES, 0, RANGE, 0);
		slot = driver_wait(&f->driver, 0, NULL);
		assert_int_equal(slot, 0);
		assert_int_equal(status_of(f, 0, slot, 0), cases[i].status);
	}
	assert_int_equal(fstat(f->file, &st), 0);
	assert_int_equal(st.st_size, SECTORS * SECTOR);
	tear_down(f);
}

/* Whatever the descriptor would allow. */
static void a_read_only_disk_is_not_changed(void **state)
{
	static const uint32_t types[] = {TYPE_OUT, TYPE_DISCARD, TYPE_WRITE_ZEROES};
	struct fixture *f = set_up_disk(0, true);
	uint8_t data[SECTOR];

	(void)state;
	for (size_t i = 0; i < array_size(types); i++) {
		const struct {
			uint64_t sector;
			uint32_t count, flags;
		} range = {0, 1, 0};
		int slot;

		memset(driver_out(&f->driver, 0, 0) + HEADER, 0x77, SECTOR);
		if (types[i] != TYPE_OUT)
			memcpy(driver_out(&f->driver, 0, 0) + HEADER, &range, RANGE);
		offer(f, 0, 0, types[i], 0, types[i] == TYPE_OUT ? SECTOR : RANGE, 0);
		slot = driver_wait(&f->driver, 0, NULL);
		assert_int_equal(slot, 0);
		assert_int_equal(status_of(f, 0, slot, 0), STATUS_IO_ERROR);
	}
	assert_int_equal(pread(f->file, data, SECTOR, 0), SECTOR);
	check_sectors(data, 0, 1);
	tear_down(f);
}

static void a_request_without_header_or_status_breaks_the_device(void **state)
{
	struct fixture *f = set_up(0);

	(void)state;
	driver_offer(&f->driver, 0, 0, HEADER - 1, 1);
	assert_int_equal(driver_wait(&f->driver, 0, NULL), -1);
	assert_true(driver_needs_reset(&f->driver));
	driver_start(&f->driver, &f->board, f->virtio);
	driver_offer(&f->driver, 0, 0, HEADER, 0);
	assert_int_equal(driver_wait(&f->driver, 0, NULL), -1);
	assert_true(driver_needs_reset(&f->driver));
	tear_down(f);
}

/* The host's end of a file is not the disk's: somebody has cut it short. */
static void a_file_cut_short_is_an_error(void **state)
{
	struct fixture *f = set_up(0);
	int slot;

	(void)state;
	assert_int_equal(ftruncate(f->file, 100 * SECTOR), 0);
	offer(f, 0, 0, TYPE_IN, 99, 0, 2 * SECTOR);
	slot = driver_wait(&f->driver, 0, NULL);
	assert_int_equal(slot, 0);
	assert_int_equal(status_of(f, 0, slot, 2 * SECTOR), STATUS_IO_ERROR);
	tear_down(f);
}

/* A vCPU's thread: the driver begins anew. */
static void *reset(void *data)
{
	struct fixture *f = data;
	struct device *device = &f->virtio->device;

	device_lock(device);
	device->ops->write(device, 0, 0x14, 1, 0);
	device_unlock(device);
	memset(driver_in(&f->driver, 0, 0), 0x5a, 8 * SECTOR);
	return NULL;
}

/* What is under way when the driver begins anew, or the machine ends, writes nothing afterwards. */
static void a_reset_waits_for_what_is_under_way(void **state)
{
	(void)state;
	for (unsigned int turn = 0; turn < 40; turn++) {
		struct fixture *f = set_up(rings[turn / 2 % array_size(rings)]);
		pthread_t thread;

		assert_int_equal(fdatasync(f->file), 0);
		assert_int_equal(posix_fadvise(f->file, 0, 0, POSIX_FADV_DONTNEED), 0);
		for (unsigned int i = 0; i < QUEUES * DRIVER_SLOTS; i++)
			offer(f, i % QUEUES, i / QUEUES, TYPE_IN, i * 20, 0, 8 * SECTOR);
		device_lock(&f->virtio->device);
		for (unsigned int i = 0; i < QUEUES; i++)
			f->virtio->ops->notify(f->virtio, i);
		device_unlock(&f->virtio->device);
		if (turn % 2) {
			assert_int_equal(pthread_create(&thread, NULL, reset, f), 0);
			while (pthread_tryjoin_np(thread, NULL) == EBUSY)
				driver_serve(&f->driver);
			driver_serve(&f->driver);
			for (unsigned int i = 0; i < 8 * SECTOR; i++)
				assert_int_equal(driver_in(&f->driver, 0, 0)[i], 0x5a);
		}
		tear_down(f);
	}
}

static void refuse_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = array_size(code), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(125);
}

/* A ring reads and flushes, and does nothing else for whoever gets hold of it. */
static void a_ring_is_shut_in(void **state)
{
	struct uring *ring = NULL;
	struct uring_done done;
	uint8_t data[SECTOR];
	struct iovec part = {.iov_base = data, .iov_len = sizeof(data)};
	int fd = make_file(), rc = uring_create(4, &ring), tag;

	(void)state;
	if (rc < 0) {
		fprintf(stderr, "no io_uring here (%s): it is NOT tested\n", strerror(-rc));
		close(fd);
		skip();
	}
	uring_read(ring, fd, &part, 1, 3 * SECTOR, &tag);
	assert_int_equal(uring_submit(ring, 1), 0);
	assert_true(uring_take(ring, &done));
	assert_ptr_equal(done.tag, &tag);
	assert_int_equal(done.result, SECTOR);
	check_sectors(data, 3, 1);
	assert_false(uring_take(ring, &done));
	/* IORING_REGISTER_BUFFERS, and anything else that is asked of its descriptor. */
	for (unsigned int what = 0; what < 32; what++)
		assert_true(syscall(SYS_io_uring_register, uring_fd(ring), what, &part, 1) < 0);
	uring_destroy(ring);
	close(fd);
}

static int run_all(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_read_is_the_file),
		cmocka_unit_test(what_is_written_and_flushed_is_in_the_file),
		cmocka_unit_test(what_is_written_is_on_the_medium_for_a_driver_that_does_not_flush),
		cmocka_unit_test(nonsense_is_an_error),
		cmocka_unit_test(ranges_that_are_not_of_the_disk_are_not_cleared),
		cmocka_unit_test(a_read_only_disk_is_not_changed),
		cmocka_unit_test(a_request_without_header_or_status_breaks_the_device),
		cmocka_unit_test(a_file_cut_short_is_an_error),
		cmocka_unit_test(a_reset_waits_for_what_is_under_way),
		cmocka_unit_test(a_ring_is_shut_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
	int status, rc = run_all();
	pid_t child;

	/* Once more where the host has no io_uring. */
	fflush(NULL);
	child = fork();
	if (child == 0) {
		refuse_uring();
		exit(run_all());
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return 1;
	return rc + WEXITSTATUS(status);
}
