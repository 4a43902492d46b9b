/* What several CPUs have to agree on: the order of loads and stores, locked additions wherever the operand lies,
 * 16 bytes at once, translations that one CPU takes from the others, code that one CPU changes under another,
 * interrupts between CPUs and waking up.
 * The command line names the tests, with how often each repeats: "order=1000 shootdown=100". Prints a line
 * for each; ends with 1 if all passed, with 3 otherwise. Needs two CPUs at least. */
#include <stdbool.h>
#include <stdint.h>

enum {
	CPUS_MAX = 8,
	VECTOR_NMI = 2,
	VECTOR_PF = 14,
	VECTOR_FORGET = 0x40,
	VECTOR_WAKE = 0x41,
	APIC_ID = 0x20,
	APIC_EOI = 0xb0,
	APIC_SPURIOUS = 0xf0,
	APIC_ICR = 0x300,
	APIC_ICR_HIGH = 0x310,
	OTHERS = 0xc0000,
	NMI = 0x400,
	INIT = 0x500,
	STARTUP = 0x600,
	ASSERT = 0x4000,
	TRAMPOLINE_PAGE = 8,
};
static char *const own = (char *)0x8000000000; /* where `own_pages` maps */

extern char *command_line;
extern volatile uint32_t started;
extern volatile uint64_t own_pages[512];

static unsigned int cpus;
static bool failed;

/* ---- the machine ---- */

static void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void print(const char *text)
{
	while (*text)
		out8(0x3f8, (uint8_t)*text++);
}

static volatile uint32_t *apic(unsigned int reg)
{
	return (volatile uint32_t *)(uintptr_t)(0xfee00000 + reg);
}

static void send(unsigned int to, uint32_t what)
{
	*apic(APIC_ICR_HIGH) = to << 24;
	*apic(APIC_ICR) = what | ASSERT;
}

static void pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

static void wait_for(volatile uint32_t *value, uint32_t wanted)
{
	while (*value != wanted)
		pause();
}

/* ---- all CPUs do the same, and wait for each other ---- */

struct barrier {
	volatile uint32_t arrived, generation;
};
static struct barrier of_all, of_two;

static void meet_at(struct barrier *b, unsigned int count)
{
	uint32_t now = b->generation;

	if (__atomic_add_fetch(&b->arrived, 1, __ATOMIC_SEQ_CST) == count) {
		b->arrived = 0;
		b->generation = now + 1;
	} else {
		while (b->generation == now)
			pause();
	}
}

static void meet(void)
{
	meet_at(&of_all, cpus);
}

/* ---- interrupts ---- */

struct frame {
	uint64_t rip, cs, rflags, rsp, ss;
};

static volatile uint32_t nmis, wakes, forgotten, faults;

__attribute__((interrupt)) static void on_nmi(struct frame *f)
{
	(void)f;
	nmis++;
}

/* The page is there again for the instruction that wanted it. */
__attribute__((interrupt)) static void on_page_fault(struct frame *f, uint64_t error)
{
	(void)f, (void)error;
	own_pages[0] |= 1;
	faults++;
}

__attribute__((interrupt)) static void on_forget(struct frame *f)
{
	(void)f;
	__asm__ volatile("invlpg (%0)" : : "r"(own) : "memory");
	__atomic_add_fetch(&forgotten, 1, __ATOMIC_SEQ_CST);
	*apic(APIC_EOI) = 0;
}

__attribute__((interrupt)) static void on_wake(struct frame *f)
{
	(void)f;
	__atomic_add_fetch(&wakes, 1, __ATOMIC_SEQ_CST);
	*apic(APIC_EOI) = 0;
}

static struct {
	uint16_t low, selector, flags, middle;
	uint32_t high, zero;
} idt[256];

static void gate(unsigned int vector, void *to)
{
	uintptr_t at = (uintptr_t)to;

	idt[vector].low = (uint16_t)at;
	idt[vector].selector = 8;
	idt[vector].flags = 0x8e00;
	idt[vector].middle = (uint16_t)(at >> 16);
}

static void interrupts_on(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = {sizeof(idt) - 1, (uintptr_t)idt};

	__asm__ volatile("lidt %0" : : "m"(pointer));
	out8(0x21, 0xff); /* none of the PICs' */
	out8(0xa1, 0xff);
	*apic(APIC_SPURIOUS) = 0x1ff;
	__asm__ volatile("sti");
}

/* ---- the tests: each returns whether this CPU has found all well ---- */

static volatile uint64_t x __attribute__((aligned(64)));
static volatile uint64_t y __attribute__((aligned(64)));
static volatile uint64_t seen[2] __attribute__((aligned(64)));

/* Stores become visible before later loads if a fence or a locked instruction is between them: one of the
 * two CPUs sees what the other has stored. */
