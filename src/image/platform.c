/* platform: see platform.h. */
#include "image/platform.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/mem.h"
#include "base/str.h"

/* What uname and people say, and what the specification says. */
static const struct {
	const char *other, *architecture, *variant;
} translations[] = {
	{"x86_64", "amd64", ""},
	{"x86-64", "amd64", ""},
	{"aarch64", "arm64", ""},
	{"i386", "386", ""},
	{"i486", "386", ""},
	{"i586", "386", ""},
	{"i686", "386", ""},
	{"armhf", "arm", "v7"},
	{"armv7l", "arm", "v7"},
	{"armel", "arm", "v6"},
	{"armv6l", "arm", "v6"},
	{"armv8l", "arm", "v7"},
	{"loongarch64", "loong64", ""},
};

static int set_part(char *part, const char *s, const char *whole, struct error *err)
{
	size_t len = strlen(s);

	if (len == 0 || len >= PLATFORM_PART_MAX ||
	    strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != len)
		return hint(err, refuse(err, -EINVAL, "\"%.80s\" is not a platform", whole),
			    "os/architecture[/variant], as in linux/amd64 or linux/arm64/v8");
	memcpy(part, s, len + 1);
	return 0;
}

static void translate(struct platform *p)
{
	for (size_t i = 0; i < array_size(translations); i++) {
		if (!str_eq(p->architecture, translations[i].other))
			continue;
		strcpy(p->architecture, translations[i].architecture);
		if (p->variant[0] == '\0')
			strcpy(p->variant, translations[i].variant);
	}
}

static int of_host(struct platform *ret, struct error *err)
{
	struct utsname host;

	if (uname(&host) < 0)
		return fail(err, -errno, "find out this machine's architecture");
	strcpy(ret->os, "linux");
	snprintf(ret->architecture, sizeof(ret->architecture), "%.31s", host.machine);
	ret->variant[0] = '\0';
	translate(ret);
	return 0;
}

int platform_parse(const char *s, struct platform *ret, struct error *err)
{
	own_strv char **parts = NULL;
	struct platform p = {.os = "linux"};
	size_t count;
	int rc;

	if (s == NULL)
		return of_host(ret, err);
	parts = str_empty(s) ? NULL : strv_split(s, '/');
	count = strv_len(parts);
	if (count == 0 || count > 3)
		return set_part(p.os, "", s, err);
	rc = count > 1 ? set_part(p.os, parts[0], s, err) : 0;
	if (rc == 0)
		rc = set_part(p.architecture, parts[count > 1 ? 1 : 0], s, err);
	if (rc == 0 && count > 2)
		rc = set_part(p.variant, parts[2], s, err);
	if (rc < 0)
		return rc;
	translate(&p);
	*ret = p;
	return 0;
}

/* The variant that an architecture without one means. */
static const char *default_variant(const char *architecture)
{
	if (str_eq(architecture, "arm64"))
		return "v8";
	return str_eq(architecture, "arm") ? "v7" : "";
}

int platform_match(const struct platform *wanted, const char *os, const char *architecture,
		   const char *variant)
{
	const char *is = variant, *wants = wanted->variant;

	if (!str_eq(os, wanted->os) || !str_eq(architecture, wanted->architecture))
		return 0;
	if (str_empty(is))
		is = default_variant(architecture);
	if (str_empty(wants))
		wants = default_variant(architecture);
	if (str_eq(is, wants))
		return 3;
	/* An older 32-bit ARM runs on a newer one. Another amd64 level than the plain one must
	 * have been asked for. */
	if (str_eq(architecture, "arm"))
		return strcmp(is, wants) < 0 ? 2 : 0;
	return str_empty(is) ? 1 : 0;
}

void platform_format(const struct platform *p, char out[static 3 * PLATFORM_PART_MAX])
{
	snprintf(out, 3 * PLATFORM_PART_MAX, "%s/%s%s%s", p->os, p->architecture,
		 p->variant[0] ? "/" : "", p->variant);
}
