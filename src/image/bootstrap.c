/*
 * bootstrap: images without a registry.
 *
 * busybox is made of one program of the package busybox-static and hard links to it; debian is what
 * mmdebstrap unpacks from the distribution's mirror. Neither records the moment of its making: the
 * same packages give the same configuration and history.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "image/build.h"
#include "tar/write.h"

enum {
	BUSYBOX_SIZE_MAX = 16 << 20,
	LIST_SIZE_MAX = 1 << 20,
	RELEASE_HEAD_MAX = 1 << 20,
	READ_SIZE = 256 << 10,
};

static const char default_path[] =
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static const char busybox_passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
				     "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
				     "bin:x:2:2:bin:/bin:/bin/false\n"
				     "sys:x:3:3:sys:/dev:/bin/false\n"
				     "www-data:x:33:33:www-data:/var/www:/bin/false\n"
				     "nobody:x:65534:65534:nobody:/home:/bin/false\n";
static const char busybox_group[] = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\n"
				    "tty:x:5:\ndisk:x:6:\nmail:x:8:\nwheel:x:10:root\n"
				    "www-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n";

static const struct {
	const char *name;
	unsigned int mode;
} busybox_dirs[] = {
	{"bin/", 0755},      {"dev/", 0755},     {"etc/", 0755},     {"home/", 0755},
	{"proc/", 0555},     {"root/", 0700},    {"run/", 0755},     {"sbin/", 0755},
	{"sys/", 0555},      {"tmp/", 01777},    {"usr/", 0755},     {"usr/bin/", 0755},
	{"usr/sbin/", 0755}, {"var/", 0755},     {"var/log/", 0755}, {"var/spool/", 0755},
	{"var/tmp/", 01777}, {"var/www/", 0755},
};

/* Starts `argv` (argv[0] is a path) with its output in a pipe. Returns the pipe's end. */
static int start(char *const *argv, char *const *env, int *ret_pidfd, struct error *err)
{
	int pipe_fds[2], rc;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return fail(err, -errno, "start %s", argv[0]);
	rc = proc_spawn(
		&(struct proc_spawn){
			.path = argv[0],
			.exe_fd = -1,
			.argv = argv,
			.env = env,
			.stdio = {-1, pipe_fds[1], STDERR_FILENO},
			.die_with_parent = true,
		},
		&pid, ret_pidfd, err);
	fd_close(&pipe_fds[1]);
	if (rc == 0)
		return pipe_fds[0];
	fd_close(&pipe_fds[0]);
	return rc;
}

static int finish(const char *program, int pidfd, struct error *err)
{
	int code = proc_wait(pidfd, NULL);

	if (code < 0)
		return fail(err, code, "wait for %s", program);
	return code == 0 ? 0 : refuse(err, -EIO, "%s failed with exit code %d", program, code);
}

/* True for an ELF program that needs no dynamic loader. */
static bool is_static(const char *program, size_t size)
{
	Elf64_Ehdr header;

	if (size < sizeof(header))
		return false;
	memcpy(&header, program, sizeof(header));
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64)
		return false;
	for (size_t i = 0; i < header.e_phnum; i++) {
		size_t offset = header.e_phoff + i * sizeof(Elf64_Phdr);
		Elf64_Phdr segment;

		if (offset > size || size - offset < sizeof(segment))
			return false;
		memcpy(&segment, program + offset, sizeof(segment));
		if (segment.p_type == PT_INTERP)
			return false;
	}
	return true;
}

struct busybox {
	char *program;
	size_t size;
	int64_t mtime_s;
	char **applets; /* "bin/sh" */
};

static void busybox_release(struct busybox *b)
{
	free(b->program);
	strv_free(b->applets);
}

static int busybox_read(const char *path, struct busybox *b, struct error *err)
{
	struct stat st;
	int rc = file_read(AT_FDCWD, path, BUSYBOX_SIZE_MAX, &b->program, &b->size, err);

	if (rc < 0)
		return hint(err, rc, "apt-get install busybox-static");
	if (!is_static(b->program, b->size))
		return hint(err,
			    refuse(err, -ENOEXEC,
				   "%s needs shared libraries, so it cannot stand "
				   "alone in an image",
				   path),
			    "apt-get install busybox-static");
	if (stat(path, &st) < 0)
		return fail(err, -errno, "stat %s", path);
	b->mtime_s = st.st_mtim.tv_sec;
	return 0;
}

