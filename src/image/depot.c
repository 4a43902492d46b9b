/*
 * depot: see depot.h. A directory's files appear under their names when they are complete; its index is
 * replaced as a whole, by one writer at a time.
 */
#include "image/depot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "image/referrers.h"
#include "image/registries.h"

enum { INDEX_MAX = 16 << 20, SHOWN_NAMES = 5 };

static const char layout_text[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
static const char ref_name[] = "org.opencontainers.image.ref.name";
/* What such a name is made of, by the OCI image specification ("Pre-Defined Annotation Keys"). */
static const char tag_characters[] =
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:@/+";

struct depot {
	/* A registry's. */
	struct registry *registry;
	struct registry_endpoint endpoint;
	/* A directory's. */
	int dir_fd;
	char *dir;
	char unfinished
		[24]; /* what names of our unfinished files begin with; "" if there are none */
	char *which;
};

struct depot_blob {
	struct depot *depot;
	struct registry_upload *upload;
	int fd;
	char name[64]; /* of the unfinished file */
};

/* Processes that were killed in the middle of a blob have left it. */
static void remove_unfinished(struct depot *d)
{
	own_fd int fd = openat(d->dir_fd, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 3));
	const struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (str_after(entry->d_name, d->unfinished) != NULL)
			unlinkat(fd, entry->d_name, 0);
}

void depot_close(struct depot *d)
{
	if (d == NULL)
		return;
	if (d->unfinished[0] != '\0')
		remove_unfinished(d);
	registry_close(d->registry);
	fd_close(&d->dir_fd);
	free(d->dir);
	free(d->which);
	free(d);
}

/* What the first colon is between, as others read it too: the tag may be a whole name, with colons of its
 * own, as "save" writes them. */
static int split_directory(struct depot *d, const char *text, struct error *err)
{
	const char *colon = strchr(text, ':');
	const char *tag = colon ? colon + 1 : NULL;

	d->dir = str_copy_n(text, strcspn(text, ":"));
	if (tag == NULL)
		return 0;
	if (*tag == '\0' || strlen(tag) >= REFERENCE_TEXT_MAX ||
	    strspn(tag, tag_characters) < strlen(tag))
		return hint(
			err,
			refuse(err, -EINVAL, "\"%.100s\" cannot be a tag in an OCI layout", tag),
			"oci:DIR[:TAG]; the directory's name may have no colon");
	d->which = str_copy(tag);
	return 0;
}

/* "oci:DIR[:TAG]" without "oci:". */
static int open_directory(struct depot *d, const char *text, enum registry_access access,
			  struct error *err)
{
	own_mem char *layout = NULL;
	own_fd int blobs = -1;
	size_t len;
	int rc = split_directory(d, text, err);

	if (rc < 0)
		return rc;
	if (access == REGISTRY_PULL) {
		d->dir_fd = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (d->dir_fd < 0)
			return fail(err, -errno, "open the directory %s", d->dir);
		rc = file_read(d->dir_fd, "oci-layout", 4096, &layout, &len, NULL);
		return rc < 0 ? refuse(err, -ENOENT, "%s holds no OCI layout", d->dir) : 0;
	}
	d->dir_fd = dir_open(AT_FDCWD, d->dir, 0755, err);
	if (d->dir_fd < 0)
		return d->dir_fd;
	blobs = dir_open(d->dir_fd, "blobs", 0755, err);
	if (blobs < 0)
		return blobs;
	strcpy(d->unfinished, ".berth-");
	random_hex(d->unfinished + strlen(d->unfinished), 6);
	return file_write(d->dir_fd, "oci-layout", layout_text, strlen(layout_text), 0644,
			  FILE_WRITE_DURABLE, err);
}

