/* fixture: see fixture.h. */
#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "tar/write.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void open_all(struct fixture *f)
{
	own_mem char *db_path = str_format("%s/berth.db", f->path);
	struct error err = {0};

	f->root_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->root_fd >= 0);
	f->state_fd = dir_open(f->root_fd, "state", 0700, &err);
	assert_true(f->state_fd >= 0);
	assert_int_equal(db_open(db_path, &f->db, &err), 0);
	assert_int_equal(image_store_open(f->root_fd, f->state_fd, f->db, &f->store, &err), 0);
}

static void close_all(struct fixture *f)
{
	image_store_close(f->store);
	db_close(f->db);
	fd_close(&f->root_fd);
	fd_close(&f->state_fd);
}

void fixture_begin(struct fixture *f)
{
	strcpy(f->path, "/tmp/berth-image-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	open_all(f);
}

void fixture_end(struct fixture *f)
{
	close_all(f);
	assert_int_equal(tree_remove(AT_FDCWD, f->path, NULL), 0);
}

void fixture_reopen(struct fixture *f)
{
	close_all(f);
	open_all(f);
}

static int write_fd(const void *bytes, size_t len, void *data, struct error *err)
{
	(void)err;
	return fd_write_full(*(int *)data, bytes, len);
}

int fixture_tar(const char *text)
{
	int fd = memfd_create("tar", MFD_CLOEXEC);
	struct tar_writer w = {.fn = write_fd, .data = &fd};
	const struct tar_entry entry = {
		.type = TAR_FILE, .path = "file", .mode = 0644, .size = strlen(text)};

	assert_true(fd >= 0);
	assert_int_equal(tar_write_entry(&w, &entry, NULL), 0);
	assert_int_equal(tar_write_data(&w, text, strlen(text), NULL), 0);
	assert_int_equal(tar_write_end(&w, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

void fixture_import(struct fixture *f, const char *name, const char *text, struct digest *ret_id)
{
	own_image struct image *image = NULL;
	own_fd int fd = fixture_tar(text);
	struct error err = {0};
	struct image_import options = {.name = name, .platform = "linux/amd64"};

	if (image_import(f->store, fd, &options, &image, &err) < 0)
		fail_msg("%s", err.text);
	*ret_id = image->id;
}

size_t fixture_count(struct fixture *f, const char *path)
{
	own_fd int fd = openat(f->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 3));
	const struct dirent *entry;
	size_t count = 0;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	return count;
}

static void show_problem(const char *problem, bool repaired, void *data)
{
	(void)data;
	print_message("# %s%s\n", problem, repaired ? " (repaired)" : "");
}

int fixture_check(struct fixture *f, enum image_check_flags flags)
{
	struct error err = {0};
	int rc = image_store_check(f->store, flags, show_problem, NULL, &err);

	if (rc < 0)
		fail_msg("%s", err.text);
	return rc;
}
