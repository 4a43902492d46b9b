/* container: see container.h. */
#include "oci/container.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "oci/config_file.h"

/* Written again by us, a configuration can be a little longer than it was. */
enum { ID_MAX = 255, STATE_FILE_MAX = 2 * CONFIG_FILE_MAX };

#define RECORD_START "{\"record\":"
#define CONFIG_START ",\"config\":"
/* Both numbers are followed by blanks up to the width of the largest ones. */
#define PROCESS_FORMAT "{\"pid\":%-10d,\"startTime\":%-20" PRIu64 ",\"ready\":%-5s"

static int check_id(const char *id, struct error *err)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_+-.";
	const size_t len = strlen(id), good = strspn(id, allowed);

	if (good != len && isprint((unsigned char)id[good]))
		return refuse(
			err, -EINVAL,
			"invalid container id \"%s\": invalid character `%c` in the ID: it has "
			"letters, digits and _+-. only",
			id, id[good]);
	/* A leading dot is kept for the library's own directories. */
	if (len == 0 || len > ID_MAX || id[0] == '.' || good != len)
		return refuse(err, -EINVAL,
			      "invalid container id \"%s\": it has letters, digits and _+-. only, "
			      "does not begin with a dot, and is at most %d long",
			      id, ID_MAX);
	return 0;
}

void container_close(struct container *c)
{
	if (c == NULL)
		return;
	fd_close(&c->state_fd);
	fd_close(&c->dir_fd);
	fd_close(&c->root_fd);
	json_decref(c->record);
	free(c->id);
	free(c);
}

static struct container *new_container(const char *id)
{
	struct container *c = mem_new(sizeof(*c));

	c->id = str_copy(id);
	c->root_fd = c->dir_fd = c->state_fd = -1;
	return c;
}

