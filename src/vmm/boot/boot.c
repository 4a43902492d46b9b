/* boot: see boot.h. */
#include "vmm/boot/boot_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum { MULTIBOOT_HEADER_MAGIC = 0x1badb002, MULTIBOOT_BOOT_MAGIC = 0x2badb002 };
#define MIB (1ull << 20)

static int map_file(int fd, const char *name, struct boot_image *ret, struct error *err)
{
	struct stat st;
	void *data;

	if (fstat(fd, &st) < 0)
		return fail(err, -errno, "look at %s", name);
	if (!S_ISREG(st.st_mode) || st.st_size <= 0)
		return refuse(err, -EINVAL, "%s is %s", name,
			      S_ISREG(st.st_mode) ? "empty" : "not a file");
	if ((uint64_t)st.st_size > BOOT_KERNEL_MAX)
		return refuse(err, -EFBIG, "%s is larger than %llu MiB", name,
			      BOOT_KERNEL_MAX >> 20);
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return fail(err, -errno, "map %s", name);
	*ret = (struct boot_image){.data = data, .size = (size_t)st.st_size, .name = name};
	return 0;
}

static void unmap_file(struct boot_image *image)
{
	union {
		const uint8_t *data;
		void *address;
	} mapped = {.data = image->data};

	if (mapped.data)
		munmap(mapped.address, image->size);
}
#define own_mapping __attribute__((cleanup(unmap_file)))

static void add_range(struct boot_plan *plan, gpa_t start, uint64_t size, uint32_t type)
{
	plan->ranges[plan->range_count++] =
		(struct boot_range){.start = start, .size = size, .type = type};
}

static void plan_memory_map(struct boot_plan *plan)
{
	const struct memory *memory = plan->memory;

	add_range(plan, 0, BOOT_LOW_END, BOOT_RAM);
	add_range(plan, BOOT_LOW_END, MIB - BOOT_LOW_END, BOOT_RESERVED);
	if (memory->low_size > MIB)
		add_range(plan, MIB, memory->low_size - MIB, BOOT_RAM);
	if (plan->source->hole.size)
		add_range(plan, plan->source->hole.start, plan->source->hole.size, BOOT_RESERVED);
	if (memory->high_size)
		add_range(plan, MEMORY_HIGH_START, memory->high_size, BOOT_RAM);
}

/* Descriptors for the selectors of set_segments: a kernel may reload them before it has its own. */
static int write_gdt(const struct boot_plan *plan, enum boot_mode mode)
{
	const uint64_t gdt[4] = {
		[2] = mode == BOOT_LONG ? 0x00af9b000000ffff : 0x00cf9b000000ffff,
		[3] = 0x00cf93000000ffff,
	};

	return memory_write(plan->memory, plan->low + BOOT_GDT, gdt, sizeof(gdt));
}

static int load_command_line(const struct boot_plan *plan, struct error *err)
{
	const char *text = plan->source->command_line ? plan->source->command_line : "";
	size_t size = strlen(text) + 1;

	if (size > BOOT_COMMAND_LINE_MAX)
		return refuse(err, -E2BIG, "the kernel's command line is longer than %d characters",
			      BOOT_COMMAND_LINE_MAX - 1);
	return memory_write(plan->memory, plan->low + BOOT_COMMAND_LINE, text, size);
}

enum { ARCHIVE_ALIGN = 4 };

static int map_optional(int fd, const char *name, struct boot_image *ret, struct error *err)
{
	return fd < 0 ? 0 : map_file(fd, name, ret, err);
}

/* At the end of low memory, out of the way of the kernel and of what it is told. Multiboot and the zero page
 * have 32 bits. Linux unpacks archives that follow each other, each aligned, one after the other. */
static int load_initrd(struct boot_plan *plan, struct error *err)
{
	const struct boot_source *source = plan->source;
	const gpa_t begin = plan->kernel_end > MIB ? plan->kernel_end : MIB;
	const gpa_t end = plan->initrd_max + 1;
	own_mapping struct boot_image modules = {0}, image = {0};
	size_t first, size;
	gpa_t at;
	int rc = map_optional(source->modules_fd, source->modules_name, &modules, err);

	if (rc == 0)
		rc = map_optional(source->initrd_fd, source->initrd_name, &image, err);
	if (rc < 0)
		return rc;
	first = (modules.size + ARCHIVE_ALIGN - 1) & ~(size_t)(ARCHIVE_ALIGN - 1);
	size = first + image.size;
	if (size == 0)
		return 0;
	at = (end - size) & ~(MEMORY_PAGE_SIZE - 1);
	if (size > end || at < begin)
		return hint(err,
			    refuse(err, -E2BIG,
				   "the initrd %s (%zu MiB) does not fit into the guest's memory",
				   image.size ? source->initrd_name : source->modules_name,
				   size >> 20),
			    "give the machine more memory");
	if (modules.size)
		rc = memory_write(plan->memory, at, modules.data, modules.size);
	if (rc == 0 && image.size)
		rc = memory_write(plan->memory, at + first, image.data, image.size);
	plan->initrd = at;
	plan->initrd_size = size;
	return rc;
}

