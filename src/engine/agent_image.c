/* agent_image: see agent_image.h. The program is a part of ours (agent_image_data.S). */
#include "engine/agent_image.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/identity.h"
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

const void *agent_image_program(size_t *ret_size)
{
	*ret_size = agent_image_size;
	return agent_image_start;
}

char *agent_image_identity(void)
{
	char *id = program_build_id();

	return id ? id : str_format("%s %llu", BERTH_VERSION, (unsigned long long)agent_image_size);
}
