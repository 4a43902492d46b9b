/* login: trying and keeping credentials for a registry. */
#pragma once

#include "image/store.h"

/* Asks the registry whether it takes them, then keeps them (auth.h says where). */
int image_login(const char *registry, const char *user, const char *password,
		const struct image_remote *remote, struct error *err) must_check;
/* Forgets them. -ENOENT: there were none. */
int image_logout(const char *registry, const struct image_remote *remote,
		 struct error *err) must_check;
