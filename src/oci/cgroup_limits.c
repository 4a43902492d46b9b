/*
 * cgroup_limits: writing linux.resources to the control group; each version has a file of its own.
 *
 * Both are tables in spirit: a field, the file, how the value is written. Where a value has
 * another meaning on v2 the conversion is the one that other runtimes use, so that the same
 * configuration gives the same limits.
 */
#include <errno.h>
#include <string.h>

#include "oci/cgroup_priv.h"

static bool wants_anything(const struct config_resources *r)
{
	static const struct config_resources nothing;

	/* Made of zeros and filled field by field, padding has none but zeros; were it otherwise, too
	 * much would be looked at, not too little. */
	/* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
	return memcmp(r, &nothing, sizeof(nothing)) != 0;
}

int cgroup_apply(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	if (!wants_anything(r))
		return 0;
	if (cg->dir_count == 0)
		return hint(
			err,
			refuse(err, -ENOTSUP,
			       "linux.resources: the container has no cgroup of its own to limit"),
			"an ordinary user can limit what runs in a control group that is "
			"delegated to it: systemd-run --user --scope -p Delegate=yes");
	return cg->v2 ? cgroup_apply_v2(cg, r, err) : cgroup_apply_v1(cg, r, err);
}
