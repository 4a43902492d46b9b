/*
 * packages: the software that a root file system says it contains, read from the databases of its
 * package managers and from the metadata that language package managers install. Nothing of the
 * tree is executed and no link leads out of it.
 *
 *     dpkg    var/lib/dpkg/status, var/lib/dpkg/status.d/ (distroless)
 *     apk     lib/apk/db/installed
 *     rpm     the SQLite database of rpm 4.16 and newer
 *     Python  NAME.dist-info/METADATA, NAME.egg-info/PKG-INFO
 *     npm     node_modules/NAME/package.json, package-lock.json
 *     Rust    Cargo.lock        Ruby   Gemfile.lock
 *     PHP     composer.lock     Go     go.mod
 *
 * What cannot be read (another rpm database format, a malformed lock file) is noted in `notes`, so
 * that a list never looks complete when it is not.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "base/own.h"

enum {
	PACKAGES_MAX = 1 << 20,        /* entries of one list */
	PACKAGES_FILE_MAX = 256 << 20, /* bytes of one database */
	PACKAGES_LOCK_MAX = 64 << 20,  /* bytes of one lock or metadata file */
	PACKAGES_WALK_DEPTH = 40,      /* directories within directories that are searched */
};

struct package {
	const char *
		type; /* of its package URL: deb, apk, rpm, pypi, npm, cargo, gem, composer, golang */
	char *name;
	char *version;        /* with epoch and release, as its manager writes it */
	char *architecture;   /* or NULL */
	char *source_name;    /* the source package, if it is another one, or NULL */
	char *source_version; /* or NULL: the same */
	char *license;        /* as stated, not judged; or NULL */
	char *path;           /* the file that says so, absolute in the tree */
};

struct packages {
	struct package *items;
	size_t count, capacity;
	char **notes;       /* what could not be read and why */
	char *distribution; /* os-release's ID ("debian"), or NULL */
	char *release;      /* VERSION_ID ("12"), or NULL */
	char *pretty_name;  /* or NULL */
};

void packages_release(struct packages *list);
#define own_packages __attribute__((cleanup(packages_release)))

/* Reads the tree whose root directory is `root_fd`. The list is sorted by type, name and version,
 * and free of duplicates. `ret` starts zeroed; release it also after a failure. 0, -errno. */
int packages_scan(int root_fd, struct packages *ret, struct error *err) must_check;
