/* irqchip: see irqchip.h. All state is read and written under chip->lock. */
#include "vmm/chip/irqchip.h"

#include <errno.h>

#include "base/mem.h"
#include "vmm/chip/ioapic.h"
#include "vmm/chip/lapic.h"
#include "vmm/chip/pic.h"

enum { REGION_PIC_MASTER, REGION_PIC_SLAVE, REGION_ELCR, REGION_IOAPIC };

struct irqchip_cpu {
	struct irqchip *chip;
	struct lapic lapic;
	struct timer timer;
	bool requested; /* an interrupt, and not yet acknowledged */
};

struct irqchip {
	struct device device;
	struct irq irq;
	struct irqchip_host *host;
	struct timer_queue *timers;
	pthread_mutex_t lock;
	struct pic pic;
	struct ioapic ioapic;
	unsigned int count;
	unsigned int next_lowest; /* where the search for a lowest-priority destination begins */
	uint64_t due; /* a bit for each CPU whose request for an interrupt has to be made */
	struct irqchip_cpu cpus[];
};

static struct irqchip_cpu *cpu_of(struct lapic *lapic)
{
	return container_of(lapic, struct irqchip_cpu, lapic);
}

static void request(struct irqchip_cpu *cpu, enum cpu_request what, unsigned int argument)
{
	struct irqchip *chip = cpu->chip;

	chip->host->ops->request(chip->host, (unsigned int)(cpu - chip->cpus), what, argument);
}

/* Restores Q1 for one CPU. */
static void update(struct irqchip_cpu *cpu)
{
	const struct lapic *lapic = &cpu->lapic;

	if (cpu->requested)
		return;
	if (lapic_pending(lapic) < 0 &&
	    !(lapic_takes_extint(lapic) && pic_pending(&cpu->chip->pic)))
		return;
	cpu->requested = true;
	cpu->chip->due |= 1ull << (cpu - cpu->chip->cpus);
}

/* Gives the lock back, and only then wakes those whom an interrupt waits for: the first that they do is to take
 * the lock. */
static void leave(struct irqchip *chip)
{
	uint64_t due = chip->due;

	chip->due = 0;
	pthread_mutex_unlock(&chip->lock);
	for (; due; due &= due - 1)
		request(&chip->cpus[__builtin_ctzll(due)], CPU_REQUEST_INTERRUPT, 0);
}

static void lapic_changed(struct lapic *lapic)
{
	update(cpu_of(lapic));
}

static void lapic_signal(struct lapic *lapic, enum lapic_delivery delivery, uint8_t vector)
{
	struct irqchip_cpu *cpu = cpu_of(lapic);

	if (delivery == LAPIC_NMI)
		request(cpu, CPU_REQUEST_NMI, 0);
	else if (delivery == LAPIC_INIT)
		request(cpu, CPU_REQUEST_INIT, 0);
	else
		request(cpu, CPU_REQUEST_STARTUP, vector);
}

/* Of the matching CPUs one gets a lowest-priority message: in turn, so that load spreads. */
static void send_lowest(struct irqchip *chip, const struct lapic_message *message)
{
	for (unsigned int i = 0; i < chip->count; i++) {
		unsigned int n = (chip->next_lowest + i) % chip->count;

		if (!lapic_matches(&chip->cpus[n].lapic, message))
			continue;
		chip->next_lowest = n + 1;
		lapic_accept(&chip->cpus[n].lapic, message);
		return;
	}
}

static void send(struct irqchip *chip, const struct lapic_message *message)
{
	if (message->delivery == LAPIC_LOWEST) {
		send_lowest(chip, message);
		return;
	}
	for (unsigned int i = 0; i < chip->count; i++)
		if (lapic_matches(&chip->cpus[i].lapic, message))
			lapic_accept(&chip->cpus[i].lapic, message);
}

