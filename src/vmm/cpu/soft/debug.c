/* debug: see the header. */
#include "vmm/cpu/soft/debug.h"

static bool enabled(const struct soft *c, unsigned int i)
{
	return c->debug.dr7 >> (i * 2) & 3;
}

static enum breakpoint kind(const struct soft *c, unsigned int i)
{
	return c->debug.dr7 >> (16 + i * 4) & 3;
}

static uint64_t length(const struct soft *c, unsigned int i)
{
	static const uint8_t sizes[] = {1, 2, 8, 4};

	return sizes[c->debug.dr7 >> (18 + i * 4) & 3];
}

static uint64_t start(const struct soft *c, unsigned int i)
{
	return c->debug.dr[i] & ~(length(c, i) - 1);
}

bool debug_watches_page(const struct soft *c, uint64_t page)
{
	if (likely(!(c->debug.dr7 & DR7_ENABLED)))
		return false;
	for (unsigned int i = 0; i < 4; i++) {
		if (enabled(c, i) && (kind(c, i) & 1) && (start(c, i) & ~0xfffull) == page)
			return true;
	}
	return false;
}

void debug_check_data(struct soft *c, uint64_t address, unsigned int size, enum soft_access access)
{
	for (unsigned int i = 0; i < 4; i++) {
		enum breakpoint k = kind(c, i);

		if (!enabled(c, i) ||
		    !(k == BREAK_ACCESS || (k == BREAK_WRITE && access != ACCESS_READ)))
			continue;
		if (address < start(c, i) + length(c, i) && start(c, i) < address + size)
			c->debug.pending |= 1ull << i;
	}
	if (c->debug.pending)
		soft_request(c, REQUEST_TRAP);
}

void debug_report(struct soft *c)
{
	c->debug.dr6 = (c->debug.dr6 & ~0xfull) | c->debug.pending;
	c->debug.pending = 0;
}

void debug_check_io(struct soft *c, uint16_t port, unsigned int size)
{
	if (!(c->cr4 & CR4_DE) || !(c->debug.dr7 & DR7_ENABLED))
		return;
	for (unsigned int i = 0; i < 4; i++) {
		if (enabled(c, i) && kind(c, i) == BREAK_IO && port < start(c, i) + length(c, i) &&
		    start(c, i) < (uint64_t)port + size)
			c->debug.pending |= 1ull << i;
	}
	if (c->debug.pending)
		soft_request(c, REQUEST_TRAP);
}

uint64_t debug_check_execute(const struct soft *c, uint64_t address)
{
	uint64_t hit = 0;

	for (unsigned int i = 0; i < 4; i++) {
		if (enabled(c, i) && kind(c, i) == BREAK_EXECUTE && c->debug.dr[i] == address)
			hit |= 1ull << i;
	}
	return hit;
}

bool debug_has_execute(const struct soft *c)
{
	if (likely(!(c->debug.dr7 & DR7_ENABLED)))
		return false;
	for (unsigned int i = 0; i < 4; i++) {
		if (enabled(c, i) && kind(c, i) == BREAK_EXECUTE)
			return true;
	}
	return false;
}
