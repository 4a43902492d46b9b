/*
 * debug: the debug registers (Intel SDM volume 3, chapter 17).
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

#define DR7_ENABLED 0xffull
#define DR7_GD 0x2000ull
#define DR6_BS 0x4000ull
#define DR6_BD 0x2000ull
#define DR6_FIXED 0xffff0ff0ull
#define DR7_FIXED 0x400ull

enum breakpoint { BREAK_EXECUTE, BREAK_WRITE, BREAK_IO, BREAK_ACCESS };

/* Whether a data breakpoint lies in the page: it then stays out of the TLB. */
bool debug_watches_page(const struct soft *c, uint64_t page);
/* Remembers the breakpoints that this access hits; the #DB comes after the instruction. */
void debug_check_data(struct soft *c, uint64_t address, unsigned int size, enum soft_access access);
/* Moves what is remembered to DR6, for the #DB that follows. */
void debug_report(struct soft *c);
void debug_check_io(struct soft *c, uint16_t port, unsigned int size);
/* Bits for DR6 of the instruction breakpoints at this linear address. */
uint64_t debug_check_execute(const struct soft *c, uint64_t address);
bool debug_has_execute(const struct soft *c);
