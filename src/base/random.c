/* random: see random.h. */
#include "base/random.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/types.h>

#include "base/hex.h"

void random_bytes(void *out, size_t len)
{
	uint8_t *p = out;

	while (len > 0) {
		/* Never fails for lengths up to 256 once the pool is initialised. */
		ssize_t n = getrandom(p, len > 256 ? 256 : len, 0);

		if (n <= 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}

void random_hex(char *out, size_t len)
{
	uint8_t bytes[64];

	while (len > 0) {
		size_t n = len > sizeof(bytes) ? sizeof(bytes) : len;

		random_bytes(bytes, n);
		hex_format(bytes, n, out);
		out += 2 * n;
		len -= n;
	}
}
