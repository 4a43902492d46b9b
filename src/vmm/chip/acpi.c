/* acpi: see acpi.h. */
#include "vmm/chip/acpi.h"

#include <errno.h>
#include <string.h>

#include "vmm/chip/aml.h"
#include "vmm/chip/chips.h"
#include "vmm/chip/ioapic.h"
#include "vmm/chip/pci.h"

struct __attribute__((packed)) table_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
};

struct __attribute__((packed)) rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
};

/* 5.2.3.2: where a register is */
struct __attribute__((packed)) address {
	uint8_t space, bits, offset, access;
	uint64_t address;
};

struct __attribute__((packed)) fadt {
	struct table_header header;
	uint32_t facs, dsdt;
	uint8_t reserved1, profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4_bios, pstate_control;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer;
	uint32_t gpe0, gpe1;
	uint8_t pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length;
	uint8_t gpe0_length, gpe1_length, gpe1_base, cstate_control;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_flags;
	uint8_t reserved2;
	uint32_t flags;
	struct address reset;
	uint8_t reset_value;
	uint16_t arm_flags;
	uint8_t minor;
	uint64_t x_facs, x_dsdt;
	struct address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control,
		x_pm_timer, x_gpe0, x_gpe1, sleep_control, sleep_status;
	uint64_t hypervisor;
};
_Static_assert(sizeof(struct fadt) == 276, "ACPI 6.4, table 5.9");

enum {
	SPACE_IO = 1,
	FADT_WBINVD = 1 << 0,
	FADT_PROC_C1 = 1 << 2,
	FADT_NO_SLEEP_BUTTON = 1 << 5,
	FADT_TIMER_32_BIT = 1 << 8,
	FADT_RESET = 1 << 10,
	BOOT_LEGACY_DEVICES = 1 << 0,
	BOOT_NO_VGA = 1 << 2,
	MADT_PICS = 1 << 0,
	INTERRUPT_LEVEL_HIGH = 0xd,
	CMOS_CENTURY = 0x32,
};

/* Where the next table goes. */
struct writer {
	const struct memory *memory;
	gpa_t next, end;
	bool full;
};

static gpa_t put(struct writer *w, const void *data, size_t size, size_t alignment)
{
	gpa_t at = (w->next + alignment - 1) & ~(gpa_t)(alignment - 1);

	if (at + size > w->end || memory_write(w->memory, at, data, size) < 0) {
		w->full = true;
		return 0;
	}
	w->next = at + size;
	return at;
}

static uint8_t checksum(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum += bytes[i];
	return (uint8_t)-sum;
}

static struct table_header header_of(const char *signature, uint8_t revision, size_t length)
{
	struct table_header header = {.length = (uint32_t)length,
				      .revision = revision,
				      .oem_revision = 1,
				      .creator_revision = 1};

	memcpy(header.signature, signature, sizeof(header.signature));
	memcpy(header.oem_id, "BERTH ", sizeof(header.oem_id));
	memcpy(header.oem_table_id, "BERTHVMM", sizeof(header.oem_table_id));
	memcpy(header.creator_id, "BRTH", sizeof(header.creator_id));
	return header;
}

/* Writes a table that begins with a header. */
static gpa_t put_table(struct writer *w, void *table, size_t size)
{
	struct table_header *header = table;

	header->length = (uint32_t)size;
	header->checksum = 0;
	header->checksum = checksum(table, size);
	return put(w, table, size, 16);
}

static void add_pci_root(struct aml *aml, const struct acpi_config *config)
{
	aml_open_device(aml, "PCI0");
	aml_name(aml, "_HID");
	aml_eisa_id(aml, "PNP0A08");
	aml_name(aml, "_CID");
	aml_eisa_id(aml, "PNP0A03");
	aml_name(aml, "_BBN");
	aml_integer(aml, 0);
	aml_name(aml, "_SEG");
	aml_integer(aml, 0);
	aml_name(aml, "_UID");
	aml_integer(aml, 0);
	aml_name(aml, "_CRS");
	aml_open_resources(aml);
	aml_bus_range(aml, 0, 0);
	aml_io(aml, 0xcf8, 8);
	aml_io_range(aml, 0x0000, 0x0cf7);
	aml_io_range(aml, 0x0d00, 0xffff);
	aml_memory_range(aml, config->pci_start, config->pci_end - 1);
	aml_close_resources(aml);
	aml_close(aml);
}

