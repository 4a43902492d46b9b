/* info: what `berth info` prints (declared in engine.h). */
#include <fcntl.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"
#include "engine/engine_priv.h"
#include "engine/record.h"
#include "image/store.h"

enum { CGROUP2_MAGIC = 0x63677270, OS_RELEASE_MAX = 64 << 10 };

struct counts {
	int all, running, paused, stopped;
};

static int count(const struct workload *w, void *data, struct error *err)
{
	struct counts *c = data;

	(void)err;
	c->all++;
	if (w->status == WORKLOAD_RUNNING || w->status == WORKLOAD_RESTARTING)
		c->running++;
	else if (w->status == WORKLOAD_PAUSED)
		c->paused++;
	else
		c->stopped++;
	return 0;
}

/* PRETTY_NAME of /etc/os-release. */
static char *os_name(void)
{
	own_mem char *text = NULL;
	size_t len;
	char *name, *end;

	if (file_read(AT_FDCWD, "/etc/os-release", OS_RELEASE_MAX, &text, &len, NULL) < 0)
		return str_copy("Linux");
	name = strstr(text, "PRETTY_NAME=\"");
	if (name == NULL)
		return str_copy("Linux");
	name += strlen("PRETTY_NAME=\"");
	end = strchr(name, '"');
	return end ? str_copy_n(name, (size_t)(end - name)) : str_copy("Linux");
}

static void add_host(json_t *o)
{
	own_mem char *os = os_name();
	struct utsname names;
	struct sysinfo memory;
	struct statfs fs;

	uname(&names);
	sysinfo(&memory);
	json_set_string(o, "Name", names.nodename);
	json_set_string(o, "KernelVersion", names.release);
	json_set_string(o, "OperatingSystem", os);
	json_set_string(o, "OSType", "linux");
	json_set_string(o, "Architecture", names.machine);
	json_object_set_new(o, "NCPU", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
	json_object_set_new(o, "MemTotal",
			    json_integer((json_int_t)memory.totalram * memory.mem_unit));
	json_set_string(o, "CgroupVersion",
			statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_MAGIC ? "2"
											 : "1");
	json_set_string(o, "CgroupDriver", "cgroupfs");
}

int engine_info(struct engine *engine, json_t **ret, struct error *err)
{
	const struct workload_filter everything = {.all = true};
	struct counts counts = {0};
	struct image_usage usage = {0};
	struct image_store *images;
	json_t *o;
	int rc = workload_list(engine, &everything, count, &counts, err);

	if (rc == 0)
		rc = engine_images(engine, &images, err);
	if (rc == 0)
		rc = image_usage(images, &usage, err);
	if (rc < 0)
		return rc;
	o = json_object();
	json_object_set_new(o, "Containers", json_integer(counts.all));
	json_object_set_new(o, "ContainersRunning", json_integer(counts.running));
	json_object_set_new(o, "ContainersPaused", json_integer(counts.paused));
	json_object_set_new(o, "ContainersStopped", json_integer(counts.stopped));
	json_object_set_new(o, "Images", json_integer((json_int_t)usage.images));
	json_set_string(o, "Driver", "overlay");
	json_set_string(o, "LoggingDriver", "json-file");
	add_host(o);
	json_set_string(o, "ServerVersion", BERTH_VERSION);
	json_set_string(o, "DefaultRuntime", "berth");
	json_set_string(o, "RootDir", engine->root);
	json_set_string(o, "StateDir", engine->state);
	json_object_set_new(o, "Rootless", json_boolean(engine->rootless));
	*ret = o;
	return 0;
}
