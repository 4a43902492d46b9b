/*
 * fuzz-layer-tar: a layer's tar, through the whole writer into a layer file.
 *
 * The first byte says in pieces of which size the rest arrives. Headers get a right checksum first:
 * no fuzzer finds one, and it protects nothing. What the writer accepts must have the digest that it
 * says, and must give the same file again when it comes in one piece. Of every other layer the tar must
 * come back as it was; and a layer file in which some bytes are others must not harm who reads that.
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

	if (rc >= 0 && size % 2 == 0 && !layer_writer_keep_tar(w))
		abort();
	for (size_t at = 0; at < size && rc >= 0; at += piece)
		rc = layer_writer_add(w, tar + at, size - at < piece ? size - at : piece, &err);
	if (rc >= 0)
		rc = layer_writer_finish(w, diffid, info, &err);
	if (rc < 0 && err.text[0] == '\0')
		abort();
	return rc;
}

static int take_nothing(const void *data, size_t len, void *context, struct error *err)
{
	(void)data, (void)len, (void)context, (void)err;
	return 0;
}

/* The tar once more, then from a file with a few other bytes. */
static void check_again(const struct digest *diffid, const uint8_t *tar, size_t size)
{
	char name[128];
	struct error err = {0};
	uint64_t tar_bytes;
	int fd = layer_again_open(directory(), diffid, &tar_bytes, &err);
	off_t end;

	if (fd < 0 || tar_bytes != size || layer_again(fd, diffid, take_nothing, NULL, &err) < 0)
		abort();
	close(fd);
	snprintf(name, sizeof(name), "%s/%s.erofs", path, digest_hex(diffid));
	fd = open(name, O_RDWR | O_CLOEXEC);
	end = lseek(fd, 0, SEEK_END);
	for (size_t i = 0; i + 3 < size && i < 64; i += 4) {
		/* Mostly in the last blocks, where the recipe is. */
		off_t at = (off_t)(tar[i] << 8 | tar[i + 1]);

		at = i % 8 ? at % end : end - 1 - at % (end < 4096 ? end : 4096);
		if (pwrite(fd, &tar[i + 2], 1, at) != 1)
			abort();
	}
	close(fd);
	fd = layer_again_open(directory(), diffid, &tar_bytes, NULL);
	if (fd < 0)
		return;
	if (layer_again(fd, diffid, take_nothing, NULL, &err) < 0 && err.text[0] == '\0')
		abort();
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct digest diffid;
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
	diffid = digest_of(tar, size - 1);
	rc = write_layer(tar, size - 1, size, &diffid, &whole);
	if (rc >= 0 && layer_verify(directory(), &diffid, &whole, &err) < 0)
		abort();
	if (layer_remove(directory(), state, &diffid, &err) < 0)
		abort();
	if (write_layer(tar, size - 1, (size_t)data[0] * 7 + 1, &diffid, &pieces) != rc ||
	    strcmp(whole.digest.text, pieces.digest.text) != 0)
		abort();
	if (rc >= 0 && (size - 1) % 2 == 0)
		check_again(&diffid, tar, size - 1);
	if (layer_remove(directory(), state, &diffid, &err) < 0)
		abort();
	free(tar);
	return 0;
}
