/* spec: the configuration that `spec` writes. */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/json.h"
#include "oci/container.h"
#include "oci/runtime.h"

/* Other runtimes write the same content, which their users know; the text is JSON for brevity. */
static const char process_text[] =
	"{'terminal':true,'user':{'uid':0,'gid':0},'args':['sh'],"
	"'env':['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin','TERM=xterm'],"
	"'cwd':'/','capabilities':{"
	"'bounding':['CAP_AUDIT_WRITE','CAP_KILL','CAP_NET_BIND_SERVICE'],"
	"'effective':['CAP_AUDIT_WRITE','CAP_KILL','CAP_NET_BIND_SERVICE'],"
	"'permitted':['CAP_AUDIT_WRITE','CAP_KILL','CAP_NET_BIND_SERVICE']},"
	"'rlimits':[{'type':'RLIMIT_NOFILE','hard':1024,'soft':1024}],'noNewPrivileges':true}";

static const char mounts_text[] =
	"[{'destination':'/proc','type':'proc','source':'proc'},"
	"{'destination':'/dev','type':'tmpfs','source':'tmpfs',"
	"'options':['nosuid','strictatime','mode=755','size=65536k']},"
	"{'destination':'/dev/pts','type':'devpts','source':'devpts',"
	"'options':['nosuid','noexec','newinstance','ptmxmode=0666','mode=0620','gid=5']},"
	"{'destination':'/dev/shm','type':'tmpfs','source':'shm',"
	"'options':['nosuid','noexec','nodev','mode=1777','size=65536k']},"
	"{'destination':'/dev/mqueue','type':'mqueue','source':'mqueue',"
	"'options':['nosuid','noexec','nodev']},"
	"{'destination':'/sys','type':'sysfs','source':'sysfs',"
	"'options':['nosuid','noexec','nodev','ro']},"
	"{'destination':'/sys/fs/cgroup','type':'cgroup','source':'cgroup',"
	"'options':['nosuid','noexec','nodev','relatime','ro']}]";

static const char linux_text[] =
	"{'resources':{'devices':[{'allow':false,'access':'rwm'}]},"
	"'namespaces':[{'type':'pid'},{'type':'network'},{'type':'ipc'},{'type':'uts'},"
	"{'type':'mount'}],"
	"'maskedPaths':['/proc/acpi','/proc/asound','/proc/kcore','/proc/keys',"
	"'/proc/latency_stats','/proc/timer_list','/proc/timer_stats','/proc/sched_debug',"
	"'/sys/firmware','/proc/scsi'],"
	"'readonlyPaths':['/proc/bus','/proc/fs','/proc/irq','/proc/sys','/proc/sysrq-trigger']}";

static json_t *parse(const char *text)
{
	own_mem char *copy = str_copy(text);
	json_t *value;

	for (char *p = copy; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p;
	value = json_loads(copy, 0, NULL);
	return value;
}

static json_t *id_map(unsigned int host)
{
	return json_pack("[{s:i, s:I, s:i}]", "containerID", 0, "hostID", (json_int_t)host, "size",
			 1);
}

/* An ordinary user: a user namespace with one id, no network namespace, no limits; /sys is the host's
 * because only the owner of the network may mount a new one. */
static void make_rootless(json_t *spec)
{
	json_t *linux_ = json_object_get(spec, "linux"), *mounts = json_object_get(spec, "mounts");
	json_t *namespaces = json_object_get(linux_, "namespaces"), *item;
	size_t i;

	json_array_foreach (namespaces, i, item)
		if (str_eq(json_string_value(json_object_get(item, "type")), "network")) {
			json_array_remove(namespaces, i);
			break;
		}
	json_array_append_new(namespaces, json_pack("{s:s}", "type", "user"));
	json_object_del(linux_, "resources");
	json_object_set_new(linux_, "uidMappings", id_map(geteuid()));
	json_object_set_new(linux_, "gidMappings", id_map(getegid()));
	json_array_foreach (mounts, i, item) {
		const char *path = json_string_value(json_object_get(item, "destination"));
		json_t *options = json_object_get(item, "options");

		if (str_eq(path, "/dev/pts")) /* group 5 is not mapped */
			json_array_remove(options, json_array_size(options) - 1);
		if (str_eq(path, "/sys")) {
			json_object_set_new(item, "type", json_string("none"));
			json_object_set_new(item, "source", json_string("/sys"));
			json_object_set_new(item, "options",
					    json_pack("[s, s, s, s, s]", "rbind", "nosuid",
						      "noexec", "nodev", "ro"));
		}
	}
}

json_t *oci_spec(enum oci_spec_flags flags)
{
	struct statfs fs;
	json_t *spec = json_pack("{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:o}", "ociVersion",
				 OCI_VERSION, "process", parse(process_text), "root", "path",
				 "rootfs", "readonly", 1, "hostname", "berth", "mounts",
				 parse(mounts_text), "linux", parse(linux_text));

	/* Below a v1 hierarchy programs expect to find their own path. */
	if (statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
		json_array_append_new(json_object_get(json_object_get(spec, "linux"), "namespaces"),
				      json_pack("{s:s}", "type", "cgroup"));
	if (flags & OCI_SPEC_ROOTLESS)
		make_rootless(spec);
	return spec;
}
