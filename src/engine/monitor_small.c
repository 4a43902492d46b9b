/*
 * monitor_small: giving memory back.
 *
 * What is mapped from files and not changed (program text, constants) can be dropped at any time: the
 * kernel maps it again when it is touched. After a start that is nearly all of it, because reading a
 * page maps the pages around it too; an idle monitor needs a few pages of its loop.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/own.h"
#include "engine/monitor_priv.h"

enum { MAPS_MAX = 64 << 10 };

/* "start-end perms ...": drops it if it is a read-only file mapping. */
static void drop_line(const char *line)
{
	unsigned long start, end, inode;
	char perms[5];

	if (sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu", &start, &end, perms, &inode) != 4)
		return;
	/* Not what was once writable and relocated (it shows as r--p too): only a mapping without
	 * private pages may go, and which those are mincore cannot say. Text never is. */
	if (inode != 0 && perms[1] == '-' && perms[2] == 'x')
		madvise((void *)(uintptr_t)start, end - start, MADV_DONTNEED);
}

void monitor_drop_pages(void)
{
	own_fd int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	own_mem char *text = NULL;
	size_t len;

	if (fd < 0 || fd_read_all(fd, MAPS_MAX, &text, &len) < 0)
		return;
	for (char *line = text, *end; *line != '\0'; line = end) {
		end = strchrnul(line, '\n');
		if (*end != '\0')
			*end++ = '\0';
		drop_line(line);
	}
}
