/*
 * server: a registry on loopback that serves the image of one store, and misbehaves on request. It runs
 * in processes of its own; what it has seen stands in shared memory.
 */
#pragma once

#include "fixture.h"

enum server_fault {
	FAULT_NONE,
	FAULT_CUT,          /* closes the connection in the middle of a layer, the first times */
	FAULT_CUT_NO_RANGE, /* the same, and it answers a request for a range with everything */
	FAULT_CUT_ALWAYS,   /* closes after a few bytes, each time, without ever getting further */
	FAULT_SHORT,        /* says the right length but ends early, cleanly chunked */
	FAULT_LONG,         /* sends more than the manifest says */
	FAULT_WRONG_BYTES,  /* of a layer */
	FAULT_WRONG_CONFIG,
	FAULT_WRONG_MANIFEST_DIGEST,
	FAULT_WRONG_RANGE, /* continues from a later place than asked for, after a cut */
	FAULT_ENDLESS_MANIFEST,
	FAULT_MANIFEST_NOT_JSON,
	FAULT_BUSY,       /* 503 the first times */
	FAULT_RATE_LIMIT, /* 429 with Retry-After the first times */
	FAULT_BROKEN,     /* 500 always */
	FAULT_REDIRECT,   /* layers from another port; credentials must not come there */
	FAULT_REDIRECT_LOOP,
	FAULT_BASIC,     /* wants name:secret */
	FAULT_BEARER,    /* wants a token from its token server, which wants name:secret */
	FAULT_FORBIDDEN, /* 403 */
};

/* What the server has seen. */
struct server_seen {
	unsigned int requests, layer_requests, ranges, redirected, token_requests;
	unsigned int credentials_at_other_host;
};

struct server {
	int port, other_port;
	int pid, other_pid;
	struct server_seen *seen;
};

/* Serves `image` of the fixture's store under any repository and tag. */
void server_begin(struct server *s, struct fixture *f, const char *image, enum server_fault fault);
void server_end(struct server *s);
