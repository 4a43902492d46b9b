/*
 * vm_plan: everything that can be done for a workload in a machine before there is a machine: which
 * kernel, which layers, the disk for what it writes, and the configuration that a container would have
 * got, with what is the host's taken out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/overlay.h"
#include "engine/spec.h"
#include "engine/vm.h"
#include "engine/vm_template.h"
#include "engine/vm_train.h"
#include "guest/protocol.h"
#include "image/config.h"
#include "image/layer.h"
#include "image/store.h"
#include "vmm/disk/disk.h"
#include "vmm/share/share.h"

enum { HOST_FILE_MAX = 1 << 20, NANO = 1000000000 };

/* --- layers -------------------------------------------------------------------------------------------- */

struct work {
	struct engine *engine;
	const struct workload *workload;
	struct image_store *store;
	struct image *image;
	struct plan plan;
	json_t *command; /* the VMM's arguments */
	json_t *layers;  /* [[offset, size], ...] */
	uint64_t disk_at;
	int64_t upper_bytes;
	bool boots;          /* it does not go on from a template */
	unsigned int shares; /* devices for them */
	bool files_only;     /* nothing of the workload will run */
	char *placeholder;
	char *template;  /* its directory; NULL: none */
	bool usual_disk; /* it is a copy of the template's */
};

static void work_release(struct work *w)
{
	plan_release(&w->plan);
	json_decref(w->command);
	json_decref(w->layers);
	free(w->placeholder);
	free(w->template);
	if (w->image)
		image_free(w->image);
}
#define own_plan_work __attribute__((cleanup(work_release)))

static void add_argument(struct work *w, const char *option, char *value)
{
	json_array_append_new(w->command, json_string(option));
	if (value == NULL)
		return;
	json_array_append_new(w->command, json_from_string(value));
	free(value);
}

static int add_layer(struct work *w, int layers_fd, const struct digest *diffid,
		     struct layer_use *use, struct error *err)
{
	struct layer_info info = {0};
	struct plan_lock *lock = &w->plan.locks[w->plan.lock_count];
	json_t *bounds;
	int rc = layer_stat(layers_fd, diffid, &info, err);

	if (rc < 0)
		return rc;
	if (rc == 0)
		return refuse(err, -ENOENT, "layer %s is missing", diffid->text);
	if (!str_eq(layer_format_name(info.format), "erofs"))
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "layer %s is kept as a directory here, which a virtual machine "
				   "cannot have as a disk",
				   diffid->text),
			    "a kernel that mounts EROFS files is needed when the image is pulled");
	lock->fd = take(use->lock_fd);
	memcpy(lock->name, diffid->text, DIGEST_TEXT_MAX);
	w->plan.lock_count++;
	add_argument(w, "--layer",
		     str_format("%s/layers/%s.erofs", w->engine->root, digest_hex(diffid)));
	bounds = json_array();
	json_array_append_new(bounds, json_integer((json_int_t)w->disk_at));
	json_array_append_new(bounds, json_integer((json_int_t)info.size_bytes));
	json_array_append_new(w->layers, bounds);
	w->disk_at += (info.size_bytes + DISK_STACK_ALIGN - 1) & ~(uint64_t)(DISK_STACK_ALIGN - 1);
	return 0;
}

static int add_layers(struct work *w, struct error *err)
{
	const struct image *image = w->image;
	own_layer_stack struct layer_stack stack = {0};
	int layers_fd = image->layers_count ? image_store_layers_fd(w->store, err) : 0;
	int rc = layers_fd < 0 ? layers_fd : 0;

	w->plan.locks = mem_new_array(image->layers_count + 1, sizeof(*w->plan.locks));
	if (rc == 0)
		rc = layer_stack_use(layers_fd, w->engine->state_fd, image->layers,
				     image->layers_count, &stack, err);
	for (size_t i = stack.bottom; rc == 0 && i < stack.count; i++)
		rc = add_layer(w, layers_fd, &stack.diffids[i], &stack.uses[i], err);
	if (rc == 0 && w->plan.lock_count == 0)
		add_argument(w, "--layer", str_copy(w->placeholder));
	return rc;
}

