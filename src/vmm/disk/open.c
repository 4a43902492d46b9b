/* open: disk images by name, with what they are based on. See disk.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "vmm/disk/qcow2_priv.h"

enum {
	CHAIN_MAX = 16,
	LOCK_PAUSE_MS = 10,
	LOCK_ATTEMPTS = 100,
	LOCK_ENDING_ATTEMPTS = 30000, /* besides, while who has it ends: five minutes */
};

static const char *const format_names[] = {
	[DISK_FORMAT_AUTO] = "auto",
	[DISK_FORMAT_RAW] = "raw",
	[DISK_FORMAT_QCOW2] = "qcow2",
};

const char *disk_format_name(enum disk_format format)
{
	return format_names[format];
}

int disk_format_parse(const char *name, enum disk_format *ret)
{
	for (enum disk_format f = DISK_FORMAT_RAW; f <= DISK_FORMAT_QCOW2; f++)
		if (str_eq(name, format_names[f])) {
			*ret = f;
			return 0;
		}
	return -EINVAL;
}

/* One image of a chain, while it is opened. */
struct link {
	const char *path;
	int fd;
	enum disk_format format;
	unsigned int flags;
	const struct link *above; /* whose backing file it is; NULL: the disk itself */
};

static int open_chain(struct link *link, struct disk **ret, struct error *err);

int qcow2_sniff(int fd, enum disk_format *ret, struct error *err)
{
	uint32_t magic = 0;
	ssize_t n = fd_read_full_at(fd, &magic, sizeof(magic), 0);

	if (n < 0)
		return fail(err, (int)n, "read it");
	*ret = n == sizeof(magic) && be32toh(magic) == QCOW2_MAGIC ? DISK_FORMAT_QCOW2
								   : DISK_FORMAT_RAW;
	return 0;
}

static int open_raw(struct link *link, bool guarded, struct disk **ret, struct error *err)
{
	int rc = disk_open_raw(link->fd, link->flags & DISK_READ_ONLY, ret);

	if (rc < 0)
		return fail(err, rc, "find out its size");
	if (guarded)
		disk_raw_guard(*ret);
	link->fd = -1;
	return 0;
}

static bool may_be_written(const struct qcow2_header *h, struct error *err)
{
	if (h->snapshots > 0)
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "it has %u internal snapshot%s, which writing to it would have to "
				   "keep intact; that is not supported",
				   h->snapshots, h->snapshots == 1 ? "" : "s"),
			    "open it read-only, or make a disk on top of it: berth disk snapshot "
			    "FILE NEW-FILE") == 0;
	if (h->incompatible & QCOW2_CORRUPT)
		return hint(err, refuse(err, -EINVAL, "it is marked as damaged"),
			    "berth disk check --repair FILE") == 0;
	if (h->incompatible & QCOW2_DIRTY)
		return hint(err,
			    refuse(err, -EINVAL,
				   "its reference counts are out of date: whoever wrote to it was "
				   "stopped in between"),
			    "berth disk check --repair FILE") == 0;
	return true;
}

/* The path of a backing file: a relative one begins where the image is. */
static int backing_path(const struct link *link, const char *name, char **ret, struct error *err)
{
	own_mem char *own = realpath(link->path, NULL), *path = NULL, *real = NULL;
	size_t dir_len = own ? (size_t)(strrchr(own, '/') + 1 - own) : 0;

	if (own == NULL)
		return fail(err, -errno, "resolve %s", link->path);
	if (strchr(name, ':') && strchr(name, ':') < name + strcspn(name, "/"))
		return refuse(
			err, -ENOTSUP,
			"its backing file \"%s\" is not a file's path; only those are supported",
			name);
	path = name[0] == '/' ? str_copy(name) : str_format("%.*s%s", (int)dir_len, own, name);
	real = realpath(path, NULL);
	if (real == NULL)
		return fail(err, -errno, "find its backing file %s", path);
	if (!(link->flags & DISK_BACKING_ANYWHERE) && strncmp(real, own, dir_len) != 0)
		return hint(err,
			    refuse(err, -EPERM,
				   "its backing file %s is outside of the image's directory", real),
			    "if that is meant to be so, add backing=any to the disk's options");
	*ret = take(real);
	return 0;
}

/* A chain that is a ring has no end. */
static int check_chain(const struct link *link, struct error *err)
{
	struct stat st, other;
	unsigned int depth = 0;

	if (fstat(link->fd, &st) < 0)
		return fail(err, -errno, "look at it");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return refuse(err, -EINVAL, "it is neither a file nor a block device");
	for (const struct link *l = link->above; l; l = l->above) {
		if (++depth >= CHAIN_MAX)
			return refuse(err, -ELOOP, "more than %d files are based on each other",
				      CHAIN_MAX);
		if (fstat(l->fd, &other) == 0 && other.st_dev == st.st_dev &&
		    other.st_ino == st.st_ino)
			return refuse(err, -ELOOP, "it is based on itself");
	}
	return 0;
}

