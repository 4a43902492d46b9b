/*
 * snapshot_state: the state and the memory of a snapshot (snapshot.h).
 *
 * Saving and loading happen on the device thread, in one callback, with every vCPU parked: nothing else
 * changes the machine then (machine_priv.h, M2).
 */
#include "vmm/machine/snapshot.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "vmm/cpu/kvm/kvm.h"
#include "vmm/machine/machine_priv.h"
#include "vmm/virtio/devices.h"
#include "vmm/tsc.h"

enum {
	VERSION = 1,
	MAGIC_SIZE = 8,
	WRITE_MAX = 1 << 20, /* one write of memory */
};
static const char magic[MAGIC_SIZE + 1] = "BERTHVM1";

static bool is_zero(const uint8_t *page)
{
	const uint64_t *words = (const uint64_t *)(const void *)page;
	uint64_t any = 0;

	for (unsigned int i = 0; i < MEMORY_PAGE_SIZE / sizeof(*words); i += 8) {
		for (unsigned int j = 0; j < 8; j++)
			any |= words[i + j];
		if (any)
			return false;
	}
	return true;
}

/* Writes what is not zero of [start, end): the rest of the file stays a hole. */
static int write_pages(const uint8_t *host, uint64_t start, uint64_t end, int fd)
{
	uint64_t at = start;

	while (at < end) {
		uint64_t first;
		int rc;

		while (at < end && is_zero(host + at))
			at += MEMORY_PAGE_SIZE;
		first = at;
		while (at < end && at - first < WRITE_MAX && !is_zero(host + at))
			at += MEMORY_PAGE_SIZE;
		if (at == first)
			break;
		rc = fd_write_full_at(fd, host + first, at - first, (off_t)first);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Memory that was never touched is a hole in the memfd, and is not looked at. What a machine from a
 * snapshot has written privately does not show in its file: all of that is looked at. */
static int write_memory(const struct memory *memory, int fd)
{
	uint64_t size = memory->size_bytes, at = 0;
	int rc = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;

	if (memory->is_private)
		return rc < 0 ? rc : write_pages(memory->host, 0, size, fd);
	while (rc == 0 && at < size) {
		off_t data = lseek(memory->fd, (off_t)at, SEEK_DATA), hole;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(memory->fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		at = (uint64_t)hole < size ? (uint64_t)hole : size;
		rc = write_pages(memory->host, (uint64_t)data & ~(MEMORY_PAGE_SIZE - 1), at, fd);
	}
	return rc;
}

/* From here until end_moment the clocks of all vCPUs stand (cpu.h). */
static void begin_moment(struct machine *machine)
{
	machine->vm->moment_ns = clock_monotonic_ns();
	machine->vm->moment_tsc = __rdtsc();
}

static void end_moment(struct machine *machine)
{
	machine->vm->moment_tsc = 0;
}

static int save_cpus(struct machine *machine, struct state_writer *out)
{
	struct cpu_state *states = mem_new_array(machine->config.cpus, sizeof(*states));
	int rc = machine_cpus_state(machine, JOB_GET_STATE, states);

	for (unsigned int i = 0; i < machine->config.cpus && rc == 0; i++) {
		state_begin(out, "cpu", i, VERSION);
		state_put(out, &states[i], sizeof(states[i]));
		state_end(out);
	}
	own_mem_release(&states);
	return rc;
}

static int save_chips(struct machine *machine, struct state_writer *out)
{
	int rc;

	if (machine->irqchip) {
		state_begin(out, "clock", 0, VERSION);
		state_put_u64(out,
			      (uint64_t)(machine->vm->moment_ns + machine->vm->clock_offset_ns));
		state_end(out);
		return 0;
	}
	state_begin(out, "kvm", 0, VERSION);
	rc = kvm_save(machine->vm, out);
	state_end(out);
	return rc;
}

static void save_devices(struct machine *machine, struct state_writer *out)
{
	state_begin(out, "machine", 0, VERSION);
	state_put_u32(out, machine->device_count);
	state_put_u64(out, machine->acpi.generation);
	state_end(out);
	for (unsigned int i = 0; i < machine->device_count; i++) {
		struct device *device = machine->devices[i];

		device_lock(device);
		state_begin(out, device->ops->name, device->instance, VERSION);
		device->ops->save(device, out);
		state_end(out);
		device_unlock(device);
	}
}

static int write_state(struct machine *machine, int fd, struct error *err)
{
	struct state_writer out = {0};
	int rc;

	state_put(&out, magic, MAGIC_SIZE);
	begin_moment(machine);
	rc = save_cpus(machine, &out);
	if (rc == 0)
		rc = save_chips(machine, &out);
	end_moment(machine);
	if (rc == 0) {
		save_devices(machine, &out);
		rc = fd_write_full(fd, out.data.data, out.data.len);
	}
	buf_release(&out.data);
	return rc < 0 ? fail(err, rc, "save the state of vCPUs and devices") : 0;
}

/* The images must be complete without us: who goes on from the snapshot opens them anew. */
static int flush_disks(struct machine *machine, struct error *err)
{
	int rc = 0;

	for (unsigned int i = 0; i < machine->config.disk_count && rc == 0; i++)
		rc = virtio_blk_flush(machine->disks[i]);
	return rc < 0 ? fail(err, rc, "write the disks") : 0;
}

int snapshot_save(struct machine *machine, const int fds[static SNAPSHOT_FILES], struct error *err)
{
	uint32_t khz = machine->vm->tsc_khz ? machine->vm->tsc_khz : (uint32_t)tsc_khz();
	own_mem char *text = NULL;
	int rc = flush_disks(machine, err);

	if (rc == 0)
		rc = write_state(machine, fds[SNAPSHOT_STATE], err);
	if (rc < 0)
		return rc;
	rc = write_memory(machine->board.memory, fds[SNAPSHOT_MEMORY]);
	if (rc < 0)
		return fail(err, rc, "save the guest's memory");
	json_object_set_new(machine->description, "tscKhz", json_integer(khz));
	text = json_text_pretty(machine->description);
	rc = fd_write_full(fds[SNAPSHOT_MACHINE], text, strlen(text));
	return rc < 0 ? fail(err, rc, "save the machine's configuration") : 0;
}

static int find_section(const struct snapshot *s, const char *name, uint32_t instance,
			struct state_reader *ret, struct error *err)
{
	int rc = state_find(s->state + MAGIC_SIZE, s->state_size - MAGIC_SIZE, name, instance, ret);

	if (rc == -ENOENT)
		return hint(
			err,
			refuse(err, -EINVAL, "the snapshot has no state of %s %u", name, instance),
			"a machine is restored with as many disks, network cards and other "
			"devices as it had");
	if (rc < 0)
		return refuse(err, rc, "the snapshot's state is damaged");
	if (ret->version != VERSION)
		return refuse(err, -ENOTSUP,
			      "the state of %s has version %u; this program knows %d", name,
			      ret->version, VERSION);
	return 0;
}

static int load_cpus(struct machine *machine, struct error *err)
{
	struct cpu_state *states = mem_new_array(machine->config.cpus, sizeof(*states));
	struct state_reader in;
	int rc = 0;

	for (unsigned int i = 0; i < machine->config.cpus && rc == 0; i++) {
		rc = find_section(machine->from, "cpu", i, &in, err);
		if (rc < 0)
			break;
		state_get(&in, &states[i], sizeof(states[i]));
		rc = state_finish(&in);
		if (rc < 0)
			refuse(err, rc, "the state of vCPU %u is damaged", i);
	}
	if (rc == 0) {
		rc = machine_cpus_state(machine, JOB_SET_STATE, states);
		if (rc < 0)
			fail(err, rc, "set the state of the vCPUs");
	}
	own_mem_release(&states);
	return rc;
}

/* The guest's clock goes on from where it stood. */
static int load_clock(struct machine *machine, struct error *err)
{
	struct state_reader in;
	uint64_t guest_ns;
	int rc = find_section(machine->from, "clock", 0, &in, err);

	if (rc < 0)
		return rc;
	guest_ns = state_get_u64(&in);
	machine->vm->clock_offset_ns = (int64_t)(guest_ns - (uint64_t)machine->vm->moment_ns);
	rc = state_finish(&in);
	return rc < 0 ? refuse(err, rc, "the state of the clock is damaged") : 0;
}

/* KVM's controllers come after the vCPUs, which say in which mode their APICs are. */
static int load_kvm(struct machine *machine, struct error *err)
{
	struct state_reader in;
	int rc = find_section(machine->from, "kvm", 0, &in, err);

	if (rc < 0)
		return rc;
	rc = kvm_load(machine->vm, &in);
	return rc < 0 ? refuse(err, rc, "the state of KVM's devices cannot be set") : 0;
}

static int load_device(struct machine *machine, struct device *device, struct error *err)
{
	struct state_reader in;
	int rc = find_section(machine->from, device->ops->name, device->instance, &in, err);

	if (rc < 0)
		return rc;
	device_lock(device);
	rc = device->ops->load(device, &in);
	device_unlock(device);
	return rc < 0 ? refuse(err, rc, "the state of %s %u does not fit", device->ops->name,
			       device->instance)
		      : 0;
}

static int load_devices(struct machine *machine, struct error *err)
{
	struct state_reader in;
	uint32_t count;
	int rc = find_section(machine->from, "machine", 0, &in, err);

	if (rc < 0)
		return rc;
	count = state_get_u32(&in);
	machine->acpi.generation = state_get_u64(&in);
	rc = state_finish(&in);
	if (rc < 0 || !memory_at(machine->board.memory, machine->acpi.generation, 16))
		return refuse(err, -EINVAL, "the snapshot's state is damaged");
	for (unsigned int i = 0; i < machine->device_count && rc == 0; i++)
		rc = load_device(machine, machine->devices[i], err);
	if (rc == 0 && count != machine->device_count)
		return hint(err,
			    refuse(err, -EINVAL, "the snapshot has %u devices, this machine %u",
				   count, machine->device_count),
			    "a machine is restored with as many disks, network cards and other "
			    "devices as it had");
	return rc;
}

/* Microsoft's "Virtual Machine Generation ID": another value, then the event that makes the guest look.
 * Linux's random generator starts anew from it. */
static void change_generation(struct machine *machine)
{
	struct board *board = &machine->board;
	void *id = memory_at(board->memory, machine->acpi.generation, 16);

	random_bytes(id, 16);
	board->ops->written(board, machine->acpi.generation, 16);
	acpi_pm_event(machine->pm, ACPI_GPE_GENERATION);
}

int snapshot_load(struct machine *machine, struct error *err)
{
	const struct snapshot *s = machine->from;
	int rc;

	if (s->state_size < MAGIC_SIZE || memcmp(s->state, magic, MAGIC_SIZE) != 0)
		return refuse(err, -EINVAL, "the snapshot's state is damaged");
	begin_moment(machine);
	rc = machine->irqchip ? load_clock(machine, err) : 0;
	if (rc == 0)
		rc = load_cpus(machine, err);
	end_moment(machine);
	if (rc == 0 && !machine->irqchip)
		rc = load_kvm(machine, err);
	if (rc == 0)
		rc = load_devices(machine, err);
	if (rc == 0)
		change_generation(machine);
	return rc;
}
