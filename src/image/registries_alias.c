/*
 * registries_alias: what users have answered when they were asked about short names. The file is the one of
 * podman and buildah, and in the form that they give it:
 *
 *     [aliases]
 *       "bb" = "registry.example/team/bb"
 *
 * They lock the file "<it>.lock" (POSIX's locks) while they change it; so does this.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "image/registries.h"
#include "image/registries_priv.h"

static const char file_name[] = "short-name-aliases.conf";

/* Its directory; NULL: the user has no home. */
static char *directory(void)
{
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (proc_is_root())
		return str_copy("/var/cache/containers");
	if (!str_empty(cache))
		return str_format("%s/containers", cache);
	return str_empty(home) ? NULL : str_format("%s/.cache/containers", home);
}

/* The table of aliases in that file; an empty one if there is none. */
static int read_table(const char *path, json_t **ret, struct error *err)
{
	own_json json_t *file = NULL;
	json_t *table, *value;
	const char *key;
	int rc = registries_read_toml(path, &file, err);

	if (rc < 0)
		return rc;
	table = json_object_get(file, "aliases");
	json_object_foreach (table, key, value)
		if (!json_is_string(value))
			return refuse(err, -EINVAL, "%s: \"%.100s\" stands for no name", path, key);
	*ret = json_is_object(table) ? json_incref(table) : json_object();
	return 0;
}

int registries_read_aliases(json_t *all, struct error *err)
{
	own_mem char *dir = directory(), *path = dir ? str_format("%s/%s", dir, file_name) : NULL;
	own_json json_t *table = NULL;
	json_t *aliases = json_object_get(all, "aliases");
	int rc = path ? read_table(path, &table, err) : 0;

	if (rc < 0 || json_object_size(table) == 0)
		return rc;
	if (json_is_object(aliases))
		json_object_update(aliases, table);
	else
		json_object_set(all, "aliases", table);
	return 0;
}

static int lock_file(int dir_fd, struct error *err)
{
	own_mem char *name = str_format("%s.lock", file_name);
	own_fd int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fd < 0)
		return fail(err, -errno, "create %s", name);
	while (fcntl(fd, F_SETLKW, &whole) < 0)
		if (errno != EINTR)
			return fail(err, -errno, "lock %s", name);
	return take(fd);
}

/* Names of images have no character that TOML would want escaped. */
static char *format(json_t *table)
{
	own_buf struct buf text = {0};
	own_mem const char **keys = mem_new_array(json_object_size(table) + 1, sizeof(*keys));
	const char *key;
	json_t *value;
	size_t count = 0;

	json_object_foreach (table, key, value) {
		size_t at = count++;

		for (; at > 0 && strcmp(keys[at - 1], key) > 0; at--)
			keys[at] = keys[at - 1];
		keys[at] = key;
	}
	buf_add_str(&text, "[aliases]\n");
	for (size_t i = 0; i < count; i++)
		buf_format(&text, "  \"%s\" = \"%s\"\n", keys[i],
			   json_string_value(json_object_get(table, keys[i])));
	return buf_take(&text);
}

int registries_remember(const struct reference *short_name, const struct reference *full,
			struct error *err)
{
	const char *plain = str_after(short_name->repository, "library/");
	own_mem char *dir = directory(), *path = NULL, *text = NULL;
	own_fd int dir_fd = -1, lock = -1;
	own_json json_t *table = NULL;
	char name[REFERENCE_TEXT_MAX];
	int rc;

	if (dir == NULL)
		return refuse(err, -ENOENT, "there is no home directory to keep the answer in");
	dir_fd = dir_open(AT_FDCWD, dir, proc_is_root() ? 0755 : 0700, err);
	lock = dir_fd < 0 ? dir_fd : lock_file(dir_fd, err);
	if (lock < 0)
		return lock;
	path = str_format("%s/%s", dir, file_name);
	rc = read_table(path, &table, err);
	if (rc < 0)
		return rc;
	reference_format_name(full, name);
	json_object_set_new(table, plain ? plain : short_name->repository, json_string(name));
	text = format(table);
	return file_write(dir_fd, file_name, text, strlen(text), 0644, FILE_WRITE_DURABLE, err);
}
