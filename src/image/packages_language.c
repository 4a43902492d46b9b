/*
 * packages_language: what the package managers of programming languages leave in a tree.
 *
 * One walk over the tree looks at names only; a file whose name is known is read and parsed. The walk
 * goes by descriptors and follows no link. Lock files are read line by line where their form allows:
 * the parsers accept what the tools write and ignore what they do not know.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/packages_priv.h"

/* One file to parse: its text may be changed while parsing. */
struct language_file {
	const char *path;
	char *text;
	size_t len;
};

static int add(struct packages *list, const char *type, const char *path, const char *name,
	       const char *version, struct error *err)
{
	struct package *p;
	int rc;

	if (str_empty(name) || str_empty(version))
		return 0;
	rc = packages_add(list, type, path, &p, err);
	if (rc < 0)
		return rc;
	p->name = str_copy(name);
	p->version = str_copy(version);
	return 0;
}

/* Cuts the next line off; NULL at the end. */
static char *next_line(char **text)
{
	char *line = *text;

	if (line == NULL || *line == '\0')
		return NULL;
	*text = strchr(line, '\n');
	if (*text != NULL)
		*(*text)++ = '\0';
	line[strcspn(line, "\r")] = '\0';
	return line;
}

/* --- Python: metadata of an installed distribution ------------------------------------------------ */

struct python_reader {
	char *name, *version, *license;
};

static int python_field(void *data, const char *key, const char *value, struct error *err)
{
	struct python_reader *r = data;
	char **field = NULL;

	(void)err;
	if (str_eq(key, "Name"))
		field = &r->name;
	else if (str_eq(key, "Version"))
		field = &r->version;
	else if (str_eq(key, "License") || str_eq(key, "License-Expression"))
		field = &r->license;
	/* The first one counts: what follows the headers is free text. */
	if (field != NULL && *field == NULL)
		*field = str_copy_n(value, strcspn(value, "\n"));
	return 0;
}

/* Only the first paragraph holds headers. */
static int python_end(void *data, struct error *err)
{
	(void)data;
	(void)err;
	return -ECANCELED;
}

static const struct paragraph_ops python_ops = {.field = python_field, .end = python_end};

static int read_python(const struct language_file *file, struct packages *list, struct error *err)
{
	struct python_reader r = {0};
	int rc = packages_parse_paragraphs(file->text, &python_ops, &r, NULL);
	const size_t before = list->count;

	rc = add(list, "pypi", file->path, r.name, r.version, err);
	if (rc == 0 && list->count > before)
		list->items[before].license = take(r.license);
	free(r.name);
	free(r.version);
	free(r.license);
	return rc;
}

/* --- JSON: npm and composer ----------------------------------------------------------------------- */

/* Parses the file as a JSON object; one that is none is noted, and *ret stays NULL. */
static void parse_object(const struct language_file *file, struct packages *list, json_t **ret)
{
	struct error why = {0};

	if (json_parse(file->text, file->len, file->path, ret, &why) < 0) {
		packages_note(list, "%s", why.text);
		return;
	}
	if (!json_is_object(*ret)) {
		packages_note(list, "/%s: not a JSON object", file->path);
		json_decref(*ret);
		*ret = NULL;
	}
}

