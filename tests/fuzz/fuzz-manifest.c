/*
 * Fuzzes the readers of what registries and archives send: manifests, indexes, configurations,
 * challenges, compressed streams, archives, and registries.conf. The first byte chooses.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/archive.h"
#include "image/auth.h"
#include "image/manifest.h"
#include "image/registry.h"
#include "image/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try_manifest(const char *text, size_t len)
{
	own_manifest struct manifest m = {0};
	const struct descriptor *chosen;
	struct platform platform;
	struct error err = {0};

	if (manifest_parse(text, len, NULL, &m, &err) < 0)
		return;
	if (m.media_type == NULL || platform_parse("linux/amd64", &platform, NULL) < 0)
		abort();
	if (m.kind == MANIFEST_INDEX && manifest_select(&m, &platform, &chosen, &err) == 0 &&
	    (chosen < m.layers || chosen >= m.layers + m.layers_count))
		abort();
}

static void try_document(const char *text, size_t len)
{
	own_image_document struct image_document d = {0};
	struct error err = {0};

	if (image_document_parse(text, len, &d, &err) == 0 && d.json == NULL)
		abort();
}

static int discard(const void *data, size_t len, void *context, struct error *err)
{
	(void)data;
	(void)context;
	/* A bomb would only cost time here. */
	return len > (1 << 20) ? refuse(err, -1, "enough") : 0;
}

static void try_stream(const char *data, size_t len)
{
	own_decompressor struct decompressor *d = NULL;
	struct error err = {0};

	decompressor_create(discard, NULL, &d);
	for (size_t at = 0; at < len; at += 100)
		if (decompressor_add(d, data + at, len - at < 100 ? len - at : 100, &err) < 0)
			return;
	if (decompressor_finish(d, &err) < 0 && err.text[0] == '\0')
		abort();
}

static void try_archive(const char *data, size_t len)
{
	static const char *const names[] = {"manifest.json", "index.json", "a/b"};
	own_archive struct archive *archive = NULL;
	own_fd int fd = memfd_create("archive", MFD_CLOEXEC);
	struct image_session session = {.dir_fd = -1};
	struct error err = {0};

	/* A compressed one would be spooled; the plain form is what is to be tried. */
	if (fd < 0 || fd_write_full_at(fd, data, len, 0) < 0 ||
	    compression_sniff(data, len) != COMPRESSION_NONE)
		return;
	if (archive_open(&session, fd, &archive, &err) < 0)
		return;
	for (size_t i = 0; i < array_size(names); i++) {
		own_mem char *text = NULL;
		size_t text_len;

		if (archive_read(archive, names[i], 1 << 16, &text, &text_len, &err) == 0 &&
		    text_len > len)
			abort();
		error_clear(&err);
	}
}

static void try_toml(const char *text, size_t len)
{
	own_json json_t *value = NULL;
	struct error err = {0};

	if (toml_parse(text, len, "x", &value, &err) < 0 && err.text[0] == '\0')
		abort();
}

static void try_texts(const char *text)
{
	own_mem char *realm = registry_challenge_parameter(text, "realm");
	own_mem char *decoded = NULL, *again = NULL;
	size_t len;

	if (realm != NULL && strlen(realm) > strlen(text))
		abort();
	if (base64_decode(text, &decoded, &len) < 0)
		return;
	again = base64_encode(decoded, len);
	if (strlen(again) < len)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	own_mem char *text = NULL;

	if (len < 1)
		return 0;
	text = mem_new(len);
	memcpy(text, data + 1, len - 1);
	switch (data[0] % 6) {
	case 0:
		try_manifest(text, len - 1);
		break;
	case 1:
		try_document(text, len - 1);
		break;
	case 2:
		try_stream(text, len - 1);
		break;
	case 3:
		try_archive(text, len - 1);
		break;
	case 4:
		try_toml(text, strlen(text));
		break;
	default:
		try_texts(text);
	}
	return 0;
}
