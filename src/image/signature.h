/*
 * signature: signatures of images by key, in the form in which cosign stores them in a registry.
 *
 * A signature is over a payload, a small JSON document that names the signed manifest:
 *
 *     {"critical": {"identity": {"docker-reference": "example.org/app"},
 *                   "image": {"docker-manifest-digest": "sha256:..."},
 *                   "type": "cosign container image signature"}, "optional": null}
 *
 * The signatures of manifest sha256:<hex> are the layers of an image manifest with the tag
 * sha256-<hex>.sig in the same repository: each layer is a payload, and the layer's annotation
 * dev.cosignproject.cosign/signature the signature of its bytes in base64. Keys are PEM: ECDSA on
 * P-256 (signing the SHA-256 of the payload, in DER) and Ed25519 (signing the payload itself).
 *
 * Invariant S1: a payload counts only after its signature was verified, and is parsed only then.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/own.h"

enum {
	SIGNATURE_KEY_MAX = 64 << 10,     /* bytes of a key file */
	SIGNATURE_PAYLOAD_MAX = 64 << 10, /* bytes of a payload */
	SIGNATURE_BASE64_MAX = 1024,      /* characters of a signature */
	SIGNATURES_MAX = 256,             /* signatures of one manifest that are looked at */
};

struct signature_key;

/* Reads a key from PEM text. Another algorithm, or a private key where a public one is needed, is
 * refused with -EINVAL; `what` names the source in errors. An encrypted private key is refused. */
int signature_key_public(const char *pem, size_t len, const char *what, struct signature_key **ret,
			 struct error *err) must_check;
int signature_key_private(const char *pem, size_t len, const char *what, struct signature_key **ret,
			  struct error *err) must_check;
void signature_key_free(struct signature_key *key);
OWN_DEFINE(own_signature_key, struct signature_key *, signature_key_free);
#define own_signature_key __attribute__((cleanup(own_signature_key_release)))

/* Signs a payload; *ret_base64 is the caller's. */
int signature_sign(const struct signature_key *private_key, const void *payload, size_t len,
		   char **ret_base64, struct error *err) must_check;
/* 0 if the signature is this key's and of these bytes, else -EKEYREJECTED. */
int signature_verify(const struct signature_key *public_key, const void *payload, size_t len,
		     const char *base64, struct error *err) must_check;

/* The payload for a manifest, as text. `repository` is "example.org/app". Never NULL. */
char *signature_payload(const char *repository, const struct digest *manifest);
enum signature_tags {
	SIGNATURE_TAGS_AS_SIGNED, /* compared if both have one */
	SIGNATURE_TAGS_EQUAL,     /* both must have one, the same */
};
/* Checks what a verified payload speaks of: the type, this manifest, and with `identity` not NULL
 * the name it was signed for: "example.org/app", or "example.org/app:1". 0, -EKEYREJECTED. */
int signature_check_payload(const char *payload, size_t len, const struct digest *manifest,
			    const char *identity, enum signature_tags tags,
			    struct error *err) must_check;

/* One signature as a registry has it. */
struct signature {
	struct digest payload; /* the blob */
	uint64_t size_bytes;   /* of the payload */
	char *base64;
};
struct signatures {
	struct signature *items;
	size_t count;
};
void signatures_release(struct signatures *list);
#define own_signatures __attribute__((cleanup(signatures_release)))

/* "sha256-<hex>.sig" */
char *signature_tag(const struct digest *manifest);
/* Reads the manifest under that tag; layers of other types are passed over. 0, -EINVAL. */
int signatures_parse(const char *text, size_t len, struct signatures *ret,
		     struct error *err) must_check;
/* The manifest that holds these signatures; `config` is the blob whose digests it states. */
json_t *signatures_manifest(const struct signatures *list, const char **ret_config);