static const char *member_string(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static int read_npm_package(const struct language_file *file, struct packages *list,
			    struct error *err)
{
	own_json json_t *root = NULL;
	const size_t before = list->count;
	int rc;

	parse_object(file, list, &root);
	if (root == NULL)
		return 0;
	rc = add(list, "npm", file->path, member_string(root, "name"),
		 member_string(root, "version"), err);
	if (rc == 0 && list->count > before)
		list->items[before].license = str_copy(member_string(root, "license"));
	return rc;
}

/* package-lock.json, versions 2 and 3: "packages": {"node_modules/x": {"version": ...}};
 * version 1: "dependencies": {"x": {"version": ..., "dependencies": {...}}}, one level read. */
static int read_npm_lock(const struct language_file *file, struct packages *list, struct error *err)
{
	static const char marker[] = "node_modules/";
	own_json json_t *root = NULL;
	const char *key;
	json_t *value;
	int rc = 0;

	parse_object(file, list, &root);
	json_object_foreach (json_object_get(root, "packages"), key, value) {
		const char *name = NULL;

		for (const char *at = strstr(key, marker); at; at = strstr(name, marker))
			name = at + sizeof(marker) - 1;
		if (name != NULL && rc == 0)
			rc = add(list, "npm", file->path, name, member_string(value, "version"),
				 err);
	}
	if (json_object_get(root, "packages") != NULL)
		return rc;
	json_object_foreach (json_object_get(root, "dependencies"), key, value) {
		if (rc == 0)
			rc = add(list, "npm", file->path, key, member_string(value, "version"),
				 err);
	}
	return rc;
}

static int read_composer(const struct language_file *file, struct packages *list, struct error *err)
{
	own_json json_t *root = NULL;
	json_t *value;
	size_t i;
	int rc = 0;

	parse_object(file, list, &root);
	json_array_foreach (json_object_get(root, "packages"), i, value) {
		if (rc == 0)
			rc = add(list, "composer", file->path, member_string(value, "name"),
				 member_string(value, "version"), err);
	}
	return rc;
}

/* --- lines: Cargo, Bundler, Go -------------------------------------------------------------------- */

/* The text between the quotes of `key = "text"`, in place; NULL if the line is another. */
static char *quoted_value(char *line, const char *key)
{
	const size_t len = strlen(key);
	char *open, *close;

	if (strncmp(line, key, len) != 0 || strchr(" =", line[len]) == NULL)
		return NULL;
	open = strchr(line, '"');
	close = open ? strchr(open + 1, '"') : NULL;
	if (close == NULL)
		return NULL;
	*close = '\0';
	return open + 1;
}

static int read_cargo(const struct language_file *file, struct packages *list, struct error *err)
{
	const char *name = NULL;
	char *text = file->text, *line;
	int rc = 0;

	while (rc == 0 && (line = next_line(&text)) != NULL) {
		char *value;

		if (str_eq(line, "[[package]]")) {
			name = NULL;
		} else if ((value = quoted_value(line, "name")) != NULL) {
			name = value;
		} else if ((value = quoted_value(line, "version")) != NULL && name != NULL) {
			rc = add(list, "cargo", file->path, name, value, err);
			name = NULL;
		}
	}
	return rc;
}

/* Gemfile.lock: below "  specs:" of a section, "    name (version)". */
static int read_gems(const struct language_file *file, struct packages *list, struct error *err)
{
	char *text = file->text, *line;
	int rc = 0;

	while (rc == 0 && (line = next_line(&text)) != NULL) {
		char *open = strstr(line, " ("), *close;

		if (strncmp(line, "    ", 4) != 0 || line[4] == ' ' || open == NULL)
			continue;
		close = strchr(open, ')');
		if (close == NULL)
			continue;
		*open = *close = '\0';
		rc = add(list, "gem", file->path, line + 4, open + 2, err);
	}
	return rc;
}

/* go.mod: "require module version" and "require ( ... )". */
static int read_go(const struct language_file *file, struct packages *list, struct error *err)
{
	char *text = file->text, *line;
	bool inside = false;
	int rc = 0;

	while (rc == 0 && (line = next_line(&text)) != NULL) {
		char *save = NULL, *word = strtok_r(line, " \t", &save);
		const char *version;

		if (word == NULL || str_eq(word, ")")) {
			inside = inside && word == NULL;
			continue;
		}
		if (str_eq(word, "require")) {
			word = strtok_r(NULL, " \t", &save);
			if (word != NULL && str_eq(word, "(")) {
				inside = true;
				continue;
			}
		} else if (!inside) {
			continue;
		}
		version = strtok_r(NULL, " \t", &save);
		if (word != NULL && version != NULL && version[0] == 'v')
			rc = add(list, "golang", file->path, word, version, err);
	}
	return rc;
}

/* --- which file is what --------------------------------------------------------------------------- */

/* How a file is recognised: by its name and the end of its directory's path. */
static const struct language_kind {
	const char *name;
	const char *directory; /* a suffix of the directory's name; NULL: any */
	bool in_node_modules;  /* the directory's parent, or its parent's parent, is node_modules */
	int (*read)(const struct language_file *file, struct packages *list, struct error *err);
} kinds[] = {
	{"METADATA", ".dist-info", false, read_python},
	{"PKG-INFO", ".egg-info", false, read_python},
	{"package.json", NULL, true, read_npm_package},
	{"package-lock.json", NULL, false, read_npm_lock},
	{"composer.lock", NULL, false, read_composer},
	{"Cargo.lock", NULL, false, read_cargo},
	{"Gemfile.lock", NULL, false, read_gems},
	{"go.mod", NULL, false, read_go},
};

/* True for ".../node_modules/NAME" and ".../node_modules/@SCOPE/NAME". */
static bool is_npm_directory(const char *directory)
{
	const char *name = strrchr(directory, '/');
	const char *modules = "/node_modules";
	own_mem char *parent = name ? str_copy_n(directory, (size_t)(name - directory)) : NULL;
	char *scope;

	if (parent == NULL)
		return false;
	scope = strrchr(parent, '/');
	if (scope != NULL && scope[1] == '@')
		*scope = '\0';
	return str_ends_with(parent, modules) || str_eq(parent, modules + 1);
}

static const struct language_kind *recognise(const char *directory, const char *name)
{
	for (size_t i = 0; i < array_size(kinds); i++) {
		if (!str_eq(name, kinds[i].name) ||
		    (kinds[i].directory && !str_ends_with(directory, kinds[i].directory)) ||
		    (kinds[i].in_node_modules && !is_npm_directory(directory)))
			continue;
		return &kinds[i];
	}
	return NULL;
}

int packages_read_language_file(int root_fd, const char *path, struct packages *list,
				struct error *err)
{
	const char *slash = strrchr(path, '/');
	own_mem char *directory = str_copy_n(path, slash ? (size_t)(slash - path) : 0);
	const struct language_kind *kind = recognise(directory, slash ? slash + 1 : path);
	struct language_file file = {.path = path};
	own_mem char *text = NULL;
	int rc;

	if (kind == NULL)
		return 0;
	rc = packages_read(root_fd, path, PACKAGES_LOCK_MAX, &text, &file.len, err);
	if (rc <= 0)
		return rc;
	file.text = text;
	return kind->read(&file, list, err);
}

/* Looks at one directory, and at those in it. `path` is without a leading slash. */
static int walk(int root_fd, int dir_fd, const char *path, unsigned int depth,
		struct packages *list, struct error *err)
{
	own_dir DIR *dir = fdopendir(dir_fd);
	struct dirent *entry;
	int rc = 0;

	if (dir == NULL) {
		close(dir_fd);
		return fail(err, -errno, "read the directory /%s of the image", path);
	}
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		own_mem char *inner = NULL;
		int fd;

		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
			continue;
		inner = path[0] ? str_format("%s/%s", path, entry->d_name)
				: str_copy(entry->d_name);
		if (entry->d_type == DT_REG)
			rc = packages_read_language_file(root_fd, inner, list, err);
		if (entry->d_type != DT_DIR)
			continue;
		if (depth == PACKAGES_WALK_DEPTH) {
			packages_note(list, "/%s: too deep, not searched", inner);
			continue;
		}
		fd = openat(dirfd(dir), entry->d_name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			rc = walk(root_fd, fd, inner, depth + 1, list, err);
		else if (errno != ENOENT)
			packages_note(list, "/%s: %s", inner, strerror(errno));
	}
	return rc;
}

int packages_read_languages(int root_fd, struct packages *list, struct error *err)
{
	int fd = beneath_open(root_fd, ".", O_RDONLY | O_DIRECTORY, 0);

	if (fd < 0)
		return fail(err, fd, "open the root directory of the image");
	return walk(root_fd, fd, "", 0, list, err);
}
