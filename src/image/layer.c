/*
 * layer: the writer, common to all formats, and what is done with complete layers; see layer.h. Using
 * them is in layer_use.c.
 */
#include "image/layer_priv.h"
#include "image/layer_recipe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

/* In order of preference. */
static const struct layer_format *const layer_formats[] = {&layer_erofs, &layer_directory};

const struct layer_format *layer_format_find(const char *name)
{
	for (size_t i = 0; i < array_size(layer_formats); i++)
		if (str_eq(layer_formats[i]->name, name))
			return layer_formats[i];
	return NULL;
}

const char *layer_format_name(const struct layer_format *format)
{
	return format->name;
}

/* --- writing --- */

struct layer_writer {
	struct tar_reader *reader;
	struct layer_build build;
};

int layer_writer_begin(int layers_fd, const struct layer_format *format, struct layer_writer **ret,
		       struct error *err)
{
	struct layer_writer *w = mem_new(sizeof(*w));
	int rc;

	build_init(&w->build, format);
	rc = format->begin(layers_fd, &w->build.tree, &w->build.body, err);
	if (rc < 0) {
		layer_writer_close(w);
		return rc;
	}
	w->reader = tar_reader_create(&w->build.sink);
	*ret = w;
	return 0;
}

bool layer_writer_keep_tar(struct layer_writer *w)
{
	if (!w->build.format->keeps_recipe)
		return false;
	w->build.recipe = recipe_create();
	w->build.body->recipe = w->build.recipe;
	return true;
}

int layer_writer_add(struct layer_writer *w, const void *data, size_t len, struct error *err)
{
	int rc;

	if (w->build.recipe != NULL)
		recipe_come(w->build.recipe, data, len);
	rc = tar_reader_add(w->reader, data, len, err);
	if (w->build.recipe != NULL && rc == 0)
		recipe_pass(w->build.recipe);
	return rc;
}

static void count_entries(const struct layer_tree *t, struct layer_info *info)
{
	for (uint32_t i = 1; i < t->node_count; i++) {
		info->entries += t->nodes[i].kind != NODE_DEAD;
		info->whiteouts += t->nodes[i].kind == NODE_WHITEOUT;
	}
	for (uint32_t i = 0; i < t->dir_count; i++)
		info->whiteouts += t->dirs[i].opaque && tree_kind(t, t->dirs[i].node) == NODE_DIR;
}

int layer_writer_finish(struct layer_writer *w, const struct digest *diffid, struct layer_info *ret,
			struct error *err)
{
	struct layer_info info = {
		.format = w->build.format,
		.unpacked_bytes = w->build.unpacked_bytes,
	};
	int rc = tar_reader_finish(w->reader, err);

	if (rc < 0)
		return rc;
	count_entries(&w->build.tree, &info);
	rc = w->build.format->finish(w->build.body, diffid, &info, err);
	if (rc >= 0)
		*ret = info;
	return rc < 0 ? rc : 0;
}

void layer_writer_close(struct layer_writer *w)
{
	if (w == NULL)
		return;
	tar_reader_destroy(w->reader);
	if (w->build.body != NULL)
		w->build.format->discard(w->build.body);
	build_release(&w->build);
	free(w);
}

/* --- complete layers --- */

