/* store: the directory of guest kernels; see kernel.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/random.h"
#include "vmm/kernel/kernel_priv.h"

enum { FACTS_SIZE_MAX = 64 << 10 };

void kernel_free(struct kernel *kernel)
{
	if (!kernel)
		return;
	free(kernel->name);
	free(kernel->version);
	free(kernel->source);
	strv_free(kernel->modules);
	free(kernel->vmlinux);
	free(kernel->initramfs);
	free(kernel);
}

void kernel_list_free(struct kernel **kernels)
{
	for (struct kernel **k = kernels; k && *k; k++)
		kernel_free(*k);
	free(kernels);
}

bool kernel_name_valid(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= KERNEL_NAME_MAX && *name != '.' && *name != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		       len;
}

/* Removes what killed commands have left: directories whose lock nobody holds. The store's lock is ours. */
static void remove_leftovers(int dir_fd)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL) {
		own_mem char *lock = str_format("%s/lock", entry->d_name);
		own_fd int lock_fd = -1;

		if (!str_after(entry->d_name, ".work-"))
			continue;
		lock_fd = file_lock(dir_fd, lock, FILE_LOCK_EXCLUSIVE, false);
		if (lock_fd >= 0)
			(void)!tree_remove(dir_fd, entry->d_name, NULL);
	}
}

/* Opens <root>/kernels and takes the lock. */
static int lock_store(const char *root, int *ret_dir_fd, int *ret_lock_fd, struct error *err)
{
	own_mem char *path = str_format("%s/kernels", root);
	own_fd int dir_fd = dir_open(AT_FDCWD, path, 0700, err);
	int lock_fd;

	if (dir_fd < 0)
		return dir_fd;
	lock_fd = file_lock(dir_fd, ".lock", FILE_LOCK_EXCLUSIVE, true);
	if (lock_fd < 0)
		return fail(err, lock_fd, "lock %s", path);
	remove_leftovers(dir_fd);
	*ret_dir_fd = take(dir_fd);
	*ret_lock_fd = lock_fd;
	return 0;
}

int kernel_work_begin(const char *root, struct kernel_work *work, struct error *err)
{
	own_fd int store_fd = -1; /* not for long: a build takes minutes */
	own_mem char *lock = NULL;
	char digits[17];
	int rc = lock_store(root, &work->dir_fd, &store_fd, err);

	if (rc < 0)
		return rc;
	random_hex(digits, 8);
	snprintf(work->name, sizeof(work->name), ".work-%s", digits);
	work->path = str_format("%s/kernels/%s", root, work->name);
	if (mkdirat(work->dir_fd, work->name, 0700) < 0)
		return fail(err, -errno, "create %s", work->path);
	lock = str_format("%s/lock", work->name);
	work->lock_fd = file_lock(work->dir_fd, lock, FILE_LOCK_EXCLUSIVE, false);
	return work->lock_fd < 0 ? fail(err, work->lock_fd, "lock %s", work->path) : 0;
}

void kernel_work_end(struct kernel_work *work)
{
	int saved = errno;

	if (work->path)
		(void)!tree_remove(work->dir_fd, work->name, NULL);
	free(work->path);
	fd_close(&work->lock_fd);
	fd_close(&work->dir_fd);
	errno = saved;
}

int kernel_check_name(const struct kernel_work *work, const char *name, bool replace,
		      struct error *err)
{
	if (!kernel_name_valid(name))
		return hint(err, refuse(err, -EINVAL, "\"%.80s\" cannot be a kernel's name", name),
			    "letters, digits, '.', '_' and '-'");
	if (!replace && faccessat(work->dir_fd, name, F_OK, 0) == 0)
		return hint(
			err, refuse(err, -EEXIST, "there is a kernel \"%s\" already", name),
			"--replace puts the new one in its place, --name gives it another name");
	return 0;
}