static int busybox_list(char *path, struct busybox *b, struct error *err)
{
	char option[] = "--list-full";
	char *argv[] = {path, option, NULL};
	own_mem char *text = NULL;
	own_fd int out = -1, pidfd = -1;
	own_strv char **lines = NULL;
	size_t len;
	int rc;

	out = start(argv, NULL, &pidfd, err);
	if (out < 0)
		return out;
	rc = fd_read_all(out, LIST_SIZE_MAX, &text, &len);
	if (rc < 0)
		return fail(err, rc, "read the list of %s", path);
	rc = finish(path, pidfd, err);
	if (rc < 0)
		return rc;
	lines = strv_split(text, '\n');
	for (size_t i = 0; lines != NULL && lines[i] != NULL; i++) {
		const char *name = lines[i][0] == '/' ? lines[i] + 1 : lines[i];
		const char *slash = strrchr(name, '/');
		own_mem char *dir = slash ? str_copy_n(name, (size_t)(slash - name) + 1) : NULL;
		bool known = false;

		for (size_t d = 0; dir != NULL && d < array_size(busybox_dirs); d++)
			known = known || str_eq(dir, busybox_dirs[d].name);
		if (known && slash[1] != '\0' && !str_eq(name, "bin/busybox"))
			strv_push(&b->applets, name);
	}
	return b->applets ? 0 : refuse(err, -EPROTO, "%s lists no applets", path);
}

static int put_file(struct tar_writer *w, const char *path, uint32_t mode, int64_t mtime,
		    const void *data, size_t len, struct error *err)
{
	const struct tar_entry entry = {
		.type = TAR_FILE, .path = path, .mode = mode, .mtime = mtime, .size = len};
	int rc = tar_write_entry(w, &entry, err);

	return rc < 0 ? rc : tar_write_data(w, data, len, err);
}

static int produce_busybox(image_bytes_fn *out, void *out_context, void *context, struct error *err)
{
	const struct busybox *b = context;
	struct tar_writer w = {.fn = out, .data = out_context};
	struct tar_entry entry = {.type = TAR_DIR, .mtime = b->mtime_s};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < array_size(busybox_dirs); i++) {
		entry.path = busybox_dirs[i].name;
		entry.mode = busybox_dirs[i].mode;
		rc = tar_write_entry(&w, &entry, err);
	}
	if (rc == 0)
		rc = put_file(&w, "etc/passwd", 0644, b->mtime_s, busybox_passwd,
			      sizeof(busybox_passwd) - 1, err);
	if (rc == 0)
		rc = put_file(&w, "etc/group", 0644, b->mtime_s, busybox_group,
			      sizeof(busybox_group) - 1, err);
	if (rc == 0)
		rc = put_file(&w, "bin/busybox", 0755, b->mtime_s, b->program, b->size, err);
	entry = (struct tar_entry){
		.type = TAR_HARD_LINK, .link = "bin/busybox", .mode = 0755, .mtime = b->mtime_s};
	for (size_t i = 0; rc == 0 && b->applets[i] != NULL; i++) {
		entry.path = b->applets[i];
		rc = tar_write_entry(&w, &entry, err);
	}
	return rc < 0 ? rc : tar_write_end(&w, err);
}

/* {"Env": [PATH], "Cmd": [command]} */
static json_t *plain_config(const char *command)
{
	json_t *config = json_object(), *env = json_array(), *cmd = json_array();

	json_array_append_new(env, json_string(default_path));
	json_object_set_new(config, "Env", env);
	json_array_append_new(cmd, json_string(command));
	json_object_set_new(config, "Cmd", cmd);
	return config;
}

static int bootstrap_busybox(struct image_store *store, image_progress_fn *progress, void *data,
			     struct image **ret, struct error *err)
{
	__attribute__((cleanup(busybox_release))) struct busybox b = {0};
	own_json json_t *config = plain_config("sh");
	char path[] = "/bin/busybox";
	struct image_import options = {
		.name = "docker.io/library/busybox:latest",
		.config = config,
		.created_by = "berth bootstrap busybox",
		.comment = "from the package busybox-static",
		.progress = progress,
		.progress_data = data,
	};
	int rc = busybox_read(path, &b, err);

