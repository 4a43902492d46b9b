/*
 * layer_recipe: the tar that a layer file was made from, again, byte for byte.
 *
 * A layer file has the contents of the files. What else was in the tar (headers in whatever dialect,
 * filling, the order, entries that a later one replaces) is written down while the layer is made, and
 * stands behind the file system in the layer file, where no mount sees it:
 *
 *     superblock.blocks blocks    the file system
 *     struct recipe_head
 *     the steps                   zstd
 *     the files                   zstd: numbers of inodes, in the order in which the steps want them
 *     zeros                       up to a whole block
 *
 * A step is a number, the lowest two bits of which say what to do and the others how much:
 *
 *     BYTES n   n bytes of the tar, which follow
 *     FILE      from now on the next file, from its start
 *     SEEK n    goes to n in it
 *     DATA n    n bytes of it
 *
 * Numbers have seven bits to a byte, the lowest first; the last byte has the highest bit clear. What is
 * written depends on the tar alone, not on the pieces in which it came (Y2 in layer.h).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "image/erofs_priv.h"

#define RECIPE_MAGIC UINT64_C(0x5241545f48545242) /* "BRTH_TAR" */
enum { RECIPE_VERSION = 1, RECIPE_NUMBER_MAX = 10 /* bytes */ };
enum recipe_step { RECIPE_BYTES, RECIPE_FILE, RECIPE_SEEK, RECIPE_DATA };

struct recipe_head {
	uint64_t magic;
	uint32_t version;
	uint32_t reserved;
	uint64_t tar_bytes;
	uint64_t steps_bytes, files_bytes; /* as they stand here */
};

struct recipe;
struct recipe *recipe_create(void);
void recipe_destroy(struct recipe *recipe);
/* Bytes of the tar that are about to be read; they must stay until recipe_pass. */
void recipe_come(struct recipe *recipe, const void *data, size_t len);
/* Of these, some are the contents of a file from `offset` on. */
void recipe_contents(struct recipe *recipe, uint64_t offset, const void *data, size_t len);
/* The file whose contents have come is this object of the tree. */
void recipe_file_end(struct recipe *recipe, uint32_t object);
/* All that has come is read. */
void recipe_pass(struct recipe *recipe);
/* Adds it to the file, which is complete but for it: all metadata is written. */
int recipe_put(struct recipe *recipe, const struct layer_tree *tree, const struct erofs_meta *meta,
	       struct erofs_out *out, struct error *err) must_check;
