/* session: see session.h. */
#include "image/session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/layer.h"
#include "image/orphans.h"
#include "image/store_priv.h"
#include "image/turn.h"

static const char lock_suffix[] = ".lock";

/* Takes the lock of a session if it is dead: the descriptor, or -EWOULDBLOCK. */
static int lock_dead(int ingest_fd, const char *name, struct error *err)
{
	own_mem char *lock_name = str_format("%s%s", name, lock_suffix);
	int rc = file_lock(ingest_fd, lock_name, FILE_LOCK_EXCLUSIVE, false);

	return rc < 0 && rc != -EWOULDBLOCK ? fail(err, rc, "lock ingest/%s", lock_name) : rc;
}

/* Adds the names of the sessions that are dead. */
static int find_dead(int ingest_fd, char ***ret, struct error *err)
{
	own_dir DIR *dir = fdopendir(fcntl(ingest_fd, F_DUPFD_CLOEXEC, 3));
	const struct dirent *entry;

	if (dir == NULL)
		return fail(err, -errno, "read the directory ingest");
	while ((entry = readdir(dir)) != NULL) {
		own_mem char *name = str_copy(entry->d_name);
		own_fd int lock_fd = -1;

		if (name[0] == '.')
			continue;
		if (str_ends_with(name, lock_suffix))
			name[strlen(name) - strlen(lock_suffix)] = '\0';
		if (strv_has(*ret, name))
			continue;
		lock_fd = lock_dead(ingest_fd, name, err);
		if (lock_fd == -EWOULDBLOCK)
			continue;
		if (lock_fd < 0)
			return lock_fd;
		strv_push(ret, name);
	}
	return 0;
}

/* Removes what a dead session has, its lock last: as long as that is there, somebody will look again
 * for what it has left. */
static int remove_dead(int ingest_fd, const char *name, bool with_lock, struct error *err)
{
	own_mem char *lock_name = str_format("%s%s", name, lock_suffix);
	own_fd int lock_fd = lock_dead(ingest_fd, name, err);
	int rc;

	/* Another command is at it. */
	if (lock_fd == -EWOULDBLOCK)
		return 0;
	if (lock_fd < 0)
		return lock_fd;
	rc = tree_remove(ingest_fd, name, err);
	if (rc == 0 && with_lock && unlinkat(ingest_fd, lock_name, 0) < 0)
		rc = fail(err, -errno, "remove ingest/%s", lock_name);
	return rc;
}

