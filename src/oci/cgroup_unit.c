/* cgroup_unit: see cgroup_unit.h. */
#include "oci/cgroup_unit.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "oci/bus.h"

enum { CPUS_MAX = 8192, DEVICES_TEXT_MAX = 65536, USEC_PER_SEC = 1000000 };

/* --- limits ------------------------------------------------------------------------------------- */

/* "No limit" is the largest number. */
static void put_number(struct buf *b, const char *name, const struct config_number *n)
{
	if (!n->given || n->value == 0)
		return;
	bus_put_property(b, name, "t");
	bus_put_u64(b, n->value < 0 ? UINT64_MAX : (uint64_t)n->value);
}

static void put_cpu_quota(struct buf *b, const struct config_resources *r)
{
	const int64_t period =
		r->cpu.period.given && r->cpu.period.value > 0 ? r->cpu.period.value : 100000;
	uint64_t per_second = UINT64_MAX;

	if (r->cpu.period.given) {
		bus_put_property(b, "CPUQuotaPeriodUSec", "t");
		bus_put_u64(b, (uint64_t)period);
	}
	if (!r->cpu.quota.given)
		return;
	/* systemd has whole percents: a remainder is rounded up. */
	if (r->cpu.quota.value > 0)
		per_second =
			((uint64_t)r->cpu.quota.value * USEC_PER_SEC / (uint64_t)period + 9999) /
			10000 * 10000;
	bus_put_property(b, "CPUQuotaPerSecUSec", "t");
	bus_put_u64(b, per_second);
}

static void put_cpu_weight(struct buf *b, const struct config_resources *r, bool v2)
{
	struct config_number weight = r->cpu.shares;

	if (v2 && weight.given && weight.value > 0) {
		const int64_t shares = weight.value < 2        ? 2
				       : weight.value > 262144 ? 262144
							       : weight.value;

		weight.value = 1 + (shares - 2) * 9999 / 262142;
	}
	put_number(b, v2 ? "CPUWeight" : "CPUShares", &weight);
}

/* "0-3,7" as bytes of bits, the lowest first. */
static void put_set(struct buf *b, const char *name, const char *list)
{
	unsigned char bits[CPUS_MAX / 8] = {0};
	size_t used = 0, begin;

	if (str_empty(list))
		return;
	for (const char *p = list; *p != '\0';) {
		char *end;
		unsigned long first = strtoul(p, &end, 10), last = first;

		if (end != p && *end == '-')
			last = strtoul(end + 1, &end, 10);
		/* What is no list is refused where it is written. */
		if (end == p || last < first || last >= CPUS_MAX)
			return;
		for (unsigned long n = first; n <= last; n++)
			bits[n / 8] |= (unsigned char)(1U << n % 8);
		used = last / 8 + 1 > used ? last / 8 + 1 : used;
		p = *end ? end + 1 : end;
	}
	bus_put_property(b, name, "ay");
	begin = bus_begin_array(b, 1);
	buf_add(b, bits, used);
	bus_end_array(b, begin, 1);
}

/* A file of the unified map that holds one number, "max" or bytes with a suffix. */
static bool parse_value(const char *text, int64_t *ret)
{
	static const char suffixes[] = "kmgtpe";
	char *end;
	const char *suffix;
	uint64_t value = strtoull(text, &end, 10);

	if (str_eq(text, "max")) {
		*ret = -1;
		return true;
	}
	suffix = *end ? strchr(suffixes, tolower((unsigned char)*end)) : NULL;
	for (const char *s = suffixes; suffix != NULL && s <= suffix && value <= INT64_MAX >> 10;
	     s++)
		value <<= 10;
	*ret = (int64_t)value;
	return isdigit((unsigned char)text[0]) && (*end == '\0' || suffix != NULL) &&
	       value <= INT64_MAX;
}

/* "QUOTA PERIOD" or "QUOTA". */
static void put_cpu_max(struct buf *b, const char *text)
{
	own_strv char **words = strv_split(text, ' ');
	struct config_resources r = {0};

	if (strv_len(words) < 1 || !parse_value(words[0], &r.cpu.quota.value))
		return;
	r.cpu.quota.given = true;
	r.cpu.period.given = strv_len(words) > 1 && parse_value(words[1], &r.cpu.period.value);
	put_cpu_quota(b, &r);
}

/* What the map sets in files that systemd has properties for: without them it would write its own idea of the
 * limits over them. What cannot be parsed is refused where it is written. */
