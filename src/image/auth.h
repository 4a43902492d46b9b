/*
 * auth: who we are to a registry, from the files that docker and podman keep.
 *
 * Looked at in this order: the caller's file or $REGISTRY_AUTH_FILE;
 * $XDG_RUNTIME_DIR/containers/auth.json; $XDG_CONFIG_HOME or ~/.config/containers/auth.json;
 * $DOCKER_CONFIG or ~/.docker/config.json. In a file: credHelpers of that registry, then the entry of
 * the longest matching name, then credsStore. A helper is a program docker-credential-<name>, asked
 * through its standard input.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

struct credentials {
	char *user, *secret;
	char *identity_token; /* instead: to be exchanged for access tokens */
};
void credentials_release(struct credentials *credentials);
#define own_credentials __attribute__((cleanup(credentials_release)))

/* For the repository ("library/busybox") of the registry ("docker.io"). 1 found, 0 there are none. */
int credentials_find(const char *auth_file, const char *registry, const char *repository,
		     struct credentials *ret, struct error *err) must_check;
/* "name:password" as given on the command line. */
int credentials_parse(const char *text, struct credentials *ret, struct error *err) must_check;

/* Keeps, or with NULL credentials forgets, those of a registry in the first of the files above that
 * exists (else ~/.docker/config.json), through its helper if it names one. credentials_store returns
 * -ENOENT when there was nothing to forget. */
int credentials_store(const char *auth_file, const char *registry,
		      const struct credentials *credentials, struct error *err) must_check;

/* Base64 without line breaks. */
char *base64_encode(const void *data, size_t len);
/* -EINVAL. The text is NUL-terminated behind its `len` bytes. */
int base64_decode(const char *s, char **ret, size_t *ret_len) must_check;
