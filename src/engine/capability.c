/* capability: see capability.h. */
#include "engine/capability.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>

#include "base/mem.h"
#include "oci/caps.h"

#define BIT(n) (UINT64_C(1) << (n))

/* What docker gives by default. */
static const uint64_t default_set = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FSETID) |
				    BIT(CAP_FOWNER) | BIT(CAP_MKNOD) | BIT(CAP_NET_RAW) |
				    BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETFCAP) |
				    BIT(CAP_SETPCAP) | BIT(CAP_NET_BIND_SERVICE) |
				    BIT(CAP_SYS_CHROOT) | BIT(CAP_KILL) | BIT(CAP_AUDIT_WRITE);

const char *capability_find(const char *name)
{
	int number = caps_parse(name);

	return number < 0 ? NULL : caps_name((unsigned int)number);
}

/* The bounding set of this process: what it can hand on. */
static uint64_t bounding_set(void)
{
	uint64_t set = 0;

	for (unsigned int i = 0; caps_name(i) != NULL; i++)
		if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
			set |= BIT(i);
	return set;
}

static json_t *to_json(uint64_t set)
{
	json_t *array = json_array();

	for (unsigned int i = 0; caps_name(i) != NULL; i++)
		if (set & BIT(i))
			json_array_append_new(array, json_string(caps_name(i)));
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
		int n = caps_parse(list[i]);

		if (n >= 0)
			set |= BIT(n);
	}
	return set;
}

int capability_set(const struct workload_config *config, json_t **ret, struct error *err)
{
	const uint64_t bounding = bounding_set(), add = named(config->caps_add);
	uint64_t set = default_set;

	for (unsigned int i = 0; caps_name(i) != NULL; i++)
		if ((add & BIT(i)) && !(bounding & BIT(i)))
			return refuse(err, -EPERM,
				      "capability %s cannot be given: berth does not "
				      "have it itself",
				      caps_name(i));
	/* As docker: a drop of ALL comes before additions by name, an addition of ALL before drops. */
	if (config->flags & WORKLOAD_PRIVILEGED || has_all(config->caps_add))
		set = bounding;
	if (has_all(config->caps_drop))
		set = 0;
	set = (set & ~named(config->caps_drop)) | add;
	*ret = to_json(set & bounding);
	return 0;
}