static void put_unified(struct buf *b, const struct config_pair *pair)
{
	static const struct {
		const char *file, *property;
	} numbers[] = {
		{"cpu.weight", "CPUWeight"},          {"io.weight", "IOWeight"},
		{"memory.high", "MemoryHigh"},        {"memory.low", "MemoryLow"},
		{"memory.max", "MemoryMax"},          {"memory.min", "MemoryMin"},
		{"memory.swap.max", "MemorySwapMax"}, {"pids.max", "TasksMax"},
	};
	const char *text = pair->text;
	int64_t value;

	if (str_eq(pair->key, "cpu.max"))
		put_cpu_max(b, text);
	if (str_eq(pair->key, "cpuset.cpus"))
		put_set(b, "AllowedCPUs", text);
	if (str_eq(pair->key, "cpuset.mems"))
		put_set(b, "AllowedMemoryNodes", text);
	if (str_eq(pair->key, "io.weight") && str_after(text, "default ") != NULL)
		text = str_after(text, "default ");
	for (size_t i = 0; i < array_size(numbers); i++)
		if (str_eq(pair->key, numbers[i].file) && parse_value(text, &value)) {
			bus_put_property(b, numbers[i].property, "t");
			bus_put_u64(b, value < 0 ? UINT64_MAX : (uint64_t)value);
		}
}

void cgroup_unit_limits(struct buf *b, const struct config_resources *r, bool v2)
{
	struct config_number swap = r->memory.swap;

	put_number(b, v2 ? "MemoryMax" : "MemoryLimit", &r->memory.limit);
	if (v2) {
		put_number(b, "MemoryLow", &r->memory.reservation);
		/* v2 counts swap alone. */
		if (swap.given && swap.value > 0 && r->memory.limit.given &&
		    r->memory.limit.value > 0)
			swap.value -= r->memory.limit.value;
		put_number(b, "MemorySwapMax", &swap);
		put_set(b, "AllowedCPUs", r->cpu.cpus);
		put_set(b, "AllowedMemoryNodes", r->cpu.mems);
	}
	put_cpu_weight(b, r, v2);
	put_cpu_quota(b, r);
	put_number(b, "TasksMax", &r->pids_limit);
	put_number(b, v2 ? "IOWeight" : "BlockIOWeight", &r->io.weight);
	for (size_t i = 0; v2 && i < r->unified_count; i++)
		put_unified(b, &r->unified[i]);
}

/* --- devices ------------------------------------------------------------------------------------ */

/* The name that /proc/devices has for a major number, for "char-NAME"; NULL if it has none. */
static char *major_name(const char *proc_devices, bool block, int64_t major)
{
	const char *from =
		proc_devices ? strstr(proc_devices, block ? "Block devices:" : "Character devices:")
			     : NULL;

	for (const char *line = from ? strchr(from, '\n') : NULL; line != NULL;
	     line = strchr(line + 1, '\n')) {
		char *end;
		const long number = strtol(line + 1, &end, 10);

		if (end == line + 1)
			return NULL;
		if (number == major)
			return str_copy_n(end + 1, strcspn(end + 1, "\n"));
	}
	return NULL;
}

static char *device_name(const struct config_device_rule *d, const char *proc_devices)
{
	const bool block = d->type == 'b';
	own_mem char *name = NULL;

	if (d->major < 0)
		return d->minor < 0 ? str_copy(block ? "block-*" : "char-*") : NULL;
	if (d->minor < 0) {
		name = major_name(proc_devices, block, d->major);
		return name ? str_format("%s-%s", block ? "block" : "char", name) : NULL;
	}
	/* systemd takes the numbers from the name: the file need not be there. */
	return str_format("/dev/%s/%lld:%lld", block ? "block" : "char", (long long)d->major,
			  (long long)d->minor);
}

static bool is_all(const struct config_device_rule *d)
{
	return d->major < 0 && d->minor < 0 && d->type == 'a' && d->read && d->write && d->mknod;
}

static void put_rule(struct buf *b, const struct config_device_rule *d, const char *proc_devices)
{
	own_mem char *name = device_name(d, proc_devices);

	if (name == NULL)
		return;
	bus_put_struct(b);
	bus_put_string(b, name);
	bus_put_string(b, d->read    ? d->write   ? d->mknod ? "rwm" : "rw"
				       : d->mknod ? "rm"
						  : "r"
			  : d->write ? d->mknod ? "wm" : "w"
				     : "m");
}

void cgroup_unit_devices(struct buf *b, const struct config_resources *r)
{
	own_mem char *proc_devices = NULL;
	size_t len, first = 0, begin;
	bool strict = false;

	/* What comes before a rule for all devices does not count any more. */
	for (size_t i = 0; i < r->device_count; i++)
		if (is_all(&r->devices[i])) {
			strict = !r->devices[i].allow;
			first = i + 1;
		}
	bus_put_property(b, "DevicePolicy", "s");
	bus_put_string(b, strict ? "strict" : "auto");
	bus_put_property(b, "DeviceAllow", "a(ss)");
	begin = bus_begin_array(b, 8);
	if (strict &&
	    file_read(AT_FDCWD, "/proc/devices", DEVICES_TEXT_MAX, &proc_devices, &len, NULL) < 0)
		proc_devices = NULL;
	for (size_t i = first; strict && i < r->device_count; i++) {
		struct config_device_rule d = r->devices[i];

		if (!d.allow)
			continue;
		for (const char *type = d.type == 'a' ? "bc" : ""; *type != '\0'; type++) {
			d.type = *type;
			put_rule(b, &d, proc_devices);
		}
		if (r->devices[i].type != 'a')
			put_rule(b, &d, proc_devices);
	}
	bus_end_array(b, begin, 8);
}

