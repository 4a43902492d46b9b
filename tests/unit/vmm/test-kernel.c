/* The store of guest kernels, with real files in a directory of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "vmm/kernel/kernel_priv.h"

#include <cmocka.h>

static char root[] = "/tmp/test-kernel-XXXXXX";

static int set_up(void **state)
{
	(void)state;
	return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	return tree_remove(AT_FDCWD, root, NULL);
}

static void put(const char *path, const void *data, size_t len)
{
	assert_int_equal(file_write(AT_FDCWD, path, data, len, 0644, FILE_WRITE_PLAIN, NULL), 0);
}

/* A module as far as its dependencies go: an ELF file with .modinfo and the sections' names. */
static size_t make_module(char *out, const char *info, size_t info_len)
{
	static const char names[] = "\0.modinfo\0.shstrtab";
	Elf64_Ehdr header = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64},
		.e_shoff = 1024,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = 3,
		.e_shstrndx = 2,
	};
	Elf64_Shdr sections[3] = {
		[1] = {.sh_name = 1,
		       .sh_type = SHT_PROGBITS,
		       .sh_offset = 512,
		       .sh_size = info_len},
		[2] = {.sh_name = 10,
		       .sh_type = SHT_STRTAB,
		       .sh_offset = 256,
		       .sh_size = sizeof(names)},
	};

	memset(out, 0, 2048);
	memcpy(out, &header, sizeof(header));
	memcpy(out + 256, names, sizeof(names));
	memcpy(out + 512, info, info_len);
	memcpy(out + 1024, sections, sizeof(sections));
	return 1024 + sizeof(sections);
}

static void put_module(const char *dir, const char *file, const char *info, size_t info_len)
{
	own_mem char *path = str_format("%s/%s", dir, file);
	char module[2048];
	size_t size = make_module(module, info, info_len);

	put(path, module, size);
}

static void reads_modinfo_within_bounds(void **state)
{
	static const char info[] = "license=GPL\0depends=a,b\0softdep=pre: c";
	char module[2048];
	size_t size = make_module(module, info, sizeof(info));
	Elf64_Ehdr header;
	Elf64_Shdr section;

	(void)state;
	assert_string_equal(kernel_modinfo(module, size, "depends"), "a,b");
	assert_null(kernel_modinfo(module, size, "depend"));
	assert_null(kernel_modinfo(module, size, "nothing"));
	for (size_t cut = 0; cut < size; cut++) {
		own_mem char *part = malloc(cut + 1); /* its end is seen by the sanitizer */

		memcpy(part, module, cut);
		assert_null(kernel_modinfo(part, cut, "depends"));
	}
	/* A section that lies elsewhere, or ends there. */
	for (unsigned int i = 0; i < 2; i++) {
		memcpy(&section, module + 1024 + sizeof(section), sizeof(section));
		section.sh_offset = i ? 1 << 30 : 512;
		section.sh_size = i ? 1 : 1 << 30;
		memcpy(module + 1024 + sizeof(section), &section, sizeof(section));
		assert_null(kernel_modinfo(module, size, "depends"));
	}
	memcpy(&header, module, sizeof(header));
	header.e_shoff = UINT64_MAX - 8;
	memcpy(module, &header, sizeof(header));
	assert_null(kernel_modinfo(module, size, "depends"));
}

static void orders_modules_by_dependency(void **state)
{
	own_mem char *dir = str_format("%s/modules", root);
	own_buf struct buf archive = {0};
	own_strv char **names = NULL;
	own_mem char *all = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(mkdir(dir, 0755), 0);
	put_module(dir, "virtio-rng.ko", "depends=virtio", 15);
	put_module(dir, "virtio.ko", "depends=virtio_ring", 20);
	put_module(dir, "virtio_ring.ko", "depends=", 9);
	put_module(dir, "overlay.ko", "depends=\0softdep=pre: virtio-not-there lower", 45);
	put_module(dir, "lower.ko", "depends=virtio_ring", 20);
	put_module(dir, "unneeded.ko", "depends=", 9);
	assert_int_equal(kernel_modules_add(dir, &archive, &names, &err), 0);
	all = strv_join(names, " ");
	assert_string_equal(all, "virtio_ring virtio virtio_rng lower overlay");
	assert_non_null(memmem(archive.data, archive.len, "modules/virtio_rng.ko", 22));
	assert_non_null(memmem(archive.data, archive.len,
			       "virtio_ring.ko\nvirtio.ko\nvirtio_rng.ko\nlower.ko\noverlay.ko\n",
			       60));
}