static int open_registry(struct depot *d, const char *text, enum registry_access access,
			 const struct image_remote *remote, struct error *err)
{
	own_registry_candidates struct registry_candidates places = {0};
	const struct registry_candidate *c;
	struct reference reference;
	int rc = reference_parse(text, &reference, err);

	if (rc < 0)
		return rc;
	/* A name that is written to is not looked for. */
	if (access == REGISTRY_PUSH)
		reference.short_name = false;
	rc = registries_resolve(&reference, NULL, &places, err);
	if (rc < 0)
		return rc;
	c = &places.items[0];
	/* The place itself, which is the last: mirrors are for pulling. */
	d->endpoint = c->endpoints[c->endpoints_count - 1];
	d->which = str_copy(reference_has_digest(&c->reference) ? c->reference.digest.text
								: c->reference.tag);
	return registry_open(d->endpoint.registry, d->endpoint.repository, d->endpoint.insecure,
			     access, remote, &d->registry, err);
}

/* Other places where images are, by the names that skopeo and podman have for them. */
static int refuse_others(const char *text, struct error *err)
{
	static const char *const others[] = {
		"docker-archive:",     "oci-archive:", "docker-daemon:",
		"containers-storage:", "dir:/",        "dir:."};

	for (size_t i = 0; i < array_size(others); i++)
		if (str_after(text, others[i]) != NULL)
			return hint(err,
				    refuse(err, -ENOTSUP,
					   "it is neither at a registry nor an OCI layout "
					   "directory (oci:DIR[:TAG])"),
				    "archives are for: berth load, berth save");
	return 0;
}

int depot_open(const char *text, enum registry_access access, const struct image_remote *remote,
	       struct depot **ret, struct error *err)
{
	own_depot struct depot *d = mem_new(sizeof(*d));
	const char *dir = str_after(text, "oci:"), *name = str_after(text, "docker://");
	int rc;

	d->dir_fd = -1;
	rc = refuse_others(text, err);
	if (rc == 0)
		rc = dir ? open_directory(d, dir, access, err)
			 : open_registry(d, name ? name : text, access, remote, err);
	if (rc < 0)
		return rc;
	*ret = take(d);
	return 0;
}

int depot_reconnect(struct depot *d, struct error *err)
{
	return d->registry ? registry_reconnect(d->registry, err) : 0;
}

const char *depot_which(const struct depot *d)
{
	return d->which;
}

/* --- directories ----------------------------------------------------------------------------------- */

static char *blob_path(const struct digest *digest)
{
	return str_format("blobs/%s", digest_path(digest).text);
}

/* The manifests of index.json; an empty array if there is no such file yet. */
static int read_index(const struct depot *d, json_t **ret, struct error *err)
{
	own_json json_t *index = NULL;
	json_t *list;
	int rc = json_read_file(d->dir_fd, "index.json", INDEX_MAX, &index, err);

	if (rc == -ENOENT) {
		error_clear(err);
		*ret = json_array();
		return 0;
	}
	if (rc < 0)
		return rc;
	list = json_object_get(index, "manifests");
	*ret = json_is_array(list) ? json_incref(list) : json_array();
	return 0;
}

static const char *name_of(const json_t *descriptor)
{
	return json_string_value(
		json_object_get(json_object_get(descriptor, "annotations"), ref_name));
}

/* Whether what was asked for means the same image as the name in the layout: app:1 is written out as
 * docker.io/library/app:1 there. */
static bool same_name(const char *name, const char *which)
{
	struct reference a, b;
	char whole_a[REFERENCE_TEXT_MAX], whole_b[REFERENCE_TEXT_MAX];

	if (name == NULL || strpbrk(which, ":/") == NULL || reference_parse(name, &a, NULL) < 0 ||
	    reference_parse(which, &b, NULL) < 0)
		return false;
	reference_format(&a, whole_a);
	reference_format(&b, whole_b);
	return str_eq(whole_a, whole_b);
}