/* --- kernel, size, disk --------------------------------------------------------------------------------- */

static int pick_kernel(struct work *w, struct kernel **ret, struct error *err)
{
	const char *name = w->workload->config.kernel;
	own_kernel_list struct kernel **all = NULL;
	int rc;

	if (name != NULL)
		return kernel_find(w->engine->root, name, ret, err);
	rc = kernel_list(w->engine->root, &all, err);
	if (rc < 0)
		return rc;
	if (all == NULL || all[0] == NULL)
		return hint(err,
			    refuse(err, -ENOENT, "there is no kernel for virtual machines yet"),
			    "add one: berth kernel add debian");
	/* One that berth has built boots fastest. */
	name = all[0]->name;
	for (size_t i = 0; all[i] != NULL; i++)
		if (str_after(all[i]->source, "build") != NULL)
			name = all[i]->name;
	return kernel_find(w->engine->root, name, ret, err);
}

static unsigned int cpu_count(const struct workload_config *c)
{
	return c->nano_cpus > 0 ? (unsigned int)((c->nano_cpus + NANO - 1) / NANO) : 1;
}

/* Machines come in few sizes, so that few templates serve all: four between a power of two and the next. So
 * a machine has nearly what was asked for, and what a workload may use of it is limited in it. A balloon
 * would be more exact, but the guest takes longer to fill it than to start. */
static int64_t memory_size(const struct workload_config *c)
{
	const int64_t bytes =
		c->memory_bytes > 0 ? c->memory_bytes + VM_MEMORY_RESERVE : VM_MEMORY_DEFAULT;
	int64_t size = VM_MEMORY_MIN;

	while (size * 2 < bytes)
		size *= 2;
	for (int64_t step = size / VM_MEMORY_STEPS; size < bytes;)
		size += step;
	return size;
}

static void add_boot(struct work *w, const struct vm_shape *shape)
{
	add_argument(w, "--kernel", str_copy(shape->kernel->vmlinux));
	if (shape->kernel->initramfs)
		add_argument(w, "--modules", str_copy(shape->kernel->initramfs));
	add_argument(w, "--initrd", str_copy("initrd"));
	add_argument(w, "--append", str_copy(VM_COMMAND_LINE));
	add_argument(w, "--memory", str_format("%lld", (long long)shape->memory_bytes));
	add_argument(w, "--cpus", str_format("%u", shape->cpus));
	add_argument(w, "--accel", str_copy(shape->accel));
}

static int add_machine(struct work *w, struct error *err)
{
	const struct workload_config *c = &w->workload->config;
	own_kernel struct kernel *kernel = NULL;
	struct vm_shape shape = {.cpus = cpu_count(c),
				 .memory_bytes = memory_size(c),
				 .accel = c->accel ? c->accel : "auto"};
	int rc = pick_kernel(w, &kernel, err);

	if (rc < 0)
		return rc;
	shape.kernel = kernel;
	if (!w->files_only)
		w->shares = shape.shares = vm_template_shares(vm_share_count(c));
	/* A template has no more disks than every machine. */
	w->boots =
		(c->flags & WORKLOAD_NO_TEMPLATE) != 0 || (c->devices_count > 0 && !w->files_only);
	if (!w->boots)
		rc = vm_template_get(w->engine, &shape, &w->template, err);
	if (rc < 0)
		return rc;
	add_argument(w, "vmm", str_copy("run"));
	if (w->boots)
		add_boot(w, &shape);
	if (w->template) {
		add_argument(w, "--code", str_format("%s/" VM_CODE_NAME, w->template));
		add_argument(w, "--restore", str_copy(w->template));
	}
	add_argument(w, "--no-reset", NULL);
	add_argument(w, "--vsock", str_copy("vsock,cid=3"));
	add_argument(w, "--control", str_copy("control"));
	return vm_template_placeholder(w->engine, &w->placeholder, err);
}

