/* requests: see requests.h. One function per request; the table is at the end. */
#include "vmm/machine/requests.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "vmm/machine/machine_priv.h"

typedef int request_fn(struct machine *machine, const struct json_at *request,
		       struct request_fds *fds, json_t **ret_result, struct error *err);

static void set_int(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

static int do_status(struct machine *machine, const struct json_at *request,
		     struct request_fds *fds, json_t **ret, struct error *err)
{
	json_t *result = json_object();

	(void)request;
	(void)fds;
	(void)err;
	json_set_string(result, "state", machine_is_paused(machine) ? "paused" : "running");
	json_set_string(result, "accel", machine->accel->name);
	set_int(result, "cpus", machine->config.cpus);
	set_int(result, "memoryBytes", machine->config.memory_bytes);
	set_int(result, "disks", machine->config.disk_count);
	set_int(result, "nets", machine->config.net_count);
	set_int(result, "uptimeMs",
		(uint64_t)(clock_monotonic_ns() - machine->started_ns) / 1000000);
	*ret = result;
	return 0;
}

static int do_pause(struct machine *machine, const struct json_at *request, struct request_fds *fds,
		    json_t **ret, struct error *err)
{
	(void)request;
	(void)fds;
	(void)ret;
	(void)err;
	machine_pause(machine);
	return 0;
}

static int do_resume(struct machine *machine, const struct json_at *request,
		     struct request_fds *fds, json_t **ret, struct error *err)
{
	(void)request;
	(void)fds;
	(void)ret;
	(void)err;
	machine_resume(machine);
	return 0;
}

static int do_powerdown(struct machine *machine, const struct json_at *request,
			struct request_fds *fds, json_t **ret, struct error *err)
{
	(void)request;
	(void)fds;
	(void)ret;
	(void)err;
	acpi_pm_power_button(machine->pm);
	return 0;
}

static int do_stop(struct machine *machine, const struct json_at *request, struct request_fds *fds,
		   json_t **ret, struct error *err)
{
	(void)request;
	(void)fds;
	(void)ret;
	(void)err;
	machine_end(machine, 0);
	return 0;
}

static int do_snapshot(struct machine *machine, const struct json_at *request,
		       struct request_fds *fds, json_t **ret, struct error *err)
{
	bool was_paused = machine_is_paused(machine), stop = false;
	const char *then = NULL;
	int rc = json_get_string(request, "then", JSON_OPTIONAL, &then, err);

	(void)ret;
	if (rc < 0)
		return rc;
	if (then && str_eq(then, "stop"))
		stop = true;
	else if (then && str_eq(then, "pause"))
		was_paused = true;
	else if (then && str_eq(then, "run"))
		was_paused = false;
	else if (then)
		return refuse(err, -EINVAL, "\"then\" is run, pause or stop, not \"%s\"", then);
	if (fds->count != SNAPSHOT_FILES)
		return refuse(err, -EINVAL,
			      "a snapshot needs %d descriptors: memory, state and machine.json",
			      SNAPSHOT_FILES);
	if (machine->wakers > 0)
		return refuse(err, -EBUSY, "somebody has the machine run at the moment");
	if (machine->config.firmware == MACHINE_UEFI)
		return refuse(err, -ENOTSUP,
			      "a machine with UEFI firmware cannot be saved: its variables and its "
			      "chipset are not part of a snapshot");
	machine_pause(machine);
	/* What it has asked for is not in its state: a copy would go on behind it. */
	rc = machine->power == BOARD_ON
		     ? snapshot_save(machine, fds->fds, err)
		     : refuse(err, -EAGAIN, "the guest resets or ends at this very moment");
	if (rc == 0 && stop)
		machine_end(machine, 0);
	else if (!was_paused)
		machine_resume(machine);
	return rc;
}

/* What the accelerator knows of the guest's code, to a file that becomes a part of the snapshot that
 * this machine has come from. */
static int do_code(struct machine *machine, const struct json_at *request, struct request_fds *fds,
		   json_t **ret, struct error *err)
{
	const bool was_paused = machine_is_paused(machine);
	int rc;

	(void)request;
	(void)ret;
	if (fds->count != 1)
		return refuse(err, -EINVAL, "code is written to one descriptor");
	if (machine->accel->save_code == NULL)
		return refuse(err, -ENOTSUP, "%s keeps no code", machine->accel->name);
	machine_pause(machine);
	rc = machine->accel->save_code(machine->vm, fds->fds[0], err);
	if (!was_paused)
		machine_resume(machine);
	return rc;
}

/* The index of a device of which there are `count`. */
static int get_index(const struct json_at *request, const char *what, unsigned int count,
		     struct error *err)
{
	int64_t index = 0;
	int rc = json_get_int(request, "index", JSON_REQUIRED, 0, INT32_MAX, &index, err);

	if (rc < 0)
		return rc;
	if (index >= count)
		return refuse(err, -ENOENT, "there is no %s %d: the machine has %u", what,
			      (int)index, count);
	return (int)index;
}

/* One file, or with "layers" several as one read-only disk. */
static int open_disk(const struct json_at *request, bool read_only, struct request_fds *fds,
		     struct disk **ret, struct error *err)
{
	bool layers = false;
	int rc = json_get_bool(request, "layers", JSON_OPTIONAL, &layers, err);

	if (rc < 0)
		return rc;
	if (fds->count == 0 || (fds->count > 1 && !layers))
		return refuse(err, -EINVAL, "a disk is given as one descriptor");
	rc = layers ? disk_open_stack(fds->fds, fds->count, ret)
		    : disk_open_raw(fds->fds[0], read_only, ret);
	if (rc < 0)
		return fail(err, rc, "open the disk");
	fds->count = 0;
	return 0;
}

static int do_disk(struct machine *machine, const struct json_at *request, struct request_fds *fds,
		   json_t **ret, struct error *err)
{
	int index = get_index(request, "disk", machine->config.disk_count, err), rc;
	own_disk struct disk *disk = NULL;

	(void)ret;
	if (index < 0)
		return index;
	rc = open_disk(request, machine->config.disks[index].flags & DISK_READ_ONLY, fds, &disk,
		       err);
	if (rc == 0)
		rc = virtio_blk_replace(machine->disks[index], disk);
	if (rc < 0)
		return fail(err, rc, "replace disk %d", index);
	(void)take(disk);
	return 0;
}

static int do_net(struct machine *machine, const struct json_at *request, struct request_fds *fds,
		  json_t **ret, struct error *err)
{
	int index = get_index(request, "network card", machine->config.net_count, err), rc;

	(void)ret;
	if (index < 0)
		return index;
	rc = virtio_net_replace(machine->nets[index], fds->fds, fds->count);
	if (rc == -EINVAL)
		return refuse(err, rc, "a network card is given one tap descriptor per queue");
	if (rc < 0)
		return fail(err, rc, "replace the tap of network card %d", index);
	fds->count = 0;
	return 0;
}

/* {"bytes": N}: so much is to be given back in all. */
static int do_balloon(struct machine *machine, const struct json_at *request,
		      struct request_fds *fds, json_t **ret, struct error *err)
{
	int64_t bytes = 0;
	int rc = json_get_int(request, "bytes", JSON_REQUIRED, 0,
			      (int64_t)machine->config.memory_bytes, &bytes, err);

	(void)fds;
	(void)ret;
	if (rc < 0)
		return rc;
	virtio_balloon_set(machine->balloon, (uint64_t)bytes);
	return 0;
}

static json_t *describe_balloon(struct virtio *balloon)
{
	static const char *const names[] = {
		[BALLOON_SWAP_IN] = "swapInBytes",
		[BALLOON_SWAP_OUT] = "swapOutBytes",
		[BALLOON_MAJOR_FAULTS] = "majorFaults",
		[BALLOON_MINOR_FAULTS] = "minorFaults",
		[BALLOON_FREE_MEMORY] = "freeBytes",
		[BALLOON_TOTAL_MEMORY] = "totalBytes",
		[BALLOON_AVAILABLE_MEMORY] = "availableBytes",
		[BALLOON_DISK_CACHES] = "diskCacheBytes",
		[BALLOON_HUGE_ALLOCATIONS] = "hugePageAllocations",
		[BALLOON_HUGE_FAILURES] = "hugePageFailures",
	};
	json_t *object = json_object(), *guest = json_object();
	struct balloon_statistics statistics;

	virtio_balloon_get(balloon, &statistics);
	set_int(object, "wantedBytes", statistics.wanted_bytes);
	set_int(object, "actualBytes", statistics.actual_bytes);
	set_int(object, "releasedBytes", statistics.released_bytes);
	for (unsigned int i = 0; i < BALLOON_STATISTICS; i++)
		if (statistics.known & 1u << i)
			set_int(guest, names[i], statistics.values[i]);
	json_object_set_new(object, "guest", guest);
	return object;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time) < 0)
		return 0;
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static uint64_t thread_cpu_ns(pthread_t thread)
{
	clockid_t clock;

	return pthread_getcpuclockid(thread, &clock) == 0 ? clock_ns(clock) : 0;
}