static void add_simple_device(struct aml *aml, const char *name, const char *id, uint16_t port,
			      uint8_t ports, unsigned int line)
{
	aml_open_device(aml, name);
	aml_name(aml, "_HID");
	aml_eisa_id(aml, id);
	aml_name(aml, "_UID");
	aml_integer(aml, 0);
	aml_name(aml, "_CRS");
	aml_open_resources(aml);
	aml_io(aml, port, ports);
	aml_irq(aml, line);
	aml_close_resources(aml);
	aml_close(aml);
}

/* What nobody else may use: the configuration window. */
static void add_reserved(struct aml *aml, gpa_t pci_config)
{
	if (pci_config == 0)
		return;
	aml_open_device(aml, "MRES");
	aml_name(aml, "_HID");
	aml_eisa_id(aml, "PNP0C02");
	aml_name(aml, "_CRS");
	aml_open_resources(aml);
	aml_memory_fixed(aml, (uint32_t)pci_config, PCI_ECAM_SIZE);
	aml_close_resources(aml);
	aml_close(aml);
}

/* Microsoft's "Virtual Machine Generation ID": tells the guest when it has been copied or put back. */
static void add_generation(struct aml *aml, gpa_t generation)
{
	aml_open_device(aml, "VGEN");
	aml_name(aml, "_HID");
	aml_string(aml, "BRTH0001");
	aml_name(aml, "_CID");
	aml_string(aml, "VM_GEN_COUNTER");
	aml_name(aml, "_DDN");
	aml_string(aml, "VM_GEN_COUNTER");
	aml_name(aml, "ADDR");
	aml_open_package(aml, 2);
	aml_integer(aml, (uint32_t)generation);
	aml_integer(aml, generation >> 32);
	aml_close(aml);
	aml_close(aml);
}

static gpa_t put_dsdt(struct writer *w, const struct acpi_config *config, gpa_t generation)
{
	struct aml aml = {0};
	struct table_header header = header_of("DSDT", 2, sizeof(header));
	gpa_t at;

	buf_add(&aml.code, &header, sizeof(header));
	aml_open_scope(&aml, "\\_SB_");
	add_pci_root(&aml, config);
	add_reserved(&aml, config->pci_config);
	add_simple_device(&aml, "COM1", "PNP0501", 0x3f8, 8, IRQ_SERIAL);
	add_simple_device(&aml, "RTC_", "PNP0B00", 0x70, 2, IRQ_RTC);
	add_generation(&aml, generation);
	aml_close(&aml);
	aml_open_scope(&aml, "\\_GPE");
	aml_open_method(&aml, "_E00", 0);
	aml_notify(&aml, "\\_SB_.VGEN", 0x80);
	aml_close(&aml);
	aml_close(&aml);
	aml_name(&aml, "_S5_");
	aml_open_package(&aml, 4);
	aml_integer(&aml, ACPI_SLEEP_OFF);
	aml_integer(&aml, ACPI_SLEEP_OFF);
	aml_integer(&aml, 0);
	aml_integer(&aml, 0);
	aml_close(&aml);
	at = put_table(w, aml.code.data, aml.code.len);
	buf_release(&aml.code);
	return at;
}

static gpa_t put_facs(struct writer *w)
{
	struct __attribute__((packed)) {
		char signature[4];
		uint32_t length, hardware_signature, waking_vector, lock, flags;
		uint64_t x_waking_vector;
		uint8_t version, reserved[31];
	} facs = {.signature = {'F', 'A', 'C', 'S'}, .length = 64, .version = 2};

	_Static_assert(sizeof(facs) == 64, "ACPI 6.4, table 5.15");
	return put(w, &facs, sizeof(facs), 64);
}

static struct address io(uint16_t port, unsigned int bytes)
{
	return (struct address){.space = SPACE_IO,
				.bits = (uint8_t)(bytes * 8),
				.access = (uint8_t)(bytes == 4 ? 3 : bytes),
				.address = port};
}

