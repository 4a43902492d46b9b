/*
 * kvm_routes: which interrupt goes where. KVM has one table for all: the lines of the chipset, numbered as irq.h
 * numbers them, and behind them the messages of MSI-X vectors. Each of those has an eventfd that the kernel watches, so
 * a thread that serves a device sends its interrupt by a write to it, and needs no right to speak to KVM.
 *
 * A changed message means a new table, which the kernel takes milliseconds to exchange: guests change them when they
 * set up a driver or move an interrupt to another CPU.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/cpu/kvm/kvm_priv.h"

enum { PIC_LINES = 16, CASCADE = 2, LINE_ENTRIES = IRQ_LINES + PIC_LINES };

static void add_chip(struct kvm_irq_routing *table, uint32_t line, uint32_t chip, uint32_t pin)
{
	table->entries[table->nr++] =
		(struct kvm_irq_routing_entry){.gsi = line,
					       .type = KVM_IRQ_ROUTING_IRQCHIP,
					       .u.irqchip = {.irqchip = chip, .pin = pin}};
}

/* The PIT's line is input 0 of the PIC and input 2 of the IO-APIC; input 2 of the PIC is its second half's. */
static void add_lines(struct kvm_irq_routing *table)
{
	for (uint32_t i = 0; i < IRQ_LINES; i++) {
		if (i == CASCADE)
			continue;
		if (i < PIC_LINES)
			add_chip(table, i, i < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
				 i % 8);
		add_chip(table, i, KVM_IRQCHIP_IOAPIC, i == IRQ_PIT ? CASCADE : i);
	}
}

static int put_table(struct kvm_vm *vm)
{
	struct kvm_irq_routing *table = mem_new(sizeof(*table) + (LINE_ENTRIES + vm->route_count) *
									 sizeof(table->entries[0]));
	int rc;

	add_lines(table);
	for (unsigned int i = 0; i < vm->route_count; i++)
		table->entries[table->nr++] = (struct kvm_irq_routing_entry){
			.gsi = IRQ_LINES + i,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {.address_lo = (uint32_t)vm->routes[i].address,
				  .address_hi = (uint32_t)(vm->routes[i].address >> 32),
				  .data = vm->routes[i].data}};
	rc = ioctl(vm->fd, KVM_SET_GSI_ROUTING, table) < 0 ? -errno : 0;
	own_mem_release(&table);
	return rc;
}

/* The kernel watches an eventfd for a number that its table has already. */
static int watch(struct kvm_vm *vm, unsigned int i)
{
	struct kvm_irqfd request = {.fd = (uint32_t)vm->routes[i].fd, .gsi = IRQ_LINES + i};

	return ioctl(vm->fd, KVM_IRQFD, &request) < 0 ? -errno : 0;
}

static int add_route(struct kvm_vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_route *r = &vm->routes[vm->route_count];
	int rc;

	if (vm->route_count == KVM_ROUTES_MAX)
		return -ENOSPC;
	*r = (struct kvm_route){
		.address = address, .data = data, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (r->fd < 0)
		return -errno;
	vm->route_count++;
	rc = put_table(vm);
	if (rc == 0)
		rc = watch(vm, vm->route_count - 1);
	if (rc < 0) {
		fd_close(&r->fd);
		vm->route_count--;
		return rc;
	}
	return (int)vm->route_count;
}

static int change_route(struct kvm_vm *vm, struct kvm_route *r, uint64_t address, uint32_t data)
{
	const struct kvm_route before = *r;
	int rc;

	if (r->address == address && r->data == data)
		return 0;
	r->address = address;
	r->data = data;
	rc = put_table(vm);
	if (rc < 0)
		*r = before; /* else no table would be taken any more */
	return rc;
}

static int set_route(struct irq *irq, unsigned int *route, uint64_t address, uint32_t data)
{
	struct kvm_vm *vm = container_of(irq, struct kvm_vm, irq);
	int rc;

	pthread_mutex_lock(&vm->routes_lock);
	rc = *route ? change_route(vm, &vm->routes[*route - 1], address, data)
		    : add_route(vm, address, data);
	pthread_mutex_unlock(&vm->routes_lock);
	if (rc > 0)
		*route = (unsigned int)rc;
	return rc < 0 ? rc : 0;
}

static void signal_route(struct irq *irq, unsigned int route)
{
	struct kvm_vm *vm = container_of(irq, struct kvm_vm, irq);
	const uint64_t one = 1;

	if (write(vm->routes[route - 1].fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: the kernel has not looked yet, and will */
}

static void set_line(struct irq *irq, unsigned int line, bool level)
{
	struct kvm_vm *vm = container_of(irq, struct kvm_vm, irq);
	struct kvm_irq_level request = {.irq = line, .level = level};

	ioctl(vm->fd, KVM_IRQ_LINE, &request);
}

static void send_msi(struct irq *irq, uint64_t address, uint32_t data)
{
	struct kvm_vm *vm = container_of(irq, struct kvm_vm, irq);
	struct kvm_msi msi = {.address_lo = (uint32_t)address,
			      .address_hi = (uint32_t)(address >> 32),
			      .data = data};

	ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}

struct irq *kvm_irq(struct cpu_vm *vm)
{
	return &kvm_vm_of(vm)->irq;
}

int kvm_routes_init(struct kvm_vm *vm)
{
	vm->irq.ops = &kvm_irq_ops;
	return put_table(vm);
}

void kvm_routes_release(struct kvm_vm *vm)
{
	for (unsigned int i = 0; i < vm->route_count; i++)
		fd_close(&vm->routes[i].fd);
	pthread_mutex_destroy(&vm->routes_lock);
}

const struct irq_ops kvm_irq_ops = {
	.set_line = set_line,
	.send_msi = send_msi,
	.set_route = set_route,
	.signal_route = signal_route,
};
