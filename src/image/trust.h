/*
 * trust: the decision whether an image may come here, from what the policy says (policy.h) and what
 * signatures its repository has (signature.h).
 *
 * The signatures are looked for in the repository that the image itself comes from (a mirror, too), and
 * must be of one of the digests that lead to the image: the index that the name stands for, or the
 * platform's manifest. Either is enough, since an index names its manifests by their digests and a
 * manifest everything below it. The signed name must be the one by which the image is asked for, not
 * the mirror's.
 *
 * Invariant T1: nothing of an image is stored before trust_check has agreed to it.
 */
#pragma once

#include "image/policy.h"
#include "image/registry.h"
#include "image/signature.h"

/* Loads the policy: `path`, or if that is NULL the first of the places in policy.h. One that cannot be
 * understood is an error, by which everything is refused. */
int trust_load(const char *path, struct policy *ret, struct error *err) must_check;

/* Before anything is fetched: refuses with -EPERM what no signature would help. */
int trust_admit(const struct policy *policy, const struct reference *reference,
		struct error *err) must_check;
/* For what carries no signatures (archives): -EPERM if there must be any. `name` is the full name that
 * the image will have; NULL: none, then the policy's default decides. */
int trust_admit_unsigned(const struct policy *policy, const char *name,
			 struct error *err) must_check;

/* After the manifests are here and before anything is stored: compares the signatures in the registry
 * with every requirement. `digests` lead to the image, any of them may be the signed one.
 * -EKEYREJECTED: they do not satisfy the policy. */
int trust_check(const struct policy *policy, const struct reference *reference,
		struct registry *registry, const struct digest *digests, size_t digests_count,
		struct error *err) must_check;
/* The same for one requirement without a policy: `requirement` is POLICY_SIGNED. *ret_signed is the
 * digest whose signature is good. */
int trust_check_one(const struct policy_requirement *requirement, const struct reference *reference,
		    struct registry *registry, const struct digest *digests, size_t digests_count,
		    struct digest *ret_signed, struct error *err) must_check;

/* What a reference asks for at a registry: its digest, or its tag. Borrowed. */
const char *trust_which(const struct reference *reference);
/* Opens the registry that a name says, not a mirror. */
int trust_open_registry(const struct reference *reference, enum registry_access access,
			const struct image_remote *remote, struct registry **ret,
			struct error *err) must_check;
/* The digests by which the repository knew an image that is here, and its manifest's; the caller frees
 * *ret. */
int trust_known_digests(struct image_store *store, const struct reference *reference,
			const struct image *image, struct digest **ret, size_t *ret_count,
			struct error *err) must_check;

/* Signs an image in its registry; what `name` stands for there now. If an image of that name is here it
 * must be the same: -ESTALE. One that this key has signed already stays as it is: returns 0, else 1. */
int image_sign(struct image_store *store, const char *name, const char *key_file,
	       const struct image_remote *remote, struct digest *ret_signed,
	       struct error *err) must_check;

/* What image_verify has found to be good. */
struct image_verified {
	size_t blobs, layers;        /* here, all with the digests that they should have */
	bool is_here;                /* else only signatures were looked at */
	bool is_signed;              /* signatures were asked for, and are good */
	struct digest signed_digest; /* with a key file: what it has signed */
};
/* Compares every file of an image that is here with its digest, and its signatures in the registry with
 * the key, or with what the policy requires. `fn` is told what is wrong with files, which is an error
 * too. -EBADMSG, -EKEYREJECTED, -EPERM, -ENOENT. */
int image_verify(struct image_store *store, const char *name, const char *key_file,
		 const struct image_remote *remote, image_problem_fn *fn, void *data,
		 struct image_verified *ret, struct error *err) must_check;
