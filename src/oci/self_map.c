/*
 * self_map: see self_map.h.
 *
 * The kernel lets a process change the file that it is said to execute (prctl PR_SET_MM) once nothing
 * of the old one is mapped any more. So each segment is replaced where it is, by one call that the
 * kernel carries out as a whole: what is only read becomes a mapping of the same pages of the same
 * file, found through the other mount; what is written becomes anonymous memory with the same content.
 * The code that does this is replaced while it runs, by itself. It costs about a tenth of what executing
 * the program again would.
 */
#include "oci/self_map.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/prctl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/own.h"

struct image {
	const ElfW(Phdr) * headers;
	size_t count;
	uintptr_t base; /* what is added to the addresses of the file */
	uintptr_t page;
};

static int find_image(struct image *ret)
{
	ret->headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
	ret->count = getauxval(AT_PHNUM);
	ret->page = (uintptr_t)sysconf(_SC_PAGESIZE);
	for (size_t i = 0; ret->headers != NULL && i < ret->count; i++)
		if (ret->headers[i].p_type == PT_PHDR) {
			ret->base = (uintptr_t)ret->headers - ret->headers[i].p_vaddr;
			return 0;
		}
	return -ENOEXEC;
}

/* The content moves word by word and not through memcpy, which a sanitizer would not allow to read what
 * is between two variables. */
__attribute__((no_sanitize("address"))) static void copy_words(void *to, const void *from,
							       size_t len)
{
	volatile uint64_t *out = to;
	const volatile uint64_t *in = from;

	for (size_t i = 0; i < len / sizeof(*in); i++)
		out[i] = in[i];
}

/* Nothing may write to the segment between the copy and the exchange. */
static int replace_written(void *start, size_t len)
{
	void *copy = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (copy == MAP_FAILED)
		return -errno;
	copy_words(copy, start, len);
	if (mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, start) != MAP_FAILED)
		return 0;
	munmap(copy, len);
	return -errno;
}

static int replace_segment(const struct image *image, const ElfW(Phdr) * segment, int fd)
{
	const uintptr_t address = image->base + segment->p_vaddr;
	const uintptr_t start = address & -image->page;
	const size_t len = (address + segment->p_filesz - start + image->page - 1) & -image->page;
	const off_t offset = (off_t)(segment->p_offset & -image->page);
	const int prot = (segment->p_flags & PF_R ? PROT_READ : 0) |
			 (segment->p_flags & PF_X ? PROT_EXEC : 0);

	if (segment->p_filesz == 0)
		return 0;
	if (segment->p_flags & PF_W)
		return replace_written((void *)start, len);
	if (mmap((void *)start, len, prot, MAP_PRIVATE | MAP_FIXED, fd, offset) == MAP_FAILED)
		return -errno;
	return 0;
}

/* What the loader had made read-only after relocating. */
static int restore_relro(const struct image *image)
{
	for (size_t i = 0; i < image->count; i++) {
		const ElfW(Phdr) *h = &image->headers[i];
		const uintptr_t address = image->base + h->p_vaddr;
		const uintptr_t start = address & -image->page;
		const uintptr_t end = (address + h->p_memsz) & -image->page;

		if (h->p_type == PT_GNU_RELRO && end > start &&
		    mprotect((void *)start, end - start, PROT_READ) < 0)
			return -errno;
	}
	return 0;
}

/* Fills `map` from /proc/self/stat: the call wants all of it, also what is to stay as it is. */
static int read_layout(struct prctl_mm_map *map)
{
	enum { START_CODE = 26, ARG_START = 48, FIELDS_MAX = 51 };
	own_fd int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	uint64_t field[FIELDS_MAX + 1] = {0};
	char text[2048], *p;
	/* The kernel gives all of it at once. */
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	/* Counted as in proc(5): the name, which may hold anything, is the second, a letter the third. */
	p = strrchr(text, ')');
	if (p == NULL || strlen(p) < 4)
		return -EINVAL;
	p += 4;
	for (int i = 4; i <= FIELDS_MAX; i++)
		field[i] = strtoull(p, &p, 10);
	*map = (struct prctl_mm_map){
		.start_code = field[START_CODE],
		.end_code = field[START_CODE + 1],
		.start_stack = field[START_CODE + 2],
		.start_data = field[ARG_START - 3],
		.end_data = field[ARG_START - 2],
		.start_brk = field[ARG_START - 1],
		.arg_start = field[ARG_START],
		.arg_end = field[ARG_START + 1],
		.env_start = field[ARG_START + 2],
		.env_end = field[ARG_START + 3],
	};
	return 0;
}

/* How the kernel lets us name the file: it takes one right or another. */
struct naming {
	bool with_layout;
	struct prctl_mm_map layout;
};

static int name_file(struct naming *n, int fd)
{
	if (!n->with_layout)
		return prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, fd, 0, 0) < 0 ? -errno : 0;
	n->layout.exe_fd = (uint32_t)fd;
	n->layout.brk = (uint64_t)(uintptr_t)sbrk(0);
	return prctl(PR_SET_MM, PR_SET_MM_MAP, &n->layout, sizeof(n->layout), 0) < 0 ? -errno : 0;
}

/* Asks before anything is changed: the kernel looks at the rights first, and then answers -EBUSY as long
 * as the old file is mapped. */
static int choose_naming(struct naming *n, int fd)
{
	int rc = name_file(n, fd);

	if (rc == -EPERM) {
		n->with_layout = true;
		rc = read_layout(&n->layout);
		if (rc == 0)
			rc = name_file(n, fd);
	}
	return rc == -EBUSY ? 0 : rc < 0 ? rc : -EALREADY;
}

int self_map(int fd)
{
	struct naming naming = {0};
	struct image image;
	int rc = find_image(&image);

	if (rc == 0)
		rc = choose_naming(&naming, fd);
	for (size_t i = 0; rc == 0 && i < image.count; i++)
		if (image.headers[i].p_type == PT_LOAD)
			rc = replace_segment(&image, &image.headers[i], fd);
	if (rc == 0)
		rc = restore_relro(&image);
	return rc < 0 ? rc : name_file(&naming, fd);
}
