/* blob: see blob.h. */
#include "image/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "image/store_priv.h"

enum { READ_SIZE = 256 << 10 };

int image_store_blobs_fd(struct image_store *store, struct error *err)
{
	if (store->blobs_fd < 0)
		store->blobs_fd = dir_open(store->root_fd, "blobs", 0700, err);
	return store->blobs_fd;
}

int image_blob_open(struct image_store *store, const struct digest *digest, uint64_t *ret_size,
		    struct error *err)
{
	own_fd int fd = -1;
	int blobs_fd = image_store_blobs_fd(store, err);
	struct stat st;

	if (blobs_fd < 0)
		return blobs_fd;
	fd = openat(blobs_fd, digest_path(digest).text, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return hint(err, fail(err, -errno, "open the blob %s", digest->text),
			    "fetch the image again: berth pull");
	*ret_size = (uint64_t)st.st_size;
	return take(fd);
}

int image_blob_read(struct image_store *store, const struct digest *digest, size_t max,
		    char **ret_text, size_t *ret_len, struct error *err)
{
	own_mem char *text = NULL;
	own_fd int fd = -1;
	struct digest is;
	uint64_t size;
	size_t len;
	int rc;

	fd = image_blob_open(store, digest, &size, err);
	if (fd < 0)
		return fd;
	rc = fd_read_all(fd, max, &text, &len);
	if (rc < 0)
		return fail(err, rc, "read the blob %s", digest->text);
	is = digest_of_like(digest, text, len);
	if (!digest_eq(&is, digest))
		return hint(err,
			    refuse(err, -EBADMSG, "the blob %s is damaged: its digest is %s",
				   digest->text, is.text),
			    "berth system check --repair");
	*ret_len = len;
	*ret_text = take(text);
	return 0;
}

int image_fd_stream(int fd, image_bytes_fn *out, void *context, struct error *err)
{
	own_mem char *chunk = mem_new(READ_SIZE);

	for (;;) {
		ssize_t n = fd_read_full(fd, chunk, READ_SIZE);
		int rc;

		if (n <= 0)
			return n < 0 ? fail(err, (int)n, "read a blob") : 0;
		rc = out(chunk, (size_t)n, context, err);
		if (rc < 0)
			return rc;
	}
}

int image_blob_stream(struct image_store *store, const struct digest *blob, image_bytes_fn *out,
		      void *context, struct error *err)
{
	own_fd int fd = -1;
	uint64_t size;

	fd = image_blob_open(store, blob, &size, err);
	return fd < 0 ? fd : image_fd_stream(fd, out, context, err);
}
