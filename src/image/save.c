/*
 * save: images as archives and layout directories.
 *
 * An OCI archive holds the blobs as they are; what is not here is packed anew (repack.h). A docker archive
 * holds plain tars: the layer's own if it holds it, else the blobs are unpacked on their way out, once to
 * learn the length (which a tar says first).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/archive.h"
#include "image/blob.h"
#include "image/layer.h"
#include "image/manifest.h"
#include "image/repack.h"
#include "image/session.h"
#include "image/store_priv.h"
#include "tar/write.h"

enum { FILE_MODE = 0644 };

/* Where files go: into a tar, or below a directory. */
struct target {
	struct tar_writer tar;
	int fd;     /* of the tar, or of the file that is being written */
	int dir_fd; /* -1 for a tar */
	char **written;
};

struct save {
	struct image_store *store;
	struct target target;
	json_t *list; /* manifests of index.json, or manifest.json itself */
};

static int put_bytes(const void *data, size_t len, void *context, struct error *err)
{
	const struct target *t = context;
	int rc = fd_write_full(t->fd, data, len);

	return rc < 0 ? fail(err, rc, "write the archive") : 0;
}

/* The content of the file that begin_file has begun. */
static int put_data(const void *data, size_t len, void *context, struct error *err)
{
	struct target *t = context;

	return t->dir_fd < 0 ? tar_write_data(&t->tar, data, len, err)
			     : put_bytes(data, len, t, err);
}

static int add_packed(const void *data, size_t len, void *context, struct error *err)
{
	return decompressor_add(context, data, len, err);
}

static int unpack_blob(struct image_store *store, const struct digest *blob, image_bytes_fn *out,
		       void *context, struct error *err)
{
	own_decompressor struct decompressor *d = NULL;
	int rc;

	decompressor_create(out, context, &d);
	rc = image_blob_stream(store, blob, add_packed, d, err);
	return rc < 0 ? rc : decompressor_finish(d, err);
}

static int count_bytes(const void *data, size_t len, void *context, struct error *err)
{
	(void)data;
	(void)err;
	*(uint64_t *)context += len;
	return 0;
}

/* Begins the file `name`, whose content of `size` bytes follows with put_data. */
static int begin_file(struct target *t, const char *name, uint64_t size, struct error *err)
{
	const struct tar_entry entry = {
		.type = TAR_FILE, .path = name, .mode = FILE_MODE, .size = size};
	const char *slash = strrchr(name, '/');

	if (t->dir_fd < 0)
		return tar_write_entry(&t->tar, &entry, err);
	if (slash != NULL) {
		own_mem char *directory = str_copy_n(name, (size_t)(slash - name));
		own_fd int fd = dir_open(t->dir_fd, directory, 0755, err);

		if (fd < 0)
			return fd;
	}
	t->fd = openat(t->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		       FILE_MODE);
	return t->fd < 0 ? fail(err, -errno, "create %s", name) : 0;
}

static void end_file(struct target *t)
{
	if (t->dir_fd >= 0)
		fd_close(&t->fd);
}

/* 1 if that file has been written already; else notes it. */
static bool written(struct target *t, const char *name)
{
	if (strv_has(t->written, name))
		return true;
	strv_push(&t->written, name);
	return false;
}

static int put_text(struct target *t, const char *name, const char *text, struct error *err)
{
	size_t len = strlen(text);
	int rc;

	if (written(t, name))
		return 0;
	rc = begin_file(t, name, len, err);
	if (rc == 0)
		rc = put_data(text, len, t, err);
	end_file(t);
	return rc;
}

/* `size` bytes of a descriptor, which are the blob `digest`. */
static int put_blob_from(struct save *s, const struct digest *digest, int fd, uint64_t size,
			 struct error *err)
{
	own_mem char *name = str_format("blobs/%s", digest_path(digest).text);
	int rc;

	if (written(&s->target, name))
		return 0;
	rc = begin_file(&s->target, name, size, err);
	if (rc == 0)
		rc = image_fd_stream(fd, put_data, &s->target, err);
	end_file(&s->target);
	return rc;
}

static int put_blob(struct save *s, const struct digest *digest, struct error *err)
{
	own_fd int from = -1;
	uint64_t size;

	from = image_blob_open(s->store, digest, &size, err);
	return from < 0 ? from : put_blob_from(s, digest, from, size, err);
}

static int put_layer(struct save *s, const struct descriptor *named, const struct digest *diffid,
		     struct packed_layer *ret, struct error *err)
{
	own_packed_layer struct packed_layer packed = {.fd = -1};
	int rc = image_pack_layer(s->store, s->store->root_fd, named, diffid, &packed, err);

