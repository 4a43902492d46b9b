/* Fuzzes OCI layout directories: the first byte says how the rest is split up into oci-layout and index.json.
 * What a layout says it has must be readable, or refused with a reason. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "image/depot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char path[] = "/dev/shm/berth-fuzz-layout-XXXXXX";

static void remove_directory(void)
{
	if (tree_remove(AT_FDCWD, path, NULL) < 0)
		abort();
}

static int directory(void)
{
	static int fd = -1;

	if (fd < 0) {
		if (mkdtemp(path) == NULL || atexit(remove_directory) != 0)
			abort();
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || mkdirat(fd, "blobs", 0755) < 0 ||
		    mkdirat(fd, "blobs/sha256", 0755) < 0)
			abort();
	}
	return fd;
}

static void put(const char *name, const uint8_t *data, size_t len)
{
	own_fd int fd = openat(directory(), name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || fd_write_full(fd, data, len) < 0)
		abort();
}

static void read_one(struct depot *depot, const char *which)
{
	own_mem char *text = NULL, *type = NULL;
	struct error err = {0};
	struct digest digest, is;
	size_t len;

	if (depot_manifest(depot, which, &text, &len, &type, &digest, &err) < 0) {
		if (err.text[0] == '\0')
			abort();
		return;
	}
	is = digest_of(text, len);
	if (!digest_eq(&digest, &is))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}", manifest[] = "{}";
	const struct digest digest = digest_of(manifest, sizeof(manifest) - 1);
	const struct image_remote remote = {0};
	own_depot struct depot *depot = NULL;
	own_json json_t *list = NULL;
	char text[64], blob[128];
	struct error err = {0};
	size_t first;

	if (len < 1)
		return 0;
	/* 0: a sound oci-layout, as most inputs shall get behind it. */
	first = data[0] < len - 1 ? data[0] : len - 1;
	if (data[0] == 0)
		put("oci-layout", (const uint8_t *)layout, sizeof(layout) - 1);
	else
		put("oci-layout", data + 1, first);
	put("index.json", data + 1 + first, len - 1 - first);
	snprintf(blob, sizeof(blob), "blobs/sha256/%s", digest_hex(&digest));
	put(blob, (const uint8_t *)manifest, sizeof(manifest) - 1);
	snprintf(text, sizeof(text), "oci:%s", path);
	if (depot_open(text, REGISTRY_PULL, &remote, &depot, &err) < 0) {
		if (err.text[0] == '\0')
			abort();
		return 0;
	}
	read_one(depot, NULL);
	read_one(depot, "1");
	read_one(depot, digest.text);
	if (depot_referrers(depot, &digest, &list, &err) < 0 && err.text[0] == '\0')
		abort();
	return 0;
}