static int read_facts(const char *path, struct kernel *k, struct error *err)
{
	own_json json_t *facts = NULL;
	const char *version = "unknown", *source = "";
	struct json_at root;
	int rc = json_read_file(AT_FDCWD, path, FACTS_SIZE_MAX, &facts, err);

	if (rc < 0)
		return rc;
	root = json_root(facts);
	rc = json_get_string(&root, "version", JSON_REQUIRED, &version, err);
	if (rc >= 0)
		rc = json_get_string(&root, "source", JSON_REQUIRED, &source, err);
	if (rc >= 0)
		rc = json_get_int(&root, "created_ns", JSON_REQUIRED, 0, INT64_MAX, &k->created_ns,
				  err);
	if (rc >= 0)
		rc = json_get_strv(&root, "modules", JSON_OPTIONAL, &k->modules, err);
	if (rc < 0)
		return fail(err, rc, "read %s", path);
	k->version = str_copy(version);
	k->source = str_copy(source);
	return 0;
}

/* Reads the kernel of that name. -ENOENT without words if there is no such directory. */
static int load(const char *root, const char *name, struct kernel **ret, struct error *err)
{
	own_mem char *dir = str_format("%s/kernels/%s", root, name),
		     *facts = str_format("%s/kernel.json", dir);
	own_kernel struct kernel *k = mem_new(sizeof(*k));
	struct stat st;
	int rc;

	if (stat(dir, &st) < 0)
		return -errno;
	k->name = str_copy(name);
	k->vmlinux = str_format("%s/vmlinux", dir);
	k->initramfs = str_format("%s/initramfs", dir);
	rc = read_facts(facts, k, err);
	if (rc == 0 && stat(k->vmlinux, &st) < 0)
		rc = fail(err, -errno, "look at %s", k->vmlinux);
	if (rc < 0)
		return rc;
	k->size_bytes = (uint64_t)st.st_size;
	if (stat(k->initramfs, &st) == 0) {
		k->size_bytes += (uint64_t)st.st_size;
	} else {
		free(k->initramfs);
		k->initramfs = NULL;
	}
	*ret = take(k);
	return 0;
}

static int no_such(const char *name, struct error *err)
{
	return hint(err, refuse(err, -ENOENT, "there is no kernel \"%.80s\"", name),
		    "`berth kernel ls` lists them, `berth kernel add debian` fetches one");
}

int kernel_find(const char *root, const char *name, struct kernel **ret, struct error *err)
{
	int rc = kernel_name_valid(name) ? load(root, name, ret, err) : -ENOENT;

	return rc == -ENOENT ? no_such(name, err) : rc;
}

static int by_name(const void *a, const void *b)
{
	const struct kernel *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

int kernel_list(const char *root, struct kernel ***ret, struct error *err)
{
	own_mem char *path = str_format("%s/kernels", root);
	own_kernel_list struct kernel **kernels = mem_new_array(1, sizeof(*kernels));
	own_dir DIR *dir = opendir(path);
	size_t count = 0, capacity = 0;
	struct dirent *entry;

	if (!dir && errno != ENOENT)
		return fail(err, -errno, "read %s", path);
	while (dir && (entry = readdir(dir)) != NULL) {
		struct kernel *k = NULL;
		int rc;

		if (!kernel_name_valid(entry->d_name))
			continue;
		rc = load(root, entry->d_name, &k, err);
		if (rc == -ENOENT && (!err || !err->code)) /* removed meanwhile */
			continue;
		if (rc < 0)
			return rc;
		kernels = mem_grow(kernels, count + 1, &capacity, sizeof(*kernels));
		kernels[count++] = k;
		kernels[count] = NULL;
	}
	if (count)
		qsort(kernels, count, sizeof(*kernels), by_name);
	*ret = take(kernels);
	return 0;
}

int kernel_remove(const char *root, const char *name, struct error *err)
{
	own_fd int dir_fd = -1, lock_fd = -1;
	own_mem char *gone = str_format(".work-rm-%.*s", KERNEL_NAME_MAX, name);
	int rc;

	if (!kernel_name_valid(name))
		return no_such(name, err);
	rc = lock_store(root, &dir_fd, &lock_fd, err);
	if (rc < 0)
		return rc;
	/* First out of sight at once, so that nobody finds half a kernel. */
	if (renameat(dir_fd, name, dir_fd, gone) < 0)
		return errno == ENOENT ? no_such(name, err)
				       : fail(err, -errno, "remove the kernel %s", name);
	return tree_remove(dir_fd, gone, err);
}
