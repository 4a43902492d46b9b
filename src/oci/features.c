/* features: what this runtime can do, in the form of the specification (features.md). */
#include <fcntl.h>
#include <seccomp.h>
#include <unistd.h>

#include "base/json.h"
#include "oci/caps.h"
#include "oci/config_priv.h"
#include "oci/criu.h"
#include "oci/mount_attr.h"
#include "oci/runtime.h"

static json_t *words(const char *table)
{
	json_t *list = json_array();

	for (size_t i = 0; seccomp_word(table, i) != NULL; i++)
		json_array_append_new(list, json_string(seccomp_word(table, i)));
	return list;
}

static json_t *namespaces(void)
{
	json_t *list = json_array();

	for (size_t i = 0; i < NAMESPACE_KINDS; i++) {
		own_mem char *path = str_format("/proc/self/ns/%s", namespace_kinds[i].proc_name);

		if (access(path, F_OK) == 0)
			json_array_append_new(list, json_string(namespace_kinds[i].name));
	}
	return list;
}

static json_t *capabilities(void)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i <= caps_last() && caps_name(i) != NULL; i++)
		json_array_append_new(list, json_string(caps_name(i)));
	return list;
}

static json_t *hooks(void)
{
	json_t *list = json_array();

	for (size_t i = 0; i < HOOK_KINDS; i++)
		json_array_append_new(list, json_string(config_hook_names[i]));
	return list;
}

static json_t *mount_options(void)
{
	json_t *list = json_array();

	for (size_t i = 0; mount_option_name(i) != NULL; i++)
		json_array_append_new(list, json_string(mount_option_name(i)));
	return list;
}

static json_t *memory_words(const struct config_word *table)
{
	json_t *list = json_array();

	for (; table->name != NULL; table++)
		json_array_append_new(list, json_string(table->name));
	return list;
}

static json_t *annotations(void)
{
	const struct scmp_version *v = seccomp_version();
	own_mem char *version = str_format("%u.%u.%u", v->major, v->minor, v->micro);

	return json_pack("{s:s, s:s}", "io.github.seccomp.libseccomp.version", version,
			 "org.opencontainers.runc.checkpoint.enabled",
			 criu_works() ? "true" : "false");
}

/* What an engine must not take from an image or a user without a look: these change what is done on the
 * host. One that ends with a dot stands for all that begin like it. */
static json_t *unsafe_annotations(void)
{
	return json_pack("[s, s, s]", "org.criu.config", "org.systemd.property.",
			 "run.oci.keep_original_groups");
}

json_t *oci_features(void)
{
	json_t *linux_ = json_object(), *seccomp = json_object();

	json_object_set_new(seccomp, "enabled", json_true());
	json_object_set_new(seccomp, "actions", words("actions"));
	json_object_set_new(seccomp, "operators", words("operators"));
	json_object_set_new(seccomp, "archs", words("architectures"));
	json_object_set_new(seccomp, "knownFlags", words("flags"));
	json_object_set_new(seccomp, "supportedFlags", words("flags"));
	json_object_set_new(linux_, "namespaces", namespaces());
	json_object_set_new(linux_, "capabilities", capabilities());
	json_object_set_new(linux_, "cgroup",
			    json_pack("{s:b, s:b, s:b, s:b, s:b}", "v1", 1, "v2", 1, "systemd", 1,
				      "systemdUser", 1, "rdma", 1));
	json_object_set_new(linux_, "seccomp", seccomp);
	json_object_set_new(linux_, "apparmor", json_pack("{s:b}", "enabled", 1));
	json_object_set_new(linux_, "selinux", json_pack("{s:b}", "enabled", 1));
	json_object_set_new(
		linux_, "intelRdt",
		json_pack("{s:b, s:b, s:b}", "enabled", 1, "schemata", 1, "monitoring", 1));
	json_object_set_new(linux_, "netDevices", json_pack("{s:b}", "enabled", 1));
	json_object_set_new(linux_, "memoryPolicy",
			    json_pack("{s:o, s:o}", "modes", memory_words(config_memory_modes),
				      "flags", memory_words(config_memory_flags)));
	json_object_set_new(linux_, "mountExtensions",
			    json_pack("{s:{s:b}}", "idmap", "enabled", 1));
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "ociVersionMin", "1.0.0",
			 "ociVersionMax", "1.3.0", "hooks", hooks(), "mountOptions",
			 mount_options(), "linux", linux_, "annotations", annotations(),
			 "potentiallyUnsafeConfigAnnotations", unsafe_annotations());
}