	if (rc == 0)
		rc = busybox_list(path, &b, err);
	options.created_ns = b.mtime_s * INT64_C(1000000000);
	return rc < 0 ? rc : image_build(store, &options, produce_busybox, &b, ret, err);
}

struct debian {
	const char *suite;
	int64_t date_s; /* of the mirror's index, to which newer times of files are set back */
};

static int produce_debian(image_bytes_fn *out, void *out_context, void *context, struct error *err)
{
	const struct debian *debian = context;
	own_mem char *suite = str_copy(debian->suite), *chunk = mem_new(READ_SIZE);
	own_strv char **env = strv_copy(environ);
	char program[] = "/usr/bin/mmdebstrap", quiet[] = "--quiet",
	     variant[] = "--variant=minbase";
	char format[] = "--format=tar", target[] = "-";
	char *argv[] = {program, quiet, variant, format, suite, target, NULL};
	own_mem char *epoch = str_format("%lld", (long long)debian->date_s);
	own_fd int from = -1, pidfd = -1;
	int rc = 0;

	env_set(&env, "SOURCE_DATE_EPOCH", epoch);
	from = start(argv, env, &pidfd, err);
	if (from == -ENOENT)
		return hint(err, from, "apt-get install mmdebstrap");
	if (from < 0)
		return from;
	for (;;) {
		ssize_t n = read(from, chunk, READ_SIZE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(err, -errno, "read from mmdebstrap");
		if (n == 0)
			break;
		rc = out(chunk, (size_t)n, out_context, err);
		if (rc < 0)
			return rc;
	}
	return finish(program, pidfd, err);
}

/* The "Date:" of the suite's index as this machine last saw it, so that two images made from the
 * same index are the same. Without one: the present. */
static int64_t index_date(const char *suite)
{
	own_mem char *pattern = str_format("/var/lib/apt/lists/*_debian_dists_%s_InRelease", suite);
	int64_t newest = 0;
	glob_t found;

	if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
		return time(NULL);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		own_mem char *text = NULL;
		struct tm tm = {0};
		const char *date;
		size_t len;

		if (file_read(AT_FDCWD, found.gl_pathv[i], RELEASE_HEAD_MAX, &text, &len, NULL) < 0)
			continue;
		date = strstr(text, "\nDate: ");
		if (date != NULL && strptime(date + 7, "%a, %d %b %Y %H:%M:%S", &tm) != NULL &&
		    timegm(&tm) > newest)
			newest = timegm(&tm);
	}
	globfree(&found);
	return newest ? newest : time(NULL);
}

static int bootstrap_debian(struct image_store *store, const char *suite,
			    image_progress_fn *progress, void *data, struct image **ret,
			    struct error *err)
{
	struct debian debian = {.suite = suite, .date_s = index_date(suite)};
	own_json json_t *config = plain_config("bash");
	own_mem char *name = str_format("docker.io/library/debian:%s", suite);
	own_mem char *by = str_format("berth bootstrap debian:%s", suite);
	struct image_import options = {
		.name = name,
		.config = config,
		.created_by = by,
		.comment = "from the distribution's mirror, with mmdebstrap --variant=minbase",
		.created_ns = debian.date_s * INT64_C(1000000000),
		.progress = progress,
		.progress_data = data,
	};

	if (!reference_tag_valid(suite) ||
	    strspn(suite, "abcdefghijklmnopqrstuvwxyz") != strlen(suite))
		return refuse(err, -EINVAL, "\"%.80s\" is not the name of a Debian suite", suite);
	return image_build(store, &options, produce_debian, &debian, ret, err);
}

int image_bootstrap(struct image_store *store, const char *what, image_progress_fn *progress,
		    void *progress_data, struct image **ret, struct error *err)
{
	const char *suite = str_after(what, "debian");
	int rc;

	if (str_eq(what, "busybox"))
		rc = bootstrap_busybox(store, progress, progress_data, ret, err);
	else if (suite != NULL && (*suite == '\0' || (*suite == ':' && suite[1] != '\0')))
		rc = bootstrap_debian(store, *suite ? suite + 1 : "bookworm", progress,
				      progress_data, ret, err);
	else
		return hint(err, refuse(err, -EINVAL, "there is no recipe for \"%.80s\"", what),
			    "busybox, debian or debian:<suite>");
	return rc;
}