static void lapic_send(struct lapic *from, const struct lapic_message *message,
		       enum lapic_shorthand shorthand)
{
	struct irqchip *chip = cpu_of(from)->chip;

	if (shorthand == LAPIC_NONE) {
		send(chip, message);
		return;
	}
	for (unsigned int i = 0; i < chip->count; i++) {
		struct lapic *to = &chip->cpus[i].lapic;

		if (to == from ? shorthand != LAPIC_OTHERS : shorthand != LAPIC_SELF)
			lapic_accept(to, message);
	}
}

static void lapic_end_level(struct lapic *lapic, uint8_t vector)
{
	ioapic_end(&cpu_of(lapic)->chip->ioapic, vector);
}

static void lapic_set_timer(struct lapic *lapic, int64_t deadline_ns)
{
	struct irqchip_cpu *cpu = cpu_of(lapic);

	timer_set(cpu->chip->timers, &cpu->timer, deadline_ns);
}

static uint64_t lapic_tsc(struct lapic *lapic, uint64_t *ret_khz)
{
	struct irqchip_cpu *cpu = cpu_of(lapic);
	struct irqchip *chip = cpu->chip;

	return chip->host->ops->tsc(chip->host, (unsigned int)(cpu - chip->cpus), ret_khz);
}

static const struct lapic_events lapic_events = {
	.send = lapic_send,
	.end_level = lapic_end_level,
	.set_timer = lapic_set_timer,
	.changed = lapic_changed,
	.signal = lapic_signal,
	.tsc = lapic_tsc,
};

static void timer_fire(struct timer *timer)
{
	struct irqchip_cpu *cpu = container_of(timer, struct irqchip_cpu, timer);

	pthread_mutex_lock(&cpu->chip->lock);
	lapic_timer_fired(&cpu->lapic);
	leave(cpu->chip);
}

static void ioapic_send(struct ioapic *ioapic, const struct lapic_message *message)
{
	send(container_of(ioapic, struct irqchip, ioapic), message);
}

static void update_all(struct irqchip *chip)
{
	for (unsigned int i = 0; i < chip->count; i++)
		update(&chip->cpus[i]);
}

static void set_line(struct irq *irq, unsigned int line, bool level)
{
	struct irqchip *chip = container_of(irq, struct irqchip, irq);

	pthread_mutex_lock(&chip->lock);
	if (line < 16) {
		pic_set_line(&chip->pic, line, level);
		update(&chip->cpus[0]);
	}
	ioapic_set_line(&chip->ioapic, line == IRQ_PIT ? 2 : line, level);
	leave(chip);
}

/* SDM volume 3, 11.11. With destinations beyond 8 bits in bits 11-5 of the address, as hypervisors
 * offer them (KVM's "extended destination ID"). */
static void send_msi(struct irq *irq, uint64_t address, uint32_t data)
{
	struct irqchip *chip = container_of(irq, struct irqchip, irq);
	struct lapic_message message = {
		.vector = (uint8_t)data,
		.delivery = (data >> 8) & 7,
		.level = data & (1 << 15),
		.logical = address & (1 << 2),
		.destination = ((address >> 12) & 0xff) | ((address >> 5) & 0x7f) << 8,
	};

	if ((address & 0xfff00000) != LAPIC_PAGE)
		return;
	if (message.destination > 0xff)
		message.wide = true;
	pthread_mutex_lock(&chip->lock);
	send(chip, &message);
	leave(chip);
}

static const struct irq_ops irq_ops = {
	.set_line = set_line,
	.send_msi = send_msi,
};

static uint16_t pic_port(unsigned int region, uint64_t offset)
{
	static const uint16_t first[] = {0x20, 0xa0, 0x4d0};

	return (uint16_t)(first[region] + offset);
}

