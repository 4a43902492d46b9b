/* cgroup_unit: the properties of a container's scope, in the form of D-Bus (a(sv)). */
#pragma once

#include "base/str.h"
#include "oci/config.h"

/* The limits that systemd has properties for. */
void cgroup_unit_limits(struct buf *b, const struct config_resources *r, bool v2);
/* DevicePolicy and DeviceAllow; rules that systemd cannot express are left to the rules themselves. */
void cgroup_unit_devices(struct buf *b, const struct config_resources *r);
/* Annotations "org.systemd.property.NAME": a value in the text form of GVariant (true, 5, uint64 5, 'text',
 * ['a', 'b']). A name that ends with "Sec" is given in seconds. -EINVAL, naming the annotation. */
int cgroup_unit_annotations(struct buf *b, const json_t *annotations, struct error *err) must_check;
