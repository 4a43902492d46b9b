/* code: see the header. */
#include "vmm/cpu/soft/code.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/own.h"

enum { CODE_ALIGN = 16 };

int code_open(struct code *code, size_t size, struct error *err)
{
	own_fd int fd = memfd_create("berth-soft-code", MFD_CLOEXEC);
	void *write, *exec, *slots;

	*code = (struct code){.size = size};
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return fail(err, -errno, "make memory for generated code");
	write = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	exec = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	slots = mmap(NULL, CODE_SLOTS * sizeof(struct code_slot), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	code->write = write == MAP_FAILED ? NULL : write;
	code->exec = exec == MAP_FAILED ? NULL : exec;
	code->slots = slots == MAP_FAILED ? NULL : slots;
	if (code->write && code->exec && code->slots)
		return 0;
	code_close(code);
	return fail(err, -ENOMEM, "map memory for generated code");
}

void code_close(struct code *code)
{
	if (code->write)
		munmap(code->write, code->size);
	if (code->exec)
		munmap(code->exec, code->size);
	if (code->slots)
		munmap(code->slots, CODE_SLOTS * sizeof(struct code_slot));
	*code = (struct code){0};
}

void code_reset(struct code *code)
{
	code->used = 0;
	code->count = 0;
	memset(code->slots, 0, CODE_SLOTS * sizeof(struct code_slot));
}

static uint32_t hash_of(const uint8_t *bytes, size_t length)
{
	uint64_t h = 0x9e3779b97f4a7c15ull ^ length;

	for (size_t i = 0; i < length; i++)
		h = (h ^ bytes[i]) * 0x100000001b3ull;
	return (uint32_t)(h ^ h >> 32);
}

void *code_intern(struct code *code, const uint8_t *bytes, size_t length)
{
	uint32_t hash = hash_of(bytes, length);
	uint32_t i = hash & (CODE_SLOTS - 1);
	struct code_slot *slot;

	for (; (slot = &code->slots[i])->length; i = (i + 1) & (CODE_SLOTS - 1)) {
		if (slot->hash == hash && slot->length == length &&
		    memcmp(code->write + slot->offset, bytes, length) == 0)
			return code->exec + slot->offset;
	}
	if (code->size - code->used < length + CODE_ALIGN || code->count >= CODE_SLOTS / 4 * 3)
		return NULL;
	*slot = (struct code_slot){hash, (uint32_t)code->used, (uint32_t)length};
	memcpy(code->write + code->used, bytes, length);
	code->used = (code->used + length + CODE_ALIGN - 1) & ~(size_t)(CODE_ALIGN - 1);
	code->count++;
	return code->exec + slot->offset;
}
