/*
 * setup: what a fresh machine needs before anybody can ask for something, and who it is.
 *
 * The kernel starts us in its initial RAM file system, which cannot be pivoted away from, as every
 * container's root is: so we move into an ordinary memory file system first.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"
#include "guest/agent.h"
#include "guest/protocol.h"

enum { LIST_MAX = 64 << 10, FILE_NAME_LIMIT = 64, FILES_LIMIT = 1 << 20 };

#define MODULE_LIST "/modules/order" /* names in that directory, in the order to load */

/* --- the machine ------------------------------------------------------------------------------------- */

static const struct {
	const char *place, *type, *data;
	unsigned long flags;
} mounts[] = {
	{"/proc", "proc", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
	{"/sys", "sysfs", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
	{"/dev", "devtmpfs", "mode=0755", MS_NOSUID},
	{"/sys/fs/cgroup", "cgroup2", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
	{"/run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV},
	{"/tmp", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
};

static int load_module(const char *name, struct error *err)
{
	own_mem char *path = str_format("/modules/%s", name);
	own_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail(err, -errno, "open %s", path);
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
		return fail(err, -errno, "load %s", path);
	return 0;
}

/* A kernel that has everything built in brings no list. A module that cannot be loaded is told of, and
 * is fatal only where something needs it. */
static int load_modules(void)
{
	own_mem char *text = NULL;
	own_strv char **lines = NULL;
	size_t len;
	int rc = file_read(AT_FDCWD, MODULE_LIST, LIST_MAX, &text, &len, NULL);

	if (rc < 0)
		return 0;
	lines = strv_split(text, '\n');
	for (size_t i = 0; lines != NULL && lines[i] != NULL; i++) {
		struct error why = {0};

		if (lines[i][0] != '\0' && load_module(lines[i], &why) < 0)
			fprintf(stderr, "berth-agent: %s\n", why.text);
	}
	return 0;
}

/* The first process's root becomes a memory file system. Modules have been loaded, so nothing of the
 * initial RAM file system is needed any more. */
static int leave_initial_root(struct error *err)
{
	if (mkdir("/new", 0755) < 0 && errno != EEXIST)
		return fail(err, -errno, "create /new");
	if (mount("tmpfs", "/new", "tmpfs", 0, "mode=0755") < 0 || chdir("/new") < 0)
		return fail(err, -errno, "mount the first process's root");
	if (tree_remove(AT_FDCWD, "/modules", err) < 0)
		return fail(err, -EIO, "remove the modules");
	if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return fail(err, -errno, "move to the first process's root");
	return 0;
}

static int mount_all(struct error *err)
{
	for (size_t i = 0; i < array_size(mounts); i++) {
		if (mkdir(mounts[i].place, 0755) < 0 && errno != EEXIST)
			return fail(err, -errno, "create %s", mounts[i].place);
		if (mount(mounts[i].type, mounts[i].place, mounts[i].type, mounts[i].flags,
			  mounts[i].data) < 0)
			return fail(err, -errno, "mount %s", mounts[i].place);
	}
	return 0;
}

int setup_machine(struct error *err)
{
	int rc;

	umask(022);
	rc = load_modules();
	if (rc == 0)
		rc = leave_initial_root(err);
	if (rc == 0)
		rc = mount_all(err);
	if (rc == 0)
		rc = dir_make(AT_FDCWD, AGENT_DIRECTORY, 0755, err);
	return rc;
}

/* --- who it is --------------------------------------------------------------------------------------- */

/* Mixes the seed in, counts it as unpredictable, and makes the kernel use it at once: machines that
 * started from one snapshot must not give the same random numbers. */
static int add_entropy(const char *text, struct error *err)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[AGENT_SEED_BYTES];
	} seed = {.info = {.entropy_count = AGENT_SEED_BYTES * 8, .buf_size = AGENT_SEED_BYTES}};
	own_fd int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);

	if (strlen(text) != 2 * sizeof(seed.bytes) ||
	    hex_parse(text, sizeof(seed.bytes), seed.bytes) < 0)
		return refuse(err, -EINVAL, "the seed is not %d bytes", AGENT_SEED_BYTES);
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &seed) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return fail(err, -errno, "renew the random numbers");
	return 0;
}

static int set_clock(int64_t ns, struct error *err)
{
	const struct timespec now = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	return clock_settime(CLOCK_REALTIME, &now) < 0 ? fail(err, -errno, "set the clock") : 0;
}

int setup_files(struct agent *agent, const struct json_at *request, struct error *err)
{
	own_mem char *place = str_format("%s/files", agent->directory);
	struct json_at files, file;
	own_fd int dir = -1;
	int rc = json_array_at(request, "files", JSON_OPTIONAL, &files, err);

	if (rc <= 0)
		return rc;
	dir = rc = dir_open(AT_FDCWD, place, 0755, err);
	for (size_t i = 0; rc >= 0 && json_element(&files, i, &file); i++) {
		const char *name = NULL, *content = NULL;

		rc = json_get_string(&file, "name", JSON_REQUIRED, &name, err);
		if (rc >= 0)
			rc = json_get_string(&file, "content", JSON_REQUIRED, &content, err);
		if (rc >= 0 &&
		    (strchr(name, '/') || name[0] == '.' || strlen(name) > FILE_NAME_LIMIT))
			rc = json_refuse(err, &file, "\"%s\" is no plain name", name);
		if (rc >= 0)
			rc = file_write(dir, name, content, strlen(content), 0644, FILE_WRITE_PLAIN,
					err);
	}
	return rc < 0 ? rc : 0;
}

/* Directories of the host, by the tags of their devices: {"shares":["share0", ...]}. */
static int mount_shares(struct agent *agent, const struct json_at *request, struct error *err)
{
	own_strv char **tags = NULL;
	int rc = json_get_strv(request, "shares", JSON_OPTIONAL, &tags, err);

	for (size_t i = 0; rc >= 0 && tags != NULL && tags[i] != NULL; i++) {
		own_mem char *place = str_format("%s/shares/%s", agent->directory, tags[i]);

		if (strchr(tags[i], '/') != NULL)
			return refuse(err, -EINVAL, "\"%s\" is no tag", tags[i]);
		rc = dir_make(AT_FDCWD, place, 0755, err);
		if (rc == 0 && mount(tags[i], place, "virtiofs", 0, NULL) < 0)
			rc = fail(err, -errno, "mount a directory of the host");
	}
	return rc < 0 ? rc : 0;
}

/* Settings of the kernel that are the machine's, not a namespace's: {"net.ipv4.x":"1"}. */
static int set_sysctls(const struct json_at *request, struct error *err)
{
	own_strv char **pairs = NULL;
	int rc = json_get_pairs(request, "sysctls", JSON_OPTIONAL, &pairs, err);

	for (size_t i = 0; rc >= 0 && pairs != NULL && pairs[i] != NULL; i++) {
		char *equals = strchr(pairs[i], '=');
		own_mem char *path = NULL;

		if (equals == NULL || strstr(pairs[i], "..") != NULL)
			return refuse(err, -EINVAL, "sysctl \"%s\" is malformed", pairs[i]);
		*equals = '\0';
		for (char *p = pairs[i]; *p != '\0'; p++)
			if (*p == '.')
				*p = '/';
		path = str_format("/proc/sys/%s", pairs[i]);
		rc = file_put(AT_FDCWD, path, equals + 1);
		if (rc < 0)
			rc = fail(err, rc, "set %s", path + 1);
	}
	return rc < 0 ? rc : 0;
}

/* What the processes of the workload inherit: {"limits":[[resource, soft, hard], ...]}, -1 for none. No
 * file may be opened beyond what this kernel has numbers for. */
static int set_limits(const struct json_at *request, struct error *err)
{
	struct json_at limits, limit, item;
	int rc = json_array_at(request, "limits", JSON_OPTIONAL, &limits, err);

	for (size_t i = 0; rc > 0 && json_element(&limits, i, &limit); i++) {
		int64_t values[3] = {0};
		struct rlimit set;

		for (size_t j = 0; rc >= 0 && j < array_size(values); j++)
			rc = json_element(&limit, j, &item)
				     ? json_as_int(&item, -1, INT64_MAX, &values[j], err)
				     : json_refuse(err, &limit, "expected [resource, soft, hard]");
		if (rc < 0)
			return rc;
		rc = 1;
		set = (struct rlimit){.rlim_cur = (rlim_t)values[1], .rlim_max = (rlim_t)values[2]};
		if (values[0] == RLIMIT_NOFILE && set.rlim_max > FILES_LIMIT)
			set.rlim_max = FILES_LIMIT;
		if (set.rlim_cur > set.rlim_max)
			set.rlim_cur = set.rlim_max;
		if (setrlimit((enum __rlimit_resource)values[0], &set) < 0)
			return fail(err, -errno, "set limit %d", (int)values[0]);
	}
	return rc < 0 ? rc : 0;
}

int setup_identity(struct agent *agent, const struct json_at *request, struct error *err)
{
	const char *seed = NULL, *hostname = NULL;
	int64_t now = 0;
	int rc = json_get_string(request, "seed", JSON_OPTIONAL, &seed, err);

	if (rc > 0 && agent->is_machine)
		rc = add_entropy(seed, err);
	if (rc >= 0)
		rc = json_get_int(request, "time", JSON_OPTIONAL, 1, INT64_MAX, &now, err);
	if (rc > 0 && agent->is_machine)
		rc = set_clock(now, err);
	if (rc >= 0)
		rc = json_get_string(request, "hostname", JSON_OPTIONAL, &hostname, err);
	if (rc > 0 && agent->is_machine && sethostname(hostname, strlen(hostname)) < 0)
		rc = fail(err, -errno, "set the host name");
	if (rc >= 0 && agent->is_machine)
		rc = set_sysctls(request, err);
	if (rc >= 0 && agent->is_machine)
		rc = set_limits(request, err);
	if (rc >= 0 && agent->is_machine)
		rc = mount_shares(agent, request, err);
	return rc < 0 ? rc : setup_files(agent, request, err);
}
