/*
 * extract: a tar into a directory of a file system that is in use: for `cp`.
 *
 * Every name is opened from a descriptor with openat2, so that neither ".." nor a link, not even one
 * that is swapped in meanwhile, leads out of the root. A file appears whole and at once: it is written
 * under another name and renamed. Directories that are there stay, with what is in them; a directory
 * never replaces something else, nor the other way round.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/own.h"

enum extract_flags {
	EXTRACT_FOLLOW =
		1, /* links among the directories lead on, inside the root; else: refused */
	EXTRACT_OWNERS = 2, /* owners as the archive says, else `uid` and `gid` */
	EXTRACT_SPECIAL =
		4, /* devices, attributes and set-id bits; else those are refused or lost */
};

struct extract_options {
	int root_fd;        /* borrowed */
	const char *dir;    /* an existing directory below it: "" for itself */
	unsigned int flags; /* enum extract_flags */
	uid_t uid;
	gid_t gid;
};

struct extract;
int extract_begin(const struct extract_options *options, struct extract **ret,
		  struct error *err) must_check;
/* Takes bytes of the tar. -EBADMSG: it is damaged; -EEXIST, -ELOOP, -EPERM: as above; or what the file
 * system says. */
int extract_add(struct extract *x, const void *data, size_t len, struct error *err) must_check;
/* Says that there are no more; gives the directories their modes and times. */
int extract_finish(struct extract *x, struct error *err) must_check;
/* Frees; removes the file that was being written. */
void extract_close(struct extract *x);
/* Bytes of files written so far. */
uint64_t extract_bytes(const struct extract *x);
OWN_DEFINE(own_extract, struct extract *, extract_close);
#define own_extract __attribute__((cleanup(own_extract_release)))
