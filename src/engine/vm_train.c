/* vm_train: see vm_train.h. */
#include "engine/vm_train.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"
#include "engine/agent_image.h"
#include "engine/spec.h"
#include "guest/protocol.h"
#include "image/config.h"
#include "image/layer.h"
#include "tar/write.h"
#include "vmm/disk/disk.h"
#include "vmm/machine/client.h"

enum { CONTROL_MS = 60000 };

/* --- a container as most are -------------------------------------------------------------------------- */

/* The machine's network is the workload's: it needs no namespace of it, and its settings are the
 * machine's. */
void vm_take_network(json_t *spec, json_t *prepare)
{
	json_t *part = json_object_get(spec, "linux"), *sysctls = json_object(), *value;
	json_t *namespaces = json_object_get(part, "namespaces");
	json_t *all = json_object_get(part, "sysctl");
	const char *key;
	void *next;

	for (size_t i = json_array_size(namespaces); i-- > 0;)
		if (str_eq(json_string_value(
				   json_object_get(json_array_get(namespaces, i), "type")),
			   "network"))
			json_array_remove(namespaces, i);
	json_object_foreach_safe(all, next, key, value) if (str_after(key, "net.") != NULL)
	{
		json_object_set(sysctls, key, value);
		json_object_del(all, key);
	}
	json_object_set_new(prepare, "sysctls", sysctls);
	json_object_set_new(prepare, "network", json_array());
}

static const char *const file_names[] = {"resolv.conf", "hostname", "hosts"};

/* What a workload has for which nothing was asked for. `prepare` gets what is the machine's of it. */
static int usual_spec(json_t *prepare, json_t **ret, struct error *err)
{
	static char program[] = "/true", *argv[] = {program, NULL}, nowhere[] = "/", root[] = "0:0";
	own_json json_t *spec = json_object(), *process = NULL, *part = NULL;
	json_t *mounts = json_array();
	const struct image_config image = {.user = root, .working_dir = nowhere};
	struct workload w = {.argv = argv};
	int rc;

	workload_config_init(&w.config);
	w.config.isolation = WORKLOAD_VM;
	json_set_string(spec, "ociVersion", "1.2.0");
	json_object_set_new(spec, "root", json_pack("{s:s,s:b}", "path", "root", "readonly", 0));
	json_set_string(spec, "hostname", "trial");
	json_object_set_new(spec, "mounts", mounts);
	spec_mounts_kernel(&w.config, mounts);
	for (size_t i = 0; i < array_size(file_names); i++) {
		own_mem char *source = str_format(AGENT_DIRECTORY "/files/%s", file_names[i]);

		spec_mounts_file(&w.config, file_names[i], source, mounts);
	}
	rc = spec_process(&w, &image, -1, &process, err);
	if (rc == 0)
		rc = spec_linux(
			&w, json_object_get(json_object_get(process, "capabilities"), "bounding"),
			&part, err);
	if (rc < 0)
		return rc;
	json_object_del(process, "apparmorProfile");
	json_object_set_new(process, "oomScoreAdj", json_integer(0));
	json_set_string(part, "cgroupsPath", "/workload");
	json_object_set(spec, "process", process);
	json_object_set(spec, "linux", part);
	vm_take_network(spec, prepare);
	*ret = json_incref(spec);
	return 0;
}

static json_t *make_files(void)
{
	json_t *files = json_array();

	for (size_t i = 0; i < array_size(file_names); i++)
		json_array_append_new(
			files, json_pack("{s:s,s:s}", "name", file_names[i], "content", "trial\n"));
	return files;
}

static void leave_out(json_t *ours, const json_t *usual, const char *above, json_t *same)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(ours, next, key, value)
	{
		if (!json_equal(value, json_object_get(usual, key)))
			continue;
		json_array_append_new(same, above ? json_pack("[s,s]", above, key)
						  : json_pack("[s]", key));
		json_object_del(ours, key);
	}
}