static int open_backing(const struct link *link, const struct qcow2_header *h, struct disk **ret,
			struct error *err)
{
	own_mem char *path = NULL;
	struct link backing = {.fd = -1, .above = link};
	int rc;

	*ret = NULL;
	if (h->backing[0] == '\0')
		return 0;
	if (h->backing_format[0] && disk_format_parse(h->backing_format, &backing.format) < 0)
		return refuse(err, -ENOTSUP,
			      "its backing file has the format \"%s\"; raw and "
			      "qcow2 are supported",
			      h->backing_format);
	rc = backing_path(link, h->backing, &path, err);
	if (rc < 0)
		return rc;
	backing.path = path;
	backing.flags = link->flags | DISK_READ_ONLY;
	rc = open_chain(&backing, ret, err);
	fd_close(&backing.fd);
	return rc < 0 ? fail(err, rc, "its backing file %s", path) : 0;
}

static int open_qcow2(struct link *link, struct disk **ret, struct error *err)
{
	bool read_only = link->flags & DISK_READ_ONLY;
	own_mem struct qcow2_header *header = mem_new(sizeof(*header));
	own_disk struct disk *backing = NULL;
	struct qcow2 *q = NULL;
	int rc = qcow2_header_read(link->fd, header, err);

	if (rc == 0 && !read_only && !may_be_written(header, err))
		rc = -EINVAL;
	if (rc == 0)
		rc = open_backing(link, header, &backing, err);
	if (rc == 0)
		rc = qcow2_open(link->fd, read_only, header, &q, err);
	if (rc < 0)
		return rc;
	link->fd = -1;
	q->backing = take(backing);
	*ret = &q->disk;
	return 0;
}

/* The process that has a lock on the file, as the kernel's list says; 0: it does not say. */
static int find_holder(int fd)
{
	own_mem char *text = NULL, *id = NULL;
	const char *at;
	struct stat st;
	size_t len;
	int pid = 0;

	if (fstat(fd, &st) < 0 ||
	    file_read(AT_FDCWD, "/proc/locks", 4 << 20, &text, &len, NULL) < 0)
		return 0;
	id = str_format(" %02x:%02x:%llu ", major(st.st_dev), minor(st.st_dev),
			(unsigned long long)st.st_ino);
	for (at = strstr(text, id); at != NULL && at > text && at[-1] != ' '; at--)
		;
	return at != NULL && sscanf(at, "%d", &pid) == 1 ? pid : 0;
}

static int refuse_lock(const struct link *link, struct error *err)
{
	bool read_only = link->flags & DISK_READ_ONLY;
	int pid = find_holder(link->fd);
	own_mem char *who = pid > 0 ? str_format("the process %d", pid) : str_copy("somebody else");

	return hint(err,
		    refuse(err, -EBUSY, "%s is %s it", who, read_only ? "writing to" : "using"),
		    "two machines that share a disk would destroy it");
}

/* A machine that was killed has its lock for as long as the kernel takes to end it: that does not count. */
static int lock_image(const struct link *link, struct error *err)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
	const bool read_only = link->flags & DISK_READ_ONLY;
	int ending = 0;

	for (int i = 0; i - ending < LOCK_ATTEMPTS; i++) {
		if (flock(link->fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return fail(err, -errno, "lock it");
		if (ending < LOCK_ENDING_ATTEMPTS && proc_is_ending(find_holder(link->fd)))
			ending++;
		nanosleep(&pause, NULL);
	}
	return refuse_lock(link, err);
}

static int open_chain(struct link *link, struct disk **ret, struct error *err)
{
	bool read_only = link->flags & DISK_READ_ONLY, guess = link->format == DISK_FORMAT_AUTO;
	int rc;

	link->fd = open(link->path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (link->fd < 0)
		return fail(err, -errno, "open it");
	rc = check_chain(link, err);
	if (rc == 0)
		rc = lock_image(link, err);
	if (rc == 0 && guess)
		rc = qcow2_sniff(link->fd, &link->format, err);
	if (rc < 0)
		return rc;
	return link->format == DISK_FORMAT_QCOW2 ? open_qcow2(link, ret, err)
						 : open_raw(link, guess && !read_only, ret, err);
}

int disk_open(const char *path, enum disk_format format, unsigned int flags, struct disk **ret,
	      struct error *err)
{
	struct link link = {.path = path, .fd = -1, .format = format, .flags = flags};
	int rc = open_chain(&link, ret, err);

	fd_close(&link.fd);
	return rc < 0 ? fail(err, rc, "the disk %s", path) : 0;
}
