/* change: the instructions of `import --change`, in the words of a Dockerfile. */
#pragma once

#include "base/json.h"

/* Applies one instruction (CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR) to an
 * image's `config` object. CMD and ENTRYPOINT take a JSON array, or a text for /bin/sh -c. -EINVAL. */
int change_config(json_t *config, const char *instruction, struct error *err) must_check;