static uint64_t chip_read(struct device *device, unsigned int region, uint64_t offset,
			  unsigned int size)
{
	struct irqchip *chip = container_of(device, struct irqchip, device);
	uint64_t value = UINT64_MAX;

	pthread_mutex_lock(&chip->lock);
	if (region == REGION_IOAPIC && size == 4)
		value = ioapic_read(&chip->ioapic, (uint32_t)offset);
	else if (region != REGION_IOAPIC && size == 1)
		value = pic_read(&chip->pic, pic_port(region, offset));
	leave(chip);
	return value;
}

static void chip_write(struct device *device, unsigned int region, uint64_t offset,
		       unsigned int size, uint64_t value)
{
	struct irqchip *chip = container_of(device, struct irqchip, device);

	pthread_mutex_lock(&chip->lock);
	if (region == REGION_IOAPIC) {
		if (size == 4)
			ioapic_write(&chip->ioapic, (uint32_t)offset, (uint32_t)value);
	} else {
		for (unsigned int i = 0; i < size && i < 2; i++)
			pic_write(&chip->pic, pic_port(region, offset + i),
				  (uint8_t)(value >> (8 * i)));
		update_all(chip);
	}
	leave(chip);
}

static void chip_reset(struct device *device)
{
	struct irqchip *chip = container_of(device, struct irqchip, device);

	pthread_mutex_lock(&chip->lock);
	pic_reset(&chip->pic);
	ioapic_reset(&chip->ioapic);
	for (unsigned int i = 0; i < chip->count; i++) {
		chip->cpus[i].requested = false;
		lapic_reset(&chip->cpus[i].lapic, false);
	}
	update_all(chip);
	leave(chip);
}

static void chip_save(struct device *device, struct state_writer *out)
{
	struct irqchip *chip = container_of(device, struct irqchip, device);

	pthread_mutex_lock(&chip->lock);
	pic_save(&chip->pic, out);
	ioapic_save(&chip->ioapic, out);
	state_put_u32(out, chip->count);
	for (unsigned int i = 0; i < chip->count; i++)
		lapic_save(&chip->cpus[i].lapic, out);
	leave(chip);
}

static int chip_load(struct device *device, struct state_reader *in)
{
	struct irqchip *chip = container_of(device, struct irqchip, device);

	pthread_mutex_lock(&chip->lock);
	pic_load(&chip->pic, in);
	ioapic_load(&chip->ioapic, in);
	in->bad |= state_get_u32(in) != chip->count;
	for (unsigned int i = 0; i < chip->count; i++) {
		chip->cpus[i].requested = false;
		lapic_load(&chip->cpus[i].lapic, in);
	}
	update_all(chip);
	leave(chip);
	return state_finish(in);
}

static void chip_destroy(struct device *device)
{
	struct irqchip *chip = container_of(device, struct irqchip, device);

	for (unsigned int i = 0; i < chip->count; i++)
		timer_set(chip->timers, &chip->cpus[i].timer, TIMER_NEVER);
	pthread_mutex_destroy(&chip->lock);
	own_mem_release(&chip);
}

static const struct device_ops device_ops = {
	.name = "irqchip",
	.read = chip_read,
	.write = chip_write,
	.reset = chip_reset,
	.save = chip_save,
	.load = chip_load,
	.destroy = chip_destroy,
};

int irqchip_create(unsigned int cpus, struct irqchip_host *host, struct timer_queue *timers,
		   struct bus *ports, struct bus *mmio, struct irqchip **ret)
{
	struct irqchip *chip = mem_new(sizeof(*chip) + cpus * sizeof(chip->cpus[0]));
	int rc;

