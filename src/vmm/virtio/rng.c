/* rng: the entropy device (Virtio 1.2, 5.4): fills what the driver offers from the host's generator. */
#include "base/random.h"
#include "vmm/virtio/devices.h"

/* A guest may offer gigabytes at once; more than this a request does not get. */
enum { REQUEST_MAX = 64 << 10, QUEUE = 0, QUEUE_SIZE = 16 };

struct rng {
	struct virtio virtio;
};

static void rng_notify(struct virtio *v, unsigned int queue)
{
	while (virtio_pop(v, queue)) {
		struct iovec parts[QUEUE_SEGMENTS_MAX];
		unsigned int n = queue_slice(&v->chain, true, 0, REQUEST_MAX, parts);
		uint32_t written = 0;

		for (unsigned int i = 0; i < n; i++) {
			random_bytes(parts[i].iov_base, parts[i].iov_len);
			written += (uint32_t)parts[i].iov_len;
		}
		virtio_push(v, queue, written);
	}
}

static void rng_destroy(struct virtio *v)
{
	struct rng *self = container_of(v, struct rng, virtio);

	virtio_release(v);
	own_mem_release(&self);
}

static const struct virtio_ops ops = {
	.device = VIRTIO_DEVICE_OPS("virtio-rng"),
	.type = 4,
	.pci_class = 0x10000000,
	.notify = rng_notify,
	.destroy = rng_destroy,
};

int virtio_rng_create(struct board *board, struct virtio **ret)
{
	struct rng *self = mem_new(sizeof(*self));
	int rc = virtio_init(&self->virtio, &ops, board, 0, 1, QUEUE_SIZE, 0);

	if (rc < 0)
		return rc;
	*ret = &self->virtio;
	return 0;
}