/* The digest that a tag stands for. */
static int find_tag(const struct depot *d, const char *which, struct digest *ret, struct error *err)
{
	own_json json_t *list = NULL;
	own_strv char **names = NULL;
	const char *found = NULL;
	int rc = read_index(d, &list, err);

	if (rc < 0)
		return rc;
	if (which == NULL && json_array_size(list) > 1)
		return hint(
			err,
			refuse(err, -EINVAL, "%s holds %zu images", d->dir, json_array_size(list)),
			"name one of its tags: oci:%s:TAG", d->dir);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *entry = json_array_get(list, i);

		if (which == NULL || str_eq(name_of(entry), which))
			found = json_string_value(json_object_get(entry, "digest"));
		else if (found == NULL && same_name(name_of(entry), which))
			found = json_string_value(json_object_get(entry, "digest"));
		if (name_of(entry) != NULL && strv_len(names) < SHOWN_NAMES)
			strv_push(&names, name_of(entry));
	}
	if (found == NULL) {
		own_mem char *held = strv_join(names, ", ");

		rc = refuse(err, -ENOENT, "%s holds no image%s%s", d->dir, which ? " " : "",
			    which ? which : "");
		return str_empty(held) ? rc : hint(err, rc, "it holds: %s", held);
	}
	return digest_parse(found, ret, err);
}

static int read_manifest(struct depot *d, const char *which, char **ret_text, size_t *ret_len,
			 char **ret_type, struct digest *ret_digest, struct error *err)
{
	own_mem char *path = NULL, *text = NULL;
	own_json json_t *document = NULL;
	struct digest digest, is;
	const char *type;
	size_t len;
	int rc = 0;

	if (which == NULL || digest_parse(which, &digest, NULL) < 0)
		rc = find_tag(d, which, &digest, err);
	if (rc < 0)
		return rc;
	path = blob_path(&digest);
	rc = file_read(d->dir_fd, path, MANIFEST_SIZE_MAX, &text, &len, err);
	if (rc == 0)
		rc = json_parse(text, len, path, &document, err);
	if (rc < 0)
		return rc;
	is = digest_of_like(&digest, text, len);
	if (!digest_eq(&is, &digest))
		return refuse(err, -EBADMSG, "%s/%s has the digest %s", d->dir, path, is.text);
	type = json_string_value(json_object_get(document, "mediaType"));
	if (type == NULL)
		type = json_object_get(document, "manifests") ? MEDIA_OCI_INDEX
							      : MEDIA_OCI_MANIFEST;
	*ret_type = str_copy(type);
	*ret_text = take(text);
	*ret_len = len;
	*ret_digest = digest;
	return 0;
}

static int get_tagged(void *from, const char *tag, char **ret_text, size_t *ret_len,
		      struct error *err)
{
	own_mem char *type = NULL;
	struct digest digest;

	return read_manifest(from, tag, ret_text, ret_len, &type, &digest, err);
}

/* The directory for blobs with the digest's algorithm. */
static int make_directory(struct depot *d, const struct digest *digest, struct error *err)
{
	own_mem char *path = str_format("blobs/%s", digest_algorithm_name(digest));
	own_fd int fd = dir_open(d->dir_fd, path, 0755, err);

	return fd < 0 ? fd : 0;
}

static int put_file(struct depot *d, const void *data, size_t len, const struct digest *digest,
		    struct error *err)
{
	own_mem char *path = blob_path(digest);
	int rc = make_directory(d, digest, err);

	if (rc < 0)
		return rc;
	return file_write(d->dir_fd, path, data, len, 0644, FILE_WRITE_DURABLE, err);
}

