/*
 * gunzip: the members of a gzip stream, one after the other, by the fastest library that is there: ISA-L's
 * igzip (loaded on first use, about twice as fast), else zlib. Both check a member's header, its code,
 * its CRC-32 and its length. (igzip takes some codes that are not complete, which zlib refuses.)
 *
 * The caller's buffers are borrowed during a step only; what a step leaves of the input comes again in
 * the next one. One thread at a time.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "base/own.h"

enum gunzip_engine {
	GUNZIP_ANY, /* the fastest */
	GUNZIP_ZLIB,
	GUNZIP_ISAL, /* -ENOENT if it is not installed */
};

struct gunzip;
int gunzip_create(enum gunzip_engine engine, struct gunzip **ret, struct error *err) must_check;
void gunzip_destroy(struct gunzip *g);
OWN_DEFINE(own_gunzip, struct gunzip *, gunzip_destroy);
#define own_gunzip __attribute__((cleanup(own_gunzip_release)))

/* What a step has to work with, at most 1 GiB each; it moves the pointers on. */
struct gunzip_step {
	const unsigned char *in;
	size_t in_len;
	unsigned char *out;
	size_t out_len;
};
/* Goes on until the input or the room is used up, or the member ends. 1: it has ended, and what is left
 * of the input is behind it; the next step begins another one. 0: not yet; if there is room left, more
 * input is needed. -EBADMSG: damaged; afterwards the unpacker can only be destroyed. */
int gunzip_step(struct gunzip *g, struct gunzip_step *step, struct error *err) must_check;
