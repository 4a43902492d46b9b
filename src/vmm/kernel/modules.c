/*
 * modules: which modules of a distribution's kernel a guest needs before it has a root file system, and
 * what they depend on.
 *
 * Packages bring no modules.dep (depmod makes it when they are installed), but each module names those
 * it needs in its section .modinfo, as NUL-terminated "key=value" texts: "depends" has names separated
 * by commas, "softdep" further ones ("pre: a b"). The order of loading is a depth-first walk.
 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#include "base/dylib.h"
#include "base/file.h"
#include "base/mem.h"
#include "vmm/kernel/kernel_priv.h"

enum { MODULE_SIZE_MAX = 64 << 20, DEPTH_MAX = 32 };

static const char *const wanted[] = {
	"virtio_pci",     "virtio_blk", "virtio_net",
	"virtio_console", "virtio_rng", "vmw_vsock_virtio_transport",
	"virtio_balloon", "virtiofs",   "overlay",
	"erofs",          "ext4",       "loop",
};

/* Where a module lies. */
struct module_file {
	char *name; /* with '_' for '-' */
	char *path;
};

struct collection {
	struct module_file *files;
	size_t count, capacity;
	char ***names; /* what has been added, in order */
	struct buf *archive;
	struct buf order;
};

static void collection_release(struct collection *c)
{
	for (size_t i = 0; i < c->count; i++) {
		free(c->files[i].name);
		free(c->files[i].path);
	}
	free(c->files);
	buf_release(&c->order);
}

/* The name of the module in a file such as "virtio-rng.ko.xz"; NULL: not a module. */
static char *module_name(const char *file)
{
	const char *end = strstr(file, ".ko");
	char *name;

	if (!end || (end[3] != '\0' && !str_eq(end + 3, ".xz") && !str_eq(end + 3, ".zst")))
		return NULL;
	name = str_copy_n(file, (size_t)(end - file));
	for (char *p = name; *p; p++)
		if (*p == '-')
			*p = '_';
	return name;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int find_files(const char *dir, struct collection *c, struct error *err)
{
	own_mem char *path = str_copy(dir);
	char *const roots[] = {path, NULL};
	FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
	FTSENT *entry;
	int rc;

	if (!tree)
		return fail(err, -errno, "read %s", dir);
	while (errno = 0, (entry = fts_read(tree)) != NULL) {
		char *name;

		if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR)
			break;
		if (entry->fts_info != FTS_F || !(name = module_name(entry->fts_name)))
			continue;
		c->files = mem_grow(c->files, c->count, &c->capacity, sizeof(*c->files));
		c->files[c->count++] =
			(struct module_file){.name = name, .path = str_copy(entry->fts_path)};
	}
	rc = entry ? -entry->fts_errno : -errno;
	fts_close(tree);
	if (rc < 0)
		return fail(err, rc, "read %s", dir);
	return c->count ? 0 : refuse(err, -ENOENT, "there are no kernel modules in %s", dir);
}

static const char *find_file(const struct collection *c, const char *name)
{
	for (size_t i = 0; i < c->count; i++)
		if (str_eq(c->files[i].name, name))
			return c->files[i].path;
	return NULL;
}

struct lzma_api {
	__typeof__(lzma_stream_buffer_decode) *decode;
};

/* The size of what comes out is not known beforehand: try with more and more. */
static int unpack_xz(const void *data, size_t size, char **ret, size_t *ret_size, struct error *err)
{
	static const struct dylib_symbol symbols[] = {
		DYLIB_SYMBOL(struct lzma_api, decode, "lzma_stream_buffer_decode"),
	};
	struct lzma_api api;
	lzma_ret result = LZMA_BUF_ERROR;
	int rc = dylib_load("liblzma.so.5", "liblzma5", symbols, array_size(symbols), &api, err);

	for (size_t room = size * 8 + 4096; rc == 0 && result == LZMA_BUF_ERROR; room *= 4) {
		own_mem char *out = room <= MODULE_SIZE_MAX ? mem_try(room) : NULL;
		uint64_t limit = 256 << 20;
		size_t in_at = 0, out_at = 0;

		if (!out)
			return -EFBIG;
		result = api.decode(&limit, 0, NULL, data, &in_at, size, (uint8_t *)out, &out_at,
				    room);
		*ret_size = out_at;
		if (result == LZMA_OK)
			*ret = take(out);
	}
	return rc == 0 && result != LZMA_OK ? -EBADMSG : rc;
}

static int unpack_zstd(const void *data, size_t size, char **ret, size_t *ret_size)
{
	unsigned long long room = ZSTD_getFrameContentSize(data, size);
	own_mem char *out = room <= MODULE_SIZE_MAX ? mem_try((size_t)room) : NULL;
	size_t got = out ? ZSTD_decompress(out, (size_t)room, data, size) : 0;

	if (!out)
		return -EFBIG;
	if (ZSTD_isError(got) || got != room)
		return -EBADMSG;
	*ret_size = got;
	*ret = take(out);
	return 0;
}

