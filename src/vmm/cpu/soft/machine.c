/* machine: see the header. */
#include "vmm/cpu/soft/machine.h"

#include <immintrin.h>

static const struct cpu_client_ops *enter(struct soft *c)
{
	c->mxcsr = _mm_getcsr();
	_mm_setcsr(c->host_mxcsr);
	return c->vm->vm.client->ops;
}

static void leave(struct soft *c)
{
	_mm_setcsr(c->mxcsr);
}

/* The largest power of two that is aligned at `gpa` and fits `size`, at most 8. */
static unsigned int piece(gpa_t gpa, unsigned int size)
{
	unsigned int n = 8;

	while (n > size || gpa & (n - 1))
		n /= 2;
	return n;
}

void machine_read(struct soft *c, gpa_t gpa, void *data, unsigned int size)
{
	const struct cpu_client_ops *ops = enter(c);
	uint8_t *p = data;

	while (size > 0) {
		unsigned int n = piece(gpa, size);

		ops->mmio_read(c->vm->vm.client, &c->vcpu, gpa, n, p);
		gpa += n;
		p += n;
		size -= n;
	}
	leave(c);
}

void machine_write(struct soft *c, gpa_t gpa, const void *data, unsigned int size)
{
	const struct cpu_client_ops *ops = enter(c);
	const uint8_t *p = data;

	while (size > 0) {
		unsigned int n = piece(gpa, size);

		ops->mmio_write(c->vm->vm.client, &c->vcpu, gpa, n, p);
		gpa += n;
		p += n;
		size -= n;
	}
	leave(c);
}

uint32_t machine_in(struct soft *c, uint16_t port, unsigned int size)
{
	const struct cpu_client_ops *ops = enter(c);
	uint32_t value = 0;

	ops->port_read(c->vm->vm.client, &c->vcpu, port, size, &value);
	leave(c);
	return value;
}

void machine_out(struct soft *c, uint16_t port, unsigned int size, uint32_t value)
{
	const struct cpu_client_ops *ops = enter(c);

	ops->port_write(c->vm->vm.client, &c->vcpu, port, size, &value);
	leave(c);
}

bool machine_read_msr(struct soft *c, uint32_t index, uint64_t *ret)
{
	const struct cpu_client_ops *ops = enter(c);
	bool ok = ops->msr_read && ops->msr_read(c->vm->vm.client, &c->vcpu, index, ret);

	leave(c);
	return ok;
}

bool machine_write_msr(struct soft *c, uint32_t index, uint64_t value)
{
	const struct cpu_client_ops *ops = enter(c);
	bool ok = ops->msr_write && ops->msr_write(c->vm->vm.client, &c->vcpu, index, value);

	leave(c);
	return ok;
}

int machine_take_interrupt(struct soft *c)
{
	const struct cpu_client_ops *ops = enter(c);
	int vector = ops->take_interrupt ? ops->take_interrupt(c->vm->vm.client, &c->vcpu) : -1;

	leave(c);
	return vector;
}

uint8_t machine_get_priority(struct soft *c)
{
	const struct cpu_client_ops *ops = enter(c);
	uint8_t cr8 = (uint8_t)c->cr8;

	if (ops->get_priority)
		cr8 = ops->get_priority(c->vm->vm.client, &c->vcpu);
	leave(c);
	return cr8;
}

void machine_set_priority(struct soft *c, uint8_t cr8)
{
	const struct cpu_client_ops *ops = enter(c);

	c->cr8 = cr8;
	if (ops->set_priority)
		ops->set_priority(c->vm->vm.client, &c->vcpu, cr8);
	leave(c);
}
