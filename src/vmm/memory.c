/* memory: see memory.h. */
#include "vmm/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif

static int map(int fd, uint64_t size_bytes, int flags, struct memory **ret, struct error *err)
{
	void *host = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, fd, 0);
	struct memory *memory;

	if (host == MAP_FAILED)
		return fail(err, -errno, "map %llu MiB of guest memory",
			    (unsigned long long)size_bytes >> 20);
	/* A core dump of the VMM must not contain the guest, nor should a fork copy its page tables. */
	madvise(host, size_bytes, MADV_DONTDUMP);
	madvise(host, size_bytes, MADV_DONTFORK);
	madvise(host, size_bytes, MADV_HUGEPAGE);

	memory = mem_new(sizeof(*memory));
	memory->fd = fd;
	memory->is_private = flags & MAP_PRIVATE;
	memory->host = host;
	memory->size_bytes = size_bytes;
	memory->low_size = size_bytes < MEMORY_LOW_MAX ? size_bytes : MEMORY_LOW_MAX;
	memory->high_size = size_bytes - memory->low_size;
	*ret = memory;
	return 0;
}

static int check_size(uint64_t size_bytes, struct error *err)
{
	if (size_bytes < MEMORY_SIZE_MIN || size_bytes > MEMORY_SIZE_MAX)
		return refuse(err, -EINVAL,
			      "a machine has %llu MiB to %llu GiB of memory, not %llu bytes",
			      MEMORY_SIZE_MIN >> 20, MEMORY_SIZE_MAX >> 30,
			      (unsigned long long)size_bytes);
	if (size_bytes % MEMORY_PAGE_SIZE)
		return refuse(err, -EINVAL, "guest memory must be a multiple of 4 KiB");
	return 0;
}

int memory_create(uint64_t size_bytes, struct memory **ret, struct error *err)
{
	own_fd int fd = -1;
	int rc = check_size(size_bytes, err);

	if (rc < 0)
		return rc;
	fd = memfd_create("berth-guest", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL) /* MFD_NOEXEC_SEAL needs Linux 6.3 */
		fd = memfd_create("berth-guest", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)size_bytes) < 0)
		return fail(err, -errno, "create guest memory");
	rc = map(fd, size_bytes, MAP_SHARED, ret, err);
	if (rc == 0)
		(void)take(fd);
	return rc;
}

int memory_create_from(int fd, uint64_t size_bytes, struct memory **ret, struct error *err)
{
	struct stat st;
	int rc = check_size(size_bytes, err);

	if (rc == 0 && fstat(fd, &st) < 0)
		rc = fail(err, -errno, "look at the file of guest memory");
	if (rc == 0 && (uint64_t)st.st_size < size_bytes)
		rc = refuse(err, -EINVAL, "the file of guest memory is too short");
	return rc < 0 ? rc : map(fd, size_bytes, MAP_PRIVATE, ret, err);
}

void memory_limit_low(struct memory *memory, uint64_t max)
{
	if (memory->low_size <= max)
		return;
	memory->low_size = max;
	memory->high_size = memory->size_bytes - max;
}

void memory_destroy(struct memory *memory)
{
	if (!memory)
		return;
	munmap(memory->host, memory->size_bytes);
	fd_close(&memory->fd);
	own_mem_release(&memory);
}

int memory_read(const struct memory *memory, gpa_t gpa, void *data, size_t size)
{
	const void *from = memory_at(memory, gpa, size);

	if (!from)
		return -EFAULT;
	memcpy(data, from, size);
	return 0;
}

int memory_write(const struct memory *memory, gpa_t gpa, const void *data, size_t size)
{
	void *to = memory_at(memory, gpa, size);

	if (!to)
		return -EFAULT;
	memcpy(to, data, size);
	return 0;
}

unsigned int memory_parts(const struct memory *memory, struct memory_part ret[MEMORY_PARTS_MAX])
{
	ret[0] = (struct memory_part){.gpa = 0, .size = memory->low_size, .host = memory->host};
	if (!memory->high_size)
		return 1;
	ret[1] = (struct memory_part){.gpa = MEMORY_HIGH_START,
				      .size = memory->high_size,
				      .offset = memory->low_size,
				      .host = memory->host + memory->low_size};
	return 2;
}
