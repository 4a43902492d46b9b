/*
 * fuzz-layer-tar: a layer's tar, through the whole writer into a layer file.
 *
 * The first byte says in pieces of which size the rest arrives. Headers get a right checksum first:
 * no fuzzer finds one, and it protects nothing. What the writer accepts must have the digest that it
 * says, and must give the same file again when it comes in one piece.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "image/layer.h"

enum { BLOCK = 512, CHECKSUM_AT = 148, MAGIC_AT = 257 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[] = "/dev/shm/berth-fuzz-XXXXXX";

static void remove_directory(void)
{
	if (tree_remove(AT_FDCWD, path, NULL) < 0)
		abort();
}

/* Where the layers are written; removed in the end. */
static int directory(void)
{
	static int fd = -1;

	if (fd < 0) {
		if (mkdtemp(path) == NULL || atexit(remove_directory) != 0)
			abort();
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			abort();
	}
	return fd;
}

static void mend_checksums(uint8_t *tar, size_t size)
{
	for (size_t at = 0; at + BLOCK <= size; at += BLOCK) {
		uint8_t *h = tar + at;
		unsigned int sum = 0;
		char text[8];

		if (memcmp(h + MAGIC_AT, "ustar", 5) != 0)
			continue;
		memset(h + CHECKSUM_AT, ' ', 8);
		for (int i = 0; i < BLOCK; i++)
			sum += h[i];
		snprintf(text, sizeof(text), "%06o", sum & 0777777);
		memcpy(h + CHECKSUM_AT, text, 7);
	}
}

/* Writes the layer under the name `diffid`. */
static int write_layer(const uint8_t *tar, size_t size, size_t piece, const struct digest *diffid,
		       struct layer_info *info)
{
	own_layer_writer struct layer_writer *w = NULL;
	struct error err = {0};
	int rc = layer_writer_begin(directory(), layer_format_find("erofs"), &w, &err);

	for (size_t at = 0; at < size && rc >= 0; at += piece)
		rc = layer_writer_add(w, tar + at, size - at < piece ? size - at : piece, &err);
	if (rc >= 0)
		rc = layer_writer_finish(w, diffid, info, &err);
	if (rc < 0 && err.text[0] == '\0')
		abort();
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct digest diffid = digest_of("fuzz", 4);
	struct layer_info whole = {0}, pieces = {0};
	struct error err = {0};
	int state = directory();
	uint8_t *tar;
	int rc;

	if (size < 1)
		return 0;
	tar = malloc(size);
	memcpy(tar, data + 1, size - 1);
	mend_checksums(tar, size - 1);
	rc = write_layer(tar, size - 1, size, &diffid, &whole);
	if (rc >= 0 && layer_verify(directory(), &diffid, &whole, &err) < 0)
		abort();
	if (layer_remove(directory(), state, &diffid, &err) < 0)
		abort();
	if (write_layer(tar, size - 1, (size_t)data[0] * 7 + 1, &diffid, &pieces) != rc ||
	    strcmp(whole.digest.text, pieces.digest.text) != 0)
		abort();
	if (layer_remove(directory(), state, &diffid, &err) < 0)
		abort();
	free(tar);
	return 0;
}
