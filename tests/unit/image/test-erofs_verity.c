/* The fs-verity digest. The expected ones are what fsverity-utils says of the same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "image/erofs_verity.h"

/* cmocka has a macro of the name of our function. */
#include <cmocka.h>

enum { BLOCK = 4096 };

/* Files in which all bytes of a block are the block's number. */
static const struct {
	uint64_t size;
	const char *hex;
} files[] = {
	{0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"},
	{1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"},
	{4095, "5372beb83c78537c8970c8361e3254119fafdf1763854ecd57d3f0fe2da7c719"},
	{4096, "babc284ee4ffe7f449377fbf6692715b43aec7bc39c094a95878904d34bac97e"},
	{4097, "32db7cd92117ab6cf1e605f0e9d65daa95818e1112e01c9528415ff32efd35c0"},
	{8192, "4df2aefd8c2a9101d1d8770dca3ede418232eabce766bb8e020395eae2e97103"},
	{520197, "a2058495d1e5cd60ea1b9f83b4a711310ff485905f5d5fe7a67b97c532f4096c"},
	{524288, "b35207050154c973c3fac454d800ec4a8dd0cc84612d9f9f42187b0d22388869"},
	{524289, "428ee9c6c7eac69722b72735422faacf9fc1ea8c0c28351c46081c399be1ca8d"},
	{528384, "9d22e5a8cfb225d5a6b264b0e3a2aadd5ea1368a3c89bf11db3b49c63ced0ffd"},
	{1048576, "7701416f2470c0df1da6882c95ff4a3322a6f695b9983df9fff69507b85d91c4"},
	{1052681, "272d737126bb7b6582a01ede9ffb06b5c7ad455a221bcf176a8dec963bc10455"},
	{67108864, "d25f79dd72e4c4c7c4f1563cfbf14a0f95aaf330ac002e391bdd256936cc9044"},
	{67108865, "91b30ded9f29e50f98508f1f6467bbfd941b4c53bd3dd92844f6b228397bd868"},
	{68157517, "440de3bf6ed761f9205c9c0274e0ecd0ee26815e2efc563417c7e90182e6b95d"},
};

static void fill(unsigned char *block, uint64_t number)
{
	memset(block, (int)(number & 255), BLOCK);
}

static void reads_files_of_any_size(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(files); i++) {
		own_fd int fd = memfd_create("verity", MFD_CLOEXEC);
		unsigned char block[BLOCK];
		struct digest d;

		for (uint64_t at = 0; at < files[i].size; at += BLOCK) {
			uint64_t left = files[i].size - at;

			fill(block, at / BLOCK);
			assert_int_equal(
				fd_write_full(fd, block, left < BLOCK ? (size_t)left : BLOCK), 0);
		}
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		assert_int_equal(verity_of_fd(fd, &d), 0);
		assert_string_equal(digest_hex(&d), files[i].hex);
	}
}

static void takes_the_first_block_last(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(files); i++) {
		unsigned char block[BLOCK];
		struct verity *v;
		struct digest d;

		if (files[i].size == 0 || files[i].size % BLOCK != 0)
			continue;
		v = verity_create();
		for (uint64_t k = 1; k < files[i].size / BLOCK; k++) {
			fill(block, k);
			/* Some blocks are zeros, which have a way of their own. */
			if (k % 256 == 0)
				verity_add_zeros(v, 1);
			else
				verity_add(v, block, 1);
		}
		fill(block, 0);
		verity_end(v, block, &d);
		verity_destroy(v);
		assert_string_equal(digest_hex(&d), files[i].hex);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_files_of_any_size),
		cmocka_unit_test(takes_the_first_block_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
