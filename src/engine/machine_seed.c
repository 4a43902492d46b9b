/*
 * machine_seed: what cloud-init in a machine is told: a volume with the label "cidata" and the files of its
 * NoCloud source, as a further disk. It is made at the machine's first start and stays, so that a machine
 * remains who it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/machine.h"
#include "vmm/disk/iso.h"

enum { TEXT_MAX = 16 << 20, TEXTS_MAX = 4 };

struct seed {
	struct iso_file files[TEXTS_MAX];
	char *texts[TEXTS_MAX]; /* the data of the files */
	unsigned int count;
};

static void seed_release(struct seed *seed)
{
	for (unsigned int i = 0; i < seed->count; i++)
		free(seed->texts[i]);
}
#define own_seed __attribute__((cleanup(seed_release)))

static void add_text(struct seed *seed, const char *name, char *text, size_t len)
{
	seed->files[seed->count] = (struct iso_file){.name = name, .data = text, .size_bytes = len};
	seed->texts[seed->count++] = text;
}

static int add_file(struct seed *seed, const char *name, const char *path, struct error *err)
{
	char *text;
	size_t len;
	int rc = file_read(AT_FDCWD, path, TEXT_MAX, &text, &len, err);

	if (rc == 0)
		add_text(seed, name, text, len);
	return rc < 0 ? fail(err, rc, "--cloud-init") : 0;
}

static bool has(const struct seed *seed, const char *name)
{
	for (unsigned int i = 0; i < seed->count; i++)
		if (str_eq(seed->files[i].name, name))
			return true;
	return false;
}

/* A file is the user-data; a directory has the files under cloud-init's names. */
static int read_seed(const char *path, struct seed *seed, struct error *err)
{
	static const char *const names[] = {"meta-data", "network-config", "user-data",
					    "vendor-data"};
	struct stat st;

	_Static_assert(array_size(names) == TEXTS_MAX, "each has a place");
	if (stat(path, &st) < 0)
		return fail(err, -errno, "--cloud-init: %s", path);
	if (!S_ISDIR(st.st_mode))
		return add_file(seed, "user-data", path, err);
	for (size_t i = 0; i < array_size(names); i++) {
		own_mem char *file = str_format("%s/%s", path, names[i]);
		int rc = access(file, F_OK) == 0 ? add_file(seed, names[i], file, err) : 0;

		if (rc < 0)
			return rc;
	}
	if (has(seed, "user-data"))
		return 0;
	return hint(err,
		    refuse(err, -ENOENT, "--cloud-init: there is no file user-data in %s", path),
		    "it may have user-data, meta-data, network-config and vendor-data");
}

int machine_seed_check(const char *path, struct error *err)
{
	own_seed struct seed seed = {0};

	return read_seed(path, &seed, err);
}

static void add_identity(struct seed *seed, const struct workload *workload)
{
	char *text;

	if (has(seed, "meta-data"))
		return;
	text = str_format("instance-id: %s\nlocal-hostname: %s\n", workload->id,
			  workload->config.hostname);
	add_text(seed, "meta-data", text, strlen(text));
}

int machine_seed_make(struct engine *engine, const struct workload *workload, char **ret_path,
		      struct error *err)
{
	own_seed struct seed seed = {0};
	own_mem char *path = str_format("%s/" MACHINE_SEED, workload_dir(workload->id).path);
	own_mem char *unfinished = str_format("%s.new", path);
	own_fd int fd = -1;
	int rc = 0;

	*ret_path = str_format("%s/%s", engine->root, path);
	if (faccessat(engine->root_fd, path, F_OK, 0) == 0)
		return 0;
	rc = read_seed(workload->config.cloud_init, &seed, err);
	if (rc < 0)
		return rc;
	add_identity(&seed, workload);
	fd = openat(engine->root_fd, unfinished, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	rc = fd < 0 ? -errno : iso_write(fd, "cidata", seed.files, seed.count);
	if (rc == 0 && renameat(engine->root_fd, unfinished, engine->root_fd, path) < 0)
		rc = -errno;
	return rc < 0 ? fail(err, rc, "make the volume for cloud-init") : 0;
}
