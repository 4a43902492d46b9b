/*
 * schema: see schema.h.
 *
 * image_blob and image_layer say which files are here. image_part and image_stack say what an image
 * needs; a foreign key from them makes it impossible to drop what is needed. Digests are stored with
 * their prefix, as they are compared and printed everywhere.
 */
#include "image/schema.h"

#include "base/mem.h"

static const char *const steps[] = {
	/* 1 */
	"CREATE TABLE image_blob ("
	"  digest TEXT PRIMARY KEY, size INTEGER NOT NULL, added_ns INTEGER NOT NULL"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE image_layer ("
	"  diffid TEXT PRIMARY KEY, format TEXT NOT NULL, digest TEXT NOT NULL,"
	"  size INTEGER NOT NULL, unpacked INTEGER NOT NULL, entries INTEGER NOT NULL,"
	"  whiteouts INTEGER NOT NULL, added_ns INTEGER NOT NULL"
	") STRICT, WITHOUT ROWID;"
	/* id: the configuration's digest. manifest: the first by which it came. runtime: the
	 * configuration's `config` object, so that a start reads no file. */
	"CREATE TABLE image_image ("
	"  id TEXT PRIMARY KEY, manifest TEXT NOT NULL, os TEXT NOT NULL,"
	"  architecture TEXT NOT NULL, variant TEXT NOT NULL, created_ns INTEGER NOT NULL,"
	"  added_ns INTEGER NOT NULL, size INTEGER NOT NULL, runtime TEXT NOT NULL"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE image_part ("
	"  image TEXT NOT NULL REFERENCES image_image ON DELETE CASCADE,"
	"  blob TEXT NOT NULL REFERENCES image_blob,"
	"  PRIMARY KEY (image, blob)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX image_part_blob ON image_part (blob);"
	"CREATE TABLE image_stack ("
	"  image TEXT NOT NULL REFERENCES image_image ON DELETE CASCADE,"
	"  position INTEGER NOT NULL,"
	"  diffid TEXT NOT NULL REFERENCES image_layer,"
	"  PRIMARY KEY (image, position)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX image_stack_diffid ON image_stack (diffid);"
	/* name: with registry and tag. manifest: what the name stands for here. */
	"CREATE TABLE image_name ("
	"  name TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES image_image,"
	"  manifest TEXT NOT NULL, added_ns INTEGER NOT NULL"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX image_name_image ON image_name (image);"
	/* By which digests (of indexes and manifests) repositories know the image. */
	"CREATE TABLE image_digest ("
	"  repository TEXT NOT NULL, digest TEXT NOT NULL,"
	"  image TEXT NOT NULL REFERENCES image_image ON DELETE CASCADE,"
	"  PRIMARY KEY (repository, digest)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX image_digest_image ON image_digest (image);"
	"CREATE TABLE image_use ("
	"  user TEXT NOT NULL, image TEXT NOT NULL REFERENCES image_image,"
	"  PRIMARY KEY (user, image)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX image_use_image ON image_use (image);",
	/* 2: the blob that a layer was made of, from which it can be made again if it is here. */
	"ALTER TABLE image_layer ADD COLUMN blob TEXT NOT NULL DEFAULT ''",
	/* 3: when it came or was last used by somebody; 0: before this was noted. */
	"ALTER TABLE image_image ADD COLUMN used_ns INTEGER NOT NULL DEFAULT 0",
	/* 4: of that blob, which need not be here: its size, and how it is packed ("gzip"). */
	("ALTER TABLE image_layer ADD COLUMN blob_size INTEGER NOT NULL DEFAULT 0;"
	 "ALTER TABLE image_layer ADD COLUMN blob_packing TEXT NOT NULL DEFAULT ''"),
};

int image_schema_migrate(struct db *db, struct error *err)
{
	return db_migrate(db, "image", steps, array_size(steps), err);
}
