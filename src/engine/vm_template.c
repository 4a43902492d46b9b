/* vm_template: see vm_template.h. */
#include "engine/vm_template.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "engine/agent_image.h"
#include "engine/vm_attend.h"
#include "engine/vm_train.h"
#include "vmm/machine/client.h"
#include "vmm/machine/snapshot.h"

enum {
	KEY_DIGITS = 16,
	PLACEHOLDER_BYTES = 1 << 20,
	CONTROL_MS = 120000,
	ABOUT_MAX = 4096,
	REMOVE_ATTEMPTS = 50,
};
#define PLACEHOLDER ".placeholder"
#define EMPTY ".empty"
#define DISK "disk" /* in the builder's directory, which is the machine's working directory */
#define UNFINISHED ".new-"

/* --- keys -------------------------------------------------------------------------------------------- */

/* A file that was replaced is another one, and its times are, too. */
static void add_file(struct buf *b, const char *path)
{
	struct stat st = {0};

	if (path == NULL || stat(path, &st) < 0) {
		buf_add_str(b, "none\n");
		return;
	}
	buf_format(b, "%llu %llu %lld.%09ld\n", (unsigned long long)st.st_ino,
		   (unsigned long long)st.st_size, (long long)st.st_mtim.tv_sec,
		   st.st_mtim.tv_nsec);
}

static void make_key(const struct vm_shape *shape, char out[static KEY_DIGITS + 1])
{
	own_mem char *program = agent_image_identity();
	own_buf struct buf b = {0};
	struct snapshot_host host;
	struct digest digest;

	snapshot_host_read(&host);
	buf_format(&b, "%s\n%s %llx\n%u %lld %s %u\n" VM_COMMAND_LINE "\n", program, host.boot,
		   (unsigned long long)host.cpu, shape->cpus, (long long)shape->memory_bytes,
		   shape->accel, shape->shares);
	add_file(&b, shape->kernel->vmlinux);
	add_file(&b, shape->kernel->initramfs);
	digest = digest_of(b.data, b.len);
	snprintf(out, KEY_DIGITS + 1, "%.*s", KEY_DIGITS, digest_hex(&digest));
}

static bool is_key(const char *name)
{
	return strlen(name) == KEY_DIGITS && strspn(name, "0123456789abcdef") == KEY_DIGITS;
}

static int open_templates(struct engine *engine, struct error *err)
{
	return dir_open(engine->root_fd, "templates", 0700, err);
}

int vm_template_make_disk(int dirfd, const char *path, struct error *err)
{
	own_fd int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 || ftruncate(fd, PLACEHOLDER_BYTES) < 0
		       ? fail(err, -errno, "create a placeholder for disks")
		       : 0;
}

int vm_template_placeholder(struct engine *engine, char **ret, struct error *err)
{
	own_fd int dir = open_templates(engine, err);
	int rc = dir < 0 ? dir : vm_template_make_disk(dir, PLACEHOLDER, err);

	if (rc < 0)
		return rc;
	*ret = str_format("%s/templates/" PLACEHOLDER, engine->root);
	return 0;
}

int vm_template_empty(struct engine *engine, char **ret, struct error *err)
{
	own_fd int dir = open_templates(engine, err);
	int rc = dir < 0 ? dir : dir_make(dir, EMPTY, 0755, err);

	if (rc == 0)
		*ret = str_format("%s/templates/" EMPTY, engine->root);
	return rc;
}

unsigned int vm_template_shares(unsigned int count)
{
	static const unsigned int numbers[] = {0, 4, 12, VM_SHARES_MAX};
	size_t i = 0;

	while (i + 1 < array_size(numbers) && numbers[i] < count)
		i++;
	return numbers[i];
}

/* --- building ---------------------------------------------------------------------------------------- */

static void add(json_t *command, const char *option, const char *value)
{
	json_array_append_new(command, json_string(option));
	if (value != NULL)
		json_array_append_new(command, json_from_string(value));
}

