/* orphans: see orphans.h. */
#include "image/orphans.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/layer.h"
#include "image/store_priv.h"

struct search {
	struct image_store *store;
	bool remove;
	image_orphan_fn *fn;
	void *data;
};

static int has_row(struct search *s, const char *sql, const struct digest *key, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(s->store->db, &q, err, sql, "t", key->text);

	return rc < 0 ? rc : db_next(q, err);
}

static void tell(struct search *s, const char *file, bool removed)
{
	if (s->fn != NULL)
		s->fn(file, removed, s->data);
}

static int look_at_blob(struct search *s, int dir_fd, const char *algorithm, const char *name,
			struct error *err)
{
	own_mem char *text = str_format("%s:%s", algorithm, name);
	own_mem char *file = str_format("blobs/%s/%s", algorithm, name);
	struct digest digest;
	int rc = 0;

	/* A name that is no digest has no row for sure. */
	if (digest_parse(text, &digest, NULL) == 0)
		rc = has_row(s, "SELECT 1 FROM image_blob WHERE digest = ?", &digest, err);
	if (rc == 0 && s->remove)
		rc = tree_remove(dir_fd, name, err);
	if (rc == 0)
		tell(s, file, s->remove);
	return rc < 0 ? rc : 0;
}

static int search_blobs(struct search *s, const char *algorithm, struct error *err)
{
	own_mem char *path = str_format("blobs/%s", algorithm);
	own_fd int fd = openat(s->store->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = NULL;
	const struct dirent *entry;
	int rc = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : fail(err, -errno, "open the directory of the blobs");
	dir = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 3));
	if (dir == NULL)
		return fail(err, -errno, "read the directory of the blobs");
	while (rc >= 0 && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			rc = look_at_blob(s, fd, algorithm, entry->d_name, err);
	return rc;
}

static int look_at_layer(const struct digest *diffid, const struct layer_info *info, void *data,
			 struct error *err)
{
	struct search *s = data;
	own_mem char *file =
		str_format("layers/%s (%s)", digest_hex(diffid), layer_format_name(info->format));
	int rc = has_row(s, "SELECT 1 FROM image_layer WHERE diffid = ?", diffid, err);
	bool removed = false;

	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (s->remove) {
		struct error why = {0};

		rc = layer_remove(s->store->layers_fd, s->store->state_fd, diffid, &why);
		if (rc < 0 && rc != -EBUSY)
			return refuse(err, rc, "%s", why.text);
		removed = rc == 0;
	}
	tell(s, file, removed);
	return 0;
}

/* Names that are no layer's, finished or not. */
static int search_strays(struct search *s, struct error *err)
{
	own_dir DIR *dir =
		fdopendir(openat(s->store->layers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const struct dirent *entry;
	int rc = 0;

	if (dir == NULL)
		return fail(err, -errno, "read the directory of the layers");
	while (rc >= 0 && (entry = readdir(dir)) != NULL) {
		const char *name = entry->d_name;
		own_mem char *hex = str_copy_n(name, strcspn(name, "."));
		own_mem char *file = str_format("layers/%s", name);
		struct digest digest;

		if (name[0] == '.' || str_after(name, "tmp.") ||
		    (digest_from_hex(hex, strlen(hex), &digest) &&
		     (str_eq(name + strlen(hex), ".erofs") || str_eq(name + strlen(hex), ".dir"))))
			continue;
		rc = s->remove ? tree_remove(s->store->layers_fd, name, err) : 0;
		if (rc >= 0)
			tell(s, file, s->remove);
	}
	return rc;
}

int image_orphans(struct image_store *store, bool remove, image_orphan_fn *fn, void *data,
		  struct error *err)
{
	struct search search = {.store = store, .remove = remove, .fn = fn, .data = data};
	own_fd int lock_fd = -1;
	int rc = 0;

	/* Without the lock file nothing was ever added. */
	if (faccessat(store->root_fd, "images.lock", F_OK, 0) < 0)
		return 0;
	/* Rows that are not here now may be here again for the next command. */
	if (remove && db_in_doubt(store->db))
		return -EWOULDBLOCK;
	lock_fd = file_lock(store->root_fd, "images.lock", FILE_LOCK_EXCLUSIVE, false);
	if (lock_fd == -EWOULDBLOCK)
		return lock_fd;
	if (lock_fd < 0)
		return fail(err, lock_fd, "lock the image store");
	for (enum digest_algorithm a = 0; rc == 0 && a < DIGEST_ALGORITHMS; a++)
		rc = search_blobs(&search, digest_name(a), err);
	if (rc == 0 && image_store_layers_fd(store, NULL) >= 0)
		rc = layer_list(store->layers_fd, look_at_layer, &search, err);
	if (rc == 0 && store->layers_fd >= 0)
		rc = search_strays(&search, err);
	return rc;
}