/* The multiboot header lies in the first 8 KiB, aligned to 4 bytes; its words sum to zero. */
static bool is_multiboot(const struct boot_image *image)
{
	for (size_t at = 0; at + 12 <= image->size && at < 8192; at += 4) {
		uint32_t words[3];

		memcpy(words, image->data + at, sizeof(words));
		if (words[0] == MULTIBOOT_HEADER_MAGIC && words[0] + words[1] + words[2] == 0)
			return true;
	}
	return false;
}

/* What we put below 1 MiB must not lie where the kernel does: test kernels like to begin at 16 KiB. */
static int place_low(struct boot_plan *plan, const struct boot_elf *elf, const char *name,
		     struct error *err)
{
	static const gpa_t places[] = {0, BOOT_LOW_OTHER};

	for (unsigned int i = 0; i < array_size(places); i++) {
		if (elf->start >= places[i] + BOOT_LOW_USED || elf->end <= places[i] + BOOT_GDT) {
			plan->low = places[i];
			return 0;
		}
	}
	return refuse(err, -E2BIG, "%s leaves no room below 640 KiB for what it must be told",
		      name);
}

static int load_elf(struct boot_plan *plan, const struct boot_image *image, struct boot_entry *ret,
		    struct error *err)
{
	struct boot_elf elf = {0};
	uint32_t pvh_entry = 0;
	int rc = boot_elf_load(plan->memory, image, &elf, err);

	if (rc < 0)
		return rc;
	plan->kernel_end = elf.end;
	rc = place_low(plan, &elf, image->name, err);
	if (rc == 0)
		rc = load_command_line(plan, err);
	if (rc == 0)
		rc = load_initrd(plan, err);
	if (rc < 0)
		return rc;
	/* Multiboot first: Xen has a PVH note, too, for when it runs on another Xen. */
	if (is_multiboot(image)) {
		if (elf.entry > UINT32_MAX)
			return refuse(err, -EINVAL,
				      "%s begins at 0x%llx, which a multiboot kernel cannot",
				      image->name, (unsigned long long)elf.entry);
		*ret = (struct boot_entry){.mode = BOOT_PROTECTED,
					   .rip = elf.entry,
					   .rax = MULTIBOOT_BOOT_MAGIC,
					   .rbx = plan->low + BOOT_START_INFO};
		return boot_start_multiboot(plan, err);
	}
	if (boot_elf_pvh_entry(image, &pvh_entry)) {
		*ret = (struct boot_entry){.mode = BOOT_PROTECTED,
					   .rip = pvh_entry,
					   .rbx = plan->low + BOOT_START_INFO};
		return boot_start_pvh(plan, err);
	}
	if (!elf.wide)
		return refuse(err, -ENOEXEC,
			      "%s is a 32-bit ELF file with neither a PVH note nor a multiboot "
			      "header",
			      image->name);
	*ret = (struct boot_entry){
		.mode = BOOT_LONG, .rip = elf.entry, .rsi = plan->low + BOOT_ZERO_PAGE};
	return boot_start_linux(plan, err);
}

static int load_bzimage(struct boot_plan *plan, const struct boot_image *image,
			struct boot_entry *ret, struct error *err)
{
	uint32_t entry = 0;
	int rc = boot_bzimage_load(plan, image, &entry, err);

	if (rc == 0)
		rc = load_command_line(plan, err);
	if (rc == 0)
		rc = load_initrd(plan, err);
	if (rc < 0)
		return rc;
	*ret = (struct boot_entry){
		.mode = BOOT_PROTECTED, .rip = entry, .rsi = plan->low + BOOT_ZERO_PAGE};
	return boot_start_linux(plan, err);
}