static json_t *make_command(const struct vm_shape *shape, const char *placeholder,
			    const char *empty)
{
	own_mem char *memory = str_format("%lld", (long long)shape->memory_bytes);
	own_mem char *cpus = str_format("%u", shape->cpus);
	json_t *command = json_array();

	add(command, "vmm", "run");
	add(command, "--kernel", shape->kernel->vmlinux);
	if (shape->kernel->initramfs)
		add(command, "--modules", shape->kernel->initramfs);
	add(command, "--initrd", "initrd");
	add(command, "--append", VM_COMMAND_LINE);
	add(command, "--memory", memory);
	add(command, "--cpus", cpus);
	add(command, "--accel", shape->accel);
	add(command, "--no-reset", NULL);
	add(command, "--vsock", "vsock,cid=3");
	add(command, "--control", "control");
	add(command, "--layer", placeholder);
	add(command, "--disk", DISK);
	for (unsigned int i = 0; i < shape->shares; i++) {
		own_mem char *share = str_format("%s,tag=share%u", empty, i);

		add(command, "--share", share);
	}
	return command;
}

static int save(const char *dir, struct error *err)
{
	own_mem char *control = str_format("%s/control", dir);
	own_mem char *snapshot = str_format("%s/snapshot", dir);
	own_fd int fd = control_connect(control, CONTROL_MS, err);

	return fd < 0 ? fd : control_snapshot(fd, snapshot, "stop", false, err);
}

/* Boots a machine in the directory <templates>/<name> until its agent answers, and saves it there. */
static int boot_and_save(int templates, const char *name, const char *dir, json_t *plan,
			 struct error *err)
{
	struct attendant *a = attendant_new(name);
	int rc;

	a->state_fd = templates;
	rc = attendant_spawn(a, plan, err);
	if (rc == 0)
		rc = attendant_await_agent(a, err);
	if (rc == 0)
		rc = vm_train_warm(a, err);
	/* It must not be connected when it is saved. */
	fd_close(&a->control_fd);
	if (rc == 0)
		rc = save(dir, err);
	attendant_end_machine(a);
	attendant_free(a);
	return rc;
}

static json_t *about(const struct vm_shape *shape)
{
	json_t *o = json_object();

	json_set_string(o, "kernel", shape->kernel->name);
	json_set_string(o, "accel", shape->accel);
	json_object_set_new(o, "cpus", json_integer(shape->cpus));
	json_object_set_new(o, "memory", json_integer(shape->memory_bytes));
	json_object_set_new(o, "shares", json_integer(shape->shares));
	json_object_set_new(o, "created_ns", json_integer(clock_now_ns()));
	return o;
}

/* Those that were made for the same from something that has changed. */
static int remove_stale(int templates, const json_t *now, const char *key, struct error *err)
{
	static const char *const same[] = {"kernel", "accel", "cpus", "memory", "shares"};
	int fd = openat(templates, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int rc = 0;

	while (rc == 0 && dir != NULL && (entry = readdir(dir)) != NULL) {
		own_mem char *path = str_format("%s/about.json", entry->d_name);
		own_json json_t *old = NULL;
		bool equal = true;

		if (!is_key(entry->d_name) || str_eq(entry->d_name, key) ||
		    json_read_file(templates, path, ABOUT_MAX, &old, NULL) < 0)
			continue;
		for (size_t i = 0; i < array_size(same); i++)
			equal = equal && json_equal(json_object_get(old, same[i]),
						    json_object_get(now, same[i]));
		if (equal)
			rc = tree_remove(templates, entry->d_name, err);
	}
	return rc;
}

/* Its machine, which dies with its builder but not at once, may still be making files there. */
static int remove_one(int templates, const char *name, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 20 * 1000000L};
	int rc = -ENOTEMPTY;

	for (int i = 0; i < REMOVE_ATTEMPTS && rc < 0; i++) {
		if (i > 0)
			nanosleep(&pause, NULL);
		error_clear(err);
		rc = tree_remove(templates, name, err);
	}
	return rc;
}

