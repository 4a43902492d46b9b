/* capability: see capability.h. */
#include "engine/capability.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>

#include "base/mem.h"

/* By number. Texts in place: they need no relocation when the program starts. */
static const char names[][24] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

#define BIT(n) (UINT64_C(1) << (n))

/* What docker gives by default. */
static const uint64_t default_set = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FSETID) |
				    BIT(CAP_FOWNER) | BIT(CAP_MKNOD) | BIT(CAP_NET_RAW) |
				    BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETFCAP) |
				    BIT(CAP_SETPCAP) | BIT(CAP_NET_BIND_SERVICE) |
				    BIT(CAP_SYS_CHROOT) | BIT(CAP_KILL) | BIT(CAP_AUDIT_WRITE);

static int find(const char *name)
{
	if (strncasecmp(name, "CAP_", 4) == 0)
		name += 4;
	for (size_t i = 0; i < array_size(names); i++)
		if (strcasecmp(names[i] + 4, name) == 0)
			return (int)i;
	return -1;
}

const char *capability_find(const char *name)
{
	int i = find(name);

	return i < 0 ? NULL : names[i];
}

/* The bounding set of this process: what it can hand on. */
static uint64_t bounding_set(void)
{
	uint64_t set = 0;

	for (size_t i = 0; i < array_size(names); i++)
		if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
			set |= BIT(i);
	return set;
}

static json_t *to_json(uint64_t set)
{
	json_t *array = json_array();

	for (size_t i = 0; i < array_size(names); i++)
		if (set & BIT(i))
			json_array_append_new(array, json_string(names[i]));
	return array;
}

json_t *capability_all(void)
{
	return to_json(bounding_set());
}

static bool has_all(char *const *list)
{
	for (size_t i = 0; list != NULL && list[i] != NULL; i++)
		if (strcasecmp(list[i], "ALL") == 0)
			return true;
	return false;
}

/* The bits of the names in a list, "ALL" left out. */
static uint64_t named(char *const *list)
{
	uint64_t set = 0;

	for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
		int n = find(list[i]);

		if (n >= 0)
			set |= BIT(n);
	}
	return set;
}

int capability_set(const struct workload_config *config, json_t **ret, struct error *err)
{
	const uint64_t bounding = bounding_set(), add = named(config->caps_add);
	uint64_t set = default_set;

	for (size_t i = 0; i < array_size(names); i++)
		if ((add & BIT(i)) && !(bounding & BIT(i)))
			return refuse(err, -EPERM,
				      "capability %s cannot be given: berth does not "
				      "have it itself",
				      names[i]);
	/* As docker: a drop of ALL comes before additions by name, an addition of ALL before drops. */
	if (config->flags & WORKLOAD_PRIVILEGED || has_all(config->caps_add))
		set = bounding;
	if (has_all(config->caps_drop))
		set = 0;
	set = (set & ~named(config->caps_drop)) | add;
	*ret = to_json(set & bounding);
	return 0;
}
