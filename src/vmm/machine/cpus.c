/* machine_cpus: the vCPU threads, and what the accelerator asks of the machine. */
#include "vmm/machine/machine_priv.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/log.h"
#include "base/mem.h"
#include "vmm/jail/jail.h"

static struct machine *machine_of(struct cpu_client *client)
{
	return container_of(client, struct machine, client);
}

static bool is_plain_size(unsigned int size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

static void read_bus(struct bus *bus, uint64_t address, unsigned int size, void *ret)
{
	uint8_t *to = ret;
	uint64_t value;

	if (is_plain_size(size)) {
		value = bus_read(bus, address, size);
		memcpy(ret, &value, size);
		return;
	}
	for (unsigned int i = 0; i < size; i++)
		to[i] = (uint8_t)bus_read(bus, address + i, 1);
}

static void write_bus(struct bus *bus, uint64_t address, unsigned int size, const void *data)
{
	const uint8_t *from = data;
	uint64_t value = 0;

	if (is_plain_size(size)) {
		memcpy(&value, data, size);
		bus_write(bus, address, size, value);
		return;
	}
	for (unsigned int i = 0; i < size; i++)
		bus_write(bus, address + i, 1, from[i]);
}

static void client_port_read(struct cpu_client *client, struct vcpu *vcpu, uint16_t port,
			     unsigned int size, void *ret)
{
	(void)vcpu;
	read_bus(&machine_of(client)->board.ports, port, size, ret);
}

static void client_port_write(struct cpu_client *client, struct vcpu *vcpu, uint16_t port,
			      unsigned int size, const void *data)
{
	(void)vcpu;
	write_bus(&machine_of(client)->board.ports, port, size, data);
}

static void client_mmio_read(struct cpu_client *client, struct vcpu *vcpu, gpa_t gpa,
			     unsigned int size, void *ret)
{
	struct machine *machine = machine_of(client);

	if (machine->irqchip && irqchip_apic_page(machine->irqchip, vcpu->index, gpa)) {
		uint32_t value = irqchip_apic_read(machine->irqchip, vcpu->index, gpa & 0xff0) >>
				 8 * (gpa & 3);

		memset(ret, 0, size);
		memcpy(ret, &value, size < 4 ? size : 4);
		return;
	}
	read_bus(&machine->board.mmio, gpa, size, ret);
}

static void client_mmio_write(struct cpu_client *client, struct vcpu *vcpu, gpa_t gpa,
			      unsigned int size, const void *data)
{
	struct machine *machine = machine_of(client);

	if (machine->irqchip && irqchip_apic_page(machine->irqchip, vcpu->index, gpa)) {
		uint32_t value = 0;

		memcpy(&value, data, size < 4 ? size : 4);
		irqchip_apic_write(machine->irqchip, vcpu->index, gpa & 0xfff, value);
		return;
	}
	write_bus(&machine->board.mmio, gpa, size, data);
}

static bool client_msr_read(struct cpu_client *client, struct vcpu *vcpu, uint32_t index,
			    uint64_t *ret)
{
	return irqchip_read_msr(machine_of(client)->irqchip, vcpu->index, index, ret);
}

static bool client_msr_write(struct cpu_client *client, struct vcpu *vcpu, uint32_t index,
			     uint64_t value)
{
	return irqchip_write_msr(machine_of(client)->irqchip, vcpu->index, index, value);
}

static int client_take_interrupt(struct cpu_client *client, struct vcpu *vcpu)
{
	return irqchip_acknowledge(machine_of(client)->irqchip, vcpu->index);
}

static uint8_t client_get_priority(struct cpu_client *client, struct vcpu *vcpu)
{
	return irqchip_get_cr8(machine_of(client)->irqchip, vcpu->index);
}

static void client_set_priority(struct cpu_client *client, struct vcpu *vcpu, uint8_t cr8)
{
	irqchip_set_cr8(machine_of(client)->irqchip, vcpu->index, cr8);
}

const struct cpu_client_ops machine_client_ops = {
	.port_read = client_port_read,
	.port_write = client_port_write,
	.mmio_read = client_mmio_read,
	.mmio_write = client_mmio_write,
	.msr_read = client_msr_read,
	.msr_write = client_msr_write,
	.take_interrupt = client_take_interrupt,
	.get_priority = client_get_priority,
	.set_priority = client_set_priority,
};

static void host_request(struct irqchip_host *host, unsigned int cpu, enum cpu_request request,
			 unsigned int argument)
{
	struct machine *machine = container_of(host, struct machine, irqchip_host);

	if (machine->cpus[cpu].vcpu)
		machine->accel->request(machine->cpus[cpu].vcpu, request, argument);
}

static uint64_t host_tsc(struct irqchip_host *host, unsigned int cpu, uint64_t *ret_khz)
{
	struct machine *machine = container_of(host, struct machine, irqchip_host);

	*ret_khz = machine->vm->tsc_khz;
	return __rdtsc() + machine->cpus[cpu].vcpu->tsc_offset;
}

const struct irqchip_host_ops machine_irqchip_ops = {
	.request = host_request,
	.tsc = host_tsc,
};

static void kick_all(struct machine *machine)
{
	for (unsigned int i = 0; i < machine->config.cpus; i++)
		if (machine->cpus[i].started && machine->cpus[i].vcpu)
			machine->accel->request(machine->cpus[i].vcpu, CPU_REQUEST_KICK, 0);
}

static void set_power(struct machine *machine, enum board_power before, enum board_power what,
		      int exit_code)
{
	uint64_t one = 1;

	pthread_mutex_lock(&machine->lock);
	if (machine->power == BOARD_ON || machine->power == before) {
		machine->power = what;
		machine->exit_code = exit_code;
		/* No instruction of the guest's may follow the one that asked. */
		if (machine->mode == MACHINE_RUNNING)
			machine->mode = MACHINE_PARKED;
		kick_all(machine);
		if (write(machine->wake_fd, &one, sizeof(one)) < 0)
			log_warn("wake the device thread: %s", strerror(errno));
	}
	pthread_mutex_unlock(&machine->lock);
}

void machine_power(struct board *board, enum board_power what, int exit_code)
{
	set_power(container_of(board, struct machine, board), BOARD_ON, what, exit_code);
}

void machine_end(struct machine *machine, int exit_code)
{
	set_power(machine, BOARD_RESET, BOARD_EXIT, exit_code);
}

/* The state after power on, or the one in which the kernel is entered. */
static int begin(struct machine_cpu *cpu)
{
	struct cpu_state state = cpu->power_on;

	if (cpu->index == 0)
		boot_apply(&cpu->machine->entry, &state);
	return cpu->machine->accel->set_state(cpu->vcpu, &state);
}

/* What is asked of a parked vCPU must be done by its own thread (cpu.h). The lock is held. */
static void do_job(struct machine_cpu *cpu)
{
	struct machine *machine = cpu->machine;
	struct cpu_state *state = cpu->job_state;
	enum machine_job job = cpu->job;
	bool reset = cpu->must_reset;
	int rc = 0;

	cpu->must_reset = false;
	pthread_mutex_unlock(&machine->lock);
	if (job == JOB_GET_STATE) {
		/* It has not run yet: what it would begin with is its state. */
		rc = reset ? begin(cpu) : 0;
		rc = rc < 0 ? rc : machine->accel->get_state(cpu->vcpu, state);
	} else {
		rc = machine->accel->set_state(cpu->vcpu, state);
	}
	pthread_mutex_lock(&machine->lock);
	cpu->job_result = rc;
	cpu->job = JOB_NONE;
	pthread_cond_broadcast(&machine->changed);
}

/* Waits while the machine is parked; begins anew if asked to. false: the thread is to end. */
static bool wait_for_mode(struct machine_cpu *cpu)
{
	struct machine *machine = cpu->machine;
	bool reset, ending;
	int rc = 0;

	pthread_mutex_lock(&machine->lock);
	while (machine->mode == MACHINE_PARKED) {
		if (cpu->job) {
			do_job(cpu);
			continue;
		}
		cpu->parked = true;
		pthread_cond_broadcast(&machine->changed);
		pthread_cond_wait(&machine->changed, &machine->lock);
	}
	cpu->parked = false;
	ending = machine->mode == MACHINE_ENDING;
	reset = cpu->must_reset && !ending;
	if (reset)
		cpu->must_reset = false;
	pthread_mutex_unlock(&machine->lock);
	if (reset)
		rc = begin(cpu);
	if (rc < 0) {
		log_error("vCPU %u: set its first state: %s", cpu->index, strerror(-rc));
		machine_power(&machine->board, BOARD_FAILED, 0);
	}
	return !ending;
}

static void run(struct machine_cpu *cpu)
{
	struct board *board = &cpu->machine->board;

	while (wait_for_mode(cpu)) {
		switch (cpu->machine->accel->run(cpu->vcpu)) {
		case CPU_EXIT_KICKED:
			break;
		case CPU_EXIT_SHUTDOWN:
			machine_power(board, BOARD_RESET, 0);
			break;
		case CPU_EXIT_DEBUG:
		case CPU_EXIT_FAILED:
			machine_power(board, BOARD_FAILED, 0);
			break;
		}
	}
}

static int create_vcpu(struct machine_cpu *cpu)
{
	struct machine *machine = cpu->machine;
	struct vcpu *vcpu = NULL;
	int rc = machine->accel->create(machine->vm, cpu->index, &vcpu, &cpu->err);

	if (rc < 0)
		return rc;
	rc = machine->accel->get_state(vcpu, &cpu->power_on);
	if (rc < 0) {
		machine->accel->destroy(vcpu);
		return fail(&cpu->err, rc, "read the state of vCPU %u", cpu->index);
	}
	if (machine->config.jail)
		rc = jail_filter(machine->irqchip ? JAIL_VCPU : JAIL_VCPU_KVM, &cpu->err);
	if (rc < 0) {
		machine->accel->destroy(vcpu);
		return rc;
	}
	cpu->vcpu = vcpu;
	return 0;
}

static void *cpu_thread(void *data)
{
	struct machine_cpu *cpu = data;
	struct machine *machine = cpu->machine;
	int rc = create_vcpu(cpu);

	pthread_mutex_lock(&machine->lock);
	cpu->must_reset = !machine->from;
	cpu->parked = true;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	if (rc == 0)
		run(cpu);
	return NULL;
}

/* Signals are the device thread's, but for the accelerator's own: its kick, and those by which the host's
 * CPU tells of an exception in the guest's instructions. If these were blocked, they would end us. */
static void signals_of_cpus(sigset_t *ret)
{
	static const int own[] = {SIGUSR1, SIGFPE, SIGSEGV, SIGBUS, SIGILL};

	sigfillset(ret);
	for (unsigned int i = 0; i < array_size(own); i++)
		sigdelset(ret, own[i]);
}

int machine_cpus_start(struct machine *machine, struct error *err)
{
	sigset_t blocked, before;
	int rc = 0;

	signals_of_cpus(&blocked);
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	for (unsigned int i = 0; i < machine->config.cpus && rc == 0; i++) {
		struct machine_cpu *cpu = &machine->cpus[i];

		cpu->machine = machine;
		cpu->index = i;
		rc = pthread_create(&cpu->thread, NULL, cpu_thread, cpu);
		cpu->started = rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return fail(err, -rc, "start a vCPU's thread");
	machine_cpus_set_mode(machine, MACHINE_PARKED);
	for (unsigned int i = 0; i < machine->config.cpus; i++) {
		if (machine->cpus[i].vcpu)
			continue;
		if (err)
			*err = machine->cpus[i].err;
		return machine->cpus[i].err.code;
	}
	return 0;
}

static bool all_parked(const struct machine *machine)
{
	for (unsigned int i = 0; i < machine->config.cpus; i++)
		if (machine->cpus[i].started && !machine->cpus[i].parked)
			return false;
	return true;
}

void machine_cpus_set_mode(struct machine *machine, enum machine_mode mode)
{
	pthread_mutex_lock(&machine->lock);
	machine->mode = mode;
	pthread_cond_broadcast(&machine->changed);
	kick_all(machine);
	while (mode == MACHINE_PARKED && !all_parked(machine))
		pthread_cond_wait(&machine->changed, &machine->lock);
	pthread_mutex_unlock(&machine->lock);
	/* The devices' own threads stand still with the vCPUs (M2). */
	if (mode == MACHINE_PARKED)
		gate_close(&machine->board.gate);
	else
		gate_open(&machine->board.gate);
}

int machine_cpus_state(struct machine *machine, enum machine_job job, struct cpu_state *states)
{
	int rc = 0;

	pthread_mutex_lock(&machine->lock);
	for (unsigned int i = 0; i < machine->config.cpus; i++) {
		machine->cpus[i].job_state = &states[i];
		machine->cpus[i].job = job;
	}
	pthread_cond_broadcast(&machine->changed);
	for (unsigned int i = 0; i < machine->config.cpus; i++) {
		while (machine->cpus[i].job != JOB_NONE)
			pthread_cond_wait(&machine->changed, &machine->lock);
		if (rc == 0)
			rc = machine->cpus[i].job_result;
	}
	pthread_mutex_unlock(&machine->lock);
	return rc;
}

void machine_cpus_stop(struct machine *machine)
{
	machine_cpus_set_mode(machine, MACHINE_ENDING);
	for (unsigned int i = 0; i < machine->config.cpus; i++) {
		struct machine_cpu *cpu = &machine->cpus[i];
		bool started;

		/* Nobody kicks a thread that has been joined. */
		pthread_mutex_lock(&machine->lock);
		started = cpu->started;
		cpu->started = false;
		pthread_mutex_unlock(&machine->lock);
		if (started)
			pthread_join(cpu->thread, NULL);
	}
}

void machine_cpus_destroy(struct machine *machine)
{
	for (unsigned int i = 0; i < machine->config.cpus; i++)
		if (machine->cpus[i].vcpu)
			machine->accel->destroy(take(machine->cpus[i].vcpu));
}