static json_t *describe_device(const struct virtio *virtio)
{
	json_t *object = json_object();

	json_set_string(object, "name", virtio->device.ops->name);
	set_int(object, "instance", virtio->device.instance);
	set_int(object, "requests", virtio->requests);
	set_int(object, "bytesFromGuest", virtio->bytes_out);
	set_int(object, "bytesToGuest", virtio->bytes_in);
	return object;
}

static int do_metrics(struct machine *machine, const struct json_at *request,
		      struct request_fds *fds, json_t **ret, struct error *err)
{
	json_t *result = json_object(), *cpus = json_array(), *devices = json_array();
	struct rusage usage;

	(void)request;
	(void)fds;
	(void)err;
	for (unsigned int i = 0; i < machine->config.cpus; i++)
		json_array_append_new(
			cpus, json_integer((json_int_t)thread_cpu_ns(machine->cpus[i].thread)));
	for (unsigned int i = 0; i < machine->device_count; i++) {
		struct device *device = machine->devices[i];

		if (!virtio_is(device))
			continue;
		device_lock(device);
		json_array_append_new(devices, describe_device(virtio_of_device(device)));
		device_unlock(device);
	}
	json_object_set_new(result, "cpuNs", cpus);
	/* Ours, not pthread_self()'s: of the jail's first thread the C library knows the number from outside. */
	set_int(result, "deviceThreadNs", clock_ns(CLOCK_THREAD_CPUTIME_ID));
	if (getrusage(RUSAGE_SELF, &usage) == 0) {
		set_int(result, "maxResidentBytes", (uint64_t)usage.ru_maxrss << 10);
		set_int(result, "minorFaults", (uint64_t)usage.ru_minflt);
		set_int(result, "majorFaults", (uint64_t)usage.ru_majflt);
	}
	json_object_set_new(result, "balloon", describe_balloon(machine->balloon));
	json_object_set_new(result, "devices", devices);
	*ret = result;
	return 0;
}

static const struct {
	const char *name;
	request_fn *fn;
} requests[] = {
	{"status", do_status},       {"pause", do_pause}, {"resume", do_resume},
	{"powerdown", do_powerdown}, {"stop", do_stop},   {"snapshot", do_snapshot},
	{"disk", do_disk},           {"net", do_net},     {"metrics", do_metrics},
	{"balloon", do_balloon},     {"code", do_code},
};

int request_execute(struct machine *machine, const struct json_at *request, struct request_fds *fds,
		    json_t **ret_result, struct error *err)
{
	const char *name = NULL;
	int rc = json_get_string(request, "do", JSON_REQUIRED, &name, err);

	if (rc < 0)
		return rc;
	for (unsigned int i = 0; i < array_size(requests); i++)
		if (str_eq(requests[i].name, name))
			return requests[i].fn(machine, request, fds, ret_result, err);
	return hint(err,
		    refuse(err, -EOPNOTSUPP, "a machine does not know the request \"%s\"", name),
		    "it knows status, pause, resume, powerdown, stop, snapshot, disk, net, "
		    "balloon, code and metrics");
}