int vm_train_leave_out(json_t *spec, json_t *run, struct error *err)
{
	static const char *const parts[] = {"process", "linux"};
	own_json json_t *usual = NULL, *prepare = json_object();
	json_t *same = json_array();
	int rc = usual_spec(prepare, &usual, err);

	json_object_set_new(run, "same", same);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < array_size(parts); i++)
		leave_out(json_object_get(spec, parts[i]), json_object_get(usual, parts[i]),
			  parts[i], same);
	for (size_t i = 0; i < array_size(parts); i++)
		json_object_del(usual, parts[i]);
	leave_out(spec, usual, NULL, same);
	return 0;
}

int vm_train_warm(struct attendant *a, struct error *err)
{
	own_json json_t *request = json_object(), *spec = NULL;
	int rc = usual_spec(request, &spec, err);

	if (rc < 0)
		return rc;
	json_set_string(request, "do", "warm");
	json_object_set(request, "spec", spec);
	json_object_set_new(request, "files", make_files());
	json_object_set_new(request, "root",
			    json_pack("{s:I,s:s}", "upperBytes", (json_int_t)VM_DISK_DEFAULT_BYTES,
				      "options", VM_DISK_OPTIONS_REMOVED));
	return attendant_ask(a, request, VM_ANSWER_MS, err);
}

/* --- a trial start ------------------------------------------------------------------------------------- */

static int take_bytes(const void *bytes, size_t len, void *data, struct error *err)
{
	return layer_writer_add(data, bytes, len, err);
}

static int write_tree(struct layer_writer *writer, struct error *err)
{
	static const char *const places[] = {"dev", "etc", "proc", "sys"};
	struct tar_writer w = {.fn = take_bytes, .data = writer};
	struct tar_entry entry = {.type = TAR_DIR, .mode = 0755};
	size_t size;
	const void *program = agent_image_program(&size);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < array_size(places); i++) {
		entry.path = places[i];
		rc = tar_write_entry(&w, &entry, err);
	}
	entry = (struct tar_entry){.type = TAR_FILE, .path = "true", .mode = 0755, .size = size};
	if (rc == 0)
		rc = tar_write_entry(&w, &entry, err);
	if (rc == 0)
		rc = tar_write_data(&w, program, size, err);
	return rc < 0 ? rc : tar_write_end(&w, err);
}

/* Its file is named for its digest, which nobody compares. */
static int make_layer(int layers, struct digest *ret_name, struct layer_info *ret,
		      struct error *err)
{
	own_layer_writer struct layer_writer *writer = NULL;
	int rc = layer_writer_begin(layers, layer_format_find("erofs"), &writer, err);

	*ret_name = digest_of("", 0);
	if (rc == 0)
		rc = write_tree(writer, err);
	return rc < 0 ? rc : layer_writer_finish(writer, ret_name, ret, err);
}

static json_t *root_json(int64_t layer_bytes)
{
	const json_int_t disk = (layer_bytes + DISK_STACK_ALIGN - 1) & ~(DISK_STACK_ALIGN - 1);

	return json_pack("{s:[[i,I]],s:I,s:I,s:s,s:s,s:b,s:b}", "layers", 0,
			 (json_int_t)layer_bytes, "bytes", disk, "upperBytes",
			 (json_int_t)VM_DISK_DEFAULT_BYTES, "upper", "disk", "options",
			 VM_DISK_OPTIONS_REMOVED, "usual", 1, "volatile", 1);
}

/* As vm_plan.c makes them, the disk and the files being those of a workload. */
static int make_requests(int64_t layer_bytes, json_t **ret, struct error *err)
{
	own_json json_t *spec = NULL, *plan = NULL, *prepare = json_object();
	json_t *run;
	int rc = usual_spec(prepare, &spec, err);

	if (rc < 0)
		return rc;
	json_set_string(prepare, "do", "prepare");
	json_set_string(prepare, "hostname", "trial");
	json_object_set_new(prepare, "root", root_json(layer_bytes));
	json_object_set_new(prepare, "files", make_files());
	json_object_set_new(prepare, "shares", json_array());
	run = json_pack("{s:s,s:O,s:{s:s,s:[]},s:b,s:b}", "do", "run", "spec", spec, "user", "name",
			"0:0", "groups", "reaper", 0, "terminal", 0);
	plan = json_pack("{s:O,s:o}", "prepare", prepare, "run", run);
	rc = vm_train_leave_out(spec, run, err);
	/* It is not the usual one that it would be left out for. */
	json_set_string(spec, "hostname", "trial");
	if (rc == 0)
		*ret = json_incref(plan);
	return rc;
}

