/* reference: see reference.h. One pass over the bytes, no allocation. */
#include "image/reference.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

enum { NAME_MAX_LEN = 255, SHOWN_MAX = 120 };

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

bool reference_tag_valid(const char *s)
{
	size_t len = strlen(s);

	if (len == 0 || len >= REFERENCE_TAG_MAX || s[0] == '.' || s[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(s[i]) && s[i] != '_' && s[i] != '.' && s[i] != '-')
			return false;
	return true;
}

/* The length of a separator within a repository component at `s`: ".", "_", "__" or dashes. */
static size_t separator_length(const char *s, size_t len)
{
	size_t n = 0;

	if (s[0] == '.')
		return 1;
	if (s[0] == '_')
		return len > 1 && s[1] == '_' ? 2 : 1;
	while (n < len && s[n] == '-')
		n++;
	return n;
}

static bool component_valid(const char *s, size_t len)
{
	size_t i = 0;

	while (i < len) {
		size_t separator;

		if (!is_lower_alnum(s[i]))
			return false;
		while (i < len && is_lower_alnum(s[i]))
			i++;
		if (i == len)
			return true;
		separator = separator_length(s + i, len - i);
		if (separator == 0)
			return false;
		i += separator;
	}
	return false;
}

static bool repository_valid(const char *s)
{
	for (;;) {
		size_t len = strcspn(s, "/");

		if (!component_valid(s, len))
			return false;
		if (s[len] == '\0')
			return true;
		s += len + 1;
	}
}

static bool port_valid(const char *s)
{
	uint64_t port;

	return str_to_uint(s, 65535, &port) == 0 && port > 0;
}

/* A host name, an IPv4 address, or an IPv6 address in brackets; then perhaps a port. */
static bool registry_valid(const char *s)
{
	const char *p = s;

	if (*p == '[') {
		p += strspn(p + 1, "0123456789abcdefABCDEF:.") + 1;
		if (p == s + 1 || *p++ != ']')
			return false;
	} else {
		char before = '.';

		for (; *p != '\0' && *p != ':'; before = *p++)
			if (!is_alnum(*p) && !((*p == '.' || *p == '-') && is_alnum(before)) &&
			    !(*p == '-' && before == '-'))
				return false;
		if (!is_alnum(before))
			return false;
	}
	return *p == '\0' || (*p == ':' && port_valid(p + 1));
}

/* True if the text before the first slash names a registry rather than a part of the repository. */
static bool looks_like_registry(const char *s, size_t len)
{
	return memchr(s, '.', len) != NULL || memchr(s, ':', len) != NULL ||
	       (len == strlen("localhost") && memcmp(s, "localhost", len) == 0);
}

static int invalid(struct error *err, const char *s, const char *why)
{
	int rc = refuse(err, -EINVAL, "\"%.*s\" is not an image name: %s", SHOWN_MAX, s, why);

	for (const char *p = s; *p != '\0' && *p != ':' && *p != '@'; p++)
		if (isupper((unsigned char)*p))
			return hint(err, rc, "names of images are in lower case");
	return rc;
}

/* Cuts "@digest" and then ":tag" off the end of `name`. */
static int split_suffixes(const char *s, char *name, struct reference *r, struct error *err)
{
	char *at = strchr(name, '@'), *colon, *slash;

	if (at != NULL) {
		*at = '\0';
		if (digest_parse(at + 1, &r->digest, err) < 0)
			return refuse(err, -EINVAL, "\"%.*s\" is not an image name", SHOWN_MAX, s);
	}
	colon = strrchr(name, ':');
	slash = strrchr(name, '/');
	if (colon != NULL && (slash == NULL || colon > slash)) {
		*colon = '\0';
		if (!reference_tag_valid(colon + 1))
			return invalid(err, s,
				       "the tag may have up to 128 letters, digits, dots, "
				       "dashes and underscores");
		memcpy(r->tag, colon + 1, strlen(colon + 1) + 1);
	}
	return 0;
}

static int set_registry(const char *s, char **name, struct reference *r, struct error *err)
{
	char *slash = strchr(*name, '/');
	size_t len = slash ? (size_t)(slash - *name) : 0;

	if (slash != NULL && len >= sizeof(r->registry))
		return invalid(err, s, "the part before the first slash is too long");
	r->short_name = slash == NULL || !looks_like_registry(*name, len);
	if (r->short_name) {
		strcpy(r->registry, REFERENCE_DEFAULT_REGISTRY);
		return 0;
	}
	memcpy(r->registry, *name, len);
	r->registry[len] = '\0';
	*name = slash + 1;
	if (!registry_valid(r->registry))
		return invalid(err, s, "the part before the first slash is no host name");
	/* The names that docker.io has had. */
	if (str_eq(r->registry, "index.docker.io") || str_eq(r->registry, "registry-1.docker.io"))
		strcpy(r->registry, REFERENCE_DEFAULT_REGISTRY);
	return 0;
}

int reference_parse(const char *s, struct reference *ret, struct error *err)
{
	char text[REFERENCE_TEXT_MAX], *name = text;
	struct reference r = {0};
	int rc;

	if (*s == '\0')
		return refuse(err, -EINVAL, "the image name is empty");
	if (strlen(s) >= sizeof(text))
		return invalid(err, s, "it is too long");
	memcpy(text, s, strlen(s) + 1);
	rc = split_suffixes(s, name, &r, err);
	if (rc < 0)
		return rc;
	rc = set_registry(s, &name, &r, err);
	if (rc < 0)
		return rc;
	if (strlen(name) > NAME_MAX_LEN)
		return invalid(err, s, "it is longer than 255 characters");
	if (!repository_valid(name))
		return invalid(err, s,
			       "a repository is made of lower-case letters, digits and "
			       "single separators (. _ -), in parts divided by /");
	if (str_eq(r.registry, REFERENCE_DEFAULT_REGISTRY) && strchr(name, '/') == NULL)
		snprintf(r.repository, sizeof(r.repository), "library/%.*s", NAME_MAX_LEN - 8,
			 name);
	else
		memcpy(r.repository, name, strlen(name) + 1);
	if (strlen(r.registry) + 1 + strlen(r.repository) > NAME_MAX_LEN)
		return invalid(err, s, "with its registry it is longer than 255 characters");
	if (r.tag[0] == '\0' && r.digest.text[0] == '\0') {
		strcpy(r.tag, "latest");
		r.default_tag = true;
	}
	*ret = r;
	return 0;
}

bool reference_has_digest(const struct reference *r)
{
	return r->digest.text[0] != '\0';
}

static void add_suffixes(const struct reference *r, char *out)
{
	size_t len = strlen(out);

	snprintf(out + len, REFERENCE_TEXT_MAX - len, "%s%s%s%s", r->tag[0] ? ":" : "", r->tag,
		 reference_has_digest(r) ? "@" : "", r->digest.text);
}

void reference_format_name(const struct reference *r, char out[static REFERENCE_TEXT_MAX])
{
	snprintf(out, REFERENCE_TEXT_MAX, "%s/%s", r->registry, r->repository);
}

void reference_format(const struct reference *r, char out[static REFERENCE_TEXT_MAX])
{
	reference_format_name(r, out);
	add_suffixes(r, out);
}

void reference_format_familiar(const struct reference *r, char out[static REFERENCE_TEXT_MAX])
{
	const char *repository = r->repository, *rest, *slash = strchr(r->repository, '/');

	/* "docker.io/a.b/c" cannot be shortened: "a.b" would be taken for a registry. */
	if (!str_eq(r->registry, REFERENCE_DEFAULT_REGISTRY) ||
	    (slash != NULL && looks_like_registry(repository, (size_t)(slash - repository)))) {
		reference_format(r, out);
		return;
	}
	rest = str_after(repository, "library/");
	if (rest != NULL && strchr(rest, '/') == NULL)
		repository = rest;
	snprintf(out, REFERENCE_TEXT_MAX, "%s", repository);
	add_suffixes(r, out);
}