int image_session_recover(struct image_store *store, struct error *err)
{
	own_fd int ingest_fd = openat(store->root_fd, "ingest", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_strv char **dead = NULL;
	int rc, swept;

	if (ingest_fd < 0)
		return errno == ENOENT ? 0 : fail(err, -errno, "open the directory ingest");
	rc = find_dead(ingest_fd, &dead, err);
	if (rc < 0 || dead == NULL)
		return rc;
	turn_recover(store);
	if (image_store_layers_fd(store, NULL) >= 0) {
		struct layer_leftovers left;

		rc = layer_recover(store->layers_fd, store->state_fd, 0, &left, err);
		if (rc < 0)
			return rc;
	}
	/* It may have named files that no row speaks of yet. If they cannot be looked for now, its
	 * lock stays as a note to do so. */
	swept = image_orphans(store, true, NULL, NULL, err);
	if (swept < 0 && swept != -EWOULDBLOCK)
		return swept;
	for (size_t i = 0; rc == 0 && dead[i] != NULL; i++)
		rc = remove_dead(ingest_fd, dead[i], swept == 0, err);
	return rc < 0 ? rc : (int)strv_len(dead);
}

int image_store_lock(struct image_store *store, struct error *err)
{
	enum { LOOK_AGAIN_MS = 20 };

	for (;;) {
		int rc = file_lock(store->root_fd, "images.lock", FILE_LOCK_SHARED, false);

		if (rc != -EWOULDBLOCK)
			return rc < 0 ? fail(err, rc, "lock the image store") : rc;
		rc = interrupt_check(err);
		if (rc < 0)
			return rc;
		interrupt_sleep(LOOK_AGAIN_MS);
	}
}

static int begin(struct image_session *session, struct error *err)
{
	struct image_store *store = session->store;
	own_fd int ingest_fd = -1, layers_fd = -1;
	own_mem char *lock_name = NULL;
	int rc = image_store_blobs_fd(store, err);

	if (rc < 0)
		return rc;
	layers_fd = dir_open(store->root_fd, "layers", 0700, err);
	if (layers_fd < 0)
		return layers_fd;
	ingest_fd = dir_open(store->root_fd, "ingest", 0700, err);
	if (ingest_fd < 0)
		return ingest_fd;
	rc = image_store_lock(store, err);
	if (rc < 0)
		return rc;
	session->store_lock_fd = rc;
	random_hex(session->name, 8);
	lock_name = str_format("%s%s", session->name, lock_suffix);
	rc = file_lock(ingest_fd, lock_name, FILE_LOCK_EXCLUSIVE, true);
	if (rc < 0)
		return fail(err, rc, "lock ingest/%s", lock_name);
	session->lock_fd = rc;
	session->dir_fd = dir_open(ingest_fd, session->name, 0700, err);
	return session->dir_fd < 0 ? session->dir_fd : 0;
}

int image_session_begin(struct image_store *store, struct image_session *ret, struct error *err)
{
	int rc = interrupt_check(err);

	if (rc < 0)
		return rc;
	rc = image_session_recover(store, err);
	if (rc < 0)
		return refuse(err, rc, "clear away what an earlier command left");
	*ret = (struct image_session){
		.store = store, .store_lock_fd = -1, .lock_fd = -1, .dir_fd = -1};
	rc = begin(ret, err);
	if (rc < 0)
		image_session_end(ret);
	return rc < 0 ? refuse(err, rc, "prepare the image store") : 0;
}

void image_session_end(struct image_session *session)
{
	own_fd int ingest_fd = -1;

	if (session->store == NULL)
		return;
	fd_close(&session->dir_fd);
	ingest_fd = openat(session->store->root_fd, "ingest", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* What cannot be removed now the next command removes, as after a crash. */
	if (ingest_fd >= 0 && session->lock_fd >= 0 &&
	    tree_remove(ingest_fd, session->name, NULL) == 0) {
		own_mem char *lock_name = str_format("%s%s", session->name, lock_suffix);

		unlinkat(ingest_fd, lock_name, 0);
	}
	fd_close(&session->lock_fd);
	fd_close(&session->store_lock_fd);
	session->store = NULL;
	session->name[0] = '\0';
}

int image_session_note(struct image_store *store, char name[static 17], struct error *err)
{
	own_fd int ingest_fd = dir_open(store->root_fd, "ingest", 0700, err);
	own_mem char *lock_name = NULL;
	own_fd int fd = -1;
	int rc;

	if (ingest_fd < 0)
		return ingest_fd;
	random_hex(name, 8);
	lock_name = str_format("%s%s", name, lock_suffix);
	fd = openat(ingest_fd, lock_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(err, -errno, "create ingest/%s", lock_name);
	rc = dir_sync(ingest_fd);
	return rc < 0 ? fail(err, rc, "sync the directory ingest") : 0;
}

void image_session_unnote(struct image_store *store, const char *name)
{
	own_mem char *path = str_format("ingest/%s%s", name, lock_suffix);

	if (unlinkat(store->root_fd, path, 0) < 0)
		return;
}

int image_session_file(struct image_session *session, char name[static 17], struct error *err)
{
	int fd;

	random_hex(name, 8);
	fd = openat(session->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? fail(err, -errno, "create a temporary file in the image store") : fd;
}

int image_session_keep(struct image_session *session, int fd, const char *name,
		       const struct digest *digest, struct error *err)
{
	const char *directory = digest_algorithm_name(digest);
	own_fd int blobs_fd = dir_open(session->store->blobs_fd, directory, 0700, err);
	int rc = 0;

	if (blobs_fd < 0)
		return blobs_fd;
	if (fsync(fd) < 0)
		return fail(err, -errno, "sync the blob %s", digest->text);
	if (renameat(session->dir_fd, name, blobs_fd, digest_hex(digest)) < 0)
		return fail(err, -errno, "name the blob %s", digest->text);
	rc = dir_sync(blobs_fd);
	return rc < 0 ? fail(err, rc, "sync the directory of the blobs") : 0;
}