/* --- annotations -------------------------------------------------------------------------------- */

/* A quoted text; *p is moved behind it. NULL if it is none. */
static char *parse_quoted(const char **p)
{
	const char quote = **p;
	own_buf struct buf text = {0};
	const char *s = *p;

	if (quote != '\'' && quote != '"')
		return NULL;
	for (s++; *s != quote; s++) {
		if (*s == '\\')
			s++;
		if (*s == '\0')
			return NULL;
		buf_add_char(&text, *s);
	}
	*p = s + 1;
	return buf_take(&text);
}

static int put_strings(struct buf *b, const char *name, const char *value)
{
	own_strv char **texts = NULL;
	const char *p = value + 1;
	size_t begin;

	for (p += strspn(p, " "); *p != ']'; p += strspn(p, " ")) {
		char *text = parse_quoted(&p);

		if (text == NULL)
			return -EINVAL;
		strv_push_take(&texts, text);
		p += strspn(p, " ");
		if (*p == ',')
			p++;
		else if (*p != ']')
			return -EINVAL;
	}
	if (p[1] != '\0')
		return -EINVAL;
	bus_put_property(b, name, "as");
	begin = bus_begin_array(b, 4);
	for (size_t i = 0; texts != NULL && texts[i] != NULL; i++)
		bus_put_string(b, texts[i]);
	bus_end_array(b, begin, 4);
	return 0;
}

static int put_integer(struct buf *b, const char *name, const char *value)
{
	static const struct {
		const char *word, *signature;
		bool wide;
	} types[] = {
		{"uint64 ", "t", true}, {"int64 ", "x", true}, {"uint32 ", "u", false},
		{"int32 ", "i", false}, {"", "i", false},
	};

	for (size_t i = 0; i < array_size(types); i++) {
		const char *digits = str_after(value, types[i].word);
		long long number;
		char *end;

		if (digits == NULL)
			continue;
		errno = 0;
		number = types[i].signature[0] == 't' ? (long long)strtoull(digits, &end, 0)
						      : strtoll(digits, &end, 0);
		if (end == digits || *end != '\0' || errno != 0)
			return -EINVAL;
		bus_put_property(b, name, types[i].signature);
		if (types[i].wide)
			bus_put_u64(b, (uint64_t)number);
		else
			bus_put_u32(b, (uint32_t)number);
		return 0;
	}
	return -EINVAL;
}

/* systemd's files have seconds, its interface microseconds. */
static int put_seconds(struct buf *b, const char *name, const char *value)
{
	own_mem char *usec = str_format("%.*sUSec", (int)strlen(name) - 3, name);
	const char *digits = strrchr(value, ' ') ? strrchr(value, ' ') + 1 : value;
	double seconds;
	char *end;

	seconds = strtod(digits, &end);
	if (end == digits || *end != '\0' || !(seconds >= 0 && seconds < 1e12))
		return -EINVAL;
	bus_put_property(b, usec, "t");
	bus_put_u64(b, (uint64_t)(seconds * USEC_PER_SEC));
	return 0;
}

static int put_annotation(struct buf *b, const char *name, const char *value)
{
	own_mem char *text = NULL;
	const char *p = value;

	if (!isupper((unsigned char)name[0]) ||
	    name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")] !=
		    '\0')
		return -EINVAL;
	if (str_ends_with(name, "Sec") && !str_ends_with(name, "USec"))
		return put_seconds(b, name, value);
	if (value[0] == '[')
		return put_strings(b, name, value);
	if (str_eq(value, "true") || str_eq(value, "false")) {
		bus_put_property(b, name, "b");
		bus_put_bool(b, value[0] == 't');
		return 0;
	}
	text = parse_quoted(&p);
	if (text == NULL)
		return put_integer(b, name, value);
	if (*p != '\0')
		return -EINVAL;
	bus_put_property(b, name, "s");
	bus_put_string(b, text);
	return 0;
}

int cgroup_unit_annotations(struct buf *b, const json_t *annotations, struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)annotations, key, value) {
		const char *name = str_after(key, "org.systemd.property.");
		const char *text = json_string_value(value);

		if (name != NULL && text != NULL && put_annotation(b, name, text) < 0)
			return refuse(
				err, -EINVAL,
				"annotations.%s: \"%s\" is no property of systemd with a value",
				key, text);
	}
	return 0;
}
