/* Fuzzes registries.conf: what is accepted must say for every name where it is to be had, in names that are
 * valid themselves, or refuse it with a reason. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "image/registries.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void set_input(const uint8_t *data, size_t len)
{
	static int fd = -1;
	char path[64];

	if (fd < 0) {
		fd = memfd_create("registries.conf", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (fd < 0 || setenv("CONTAINERS_REGISTRIES_CONF", path, 1) < 0)
			abort();
	}
	if (ftruncate(fd, 0) < 0 || fd_write_full_at(fd, data, len, 0) < 0)
		abort();
}

static void check_candidate(const struct registry_candidate *c)
{
	char name[REFERENCE_TEXT_MAX];
	struct reference again;

	reference_format(&c->reference, name);
	if (reference_parse(name, &again, NULL) < 0 || c->endpoints_count == 0)
		abort();
	for (size_t i = 0; i < c->endpoints_count; i++)
		if (c->endpoints[i].registry[0] == '\0' || c->endpoints[i].repository[0] == '\0')
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const names[] = {
		"busybox",   "me/app:1",         "example.org/app:1",       "a.b.example.org/x/y/z",
		"quay.io/a", "localhost:5000/a", "docker.io/library/debian"};

	set_input(data, len);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		own_registry_candidates struct registry_candidates found = {0};
		struct reference reference;
		struct error err = {0};

		if (reference_parse(names[i], &reference, &err) < 0)
			abort();
		if (registries_resolve(&reference, NULL, &found, &err) < 0) {
			if (err.text[0] == '\0')
				abort();
			continue;
		}
		if (found.count == 0)
			abort();
		for (size_t k = 0; k < found.count; k++)
			check_candidate(&found.items[k]);
	}
	return 0;
}
