/*
 * world: all devices of a machine, without its CPUs, for the fuzzers. On the other side of the devices is a
 * host that answers: connections of the socket device are made, and what the guest sends on them comes back, as do
 * its packets. The process enters a network namespace of its own; where it may not, there is no network card.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>

#include "vmm/chip/chips.h"
#include "vmm/chip/irqchip.h"
#include "vmm/input.h"
#include "vmm/share/share.h"
#include "vmm/virtio/devices.h"

enum {
	DEVICES_MAX = 24,
	VIRTIO_MAX = 8,
	QUEUES_MAX = 8, /* of a device, that a guest's driver (access.c) sets up */
	PEERS_MAX = 16,
	WORLD_FLASH = 0xfe800000, /* where it is */
};

/* What a guest or its host does; access.c has the kinds. */
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
	struct pci_host *pci;
	struct irqchip *irqchip;
	struct acpi_pm *pm;
	struct serial *serial;
	struct virtio *balloon, *console; /* of those below */
	unsigned int virtio_count;
	struct virtio *virtio[VIRTIO_MAX];
	pthread_t disk_thread; /* runs board.disk_loop, as a machine's does */
	int end;               /* tells it to return */
	int look;              /* tells it to post `looked` */
	sem_t looked;
	int broker;         /* of the socket device */
	int wire;           /* the other side of the network card's tap, or -1 */
	struct input input; /* which nobody types at */
	uint16_t pushed[VIRTIO_MAX][QUEUES_MAX]; /* descriptors or chains, so far */
	unsigned int next_peer;
	int peers[PEERS_MAX]; /* the host's ends of its connections */
};

/* Exits if the devices cannot be made. */
void world_build(struct world *w);
/* Without the devices: `*w` may be built anew. */
void world_release(struct world *w);
/* Devices and memory as after power on. */
void world_reset(struct world *w);
/* Returns when the thread of the disks has looked at what was rung before. */
void world_let_disks_look(struct world *w);
/* One access, after which the virtio devices look at their queues. */
void world_perform(struct world *w, const struct access *a);