/* Puts the descriptor into index.json; a tag that is there moves. */
static int put_in_index(struct depot *d, const struct digest *digest, const char *type, size_t len,
			const char *tag, struct error *err)
{
	own_json json_t *list = NULL, *index = json_object();
	json_t *entry;
	int rc = read_index(d, &list, err);

	if (rc < 0)
		return rc;
	entry = json_object();
	json_set_string(entry, "mediaType", type);
	json_set_string(entry, "digest", digest->text);
	json_object_set_new(entry, "size", json_integer((json_int_t)len));
	if (tag != NULL)
		json_object_set_new(entry, "annotations", json_pack("{ss}", ref_name, tag));
	for (size_t i = json_array_size(list); i-- > 0;) {
		const json_t *old = json_array_get(list, i);

		if (tag != NULL ? str_eq(name_of(old), tag)
				: name_of(old) == NULL &&
					  str_eq(json_string_value(json_object_get(old, "digest")),
						 digest->text))
			json_array_remove(list, i);
	}
	json_array_append_new(list, entry);
	json_object_set_new(index, "schemaVersion", json_integer(2));
	json_set_string(index, "mediaType", MEDIA_OCI_INDEX);
	json_object_set(index, "manifests", list);
	return json_write_file(d->dir_fd, "index.json", index, 0644, err);
}

/* In a directory, what refers to a manifest stands in the index with its subject's tag, as registries
 * have it that do not know better. */
static int put_referrer(struct depot *d, const struct depot_manifest *m, struct error *err)
{
	own_mem char *tag = referrers_tag(m->subject, NULL), *text = NULL;
	const char *which = json_string_value(json_object_get(m->descriptor, "digest"));
	own_json json_t *list = NULL;
	struct digest digest;
	int rc = referrers_list(get_tagged, d, m->subject, &list, err);

	if (rc < 0 || referrers_find(list, which) < json_array_size(list))
		return rc;
	json_array_append(list, m->descriptor);
	text = referrers_format(list);
	digest = digest_of(text, strlen(text));
	rc = put_file(d, text, strlen(text), &digest, err);
	return rc < 0 ? rc : put_in_index(d, &digest, MEDIA_OCI_INDEX, strlen(text), tag, err);
}

/* Both lists are read, changed and written: by one at a time. */
static int put_in_directory(struct depot *d, const struct depot_manifest *m, struct error *err)
{
	own_fd int lock = file_lock(d->dir_fd, ".berth-lock", FILE_LOCK_EXCLUSIVE, true);
	int rc;

	if (lock < 0)
		return fail(err, lock, "lock %s", d->dir);
	rc = put_file(d, m->text, m->len, &m->digest, err);
	if (rc == 0 && m->subject != NULL)
		rc = put_referrer(d, m, err);
	if (rc == 0 && m->name != NULL)
		rc = put_in_index(d, &m->digest, m->type, m->len, m->name, err);
	unlinkat(d->dir_fd, ".berth-lock", 0);
	return rc;
}

/* --- both ------------------------------------------------------------------------------------------ */

int depot_manifest(struct depot *d, const char *which, char **ret_text, size_t *ret_len,
		   char **ret_type, struct digest *ret_digest, struct error *err)
{
	return d->registry ? registry_manifest(d->registry, which, ret_text, ret_len, ret_type,
					       ret_digest, err)
			   : read_manifest(d, which, ret_text, ret_len, ret_type, ret_digest, err);
}

int depot_referrers(struct depot *d, const struct digest *subject, json_t **ret, struct error *err)
{
	return d->registry ? registry_referrers(d->registry, subject, NULL, ret, err)
			   : referrers_list(get_tagged, d, subject, ret, err);
}

int depot_has_blob(struct depot *d, const struct digest *digest, struct error *err)
{
	own_mem char *path = NULL;

	if (d->registry != NULL)
		return registry_has_blob(d->registry, digest, err);
	path = blob_path(digest);
	return faccessat(d->dir_fd, path, F_OK, 0) == 0;
}

