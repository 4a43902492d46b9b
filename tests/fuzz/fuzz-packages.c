/*
 * Fuzzes the readers of package databases: the first byte chooses which file of a tree the rest is,
 * and the tree is scanned.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/packages.h"
#include "image/sbom.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char *const paths[] = {
	"var/lib/dpkg/status",
	"lib/apk/db/installed",
	"var/lib/rpm/rpmdb.sqlite",
	"x.dist-info/METADATA",
	"node_modules/x/package.json",
	"package-lock.json",
	"composer.lock",
	"Cargo.lock",
	"Gemfile.lock",
	"go.mod",
	"etc/os-release",
	"var/lib/rpm/Packages",
};

static int root_fd = -1;
static char root_path[] = "/tmp/fuzz-packages-XXXXXX";

static void remove_root(void)
{
	if (tree_remove(AT_FDCWD, root_path, NULL) < 0)
		abort();
}

static void make_root(void)
{
	if (mkdtemp(root_path) == NULL)
		abort();
	root_fd = open(root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < array_size(paths); i++) {
		own_mem char *parent = str_copy(paths[i]);

		for (char *slash = parent; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
			*slash = '\0';
			if (dir_make(root_fd, parent, 0755, NULL) < 0)
				abort();
		}
	}
	atexit(remove_root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct sbom_subject subject = {.name = "x", .digest = "sha256:0"};
	own_packages struct packages list = {0};
	const char *path;

	if (len < 1)
		return 0;
	if (root_fd < 0)
		make_root();
	path = paths[data[0] % array_size(paths)];
	if (file_write(root_fd, path, data + 1, len - 1, 0644, FILE_WRITE_PLAIN, NULL) < 0)
		abort();
	if (packages_scan(root_fd, &list, NULL) == 0) {
		json_decref(sbom_spdx(&subject, &list));
		json_decref(sbom_cyclonedx(&subject, &list));
	}
	unlinkat(root_fd, path, 0);
	return 0;
}
