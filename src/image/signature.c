/*
 * signature: see signature.h.
 *
 * libcrypto is opened on first use: few commands verify, and its initialisation costs more than the
 * start of a container.
 */
#include "image/signature.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dylib.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/reference.h"
#include "image/referrers.h"

static const char payload_type[] = "cosign container image signature";
static const char payload_media_type[] = "application/vnd.dev.cosign.simplesigning.v1+json";
static const char signature_annotation[] = "dev.cosignproject.cosign/signature";

/* --- libcrypto ------------------------------------------------------------------------------------ */

struct crypto_api {
	__typeof__(BIO_new_mem_buf) *bio_new;
	__typeof__(BIO_free) *bio_free;
	__typeof__(PEM_read_bio_PUBKEY) *read_public;
	__typeof__(PEM_read_bio_PrivateKey) *read_private;
	__typeof__(EVP_PKEY_free) *key_free;
	__typeof__(EVP_PKEY_get_base_id) *key_type;
	__typeof__(EVP_PKEY_get_bits) *key_bits;
	__typeof__(EVP_PKEY_get_group_name) *key_group;
	__typeof__(EVP_MD_CTX_new) *context_new;
	__typeof__(EVP_MD_CTX_free) *context_free;
	__typeof__(EVP_sha256) *sha256;
	__typeof__(EVP_DigestSignInit) *sign_init;
	__typeof__(EVP_DigestSign) *sign;
	__typeof__(EVP_DigestVerifyInit) *verify_init;
	__typeof__(EVP_DigestVerify) *verify;
	__typeof__(EVP_EncodeBlock) *encode;
	__typeof__(EVP_DecodeBlock) *decode;
};

static int crypto_load(struct crypto_api *ret, struct error *err)
{
#define SYMBOL(member, name) DYLIB_SYMBOL(struct crypto_api, member, name)
	static const struct dylib_symbol symbols[] = {
		SYMBOL(bio_new, "BIO_new_mem_buf"),
		SYMBOL(bio_free, "BIO_free"),
		SYMBOL(read_public, "PEM_read_bio_PUBKEY"),
		SYMBOL(read_private, "PEM_read_bio_PrivateKey"),
		SYMBOL(key_free, "EVP_PKEY_free"),
		SYMBOL(key_type, "EVP_PKEY_get_base_id"),
		SYMBOL(key_bits, "EVP_PKEY_get_bits"),
		SYMBOL(key_group, "EVP_PKEY_get_group_name"),
		SYMBOL(context_new, "EVP_MD_CTX_new"),
		SYMBOL(context_free, "EVP_MD_CTX_free"),
		SYMBOL(sha256, "EVP_sha256"),
		SYMBOL(sign_init, "EVP_DigestSignInit"),
		SYMBOL(sign, "EVP_DigestSign"),
		SYMBOL(verify_init, "EVP_DigestVerifyInit"),
		SYMBOL(verify, "EVP_DigestVerify"),
		SYMBOL(encode, "EVP_EncodeBlock"),
		SYMBOL(decode, "EVP_DecodeBlock"),
	};
#undef SYMBOL

	return dylib_load("libcrypto.so.3", "libssl3", symbols, array_size(symbols), ret, err);
}

struct signature_key {
	struct crypto_api crypto;
	EVP_PKEY *key;
	bool ed25519;
};

void signature_key_free(struct signature_key *key)
{
	if (key == NULL)
		return;
	if (key->key != NULL)
		key->crypto.key_free(key->key);
	free(key);
}

/* Accepts the two algorithms whose signatures are defined here. */
static int check_algorithm(struct signature_key *key, const char *what, struct error *err)
{
	char group[64];
	size_t len;

	key->ed25519 = key->crypto.key_type(key->key) == EVP_PKEY_ED25519;
	if (key->ed25519)
		return 0;
	if (key->crypto.key_type(key->key) == EVP_PKEY_EC &&
	    key->crypto.key_group(key->key, group, sizeof(group), &len) == 1 &&
	    str_eq(group, "prime256v1"))
		return 0;
	return hint(err,
		    refuse(err, -EINVAL, "%s: keys must be ECDSA P-256 or Ed25519, this is another",
			   what),
		    "make one: openssl ecparam -name prime256v1 -genkey -noout -out key.pem");
}

/* A private key that needs a password is refused rather than asked for. */
static int no_password(char *text, int size, int writing, void *data)
{
	(void)text;
	(void)size;
	(void)writing;
	(void)data;
	return -1;
}

static int read_key(const char *pem, size_t len, bool private_key, const char *what,
		    struct signature_key **ret, struct error *err)
{
	own_signature_key struct signature_key *key = mem_new(sizeof(*key));
	BIO *bio;
	int rc;