static bool in_memory(const struct workload_config *c)
{
	return (c->flags & WORKLOAD_READ_ONLY) != 0;
}

static int add_disk(struct work *w, struct error *err)
{
	const struct workload_config *c = &w->workload->config;
	const struct vm_disk_wish wish = {
		.size_bytes = c->storage_bytes > 0 ? c->storage_bytes : VM_DISK_DEFAULT_BYTES,
		.with_journal = !(c->flags & WORKLOAD_AUTO_REMOVE),
		.template = w->template,
	};
	int rc;

	if (in_memory(c)) {
		own_mem char *path = str_format("%s/none.disk", workload_dir(w->workload->id).path);

		/* A machine always has two disks, as its template had. */
		add_argument(w, "--disk", str_format("%s/%s", w->engine->root, path));
		return vm_template_make_disk(w->engine->root_fd, path, err);
	}
	w->upper_bytes = wish.size_bytes;
	rc = vm_disk_make(w->engine, w->workload->id, &wish, err);
	if (rc < 0)
		return rc;
	w->usual_disk = rc > 0;
	add_argument(w, "--disk",
		     str_format("%s/%s/" VM_DISK_NAME, w->engine->root,
				workload_dir(w->workload->id).path));
	return 0;
}

/* --- the configuration ----------------------------------------------------------------------------------- */

/* The three files in /etc that say who the workload is are written in the machine. */
static int take_files(struct engine *engine, const struct workload *workload, json_t *spec,
		      json_t *prepare, struct error *err)
{
	own_mem char *place = str_format("%s/%s/", engine->root, workload_dir(workload->id).path);
	json_t *files = json_array(), *mount;
	size_t i;

	json_object_set_new(prepare, "files", files);
	json_array_foreach (json_object_get(spec, "mounts"), i, mount) {
		const char *source = json_string_value(json_object_get(mount, "source"));
		const char *name = source ? str_after(source, place) : NULL;
		own_mem char *text = NULL, *there = NULL;
		json_t *file;
		size_t len;
		int rc;

		if (name == NULL)
			continue;
		rc = file_read(AT_FDCWD, source, HOST_FILE_MAX, &text, &len, err);
		if (rc < 0)
			return rc;
		there = str_format(AGENT_DIRECTORY "/files/%s", name);
		file = json_object();
		json_set_string(file, "name", name);
		json_object_set_new(file, "content", json_from_string(text));
		json_array_append_new(files, file);
		json_set_string(mount, "source", there);
	}
	return 0;
}

static int check_share(const char *source, const struct stat *st, struct error *err)
{
	if (!S_ISDIR(st->st_mode) && !S_ISREG(st->st_mode))
		return hint(
			err,
			refuse(err, -ENOTSUP,
			       "\"%s\" cannot be mounted in a virtual machine: sockets, FIFOs and "
			       "devices are the host's kernel's",
			       source),
			"run it as a container");
	if (strchr(source, ',') != NULL)
		return hint(
			err,
			refuse(err, -ENOTSUP,
			       "\"%s\" cannot be mounted in a virtual machine: there is a comma in "
			       "its path",
			       source),
			"mount the directory that it is in, or a link to it");
	return 0;
}

