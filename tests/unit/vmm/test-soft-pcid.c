/* What the software CPU keeps of translations when address spaces change (SDM volume 3, 4.10): random loads of
 * CR3, INVPCID, INVLPG and changes of page tables, with accesses of user code and of its kernel in between. Each
 * must find a page that the tables name now, or that could still be cached by what the manual allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/guest.h"
#include "vmm/cpu/soft/soft_priv.h"

#include <cmocka.h>

enum {
	ROWS = 0x800000, /* of struct row, physical */
	ROW_COUNT = 20000,
	FRAMES = 0x240000,
	FRAME_COUNT = 8,
	PAGES = 3, /* from GUEST_DATA + 4096 on; the last one is global */
	PT_DATA = 0x5000,
	ROOT = 0x1000,
	SEEDS = 4,
};
enum operation {
	INVPCID_ADDRESS,
	INVPCID_CONTEXT,
	INVPCID_ALL,
	INVPCID_ALL_LOCAL,
	NOTHING,
	INVLPG,
	TOGGLE_PGE
};

/* The program's: first *pte = value, then CR3 if it is not 0, then the operation, then the accesses to `page`. */
struct row {
	uint64_t pte, value, cr3, operation, pcid, linear, page;
	uint32_t executed, read, read_by_kernel, unused[15];
};
_Static_assert(sizeof(struct row) == 128, "known to the program");

extern const uint8_t program_begin[], program_end[];
__asm__(".pushsection .rodata\n.intel_syntax noprefix\nprogram_begin:\n"
	"mov ecx, 0xc0000082; lea rax, [rip + 2f]; mov rdx, rax; shr rdx, 32; wrmsr\n"
	"mov ecx, 0xc0000084; xor eax, eax; xor edx, edx; wrmsr\n"
	"mov ecx, 0xc0000081; mov edx, 0x001b0008; wrmsr\n"
	"mov rax, cr4; bts rax, 17; bts rax, 7; mov cr4, rax; mov ebx, 0x800000; jmp 3f\n"
	"2: mov [rbx + 56], eax; mov [rbx + 60], edx; mov [rbx + 64], r8d; add rbx, 128\n"
	"3: mov rdi, [rbx]; test rdi, rdi; jz 9f; mov rax, [rbx + 8]; mov [rdi], rax\n"
	"mov rax, [rbx + 16]; test rax, rax; jz 4f; mov cr3, rax\n"
	"4: mov rax, [rbx + 24]; cmp eax, 4; je 7f; ja 5f; invpcid rax, [rbx + 32]; jmp 7f\n"
	"5: cmp eax, 6; je 6f; mov rdi, [rbx + 40]; invlpg [rdi]; jmp 7f\n"
	"6: mov rcx, cr4; btc rcx, 7; mov cr4, rcx; btc rcx, 7; mov cr4, rcx\n"
	"7: mov rsi, [rbx + 48]; mov r8d, [rsi + 1]; lea rcx, [rip + 8f]; mov r11d, 2\n"
	"mov esp, 0x10000800; sysretq\n"
	"8: call rsi; mov edx, [rsi + 1]; syscall\n"
	"9: int3\nprogram_end:\n.att_syntax prefix\n.popsection\n");

static const uint16_t pcids[SOFT_PCIDS + 2] = {0, 1, 2, 3, 5, 0xfff};

static uint64_t page_address(unsigned int page)
{
	return GUEST_DATA + (page + 1) * 4096ull;
}

static void choose_row(struct row *r, unsigned int *current)
{
	const unsigned int page = (unsigned int)random() % PAGES;
	const unsigned int frame = (unsigned int)random() % FRAME_COUNT;

	*r = (struct row){.operation = NOTHING};
	r->pte = PT_DATA + (page + 1) * 8;
	r->value = (FRAMES + frame * 4096) | 7 | (page == PAGES - 1 ? 0x100 : 0);
	if (random() % 3 == 0) {
		*current = (unsigned int)random() % array_size(pcids);
		r->cr3 = ROOT | pcids[*current] | (random() % 4 ? 1ull << 63 : 0);
	}
	if (random() % 4 == 0)
		r->operation = (uint64_t)random() % (random() % 8 ? INVPCID_ALL : TOGGLE_PGE + 1);
	else if (random() % 4 == 0)
		r->operation = INVLPG;
	r->pcid = pcids[(unsigned int)random() % array_size(pcids)];
	r->linear = page_address((unsigned int)random() % PAGES);
	r->page = page_address((unsigned int)random() % PAGES);
}