	if (len > SIGNATURE_KEY_MAX)
		return refuse(err, -EFBIG, "%s is too large for a key", what);
	rc = crypto_load(&key->crypto, err);
	if (rc < 0)
		return rc;
	bio = key->crypto.bio_new(pem, (int)len);
	if (bio == NULL)
		return refuse(err, -ENOMEM, "read %s", what);
	key->key = private_key ? key->crypto.read_private(bio, NULL, no_password, NULL)
			       : key->crypto.read_public(bio, NULL, NULL, NULL);
	key->crypto.bio_free(bio);
	if (key->key == NULL)
		return refuse(err, -EINVAL, "%s is not %s key in PEM form%s", what,
			      private_key ? "a private" : "a public",
			      private_key ? " without a password" : "");
	rc = check_algorithm(key, what, err);
	if (rc < 0)
		return rc;
	*ret = take(key);
	return 0;
}

int signature_key_public(const char *pem, size_t len, const char *what, struct signature_key **ret,
			 struct error *err)
{
	return read_key(pem, len, false, what, ret, err);
}

int signature_key_private(const char *pem, size_t len, const char *what, struct signature_key **ret,
			  struct error *err)
{
	return read_key(pem, len, true, what, ret, err);
}

int signature_sign(const struct signature_key *private_key, const void *payload, size_t len,
		   char **ret_base64, struct error *err)
{
	const struct crypto_api *crypto = &private_key->crypto;
	unsigned char raw[SIGNATURE_BASE64_MAX / 2];
	EVP_MD_CTX *context = crypto->context_new();
	size_t raw_len = sizeof(raw);
	bool done;

	/* Ed25519 hashes by itself. */
	done = context != NULL &&
	       crypto->sign_init(context, NULL, private_key->ed25519 ? NULL : crypto->sha256(),
				 NULL, private_key->key) == 1 &&
	       crypto->sign(context, raw, &raw_len, payload, len) == 1;
	crypto->context_free(context);
	if (!done)
		return refuse(err, -EIO, "the signature could not be made");
	*ret_base64 = mem_new(raw_len * 2 + 4);
	crypto->encode((unsigned char *)*ret_base64, raw, (int)raw_len);
	return 0;
}

/* Decodes base64 of at most SIGNATURE_BASE64_MAX characters. Returns the length or -EINVAL. */
static int decode(const struct crypto_api *crypto, const char *base64,
		  unsigned char raw[static SIGNATURE_BASE64_MAX])
{
	size_t len = strlen(base64);
	int raw_len;

	if (len == 0 || len > SIGNATURE_BASE64_MAX || len % 4 != 0)
		return -EINVAL;
	raw_len = crypto->decode(raw, (const unsigned char *)base64, (int)len);
	if (raw_len < 0)
		return -EINVAL;
	/* The decoder counts padding as bytes. */
	for (size_t i = len; i > len - 2 && base64[i - 1] == '='; i--)
		raw_len--;
	return raw_len;
}

int signature_verify(const struct signature_key *public_key, const void *payload, size_t len,
		     const char *base64, struct error *err)
{
	const struct crypto_api *crypto = &public_key->crypto;
	unsigned char raw[SIGNATURE_BASE64_MAX];
	int raw_len = decode(crypto, base64, raw);
	EVP_MD_CTX *context;
	bool good;

	if (raw_len < 0)
		return refuse(err, -EKEYREJECTED, "the signature is not base64");
	context = crypto->context_new();
	good = context != NULL &&
	       crypto->verify_init(context, NULL, public_key->ed25519 ? NULL : crypto->sha256(),
				   NULL, public_key->key) == 1 &&
	       crypto->verify(context, raw, (size_t)raw_len, payload, len) == 1;
	crypto->context_free(context);
	return good ? 0 : refuse(err, -EKEYREJECTED, "the signature was not made by this key");
}

/* --- the payload ---------------------------------------------------------------------------------- */

char *signature_payload(const char *repository, const struct digest *manifest)
{
	own_json json_t *payload =
		json_pack("{s:{s:{s:s}, s:{s:s}, s:s}, s:n}", "critical", "identity",
			  "docker-reference", repository, "image", "docker-manifest-digest",
			  manifest->text, "type", payload_type, "optional");

	return json_text(payload);
}

/* Whether the signer meant the image that is expected. Both are compared in their full form, since
 * cosign writes the name of Docker's hub as index.docker.io. */
static bool same_identity(const char *is, const char *expected, enum signature_tags tags)
{
	struct reference a, b;

	if (reference_parse(is, &a, NULL) < 0 || reference_parse(expected, &b, NULL) < 0)
		return false;
	if (str_eq(a.registry, "index.docker.io"))
		snprintf(a.registry, sizeof(a.registry), "%s", REFERENCE_DEFAULT_REGISTRY);
	if (!str_eq(a.registry, b.registry) || !str_eq(a.repository, b.repository))
		return false;
	if (a.default_tag || b.default_tag || a.tag[0] == '\0' || b.tag[0] == '\0')
		return tags == SIGNATURE_TAGS_AS_SIGNED;
	return str_eq(a.tag, b.tag);
}

