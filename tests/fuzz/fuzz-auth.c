/* Fuzzes the reader of files with credentials (docker's config.json, podman's auth.json). What is found must
 * be usable; keeping something in the file must leave it readable, with that in it. Programs that such a file
 * names as helpers are not found. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "image/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char path[] = "/dev/shm/berth-fuzz-auth-XXXXXX";

static void remove_file(void)
{
	unlink(path);
}

static void write_input(const uint8_t *data, size_t len)
{
	static int fd = -1;

	if (fd < 0) {
		fd = mkstemp(path);
		if (fd < 0 || atexit(remove_file) != 0 || setenv("PATH", "/nowhere", 1) < 0)
			abort();
	}
	/* Keeping something puts another file in its place. */
	close(fd);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || fd_write_full(fd, data, len) < 0)
		abort();
}

/* 1: found. */
static int find(const char *registry, struct credentials *found)
{
	struct error err = {0};
	int rc = credentials_find(path, registry, "library/app", found, &err);

	if (rc < 0 && err.text[0] == '\0')
		abort();
	if (rc > 0 && found->identity_token == NULL &&
	    (found->user == NULL || found->secret == NULL))
		abort();
	return rc;
}

/* Whether the file as it is written now has that in it. */
static bool mentions(const char *text)
{
	own_mem char *all = NULL;
	size_t len;

	if (file_read(AT_FDCWD, path, 1 << 20, &all, &len, NULL) < 0)
		abort();
	return strstr(all, text) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const registries[] = {"docker.io", "example.org", "localhost:5000"};
	struct credentials mine = {.user = (char[]){"me"}, .secret = (char[]){"se:cret"}};
	struct error err = {0};

	write_input(data, len);
	for (size_t i = 0; i < sizeof(registries) / sizeof(registries[0]); i++) {
		own_credentials struct credentials found = {0};

		if (find(registries[i], &found) < 0)
			return 0;
	}
	if (credentials_store(path, "kept.example:1", &mine, &err) == 0) {
		own_credentials struct credentials found = {0}, none = {0};

		if (find("kept.example:1", &found) != 1)
			abort();
		/* Some find out that an entry may be for a part of a registry: that one counts then. */
		if (found.identity_token == NULL && !mentions("kept.example:1/") &&
		    (strcmp(found.user, "me") != 0 || strcmp(found.secret, "se:cret") != 0))
			abort();
		if (credentials_store(path, "kept.example:1", NULL, &err) < 0 ||
		    find("kept.example:1", &none) < 0)
			abort();
	}
	return 0;
}
