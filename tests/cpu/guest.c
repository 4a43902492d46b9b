/* guest: see the header. */
#include "guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"

/* Physical layout of what the machine itself needs. */
enum {
	PML4 = 0x1000,
	PDPT = 0x2000,
	PD0 = 0x3000, /* the first GiB */
	PT_DATA = 0x5000,
	PT_CODE = 0x6000,
	GDT = 0x7000,
	IDT = 0x8000,
	TSS = 0x9000,
	STACK_TOP = 0xb000,
	HANDLERS = 0xc000, /* 16 bytes each */
	IDT32 = 0xd000,
	STACK_REAL = 0xf000,
	EXIT_PORT = 0xf4,
	OUTPUT_PORT = 0xe9,
	GUARD = 1 << 20,
};
enum {
	SELECTOR_CODE = 0x08,
	SELECTOR_DATA = 0x10,
	SELECTOR_USER32 = 0x1b,
	SELECTOR_USER_DATA = 0x23,
	SELECTOR_USER64 = 0x2b,
	SELECTOR_TSS = 0x30,
	SELECTOR_CODE32 = 0x40
};
enum { PTE_PRESENT = 1, PTE_WRITE = 2, PTE_USER = 4, PTE_LARGE = 0x80 };

static struct guest *of(struct cpu_client *client)
{
	return container_of(client, struct guest, client);
}

static void read_nothing(void *data, unsigned int size)
{
	memset(data, 0xff, size);
}

static void port_read(struct cpu_client *client, struct vcpu *vcpu, uint16_t port,
		      unsigned int size, void *data)
{
	(void)client, (void)vcpu, (void)port;
	read_nothing(data, size);
}

static void port_write(struct cpu_client *client, struct vcpu *vcpu, uint16_t port,
		       unsigned int size, const void *data)
{
	struct guest *g = of(client);

	(void)size;
	if (port == OUTPUT_PORT && g->output_length < sizeof(g->output) - 1)
		g->output[g->output_length++] = *(const char *)data;
	if (port != EXIT_PORT)
		return;
	g->exited = true;
	g->exit_value = *(const uint8_t *)data;
	vcpu->vm->accel->request(vcpu, CPU_REQUEST_KICK, 0);
}

static void mmio_read(struct cpu_client *client, struct vcpu *vcpu, gpa_t gpa, unsigned int size,
		      void *data)
{
	(void)client, (void)vcpu, (void)gpa;
	read_nothing(data, size);
}

static void mmio_write(struct cpu_client *client, struct vcpu *vcpu, gpa_t gpa, unsigned int size,
		       const void *data)
{
	(void)client, (void)vcpu, (void)gpa, (void)size, (void)data;
}

static const struct cpu_client_ops ops = {
	.port_read = port_read,
	.port_write = port_write,
	.mmio_read = mmio_read,
	.mmio_write = mmio_write,
};

static void put64(struct guest *g, uint64_t at, uint64_t value)
{
	memcpy(g->memory + at, &value, 8);
}

static void map_pages(struct guest *g)
{
	unsigned int all = PTE_PRESENT | PTE_WRITE | PTE_USER;

	put64(g, PML4, PDPT | all);
	put64(g, PDPT, PD0 | all);
	for (uint64_t i = 0; i < GUEST_MEMORY >> 21; i++) /* identity, for the kernel only */
		put64(g, PD0 + i * 8, i << 21 | PTE_PRESENT | PTE_WRITE | PTE_LARGE);
	put64(g, PD0 + (GUEST_DATA >> 21) * 8, PT_DATA | all);
	put64(g, PD0 + (GUEST_CODE >> 21) * 8, PT_CODE | all);
	for (uint64_t i = 0; i < GUEST_DATA_SIZE >> 12; i++)
		put64(g, PT_DATA + i * 8,
		      (GUEST_DATA_PHYSICAL + (i << 12)) | all | 1ull << 63 /* no code */);
	for (uint64_t i = 0; i < GUEST_CODE_SIZE >> 12; i++)
		put64(g, PT_CODE + i * 8, (GUEST_CODE_PHYSICAL + (i << 12)) | all);
}