static json_t *make_command(const char *dir, const struct digest *layer)
{
	own_mem char *snapshot = str_format("%s/snapshot", dir);
	own_mem char *file = str_format("%s/layers/%s.erofs", dir, digest_hex(layer));
	own_mem char *disk = str_format("%s/" VM_DISK_NAME, dir);

	return json_pack("[s,s,s,s,s,s,s,s,s,s,s,s,s]", "vmm", "run", "--restore", snapshot,
			 "--no-reset", "--vsock", "vsock,cid=3", "--control", "control", "--layer",
			 file, "--disk", disk);
}

static int save_code(int templates, const char *name, const char *dir, struct error *err)
{
	own_mem char *socket = str_format("%s/control", dir);
	own_mem char *path = str_format("%s/snapshot/" VM_CODE_NAME, name);
	own_json json_t *request = json_pack("{s:s}", "do", "code");
	own_fd int file = openat(templates, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	own_fd int control = -1;
	int rc = file < 0 ? fail(err, -errno, "create %s", path) : 0;

	if (rc == 0)
		rc = control = control_connect(socket, CONTROL_MS, err);
	if (rc >= 0)
		rc = control_call(control, request, &file, 1, NULL, err);
	if (rc < 0)
		unlinkat(templates, path, 0);
	return rc;
}

static int run_trial(int templates, const char *name, json_t *plan, struct attendant *a,
		     const char *dir, struct error *err)
{
	int rc, output[2];

	a->state_fd = templates;
	/* What it would write to: the streams to the agent are a part of each start. */
	if (pipe2(output, O_CLOEXEC) < 0)
		return fail(err, -errno, "make a pipe");
	a->stdio[1] = a->stdio[2] = output[1];
	rc = attendant_start_machine(a, plan, err);
	if (rc == 0)
		rc = attendant_await_exit(a, err);
	if (rc > 0)
		rc = refuse(err, -EIO, "the trial program ended with exit code %d", rc);
	if (rc == 0)
		rc = save_code(templates, name, dir, err);
	close(output[0]);
	close(output[1]);
	return rc;
}

static void end_trial(struct attendant *a)
{
	for (int i = 0; i < 3; i++)
		fd_close(&a->streams[i]);
	(void)attendant_end_machine(a);
	attendant_free(a);
}

int vm_train(int templates, const char *name, const char *dir, struct error *err)
{
	own_mem char *layers_path = str_format("%s/layers", name);
	own_mem char *disk = str_format("%s/" VM_DISK_NAME, name);
	own_mem char *snapshot = str_format("%s/snapshot", dir);
	own_mem char *socket = str_format("%s/vsock", name),
		     *control = str_format("%s/control", name);
	struct attendant *a;
	own_json json_t *plan = NULL;
	own_fd int layers = dir_open(templates, layers_path, 0700, err);
	struct layer_info info = {0};
	struct digest layer;
	int rc = layers < 0 ? layers : make_layer(layers, &layer, &info, err);

	if (rc == 0)
		rc = vm_disk_copy_usual(snapshot, templates, disk, err);
	if (rc == 0)
		rc = make_requests((int64_t)info.size_bytes, &plan, err);
	if (rc < 0)
		return rc;
	/* Those of the machine that the template was made of. */
	unlinkat(templates, socket, 0);
	unlinkat(templates, control, 0);
	json_object_set_new(plan, "command", make_command(dir, &layer));
	a = attendant_new(name);
	rc = run_trial(templates, name, plan, a, dir, err);
	end_trial(a);
	return rc;
}