/* Directories and files of the host become devices, which the machine mounts by their tags. */
static int take_shares(struct work *w, json_t *spec, json_t *prepare, struct error *err)
{
	json_t *shares = json_array(), *mount;
	own_mem char *empty = NULL;
	size_t i;

	json_object_set_new(prepare, "shares", shares);
	json_array_foreach (json_object_get(spec, "mounts"), i, mount) {
		const char *source = json_string_value(json_object_get(mount, "source"));
		own_mem char *tag = NULL, *place = NULL;
		json_t *options = json_object_get(mount, "options"), *option;
		bool read_only = false;
		struct stat st;
		size_t j;
		int rc;

		if (!str_eq(json_string_value(json_object_get(mount, "type")), "bind") ||
		    source == NULL || str_after(source, AGENT_DIRECTORY "/files/") != NULL)
			continue;
		if (stat(source, &st) < 0)
			return fail(err, -errno, "bind source \"%s\"", source);
		rc = check_share(source, &st, err);
		if (rc < 0)
			return rc;
		json_array_foreach (options, j, option)
			read_only = read_only || str_eq(json_string_value(option), "ro");
		tag = str_format("share%zu", json_array_size(shares));
		place = str_format(AGENT_DIRECTORY "/shares/%s%s", tag,
				   S_ISREG(st.st_mode) ? "/" SHARE_FILE_NAME : "");
		add_argument(w, "--share",
			     str_format("%s,tag=%s%s", source, tag, read_only ? ",ro" : ""));
		json_array_append_new(shares, json_string(tag));
		json_set_string(mount, "source", place);
	}
	/* The machine has as many devices as its template. */
	for (size_t unused = json_array_size(shares); unused < w->shares; unused++) {
		int rc = empty ? 0 : vm_template_empty(w->engine, &empty, err);

		if (rc < 0)
			return rc;
		add_argument(w, "--share", str_format("%s,tag=share%zu,ro", empty, unused));
	}
	return 0;
}

static json_t *root_json(struct work *w)
{
	/* Nothing of one that is removed at its end needs to be on the disk. */
	const bool removed =
		(w->workload->config.flags & WORKLOAD_AUTO_REMOVE) != 0 && !w->files_only;
	json_t *root = json_object();

	json_object_set(root, "layers", w->layers);
	json_object_set_new(root, "bytes", json_integer((json_int_t)w->disk_at));
	json_object_set_new(root, "upperBytes", json_integer(w->upper_bytes));
	json_set_string(root, "upper", in_memory(&w->workload->config) ? "memory" : "disk");
	/* The unused parts of the disk are never touched: it stays sparse. */
	json_set_string(root, "options", removed ? VM_DISK_OPTIONS_REMOVED : "noinit_itable");
	json_object_set_new(root, "usual", json_boolean(w->usual_disk));
	json_object_set_new(root, "volatile", json_boolean(removed));
	return root;
}

static json_t *user_json(const struct workload_config *c, const struct image_config *image)
{
	json_t *user = json_object();

	json_set_string(user, "name", spec_user(c, image));
	json_set_strv(user, "groups", c->groups_add);
	return user;
}

/* A process has the limits of whoever starts it, unless others are asked for. */
static json_t *limits_json(void)
{
	json_t *limits = json_array();

	for (int i = 0; i < RLIM_NLIMITS; i++) {
		struct rlimit limit;
		json_t *one;

		if (getrlimit((enum __rlimit_resource)i, &limit) < 0)
			continue;
		one = json_array();
		json_array_append_new(one, json_integer(i));
		/* "None" is -1. */
		json_array_append_new(one, json_integer((json_int_t)limit.rlim_cur));
		json_array_append_new(one, json_integer((json_int_t)limit.rlim_max));
		json_array_append_new(limits, one);
	}
	return limits;
}