/* Directories of builders that were killed; the caller holds the lock that they would hold. */
static int remove_unfinished(int templates, struct error *err)
{
	int fd = openat(templates, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int rc = 0;

	while (rc == 0 && dir != NULL && (entry = readdir(dir)) != NULL)
		if (str_after(entry->d_name, UNFINISHED) != NULL)
			rc = remove_one(templates, entry->d_name, err);
	return rc;
}

static int build(struct engine *engine, const struct vm_shape *shape, int templates,
		 const char *key, struct error *err)
{
	own_mem char *name = str_format(UNFINISHED "%s", key);
	own_mem char *dir = str_format("%s/templates/%s", engine->root, name);
	own_mem char *file = str_format("%s/snapshot/about.json", name);
	own_mem char *snapshot = str_format("%s/snapshot", name);
	own_mem char *disk = str_format("%s/" DISK, name);
	own_mem char *kept = str_format("%s/" VM_DISK_NAME, snapshot);
	own_mem char *placeholder = NULL, *empty = NULL;
	own_json json_t *plan = json_object(), *description = about(shape);
	struct error why = {0};
	int rc = vm_template_placeholder(engine, &placeholder, err);

	if (rc == 0)
		rc = vm_template_empty(engine, &empty, err);
	if (rc == 0 && mkdirat(templates, name, 0700) < 0)
		rc = fail(err, -errno, "create %s", dir);
	if (rc < 0)
		return rc;
	rc = vm_disk_copy(engine, templates, disk, VM_DISK_DEFAULT_BYTES, false, err);
	if (rc < 0)
		return rc;
	json_object_set_new(plan, "command", make_command(shape, placeholder, empty));
	json_object_set_new(plan, "boots", json_true());
	rc = boot_and_save(templates, name, dir, plan, err);
	if (rc == 0 && renameat(templates, disk, templates, kept) < 0)
		rc = fail(err, -errno, "keep the template's disk");
	/* What it would have found out is found out by each machine anew then. */
	if (rc == 0 && vm_train(templates, name, dir, &why) < 0)
		log_debug("train the template: %s", why.text);
	if (rc == 0)
		rc = json_write_file(templates, file, description, 0600, err);
	if (rc == 0 && renameat(templates, snapshot, templates, key) < 0)
		rc = fail(err, -errno, "keep the template");
	if (tree_remove(templates, name, rc < 0 ? NULL : err) < 0 && rc == 0)
		rc = -EIO;
	return rc < 0 ? rc : remove_stale(templates, description, key, err);
}

static void tell_wait(const struct engine *engine, const struct vm_shape *shape,
		      enum engine_wait event, int64_t took_ns)
{
	own_mem char *what =
		str_format("Template of %s, %u CPU%s, %lld MiB", shape->kernel->name, shape->cpus,
			   shape->cpus == 1 ? "" : "s", (long long)shape->memory_bytes >> 20);

	if (engine->on_wait != NULL)
		engine->on_wait(event, what, took_ns);
}

/* One builder at a time: who comes second finds it ready. */
int vm_template_build(struct engine *engine, const struct vm_shape *shape, struct error *err)
{
	own_fd int templates = open_templates(engine, err), lock = -1;
	char key[KEY_DIGITS + 1];
	int rc;

	if (templates < 0)
		return templates;
	lock = file_lock(templates, ".lock", FILE_LOCK_EXCLUSIVE, true);
	if (lock < 0)
		return fail(err, lock, "lock the templates");
	make_key(shape, key);
	if (faccessat(templates, key, F_OK, 0) == 0)
		return 0;
	rc = remove_unfinished(templates, err);
	return rc < 0 ? rc : build(engine, shape, templates, key, err);
}

static int await_build(struct engine *engine, const struct vm_shape *shape, struct error *err)
{
	const int64_t began_ns = clock_monotonic_ns();
	int rc;

	tell_wait(engine, shape, ENGINE_WAIT_BEGIN, 0);
	rc = vm_template_build_apart(engine, shape, err);
	tell_wait(engine, shape, rc < 0 ? ENGINE_WAIT_FAILED : ENGINE_WAIT_END,
		  clock_monotonic_ns() - began_ns);
	return rc;
}

int vm_template_get(struct engine *engine, const struct vm_shape *shape, char **ret_dir,
		    struct error *err)
{
	own_fd int templates = open_templates(engine, err);
	char key[KEY_DIGITS + 1];
	int rc = 0;

	if (templates < 0)
		return templates;
	make_key(shape, key);
	if (faccessat(templates, key, F_OK, 0) < 0)
		rc = await_build(engine, shape, err);
	if (rc < 0)
		return fail(err, rc, "make a template of virtual machines");
	*ret_dir = str_format("%s/templates/%s", engine->root, key);
	return 0;
}

/* --- for users --------------------------------------------------------------------------------------- */

static int64_t size_on_disk(int templates, const char *key)
{
	own_mem char *path = str_format("%s/%s", key, snapshot_names[SNAPSHOT_MEMORY]);
	struct stat st;

	return fstatat(templates, path, &st, 0) < 0 ? 0 : (int64_t)st.st_blocks * 512;
}

static int tell(int templates, const char *key, vm_template_fn *fn, void *data, struct error *err)
{
	own_mem char *path = str_format("%s/about.json", key);
	own_mem char *name = str_copy(key);
	own_json json_t *o = NULL;
	const char *kernel, *accel;
	struct vm_template t = {.key = name};

	/* One that is being removed. */
	if (json_read_file(templates, path, ABOUT_MAX, &o, NULL) < 0)
		return 0;
	kernel = json_string_value(json_object_get(o, "kernel"));
	accel = json_string_value(json_object_get(o, "accel"));
	t.cpus = (unsigned int)json_integer_value(json_object_get(o, "cpus"));
	t.memory_bytes = json_integer_value(json_object_get(o, "memory"));
	t.shares = (unsigned int)json_integer_value(json_object_get(o, "shares"));
	t.created_ns = json_integer_value(json_object_get(o, "created_ns"));
	t.size_bytes = size_on_disk(templates, key);
	t.kernel = str_copy(kernel ? kernel : "");
	t.accel = str_copy(accel ? accel : "");
	{
		int rc = fn(&t, data, err);

		free(t.kernel);
		free(t.accel);
		return rc;
	}
}

int vm_template_list(struct engine *engine, vm_template_fn *fn, void *data, struct error *err)
{
	own_fd int templates = open_templates(engine, err);
	int fd = templates < 0 ? -1 : openat(templates, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int rc = 0;

	if (templates < 0)
		return templates;
	while (rc == 0 && dir != NULL && (entry = readdir(dir)) != NULL)
		if (is_key(entry->d_name))
			rc = tell(templates, entry->d_name, fn, data, err);
	return rc;
}

struct search {
	const char *key;
	char found[KEY_DIGITS + 1];
	unsigned int count;
};

static int match(const struct vm_template *t, void *data, struct error *err)
{
	struct search *s = data;

	(void)err;
	if (str_after(t->key, s->key) == NULL)
		return 0;
	strcpy(s->found, t->key);
	s->count++;
	return 0;
}

int vm_template_remove(struct engine *engine, const char *key, struct error *err)
{
	own_fd int templates = open_templates(engine, err);
	struct search s = {.key = key};
	int rc = templates < 0 ? templates : vm_template_list(engine, match, &s, err);

	if (rc < 0)
		return rc;
	if (s.count == 0 || *key == '\0')
		return hint(err, refuse(err, -ENOENT, "there is no template \"%s\"", key),
			    "berth template ls lists them");
	if (s.count > 1)
		return refuse(err, -ENOTUNIQ, "%u templates begin with \"%s\"", s.count, key);
	return tree_remove(templates, s.found, err);
}
