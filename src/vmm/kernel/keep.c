/* keep: turns a kernel's files into what is kept, in a directory of its own, then renames that. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "vmm/boot/boot.h"
#include "vmm/kernel/kernel_priv.h"

enum { KERNEL_FILE_MAX = 512 << 20, INIT_SIZE_MAX = 64 << 20, VERSION_LEN_MAX = 80 };

void kernel_step(const struct kernel_add *add, const char *fmt, ...)
{
	own_mem char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = str_format_va(fmt, ap);
	va_end(ap);
	if (add->step)
		add->step(text, add->step_data);
	else
		log_debug("%s", text);
}

/* The version in the banner that every Linux has among its constants. */
static char *find_version(const char *data, size_t size)
{
	static const char banner[] = "Linux version ";
	const char *at = data;

	while ((at = memmem(at, size - (size_t)(at - data), banner, sizeof(banner) - 1)) != NULL) {
		size_t left = size - (size_t)(at - data) - (sizeof(banner) - 1);
		size_t len = 0;

		at += sizeof(banner) - 1;
		while (len < left && len < VERSION_LEN_MAX && at[len] > ' ' && at[len] < 127)
			len++;
		if (len && at[0] >= '0' && at[0] <= '9')
			return str_copy_n(at, len);
	}
	return str_copy("unknown");
}

static int write_vmlinux(const char *to, const char *file, char **ret_version, struct error *err)
{
	own_mem char *data = NULL;
	own_mem uint8_t *unpacked = NULL;
	size_t size, unpacked_size;
	int rc = file_read(AT_FDCWD, file, KERNEL_FILE_MAX, &data, &size, err);

	if (rc < 0)
		return rc;
	if (size < 4 || memcmp(data, "\177ELF", 4) != 0) {
		rc = boot_unpack(data, size, file, &unpacked, &unpacked_size, err);
		if (rc < 0)
			return rc;
		own_mem_release(&data);
		data = (char *)take(unpacked);
		size = unpacked_size;
	}
	*ret_version = find_version(data, size);
	return file_write(AT_FDCWD, to, data, size, 0644, FILE_WRITE_DURABLE, err);
}

static int add_init(const char *init, struct buf *archive, struct error *err)
{
	own_mem char *program = NULL;
	size_t size;
	int rc = file_read(AT_FDCWD, init, INIT_SIZE_MAX, &program, &size, err);

	if (rc == 0)
		cpio_add(archive, "init", S_IFREG | 0755, program, size);
	return rc;
}

static int write_initramfs(const char *to, const struct kernel_parts *parts, const char *init,
			   char ***names, struct error *err)
{
	own_buf struct buf archive = {0};
	int rc = 0;

	if (parts->modules)
		rc = kernel_modules_add(parts->modules, &archive, names, err);
	if (rc == 0 && init)
		rc = add_init(init, &archive, err);
	if (rc < 0 || archive.len == 0)
		return rc;
	cpio_end(&archive);
	return file_write(AT_FDCWD, to, archive.data, archive.len, 0644, FILE_WRITE_DURABLE, err);
}

static int write_facts(const char *dir, const char *version, const char *source,
		       char *const *modules, struct error *err)
{
	own_mem char *path = str_format("%s/kernel.json", dir);
	own_json json_t *facts = json_object();

	json_object_set_new(facts, "version", json_from_string(version));
	json_object_set_new(facts, "source", json_from_string(source));
	json_object_set_new(facts, "created_ns", json_integer(clock_now_ns()));
	json_object_set_new(facts, "modules", json_from_strv(modules));
	return json_write_file(AT_FDCWD, path, facts, 0644, err);
}

/* Puts the finished directory in its place; an old one of that name goes the other way. */
static int publish(struct kernel_work *work, const char *name, bool replace, struct error *err)
{
	own_mem char *made = str_format("%s/kept", work->name);
	unsigned int flags = replace && faccessat(work->dir_fd, name, F_OK, 0) == 0
				     ? RENAME_EXCHANGE
				     : RENAME_NOREPLACE;

	if (renameat2(work->dir_fd, made, work->dir_fd, name, flags) < 0)
		return fail(err, -errno, "put the kernel %s in its place", name);
	return dir_sync(work->dir_fd);
}

int kernel_keep(struct kernel_work *work, const char *root, const struct kernel_parts *parts,
		const struct kernel_add *add, struct kernel **ret, struct error *err)
{
	own_mem char *dir = str_format("%s/kept", work->path),
		     *vmlinux = str_format("%s/vmlinux", dir),
		     *initramfs = str_format("%s/initramfs", dir), *version = NULL;
	own_strv char **names = NULL;
	int rc;

	if (mkdir(dir, 0755) < 0)
		return fail(err, -errno, "create %s", dir);
	kernel_step(add, "unpacking the kernel");
	rc = write_vmlinux(vmlinux, parts->file, &version, err);
	if (rc == 0)
		rc = write_initramfs(initramfs, parts, add->init, &names, err);
	if (rc == 0)
		rc = write_facts(dir, version, parts->source, names, err);
	if (rc == 0)
		rc = publish(work, parts->name, add->replace, err);
	return rc < 0 ? rc : kernel_find(root, parts->name, ret, err);
}

/* "bzImage-6.1" of "/tmp/bzImage-6.1"; what a name cannot have becomes '-'. */
static char *name_of_file(const char *file)
{
	const char *slash = strrchr(file, '/');
	char *name = str_copy_n(slash ? slash + 1 : file, KERNEL_NAME_MAX);

	for (char *p = name; *p; p++) {
		char one[2] = {*p, 0};

		if (!kernel_name_valid(one) && (p == name || (*p != '.' && *p != '-')))
			*p = p == name ? '_' : '-';
	}
	return name;
}

int kernel_add_file(const char *root, const char *file, const struct kernel_add *add,
		    struct kernel **ret, struct error *err)
{
	own_mem char *name = add->name ? str_copy(add->name) : name_of_file(file);
	const struct kernel_parts parts = {
		.file = file, .modules = add->modules, .source = file, .name = name};
	own_work struct kernel_work work = KERNEL_WORK_NONE;
	int rc = kernel_work_begin(root, &work, err);

	if (rc == 0)
		rc = kernel_check_name(&work, name, add->replace, err);
	return rc < 0 ? rc : kernel_keep(&work, root, &parts, add, ret, err);
}
