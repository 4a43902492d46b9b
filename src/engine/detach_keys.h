/*
 * detach_keys: the keys that leave a terminal attached to a workload ("ctrl-p,ctrl-q").
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define DETACH_KEYS_DEFAULT "ctrl-p,ctrl-q"

enum { DETACH_KEYS_MAX = 16 };

struct detach_keys {
	char keys[DETACH_KEYS_MAX];
	size_t count; /* 0: none */
	size_t seen;  /* how many of them came in a row */
};

/* Letters, or ctrl-<letter or one of @[\]^_>, separated by commas; "" is none. -EINVAL. */
int detach_keys_parse(const char *text, struct detach_keys *ret, struct error *err) must_check;
/* Copies input to `out`, which has room for DETACH_KEYS_MAX bytes more than `len`, and looks for the
 * keys in it. Input may come in pieces: keys that may be the beginning are held back, and given out in
 * front of what follows if they were not. True: they came; *ret_len is what was typed before. */
bool detach_keys_filter(struct detach_keys *keys, const char *in, size_t len, char *out,
			size_t *ret_len);