/* The format of a layer that is there, or NULL. */
static const struct layer_format *find_layer(int layers_fd, const struct digest *diffid,
					     char name[static LAYER_FILE_NAME_MAX])
{
	for (size_t i = 0; i < array_size(layer_formats); i++) {
		layer_file_name(name, layer_formats[i], diffid);
		if (faccessat(layers_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return layer_formats[i];
	}
	return NULL;
}

int layer_stat(int layers_fd, const struct digest *diffid, struct layer_info *ret,
	       struct error *err)
{
	char name[LAYER_FILE_NAME_MAX];
	const struct layer_format *format = find_layer(layers_fd, diffid, name);
	uint64_t size = 0;
	int rc;

	if (format == NULL)
		return 0;
	rc = format->size(layers_fd, name, &size, err);
	if (rc < 0)
		return rc;
	*ret = (struct layer_info){.format = format, .size_bytes = size};
	return 1;
}

/* True if `name` is that of a complete layer. */
static bool parse_name(const char *name, struct digest *ret)
{
	for (size_t i = 0; i < array_size(layer_formats); i++)
		if (str_ends_with(name, layer_formats[i]->suffix) &&
		    digest_from_hex(name, strlen(name) - strlen(layer_formats[i]->suffix), ret))
			return true;
	return false;
}

int layer_list(int layers_fd, layer_list_fn *fn, void *data, struct error *err)
{
	int fd = openat(layers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (dir == NULL)
		return fail(err, -errno, "open the directory of layers");
	while ((errno = 0, entry = readdir(dir)) != NULL) {
		struct layer_info info;
		struct digest diffid;
		int rc;

		if (!parse_name(entry->d_name, &diffid))
			continue;
		rc = layer_stat(layers_fd, &diffid, &info, err);
		/* Both formats of one layer would be told twice. */
		if (rc > 0 && !str_ends_with(entry->d_name, info.format->suffix))
			continue;
		if (rc > 0)
			rc = fn(&diffid, &info, data, err);
		if (rc != 0)
			return rc;
	}
	return errno != 0 ? fail(err, -errno, "read the directory of layers") : 0;
}

int layer_verify(int layers_fd, const struct digest *diffid, const struct layer_info *expected,
		 struct error *err)
{
	char name[LAYER_FILE_NAME_MAX];
	const struct layer_format *format = find_layer(layers_fd, diffid, name);
	struct digest digest = {0};
	uint64_t size = 0;
	int rc;

	if (format == NULL)
		return refuse(err, -ENOENT, "layer %s is not there", diffid->text);
	rc = format->size(layers_fd, name, &size, err);
	if (rc < 0)
		return rc;
	if (format->mount != NULL && size != expected->size_bytes)
		return refuse(err, -EBADMSG, "layer %s has %llu bytes instead of %llu",
			      diffid->text, (unsigned long long)size,
			      (unsigned long long)expected->size_bytes);
	rc = format->digest(layers_fd, name, &digest, err);
	if (rc < 0)
		return rc;
	if (!digest_eq(&digest, &expected->digest))
		return refuse(err, -EBADMSG,
			      "layer %s has been altered: its digest is %s instead of %s",
			      diffid->text, digest.text, expected->digest.text);
	return 0;
}

int layer_remove_files(int layers_fd, const struct digest *diffid, struct error *err)
{
	for (size_t i = 0; i < array_size(layer_formats); i++) {
		char name[LAYER_FILE_NAME_MAX];
		int rc;

		layer_file_name(name, layer_formats[i], diffid);
		rc = layer_formats[i]->unlink(layers_fd, name, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int layer_open(int layers_fd, const struct digest *diffid, struct error *err)
{
	char name[LAYER_FILE_NAME_MAX];
	const struct layer_format *format = find_layer(layers_fd, diffid, name);
	int fd;

	if (format == NULL)
		return refuse(err, -ENOENT, "layer %s is not there", diffid->text);
	if (format->mount != NULL)
		return format->mount(layers_fd, name, err);
	fd = openat(layers_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? fail(err, -errno, "open layer %s", diffid->text) : fd;
}

bool layer_must_mount(int layers_fd, const struct digest *diffid)
{
	char name[LAYER_FILE_NAME_MAX];
	const struct layer_format *format = find_layer(layers_fd, diffid, name);

	return format != NULL && format->mount != NULL;
}

const struct layer_format *layer_format_best(int layers_fd)
{
	struct layer_tree tree;
	struct layer_body *body = NULL;
	struct layer_info info = {0};
	const struct digest diffid = digest_of("", 0);
	const struct layer_format *best = &layer_directory;

	/* What a layer file without a name is mounted as tells all there is to know: the file
	 * system, the right to mount it, and the way (file or loop device). */
	tree_init(&tree);
	if (layer_erofs.begin(layers_fd, &tree, &body, NULL) >= 0) {
		own_fd int fd = -1;

		if (erofs_complete(body, &diffid, &info, NULL) >= 0)
			fd = layer_mount_file(layers_fd, body->name, NULL);
		if (fd >= 0)
			best = &layer_erofs;
		layer_erofs.discard(body);
	}
	tree_release(&tree);
	return best;
}
