/*
 * config_mounts: the mounts of the configuration; see config.h.
 *
 * An option means one of four things: an attribute of the mount (MOUNT_ATTR_*), the same for the
 * whole tree (the r... forms), a kind of propagation, or a word for the file system. The table below
 * decides; what is not in it is the file system's.
 */
#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "base/log.h"
#include "base/mem.h"
#include "oci/config_priv.h"
#include "oci/mount_attr.h"

enum option_kind {
	ATTR,     /* value: bits to set; clears them if `clear` */
	ATTR_REC, /* the same, recursive */
	ATIME,    /* value: the mode that replaces the old one */
	ATIME_REC,
	PROPAGATION, /* value: MS_* */
	SUPER,       /* value: MS_* of the file system */
	SUPER_CLEAR,
	BIND,  /* value: 1 if recursive */
	IDMAP, /* value: 1 if recursive */
	COPY_UP,
	COPY_SYMLINK,
	NOTHING,
};

struct option {
	const char *name;
	enum option_kind kind;
	uint64_t value;
	bool clear;
};

static const struct option options[] = {
	{"ro", ATTR, MOUNT_ATTR_RDONLY, false},
	{"rw", ATTR, MOUNT_ATTR_RDONLY, true},
	{"nosuid", ATTR, MOUNT_ATTR_NOSUID, false},
	{"suid", ATTR, MOUNT_ATTR_NOSUID, true},
	{"nodev", ATTR, MOUNT_ATTR_NODEV, false},
	{"dev", ATTR, MOUNT_ATTR_NODEV, true},
	{"noexec", ATTR, MOUNT_ATTR_NOEXEC, false},
	{"exec", ATTR, MOUNT_ATTR_NOEXEC, true},
	{"nodiratime", ATTR, MOUNT_ATTR_NODIRATIME, false},
	{"diratime", ATTR, MOUNT_ATTR_NODIRATIME, true},
	{"nosymfollow", ATTR, MOUNT_ATTR_NOSYMFOLLOW, false},
	{"symfollow", ATTR, MOUNT_ATTR_NOSYMFOLLOW, true},
	{"noatime", ATIME, MOUNT_ATTR_NOATIME, false},
	{"atime", ATIME, MOUNT_ATTR_RELATIME, false},
	{"relatime", ATIME, MOUNT_ATTR_RELATIME, false},
	{"norelatime", ATIME, MOUNT_ATTR_STRICTATIME, false},
	{"strictatime", ATIME, MOUNT_ATTR_STRICTATIME, false},
	{"nostrictatime", ATIME, MOUNT_ATTR_RELATIME, false},
	{"rro", ATTR_REC, MOUNT_ATTR_RDONLY, false},
	{"rrw", ATTR_REC, MOUNT_ATTR_RDONLY, true},
	{"rnosuid", ATTR_REC, MOUNT_ATTR_NOSUID, false},
	{"rsuid", ATTR_REC, MOUNT_ATTR_NOSUID, true},
	{"rnodev", ATTR_REC, MOUNT_ATTR_NODEV, false},
	{"rdev", ATTR_REC, MOUNT_ATTR_NODEV, true},
	{"rnoexec", ATTR_REC, MOUNT_ATTR_NOEXEC, false},
	{"rexec", ATTR_REC, MOUNT_ATTR_NOEXEC, true},
	{"rnodiratime", ATTR_REC, MOUNT_ATTR_NODIRATIME, false},
	{"rdiratime", ATTR_REC, MOUNT_ATTR_NODIRATIME, true},
	{"rnosymfollow", ATTR_REC, MOUNT_ATTR_NOSYMFOLLOW, false},
	{"rsymfollow", ATTR_REC, MOUNT_ATTR_NOSYMFOLLOW, true},
	{"rnoatime", ATIME_REC, MOUNT_ATTR_NOATIME, false},
	{"ratime", ATIME_REC, MOUNT_ATTR_RELATIME, false},
	{"rrelatime", ATIME_REC, MOUNT_ATTR_RELATIME, false},
	{"rnorelatime", ATIME_REC, MOUNT_ATTR_STRICTATIME, false},
	{"rstrictatime", ATIME_REC, MOUNT_ATTR_STRICTATIME, false},
	{"rnostrictatime", ATIME_REC, MOUNT_ATTR_RELATIME, false},
	{"shared", PROPAGATION, MS_SHARED, false},
	{"rshared", PROPAGATION, MS_SHARED | MS_REC, false},
	{"slave", PROPAGATION, MS_SLAVE, false},
	{"rslave", PROPAGATION, MS_SLAVE | MS_REC, false},
	{"private", PROPAGATION, MS_PRIVATE, false},
	{"rprivate", PROPAGATION, MS_PRIVATE | MS_REC, false},
	{"unbindable", PROPAGATION, MS_UNBINDABLE, false},
	{"runbindable", PROPAGATION, MS_UNBINDABLE | MS_REC, false},
	{"sync", SUPER, MS_SYNCHRONOUS, false},
	{"async", SUPER_CLEAR, MS_SYNCHRONOUS, false},
	{"dirsync", SUPER, MS_DIRSYNC, false},
	{"mand", SUPER, MS_MANDLOCK, false},
	{"nomand", SUPER_CLEAR, MS_MANDLOCK, false},
	{"lazytime", SUPER, MS_LAZYTIME, false},
	{"nolazytime", SUPER_CLEAR, MS_LAZYTIME, false},
	{"iversion", SUPER, MS_I_VERSION, false},
	{"noiversion", SUPER_CLEAR, MS_I_VERSION, false},
	{"silent", SUPER, MS_SILENT, false},
	{"loud", SUPER_CLEAR, MS_SILENT, false},
	{"bind", BIND, 0, false},
	{"rbind", BIND, 1, false},
	{"idmap", IDMAP, 0, false},
	{"ridmap", IDMAP, 1, false},
	{"tmpcopyup", COPY_UP, 0, false},
	{"copy-symlink", COPY_SYMLINK, 0, false},
	{"defaults", NOTHING, 0, false},
};

