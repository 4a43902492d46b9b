/* packages: see packages.h. Here: the whole, os-release, and the databases of dpkg and apk. */
#include "image/packages.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/beneath.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/packages_priv.h"

/* --- dpkg --------------------------------------------------------------------------------------- */

struct dpkg_reader {
	struct packages *list;
	const char *path;
	struct package *current; /* the paragraph's, once it has a field */
	bool installed;
};

/* "Source: name (version)" */
static void parse_source(struct package *p, const char *value)
{
	const char *open = strchr(value, '(');
	size_t len = strcspn(value, " (");

	free(p->source_name);
	p->source_name = str_copy_n(value, len);
	if (open != NULL) {
		free(p->source_version);
		p->source_version = str_copy_n(open + 1, strcspn(open + 1, ")"));
	}
}

static void replace(char **field, const char *value)
{
	free(*field);
	*field = str_copy(value);
}

static int dpkg_field(void *data, const char *key, const char *value, struct error *err)
{
	struct dpkg_reader *r = data;
	int rc;

	if (r->current == NULL) {
		rc = packages_add(r->list, "deb", r->path, &r->current, err);
		if (rc < 0)
			return rc;
		/* Files below status.d have no Status: being there says it. */
		r->installed = true;
	}
	if (str_eq(key, "Package"))
		replace(&r->current->name, value);
	else if (str_eq(key, "Version"))
		replace(&r->current->version, value);
	else if (str_eq(key, "Architecture"))
		replace(&r->current->architecture, value);
	else if (str_eq(key, "Source"))
		parse_source(r->current, value);
	else if (str_eq(key, "Status"))
		r->installed = str_ends_with(value, " installed");
	return 0;
}

static int dpkg_end(void *data, struct error *err)
{
	struct dpkg_reader *r = data;

	(void)err;
	if (r->current != NULL &&
	    (!r->installed || r->current->name == NULL || r->current->version == NULL))
		packages_drop_last(r->list);
	r->current = NULL;
	return 0;
}

static const struct paragraph_ops dpkg_ops = {.field = dpkg_field, .end = dpkg_end};

static int read_dpkg_file(int root_fd, const char *path, struct packages *list, struct error *err)
{
	struct dpkg_reader r = {.list = list, .path = path};
	own_mem char *text = NULL;
	size_t len;
	int rc = packages_read(root_fd, path, PACKAGES_FILE_MAX, &text, &len, err);

	return rc <= 0 ? rc : packages_parse_paragraphs(text, &dpkg_ops, &r, err);
}

int packages_read_dpkg(int root_fd, struct packages *list, struct error *err)
{
	static const char parts[] = "var/lib/dpkg/status.d";
	int fd = beneath_open(root_fd, parts, O_RDONLY | O_DIRECTORY, 0);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int rc = read_dpkg_file(root_fd, "var/lib/dpkg/status", list, err);

	while (rc >= 0 && dir != NULL && (entry = readdir(dir)) != NULL) {
		own_mem char *path = str_format("%s/%s", parts, entry->d_name);

		if (entry->d_name[0] != '.' && !str_ends_with(entry->d_name, ".md5sums"))
			rc = read_dpkg_file(root_fd, path, list, err);
	}
	return rc;
}

/* --- apk ---------------------------------------------------------------------------------------- */

static int apk_field(void *data, const char *key, const char *value, struct error *err)
{
	struct dpkg_reader *r = data;
	int rc;

	if (r->current == NULL) {
		rc = packages_add(r->list, "apk", r->path, &r->current, err);
		if (rc < 0)
			return rc;
		r->installed = true;
	}
	if (str_eq(key, "P"))
		replace(&r->current->name, value);
	else if (str_eq(key, "V"))
		replace(&r->current->version, value);
	else if (str_eq(key, "A"))
		replace(&r->current->architecture, value);
	else if (str_eq(key, "L"))
		replace(&r->current->license, value);
	else if (str_eq(key, "o"))
		replace(&r->current->source_name, value);
	return 0;
}

static const struct paragraph_ops apk_ops = {.field = apk_field, .end = dpkg_end};

int packages_read_apk(int root_fd, struct packages *list, struct error *err)
{
	struct dpkg_reader r = {.list = list, .path = "lib/apk/db/installed"};
	own_mem char *text = NULL;
	size_t len;
	int rc = packages_read(root_fd, r.path, PACKAGES_FILE_MAX, &text, &len, err);

	return rc <= 0 ? rc : packages_parse_paragraphs(text, &apk_ops, &r, err);
}

/* --- the whole ---------------------------------------------------------------------------------- */

/* The value of KEY=value in os-release, without quotes; NULL if it is not there. */
static char *release_value(const char *text, const char *key)
{
	const size_t key_len = strlen(key);

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		size_t len;

		line += *line == '\n';
		if (strncmp(line, key, key_len) != 0 || line[key_len] != '=')
			continue;
		line += key_len + 1;
		len = strcspn(line, "\n");
		if (len >= 2 && (*line == '"' || *line == '\'') && line[len - 1] == *line) {
			line++;
			len -= 2;
		}
		return str_copy_n(line, len);
	}
	return NULL;
}

static int read_release(int root_fd, struct packages *list, struct error *err)
{
	enum { RELEASE_MAX = 64 << 10 };
	static const char *const paths[] = {"etc/os-release", "usr/lib/os-release"};
	own_mem char *text = NULL;
	size_t len;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < array_size(paths); i++)
		rc = packages_read(root_fd, paths[i], RELEASE_MAX, &text, &len, err);
	if (rc <= 0)
		return rc;
	list->distribution = release_value(text, "ID");
	list->release = release_value(text, "VERSION_ID");
	list->pretty_name = release_value(text, "PRETTY_NAME");
	return 0;
}

static int compare_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "");
}

static int compare_packages(const void *a, const void *b)
{
	const struct package *x = a, *y = b;
	int order = strcmp(x->type, y->type);

	if (order == 0)
		order = compare_text(x->name, y->name);
	if (order == 0)
		order = compare_text(x->version, y->version);
	if (order == 0)
		order = compare_text(x->architecture, y->architecture);
	return order ? order : compare_text(x->path, y->path);
}

/* Drops entries that differ in nothing but where they were found; the first path stays. */
static void drop_duplicates(struct packages *list)
{
	size_t kept = 0;

	for (size_t i = 0; i < list->count; i++) {
		struct package *p = &list->items[i], *last = kept ? &list->items[kept - 1] : NULL;

		if (last != NULL && str_eq(last->type, p->type) && str_eq(last->name, p->name) &&
		    str_eq(last->version, p->version) &&
		    str_eq(last->architecture, p->architecture))
			package_release(p);
		else
			list->items[kept++] = *p;
	}
	list->count = kept;
}

int packages_scan(int root_fd, struct packages *ret, struct error *err)
{
	static int (*const readers[])(int, struct packages *, struct error *) = {
		read_release,      packages_read_dpkg,      packages_read_apk,
		packages_read_rpm, packages_read_languages,
	};

	for (size_t i = 0; i < array_size(readers); i++) {
		int rc = readers[i](root_fd, ret, err);

		if (rc < 0)
			return rc;
	}
	if (ret->count > 0)
		qsort(ret->items, ret->count, sizeof(*ret->items), compare_packages);
	drop_duplicates(ret);
	return 0;
}