static void refuses_a_circle_of_modules(void **state)
{
	own_mem char *dir = str_format("%s/circle", root);
	own_buf struct buf archive = {0};
	own_strv char **names = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(mkdir(dir, 0755), 0);
	put_module(dir, "loop.ko", "depends=erofs", 14);
	put_module(dir, "erofs.ko", "depends=loop", 13);
	assert_int_equal(kernel_modules_add(dir, &archive, &names, &err), -ELOOP);
	assert_non_null(strstr(err.text, "circle"));
}

static void keeps_finds_lists_and_removes(void **state)
{
	static const char elf[] = "\177ELF...Linux version 6.1.0-test (who@where) ...";
	own_mem char *file = str_format("%s/vmlinux-1", root);
	struct kernel_add add = {0}, named = {.name = "other", .init = file};
	own_kernel struct kernel *first = NULL, *second = NULL, *found = NULL;
	own_kernel_list struct kernel **list = NULL;
	struct error err = {0};

	(void)state;
	put(file, elf, sizeof(elf));
	assert_int_equal(kernel_add_file(root, file, &add, &first, &err), 0);
	assert_string_equal(first->name, "vmlinux-1");
	assert_string_equal(first->version, "6.1.0-test");
	assert_string_equal(first->source, file);
	assert_null(first->initramfs);
	assert_int_equal(kernel_add_file(root, file, &add, &second, &err), -EEXIST);
	error_clear(&err);
	assert_int_equal(kernel_add_file(root, file, &named, &second, &err), 0);
	assert_int_equal(access(second->initramfs, R_OK), 0);
	assert_int_equal(kernel_list(root, &list, &err), 0);
	assert_string_equal(list[0]->name, "other");
	assert_string_equal(list[1]->name, "vmlinux-1");
	assert_null(list[2]);
	assert_int_equal(kernel_remove(root, "other", &err), 0);
	assert_int_equal(kernel_find(root, "other", &found, &err), -ENOENT);
	error_clear(&err);
	assert_int_equal(kernel_remove(root, "../kernels", &err), -ENOENT);
}

static void a_failure_leaves_nothing(void **state)
{
	own_mem char *file = str_format("%s/text", root),
		     *left = str_format("%s/kernels/text", root);
	own_mem char *old = str_format("%s/kernels/.work-0123", root);
	struct kernel_add add = {0};
	own_kernel struct kernel *kernel = NULL;
	struct error err = {0};

	(void)state;
	put(file, "no kernel at all", 16);
	(void)!mkdir(old, 0755); /* as a killed command leaves it */
	assert_int_equal(kernel_add_file(root, file, &add, &kernel, &err), -ENOEXEC);
	assert_int_equal(access(left, F_OK), -1);
	assert_int_equal(access(old, F_OK), -1);
}

static void knows_good_names(void **state)
{
	static const struct {
		const char *name;
		bool valid;
	} cases[] = {
		{"debian-6.1", true}, {"a", true},   {"A_b.c", true}, {"", false},
		{".lock", false},     {"-x", false}, {"a/b", false},  {"a b", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(kernel_name_valid(cases[i].name), cases[i].valid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_modinfo_within_bounds),
		cmocka_unit_test(orders_modules_by_dependency),
		cmocka_unit_test(refuses_a_circle_of_modules),
		cmocka_unit_test(keeps_finds_lists_and_removes),
		cmocka_unit_test(a_failure_leaves_nothing),
		cmocka_unit_test(knows_good_names),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