static bool test_order(unsigned int cpu, unsigned int rounds)
{
	bool well = true;

	for (unsigned int i = 1; i <= rounds && cpu < 2; i++) {
		meet_at(&of_two, 2);
		if (cpu == 0) {
			x = i;
			__asm__ volatile("mfence" : : : "memory");
			seen[0] = y;
		} else {
			uint64_t value = i;

			__asm__ volatile("xchg %0, %1" : "+r"(value), "+m"(y) : : "memory");
			seen[1] = x;
		}
		meet_at(&of_two, 2);
		well = well && (seen[0] == i || seen[1] == i);
	}
	return well;
}

/* Stores become visible in their order, loads happen in theirs. */
static bool test_message(unsigned int cpu, unsigned int rounds)
{
	for (uint64_t i = 1; i <= rounds && cpu == 0; i++) {
		x = i;
		y = i;
	}
	while (cpu == 1) {
		uint64_t second = y, first = x;

		if (first < second)
			return false;
		if (second == rounds)
			break;
	}
	return true;
}

static volatile uint32_t wants[2], turn;
static uint64_t guarded __attribute__((aligned(64)));

/* Peterson's lock: nothing but loads, stores and a fence. */
static bool test_lock(unsigned int cpu, unsigned int rounds)
{
	guarded = 0;
	meet();
	for (unsigned int i = 0; i < rounds && cpu < 2; i++) {
		wants[cpu] = 1;
		turn = 1 - cpu;
		__asm__ volatile("mfence" : : : "memory");
		while (wants[1 - cpu] && turn == 1 - cpu)
			pause();
		(*(volatile uint64_t *)&guarded)++;
		wants[cpu] = 0;
	}
	meet();
	return guarded == 2ull * rounds;
}

static struct {
	uint32_t first, unused[14];
	uint16_t half;
	uint32_t second; /* in two cache lines */
} __attribute__((packed)) sums __attribute__((aligned(64)));

/* No locked addition of any CPU is lost. */
static bool test_add(unsigned int cpu, unsigned int rounds)
{
	if (cpu == 0)
		sums.first = sums.second = 0;
	meet();
	for (unsigned int i = 0; i < rounds; i++)
		__asm__ volatile("lock incl %0; lock addl $1, %1"
				 : "+m"(sums.first), "+m"(sums.second));
	meet();
	return sums.first == cpus * rounds && sums.second == sums.first;
}

static uint64_t frames[2][512] __attribute__((aligned(4096)));

/* The same across two pages: neighbours in memory, and mapped in the other order. */
static bool test_across(unsigned int cpu, unsigned int rounds)
{
	volatile uint32_t *in_order = (void *)((char *)frames + 4094);
	volatile uint32_t *apart = (void *)(own + 4094);

	if (cpu == 0) {
		own_pages[0] = (uintptr_t)frames[1] | 3;
		own_pages[1] = (uintptr_t)frames[0] | 3;
	}
	meet();
	__asm__ volatile("invlpg (%0); invlpg 4096(%0)" : : "r"(own) : "memory");
	if (cpu == 0)
		*in_order = *apart = 0;
	meet();
	for (unsigned int i = 0; i < rounds; i++) {
		uint32_t one = 1;

		__asm__ volatile("lock addl $1, %0; lock xadd %1, %2"
				 : "+m"(*in_order), "+r"(one), "+m"(*apart));
	}
	meet();
	return *in_order == cpus * rounds && *apart == *in_order;
}

static struct {
	uint64_t low, high;
} pair __attribute__((aligned(16)));

/* CMPXCHG16B of all CPUs on one pair, whose halves belong together. */
static bool test_pair(unsigned int cpu, unsigned int rounds)
{
	uint64_t low = 0, high = 0;
	bool done, well = true;

	(void)cpu;
	for (unsigned int i = 0; i < rounds; i++) {
		do {
			__asm__ volatile("lock cmpxchg16b %1; sete %0"
					 : "=q"(done), "+m"(pair), "+a"(low), "+d"(high)
					 : "b"(low + 1), "c"(high + 3)
					 : "memory", "cc");
			well = well && high == low * 3;
		} while (!done);
		low++;
		high += 3;
	}
	meet();
	return well && pair.low == (uint64_t)cpus * rounds && pair.high == pair.low * 3;
}

static volatile uint32_t current;

/* A page gets other memory, or none, and all CPUs are told by an interrupt: when they have answered, they
 * see the new memory, and without any fault once. */
static bool test_shootdown(unsigned int cpu, unsigned int rounds)
{
	bool well = true;

	if (cpu == 0) {
		frames[0][0] = 0;
		frames[1][0] = 1;
		own_pages[0] = (uintptr_t)frames[0] | 3;
		current = 0;
	}
	meet();
	for (uint32_t i = 1; i <= rounds; i++) {
		if (cpu == 0) {
			frames[i & 1][0] = i;
			own_pages[0] = (uintptr_t)frames[i & 1] | (i % 8 == 0 ? 2 : 3);
			__asm__ volatile("invlpg (%0)" : : "r"(own) : "memory");
			forgotten = 0;
			send(0, OTHERS | VECTOR_FORGET);
			wait_for(&forgotten, cpus - 1);
			current = i;
		}
		while (cpu != 0 && current < i) {
			if (own_pages[0] & 1) /* no fault that is not asked for */
				(void)*(volatile uint64_t *)own;
			pause();
		}
		well = well && *(volatile uint64_t *)own == i;
		meet();
	}
	return well && faults >= rounds / 8;
}

