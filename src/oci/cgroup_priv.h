/* cgroup_priv: what the files of cgroup share. */
#pragma once

#include "oci/cgroup.h"
#include "oci/config.h"

/* Where every distribution mounts control groups. */
#define CGROUP_ROOT "/sys/fs/cgroup"

/* What a file of /proc or of a group may hold. */
enum { CGROUP_TEXT_MAX = 16 << 20 };

/* True if `name` is one of the comma-separated `controllers`. */
bool cgroup_has_word(const char *controllers, const char *name);
/* The unified directory, or NULL. */
const struct cgroup_dir *cgroup_unified(const struct cgroup *cg);

/* A process's path in the hierarchy with these controllers, from the text of its /proc/PID/cgroup. */
char *cgroup_own_path(const char *proc_cgroup, const char *controllers);
/* "a/../b" must not lead out of the hierarchy. */
bool cgroup_is_clean(const char *path);
/* The shortest way to the container's directory: a descriptor (or AT_FDCWD), and the path from there. */
int cgroup_at(const struct cgroup_dir *dir, const char **ret_path);

/* Writes `text` to the file of the directory with `controller`; the error names `field`. */
int cgroup_put(const struct cgroup *cg, const char *controller, const char *file, const char *text,
	       const char *field, struct error *err) must_check;
/* Reads a whole small file of the directory with `controller`. -ENOENT if there is none. */
int cgroup_read(const struct cgroup *cg, const char *controller, const char *file,
		char **ret_text) must_check;
/* Reads a number ("max" is UINT64_MAX) from a file, or from the line of a file that begins with
 * `key`. -ENOENT, -EINVAL. */
int cgroup_read_number(const struct cgroup *cg, const char *controller, const char *file,
		       const char *key, uint64_t *ret) must_check;

/* Writes a number, as cgroup_put() does. */
int cgroup_put_number(const struct cgroup *cg, const char *controller, const char *file,
		      int64_t value, const char *field, struct error *err) must_check;
/* checkBeforeUpdate: -EBUSY if the new limit on memory is below what `file` says is used; 0 if that is not
 * asked for, or cannot be told. */
int cgroup_check_memory_use(const struct cgroup *cg, const char *controller, const char *file,
			    const struct config_resources *r, struct error *err) must_check;
/* The fields of the four kinds of rates, for errors. */
extern const char *const cgroup_throttle_fields[THROTTLE_KINDS];
/* Writes a line for a device, "MAJOR:MINOR VALUE", with the text `key` before the value. */
int cgroup_put_device_value(const struct cgroup *cg, const char *controller, const char *file,
			    const struct config_device_value *v, const char *key, uint64_t value,
			    const char *field, struct error *err) must_check;
/* linux.resources.rdma. */
int cgroup_apply_rdma(const struct cgroup *cg, const struct config_resources *r,
		      struct error *err) must_check;
int cgroup_apply_v1(const struct cgroup *cg, const struct config_resources *r,
		    struct error *err) must_check;
int cgroup_apply_v2(const struct cgroup *cg, const struct config_resources *r,
		    struct error *err) must_check;
/* Device rules on v2: an eBPF program attached to the directory, replacing an earlier one. With `kept` the
 * one that is in it, if the rules are the same; else that becomes the one. NULL: it is not kept. */
int cgroup_attach_devices(int dir_fd, const struct config_device_rule *rules, size_t count,
			  struct oci_device_filter *kept, struct error *err) must_check;
