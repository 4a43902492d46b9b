/*
 * registries: where a reference is to be fetched from, as registries.conf says (version 2 of its
 * format): short names, other locations, mirrors, insecure and blocked registries.
 *
 * Read are ~/.config/containers/registries.conf, or, without it, /etc/containers/registries.conf; then *.conf
 * of the directories /etc/containers/registries.conf.d and ~/.config/containers/registries.conf.d. With
 * $CONTAINERS_REGISTRIES_CONF only that file, and *.conf of the directory of its name with ".d". Without
 * any, everything comes from where its name says. Last, in any case, what users have answered about short
 * names (registries_remember).
 */
#pragma once

#include "image/reference.h"
#include "image/store.h"

struct registry_endpoint {
	char registry[REFERENCE_REGISTRY_MAX];
	char repository[REFERENCE_REPOSITORY_MAX];
	bool insecure;
};
struct registry_candidate {
	struct reference reference;          /* the name that the image gets */
	struct registry_endpoint *endpoints; /* mirrors first, itself last */
	size_t endpoints_count;
};
struct registry_candidates {
	struct registry_candidate *items; /* several for a short name */
	size_t count;
	bool chosen; /* there were several, and the user has said which: registries_remember() */
};
/* `choose` is asked about a short name that could be at several registries, unless its mode is "disabled";
 * NULL: there is nobody to ask, which "enforcing" refuses then. -EPERM: the registry is blocked. */
int registries_resolve(const struct reference *reference, image_choose_fn *choose,
		       struct registry_candidates *ret, struct error *err) must_check;
/* Writes down what a short name stands for from now on, where podman and buildah do:
 * /var/cache/containers/short-name-aliases.conf, or ~/.cache/... of an ordinary user. */
int registries_remember(const struct reference *short_name, const struct reference *full,
			struct error *err) must_check;
/* The full names that a short one may stand for, by its alias or the registries that are searched: an array
 * of *ret_count, which may be 0, and which the caller frees. */
int registries_full_names(const struct reference *reference, struct reference **ret,
			  size_t *ret_count, struct error *err) must_check;
/* Who is asked for credentials, in this order: names of credential helpers, or REGISTRIES_AUTH_FILES. */
#define REGISTRIES_AUTH_FILES "containers-auth.json"
int registries_helpers(char ***ret, struct error *err) must_check;
/* The registries at which names without one are looked for; docker.io if none is named. */
int registries_searched(char ***ret, struct error *err) must_check;
void registry_candidates_release(struct registry_candidates *candidates);
#define own_registry_candidates __attribute__((cleanup(registry_candidates_release)))