static void fill_tables(struct guest *g)
{
	put64(g, GDT + SELECTOR_CODE, 0x00af9b000000ffff);
	put64(g, GDT + SELECTOR_DATA, 0x00cf93000000ffff);
	put64(g, GDT + (SELECTOR_USER32 & ~3), 0x00cffb000000ffff);
	put64(g, GDT + (SELECTOR_USER_DATA & ~3), 0x00cff3000000ffff);
	put64(g, GDT + (SELECTOR_USER64 & ~3), 0x00affb000000ffff);
	put64(g, GDT + SELECTOR_TSS, 0x0000890000000067ull | (uint64_t)TSS << 16);
	put64(g, GDT + SELECTOR_CODE32, 0x00cf9b000000ffff);
	put64(g, TSS + 4, STACK_TOP);
	put64(g, TSS + 0x24, STACK_TOP); /* IST1 */
	for (unsigned int i = 0; i < 256; i++) {
		uint64_t handler = HANDLERS + i * 16;
		uint8_t code[] = {0xe6, EXIT_PORT, 0xf4}; /* out EXIT_PORT, al; hlt */

		put64(g, IDT + i * 16,
		      (handler & 0xffff) | SELECTOR_CODE << 16 | 0x0000ee0100000000);
		put64(g, IDT32 + i * 8,
		      (handler & 0xffff) | SELECTOR_CODE32 << 16 | 0x0000ee0000000000);
		memcpy(g->memory + i * 4, &(uint32_t){(uint32_t)handler}, 4); /* real mode's */
		memcpy(g->memory + handler, code, sizeof(code));
	}
}

