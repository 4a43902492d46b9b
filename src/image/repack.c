/* repack: see repack.h. */
#include "image/repack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/compress.h"
#include "image/layer.h"
#include "image/record.h"
#include "image/store_priv.h"

void packed_layer_release(struct packed_layer *packed)
{
	fd_close(&packed->fd);
}

/* A file that is gone when it is closed. */
static int nameless_file(int directory_fd, struct error *err)
{
	char name[32] = "pack-";
	int fd = openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	random_hex(name + strlen(name), 8);
	fd = openat(directory_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(err, -errno, "create a temporary file");
	unlinkat(directory_fd, name, 0);
	return fd;
}

struct packing {
	int fd;
	struct digest_state state;
	uint64_t size;
	struct compressor *compressor;
};

static int write_packed(const void *data, size_t len, void *context, struct error *err)
{
	struct packing *p = context;
	int rc = fd_write_full(p->fd, data, len);

	digest_add(&p->state, data, len);
	p->size += len;
	return rc < 0 ? fail(err, rc, "write a temporary file") : 0;
}

static int pack_tar(const void *data, size_t len, void *context, struct error *err)
{
	struct packing *p = context;

	return compressor_add(p->compressor, data, len, err);
}

/* The tar of the layer open as `layer_fd`, packed or plain, into `to`. */
static int pack(int layer_fd, const struct digest *diffid, const struct descriptor *named,
		bool plain, struct packing *to, struct error *err)
{
	own_compressor struct compressor *compressor = NULL;
	int rc;

	digest_begin(&to->state, &named->digest);
	if (plain)
		return layer_again(layer_fd, diffid, write_packed, to, err);
	rc = compressor_create(write_packed, to, &compressor, err);
	if (rc < 0)
		return rc;
	to->compressor = compressor;
	rc = layer_again(layer_fd, diffid, pack_tar, to, err);
	return rc < 0 ? rc : compressor_finish(compressor, err);
}

/* An error that says the layer can be had neither way. */
static int cannot_be_had(const struct digest *blob, struct error *err)
{
	return hint(err,
		    refuse(err, -ENOENT,
			   "the blob %s is not here, and its layer does not hold its tar",
			   blob->text),
		    "fetch the image again: berth pull");
}

int image_pack_layer(struct image_store *store, int directory_fd, const struct descriptor *named,
		     const struct digest *diffid, struct packed_layer *ret, struct error *err)
{
	bool plain = manifest_layer_compression(named->media_type) == COMPRESSION_NONE;
	own_packed_layer struct packed_layer packed = {.fd = -1, .digest = named->digest};
	own_fd int layer_fd = -1;
	struct packing packing;
	uint64_t size;
	int rc = image_have_blob(store, &named->digest, &packed.size_bytes, err);

	packed.compression = manifest_layer_compression(named->media_type);
	if (rc > 0) {
		packed.fd = image_blob_open(store, &named->digest, &packed.size_bytes, err);
		rc = packed.fd < 0 ? packed.fd : 0;
	} else if (rc == 0) {
		rc = image_store_layers_fd(store, err);
		layer_fd = rc < 0 ? rc : layer_again_open(rc, diffid, &size, err);
		if (layer_fd == -ENOENT)
			return cannot_be_had(&named->digest, err);
		packed.fd = layer_fd < 0 ? layer_fd : nameless_file(directory_fd, err);
		if (packed.fd < 0)
			return packed.fd;
		packing = (struct packing){.fd = packed.fd};
		rc = pack(layer_fd, diffid, named, plain, &packing, err);
		digest_end(&packing.state, &packed.digest);
		packed.size_bytes = packing.size;
		packed.compression = plain ? COMPRESSION_NONE : COMPRESSION_GZIP;
		packed.changed = !digest_eq(&packed.digest, &named->digest);
		if (rc == 0 && lseek(packed.fd, 0, SEEK_SET) < 0)
			rc = fail(err, -errno, "read a temporary file");
	}
	if (rc < 0)
		return rc;
	*ret = packed;
	packed.fd = -1;
	return 0;
}

/* The media type in the manifest's own family. */
static char *layer_type(const char *old, enum compression compression)
{
	if (str_after(old, MEDIA_DOCKER_LAYER) == NULL)
		return str_copy(manifest_layer_type(compression));
	return str_format("%s%s%s", MEDIA_DOCKER_LAYER, compression == COMPRESSION_NONE ? "" : ".",
			  compression == COMPRESSION_NONE ? "" : compression_name(compression));
}

/* What tools that fetch parts of layers have noted about where in the blob they are. */
static void drop_inside(json_t *descriptor)
{
	static const char *const prefixes[] = {"io.github.containers.zstd-chunked.",
					       "containerd.io/snapshot/stargz/",
					       "io.containers.estargz."};
	json_t *annotations = json_object_get(descriptor, "annotations");
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(annotations, next, key,
				 value) for (size_t i = 0; i < array_size(prefixes);
					     i++) if (str_after(key, prefixes[i]) != NULL)
	{
		json_object_del(annotations, key);
		break;
	}
	if (json_object_size(annotations) == 0)
		json_object_del(descriptor, "annotations");
}

int image_pack_manifest(const char *text, size_t len, const struct packed_layer *layers,
			size_t count, char **ret, struct error *err)
{
	own_json json_t *root = NULL;
	const json_t *list;
	int rc = json_parse(text, len, "the manifest", &root, err);

	if (rc < 0)
		return rc;
	list = json_object_get(root, "layers");
	for (size_t i = 0; i < count; i++) {
		json_t *descriptor = json_array_get(list, i);
		own_mem char *type = NULL;

		if (!layers[i].changed)
			continue;
		type = layer_type(json_string_value(json_object_get(descriptor, "mediaType")),
				  layers[i].compression);
		json_set_string(descriptor, "mediaType", type);
		json_set_string(descriptor, "digest", layers[i].digest.text);
		json_object_set_new(descriptor, "size",
				    json_integer((json_int_t)layers[i].size_bytes));
		drop_inside(descriptor);
	}
	*ret = json_text(root);
	return 0;
}
