/*
 * fuzz-snapshot: a hostile directory of a snapshot. The input is machine.json up to the first byte of 0, the
 * rest is the state; memory is one MiB.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/own.h"
#include "base/file.h"
#include "vmm/machine/snapshot.h"

enum { MEMORY = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory: it is written anew for each input. */
static char directory[] = "/dev/shm/fuzz-snapshot-XXXXXX";

static int inside(enum snapshot_file which, char *path, size_t size)
{
	snprintf(path, size, "%s/%s", directory, snapshot_names[which]);
	return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static void put(enum snapshot_file which, const void *data, size_t size)
{
	char path[64];
	own_fd int fd = inside(which, path, sizeof(path));

	if (fd < 0 || fd_write_full(fd, data, size) < 0)
		abort();
}

static void remove_all(void)
{
	for (int i = 0; i < SNAPSHOT_FILES; i++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/%s", directory, snapshot_names[i]);
		unlink(path);
	}
	rmdir(directory);
}

static void make_directory(void)
{
	char path[64];
	own_fd int fd = -1;

	if (!mkdtemp(directory))
		abort();
	atexit(remove_all);
	fd = inside(SNAPSHOT_MEMORY, path, sizeof(path));
	if (fd < 0 || ftruncate(fd, MEMORY) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool made;
	static const struct snapshot_host host = {.boot = "here", .cpu = 1};
	struct machine_config config = {.restore = directory};
	const uint8_t *end = size ? memchr(data, 0, size) : NULL;
	size_t length = end ? (size_t)(end - data) : size;
	struct snapshot *snapshot = NULL;
	struct error err = {0};

	if (!made)
		make_directory();
	made = true;
	put(SNAPSHOT_MACHINE, data, length);
	put(SNAPSHOT_STATE, data + length, size - length);
	if (snapshot_open(&host, &config, &snapshot, &err) < 0) {
		if (err.text[0] == '\0')
			abort();
		return 0;
	}
	if (config.memory_bytes > MEMORY || !config.cpus)
		abort();
	snapshot_close(snapshot);
	return 0;
}