/* Between pages that nobody may touch. */
static uint8_t *map_memory(void)
{
	uint8_t *all =
		mmap(NULL, GUEST_MEMORY + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (all == MAP_FAILED || mprotect(all + GUARD, GUEST_MEMORY, PROT_READ | PROT_WRITE) < 0)
		abort();
	return all + GUARD;
}

static void unmap_memory(uint8_t *memory)
{
	munmap(memory - GUARD, GUEST_MEMORY + 2 * GUARD);
}

int guest_open_on(struct guest *g, const struct cpu_accel *accel, struct error *err)
{
	struct cpu_region region = {.size = GUEST_MEMORY};
	struct cpu_vm_config config = {.vcpus = 1, .region_count = 1, .regions = &region};
	int rc;

	*g = (struct guest){.client.ops = &ops};
	g->memory = map_memory();
	region.host = g->memory;
	config.client = &g->client;
	map_pages(g);
	fill_tables(g);
	rc = accel->open(&config, &g->vm, err);
	if (rc == 0) {
		rc = accel->create(g->vm, 0, &g->vcpu, err);
		if (rc < 0)
			accel->close(g->vm);
	}
	if (rc < 0)
		unmap_memory(g->memory);
	return rc;
}

void guest_open(struct guest *g)
{
	struct error err = {0};

	if (guest_open_on(g, &cpu_accel_soft, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
}

void guest_close(struct guest *g)
{
	const struct cpu_accel *accel = g->vm->accel;

	accel->destroy(g->vcpu);
	accel->close(g->vm);
	unmap_memory(g->memory);
}

static struct cpu_segment segment(uint16_t selector, uint32_t access)
{
	return (struct cpu_segment){.selector = selector, .limit = ~0u, .access = access};
}

/* Real and protected mode: no paging. */
static void start_low(enum guest_mode mode, struct cpu_state *s)
{
	bool real = mode == GUEST_REAL;
	uint32_t data = CPU_ACCESS_P | CPU_ACCESS_S | 3;

	if (!real)
		data |= CPU_ACCESS_DB | CPU_ACCESS_G;
	for (unsigned int i = 0; i < CPU_SEGMENTS; i++)
		s->segments[i] = (struct cpu_segment){.selector = real ? 0 : SELECTOR_DATA,
						      .limit = real ? 0xffff : ~0u,
						      .access = i == CPU_CS ? data | 8 : data};
	s->segments[CPU_CS].selector = real ? GUEST_CODE_REAL : SELECTOR_CODE32;
	s->segments[CPU_CS].base = real ? GUEST_CODE_REAL << 4 : 0;
	s->rip = real ? 0 : GUEST_CODE_PHYSICAL;
	s->gdt = (struct cpu_table){.base = GDT, .limit = 0x47};
	s->idt = (struct cpu_table){.base = real ? 0 : IDT32, .limit = real ? 0x3ff : 0x7ff};
	s->cr0 = real ? 0x10 : 0x11;
	s->cr3 = s->cr4 = s->efer = 0;
	s->gpr[CPU_RSP] = real ? STACK_REAL : STACK_TOP;
	s->rflags = 2;
	s->events = (struct cpu_events){0};
}

void guest_load(struct guest *g, enum guest_mode mode, const void *program, uint64_t size)
{
	uint64_t at = mode == GUEST_REAL ? GUEST_CODE_REAL << 4 : GUEST_CODE_PHYSICAL;

	memcpy(g->memory + at, program, size);
	guest_written(g, at, size);
}

void guest_start_state(struct guest *g, enum guest_mode mode, struct cpu_state *s)
{
	uint32_t dpl = mode == GUEST_LONG_KERNEL ? 0 : 3 << CPU_ACCESS_DPL_SHIFT;
	uint32_t data = CPU_ACCESS_P | CPU_ACCESS_S | 3 | dpl | CPU_ACCESS_DB | CPU_ACCESS_G;
	uint32_t code = CPU_ACCESS_P | CPU_ACCESS_S | 11 | dpl | CPU_ACCESS_G;
	uint16_t selector = dpl ? SELECTOR_USER_DATA : SELECTOR_DATA;

	g->mode = mode;
	g->vm->accel->get_state(g->vcpu, s);
	s->tr = (struct cpu_segment){
		.base = TSS, .limit = 0x67, .selector = SELECTOR_TSS, .access = CPU_ACCESS_P | 11};
	if (mode == GUEST_REAL || mode == GUEST_PROTECTED) {
		start_low(mode, s);
		return;
	}
	for (unsigned int i = 0; i < CPU_SEGMENTS; i++)
		s->segments[i] = segment(selector, data);
	if (mode == GUEST_COMPAT_USER)
		s->segments[CPU_CS] = segment(SELECTOR_USER32, code | CPU_ACCESS_DB);
	else
		s->segments[CPU_CS] =
			segment(dpl ? SELECTOR_USER64 : SELECTOR_CODE, code | CPU_ACCESS_L);
	s->gdt = (struct cpu_table){.base = GDT, .limit = 0x47};
	s->idt = (struct cpu_table){.base = IDT, .limit = 0xfff};
	s->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	s->cr3 = PML4;
	s->cr4 = 0x406a0; /* OSXSAVE OSXMMEXCPT OSFXSR PGE PAE */
	s->efer = 0xd01;
	s->xcr0 = 7;
	s->rip = GUEST_CODE;
	s->rflags = 0x202;
	s->events = (struct cpu_events){0};
}

void guest_written(struct guest *g, uint64_t gpa, uint64_t size)
{
	g->vm->accel->written(g->vm, gpa, size);
}

static bool pushes_error(unsigned int vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

static void read_frame(const uint8_t *frame, unsigned int size, struct guest_fault *ret)
{
	uint64_t values[4] = {0};

	for (unsigned int i = 0; i < 4; i++)
		memcpy(&values[i], frame + i * size, size);
	ret->rip = values[0];
	ret->rflags = values[2];
	ret->rsp = values[3];
}

bool guest_run_to_fault(struct guest *g, struct cpu_state *state, struct guest_fault *ret)
{
	const uint8_t *frame;

	g->exited = false;
	if (g->vm->accel->run(g->vcpu) != CPU_EXIT_KICKED || !g->exited)
		return false;
	g->vm->accel->get_state(g->vcpu, state);
	if (state->rip < HANDLERS || state->rip >= HANDLERS + 256 * 16)
		return false;
	ret->vector = (unsigned int)(state->rip - HANDLERS) / 16;
	frame = g->memory + state->segments[CPU_SS].base + (uint32_t)state->gpr[CPU_RSP];
	if (state->cr0 & 1) { /* protected: an error code may lie on top */
		ret->error = 0;
		if (pushes_error(ret->vector)) {
			memcpy(&ret->error, frame, 4);
			frame += state->efer & 0x400 ? 8 : 4;
		}
	}
	read_frame(frame, !(state->cr0 & 1) ? 2 : state->efer & 0x400 ? 8 : 4, ret);
	ret->cr2 = state->cr2;
	return true;
}