int boot_unpack(const void *data, size_t size, const char *name, uint8_t **ret, size_t *ret_size,
		struct error *err)
{
	const struct boot_image image = {.data = data, .size = size, .name = name};
	int rc = boot_bzimage_unpack(&image, ret, ret_size, err);

	if (rc == -ENOEXEC)
		return hint(err, refuse(err, rc, "%s is not a kernel", name),
			    "a bzImage, a vmlinux or another ELF file is needed");
	return rc;
}

int boot_load(const struct memory *memory, const struct boot_source *source, struct boot_entry *ret,
	      struct error *err)
{
	struct boot_plan plan = {
		.memory = memory, .source = source, .initrd_max = memory->low_size - 1};
	own_mapping struct boot_image file = {0};
	own_mem uint8_t *unpacked = NULL;
	struct boot_image kernel;
	bool by_itself = false;
	int rc = map_file(source->kernel_fd, source->kernel_name, &file, err);

	if (rc < 0)
		return rc;
	kernel = file;
	if (!boot_is_elf(&file)) {
		rc = boot_unpack(file.data, file.size, file.name, &unpacked, &kernel.size, err);
		by_itself = rc == -ENOTSUP;
		if (rc < 0 && !by_itself)
			return rc;
		kernel.data = unpacked;
	}
	plan_memory_map(&plan);
	rc = by_itself ? load_bzimage(&plan, &file, ret, err) : load_elf(&plan, &kernel, ret, err);
	ret->low = plan.low;
	return rc < 0 ? rc : write_gdt(&plan, ret->mode);
}

static void set_flat(struct cpu_segment *segment, uint16_t selector, uint32_t type)
{
	*segment = (struct cpu_segment){.limit = UINT32_MAX,
					.selector = selector,
					.access = type | CPU_ACCESS_S | CPU_ACCESS_P |
						  CPU_ACCESS_G | CPU_ACCESS_DB};
}

enum { TYPE_CODE = 0xb, TYPE_DATA = 0x3, TYPE_BUSY_TSS = 0xb };

static void set_segments(const struct boot_entry *entry, struct cpu_state *state)
{
	/* The selectors that Linux's protocol asks for; the others do not care. */
	for (unsigned int i = 0; i < CPU_SEGMENTS; i++)
		set_flat(&state->segments[i], 0x18, TYPE_DATA);
	set_flat(&state->segments[CPU_CS], 0x10, TYPE_CODE);
	if (entry->mode == BOOT_LONG)
		state->segments[CPU_CS].access ^= CPU_ACCESS_DB | CPU_ACCESS_L;
	state->tr = (struct cpu_segment){.limit = 0x67, .access = TYPE_BUSY_TSS | CPU_ACCESS_P};
	state->ldt = (struct cpu_segment){.access = CPU_ACCESS_UNUSABLE};
	state->gdt = (struct cpu_table){.base = entry->low + BOOT_GDT, .limit = 31};
	/* The table of real mode is where it always is: who goes back there need not load it. */
	state->idt = (struct cpu_table){.limit = 0x3ff};
}

/* As after power on, but that the CPU sees its first instruction below 1 MiB, not below 4 GiB. */
static void apply_real(struct cpu_state *state)
{
	state->segments[CPU_CS].selector = 0xf000;
	state->segments[CPU_CS].base = 0xf0000;
	state->rip = 0xfff0;
}

void boot_apply(const struct boot_entry *entry, struct cpu_state *state)
{
	enum { CR0_PE = 1, CR0_ET = 1 << 4, CR0_NE = 1 << 5, CR4_PAE = 1 << 5 };
	enum { EFER_LME = 1 << 8, EFER_LMA = 1 << 10 };

	if (entry->mode == BOOT_RESET)
		return;
	if (entry->mode == BOOT_REAL) {
		apply_real(state);
		return;
	}
	memset(state->gpr, 0, sizeof(state->gpr));
	state->gpr[CPU_RAX] = entry->rax;
	state->gpr[CPU_RBX] = entry->rbx;
	state->gpr[CPU_RSI] = entry->rsi;
	state->rip = entry->rip;
	state->rflags = 2;
	state->cr0 = CR0_PE | CR0_ET | CR0_NE;
	state->cr3 = state->cr4 = state->efer = 0;
	set_segments(entry, state);
	if (entry->mode == BOOT_LONG) {
		state->cr0 |= 1u << 31;
		state->cr3 = entry->low + BOOT_PAGE_TABLES;
		state->cr4 = CR4_PAE;
		state->efer = EFER_LME | EFER_LMA;
	}
}
