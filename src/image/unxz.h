/*
 * unxz: a stream of xz, as archives of distributions are (several streams one after the other, too), by
 * liblzma, which is loaded on first use. The buffers are borrowed during a step only.
 */
#pragma once

#include "image/gunzip.h"

/* The most memory that a stream may want, most of it its dictionary: `xz -9` needs 65 MiB. */
#define UNXZ_MEMORY_MAX (INT64_C(256) << 20)

struct unxz;
int unxz_create(struct unxz **ret, struct error *err) must_check;
void unxz_destroy(struct unxz *x);

/* As gunzip_step, but that the end of one stream is not told. -EBADMSG: damaged; -EFBIG: it wants more than
 * UNXZ_MEMORY_MAX. */
int unxz_step(struct unxz *x, struct gunzip_step *step, struct error *err) must_check;
/* Nothing follows: -EBADMSG if the stream was not complete. Every step before has left room. */
int unxz_finish(struct unxz *x, struct error *err) must_check;
