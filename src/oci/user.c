/* user: see user.h. */
#include "oci/user.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/own.h"
#include "base/str.h"

enum { FIELDS_MAX = 7 };

/* Reads /etc/passwd or /etc/group. A file that is not there, or is none, is an empty one. */
static int read_table(int root_fd, const char *path, char **ret, struct error *err)
{
	own_fd int fd = beneath_open(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;
	size_t len;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		*ret = str_copy("");
		return 0;
	}
	rc = fd_read_all(fd, USER_FILE_MAX, ret, &len);
	if (rc == -EFBIG)
		return refuse(err, rc, "%s in the image is larger than %d bytes", path,
			      USER_FILE_MAX);
	return rc < 0 ? fail(err, rc, "read %s in the image", path) : 0;
}

/* Splits the line at `*cursor` into fields in place and steps to the next. False at the end. */
static bool next_line(char **cursor, char *fields[FIELDS_MAX], size_t *count)
{
	char *line = *cursor, *end;

	if (line == NULL || *line == '\0')
		return false;
	end = strchr(line, '\n');
	if (end != NULL)
		*end++ = '\0';
	*cursor = end;
	*count = 0;
	while (*count < FIELDS_MAX && line != NULL) {
		fields[(*count)++] = line;
		line = strchr(line, ':');
		if (line != NULL)
			*line++ = '\0';
	}
	return true;
}

static int parse_id(const char *text, uint32_t *ret)
{
	uint64_t id;
	int rc = str_to_uint(text, USER_ID_MAX, &id);

	if (rc == 0)
		*ret = (uint32_t)id;
	return rc;
}

/* True if `text` means to be a number: then it must be a valid one. */
static bool looks_numeric(const char *text)
{
	const char *digits = text[0] == '-' || text[0] == '+' ? text + 1 : text;

	return digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0';
}

/* What `wanted` is in passwd, by name or number. Sets *ret_name to the matched name, if any. */
static int find_user(char *table, const char *wanted, struct user *user, char **ret_name,
		     struct error *err)
{
	bool numeric = parse_id(wanted, &user->uid) == 0;
	char *fields[FIELDS_MAX];
	size_t n;

	if (!numeric && looks_numeric(wanted))
		return refuse(err, -EINVAL, "user \"%s\" is not within 0 and %d", wanted,
			      USER_ID_MAX);
	while (next_line(&table, fields, &n)) {
		uint32_t uid, gid;

		if (n < 4 || parse_id(fields[2], &uid) < 0 || parse_id(fields[3], &gid) < 0)
			continue;
		if (!str_eq(fields[0], wanted) && !(numeric && uid == user->uid))
			continue;
		user->uid = uid;
		user->gid = gid;
		if (n > 5 && fields[5][0] == '/')
			user->home = str_copy(fields[5]);
		*ret_name = str_copy(fields[0]);
		return 0;
	}
	if (!numeric)
		return refuse(err, -ENOENT,
			      "unable to find user %s: no matching entries in passwd file", wanted);
	return 0;
}

static int find_group(const char *text, const char *wanted, uint32_t *ret, struct error *err)
{
	own_mem char *table = str_copy(text);
	char *fields[FIELDS_MAX], *cursor = table;
	size_t n;

	if (parse_id(wanted, ret) == 0)
		return 0;
	if (looks_numeric(wanted))
		return refuse(err, -EINVAL, "group \"%s\" is not within 0 and %d", wanted,
			      USER_ID_MAX);
	while (next_line(&cursor, fields, &n))
		if (n >= 3 && str_eq(fields[0], wanted) && parse_id(fields[2], ret) == 0)
			return 0;
	return refuse(err, -ENOENT, "unable to find group %s: no matching entries in group file",
		      wanted);
}

static void add_group(struct user *user, uint32_t gid)
{
	for (size_t i = 0; i < user->groups_count; i++)
		if (user->groups[i] == gid)
			return;
	if (user->groups_count == USER_GROUPS_MAX)
		return;
	user->groups = mem_resize(user->groups, user->groups_count + 1, sizeof(gid));
	user->groups[user->groups_count++] = gid;
}

/* True if `name` is among the comma-separated members. */
static bool is_member(const char *members, const char *name)
{
	size_t n = strlen(name);

	while (*members != '\0') {
		size_t length = strcspn(members, ",");

		if (length == n && memcmp(members, name, n) == 0)
			return true;
		members += length + (members[length] == ',');
	}
	return false;
}

/* The groups that list the user. */
static void add_memberships(const char *text, const char *name, struct user *user)
{
	own_mem char *table = str_copy(text);
	char *fields[FIELDS_MAX], *cursor = table;
	uint32_t gid;
	size_t n;

	while (next_line(&cursor, fields, &n))
		if (n >= 4 && is_member(fields[3], name) && parse_id(fields[2], &gid) == 0)
			add_group(user, gid);
}

void user_release(struct user *user)
{
	free(user->groups);
	free(user->home);
	*user = (struct user){0};
}

int user_resolve(int root_fd, const char *text, char *const *groups_add, struct user *ret,
		 struct error *err)
{
	const char *colon = strchr(text, ':');
	own_mem char *name = colon ? str_copy_n(text, (size_t)(colon - text)) : str_copy(text);
	own_mem char *matched = NULL, *passwd = NULL, *groups = NULL;
	own_user struct user user = {0};
	int rc = read_table(root_fd, "etc/passwd", &passwd, err);

	if (rc == 0)
		rc = read_table(root_fd, "etc/group", &groups, err);
	if (rc == 0)
		rc = find_user(passwd, name[0] ? name : "0", &user, &matched, err);
	if (rc == 0 && colon != NULL && colon[1] != '\0')
		rc = find_group(groups, colon + 1, &user.gid, err);
	else if (rc == 0 && matched != NULL)
		add_memberships(groups, matched, &user);
	for (size_t i = 0; rc == 0 && groups_add != NULL && groups_add[i] != NULL; i++) {
		uint32_t gid;

		rc = find_group(groups, groups_add[i], &gid, err);
		if (rc == 0)
			add_group(&user, gid);
	}
	if (rc < 0)
		return rc;
	if (user.home == NULL)
		user.home = str_copy(user.uid == 0 ? "/root" : "/");
	*ret = user;
	user = (struct user){0};
	return 0;
}

json_t *user_to_json(const struct user *user)
{
	/* Where a user namespace has but one group, nobody may be in any other. */
	const size_t count = user->groups_count > 0 && proc_has_one_id() ? 0 : user->groups_count;
	json_t *o = json_object(), *groups = json_array();

	json_object_set_new(o, "uid", json_integer(user->uid));
	json_object_set_new(o, "gid", json_integer(user->gid));
	for (size_t i = 0; i < count; i++)
		json_array_append_new(groups, json_integer(user->groups[i]));
	json_object_set_new(o, "additionalGids", groups);
	return o;
}