static int make_requests(struct work *w, const struct image_config *image, json_t **ret_prepare,
			 json_t **ret_run, struct error *err)
{
	const struct workload_config *c = &w->workload->config;
	own_json json_t *spec = NULL, *prepare = json_object(), *run = json_object();
	int rc = spec_make(w->engine, w->workload, image, -1, &spec, err);

	if (rc < 0)
		return rc;
	json_set_string(prepare, "do", "prepare");
	json_set_string(prepare, "hostname", c->hostname);
	json_object_set_new(prepare, "root", root_json(w));
	json_object_set_new(prepare, "limits", limits_json());
	vm_take_network(spec, prepare);
	rc = take_files(w->engine, w->workload, spec, prepare, err);
	if (rc == 0)
		rc = take_shares(w, spec, prepare, err);
	if (rc < 0)
		return rc;
	json_set_string(json_object_get(spec, "root"), "path", "root");
	json_set_string(json_object_get(spec, "linux"), "cgroupsPath", "/workload");
	/* The agent protects itself from the kernel's search for memory; its children are not it. */
	if (!c->oom_score_set)
		json_object_set_new(json_object_get(spec, "process"), "oomScoreAdj",
				    json_integer(0));
	vm_devices_take(c, spec, run);
	if (!w->boots)
		rc = vm_train_leave_out(spec, run, err);
	if (rc < 0)
		return rc;
	json_set_string(run, "do", "run");
	json_object_set(run, "spec", spec);
	json_object_set_new(run, "user", user_json(c, image));
	json_object_set_new(run, "reaper", json_boolean(c->flags & WORKLOAD_INIT));
	json_object_set_new(run, "terminal", json_boolean(c->flags & WORKLOAD_TTY));
	*ret_prepare = json_incref(prepare);
	*ret_run = json_incref(run);
	return 0;
}

static int fill(struct work *w, const struct image_config *image, struct error *err)
{
	json_t *plan, *prepare = NULL, *run = NULL;
	int rc = add_machine(w, err);

	if (rc == 0)
		rc = add_layers(w, err);
	if (rc == 0)
		rc = add_disk(w, err);
	if (rc == 0 && !w->files_only)
		vm_devices_add(&w->workload->config, w->command);
	if (rc == 0 && !w->files_only)
		rc = make_requests(w, image, &prepare, &run, err);
	if (rc < 0)
		return rc;
	if (w->files_only) {
		prepare = json_object();
		json_set_string(prepare, "do", "prepare");
		json_object_set_new(prepare, "root", root_json(w));
	}
	plan = json_object();
	json_object_set(plan, "command", w->command);
	json_object_set_new(plan, "boots", json_boolean(w->boots));
	json_object_set_new(plan, "prepare", prepare);
	if (run != NULL) {
		const struct workload_config *c = &w->workload->config;

		json_object_set_new(plan, "run", run);
		json_object_set_new(
			plan, "removed",
			json_boolean(c->flags & (WORKLOAD_AUTO_REMOVE | WORKLOAD_READ_ONLY)));
		json_object_set_new(plan, "host",
				    vm_cgroup_plan(w->workload->id, memory_size(c), cpu_count(c),
						   c->nano_cpus));
	}
	w->plan.text = json_text(plan);
	json_decref(plan);
	return 0;
}

static int make_plan(struct engine *engine, const struct workload *workload, bool files_only,
		     struct plan *ret, struct error *err)
{
	own_plan_work struct work w = {.engine = engine,
				       .workload = workload,
				       .plan = PLAN_EMPTY,
				       .files_only = files_only,
				       .command = json_array(),
				       .layers = json_array()};
	own_image_config struct image_config image = {0};
	int rc = engine_images(engine, &w.store, err);

	if (rc == 0)
		rc = image_find(w.store, workload->config.image_id, &w.image, err);
	if (rc == 0)
		rc = image_read_config(w.image, &image, err);
	if (rc == 0)
		rc = fill(&w, &image, err);
	if (rc < 0)
		return rc;
	*ret = w.plan;
	w.plan = PLAN_EMPTY;
	return 0;
}

int vm_prepare(struct engine *engine, const struct workload *workload, struct plan *ret,
	       struct error *err)
{
	return make_plan(engine, workload, false, ret, err);
}

int vm_prepare_files(struct engine *engine, const struct workload *workload, struct plan *ret,
		     struct error *err)
{
	return make_plan(engine, workload, true, ret, err);
}
