/*
 * fuzz-devices: a hostile guest before all devices: the input is a list of accesses to ports, to the
 * PCI host's windows and to guest memory, after each of which the virtio devices look at their queues.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/chip/chips.h"
#include "vmm/chip/irqchip.h"
#include "vmm/virtio/devices.h"

enum { MEMORY = 1 << 20, DISK = 1 << 20, DEVICES_MAX = 16, ACCESSES_MAX = 400 };

struct access {
	uint8_t kind, size;
	uint16_t address;
	uint64_t value;
};

struct world {
	struct board board;
	struct irqchip_host host;
	unsigned int count;
	struct device *devices[DEVICES_MAX];
	struct virtio *virtio[2];
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_power(struct board *board, enum board_power what, int exit_code)
{
	(void)board;
	(void)what;
	(void)exit_code;
}

static void on_written(struct board *board, gpa_t gpa, uint64_t size)
{
	if (!memory_at(board->memory, gpa, size))
		abort();
}

static int add_doorbell(struct board *board, gpa_t gpa, int fd)
{
	(void)board;
	(void)gpa;
	(void)fd;
	return -ENOTSUP;
}

static const struct board_ops board_ops = {
	.power = on_power, .written = on_written, .add_doorbell = add_doorbell};

static void on_request(struct irqchip_host *host, unsigned int cpu, enum cpu_request request,
		       unsigned int argument)
{
	(void)host;
	(void)cpu;
	(void)request;
	(void)argument;
}

static uint64_t get_tsc(struct irqchip_host *host, unsigned int cpu, uint64_t *ret_khz)
{
	(void)host;
	(void)cpu;
	*ret_khz = 1000000;
	return 0;
}

static const struct irqchip_host_ops host_ops = {.request = on_request, .tsc = get_tsc};

static void keep(struct world *w, int rc, struct device *device)
{
	if (rc < 0)
		abort();
	w->devices[w->count++] = device;
}

static void build(struct world *w)
{
	struct irqchip *irqchip = NULL;
	struct pci_host *pci = NULL;
	struct acpi_pm *pm = NULL;
	struct device *device = NULL;
	int file = memfd_create("disk", MFD_CLOEXEC), rc;
	struct disk *disk = NULL;

	w->board.ops = &board_ops;
	w->host.ops = &host_ops;
	bus_init(&w->board.ports);
	bus_init(&w->board.mmio);
	if (file < 0 || ftruncate(file, DISK) < 0 || disk_open_raw(file, false, &disk) < 0 ||
	    timer_queue_init(&w->board.timers) < 0 || loop_create(&w->board.loop) < 0 ||
	    memory_create(MEMORY, &w->board.memory, NULL) < 0)
		abort();
	rc = irqchip_create(2, &w->host, &w->board.timers, &w->board.ports, &w->board.mmio,
			    &irqchip);
	keep(w, rc, irqchip_device(irqchip));
	w->board.irq = irqchip_irq(irqchip);
	rc = pit_create(&w->board, &device);
	keep(w, rc, device);
	rc = rtc_create(&w->board, &device);
	keep(w, rc, device);
	rc = i8042_create(&w->board, &device);
	keep(w, rc, device);
	rc = acpi_pm_create(&w->board, &pm);
	keep(w, rc, acpi_pm_device(pm));
	rc = pci_host_create(&w->board, &pci);
	keep(w, rc, pci_host_device(pci));
	rc = virtio_rng_create(&w->board, &w->virtio[0]);
	keep(w, rc, &w->virtio[0]->device);
	rc = virtio_blk_create(&w->board, 0, disk, &w->virtio[1]);
	keep(w, rc, &w->virtio[1]->device);
	for (unsigned int i = 0; i < 2; i++)
		if (pci_host_add(pci, &w->virtio[i]->pci) < 0)
			abort();
}

static void serve(struct world *w)
{
	for (unsigned int i = 0; i < 2; i++)
		if (virtio_is_active(w->virtio[i]) && w->virtio[i]->queues[0].ready)
			w->virtio[i]->ops->notify(w->virtio[i], 0);
}

static void perform(struct world *w, const struct access *a)
{
	unsigned int size = 1u << (a->size & 3);
	/* Both windows of the virtio devices lie at the start of the range. */
	uint64_t window = PCI_WINDOW_START + (a->address & 0xffff);

	switch (a->kind % 7) {
	case 0:
		bus_write(&w->board.ports, a->address, size > 4 ? 4 : size, a->value);
		break;
	case 1:
		(void)bus_read(&w->board.ports, a->address, size > 4 ? 4 : size);
		break;
	case 2:
		bus_write(&w->board.mmio, window, size, a->value);
		break;
	case 3:
		(void)bus_read(&w->board.mmio, window, size);
		break;
	case 4:
		bus_write(&w->board.mmio, PCI_ECAM_START + a->address, size, a->value);
		break;
	case 5:
		bus_write(&w->board.mmio, 0xfec00000 + (a->address & 0xff), 4, a->value);
		break;
	default:
		memcpy(w->board.memory->host + a->address, &a->value, sizeof(a->value));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;
	struct access a;

	if (!world.count)
		build(&world);
	for (unsigned int i = 0; i < world.count; i++)
		world.devices[i]->ops->reset(world.devices[i]);
	memset(world.board.memory->host, 0, 0x10008);
	for (unsigned int i = 0; i < ACCESSES_MAX && size >= sizeof(a); i++) {
		memcpy(&a, data, sizeof(a));
		data += sizeof(a);
		size -= sizeof(a);
		perform(&world, &a);
		serve(&world);
	}
	return 0;
}