static gpa_t put_fadt(struct writer *w, gpa_t facs, gpa_t dsdt)
{
	struct fadt fadt = {
		.header = header_of("FACP", 6, sizeof(fadt)),
		.facs = (uint32_t)facs,
		.dsdt = (uint32_t)dsdt,
		.sci = IRQ_SCI,
		.pm1a_event = ACPI_PM1_EVENT,
		.pm1a_control = ACPI_PM1_CONTROL,
		.pm_timer = ACPI_PM_TIMER,
		.gpe0 = ACPI_GPE0,
		.pm1_event_length = 4,
		.pm1_control_length = 2,
		.pm_timer_length = 4,
		.gpe0_length = 2,
		.c2_latency = 0xfff, /* no C2, no C3 */
		.c3_latency = 0xfff,
		.century = CMOS_CENTURY,
		.boot_flags = BOOT_LEGACY_DEVICES | BOOT_NO_VGA,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_TIMER_32_BIT |
			 FADT_RESET,
		.reset = io(ACPI_RESET, 1),
		.reset_value = 1,
		.minor = 4,
		.x_dsdt = dsdt,
		.x_pm1a_event = io(ACPI_PM1_EVENT, 4),
		.x_pm1a_control = io(ACPI_PM1_CONTROL, 2),
		.x_pm_timer = io(ACPI_PM_TIMER, 4),
		.x_gpe0 = io(ACPI_GPE0, 2),
	};

	fadt.x_pm1a_event.access = 2;
	fadt.x_gpe0.access = 1;
	memcpy(&fadt.hypervisor, "BERTH\0\0", sizeof(fadt.hypervisor));
	return put_table(w, &fadt, sizeof(fadt));
}

static gpa_t put_madt(struct writer *w, unsigned int cpus)
{
	struct __attribute__((packed)) {
		struct table_header header;
		uint32_t apic, flags;
	} head = {.header = header_of("APIC", 5, sizeof(head)),
		  .apic = LAPIC_PAGE,
		  .flags = MADT_PICS};
	const uint8_t ioapic[12] = {1, 12, 0, 0, 0, 0, IOAPIC_PAGE >> 16 & 0xff, IOAPIC_PAGE >> 24,
				    0, 0,  0, 0};
	const uint8_t pit[10] = {2, 10, 0, 0, 2, 0, 0, 0, 0, 0};
	const uint8_t sci[10] = {2, 10, 0, IRQ_SCI, IRQ_SCI, 0, 0, 0, INTERRUPT_LEVEL_HIGH, 0};
	const uint8_t nmi[6] = {4, 6, 0xff, 0, 0, 1}; /* all CPUs, LINT1 */
	own_buf struct buf table = {0};

	buf_add(&table, &head, sizeof(head));
	for (unsigned int i = 0; i < cpus; i++) {
		const uint8_t lapic[8] = {0, 8, (uint8_t)i, (uint8_t)i, 1, 0, 0, 0};

		buf_add(&table, lapic, sizeof(lapic));
	}
	buf_add(&table, ioapic, sizeof(ioapic));
	buf_add(&table, pit, sizeof(pit));
	buf_add(&table, sci, sizeof(sci));
	buf_add(&table, nmi, sizeof(nmi));
	return put_table(w, table.data, table.len);
}

static gpa_t put_mcfg(struct writer *w, gpa_t pci_config)
{
	struct __attribute__((packed)) {
		struct table_header header;
		uint64_t reserved, base;
		uint16_t segment;
		uint8_t first_bus, last_bus;
		uint32_t reserved2;
	} mcfg = {.header = header_of("MCFG", 1, sizeof(mcfg)), .base = pci_config};

	return put_table(w, &mcfg, sizeof(mcfg));
}

static gpa_t put_xsdt(struct writer *w, const uint64_t *tables, unsigned int count)
{
	struct table_header header = header_of("XSDT", 1, sizeof(header));
	own_buf struct buf table = {0};

	buf_add(&table, &header, sizeof(header));
	buf_add(&table, tables, count * sizeof(*tables));
	return put_table(w, table.data, table.len);
}

int acpi_build(const struct memory *memory, const struct acpi_config *config,
	       struct acpi_layout *ret)
{
	struct writer w = {.memory = memory, .next = config->start, .end = config->end};
	struct rsdp rsdp = {.signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
			    .oem_id = {'B', 'E', 'R', 'T', 'H', ' '},
			    .revision = 2,
			    .length = sizeof(rsdp)};
	/* First, because it is searched for there; its contents are known last. */
	gpa_t at = put(&w, &rsdp, sizeof(rsdp), 16);
	gpa_t facs = put_facs(&w), dsdt;
	uint64_t tables[3];
	unsigned int count = 0;

	ret->rsdp = at;
	ret->generation = put(&w, config->generation, sizeof(config->generation), 16);
	dsdt = put_dsdt(&w, config, ret->generation);
	tables[count++] = ret->fadt = put_fadt(&w, facs, dsdt);
	tables[count++] = put_madt(&w, config->cpus);
	if (config->pci_config != 0)
		tables[count++] = put_mcfg(&w, config->pci_config);
	rsdp.xsdt = ret->xsdt = put_xsdt(&w, tables, count);
	ret->end = w.next;
	rsdp.checksum = checksum(&rsdp, 20);
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	if (w.full)
		return -E2BIG;
	return memory_write(memory, at, &rsdp, sizeof(rsdp));
}
