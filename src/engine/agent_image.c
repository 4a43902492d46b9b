/* agent_image: see agent_image.h. The program is a part of ours (agent_image_data.S). */
#include "engine/agent_image.h"

#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/file.h"
#include "base/hex.h"
#include "base/str.h"

extern const char agent_image_start[];
extern const uint64_t agent_image_size;

/* An entry of a cpio archive of the form "newc": a head of hexadecimal numbers, the name, the content,
 * each padded to a multiple of four bytes. */
static void add_entry(struct buf *b, const char *name, unsigned int mode, const char *data,
		      size_t size)
{
	static const char zeroes[4] = "";

	buf_format(b, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", 0, mode, 0, 0,
		   1, 0, size, 0, 0, 0, 0, strlen(name) + 1, 0);
	buf_add(b, name, strlen(name) + 1);
	buf_add(b, zeroes, -b->len & 3);
	buf_add(b, data, size);
	buf_add(b, zeroes, -b->len & 3);
}

int agent_image_write(int dirfd, const char *path, struct error *err)
{
	own_buf struct buf archive = {0};

	buf_reserve(&archive, agent_image_size + 4096);
	add_entry(&archive, "dev", 0040755, "", 0);
	add_entry(&archive, "init", 0100755, agent_image_start, agent_image_size);
	add_entry(&archive, "TRAILER!!!", 0, "", 0);
	return file_write(dirfd, path, archive.data, archive.len, 0600, FILE_WRITE_PLAIN, err);
}

/* The linker's name for what it has linked. */
static const Elf64_Nhdr *find_build_id(void)
{
	const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
	const size_t count = getauxval(AT_PHNUM);
	uintptr_t base = 0;

	for (size_t i = 0; i < count; i++)
		if (headers[i].p_type == PT_PHDR)
			base = (uintptr_t)headers - headers[i].p_vaddr;
	for (size_t i = 0; i < count; i++) {
		uintptr_t at = base + headers[i].p_vaddr, end = at + headers[i].p_memsz;

		while (headers[i].p_type == PT_NOTE && at + sizeof(Elf64_Nhdr) <= end) {
			const Elf64_Nhdr *note = (const Elf64_Nhdr *)at;

			if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
			    memcmp(note + 1, "GNU", 4) == 0)
				return note;
			at += sizeof(*note) + ((note->n_namesz + 3) & ~3U) +
			      ((note->n_descsz + 3) & ~3U);
		}
	}
	return NULL;
}

char *agent_image_identity(void)
{
	const Elf64_Nhdr *note = find_build_id();
	char text[2 * 64 + 1] = "";

	if (note == NULL || note->n_descsz > 64)
		return str_format("%s %llu", BERTH_VERSION, (unsigned long long)agent_image_size);
	hex_format((const char *)(note + 1) + 4, note->n_descsz, text);
	return str_copy(text);
}
