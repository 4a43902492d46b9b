/* tsc: the rate of the host's time-stamp counter, which guests see through to. */
#pragma once

#include <stdint.h>

/* In kHz; measured once against the monotonic clock, which takes up to 4 ms. Any thread. */
uint64_t tsc_khz(void);