int signature_check_payload(const char *payload, size_t len, const struct digest *manifest,
			    const char *identity, enum signature_tags tags, struct error *err)
{
	own_json json_t *value = NULL;
	const char *digest, *type, *reference;
	struct json_at root, critical, image, signer;
	int rc = json_parse(payload, len, "the signature's payload", &value, err);

	if (rc < 0)
		return -EKEYREJECTED;
	root = json_root(value);
	if (json_object_at(&root, "critical", JSON_REQUIRED, &critical, err) < 0 ||
	    json_object_at(&critical, "image", JSON_REQUIRED, &image, err) < 0 ||
	    json_object_at(&critical, "identity", JSON_REQUIRED, &signer, err) < 0 ||
	    json_get_string(&critical, "type", JSON_REQUIRED, &type, err) < 0 ||
	    json_get_string(&image, "docker-manifest-digest", JSON_REQUIRED, &digest, err) < 0 ||
	    json_get_string(&signer, "docker-reference", JSON_REQUIRED, &reference, err) < 0)
		return refuse(err, -EKEYREJECTED, "the signature's payload");
	if (!str_eq(type, payload_type))
		return refuse(err, -EKEYREJECTED, "the signature is of another kind (\"%.64s\")",
			      type);
	if (!str_eq(digest, manifest->text))
		return refuse(err, -EKEYREJECTED, "the signature is for another image (%.80s)",
			      digest);
	if (identity != NULL && !same_identity(reference, identity, tags))
		return refuse(err, -EKEYREJECTED, "the signature is for \"%.200s\", not for \"%s\"",
			      reference, identity);
	return 0;
}

/* --- how a registry keeps them ---------------------------------------------------------------------- */

char *signature_tag(const struct digest *manifest)
{
	return referrers_tag(manifest, "sig");
}

void signatures_release(struct signatures *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i].base64);
	free(list->items);
	*list = (struct signatures){0};
}

/* Reads one layer of the manifest; 1 if it is a signature, 0 if it is something else. */
static int parse_layer(const struct json_at *layer, struct signature *ret, struct error *err)
{
	const char *type = NULL, *digest, *base64 = NULL;
	struct json_at annotations;
	int64_t size;
	int rc;

	rc = json_get_string(layer, "mediaType", JSON_REQUIRED, &type, err);
	if (rc < 0)
		return rc;
	rc = json_object_at(layer, "annotations", JSON_OPTIONAL, &annotations, err);
	if (rc > 0)
		rc = json_get_string(&annotations, signature_annotation, JSON_OPTIONAL, &base64,
				     err);
	if (rc < 0)
		return rc;
	if (!str_eq(type, payload_media_type) || base64 == NULL)
		return 0;
	rc = json_get_string(layer, "digest", JSON_REQUIRED, &digest, err);
	if (rc >= 0)
		rc = json_get_int(layer, "size", JSON_REQUIRED, 0, SIGNATURE_PAYLOAD_MAX, &size,
				  err);
	if (rc >= 0)
		rc = digest_parse(digest, &ret->payload, err);
	if (rc < 0)
		return rc;
	ret->size_bytes = (uint64_t)size;
	ret->base64 = str_copy(base64);
	return 1;
}

int signatures_parse(const char *text, size_t len, struct signatures *ret, struct error *err)
{
	own_signatures struct signatures list = {0};
	own_json json_t *value = NULL;
	struct json_at root, layers, layer;
	size_t capacity = 0;
	int rc = json_parse(text, len, "the signatures' manifest", &value, err);

	if (rc < 0)
		return rc;
	root = json_root(value);
	rc = json_array_at(&root, "layers", JSON_REQUIRED, &layers, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; json_element(&layers, i, &layer); i++) {
		struct signature signature = {0};

		if (i == SIGNATURES_MAX)
			return refuse(err, -EFBIG, "more than %d signatures", SIGNATURES_MAX);
		rc = parse_layer(&layer, &signature, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		list.items = mem_grow(list.items, list.count, &capacity, sizeof(signature));
		list.items[list.count++] = signature;
	}
	*ret = list;
	list = (struct signatures){0};
	return 0;
}

json_t *signatures_manifest(const struct signatures *list, const char **ret_config)
{
	static const char config[] = "{}";
	struct digest config_digest = digest_of(config, sizeof(config) - 1);
	json_t *layers = json_array();

	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(layers, json_pack("{s:s, s:s, s:I, s:{s:s}}", "mediaType",
							payload_media_type, "digest",
							list->items[i].payload.text, "size",
							(json_int_t)list->items[i].size_bytes,
							"annotations", signature_annotation,
							list->items[i].base64));
	*ret_config = config;
	return json_pack("{s:i, s:s, s:{s:s, s:s, s:i}, s:o}", "schemaVersion", 2, "mediaType",
			 "application/vnd.oci.image.manifest.v1+json", "config", "mediaType",
			 "application/vnd.oci.image.config.v1+json", "digest", config_digest.text,
			 "size", (int)sizeof(config) - 1, "layers", layers);
}