/* Bits of frames that may be cached. */
struct model {
	uint32_t local[array_size(pcids)][PAGES], global;
	unsigned int current;
	uint32_t now[PAGES];
};

static unsigned int number_of(uint64_t pcid)
{
	unsigned int i = 0;

	while (pcids[i] != pcid)
		i++;
	return i;
}

static void apply(struct model *m, const struct row *r)
{
	const unsigned int linear = (unsigned int)((r->linear - page_address(0)) / 4096);

	m->now[(r->pte - PT_DATA) / 8 - 1] = 1u << ((r->value - FRAMES) / 4096);
	if (r->cr3) {
		m->current = number_of(r->cr3 & 0xfff);
		if (!(r->cr3 >> 63))
			memset(m->local[m->current], 0, sizeof(m->local[0]));
	}
	switch ((enum operation)r->operation) {
	case INVPCID_ADDRESS:
		m->local[number_of(r->pcid)][linear] = 0;
		break;
	case INVPCID_CONTEXT:
		memset(m->local[number_of(r->pcid)], 0, sizeof(m->local[0]));
		break;
	case INVLPG:
		m->local[m->current][linear] = 0;
		if (linear == PAGES - 1)
			m->global = 0;
		break;
	case INVPCID_ALL:
	case TOGGLE_PGE:
		m->global = 0;
		__attribute__((fallthrough));
	case INVPCID_ALL_LOCAL:
		memset(m->local, 0, sizeof(m->local));
		break;
	case NOTHING:
		break;
	}
}

static void check_row(struct model *m, const struct row *r, unsigned int number)
{
	const unsigned int page = (unsigned int)((r->page - page_address(0)) / 4096);
	const uint32_t seen = 1u << r->executed | 1u << r->read | 1u << r->read_by_kernel;
	uint32_t *cached;

	apply(m, r);
	cached = page == PAGES - 1 ? &m->global : &m->local[m->current][page];
	*cached |= m->now[page];
	if (seen & ~*cached)
		fail_msg("row %u: executed %u, read %u, by the kernel %u; allowed are %#x", number,
			 r->executed, r->read, r->read_by_kernel, *cached);
}

static void prepare(struct guest *g, struct row *rows)
{
	unsigned int current = 0;

	for (uint32_t i = 0; i < FRAME_COUNT; i++) {
		uint8_t code[] = {0xb8, (uint8_t)i, 0, 0, 0, 0xc3}; /* mov eax, i; ret */

		memcpy(g->memory + FRAMES + i * 4096, code, sizeof(code));
	}
	for (unsigned int i = 0; i < ROW_COUNT; i++)
		choose_row(&rows[i], &current);
	rows[ROW_COUNT].pte = 0;
	for (unsigned int i = 0; i < PAGES; i++)
		memcpy(g->memory + PT_DATA + (i + 1) * 8, &(uint64_t){FRAMES | 7}, 8);
}

static void translations_are_forgotten_as_the_manual_says(void **unused)
{
	(void)unused;
	for (unsigned int seed = 1; seed <= SEEDS; seed++) {
		struct guest_fault fault;
		struct cpu_state state;
		struct guest g;
		struct row *rows;
		struct model model = {.now = {1, 1, 1}};

		guest_open(&g);
		rows = (struct row *)(void *)(g.memory + ROWS);
		srandom(seed);
		prepare(&g, rows);
		guest_load(&g, GUEST_LONG_KERNEL, program_begin,
			   (uint64_t)(program_end - program_begin));
		guest_start_state(&g, GUEST_LONG_KERNEL, &state);
		assert_int_equal(g.vm->accel->set_state(g.vcpu, &state), 0);
		assert_true(guest_run_to_fault(&g, &state, &fault));
		assert_int_equal(fault.vector, 3);
		for (unsigned int i = 0; i < ROW_COUNT; i++)
			check_row(&model, &rows[i], i);
		guest_close(&g);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(translations_are_forgotten_as_the_manual_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
