/* virtio: see virtio.h. One memory window holds everything (4.1.4):
 *
 *     0x0000 common configuration   0x1000 ISR          0x2000 device configuration
 *     0x3000 MSI-X table            0x3800 MSI-X pending bits
 *     0x4000 doorbells, 4 bytes per queue
 */
#include "vmm/virtio/virtio.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/virtio/virtio_priv.h"

enum {
	VENDOR = 0x1af4,
	DEVICE_BASE = 0x1040,
	CAPABILITY_VENDOR = 9,
	CAP_COMMON = 1,
	CAP_NOTIFY = 2,
	CAP_ISR = 3,
	CAP_DEVICE = 4,
	CAP_WINDOW = 5,
	ISR_QUEUE = 1,
	ISR_CONFIG = 2,
	WARNINGS_MAX = 5,
	TURN = 256, /* chains of one queue that are served before others are */
};

static struct virtio *virtio_of(struct device *device)
{
	return container_of(device, struct virtio, device);
}

bool virtio_is(const struct device *device)
{
	return device->ops->destroy == virtio_device_destroy;
}

struct virtio *virtio_of_device(struct device *device)
{
	return virtio_of(device);
}

bool virtio_has(const struct virtio *v, unsigned int feature)
{
	return v->accepted & VIRTIO_BIT(feature);
}

