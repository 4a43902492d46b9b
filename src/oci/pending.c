/* pending: the calls of runtime.h whose implementation has not landed yet; each says so. */
#include <errno.h>

#include "base/json.h"
#include "oci/runtime.h"

#define PENDING(...) refuse(err, -ENOSYS, "%s is not implemented yet", __func__)

int oci_self_protect(char *const argv[], struct error *err)
{
	(void)argv;
	(void)err;
	return 0;
}
int oci_protected_exe_fd(struct error *err)
{
	return PENDING();
}
void oci_child_release(struct oci_child *child)
{
	fd_close(&child->pidfd);
	fd_close(&child->console_fd);
}
int oci_create(const struct oci_create *options, struct oci_child *ret, struct error *err)
{
	(void)options;
	(void)ret;
	return PENDING();
}
int oci_start(const char *state_root, const char *id, struct error *err)
{
	(void)state_root;
	(void)id;
	return PENDING();
}
const char *oci_status_name(enum oci_status status)
{
	(void)status;
	return "unknown";
}
void oci_state_release(struct oci_state *state)
{
	(void)state;
}
int oci_get_state(const char *state_root, const char *id, struct oci_state *ret, struct error *err)
{
	(void)state_root;
	(void)id;
	(void)ret;
	return PENDING();
}
json_t *oci_state_json(const struct oci_state *state)
{
	(void)state;
	return json_object();
}
int oci_list(const char *state_root, char ***ret_ids, struct error *err)
{
	(void)state_root;
	(void)ret_ids;
	return PENDING();
}
int oci_kill(const char *state_root, const char *id, int signal, enum oci_kill_flags flags,
	     struct error *err)
{
	(void)state_root;
	(void)id;
	(void)signal;
	(void)flags;
	return PENDING();
}
int oci_delete(const char *state_root, const char *id, enum oci_delete_flags flags,
	       struct error *err)
{
	(void)state_root;
	(void)id;
	(void)flags;
	return PENDING();
}
int oci_pause(const char *state_root, const char *id, struct error *err)
{
	(void)state_root;
	(void)id;
	return PENDING();
}
int oci_resume(const char *state_root, const char *id, struct error *err)
{
	(void)state_root;
	(void)id;
	return PENDING();
}
int oci_update(const char *state_root, const char *id, json_t *resources, struct error *err)
{
	(void)state_root;
	(void)id;
	(void)resources;
	return PENDING();
}
int oci_pids(const char *state_root, const char *id, pid_t **ret_pids, size_t *ret_count,
	     struct error *err)
{
	(void)state_root;
	(void)id;
	(void)ret_pids;
	(void)ret_count;
	return PENDING();
}
int oci_get_stats(const char *state_root, const char *id, struct oci_stats *ret, struct error *err)
{
	(void)state_root;
	(void)id;
	(void)ret;
	return PENDING();
}
int oci_exec(const struct oci_exec *options, struct oci_child *ret, struct error *err)
{
	(void)options;
	(void)ret;
	return PENDING();
}
json_t *oci_spec(enum oci_spec_flags flags)
{
	(void)flags;
	return json_object();
}
json_t *oci_features(void)
{
	return json_object();
}