	if (rc == 0)
		rc = put_blob_from(s, &packed.digest, packed.fd, packed.size_bytes, err);
	if (rc < 0)
		return rc;
	*ret = packed;
	ret->fd = -1;
	return 0;
}

/* A manifest, and in *ret its digest, with the algorithm of `like`. */
static int put_manifest(struct save *s, const char *text, const struct digest *like,
			struct digest *ret, struct error *err)
{
	own_mem char *name = NULL;

	*ret = digest_of_like(like, text, strlen(text));
	name = str_format("blobs/%s", digest_path(ret).text);
	return put_text(&s->target, name, text, err);
}

/* The tar that a layer holds. -ENOENT, without text: it holds none. */
static int put_held_tar(struct save *s, const struct digest *diffid, const char *name,
			struct error *err)
{
	own_fd int fd = -1;
	uint64_t size;
	int rc = image_store_layers_fd(s->store, err);

	if (rc < 0)
		return rc;
	fd = layer_again_open(rc, diffid, &size, err);
	if (fd < 0)
		return fd;
	rc = begin_file(&s->target, name, size, err);
	if (rc == 0)
		rc = layer_again(fd, diffid, put_data, &s->target, err);
	end_file(&s->target);
	return rc;
}

/* A layer as a plain tar, <diffid>.tar. */
static int put_tar(struct save *s, const struct digest *blob, const struct digest *diffid,
		   const char *name, struct error *err)
{
	uint64_t unpacked = 0;
	int rc;

	if (written(&s->target, name))
		return 0;
	rc = put_held_tar(s, diffid, name, err);
	if (rc != -ENOENT)
		return rc;
	rc = unpack_blob(s->store, blob, count_bytes, &unpacked, err);
	if (rc == 0)
		rc = begin_file(&s->target, name, unpacked, err);
	if (rc == 0)
		rc = unpack_blob(s->store, blob, put_data, &s->target, err);
	end_file(&s->target);
	return rc;
}

/* Reads the image's manifest from its blob. */
static int read_manifest(struct image_store *store, const struct image *image, struct manifest *ret,
			 char **ret_text, struct error *err)
{
	own_mem char *text = NULL;
	size_t len;
	int rc = image_blob_read(store, &image->manifest, MANIFEST_SIZE_MAX, &text, &len, err);

	if (rc == 0)
		rc = manifest_parse(text, len, NULL, ret, err);
	if (rc == 0 && ret->layers_count != image->layers_count)
		rc = refuse(err, -EBADMSG, "its manifest has %zu layers, its configuration %zu",
			    ret->layers_count, image->layers_count);
	if (rc == 0)
		*ret_text = take(text);
	return rc;
}

/* The layers of an image; the manifest's text is replaced if one of them became another blob. */
static int put_layers(struct save *s, const struct manifest *manifest, const struct image *image,
		      char **text, struct error *err)
{
	own_mem struct packed_layer *layers =
		mem_new_array(manifest->layers_count, sizeof(*layers));
	bool changed = false;
	char *packed;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < manifest->layers_count; i++) {
		rc = put_layer(s, &manifest->layers[i], &image->layers[i], &layers[i], err);
		changed = changed || layers[i].changed;
	}
	if (rc < 0 || !changed)
		return rc;
	rc = image_pack_manifest(*text, strlen(*text), layers, manifest->layers_count, &packed,
				 err);
	if (rc < 0)
		return rc;
	free(*text);
	*text = packed;
	return 0;
}

/* One image into an OCI layout. */
static int save_oci(struct save *s, const struct image *image, struct error *err)
{
	own_manifest struct manifest manifest = {0};
	own_mem char *text = NULL;
	json_t *descriptor, *annotations;
	struct digest digest;
	int rc = read_manifest(s->store, image, &manifest, &text, err);

	if (rc == 0)
		rc = put_blob(s, &manifest.config.digest, err);
	if (rc == 0)
		rc = put_layers(s, &manifest, image, &text, err);
	if (rc == 0)
		rc = put_manifest(s, text, &image->manifest, &digest, err);
	if (rc < 0)
		return rc;
	descriptor = json_object();
	json_set_string(descriptor, "mediaType", manifest.media_type);
	json_set_string(descriptor, "digest", digest.text);
	json_object_set_new(descriptor, "size", json_integer((json_int_t)strlen(text)));
	if (image->name != NULL) {
		annotations = json_object();
		json_set_string(annotations, "io.containerd.image.name", image->name);
		json_set_string(annotations, "org.opencontainers.image.ref.name", image->name);
		json_object_set_new(descriptor, "annotations", annotations);
	}
	json_array_append_new(s->list, descriptor);
	return 0;
}

