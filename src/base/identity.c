/* identity: see identity.h. */
#include "base/identity.h"

#include <elf.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/hex.h"
#include "base/str.h"

enum { ID_BYTES_MAX = 64 };

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

char *program_build_id(void)
{
	const Elf64_Nhdr *note = find_build_id();
	char text[2 * ID_BYTES_MAX + 1] = "";

	if (note == NULL || note->n_descsz > ID_BYTES_MAX)
		return NULL;
	hex_format((const char *)(note + 1) + 4, note->n_descsz, text);
	return str_copy(text);
}
