/* common: the registers of the common configuration (Virtio 1.2, 4.1.4.3). */
#include "vmm/virtio/virtio_priv.h"

enum {
	DEVICE_FEATURE_SELECT = 0x00,
	DEVICE_FEATURE = 0x04,
	DRIVER_FEATURE_SELECT = 0x08,
	DRIVER_FEATURE = 0x0c,
	CONFIG_VECTOR = 0x10,
	QUEUE_COUNT = 0x12,
	STATUS = 0x14,
	GENERATION = 0x15,
	QUEUE_SELECT = 0x16,
	QUEUE_SIZE = 0x18,
	QUEUE_VECTOR = 0x1a,
	QUEUE_ENABLE = 0x1c,
	QUEUE_NOTIFY_OFFSET = 0x1e,
	QUEUE_DESCRIPTORS = 0x20,
	QUEUE_DRIVER = 0x28,
	QUEUE_DEVICE = 0x30,
};

static struct queue *selected(struct virtio *v)
{
	return v->selected < v->queue_count ? &v->queues[v->selected] : NULL;
}

static uint32_t half(uint64_t value, uint32_t select)
{
	return select > 1 ? 0 : (uint32_t)(value >> (32 * select));
}

static uint64_t read_queue(const struct virtio *v, const struct queue *q, uint32_t offset)
{
	switch (offset) {
	case QUEUE_SIZE:
		return q->size;
	case QUEUE_VECTOR:
		return q->vector;
	case QUEUE_ENABLE:
		return q->ready;
	case QUEUE_NOTIFY_OFFSET:
		return v->selected;
	case QUEUE_DESCRIPTORS:
		return q->descriptors;
	case QUEUE_DESCRIPTORS + 4:
		return q->descriptors >> 32;
	case QUEUE_DRIVER:
		return q->driver;
	case QUEUE_DRIVER + 4:
		return q->driver >> 32;
	case QUEUE_DEVICE:
		return q->device;
	case QUEUE_DEVICE + 4:
		return q->device >> 32;
	}
	return 0;
}

uint64_t virtio_common_read(struct virtio *v, uint32_t offset, unsigned int size)
{
	const struct queue *q = selected(v);

	(void)size;
	switch (offset) {
	case DEVICE_FEATURE_SELECT:
		return v->offered_select;
	case DEVICE_FEATURE:
		return half(v->offered, v->offered_select);
	case DRIVER_FEATURE_SELECT:
		return v->accepted_select;
	case DRIVER_FEATURE:
		return half(v->accepted, v->accepted_select);
	case CONFIG_VECTOR:
		return v->config_vector;
	case QUEUE_COUNT:
		return v->queue_count;
	case STATUS:
		return v->status;
	case GENERATION:
		return v->generation;
	case QUEUE_SELECT:
		return v->selected;
	}
	return q ? read_queue(v, q, offset) : 0;
}

/* A vector that does not exist reads back as none, which is how a driver learns it. */
static uint16_t check_vector(const struct virtio *v, uint64_t vector)
{
	return vector < v->pci.msix_count ? (uint16_t)vector : QUEUE_NO_VECTOR;
}

static void accept_features(struct virtio *v, uint32_t value)
{
	unsigned int shift = 32 * v->accepted_select;

	if (v->accepted_select > 1 || (v->status & STATUS_FEATURES_OK))
		return;
	v->accepted = (v->accepted & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

static void set_status(struct virtio *v, uint8_t value)
{
	uint8_t news = value & (uint8_t)~v->status;

	if (value == 0) {
		virtio_reset_device(v);
		return;
	}
	/* The bit stays away if a feature was chosen that was not offered, or the old interface. */
	if ((news & STATUS_FEATURES_OK) &&
	    ((v->accepted & ~v->offered) || !virtio_has(v, VIRTIO_FEATURE_VERSION_1)))
		value &= (uint8_t)~STATUS_FEATURES_OK;
	if (!(value & STATUS_FEATURES_OK))
		value &= (uint8_t)~STATUS_DRIVER_OK;
	v->status |= value & (uint8_t)~STATUS_NEEDS_RESET;
	if (news & value & STATUS_DRIVER_OK)
		virtio_activate(v);
}

static void enable_queue(struct virtio *v, struct queue *q)
{
	q->packed = virtio_has(v, VIRTIO_FEATURE_PACKED);
	q->event_index = virtio_has(v, VIRTIO_FEATURE_EVENT_INDEX);
	if (queue_check(q) < 0) {
		virtio_fail(v, "a queue outside of memory");
		return;
	}
	q->ready = true;
	if (virtio_is_active(v))
		virtio_ring(v, v->selected);
}

static void set_low(gpa_t *address, uint64_t value, unsigned int size)
{
	*address = size == 8 ? value : (*address & ~(gpa_t)UINT32_MAX) | (uint32_t)value;
}

static void set_high(gpa_t *address, uint64_t value)
{
	*address = (uint32_t)*address | value << 32;
}

static void write_queue(struct virtio *v, struct queue *q, uint32_t offset, unsigned int size,
			uint64_t value)
{
	if (offset == QUEUE_VECTOR) {
		q->vector = check_vector(v, value);
		return;
	}
	/* What has been checked when the queue was enabled must not change any more. */
	if (q->ready)
		return;
	switch (offset) {
	case QUEUE_SIZE:
		if (value > 0 && value <= v->queue_size)
			q->size = (uint16_t)value;
		break;
	case QUEUE_ENABLE:
		if (value == 1)
			enable_queue(v, q);
		break;
	case QUEUE_DESCRIPTORS:
		set_low(&q->descriptors, value, size);
		break;
	case QUEUE_DESCRIPTORS + 4:
		set_high(&q->descriptors, value);
		break;
	case QUEUE_DRIVER:
		set_low(&q->driver, value, size);
		break;
	case QUEUE_DRIVER + 4:
		set_high(&q->driver, value);
		break;
	case QUEUE_DEVICE:
		set_low(&q->device, value, size);
		break;
	case QUEUE_DEVICE + 4:
		set_high(&q->device, value);
		break;
	}
}

void virtio_common_write(struct virtio *v, uint32_t offset, unsigned int size, uint64_t value)
{
	struct queue *q = selected(v);

	switch (offset) {
	case DEVICE_FEATURE_SELECT:
		v->offered_select = (uint32_t)value;
		break;
	case DRIVER_FEATURE_SELECT:
		v->accepted_select = (uint32_t)value;
		break;
	case DRIVER_FEATURE:
		accept_features(v, (uint32_t)value);
		break;
	case CONFIG_VECTOR:
		v->config_vector = check_vector(v, value);
		break;
	case STATUS:
		set_status(v, (uint8_t)value);
		break;
	case QUEUE_SELECT:
		v->selected = (uint16_t)value;
		break;
	default:
		if (q)
			write_queue(v, q, offset, size, value);
	}
}