const char *mount_option_name(size_t i)
{
	return i < array_size(options) ? options[i].name : NULL;
}

static const struct option *find_option(const char *name)
{
	for (size_t i = 0; i < array_size(options); i++)
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	return NULL;
}

static void change_attr(uint64_t *set, uint64_t *clear, uint64_t bits, bool do_clear)
{
	if (do_clear) {
		*set &= ~bits;
		*clear |= bits;
	} else {
		*set |= bits;
		*clear &= ~bits;
	}
}

static void change_atime(uint64_t *set, uint64_t *clear, uint64_t mode)
{
	*set = (*set & ~(uint64_t)MOUNT_ATTR__ATIME) | mode;
	*clear |= MOUNT_ATTR__ATIME;
}

static int apply_option(struct config_mount *m, const struct option *o, const struct json_at *at,
			struct error *err)
{
	switch (o->kind) {
	case ATTR:
		change_attr(&m->attr_set, &m->attr_clear, o->value, o->clear);
		break;
	case ATTR_REC:
		change_attr(&m->attr_set_rec, &m->attr_clear_rec, o->value, o->clear);
		break;
	case ATIME:
		change_atime(&m->attr_set, &m->attr_clear, o->value);
		break;
	case ATIME_REC:
		change_atime(&m->attr_set_rec, &m->attr_clear_rec, o->value);
		break;
	case PROPAGATION:
		if (m->propagation_count == array_size(m->propagation))
			return json_refuse(err, at, "too many kinds of propagation");
		m->propagation[m->propagation_count++] = o->value;
		break;
	case SUPER:
		m->super_flags |= (unsigned int)o->value;
		break;
	case SUPER_CLEAR:
		m->super_flags &= ~(unsigned int)o->value;
		break;
	case BIND:
		m->bind = true;
		m->recursive = o->value != 0;
		break;
	case IDMAP:
		m->idmap = true;
		m->idmap_recursive = o->value != 0;
		break;
	case COPY_UP:
		m->copy_up = true;
		break;
	case COPY_SYMLINK:
		m->copy_symlink = true;
		break;
	case NOTHING:
		break;
	}
	return 0;
}