/* One image into a docker archive. */
static int save_docker(struct save *s, const struct image *image, struct error *err)
{
	own_manifest struct manifest manifest = {0};
	own_mem char *config_name = str_format("%s.json", digest_hex(&image->id)), *config = NULL;
	own_mem char *text = NULL;
	json_t *entry, *tags, *layers;
	size_t len;
	int rc = read_manifest(s->store, image, &manifest, &text, err);

	if (rc == 0)
		rc = image_blob_read(s->store, &image->id, CONFIG_SIZE_MAX, &config, &len, err);
	if (rc < 0)
		return rc;
	rc = put_text(&s->target, config_name, config, err);
	layers = json_array();
	for (size_t i = 0; rc == 0 && i < manifest.layers_count; i++) {
		own_mem char *name = str_format("%s.tar", digest_hex(&image->layers[i]));

		rc = put_tar(s, &manifest.layers[i].digest, &image->layers[i], name, err);
		json_array_append_new(layers, json_string(name));
	}
	entry = json_object();
	json_set_string(entry, "Config", config_name);
	tags = json_array();
	if (image->name != NULL)
		json_array_append_new(tags, json_string(image->name));
	json_object_set_new(entry, "RepoTags", tags);
	json_object_set_new(entry, "Layers", layers);
	json_array_append_new(s->list, entry);
	return rc;
}

static int save_all(struct save *s, char *const *names, enum image_archive format,
		    struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && names[i] != NULL; i++) {
		own_image struct image *image = NULL;

		rc = image_find(s->store, names[i], &image, err);
		if (rc == 0)
			rc = format == IMAGE_ARCHIVE_OCI ? save_oci(s, image, err)
							 : save_docker(s, image, err);
		if (rc < 0)
			return refuse(err, rc, "save %s", names[i]);
	}
	return rc;
}

static int finish_oci(struct save *s, struct error *err)
{
	own_json json_t *index = json_object();
	own_mem char *text = NULL;
	int rc;

	json_object_set_new(index, "schemaVersion", json_integer(2));
	json_set_string(index, "mediaType", MEDIA_OCI_INDEX);
	json_object_set(index, "manifests", s->list);
	text = json_text(index);
	rc = put_text(&s->target, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err);
	return rc < 0 ? rc : put_text(&s->target, "index.json", text, err);
}

/* Two names of one image become one entry with two tags, as docker writes it. */
static void merge_tags(json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *entry = json_array_get(list, i);
		json_t *config = json_object_get(entry, "Config");

		for (size_t k = json_array_size(list); --k > i;) {
			json_t *other = json_array_get(list, k);

			if (!json_equal(config, json_object_get(other, "Config")))
				continue;
			json_array_extend(json_object_get(entry, "RepoTags"),
					  json_object_get(other, "RepoTags"));
			json_array_remove(list, k);
		}
	}
}

static int finish_docker(struct save *s, struct error *err)
{
	own_mem char *text = NULL;

	merge_tags(s->list);
	text = json_text(s->list);
	return put_text(&s->target, "manifest.json", text, err);
}

/* The store lock shared: nothing is deleted while it is being read. */
static int save_locked(struct save *s, char *const *names, enum image_archive format,
		       struct error *err)
{
	own_fd int lock_fd = image_store_lock(s->store, err);
	int rc;

	if (lock_fd < 0)
		return lock_fd;
	s->list = json_array();
	s->target.tar = (struct tar_writer){.fn = put_bytes, .data = &s->target};
	rc = save_all(s, names, format, err);
	if (rc == 0)
		rc = format == IMAGE_ARCHIVE_OCI ? finish_oci(s, err) : finish_docker(s, err);
	if (rc == 0 && s->target.dir_fd < 0)
		rc = tar_write_end(&s->target.tar, err);
	json_decref(s->list);
	strv_free(s->target.written);
	return rc;
}

int image_save(struct image_store *store, char *const *names, enum image_archive format, int fd,
	       struct error *err)
{
	struct save save = {.store = store, .target = {.fd = fd, .dir_fd = -1}};

	return save_locked(&save, names, format, err);
}

int image_save_layout(struct image_store *store, const char *name, const char *dir,
		      struct error *err)
{
	own_mem char *copy = str_copy(name);
	char *names[] = {copy, NULL};
	own_fd int dir_fd = dir_open(AT_FDCWD, dir, 0755, err);
	struct save save = {.store = store, .target = {.fd = -1, .dir_fd = dir_fd}};

	if (dir_fd < 0)
		return dir_fd;
	return save_locked(&save, names, IMAGE_ARCHIVE_OCI, err);
}