bool virtio_is_active(const struct virtio *v)
{
	return (v->status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK;
}

void virtio_ring(struct virtio *v, unsigned int queue)
{
	uint64_t one = 1;

	if (write(v->doorbells[queue].fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it has been rung */
}

/* The status is for a driver that polls, as there is no interrupt line; with MSI-X it tells of configuration
 * only (4.1.4.5.1). */
static void send(struct virtio *v, uint16_t vector, uint8_t isr)
{
	if (isr == ISR_CONFIG || !pci_msix_enabled(&v->pci))
		v->isr |= isr;
	pci_msix_send(&v->pci, vector);
}

void virtio_signal(struct virtio *v, unsigned int queue)
{
	if (queue_wants_signal(&v->queues[queue]))
		send(v, v->queues[queue].vector, ISR_QUEUE);
}

void virtio_config_changed(struct virtio *v)
{
	v->generation++;
	if (v->status & STATUS_DRIVER_OK)
		send(v, v->config_vector, ISR_CONFIG);
}

void virtio_fail(struct virtio *v, const char *why)
{
	if (v->status & STATUS_NEEDS_RESET)
		return;
	/* One that does it again and again does not fill the log. */
	if (v->warnings < WARNINGS_MAX && ++v->warnings)
		log_warn("%s %u: the guest's driver broke the rules: %s; it has to reset the "
			 "device%s",
			 v->device.ops->name, v->device.instance, why,
			 v->warnings == WARNINGS_MAX ? " (this is reported no more)" : "");
	v->status |= STATUS_NEEDS_RESET;
	send(v, v->config_vector, ISR_CONFIG);
}

bool virtio_take(struct virtio *v, unsigned int queue, struct queue_chain *ret)
{
	int rc = virtio_is_active(v) ? queue_pop(&v->queues[queue], ret) : 0;

	if (rc < 0)
		virtio_fail(v, "a malformed queue");
	return rc > 0;
}

/* Whether the queue that is being served has had its turn. */
static bool turn_is_over(const struct virtio *v)
{
	return (int32_t)(v->serving->popped - v->turn_end) >= 0;
}

bool virtio_pop(struct virtio *v, unsigned int queue)
{
	if (v->serving == &v->queues[queue] && turn_is_over(v))
		return false;
	return virtio_take(v, queue, &v->chain);
}

bool virtio_pop_room(struct virtio *v, unsigned int queue)
{
	if (virtio_pop(v, queue))
		return true;
	queue_set_doorbell(&v->queues[queue], true);
	return virtio_pop(v, queue);
}

void virtio_written(struct virtio *v, const struct queue_chain *chain, uint64_t size)
{
	for (unsigned int i = chain->out_count; size && i < chain->out_count + chain->in_count;
	     i++) {
		uint64_t part =
			chain->segments[i].iov_len < size ? chain->segments[i].iov_len : size;

		v->board->ops->written(v->board, chain->addresses[i], part);
		size -= part;
	}
}

void virtio_give(struct virtio *v, unsigned int queue, const struct queue_chain *chain,
		 uint32_t written)
{
	v->requests++;
	v->bytes_out += chain->out_bytes;
	v->bytes_in += written;
	virtio_written(v, chain, written);
	if (queue_push(&v->queues[queue], chain, written) < 0)
		virtio_fail(v, "a queue outside of memory");
}

void virtio_push(struct virtio *v, unsigned int queue, uint32_t written)
{
	virtio_give(v, queue, &v->chain, written);
}

/* Until the queue is found empty after the driver has been told to ring: else its last entry might be
 * overlooked. A device that leaves chains in its queue (for data to come) makes no progress, which ends
 * it too. A driver that always has more gets its next turn after the other devices. */
static void service(struct virtio *v, unsigned int i)
{
	struct queue *queue = &v->queues[i];
	uint32_t before;
	bool more;

	v->serving = queue;
	v->turn_end = queue->popped + TURN;
	do {
		before = queue->popped;
		queue_set_doorbell(queue, false);
		v->ops->notify(v, i);
		queue_set_doorbell(queue, true);
		virtio_signal(v, i);
		more = virtio_is_active(v) && queue_available(queue) && queue->popped != before;
	} while (more && !turn_is_over(v));
	v->serving = NULL;
	if (more)
		virtio_ring(v, i);
}

static void on_doorbell(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			void *data)
{
	struct virtio_doorbell *bell = data;
	struct virtio *v = bell->virtio;
	uint64_t count;

	(void)loop;
	(void)source;
	(void)events;
	if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return;
	/* The disks' thread works only while the machine runs. */
	if (v->ops->is_disk)
		gate_enter(&v->board->gate);
	device_lock(&v->device);
	if (v->activate_pending) {
		v->activate_pending = false;
		if (v->ops->activate && virtio_is_active(v))
			v->ops->activate(v);
	}
	if (virtio_is_active(v) && v->queues[bell->queue].ready && v->ops->notify)
		service(v, bell->queue);
	device_unlock(&v->device);
	if (v->ops->wake)
		v->ops->wake(v);
	if (v->ops->is_disk)
		gate_leave(&v->board->gate);
}

/* Everything that may wait in a queue is looked at once when the driver gets ready, or comes back from
 * a snapshot. */
void virtio_activate(struct virtio *v)
{
	v->activate_pending = true;
	for (unsigned int i = 0; i < v->queue_count; i++)
		virtio_ring(v, i);
}

void virtio_reset_device(struct virtio *v)
{
	if (v->ops->reset)
		v->ops->reset(v);
	v->status = v->isr = 0;
	v->accepted = 0;
	v->offered_select = v->accepted_select = 0;
	v->selected = 0;
	v->config_vector = QUEUE_NO_VECTOR;
	v->activate_pending = false;
	for (unsigned int i = 0; i < v->queue_count; i++)
		queue_reset(&v->queues[i], v->queue_size);
}

static void device_config_read(struct virtio *v, uint32_t offset, unsigned int size, void *ret)
{
	memset(ret, 0, size);
	if (v->ops->read_config && offset < v->ops->config_size &&
	    size <= v->ops->config_size - offset)
		v->ops->read_config(v, offset, ret, size);
}

uint64_t virtio_device_read(struct device *device, unsigned int region, uint64_t offset64,
			    unsigned int size)
{
	struct virtio *v = virtio_of(device);
	uint32_t offset = (uint32_t)offset64;
	uint64_t value = 0;

	(void)region;
	switch (offset & ~0xfffu) {
	case WINDOW_COMMON:
		return virtio_common_read(v, offset, size);
	case WINDOW_ISR:
		value = v->isr;
		v->isr = 0;
		return value;
	case WINDOW_DEVICE:
		device_config_read(v, offset - WINDOW_DEVICE, size, &value);
		return value;
	case WINDOW_MSIX:
		if (offset >= WINDOW_PENDING)
			return v->pci.msix_pending >> 8 * (offset & 7);
		return pci_msix_read(&v->pci, offset - WINDOW_MSIX, size);
	}
	return 0;
}

void virtio_device_write(struct device *device, unsigned int region, uint64_t offset64,
			 unsigned int size, uint64_t value)
{
	struct virtio *v = virtio_of(device);
	uint32_t offset = (uint32_t)offset64;

	(void)region;
	switch (offset & ~0xfffu) {
	case WINDOW_COMMON:
		virtio_common_write(v, offset, size, value);
		break;
	case WINDOW_DEVICE:
		offset -= WINDOW_DEVICE;
		if (v->ops->write_config && offset < v->ops->config_size &&
		    size <= v->ops->config_size - offset)
			v->ops->write_config(v, offset, &value, size);
		break;
	case WINDOW_MSIX:
		if (offset < WINDOW_PENDING)
			pci_msix_write(&v->pci, offset - WINDOW_MSIX, size, value);
		break;
	default:
		virtio_device_ring(device, offset64);
		break;
	}
}

/* What it touches is there as long as the device. */
bool virtio_device_ring(struct device *device, uint64_t offset)
{
	struct virtio *v = virtio_of(device);
	uint64_t queue = (offset - WINDOW_NOTIFY) / NOTIFY_STEP;

	if (offset < WINDOW_NOTIFY)
		return false;
	if (queue < v->queue_count)
		virtio_ring(v, (unsigned int)queue);
	return true;
}

/* 4.1.4.9: a window into the window, for those who can only reach configuration space. */
static void before_config_read(struct pci_function *pci, unsigned int offset, unsigned int size)
{
	struct virtio *v = container_of(pci, struct virtio, pci);
	uint8_t *cap = pci->config + v->window_capability;
	uint32_t at, length;
	uint64_t value;

	if (offset + size <= v->window_capability + 16 || offset >= v->window_capability + 20)
		return;
	memcpy(&at, cap + 8, sizeof(at));
	memcpy(&length, cap + 12, sizeof(length));
	if (cap[4] != 0 || (length != 1 && length != 2 && length != 4) || at >= WINDOW_SIZE)
		return;
	value = virtio_device_read(&v->device, 0, at, length);
	memcpy(cap + 16, &value, length);
}

/* Who takes the device its access to memory may have no driver for it: Linux does so before another kernel
 * follows it (kexec). The old one's buffers are the new one's memory, and nothing may come there any more. */
static void follow_master(struct virtio *v)
{
	if ((v->status & STATUS_DRIVER_OK) && !pci_is_master(&v->pci))
		virtio_reset_device(v);
}

static void after_config_write(struct pci_function *pci, unsigned int offset, unsigned int size)
{
	struct virtio *v = container_of(pci, struct virtio, pci);
	const uint8_t *cap = pci->config + v->window_capability;
	uint32_t at, length;
	uint64_t value = 0;

	if (offset <= PCI_COMMAND && offset + size > PCI_COMMAND)
		follow_master(v);
	if (offset + size <= v->window_capability + 16 || offset >= v->window_capability + 20)
		return;
	memcpy(&at, cap + 8, sizeof(at));
	memcpy(&length, cap + 12, sizeof(length));
	if (cap[4] != 0 || (length != 1 && length != 2 && length != 4) || at >= WINDOW_SIZE)
		return;
	memcpy(&value, cap + 16, length);
	virtio_device_write(&v->device, 0, at, length, value);
}

/* Doorbells that the kernel answers follow the window. */
static void moved(struct pci_function *pci, unsigned int bar, gpa_t gpa)
{
	struct virtio *v = container_of(pci, struct virtio, pci);
	gpa_t before = v->notify_at;

	(void)bar;
	v->notify_at = gpa ? gpa + WINDOW_NOTIFY : 0;
	for (unsigned int i = 0; i < v->queue_count; i++) {
		struct virtio_doorbell *bell = &v->doorbells[i];

		if (bell->in_kernel)
			v->board->ops->remove_doorbell(v->board, before + NOTIFY_STEP * i,
						       bell->fd);
		bell->in_kernel =
			gpa && v->board->ops->add_doorbell(v->board, v->notify_at + NOTIFY_STEP * i,
							   bell->fd) == 0;
	}
}

static const struct pci_function_ops pci_ops = {
	.moved = moved,
	.before_read = before_config_read,
	.after_write = after_config_write,
};

struct __attribute__((packed)) capability {
	uint8_t id, next, size, type, bar, reserved[3];
	uint32_t offset, length;
	uint32_t extra; /* NOTIFY: the step; WINDOW: the data */
};

static unsigned int add_capability(struct virtio *v, uint8_t type, uint32_t offset, uint32_t length,
				   uint32_t extra)
{
	bool long_form = type == CAP_NOTIFY || type == CAP_WINDOW;
	struct capability cap = {.size = long_form ? 20 : 16,
				 .type = type,
				 .offset = offset,
				 .length = length,
				 .extra = extra};

	return pci_add_capability(&v->pci, CAPABILITY_VENDOR, &cap, cap.size);
}

static void describe(struct virtio *v)
{
	const struct pci_identity identity = {
		.vendor = VENDOR,
		.device = (uint16_t)(DEVICE_BASE + v->ops->type),
		.subsystem_vendor = VENDOR,
		.subsystem = (uint16_t)(DEVICE_BASE + v->ops->type),
		.class_revision = v->ops->pci_class | 1,
	};

	pci_function_init(&v->pci, &pci_ops, &v->device, v->board, &identity);
	pci_add_bar(&v->pci, 0, WINDOW_SIZE);
	pci_add_msix(&v->pci, v->queue_count + 1, 0, WINDOW_MSIX, WINDOW_PENDING);
	add_capability(v, CAP_COMMON, WINDOW_COMMON, COMMON_SIZE, 0);
	add_capability(v, CAP_ISR, WINDOW_ISR, 1, 0);
	if (v->ops->config_size)
		add_capability(v, CAP_DEVICE, WINDOW_DEVICE, v->ops->config_size, 0);
	add_capability(v, CAP_NOTIFY, WINDOW_NOTIFY, NOTIFY_STEP * v->queue_count, NOTIFY_STEP);
	v->window_capability = add_capability(v, CAP_WINDOW, 0, 0, 0);
	v->pci.writable[v->window_capability + 4] = 0xff;
	memset(v->pci.writable + v->window_capability + 8, 0xff, 12);
}

struct loop *virtio_loop(const struct virtio *v)
{
	return v->ops->is_disk && v->board->disk_loop ? v->board->disk_loop : v->board->loop;
}

static int open_doorbell(struct virtio *v, unsigned int i)
{
	struct virtio_doorbell *bell = &v->doorbells[i];

	bell->virtio = v;
	bell->queue = i;
	bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bell->fd < 0)
		return -errno;
	return loop_add_io(virtio_loop(v), bell->fd, EPOLLIN, on_doorbell, bell, &bell->source);
}

int virtio_init(struct virtio *v, const struct virtio_ops *ops, struct board *board,
		unsigned int instance, unsigned int queues, uint16_t size, uint64_t features)
{
	int rc = 0;

	v->ops = ops;
	v->board = board;
	v->queue_count = queues;
	v->queue_size = size;
	v->offered = features | VIRTIO_BIT(VIRTIO_FEATURE_VERSION_1) |
		     VIRTIO_BIT(VIRTIO_FEATURE_PACKED) | VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT) |
		     VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX);
	device_init(&v->device, &ops->device, instance);
	describe(v);
	for (unsigned int i = 0; i < queues; i++) {
		v->queues[i].memory = board->memory;
		v->doorbells[i].fd = -1;
	}
	for (unsigned int i = 0; i < queues && rc == 0; i++)
		rc = open_doorbell(v, i);
	if (rc < 0) {
		ops->destroy(v);
		return rc;
	}
	virtio_reset_device(v);
	return 0;
}

