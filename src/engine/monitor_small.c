/*
 * monitor_small: giving memory back.
 *
 * What is mapped from files and not changed (program text, constants) can be dropped at any time: the
 * kernel maps it again when it is touched. After a start that is nearly all of what a monitor has,
 * because touching a page maps the 64 KiB around it too. The functions that run between dropping and
 * waiting are marked hot, which makes the linker put them side by side: so they come back as one piece.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"
#include "engine/monitor_priv.h"

enum { SMAPS_MAX = 256 << 10 };

/* A mapping of /proc/self/smaps: "start-end perms offset device inode path", then "Name: value kB". */
struct mapping {
	struct memory_range range;
	bool is_file, is_writable;
};

static bool parse_head(const char *line, struct mapping *ret)
{
	char *end;
	uintptr_t start = strtoul(line, &end, 16);

	if (*end != '-' || end == line)
		return false;
	ret->range.start = start;
	ret->range.end = strtoul(end + 1, &end, 16);
	ret->is_writable = end[0] == ' ' && end[2] == 'w';
	/* Over permissions, offset and device to the inode. */
	for (int i = 0; i < 3 && end != NULL; i++)
		end = strchr(end + 1, ' ');
	ret->is_file = end != NULL && strtoul(end, NULL, 10) != 0;
	return true;
}

/* Finds what may be dropped: file mappings that are not writable and have no page of their own. (Those
 * that were relocated and then protected have.) */
static void find_ranges(struct memory_ranges *ranges)
{
	own_fd int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
	own_mem char *text = NULL;
	struct mapping now = {0};
	size_t len;

	if (fd < 0 || fd_read_all(fd, SMAPS_MAX, &text, &len) < 0)
		return;
	for (char *line = text, *end; *line != '\0'; line = end) {
		const char *anonymous;

		end = strchrnul(line, '\n');
		if (*end != '\0')
			*end++ = '\0';
		anonymous = str_after(line, "Anonymous:");
		if (anonymous == NULL)
			parse_head(line, &now);
		else if (now.is_file && !now.is_writable && strtoul(anonymous, NULL, 10) == 0 &&
			 ranges->count < array_size(ranges->items))
			ranges->items[ranges->count++] = now.range;
	}
}

__attribute__((hot)) void monitor_drop_pages(struct memory_ranges *ranges)
{
	if (ranges->count == 0)
		find_ranges(ranges);
	for (size_t i = 0; i < ranges->count; i++)
		madvise((void *)ranges->items[i].start,
			ranges->items[i].end - ranges->items[i].start, MADV_DONTNEED);
}