int depot_read_blob(struct depot *d, const struct digest *digest, uint64_t size,
		    image_bytes_fn *out, void *context, struct error *err)
{
	own_mem char *path = NULL, *chunk = NULL;
	own_fd int fd = -1;
	enum { CHUNK = 256 << 10 };

	if (d->registry != NULL)
		return registry_blob(d->registry, digest, size, out, context, err);
	path = blob_path(digest);
	fd = openat(d->dir_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fail(err, -errno, "open %s/%s", d->dir, path);
	chunk = mem_new(CHUNK);
	for (;;) {
		ssize_t n = fd_read_full(fd, chunk, CHUNK);
		int rc;

		if (n <= 0)
			return n < 0 ? fail(err, (int)n, "read %s/%s", d->dir, path) : 0;
		rc = out(chunk, (size_t)n, context, err);
		if (rc < 0)
			return rc;
	}
}

int depot_take_blob(struct depot *d, const struct depot *from, const struct digest *digest,
		    struct error *err)
{
	if (d->registry == NULL || from->registry == NULL ||
	    !str_eq(d->endpoint.registry, from->endpoint.registry))
		return 0;
	return registry_mount(d->registry, digest, from->endpoint.repository, err);
}

int depot_blob_begin(struct depot *d, struct depot_blob **ret, struct error *err)
{
	own_depot_blob struct depot_blob *b = mem_new(sizeof(*b));
	int rc = 0;

	b->depot = d;
	b->fd = -1;
	if (d->registry != NULL) {
		rc = registry_upload_begin(d->registry, &b->upload, err);
	} else {
		snprintf(b->name, sizeof(b->name), "blobs/%s", d->unfinished);
		random_hex(b->name + strlen(b->name), 8);
		b->fd = openat(d->dir_fd, b->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (b->fd < 0)
			rc = fail(err, -errno, "create a file in %s", d->dir);
	}
	if (rc < 0)
		return rc;
	*ret = take(b);
	return 0;
}

int depot_blob_add(struct depot_blob *b, const void *data, size_t len, struct error *err)
{
	int rc;

	if (b->upload != NULL)
		return registry_upload_add(b->upload, data, len, err);
	rc = fd_write_full(b->fd, data, len);
	return rc < 0 ? fail(err, rc, "write to %s", b->depot->dir) : 0;
}

int depot_blob_finish(struct depot_blob *b, const struct digest *digest, struct error *err)
{
	own_mem char *path = NULL;
	int rc;

	if (b->upload != NULL)
		return registry_upload_finish(b->upload, digest, err);
	path = blob_path(digest);
	rc = make_directory(b->depot, digest, err);
	if (rc < 0)
		return rc;
	if (fsync(b->fd) < 0)
		return fail(err, -errno, "write to %s", b->depot->dir);
	if (renameat(b->depot->dir_fd, b->name, b->depot->dir_fd, path) < 0)
		return fail(err, -errno, "create %s/%s", b->depot->dir, path);
	b->name[0] = '\0';
	return 0;
}

void depot_blob_close(struct depot_blob *b)
{
	if (b == NULL)
		return;
	registry_upload_close(b->upload);
	if (b->fd >= 0 && b->name[0] != '\0')
		unlinkat(b->depot->dir_fd, b->name, 0);
	fd_close(&b->fd);
	free(b);
}

/* In a registry: by its digest, among what refers to its subject, under its name. */
static int put_in_registry(struct registry *r, const struct depot_manifest *m, struct error *err)
{
	struct digest there;
	int rc = 0;

	if (m->subject != NULL)
		rc = registry_put_referrer(r, m->subject, m->type, m->text, m->len, m->descriptor,
					   err);
	else if (m->name == NULL)
		rc = registry_put_manifest(r, m->digest.text, m->type, m->text, m->len, err);
	if (rc < 0 || m->name == NULL)
		return rc;
	return registry_tag_manifest(r, m->name, m->type, m->text, m->len, &m->digest, &there, err);
}

int depot_put_manifest(struct depot *d, const struct depot_manifest *m, struct error *err)
{
	return d->registry ? put_in_registry(d->registry, m, err) : put_in_directory(d, m, err);
}
