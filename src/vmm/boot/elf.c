/* elf: loading of 32-bit and 64-bit ELF executables into guest memory. */
#include "vmm/boot/boot_priv.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

enum { NOTE_PVH_ENTRY = 18, SEGMENTS_MAX = 128 };

/* A program header, whichever class it came from. */
struct segment {
	uint32_t type;
	uint64_t offset, file_size, memory_size, address;
};

struct headers {
	bool wide;
	uint64_t entry, offset;
	unsigned int count, entry_size;
};

bool boot_is_elf(const struct boot_image *image)
{
	return image->size >= sizeof(Elf32_Ehdr) && memcmp(image->data, ELFMAG, SELFMAG) == 0;
}

static int read_headers(const struct boot_image *image, struct headers *ret)
{
	Elf64_Ehdr wide;
	Elf32_Ehdr narrow;

	if (!boot_is_elf(image))
		return -ENOEXEC;
	if (image->data[EI_CLASS] == ELFCLASS64 && image->size >= sizeof(wide)) {
		memcpy(&wide, image->data, sizeof(wide));
		if (wide.e_machine != EM_X86_64 || wide.e_phentsize != sizeof(Elf64_Phdr))
			return -ENOEXEC;
		*ret = (struct headers){.wide = true,
					.entry = wide.e_entry,
					.offset = wide.e_phoff,
					.count = wide.e_phnum,
					.entry_size = sizeof(Elf64_Phdr)};
	} else {
		memcpy(&narrow, image->data, sizeof(narrow));
		if (narrow.e_ident[EI_CLASS] != ELFCLASS32 || narrow.e_machine != EM_386 ||
		    narrow.e_phentsize != sizeof(Elf32_Phdr))
			return -ENOEXEC;
		*ret = (struct headers){.entry = narrow.e_entry,
					.offset = narrow.e_phoff,
					.count = narrow.e_phnum,
					.entry_size = sizeof(Elf32_Phdr)};
	}
	if (ret->count > SEGMENTS_MAX || ret->offset > image->size ||
	    (uint64_t)ret->count * ret->entry_size > image->size - ret->offset)
		return -ENOEXEC;
	return 0;
}

/* Segment `i`; false if its bytes are not in the file. */
static bool read_segment(const struct boot_image *image, const struct headers *headers,
			 unsigned int i, struct segment *ret)
{
	const uint8_t *from = image->data + headers->offset + (size_t)i * headers->entry_size;

	if (headers->wide) {
		Elf64_Phdr p;

		memcpy(&p, from, sizeof(p));
		*ret = (struct segment){p.p_type, p.p_offset, p.p_filesz, p.p_memsz, p.p_paddr};
	} else {
		Elf32_Phdr p;

		memcpy(&p, from, sizeof(p));
		*ret = (struct segment){p.p_type, p.p_offset, p.p_filesz, p.p_memsz, p.p_paddr};
	}
	return ret->offset <= image->size && ret->file_size <= image->size - ret->offset;
}

int boot_elf_load(const struct memory *memory, const struct boot_image *image, struct boot_elf *ret,
		  struct error *err)
{
	struct headers headers;
	struct segment s;

	if (read_headers(image, &headers) < 0)
		return refuse(err, -ENOEXEC, "%s is not an x86 ELF executable", image->name);
	*ret = (struct boot_elf){.wide = headers.wide, .entry = headers.entry, .start = UINT64_MAX};
	for (unsigned int i = 0; i < headers.count; i++) {
		uint8_t *to;

		if (!read_segment(image, &headers, i, &s))
			return refuse(err, -EINVAL, "%s is cut short", image->name);
		if (s.type != PT_LOAD || s.memory_size == 0)
			continue;
		to = memory_at(memory, s.address, s.memory_size);
		if (s.file_size > s.memory_size || !to ||
		    s.address + s.memory_size > MEMORY_LOW_MAX)
			return refuse(err, -E2BIG,
				      "%s needs memory at 0x%llx, which the guest does not have",
				      image->name, (unsigned long long)(s.address + s.memory_size));
		memcpy(to, image->data + s.offset, s.file_size);
		memset(to + s.file_size, 0, s.memory_size - s.file_size);
		if (s.address < ret->start)
			ret->start = s.address;
		if (s.address + s.memory_size > ret->end)
			ret->end = s.address + s.memory_size;
	}
	if (ret->end == 0)
		return refuse(err, -EINVAL, "%s has nothing to load", image->name);
	return 0;
}

/* Looks through one PT_NOTE segment. Names and descriptions are padded to 4 bytes. */
static int find_pvh_note(const uint8_t *notes, size_t size, uint32_t *ret_entry)
{
	size_t at = 0;

	while (size - at >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		size_t name, description;

		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);
		name = ((size_t)note.n_namesz + 3) & ~(size_t)3;
		description = ((size_t)note.n_descsz + 3) & ~(size_t)3;
		if (name > size - at || description > size - at - name)
			return 0;
		if (note.n_type == NOTE_PVH_ENTRY && note.n_namesz == 4 &&
		    memcmp(notes + at, "Xen", 4) == 0 && note.n_descsz >= sizeof(*ret_entry)) {
			memcpy(ret_entry, notes + at + name, sizeof(*ret_entry));
			return 1;
		}
		at += name + description;
	}
	return 0;
}

int boot_elf_pvh_entry(const struct boot_image *image, uint32_t *ret_entry)
{
	struct headers headers;
	struct segment s;

	if (read_headers(image, &headers) < 0)
		return 0;
	for (unsigned int i = 0; i < headers.count; i++)
		if (read_segment(image, &headers, i, &s) && s.type == PT_NOTE &&
		    find_pvh_note(image->data + s.offset, s.file_size, ret_entry))
			return 1;
	return 0;
}
