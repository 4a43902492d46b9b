/*
 * messages: interrupts that a device sends by MSI-X. It drives the entropy device (Virtio 1.2, 5.4): a request's end comes
 * at the vector that the table has; at another one once the table has that; not while the entry is masked, and then as
 * soon as it is not. Says which of them went wrong, and ends with 0 (exit code 1) if none did. With a command line it
 * says "ready" after the first, and goes on when something comes on the serial line.
 */
#include <stdint.h>

enum {
	CONFIG_ADDRESS = 0xcf8,
	CONFIG_DATA = 0xcfc,
	ENTROPY = 0x10441af4,
	SERIAL = 0x3f8,
	DEBUG_EXIT = 0xf4,
	GATE = 0x8e00,
	VECTOR = 0x41,
	QUEUE = 8,
	PATIENCE = 2000,
};

/* Offsets in the common configuration (4.1.4.3). */
enum {
	DRIVER_FEATURE_SELECT = 8,
	DRIVER_FEATURE = 12,
	STATUS = 20,
	QUEUE_SELECT = 22,
	QUEUE_SIZE = 24,
	QUEUE_VECTOR = 26,
	QUEUE_ENABLE = 28,
	QUEUE_NOTIFY = 30,
	QUEUE_DESCRIPTORS = 32,
	QUEUE_DRIVER = 40,
	QUEUE_DEVICE = 48,
};

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

struct gate {
	uint16_t low, selector, flags, high;
};

__asm__(".section .text.start, \"ax\"\n.align 4\n"
	".long 0x1badb002, 0, -0x1badb002\n"
	".globl _start\n"
	"_start: mov $stack_top, %esp; cld; push 16(%ebx); call main\n"
	"1: hlt; jmp 1b\n"
	".text\n"
	"first: lock incl arrived; jmp end\n"
	"second: lock incl arrived + 4\n"
	/* No IRET: KVM's emulator knows it in real mode only. One interrupt comes at a time. */
	"end: push %eax; mov $0xfee000b0, %eax; movl $0, (%eax); pop %eax\n"
	"	popl back; add $4, %esp; popf; jmp *back\n"
	".bss; .align 16; .skip 8192; stack_top:\n"
	".text\n");

