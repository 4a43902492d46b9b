/*
 * swap: exchanges two names as fast as it can, until one of them is gone: `swap A B [C D ...]`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	for (int i = 1;; i = i + 3 < argc ? i + 2 : 1)
		if (i + 1 >= argc ||
		    renameat2(AT_FDCWD, argv[i], AT_FDCWD, argv[i + 1], RENAME_EXCHANGE) < 0)
			return 0;
}
