/* devices: the virtio devices, each one file. A create function makes the device; the caller puts it on
 * the PCI host. 0 or -errno. */
#pragma once

#include "vmm/disk/disk.h"
#include "vmm/input.h"
#include "vmm/virtio/virtio.h"

/* Entropy. */
int virtio_rng_create(struct board *board, struct virtio **ret) must_check;

/* A disk, which it takes unless it fails. */
int virtio_blk_create(struct board *board, unsigned int instance, struct disk *disk,
		      struct virtio **ret) must_check;

/* A console with one terminal: what the guest writes goes to `out_fd`; input comes by
 * virtio_console_receive, which takes up to `size` bytes and returns how many the guest had room for;
 * `input` is woken when it has room again. */
int virtio_console_create(struct board *board, int out_fd, struct input *input,
			  struct virtio **ret) must_check;
size_t virtio_console_receive(struct virtio *virtio, const void *data, size_t size);
/* Tells the guest the terminal's size. */
void virtio_console_resize(struct virtio *virtio, uint16_t columns, uint16_t rows);

/* A network card on a tap with virtio headers: one descriptor (non-blocking) for each pair of queues.
 * They are taken unless it fails. */
enum { NET_PAIRS_MAX = 8 };
int virtio_net_create(struct board *board, unsigned int instance, const int *fds,
		      unsigned int pairs, const uint8_t mac[static 6],
		      struct virtio **ret) must_check;