extern const char first[], second[];
volatile uint32_t arrived[2], back;
static struct gate gates[256] __attribute__((aligned(16)));
static struct descriptor descriptors[QUEUE] __attribute__((aligned(16)));
static volatile uint16_t available[3 + QUEUE] __attribute__((aligned(4)));
static volatile uint32_t used[2 + 2 * QUEUE] __attribute__((aligned(4)));
static uint8_t entropy[64];
static volatile uint8_t *common, *notify;
static volatile uint32_t *entry;
static uint32_t function, notify_step;

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void out32(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void say(const char *text)
{
	for (; *text; text++)
		out8(SERIAL, (uint8_t)*text);
}

static void wait_for_byte(void)
{
	uint8_t status;

	do
		__asm__ volatile("inb %1, %0" : "=a"(status) : "Nd"((uint16_t)(SERIAL + 5)));
	while (!(status & 1));
}

static void finish(const char *text, uint8_t code)
{
	say(text);
	out8(DEBUG_EXIT, code);
	for (;;)
		__asm__ volatile("cli; hlt");
}

static uint32_t config_read(uint32_t offset)
{
	out32(CONFIG_ADDRESS, 0x80000000 | function | (offset & ~3u));
	return in32(CONFIG_DATA) >> 8 * (offset & 3);
}

static void config_write(uint32_t offset, uint32_t value)
{
	out32(CONFIG_ADDRESS, 0x80000000 | function | offset);
	out32(CONFIG_DATA, value);
}

static volatile uint8_t *window(uint32_t bar, uint32_t offset)
{
	return (volatile uint8_t *)((config_read(0x10 + 4 * bar) & ~15u) + offset);
}

static void find(void)
{
	uint32_t at;

	for (function = 0; config_read(0) != ENTROPY; function += 1 << 11)
		if (function >= 32 << 11)
			finish("no entropy device\n", 1);
	config_write(4, 6); /* memory, and its own accesses to memory */
	for (at = config_read(0x34) & 0xff; at; at = config_read(at + 1) & 0xff) {
		uint32_t kind = config_read(at) & 0xff, type = config_read(at + 3) & 0xff;

		if (kind == 9 && type == 1)
			common = window(config_read(at + 4) & 7, config_read(at + 8));
		if (kind == 9 && type == 2) {
			notify = window(config_read(at + 4) & 7, config_read(at + 8));
			notify_step = config_read(at + 16);
		}
		if (kind == 0x11) {
			uint32_t table = config_read(at + 4);

			entry = (volatile uint32_t *)window(table & 7, table & ~7u);
			config_write(at, config_read(at) | 1u << 31);
		}
	}
	if (!common || !notify || !entry)
		finish("a capability is missing\n", 1);
}

#define COMMON8(at) (*(common + (at)))
#define COMMON16(at) (*(volatile uint16_t *)(common + (at)))
#define COMMON32(at) (*(volatile uint32_t *)(common + (at)))

static void start(void)
{
	COMMON8(STATUS) = 0;
	COMMON8(STATUS) = 3;
	COMMON32(DRIVER_FEATURE_SELECT) = 1;
	COMMON32(DRIVER_FEATURE) = 1; /* VERSION_1 */
	COMMON8(STATUS) = 3 | 8;
	COMMON16(QUEUE_SELECT) = 0;
	COMMON16(QUEUE_SIZE) = QUEUE;
	COMMON16(QUEUE_VECTOR) = 0;
	COMMON32(QUEUE_DESCRIPTORS) = (uint32_t)descriptors;
	COMMON32(QUEUE_DRIVER) = (uint32_t)available;
	COMMON32(QUEUE_DEVICE) = (uint32_t)used;
	COMMON16(QUEUE_ENABLE) = 1;
	notify += COMMON16(QUEUE_NOTIFY) * notify_step;
	COMMON8(STATUS) = 3 | 8 | 4;
	descriptors[0] = (struct descriptor){(uint32_t)entropy, sizeof(entropy), 2, 0};
}

static void set_message(uint32_t vector, uint32_t masked)
{
	entry[3] = 1;
	entry[0] = 0xfee00000;
	entry[1] = 0;
	entry[2] = vector;
	entry[3] = masked;
}

static void set_gate(uint32_t vector, const char *to)
{
	uint16_t selector;

	__asm__("mov %%cs, %0" : "=r"(selector));
	gates[vector] = (struct gate){(uint16_t)(uint32_t)to, selector, GATE,
				      (uint16_t)((uint32_t)to >> 16)};
}

static void take_interrupts(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint32_t base;
	} idt = {sizeof(gates) - 1, (uint32_t)gates};

	set_gate(VECTOR, first);
	set_gate(VECTOR + 1, second);
	out8(0x21, 0xff); /* none of the PICs' */
	out8(0xa1, 0xff);
	*(volatile uint32_t *)0xfee000f0 = 0x1ff;
	__asm__ volatile("lidt %0; sti" : : "m"(idt));
}

/* One request, until the device has answered it. */
static void ask(void)
{
	uint16_t done = (uint16_t)(used[0] >> 16);

	available[2 + available[1] % QUEUE] = 0;
	__asm__ volatile("" : : : "memory");
	available[1]++;
	*(volatile uint16_t *)notify = 0;
	while ((uint16_t)(used[0] >> 16) == done)
		__asm__ volatile("pause");
}

static void expect(const char *what, uint32_t at_first, uint32_t at_second)
{
	for (unsigned int i = 0; i < PATIENCE; i++) {
		if (arrived[0] == at_first && arrived[1] == at_second)
			return;
		out8(0x80, 0); /* which takes a moment */
	}
	finish(what, 1);
}

void main(const char *command_line)
{
	while (*command_line && *command_line != ' ') /* its name */
		command_line++;
	while (*command_line == ' ')
		command_line++;
	find();
	start();
	take_interrupts();
	set_message(VECTOR, 0);
	ask();
	expect("no interrupt\n", 1, 0);
	if (*command_line) {
		say("ready\n");
		wait_for_byte();
	}
	ask();
	expect("no second interrupt\n", 2, 0);
	set_message(VECTOR + 1, 0);
	ask();
	expect("not at the new vector\n", 2, 1);
	set_message(VECTOR, 1);
	ask();
	for (unsigned int i = 0; i < PATIENCE; i++)
		out8(0x80, 0);
	expect("although it is masked\n", 2, 1);
	entry[3] = 0;
	expect("not when it is masked no more\n", 3, 1);
	finish("messages passed\n", 0);
}