static int read_module(const char *path, char **ret, size_t *ret_size, struct error *err)
{
	own_mem char *packed = NULL;
	size_t size;
	int rc = file_read(AT_FDCWD, path, MODULE_SIZE_MAX, &packed, &size, err);

	if (rc < 0)
		return rc;
	if (str_ends_with(path, ".xz")) {
		rc = unpack_xz(packed, size, ret, ret_size, err);
	} else if (str_ends_with(path, ".zst")) {
		rc = unpack_zstd(packed, size, ret, ret_size);
	} else {
		*ret_size = size;
		*ret = take(packed);
	}
	return rc < 0 ? fail(err, rc, "unpack the module %s", path) : 0;
}

/* Section `i`; false if it is not in the file. */
static bool read_section(const uint8_t *data, size_t size, const Elf64_Ehdr *header, unsigned int i,
			 Elf64_Shdr *ret)
{
	if (header->e_shentsize != sizeof(*ret) || i >= header->e_shnum || header->e_shoff > size ||
	    (uint64_t)header->e_shnum * sizeof(*ret) > size - header->e_shoff)
		return false;
	memcpy(ret, data + header->e_shoff + i * sizeof(*ret), sizeof(*ret));
	return ret->sh_type == SHT_NOBITS ||
	       (ret->sh_offset <= size && ret->sh_size <= size - ret->sh_offset);
}

static const char *find_text(const char *texts, size_t size, const char *key)
{
	size_t key_len = strlen(key);

	for (const char *end = texts + size; texts < end;) {
		const char *stop = memchr(texts, 0, (size_t)(end - texts));

		if (!stop)
			return NULL;
		if ((size_t)(stop - texts) > key_len && texts[key_len] == '=' &&
		    memcmp(texts, key, key_len) == 0)
			return texts + key_len + 1;
		texts = stop + 1;
	}
	return NULL;
}

const char *kernel_modinfo(const void *data, size_t size, const char *key)
{
	const uint8_t *bytes = data;
	Elf64_Ehdr header;
	Elf64_Shdr names, section;

	if (size < sizeof(header))
		return NULL;
	memcpy(&header, bytes, sizeof(header));
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 ||
	    !read_section(bytes, size, &header, header.e_shstrndx, &names) ||
	    names.sh_type != SHT_STRTAB)
		return NULL;
	for (unsigned int i = 0; i < header.e_shnum; i++) {
		static const char wanted_name[] = ".modinfo";

		if (!read_section(bytes, size, &header, i, &section) ||
		    section.sh_type != SHT_PROGBITS || section.sh_name > names.sh_size ||
		    names.sh_size - section.sh_name < sizeof(wanted_name) ||
		    memcmp(bytes + names.sh_offset + section.sh_name, wanted_name,
			   sizeof(wanted_name)) != 0)
			continue;
		return find_text((const char *)bytes + section.sh_offset, section.sh_size, key);
	}
	return NULL;
}

static int add_module(struct collection *c, const char *name, unsigned int depth,
		      struct error *err);

static int add_all(struct collection *c, const char *text, char separator, unsigned int depth,
		   struct error *err)
{
	own_strv char **names = strv_split(text, separator);
	int rc = 0;

	for (char **name = names; name && *name && rc == 0; name++)
		if (**name)
			rc = add_module(c, *name, depth, err);
	return rc;
}

static int add_module(struct collection *c, const char *name, unsigned int depth, struct error *err)
{
	const char *path = find_file(c, name), *depends, *soft;
	own_mem char *data = NULL, *inside = NULL;
	size_t size = 0;
	int rc;

	/* No file: built in. */
	if (!path || strv_has(*c->names, name))
		return 0;
	if (depth > DEPTH_MAX)
		return refuse(err, -ELOOP, "the modules' dependencies run in a circle at %s", name);
	rc = read_module(path, &data, &size, err);
	if (rc < 0)
		return rc;
	depends = kernel_modinfo(data, size, "depends");
	if (!depends)
		return refuse(err, -EBADMSG, "%s is not a kernel module", path);
	soft = kernel_modinfo(data, size, "softdep");
	if (soft && (soft = str_after(soft, "pre: ")) != NULL)
		rc = add_all(c, soft, ' ', depth + 1, err);
	if (rc == 0)
		rc = add_all(c, depends, ',', depth + 1, err);
	if (rc < 0)
		return rc;
	inside = str_format("modules/%s.ko", name);
	cpio_add(c->archive, inside, S_IFREG | 0644, data, size);
	buf_format(&c->order, "%s.ko\n", name);
	strv_push(c->names, name);
	return 0;
}

int kernel_modules_add(const char *dir, struct buf *archive, char ***names, struct error *err)
{
	__attribute__((cleanup(collection_release))) struct collection c = {
		.names = names,
		.archive = archive,
	};
	int rc = find_files(dir, &c, err);

	cpio_add(archive, "modules", S_IFDIR | 0755, NULL, 0);
	for (size_t i = 0; rc == 0 && i < array_size(wanted); i++)
		rc = add_module(&c, wanted[i], 0, err);
	if (rc == 0)
		cpio_add(archive, "modules/order", S_IFREG | 0644, c.order.data, c.order.len);
	return rc;
}
