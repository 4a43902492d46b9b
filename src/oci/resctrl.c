/* resctrl: see resctrl.h. */
#include "oci/resctrl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#define ROOT "/sys/fs/resctrl"
/* Of linux/magic.h since 4.10, under its older name. */
#define RESCTRL_MAGIC 0x7655821

enum { TEXT_MAX = 1 << 20 };

int resctrl_open(struct error *err)
{
	own_fd int fd = open(ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	if (fd >= 0 && fstatfs(fd, &fs) < 0)
		return fail(err, -errno, "linux.intelRdt: look at " ROOT);
	if (fd < 0 || fs.f_type != RESCTRL_MAGIC)
		return hint(
			err,
			refuse(err, -ENODEV, "linux.intelRdt: resctrl is not mounted on " ROOT),
			"it needs a CPU and a kernel with it, and: mount -t resctrl resctrl " ROOT);
	return take(fd);
}

static const char *group_name(const struct config_intel_rdt *r, const char *id)
{
	return r->clos_id ? r->clos_id : id;
}

static bool is_measured(const struct config_intel_rdt *r)
{
	return r->enable_cmt || r->enable_mbm || r->enable_monitoring;
}

/* --- schemata ----------------------------------------------------------------------------------- */

/* Adds the lines of a text, but for those of memory bandwidth if they come from elsewhere. */
static void add_lines(struct buf *all, const char *text, bool without_bandwidth)
{
	own_strv char **lines = str_empty(text) ? NULL : strv_split(text, '\n');

	for (size_t i = 0; lines != NULL && lines[i] != NULL; i++)
		if (lines[i][0] != '\0' &&
		    !(without_bandwidth && str_after(lines[i], "MB:") != NULL))
			buf_format(all, "%s\n", lines[i]);
}

static void combine(struct buf *all, const struct config_intel_rdt *r)
{
	add_lines(all, r->l3_schema, !str_empty(r->memory_schema));
	add_lines(all, r->memory_schema, false);
	for (size_t i = 0; r->schemata != NULL && r->schemata[i] != NULL; i++)
		add_lines(all, r->schemata[i], false);
}

/* The kernel pads numbers with zeros. */
static bool same_value(const char *a, size_t a_len, const char *b, size_t b_len)
{
	for (; a_len > 1 && *a == '0'; a_len--)
		a++;
	for (; b_len > 1 && *b == '0'; b_len--)
		b++;
	return a_len == b_len && strncasecmp(a, b, a_len) == 0;
}

/* Finds "NAME=" among "A=1;B=2" and sets *ret_len to its value's length. */
static const char *find_value(const char *list, const char *name, size_t name_len, size_t *ret_len)
{
	while (*list != '\0') {
		const char *equals = strchr(list, '=');

		if (equals == NULL)
			return NULL;
		*ret_len = strcspn(equals + 1, ";");
		if ((size_t)(equals - list) == name_len && strncmp(list, name, name_len) == 0)
			return equals + 1;
		list = equals + 1 + *ret_len;
		list += strspn(list, ";");
	}
	return NULL;
}

/* True if the wanted line, "L3:0=f;1=f", says nothing that the file does not say as well. */
static bool is_in_force(const char *wanted, char *const *lines)
{
	const char *colon = strchr(wanted, ':'), *there = NULL;

	if (colon == NULL)
		return false;
	for (size_t i = 0; lines != NULL && lines[i] != NULL && there == NULL; i++) {
		const char *line = lines[i] + strspn(lines[i], " \t");

		if (strncmp(line, wanted, (size_t)(colon - wanted) + 1) == 0)
			there = line + (colon - wanted) + 1;
	}
	for (const char *p = colon + 1; there != NULL && *p != '\0';) {
		const size_t name_len = strcspn(p, "="),
			     len = p[name_len] ? strcspn(p + name_len + 1, ";") : 0;
		size_t there_len;
		const char *value = find_value(there, p, name_len, &there_len);

		if (value == NULL || !same_value(p + name_len + 1, len, value, there_len))
			return false;
		p += name_len + 1 + len;
		p += strspn(p, ";");
	}
	return there != NULL;
}

static int compare(int group, const struct config_intel_rdt *r, const char *wanted,
		   struct error *err)
{
	own_mem char *text = NULL;
	own_strv char **lines = NULL, **want = strv_split(wanted, '\n');
	size_t len;
	int rc = file_read(group, "schemata", TEXT_MAX, &text, &len, err);

	if (rc < 0)
		return fail(err, rc, "linux.intelRdt.closID: %s", r->clos_id);
	lines = strv_split(text, '\n');
	for (size_t i = 0; want != NULL && want[i] != NULL; i++)
		if (want[i][0] != '\0' && !is_in_force(want[i], lines))
			return refuse(err, -EINVAL,
				      "linux.intelRdt.closID: group \"%s\" is there already, and "
				      "\"%s\" is not what it has",
				      r->clos_id, want[i]);
	return 0;
}

static int write_schemata(int root_fd, int group, const char *text, struct error *err)
{
	own_mem char *reason = NULL;
	size_t len;
	int rc = file_put(group, "schemata", text);

	if (rc == 0)
		return 0;
	if (file_read(root_fd, "info/last_cmd_status", TEXT_MAX, &reason, &len, NULL) < 0 ||
	    str_after(reason, "ok") != NULL)
		return fail(err, rc, "linux.intelRdt: write the schemata");
	reason[strcspn(reason, "\n")] = '\0';
	return refuse(err, rc, "linux.intelRdt: the kernel does not take the schemata: %s", reason);
}

/* --- groups ------------------------------------------------------------------------------------- */

static int put_task(int group, pid_t pid, struct error *err)
{
	own_mem char *text = str_format("%d\n", (int)pid);
	int rc = file_put(group, "tasks", text);

	return rc < 0 ? fail(err, rc, "linux.intelRdt: put process %d into the group", (int)pid)
		      : 0;
}

/* Returns its descriptor; *ret_made is set if it was not there. */
static int make_group(int root_fd, const struct config_intel_rdt *r, const char *name, bool limits,
		      bool *ret_made, struct error *err)
{
	int fd = beneath_open_plain(root_fd, name, O_PATH | O_DIRECTORY);

	*ret_made = false;
	if (fd >= 0)
		return fd;
	if (fd == -ENOENT && r->clos_id != NULL && !limits)
		return refuse(err, -ENOENT,
			      "linux.intelRdt.closID: there is no group \"%s\", and nothing is "
			      "given to make it with",
			      name);
	if (fd == -ENOENT && mkdirat(root_fd, name, 0755) < 0)
		return errno == ENOSPC
			       ? refuse(err, -ENOSPC,
					"linux.intelRdt: this CPU has no room for another group")
			       : fail(err, -errno, "linux.intelRdt: make group \"%s\"", name);
	*ret_made = fd == -ENOENT;
	fd = beneath_open_plain(root_fd, name, O_PATH | O_DIRECTORY);
	return fd < 0 ? fail(err, fd, "linux.intelRdt: open group \"%s\"", name) : fd;
}

/* The file lists what the CPU can measure, a word in each line. */
static int check_measured(int root_fd, const struct config_intel_rdt *r, struct error *err)
{
	own_mem char *text = NULL;
	size_t len;

	if (!r->enable_cmt && !r->enable_mbm)
		return 0;
	if (file_read(root_fd, "info/L3_MON/mon_features", TEXT_MAX, &text, &len, NULL) < 0)
		text = str_copy("");
	if (r->enable_cmt && strstr(text, "llc_occupancy") == NULL)
		return refuse(
			err, -ENOTSUP,
			"linux.intelRdt.enableCMT: this CPU does not measure the use of caches");
	if (r->enable_mbm && strstr(text, "mbm_") == NULL)
		return refuse(
			err, -ENOTSUP,
			"linux.intelRdt.enableMBM: this CPU does not measure memory bandwidth");
	return 0;
}

static char *measured_path(const char *group, const char *id)
{
	return str_format("%s/mon_groups/%s", group, id);
}

static int measure(int root_fd, const struct config_intel_rdt *r, const char *id, pid_t pid,
		   struct error *err)
{
	own_mem char *path = measured_path(group_name(r, id), id);
	own_fd int fd = -1;

	if (!is_measured(r))
		return 0;
	if (mkdirat(root_fd, path, 0755) < 0 && errno != EEXIST)
		return fail(err, -errno, "linux.intelRdt: make a group to measure");
	fd = beneath_open_plain(root_fd, path, O_PATH | O_DIRECTORY);
	if (fd < 0)
		return fail(err, fd, "linux.intelRdt: open %s", path);
	return put_task(fd, pid, err);
}

int resctrl_make(int root_fd, const struct config_intel_rdt *r, const char *id, pid_t pid,
		 struct error *err)
{
	const char *name = group_name(r, id);
	own_buf struct buf text = {0};
	own_fd int group = -1;
	bool made;
	int rc = check_measured(root_fd, r, err);

	if (rc < 0)
		return rc;
	combine(&text, r);
	group = make_group(root_fd, r, name, text.len > 0, &made, err);
	if (group < 0)
		return group;
	if (text.len > 0)
		rc = made || r->clos_id == NULL ? write_schemata(root_fd, group, text.data, err)
						: compare(group, r, text.data, err);
	if (rc == 0)
		rc = put_task(group, pid, err);
	if (rc == 0)
		rc = measure(root_fd, r, id, pid, err);
	if (rc < 0 && made && unlinkat(root_fd, name, AT_REMOVEDIR) < 0)
		return rc; /* it is empty, and named by the record as well */
	return rc;
}

int resctrl_join(int root_fd, const struct config_intel_rdt *r, const char *id, pid_t pid,
		 struct error *err)
{
	const char *name = group_name(r, id);
	own_fd int group = beneath_open_plain(root_fd, name, O_PATH | O_DIRECTORY);
	int rc = group < 0 ? fail(err, group, "linux.intelRdt: open group \"%s\"", name)
			   : put_task(group, pid, err);

	return rc < 0 ? rc : measure(root_fd, r, id, pid, err);
}

/* --- the end ------------------------------------------------------------------------------------ */

json_t *resctrl_save(const struct config_intel_rdt *r, const char *id)
{
	own_mem char *measured = measured_path(group_name(r, id), id);
	json_t *list;

	if (!r->given)
		return NULL;
	list = json_array();
	if (is_measured(r))
		json_array_append_new(list, json_string(measured));
	if (r->clos_id == NULL)
		json_array_append_new(list, json_string(id));
	return list;
}

int resctrl_remove(int root_fd, const json_t *saved, struct error *err)
{
	const json_t *path;
	size_t i;

	json_array_foreach (saved, i, path) {
		const char *text = json_string_value(path);

		if (text != NULL && unlinkat(root_fd, text, AT_REMOVEDIR) < 0 && errno != ENOENT)
			return fail(err, -errno, "linux.intelRdt: remove the resctrl group %s",
				    text);
	}
	return 0;
}

int resctrl_assign(const struct config_intel_rdt *r, const char *id, pid_t pid, bool further,
		   struct error *err)
{
	own_fd int root = r->given ? resctrl_open(err) : -1;

	if (!r->given)
		return 0;
	if (root < 0)
		return root;
	return further ? resctrl_join(root, r, id, pid, err) : resctrl_make(root, r, id, pid, err);
}

void resctrl_leave(const json_t *saved)
{
	struct error err = {0};
	own_fd int root = json_array_size(saved) > 0 ? resctrl_open(&err) : -1;

	if (root >= 0 && resctrl_remove(root, saved, &err) < 0)
		log_warn("%s", err.text);
}
