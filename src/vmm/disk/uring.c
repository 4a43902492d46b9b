/*
 * uring: see uring.h. Two rings of memory that kernel and program share. The program writes entries behind
 * the tail of the first (submissions), the kernel behind that of the second (completions); each moves its
 * own end only, the writer's with release, the reader's view of it with acquire.
 */
#include "vmm/disk/uring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/own.h"

struct uring {
	int fd;
	void *memory; /* both rings, one mapping */
	size_t memory_size;
	struct io_uring_sqe *entries;
	size_t entries_size;
	unsigned int *submit_tail, submit_mask, *submit_slots;
	unsigned int *done_head, *done_tail, done_mask;
	const struct io_uring_cqe *done;
	unsigned int prepared;
};

static int setup(unsigned int depth, struct io_uring_params *params)
{
	int fd = (int)syscall(SYS_io_uring_setup, depth, params);

	return fd < 0 ? -errno : fd;
}

/* From now on nothing else can be done with it, by anybody. */
static int shut_in(int fd)
{
	struct io_uring_restriction allowed[] = {
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
	};

	if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, allowed,
		    array_size(allowed)) < 0 ||
	    syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -errno;
	return 0;
}

static int map(struct uring *ring, const struct io_uring_params *p)
{
	size_t submit = p->sq_off.array + p->sq_entries * sizeof(unsigned int);
	size_t done = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	void *memory, *entries;

	ring->memory_size = submit > done ? submit : done;
	ring->entries_size = p->sq_entries * sizeof(struct io_uring_sqe);
	memory = mmap(NULL, ring->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
		      IORING_OFF_SQ_RING);
	if (memory == MAP_FAILED)
		return -errno;
	ring->memory = memory;
	entries = mmap(NULL, ring->entries_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
		       IORING_OFF_SQES);
	if (entries == MAP_FAILED)
		return -errno;
	ring->entries = entries;
	return 0;
}

static unsigned int *word(const struct uring *ring, unsigned int offset)
{
	return (unsigned int *)(void *)((uint8_t *)ring->memory + offset);
}

int uring_create(unsigned int depth, struct uring **ret)
{
	struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	struct uring *ring = mem_new(sizeof(*ring));
	int rc = setup(depth, &params);

	ring->fd = rc;
	/* One mapping for both rings, and entries that the kernel copies: Linux 5.5. */
	if (rc >= 0 && (~params.features &
			(IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE)))
		rc = -ENOSYS;
	if (rc >= 0)
		rc = shut_in(ring->fd);
	if (rc >= 0)
		rc = map(ring, &params);
	if (rc < 0) {
		uring_destroy(ring);
		return rc;
	}
	ring->submit_tail = word(ring, params.sq_off.tail);
	ring->submit_mask = *word(ring, params.sq_off.ring_mask);
	ring->submit_slots = word(ring, params.sq_off.array);
	ring->done_head = word(ring, params.cq_off.head);
	ring->done_tail = word(ring, params.cq_off.tail);
	ring->done_mask = *word(ring, params.cq_off.ring_mask);
	ring->done = (const void *)word(ring, params.cq_off.cqes);
	*ret = ring;
	return 0;
}

void uring_destroy(struct uring *ring)
{
	if (!ring)
		return;
	if (ring->entries)
		munmap(ring->entries, ring->entries_size);
	if (ring->memory)
		munmap(ring->memory, ring->memory_size);
	fd_close(&ring->fd);
	own_mem_release(&ring);
}

int uring_fd(const struct uring *ring)
{
	return ring->fd;
}

static void prepare(struct uring *ring, const struct io_uring_sqe *entry)
{
	unsigned int tail = *ring->submit_tail, slot = tail & ring->submit_mask;

	ring->entries[slot] = *entry;
	ring->submit_slots[slot] = slot;
	__atomic_store_n(ring->submit_tail, tail + 1, __ATOMIC_RELEASE);
	ring->prepared++;
}

void uring_read(struct uring *ring, int fd, const struct iovec *parts, unsigned int count,
		uint64_t offset, void *tag)
{
	const struct io_uring_sqe entry = {.opcode = IORING_OP_READV,
					   .fd = fd,
					   .off = offset,
					   .addr = (uintptr_t)parts,
					   .len = count,
					   .user_data = (uintptr_t)tag};

	prepare(ring, &entry);
}

void uring_flush(struct uring *ring, int fd, void *tag)
{
	const struct io_uring_sqe entry = {.opcode = IORING_OP_FSYNC,
					   .fd = fd,
					   .fsync_flags = IORING_FSYNC_DATASYNC,
					   .user_data = (uintptr_t)tag};

	prepare(ring, &entry);
}

bool uring_has_prepared(const struct uring *ring)
{
	return ring->prepared > 0;
}

int uring_submit(struct uring *ring, unsigned int wait)
{
	do {
		long n = syscall(SYS_io_uring_enter, ring->fd, ring->prepared, wait,
				 wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		ring->prepared -= (unsigned int)n;
		wait = 0;
	} while (ring->prepared > 0);
	return 0;
}

bool uring_take(struct uring *ring, struct uring_done *ret)
{
	unsigned int head = *ring->done_head;
	const struct io_uring_cqe *entry = &ring->done[head & ring->done_mask];

	if (head == __atomic_load_n(ring->done_tail, __ATOMIC_ACQUIRE))
		return false;
	*ret = (struct uring_done){.tag = (void *)(uintptr_t)entry->user_data,
				   .result = entry->res};
	__atomic_store_n(ring->done_head, head + 1, __ATOMIC_RELEASE);
	return true;
}