void virtio_release(struct virtio *v)
{
	moved(&v->pci, 0, 0);
	for (unsigned int i = 0; i < v->queue_count; i++) {
		loop_remove(v->doorbells[i].source);
		fd_close(&v->doorbells[i].fd);
	}
}

void virtio_device_reset(struct device *device)
{
	struct virtio *v = virtio_of(device);

	virtio_reset_device(v);
	pci_function_reset(&v->pci);
}

void virtio_device_save(struct device *device, struct state_writer *out)
{
	struct virtio *v = virtio_of(device);

	pci_function_save(&v->pci, out);
	state_put_u64(out, v->accepted);
	state_put_u32(out, v->offered_select);
	state_put_u32(out, v->accepted_select);
	state_put_u8(out, v->status);
	state_put_u8(out, v->generation);
	state_put_u8(out, v->isr);
	state_put_u16(out, v->config_vector);
	state_put_u16(out, v->selected);
	for (unsigned int i = 0; i < v->queue_count; i++)
		queue_save(&v->queues[i], out);
	if (v->ops->save)
		v->ops->save(v, out);
}

int virtio_device_load(struct device *device, struct state_reader *in)
{
	struct virtio *v = virtio_of(device);

	virtio_reset_device(v);
	pci_function_load(&v->pci, in);
	v->accepted = state_get_u64(in) & v->offered;
	v->offered_select = state_get_u32(in);
	v->accepted_select = state_get_u32(in);
	v->status = state_get_u8(in);
	v->generation = state_get_u8(in);
	v->isr = state_get_u8(in);
	v->config_vector = state_get_u16(in);
	v->selected = state_get_u16(in);
	for (unsigned int i = 0; i < v->queue_count; i++) {
		v->queues[i].packed = virtio_has(v, VIRTIO_FEATURE_PACKED);
		v->queues[i].event_index = virtio_has(v, VIRTIO_FEATURE_EVENT_INDEX);
		queue_load(&v->queues[i], in);
	}
	if (v->ops->load)
		v->ops->load(v, in);
	if (state_finish(in) < 0)
		return -EINVAL;
	if (virtio_is_active(v))
		virtio_activate(v);
	if (v->config_news)
		virtio_config_changed(v);
	v->config_news = false;
	return 0;
}

void virtio_device_destroy(struct device *device)
{
	struct virtio *v = virtio_of(device);

	v->ops->destroy(v);
}
