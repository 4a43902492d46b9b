/*
 * policy: which images may be used, in the form of containers-policy.json(5):
 *
 *     {"default": [{"type": "reject"}],
 *      "transports": {"docker": {
 *          "docker.io/library": [{"type": "insecureAcceptAnything"}],
 *          "example.org/app":   [{"type": "sigstoreSigned", "keyPath": "/etc/berth/app.pub"}]}}}
 *
 * The most specific scope decides: name with tag or digest, repository, its parents, "*.domain"
 * patterns, the transport's default (""), then "default". All requirements of that scope must hold.
 * A requirement of a type that is not supported here (signedBy: GPG) rejects, and says so. Without a
 * file everything is accepted.
 *
 * Invariant P1: what cannot be understood never accepts.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/own.h"
#include "image/reference.h"

enum { POLICY_FILE_MAX = 1 << 20 };

enum policy_kind {
	POLICY_ACCEPT,
	POLICY_REJECT,
	POLICY_SIGNED,
};

/* Which name must have been signed. A signature without a tag is good for all tags of a repository, except
 * where the exact name is wanted. */
enum policy_identity {
	POLICY_IDENTITY_IMAGE,      /* the image's; with a tag, this one */
	POLICY_IDENTITY_EXACT,      /* the image's, with its tag */
	POLICY_IDENTITY_REPOSITORY, /* the image's, with any tag */
	POLICY_IDENTITY_REMAPPED,   /* as the first, but with another beginning */
	POLICY_IDENTITY_OTHER_REPOSITORY,
	POLICY_IDENTITY_OTHER_EXACT, /* a name with a tag */
};

/* One condition. */
struct policy_requirement {
	enum policy_kind kind;
	char **key_paths; /* POLICY_SIGNED: public keys in PEM, any of them; NULL with key_datas */
	char **key_datas; /* the same as PEM in base64 */
	enum policy_identity identity;
	char *signed_identity; /* POLICY_IDENTITY_OTHER...: the name; POLICY_IDENTITY_REMAPPED:
				* what stands for `prefix` in the signed name */
	char *prefix;
	char *reason; /* POLICY_REJECT: why, for what is not supported; or NULL */
};

struct policy_scope {
	char *name; /* "example.org/app"; "" for the transport's default; NULL for the default */
	struct policy_requirement *requirements;
	size_t count;
};

struct policy {
	char *path; /* where it came from; NULL: no file, everything is accepted */
	struct policy_scope *scopes;
	size_t count;
};

void policy_release(struct policy *policy);
#define own_policy __attribute__((cleanup(policy_release)))

/* Parses the text of a policy file, `path` for errors. 0, -EINVAL with the place. */
int policy_parse(const char *text, size_t len, const char *path, struct policy *ret,
		 struct error *err) must_check;
/* Reads the first of: `path` if not NULL (it must exist), ~/.config/berth/policy.json,
 * /etc/berth/policy.json, /etc/containers/policy.json. */
int policy_load(const char *path, struct policy *ret, struct error *err) must_check;

/* The scope that decides about an image. NULL: no policy file. Never fails otherwise: a policy has a
 * default. Borrowed. */
const struct policy_scope *policy_find(const struct policy *policy, const struct reference *r);
/* The scope for what has no name. NULL: no policy file. Borrowed. */
const struct policy_scope *policy_default(const struct policy *policy);
/* True if the scope has a requirement of signatures, so that they are to be fetched. */
bool policy_wants_signatures(const struct policy_scope *scope);
/* Refuses with -EPERM if the scope rejects without looking at signatures. */
int policy_check_rejects(const struct policy *policy, const struct policy_scope *scope,
			 const struct reference *r, struct error *err) must_check;
