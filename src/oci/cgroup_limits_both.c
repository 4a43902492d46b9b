/* cgroup_limits_both: the limits that both versions write alike. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/str.h"
#include "oci/cgroup_priv.h"

int cgroup_check_memory_use(const struct cgroup *cg, const char *controller, const char *file,
			    const struct config_resources *r, struct error *err)
{
	const struct config_number limit = r->memory.limit;
	uint64_t current = 0;

	if (!limit.given || !r->memory.check_before_update || limit.value < 0 ||
	    cgroup_read_number(cg, controller, file, NULL, &current) != 0 ||
	    current <= (uint64_t)limit.value)
		return 0;
	return refuse(err, -EBUSY,
		      "linux.resources.memory.limit: %" PRId64
		      " is below the current use of %" PRIu64 " bytes",
		      limit.value, current);
}

const char *const cgroup_throttle_fields[THROTTLE_KINDS] = {
	[THROTTLE_READ_BPS] = "linux.resources.blockIO.throttleReadBpsDevice",
	[THROTTLE_WRITE_BPS] = "linux.resources.blockIO.throttleWriteBpsDevice",
	[THROTTLE_READ_IOPS] = "linux.resources.blockIO.throttleReadIOPSDevice",
	[THROTTLE_WRITE_IOPS] = "linux.resources.blockIO.throttleWriteIOPSDevice",
};

int cgroup_put_device_value(const struct cgroup *cg, const char *controller, const char *file,
			    const struct config_device_value *v, const char *key, uint64_t value,
			    const char *field, struct error *err)
{
	char text[80];

	snprintf(text, sizeof(text), "%u:%u %s%" PRIu64, v->major, v->minor, key, value);
	return cgroup_put(cg, controller, file, text, field, err);
}

int cgroup_apply_rdma(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	for (size_t i = 0; i < r->rdma_count; i++) {
		const struct config_rdma *d = &r->rdma[i];
		own_buf struct buf text = {0};
		int rc;

		buf_format(&text, "%s", d->device);
		if (d->handles.given)
			buf_format(&text, " hca_handle=%" PRId64, d->handles.value);
		if (d->objects.given)
			buf_format(&text, " hca_object=%" PRId64, d->objects.value);
		rc = cgroup_put(cg, "rdma", "rdma.max", text.data, "linux.resources.rdma", err);
		if (rc < 0)
			return rc;
	}
	return 0;
}