/* Opens directory or file as it is there. */
static int open_entry(const struct container *c)
{
	/* O_NONBLOCK: a FIFO in its place must not hang us. */
	int fd = openat(c->root_fd, c->id,
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* Takes over the descriptor `fd` of it, locked if asked for. -EAGAIN: it was replaced while we waited. */
static int adopt(struct container *c, int fd, enum container_lock lock)
{
	struct stat held, named;

	if (fd < 0)
		return fd;
	c->dir_fd = fd;
	if (fstat(fd, &held) < 0 || (!S_ISDIR(held.st_mode) && !S_ISREG(held.st_mode)))
		return -ENOTDIR;
	if (S_ISREG(held.st_mode)) {
		c->state_fd = fd;
		c->dir_fd = -1;
	}
	if (lock == CONTAINER_LOOK)
		return 0;
	while (flock(fd, lock == CONTAINER_TRY ? LOCK_EX | LOCK_NB : LOCK_EX) < 0) {
		if (errno == EWOULDBLOCK)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
	if (fstatat(c->root_fd, c->id, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	    held.st_ino == named.st_ino && held.st_dev == named.st_dev) {
		c->locked = true;
		return 0;
	}
	fd_close(&c->dir_fd);
	fd_close(&c->state_fd);
	return -EAGAIN;
}

static int entry_fd(const struct container *c)
{
	return c->dir_fd >= 0 ? c->dir_fd : c->state_fd;
}

void container_unlock(struct container *c)
{
	if (flock(entry_fd(c), LOCK_UN) == 0)
		c->locked = false;
}

/* The question is a change of its times: whoever may do more than look may do that as well. */
void container_ask(const struct container *c)
{
	if (futimens(entry_fd(c), NULL) < 0)
		log_debug("container %s: %s", c->id, strerror(errno));
}

int container_watch(const struct container *c)
{
	own_fd int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd < 0 || inotify_add_watch(fd, fd_path(entry_fd(c)).text, IN_ATTRIB) < 0)
		return -errno;
	return take(fd);
}

bool container_is_there(const struct container *c)
{
	struct stat held, named;

	return fstat(entry_fd(c), &held) == 0 &&
	       fstatat(c->root_fd, c->id, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

/* The text of the state file; empty if a runtime that was killed early left none: R1. */
static int read_state(const struct container *c, char **ret, struct error *err)
{
	size_t len;
	int rc;

	if (c->dir_fd < 0) {
		rc = lseek(c->state_fd, 0, SEEK_SET) < 0
			     ? -errno
			     : fd_read_all(c->state_fd, STATE_FILE_MAX, ret, &len);
		return rc < 0 ? fail(err, rc, "read the state of container %s", c->id) : 0;
	}
	rc = file_read(c->dir_fd, CONTAINER_STATE, STATE_FILE_MAX, ret, &len, err);
	if (rc != -ENOENT)
		return rc;
	error_clear(err);
	*ret = str_copy("");
	return 0;
}

/* A record that is cut short was left by a killed runtime, and counts as none: R1. */
static int read_record(struct container *c)
{
	own_mem char *text = NULL;
	const char *record;
	int rc = read_state(c, &text, NULL);

	if (rc < 0)
		return rc;
	record = str_after(text, RECORD_START);
	c->record = record ? json_loads(record, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
	if (!json_is_object(c->record)) {
		json_decref(c->record);
		c->record = json_pack("{s:b}", "ready", false);
	}
	return 0;
}

static int make_entry(struct container *c, enum container_form form)
{
	int fd;

	if (form == CONTAINER_DIRECTORY)
		return mkdirat(c->root_fd, c->id, 0711) < 0 ? -errno : open_entry(c);
	fd = openat(c->root_fd, c->id, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);
	return fd < 0 ? -errno : fd;
}

int container_create(const char *state_root, const char *id, enum container_form form,
		     struct container **ret, struct error *err)
{
	own_container struct container *c = new_container(id);
	int rc = check_id(id, err);

	if (rc < 0)
		return rc;
	c->root_fd = dir_open(AT_FDCWD, state_root, 0700, err);
	if (c->root_fd < 0)
		return c->root_fd;
	rc = adopt(c, make_entry(c, form), CONTAINER_LOCK);
	if (rc == -EEXIST)
		return hint(err, refuse(err, rc, "container with id %s exists already", id),
			    "choose another id, or delete it first");
	if (rc < 0)
		return fail(err, rc, "create %s/%s", state_root, id);
	c->record = json_object();
	*ret = take(c);
	return 0;
}

bool container_is(int root_fd, const char *name, unsigned char type)
{
	char start[sizeof(RECORD_START) - 1];
	own_fd int fd = -1;
	ssize_t n;

	if (name[0] == '.' || type != DT_REG)
		return name[0] != '.' && type == DT_DIR;
	/* An empty one was left by a killed runtime; another one's file does not begin like ours. */
	fd = openat(root_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
	n = fd < 0 ? -1 : fd_read_full(fd, start, sizeof(start));
	return n == 0 || (n == sizeof(start) && memcmp(start, RECORD_START, sizeof(start)) == 0);
}

int container_open(const char *state_root, const char *id, enum container_lock lock,
		   struct container **ret, struct error *err)
{
	own_container struct container *c = new_container(id);
	int rc = check_id(id, err);

	if (rc < 0)
		return rc;
	c->root_fd = open(state_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = c->root_fd < 0 ? -errno : -EAGAIN;
	while (rc == -EAGAIN)
		rc = adopt(c, open_entry(c), lock);
	if (rc == -ENOENT)
		return refuse(err, rc, "container %s does not exist", id);
	if (rc < 0)
		return fail(err, rc, "open %s/%s", state_root, id);
	rc = read_record(c);
	if (rc < 0)
		return fail(err, rc, "read the state of container %s", id);
	*ret = take(c);
	return 0;
}

int container_save(struct container *c, const json_t *config, const char *config_text,
		   struct error *err)
{
	own_mem char *record = json_text(c->record);
	own_mem char *written = config_text ? NULL : json_text(config);
	own_buf struct buf b = {0};
	int rc;

	/* The record's own brace gives way to the members that come first. */
	buf_format(&b, RECORD_START PROCESS_FORMAT "%s", 0, UINT64_C(0), "false",
		   json_object_size(c->record) > 0 ? "," : "");
	buf_add_str(&b, record + 1);
	buf_add_str(&b, "\n" CONFIG_START);
	buf_add_str(&b, config_text ? config_text : written);
	buf_add_str(&b, "}\n");
	if (c->dir_fd >= 0 && c->state_fd < 0)
		c->state_fd = openat(c->dir_fd, CONTAINER_STATE,
				     O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_TRUNC, 0600);
	rc = c->state_fd < 0 ? -errno : fd_write_full_at(c->state_fd, b.data, b.len, 0);
	/* One that is written again can be shorter. */
	if (rc == 0 && c->saved && ftruncate(c->state_fd, (off_t)b.len) < 0)
		rc = -errno;
	c->saved = true;
	return rc < 0 ? fail(err, rc, "write the state of container %s", c->id) : 0;
}

int container_save_process(struct container *c, pid_t pid, uint64_t start_ticks, bool ready,
			   struct error *err)
{
	own_mem char *text =
		str_format(PROCESS_FORMAT, (int)pid, start_ticks, ready ? "true" : "false");
	int rc = fd_write_full_at(c->state_fd, text, strlen(text), sizeof(RECORD_START) - 1);

	if (rc < 0)
		return fail(err, rc, "write the state of container %s", c->id);
	json_object_set_new(c->record, "pid", json_integer(pid));
	json_object_set_new(c->record, "startTime", json_integer((json_int_t)start_ticks));
	json_object_set_new(c->record, "ready", json_boolean(ready));
	return 0;
}

void container_unmount(const struct container *c)
{
	const char *rootfs = json_string_value(json_object_get(c->record, "rootfs"));

	/* Everything is below one mount of the root directory on itself. */
	if (json_object_get(c->record, "hostMounts") == NULL || str_empty(rootfs))
		return;
	if (umount2(rootfs, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		log_warn("unmount %s: %s", rootfs, strerror(errno));
}

int container_remove(struct container *c, struct error *err)
{
	if (c->dir_fd < 0)
		return unlinkat(c->root_fd, c->id, 0) < 0 && errno != ENOENT
			       ? fail(err, -errno, "remove the state of container %s", c->id)
			       : 0;
	/* The usual content first, without reading the directory. */
	if (unlinkat(c->dir_fd, CONTAINER_STATE, 0) < 0 && errno != ENOENT)
		return fail(err, -errno, "remove %s of container %s", CONTAINER_STATE, c->id);
	if (unlinkat(c->dir_fd, CONTAINER_STATUS, 0) < 0 && errno != ENOENT)
		return fail(err, -errno, "remove %s of container %s", CONTAINER_STATUS, c->id);
	if (unlinkat(c->root_fd, c->id, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	return tree_remove(c->root_fd, c->id, err);
}

pid_t container_pid(const struct container *c)
{
	const pid_t pid = (pid_t)json_integer_value(json_object_get(c->record, "pid"));
	const uint64_t start =
		(uint64_t)json_integer_value(json_object_get(c->record, "startTime"));

	return pid > 0 && proc_is(pid, start) ? pid : 0;
}

static bool is_locked(const struct container *c)
{
	own_fd int fd = open_entry(c);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

const char *oci_status_name(enum oci_status status)
{
	static const char *const names[] = {
		[OCI_CREATING] = "creating", [OCI_CREATED] = "created", [OCI_RUNNING] = "running",
		[OCI_PAUSED] = "paused",     [OCI_STOPPED] = "stopped",
	};

	return names[status];
}

enum oci_status container_status(const struct container *c)
{
	own_cgroup struct cgroup *cg = NULL;

	/* Who holds the lock is creating it; if that is us, its creator is gone. */
	if (json_is_false(json_object_get(c->record, "ready")) && !c->locked && is_locked(c))
		return OCI_CREATING;
	if (container_pid(c) == 0)
		return OCI_STOPPED;
	if (c->dir_fd >= 0 && faccessat(c->dir_fd, CONTAINER_START_SOCKET, F_OK, 0) == 0)
		return OCI_CREATED;
	if (container_cgroup(c, &cg, NULL) == 0 && cgroup_is_frozen(cg))
		return OCI_PAUSED;
	return OCI_RUNNING;
}

int container_cgroup(const struct container *c, struct cgroup **ret, struct error *err)
{
	const json_t *saved = json_object_get(c->record, "cgroup");

	if (saved == NULL)
		return refuse(err, -ENOENT, "container %s has no cgroup", c->id);
	return cgroup_load(saved, ret, err);
}

int container_config_json(const struct container *c, json_t **ret, struct error *err)
{
	own_mem char *text = NULL;
	const char *config;
	int rc = read_state(c, &text, err);

	if (rc < 0)
		return rc;
	config = strstr(text, "\n" CONFIG_START);
	if (config == NULL)
		return refuse(err, -EINVAL, "container %s has no configuration", c->id);
	*ret = json_loads(config + sizeof(CONFIG_START), JSON_DISABLE_EOF_CHECK, NULL);
	return *ret ? 0 : refuse(err, -EINVAL, "the state file of container %s is damaged", c->id);
}

int container_config(const struct container *c, struct config **ret, struct error *err)
{
	own_json json_t *json = NULL;
	int rc = container_config_json(c, &json, err);

	return rc < 0 ? rc : config_parse(json, ret, err);
}