static int parse_options(struct config *c, const struct json_at *mount, struct config_mount *m,
			 struct error *err)
{
	struct json_at array, item;
	const char **data;
	size_t count, used = 0;
	bool remount = false;
	int rc = config_list(c, mount, "options", sizeof(*data), &array, &data, &count, err);

	if (rc <= 0)
		return rc;
	for (size_t i = 0; json_element(&array, i, &item); i++) {
		const struct option *o;
		const char *text;

		rc = json_as_string(&item, &text, err);
		if (rc < 0)
			return rc;
		o = find_option(text);
		if (o != NULL)
			rc = apply_option(m, o, &item, err);
		else if (strcmp(text, "remount") == 0)
			remount = true;
		else if (text[0] != '\0')
			data[used++] = text;
		if (rc < 0)
			return rc;
	}
	memcpy(&m->data, &data, sizeof(data));
	/* With bind it says nothing: a bind mount gets its attributes in the same step. */
	if (remount && !m->bind)
		return json_refuse(err, &array, "remount is supported together with bind only");
	return 1;
}

static int check_mount(const struct json_at *at, const struct config_mount *m, struct error *err)
{
	if (m->bind && m->source == NULL)
		return json_refuse(err, at, "a bind mount needs a source");
	/* mount(2) ignores such an option, and engines pass them. */
	if (m->bind && m->data != NULL && m->data[0] != NULL)
		log_debug("mounts: %s: \"%s\" says nothing about a bind mount", m->destination,
			  m->data[0]);
	if (m->copy_up && strcmp(m->type, "tmpfs") != 0)
		return json_refuse(err, at, "tmpcopyup goes with tmpfs only");
	if (m->copy_symlink && !m->bind)
		return json_refuse(err, at, "copy-symlink goes with a bind mount only");
	if ((m->uid_maps.count == 0) != (m->gid_maps.count == 0))
		return json_refuse(err, at, "uidMappings and gidMappings go together");
	if (m->idmap && !m->bind)
		return json_refuse(err, at, "an id-mapped mount has to be a bind mount");
	return 0;
}

static int parse_mount(struct config *c, const struct json_at *at, struct config_mount *m,
		       struct error *err)
{
	const char *type = NULL;
	int rc;

	if ((rc = json_get_string(at, "destination", JSON_REQUIRED, &m->destination, err)) < 0 ||
	    (rc = json_get_string(at, "type", JSON_OPTIONAL, &type, err)) < 0 ||
	    (rc = json_get_string(at, "source", JSON_OPTIONAL, &m->source, err)) < 0 ||
	    (rc = parse_options(c, at, m, err)) < 0 ||
	    (rc = config_parse_id_maps(c, at, "uidMappings", &m->uid_maps, err)) < 0 ||
	    (rc = config_parse_id_maps(c, at, "gidMappings", &m->gid_maps, err)) < 0)
		return rc;
	if (m->destination[0] == '\0')
		return json_refuse(err, at, "destination is empty");
	if (type != NULL && strcmp(type, "bind") == 0)
		m->bind = true;
	if (m->bind)
		type = "bind";
	if (str_empty(type))
		return json_refuse(err, at, "needs a type, or the option bind or rbind");
	m->type = type;
	if (m->uid_maps.count > 0)
		m->idmap = true;
	return check_mount(at, m, err);
}

int config_parse_mounts(struct config *c, const struct json_at *root, struct error *err)
{
	struct json_at array, item;
	int rc = config_list(c, root, "mounts", sizeof(*c->mounts), &array, &c->mounts,
			     &c->mount_count, err);

	if (rc <= 0)
		return rc;
	for (size_t i = 0; json_element(&array, i, &item); i++)
		if (parse_mount(c, &item, &c->mounts[i], err) < 0)
			return -EINVAL;
	return 0;
}
