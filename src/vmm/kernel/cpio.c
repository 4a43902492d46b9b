/*
 * cpio: writes the "newc" archives that Linux unpacks as its initramfs
 * (Documentation/driver-api/early-userspace/buffer-format.rst): a header of hexadecimal numbers, the
 * name, the data, each padded to four bytes.
 */
#include <string.h>

#include "vmm/kernel/kernel_priv.h"

static void pad(struct buf *archive)
{
	static const char zeroes[3];

	buf_add(archive, zeroes, -archive->len & 3);
}

static void add_header(struct buf *archive, const char *path, unsigned int mode, size_t len)
{
	/* magic, inode, mode, uid, gid, links, mtime, size, device and special device (two numbers
	 * each), size of the name, checksum */
	buf_format(archive, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", 0, mode,
		   0, 0, 1, 0, len, 0, 0, 0, 0, strlen(path) + 1, 0);
	buf_add(archive, path, strlen(path) + 1);
	pad(archive);
}

void cpio_add(struct buf *archive, const char *path, unsigned int mode, const void *data,
	      size_t len)
{
	add_header(archive, path, mode, len);
	if (len)
		buf_add(archive, data, len);
	pad(archive);
}

void cpio_end(struct buf *archive)
{
	add_header(archive, "TRAILER!!!", 0, 0);
}
