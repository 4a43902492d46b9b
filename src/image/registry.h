/*
 * registry: the client side of the OCI distribution specification 1.1 (and docker's registry v2).
 *
 * One object is one registry host for one repository. It finds out by itself how to talk: HTTPS; plain
 * HTTP only with hosts that may be insecure, and only if they do not answer in TLS. Credentials are
 * sent when the registry asks for them, to itself or, over HTTPS, to the token server that it names.
 * Broken connections and "429" and "5xx" answers are tried again, longer and longer apart; a blob goes
 * on where it broke.
 */
#pragma once

#include "image/http.h"
#include "image/manifest.h"
#include "image/store.h"

enum {
	REGISTRY_TRIES = 6,
	REGISTRY_BACKOFF_MS = 250, /* doubled with each try, */
	REGISTRY_BACKOFF_MAX_MS = 8000,
	REGISTRY_WAIT_MAX_S = 60, /* the longest Retry-After that is obeyed */
	REGISTRY_TOKEN_MAX = 64 << 10,
	REGISTRY_WHOLE_MAX = 16 << 20, /* blobs up to this go in one piece */
	REGISTRY_PIECE = 64 << 20,     /* a piece of a file */
	REGISTRY_PART = 8 << 20,       /* a piece of what comes as a stream: it is kept in memory */
	REGISTRY_PAGE = 1000,          /* names asked for at once */
	REGISTRY_LIST_MAX = 100000,    /* names of one list */
};

enum registry_access { REGISTRY_PULL, REGISTRY_PUSH, REGISTRY_DELETE };

struct registry;
/* `host` is the name in references ("docker.io"), `repository` the path there. `insecure`: the
 * configuration allows plain HTTP and unverified certificates. */
int registry_open(const char *host, const char *repository, bool insecure,
		  enum registry_access access, const struct image_remote *remote,
		  struct registry **ret, struct error *err) must_check;
void registry_close(struct registry *registry);
OWN_DEFINE(own_registry, struct registry *, registry_close);
#define own_registry __attribute__((cleanup(own_registry_release)))
/* In a child after fork: another connection, since the parent's is the parent's. */
int registry_reconnect(struct registry *registry, struct error *err) must_check;

/* Fetches the manifest `which` (tag or digest) and verifies its digest. -ENOENT, -EACCES. */
int registry_manifest(struct registry *registry, const char *which, char **ret_text,
		      size_t *ret_len, char **ret_type, struct digest *ret_digest,
		      struct error *err) must_check;
/* Pushes the bytes of a blob of `size` bytes into `out`, in order, each once. The caller verifies the
 * digest. */
int registry_blob(struct registry *registry, const struct digest *digest, uint64_t size,
		  image_bytes_fn *out, void *context, struct error *err) must_check;

/* 1 if the registry has the blob. */
int registry_has_blob(struct registry *registry, const struct digest *digest,
		      struct error *err) must_check;
/* Asks it to take the blob over from another of its repositories: 1 done, 0 it must be sent. */
int registry_mount(struct registry *registry, const struct digest *digest, const char *from,
		   struct error *err) must_check;
/* Before the first request: other repositories of it from which blobs may be mounted. */
void registry_also(struct registry *registry, const char *repository);
/* Sends a blob of `size` bytes from a descriptor; `sent` (may be NULL) counts along. Large ones go in
 * pieces, and after a broken connection from where it broke. */
int registry_upload(struct registry *registry, const struct digest *digest, int fd, uint64_t size,
		    uint64_t *sent, struct error *err) must_check;
/* A small blob that is in memory, unless the registry has it. */
int registry_upload_bytes(struct registry *registry, const void *data, size_t len,
			  struct error *err) must_check;
/* A blob that is sent as it comes. */
struct registry_upload;
int registry_upload_begin(struct registry *registry, struct registry_upload **ret,
			  struct error *err) must_check;
int registry_upload_add(struct registry_upload *upload, const void *data, size_t len,
			struct error *err) must_check;
/* The registry compares the digest. */
int registry_upload_finish(struct registry_upload *upload, const struct digest *digest,
			   struct error *err) must_check;
/* Frees; one that is not finished is cancelled. */
void registry_upload_close(struct registry_upload *upload);
OWN_DEFINE(own_registry_upload, struct registry_upload *, registry_upload_close);
#define own_registry_upload __attribute__((cleanup(own_registry_upload_release)))

/* Of a manifest with a subject, which a registry without the referrers API does not understand, the index
 * under the subject's tag is told. */
int registry_put_manifest(struct registry *registry, const char *which, const char *type,
			  const void *text, size_t len, struct error *err) must_check;
/* Puts a manifest under a tag. A tag leads to what the registry calls the manifest, which is its sha256; so
 * one whose digest `is` (NULL: sha256) another goes there by that first, with a warning if the registry does
 * not do that. *ret is the digest that it has there. */
int registry_tag_manifest(struct registry *registry, const char *tag, const char *type,
			  const char *text, size_t len, const struct digest *is, struct digest *ret,
			  struct error *err) must_check;
/* Deletes a tag, or by its digest a manifest with all of its tags (and, where we keep it, its place in the
 * list of what refers to its subject). -ENOENT; -ENOTSUP: this registry does not do that. */
int registry_delete(struct registry *registry, const char *which, struct error *err) must_check;
/* Deletes a blob, which no manifest may need any more: that is not asked (OCI distribution specification 1.1,
 * "Deleting Blobs"). -ENOENT; -ENOTSUP: this registry does not do that. */
int registry_delete_blob(struct registry *registry, const struct digest *digest,
			 struct error *err) must_check;
/* The same for a manifest that has a subject: one by whose digest the other is found (referrers API). With
 * registries that do not know that, the index under the subject's tag says it. `descriptor` is the
 * manifest's, with its artifactType and annotations. Borrowed. */
int registry_put_referrer(struct registry *registry, const struct digest *subject, const char *type,
			  const void *text, size_t len, json_t *descriptor,
			  struct error *err) must_check;
/* What refers to the manifest `subject`: an array of descriptors, those of `artifact_type` if that is not
 * NULL. None is an empty array. */
int registry_referrers(struct registry *registry, const struct digest *subject,
		       const char *artifact_type, json_t **ret, struct error *err) must_check;

/* The repository's tags, sorted. */
int registry_tags(struct registry *registry, char ***ret, struct error *err) must_check;
/* A repository that a search has found. */
struct registry_found {
	const char *name;        /* with the registry */
	const char *description; /* "" if unknown */
	int64_t stars;
	bool official;
};
typedef int registry_found_fn(const struct registry_found *found, void *data, struct error *err);
/* Looks for repositories whose names have `term` in them, at most `limit`: by docker's search, or, where
 * there is none, in the list of all. The registry was opened without a repository. */
int registry_search(struct registry *registry, const char *term, size_t limit,
		    registry_found_fn *fn, void *data, struct error *err) must_check;
/* Asks whether the credentials are good: -EACCES if not. */
int registry_ping(struct registry *registry, struct error *err) must_check;

/* The parameter `name` of a challenge (`Bearer realm="...",service="..."`), unquoted; NULL. */
char *registry_challenge_parameter(const char *challenge, const char *name);