static uint8_t code[64] __attribute__((aligned(4096)));

/* One CPU changes what another executes, which serialises itself before it does so again. */
static bool test_code(unsigned int cpu, unsigned int rounds)
{
	uint32_t a, b, c, d;
	bool well = true;

	for (uint32_t i = 1; i <= rounds; i++) {
		if (cpu == 0) {
			code[0] = 0xb8; /* mov eax, i; ret */
			*(volatile uint32_t *)(code + 1) = i;
			code[5] = 0xc3;
			__asm__ volatile("" : : : "memory");
			current = i;
		}
		meet();
		__asm__ volatile("cpuid"
				 : "=a"(a), "=b"(b), "=c"(c), "=d"(d)
				 : "a"(0), "c"(0)
				 : "memory");
		__asm__ volatile("call *%1" : "=a"(a) : "r"(code) : "memory");
		well = well && a == i;
		meet();
	}
	return well;
}

/* A halted CPU is woken by an interrupt, and none is lost between STI and HLT. */
static bool test_wake(unsigned int cpu, unsigned int rounds)
{
	if (cpu == 0)
		wakes = 0;
	meet();
	for (uint32_t i = 1; i <= 2 * rounds && cpu < 2; i++) {
		if ((i & 1) == cpu) {
			send(1 - cpu, VECTOR_WAKE);
		} else {
			__asm__ volatile("cli");
			while (wakes < i)
				__asm__ volatile("sti; hlt; cli" : : : "memory");
			__asm__ volatile("sti");
		}
	}
	meet();
	return wakes == 2 * rounds;
}

static bool test_nmi(unsigned int cpu, unsigned int rounds)
{
	if (cpu == 0)
		nmis = 0;
	meet();
	for (uint32_t i = 1; i <= rounds && cpu == 0; i++) {
		send(1, NMI);
		wait_for(&nmis, i);
	}
	meet();
	return nmis == rounds;
}

static const struct test {
	const char *name;
	bool (*run)(unsigned int cpu, unsigned int rounds);
} tests[] = {
	{"order", test_order}, {"message", test_message},     {"lock", test_lock},
	{"add", test_add},     {"across", test_across},       {"pair", test_pair},
	{"code", test_code},   {"shootdown", test_shootdown}, {"wake", test_wake},
	{"nmi", test_nmi},
};

/* ---- what is asked for ---- */

/* The test that `*at` names, and its repetitions; NULL at the end. */
static const struct test *next_test(const char **at, unsigned int *ret_rounds)
{
	while (**at == ' ')
		(*at)++;
	for (unsigned int i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
		const char *name = tests[i].name, *s = *at;

		while (*name && *s == *name)
			s++, name++;
		if (*name || *s++ != '=')
			continue;
		for (*ret_rounds = 0; *s >= '0' && *s <= '9'; s++)
			*ret_rounds = *ret_rounds * 10 + (unsigned int)(*s - '0');
		*at = s;
		return &tests[i];
	}
	return 0;
}

static void start_the_others(void)
{
	__asm__ volatile("outw %0, %1" : : "a"((uint16_t)5), "Nd"((uint16_t)0x510));
	cpus = in8(0x511); /* of the configuration ports */
	gate(VECTOR_NMI, on_nmi);
	gate(VECTOR_PF, on_page_fault);
	gate(VECTOR_FORGET, on_forget);
	gate(VECTOR_WAKE, on_wake);
	send(0, OTHERS | INIT);
	send(0, OTHERS | STARTUP | TRAMPOLINE_PAGE);
	wait_for(&started, cpus);
}

void smp_main(void);

void smp_main(void)
{
	unsigned int cpu = *apic(APIC_ID) >> 24;
	const char *at = command_line;
	const struct test *test;
	unsigned int rounds;

	if (cpu == 0)
		start_the_others();
	interrupts_on();
	while (*at && *at != ' ') /* the kernel's name */
		at++;
	while ((test = next_test(&at, &rounds))) {
		meet();
		x = y = 0;
		meet();
		if (!test->run(cpu, rounds))
			failed = true;
		meet();
		if (cpu == 0) {
			print(test->name);
			print(failed ? " FAILED\n" : " passed\n");
		}
	}
	meet();
	if (cpu == 0)
		out8(0xf4, *at ? 2 : failed);
	for (;;)
		__asm__ volatile("hlt");
}
