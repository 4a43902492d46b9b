/*
 * layer FORMAT DIRECTORY [hash]: writes the tar on its standard input as a layer into DIRECTORY, as a
 * pull does behind the inflation: with "hash" it also takes the digest of the stream.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "image/layer.h"

enum { PIECE = 128 * 1024 };

static int write_layer(int layers_fd, const char *format, bool hash, struct error *err)
{
	own_layer_writer struct layer_writer *w = NULL;
	own_mem char *piece = mem_new(PIECE);
	struct digest_state state;
	struct layer_info info;
	struct digest diffid;
	ssize_t n;
	int rc = layer_writer_begin(layers_fd, layer_format_find(format), &w, err);

	digest_begin(&state, NULL);
	while (rc >= 0 && (n = read(STDIN_FILENO, piece, PIECE)) > 0) {
		if (hash)
			digest_add(&state, piece, (size_t)n);
		rc = layer_writer_add(w, piece, (size_t)n, err);
	}
	if (rc < 0)
		return rc;
	/* A name that is new each time, or there would be nothing to write the second time. */
	random_bytes(piece, 16);
	digest_add(&state, piece, 16);
	digest_end(&state, &diffid);
	return layer_writer_finish(w, &diffid, &info, err);
}

int main(int argc, char **argv)
{
	struct error err = {0};
	int layers_fd = argc > 2 ? open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (layers_fd < 0 || layer_format_find(argv[1]) == NULL)
		return 2;
	if (write_layer(layers_fd, argv[1], argc > 3 && strcmp(argv[3], "hash") == 0, &err) < 0) {
		log_failure(&err);
		return 1;
	}
	return 0;
}