	_Static_assert(CPU_VCPUS_MAX <= 64, "a bit of `due` for each");
	device_init(&chip->device, &device_ops, 0);
	pthread_mutex_init(&chip->lock, NULL);
	chip->irq.ops = &irq_ops;
	chip->host = host;
	chip->timers = timers;
	chip->count = cpus;
	chip->ioapic.send = ioapic_send;
	pic_reset(&chip->pic);
	ioapic_reset(&chip->ioapic);
	for (unsigned int i = 0; i < cpus; i++) {
		chip->cpus[i].chip = chip;
		timer_init(&chip->cpus[i].timer, timer_fire);
		lapic_init(&chip->cpus[i].lapic, i, &lapic_events);
	}
	rc = bus_add(ports, 0x20, 2, &chip->device, REGION_PIC_MASTER);
	if (rc == 0)
		rc = bus_add(ports, 0xa0, 2, &chip->device, REGION_PIC_SLAVE);
	if (rc == 0)
		rc = bus_add(ports, 0x4d0, 2, &chip->device, REGION_ELCR);
	if (rc == 0)
		rc = bus_add(mmio, IOAPIC_PAGE, 0x100, &chip->device, REGION_IOAPIC);
	if (rc < 0) {
		chip_destroy(&chip->device);
		return rc;
	}
	*ret = chip;
	return 0;
}

struct device *irqchip_device(struct irqchip *chip)
{
	return &chip->device;
}

struct irq *irqchip_irq(struct irqchip *chip)
{
	return &chip->irq;
}

int irqchip_acknowledge(struct irqchip *chip, unsigned int cpu)
{
	struct lapic *lapic = &chip->cpus[cpu].lapic;
	int vector;

	pthread_mutex_lock(&chip->lock);
	vector = lapic_pending(lapic);
	if (vector >= 0)
		lapic_acknowledge(lapic, (uint8_t)vector);
	else if (lapic_takes_extint(lapic) && pic_pending(&chip->pic))
		vector = pic_acknowledge(&chip->pic);
	chip->cpus[cpu].requested = false;
	update(&chip->cpus[cpu]);
	leave(chip);
	return vector;
}

bool irqchip_is_msr(uint32_t index)
{
	return lapic_is_msr(index);
}

bool irqchip_read_msr(struct irqchip *chip, unsigned int cpu, uint32_t index, uint64_t *ret)
{
	bool there;

	pthread_mutex_lock(&chip->lock);
	there = lapic_read_msr(&chip->cpus[cpu].lapic, index, ret);
	leave(chip);
	return there;
}

bool irqchip_write_msr(struct irqchip *chip, unsigned int cpu, uint32_t index, uint64_t value)
{
	bool there;

	pthread_mutex_lock(&chip->lock);
	there = lapic_write_msr(&chip->cpus[cpu].lapic, index, value);
	leave(chip);
	return there;
}

uint8_t irqchip_get_cr8(struct irqchip *chip, unsigned int cpu)
{
	uint8_t tpr;

	pthread_mutex_lock(&chip->lock);
	tpr = lapic_get_tpr(&chip->cpus[cpu].lapic);
	leave(chip);
	return tpr >> 4;
}

void irqchip_set_cr8(struct irqchip *chip, unsigned int cpu, uint8_t value)
{
	pthread_mutex_lock(&chip->lock);
	lapic_set_tpr(&chip->cpus[cpu].lapic, (uint8_t)(value << 4));
	leave(chip);
}

bool irqchip_apic_page(struct irqchip *chip, unsigned int cpu, uint64_t gpa)
{
	/* Only the CPU itself changes its base. */
	uint64_t base = chip->cpus[cpu].lapic.base;

	return (base & (LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC)) == LAPIC_BASE_ENABLE &&
	       gpa >> 12 == (base & 0xffffff000ull) >> 12;
}

uint32_t irqchip_apic_read(struct irqchip *chip, unsigned int cpu, uint32_t offset)
{
	uint32_t value;

	pthread_mutex_lock(&chip->lock);
	value = lapic_read(&chip->cpus[cpu].lapic, offset);
	leave(chip);
	return value;
}

void irqchip_apic_write(struct irqchip *chip, unsigned int cpu, uint32_t offset, uint32_t value)
{
	pthread_mutex_lock(&chip->lock);
	lapic_write(&chip->cpus[cpu].lapic, offset, value);
	leave(chip);
}
