/* Tests of image/store.h: naming, finding, removing, checking, and what crashes leave. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "fixture.h"
#include "tar/write.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int begin(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	fixture_begin(f);
	*state = f;
	return 0;
}

static int end(void **state)
{
	fixture_end(*state);
	free(*state);
	return 0;
}

static void opening_makes_nothing(void **state)
{
	struct fixture *f = *state;
	own_image struct image *image = NULL;
	struct error err = {0};

	assert_int_equal(image_find(f->store, "busybox", &image, &err), -ENOENT);
	assert_string_equal(err.hint, "fetch it: berth pull busybox");
	/* berth.db, its journal and the state directory of the fixture */
	assert_int_equal(fixture_count(f, "blobs"), 0);
	assert_int_equal(faccessat(f->root_fd, "layers", F_OK, 0), -1);
}

static void finds_by_name_digest_and_id(void **state)
{
	struct fixture *f = *state;
	struct digest id = {0};
	struct error err = {0};
	char prefix[16];
	const char *names[] = {"tool",  "tool:latest",   "docker.io/library/tool",
			       id.text, digest_hex(&id), prefix};

	fixture_import(f, "tool", "x", &id);
	snprintf(prefix, sizeof(prefix), "%.12s", digest_hex(&id));
	for (size_t i = 0; i < array_size(names); i++) {
		own_image struct image *image = NULL;

		assert_int_equal(image_find(f->store, names[i], &image, &err), 0);
		assert_string_equal(image->id.text, id.text);
		assert_int_equal(image->layers_count, 1);
	}
}

static void a_near_name_is_offered(void **state)
{
	struct fixture *f = *state;
	own_image struct image *image = NULL;
	struct error err = {0};
	struct digest id;

	fixture_import(f, "busybox", "x", &id);
	assert_int_equal(image_find(f->store, "bussybox", &image, &err), -ENOENT);
	assert_non_null(strstr(err.hint, "did you mean \"busybox:latest\"?"));
	memset(&err, 0, sizeof(err));
	assert_int_equal(image_find(f->store, "busybox:1.36", &image, &err), -ENOENT);
	assert_non_null(strstr(err.hint, "did you mean \"busybox:latest\"?"));
}

static void equal_input_gives_an_equal_image(void **state)
{
	struct fixture *f = *state;
	struct digest a, b, c;

	fixture_import(f, "a", "same", &a);
	fixture_import(f, "b", "same", &b);
	fixture_import(f, "c", "other", &c);
	assert_string_equal(a.text, b.text);
	assert_string_not_equal(a.text, c.text);
	assert_int_equal(fixture_count(f, "layers"), 2);
	assert_int_equal(fixture_count(f, "blobs/sha256"), 6);
}

struct told {
	int untagged, deleted;
};

static void tell(bool deleted, const char *what, void *data)
{
	struct told *told = data;

	(void)what;
	if (deleted)
		told->deleted++;
	else
		told->untagged++;
}

static void removing_takes_names_then_the_image(void **state)
{
	struct fixture *f = *state;
	struct told told = {0};
	struct error err = {0};
	struct digest id;

	fixture_import(f, "a", "x", &id);
	assert_int_equal(image_tag(f->store, "a", "b:1", &err), 0);
	assert_int_equal(image_remove(f->store, id.text, 0, tell, &told, &err), -EBUSY);
	assert_non_null(strstr(err.text, "several names"));
	memset(&err, 0, sizeof(err));
	assert_int_equal(image_remove(f->store, "a", 0, tell, &told, &err), 0);
	assert_int_equal(told.untagged, 1);
	assert_int_equal(told.deleted, 0);
	assert_int_equal(fixture_count(f, "layers"), 1);
	assert_int_equal(image_remove(f->store, "b:1", 0, tell, &told, &err), 0);
	assert_int_equal(told.untagged, 2);
	assert_int_equal(told.deleted, 1);
	assert_int_equal(fixture_count(f, "layers"), 0);
	assert_int_equal(fixture_count(f, "blobs/sha256"), 0);
	assert_int_equal(fixture_check(f, IMAGE_CHECK_CONTENT), 0);
}

static void shared_parts_stay(void **state)
{
	struct fixture *f = *state;
	own_image struct image *image = NULL;
	own_fd int tar = fixture_tar("shared");
	struct image_import options = {.name = "b", .platform = "linux/arm64"};
	struct error err = {0};
	struct digest id;

	fixture_import(f, "a", "shared", &id);
	/* The same layer under another configuration. */
	assert_int_equal(image_import(f->store, tar, &options, &image, &err), 0);
	assert_string_not_equal(image->id.text, id.text);
	assert_int_equal(fixture_count(f, "layers"), 1);
	assert_int_equal(image_remove(f->store, "a", 0, NULL, NULL, &err), 0);
	assert_int_equal(fixture_count(f, "layers"), 1);
	assert_int_equal(fixture_count(f, "blobs/sha256"), 3);
	assert_int_equal(fixture_check(f, IMAGE_CHECK_CONTENT), 0);
}

static void an_image_in_use_stays(void **state)
{
	struct fixture *f = *state;
	own_image struct image *image = NULL;
	struct error err = {0};
	struct digest id;

	fixture_import(f, "a", "x", &id);
	assert_int_equal(image_use_add(f->store, &id, "workload/w1", &err), 0);
	assert_int_equal(image_remove(f->store, "a", 0, NULL, NULL, &err), -EBUSY);
	assert_non_null(strstr(err.text, "workload w1"));
	memset(&err, 0, sizeof(err));
	/* Forced, it loses its name only. */
	assert_int_equal(image_remove(f->store, "a", IMAGE_REMOVE_FORCE, NULL, NULL, &err), 0);
	assert_int_equal(image_find(f->store, "a", &image, NULL), -ENOENT);
	assert_int_equal(image_find(f->store, id.text, &image, &err), 0);
	assert_int_equal(fixture_count(f, "layers"), 1);
	assert_int_equal(image_use_remove(f->store, "workload/w1", &err), 0);
	assert_int_equal(image_remove(f->store, id.text, 0, NULL, NULL, &err), 0);
	assert_int_equal(fixture_count(f, "layers"), 0);
}

static void prune_takes_what_has_no_name(void **state)
{
	struct fixture *f = *state;
	uint64_t reclaimed = 0;
	struct error err = {0};
	struct told told = {0};
	struct digest id;

	fixture_import(f, "a", "first", &id);
	fixture_import(f, "a", "second", &id);
	fixture_import(f, "used", "third", &id);
	assert_int_equal(image_use_add(f->store, &id, "workload/w", &err), 0);
	assert_int_equal(image_prune(f->store, NULL, false, tell, &told, &reclaimed, &err), 0);
	assert_int_equal(told.deleted, 1);
	assert_true(reclaimed > 4096);
	assert_int_equal(fixture_count(f, "layers"), 2);
	assert_int_equal(image_prune(f->store, NULL, true, tell, &told, &reclaimed, &err), 0);
	assert_int_equal(told.deleted, 2);
	assert_int_equal(fixture_count(f, "layers"), 1);
}

static uint64_t bytes_below(struct fixture *f, const char *dir)
{
	own_mem char *command = str_format(
		"find %s/%s -type f -printf '%%s\\n' | awk '{n += $1} END {print n + 0}'", f->path,
		dir);
	own_file FILE *p = popen(command, "r");
	unsigned long long n = 0;

	assert_non_null(p);
	assert_int_equal(fscanf(p, "%llu", &n), 1);
	pclose(take(p));
	return n;
}

static void usage_is_exact(void **state)
{
	struct fixture *f = *state;
	struct image_usage usage;
	struct error err = {0};
	struct digest id, used;

	fixture_import(f, "a", "x", &id);
	fixture_import(f, "b", "y", &used);
	assert_int_equal(image_use_add(f->store, &used, "workload/w", &err), 0);
	assert_int_equal(image_usage(f->store, &usage, &err), 0);
	assert_int_equal(usage.images, 2);
	assert_int_equal(usage.active, 1);
	assert_int_equal(usage.size_bytes, bytes_below(f, "blobs") + bytes_below(f, "layers"));
	assert_true(usage.reclaimable_bytes > 0 && usage.reclaimable_bytes < usage.size_bytes);
}

static void corrupt(struct fixture *f, const char *pattern, const char *command)
{
	own_mem char *line = str_format("for f in %s/%s; do %s; done", f->path, pattern, command);

	assert_int_equal(system(line), 0);
}

static void check_finds_and_repairs(void **state)
{
	static const struct {
		const char *pattern, *command;
		bool needs_content;  /* found only by reading */
		bool image_survives; /* the repair keeps the image */
	} cases[] = {
		{"layers/*.erofs", "rm $f", false, true},
		{"layers/*.erofs", "truncate -s 100 $f", false, true},
		{"layers/*.erofs", "printf X | dd of=$f bs=1 seek=1500 conv=notrunc status=none",
		 true, true},
		{"blobs/sha256/*", "[ $(head -c2 $f | od -An -tx1 | tr -d ' ') != 1f8b ] || rm $f",
		 false, true},
		{"blobs/sha256/*", "grep -q schemaVersion $f && rm $f || true", false, false},
		{"blobs/sha256/*", "grep -q diff_ids $f && sed -i s/linux/Linux/ $f || true", true,
		 false},
		{"blobs/sha256/", "echo > $f/stranger", false, true},
		{"blobs/sha256/",
		 "echo > $f/0000000000000000000000000000000000000000000000000000000000000000",
		 false, true},
	};
	struct fixture *f = *state;

	if (getuid() != 0) {
		print_message("SKIPPED: layer files are directories without root\n");
		skip();
	}
	for (size_t i = 0; i < array_size(cases); i++) {
		own_image struct image *image = NULL;
		struct error err = {0};
		struct digest id;
		int rc;

		print_message("# case %zu\n", i);
		fixture_import(f, "a", "text", &id);
		assert_int_equal(fixture_check(f, IMAGE_CHECK_CONTENT), 0);
		corrupt(f, cases[i].pattern, cases[i].command);
		if (cases[i].needs_content)
			assert_int_equal(fixture_check(f, 0), 0);
		assert_int_equal(fixture_check(f, IMAGE_CHECK_CONTENT), 1);
		assert_int_equal(fixture_check(f, IMAGE_CHECK_CONTENT | IMAGE_CHECK_REPAIR), 0);
		assert_int_equal(fixture_check(f, IMAGE_CHECK_CONTENT), 0);
		rc = image_find(f->store, "a", &image, &err);
		assert_int_equal(rc, cases[i].image_survives ? 0 : -ENOENT);
		memset(&err, 0, sizeof(err));
		if (rc == 0)
			assert_int_equal(image_remove(f->store, "a", 0, NULL, NULL, &err), 0);
		assert_int_equal(fixture_count(f, "layers"), 0);
		assert_int_equal(fixture_count(f, "blobs/sha256"), 0);
	}
}

static void a_damaged_part_in_use_is_reported_not_removed(void **state)
{
	struct fixture *f = *state;
	own_image struct image *image = NULL;
	struct error err = {0};
	struct digest id;

	fixture_import(f, "a", "text", &id);
	assert_int_equal(image_use_add(f->store, &id, "workload/w", &err), 0);
	corrupt(f, "blobs/sha256/*", "grep -q diff_ids $f && rm $f || true");
	assert_int_equal(fixture_check(f, IMAGE_CHECK_REPAIR), 1);
	assert_int_equal(image_find(f->store, "a", &image, &err), 0);
}

/* Imports in a child that is killed after `delay_us`. Returns true if it had ended before. */
static bool import_and_kill(struct fixture *f, unsigned int delay_us)
{
	struct timespec delay = {.tv_nsec = delay_us * 1000L};
	own_fd int tar = fixture_tar("killed");
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct fixture own = *f;
		struct digest id;

		/* A connection of its own: SQLite's does not survive a fork. */
		own.db = NULL;
		own.store = NULL;
		if (chdir(f->path) < 0 || db_open("berth.db", &own.db, NULL) < 0 ||
		    image_store_open(own.root_fd, own.state_fd, own.db, &own.store, NULL) < 0)
			_exit(2);
		fixture_import(&own, "killed", "killed", &id);
		_exit(0);
	}
	nanosleep(&delay, NULL);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status);
}

/* As the next commands do. The layer's process dies with its parent, but not in the same moment. */
static void recover(struct fixture *f)
{
	struct error err = {0};

	for (int i = 0; i < 200; i++) {
		assert_int_equal(image_store_recover(f->store, &err), 0);
		if (fixture_count(f, "ingest") == 0)
			return;
		usleep(10000);
	}
	fail_msg("temporary files of a dead command stay");
}

static void a_kill_at_any_moment_leaves_a_sound_store(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	unsigned int delay = 100;
	struct digest id;
	int killed = 0;

	fixture_import(f, "stays", "stays", &id);
	for (int i = 0; i < 60; i++) {
		own_image struct image *image = NULL;

		killed += !import_and_kill(f, delay);
		delay = delay < 60000 ? delay + delay / 8 : 100;
		fixture_reopen(f);
		recover(f);
		assert_int_equal(fixture_check(f, IMAGE_CHECK_CONTENT), 0);
		assert_int_equal(image_find(f->store, "stays", &image, &err), 0);
		if (i % 3 == 0 && image_remove(f->store, "killed", 0, NULL, NULL, &err) < 0)
			memset(&err, 0, sizeof(err));
	}
	print_message("# killed %d of 60\n", killed);
	assert_true(killed > 5);
	fixture_import(f, "killed", "killed", &id);
	assert_int_equal(fixture_check(f, IMAGE_CHECK_CONTENT), 0);
}

static void save_and_load_keep_the_image(void **state)
{
	static const enum image_archive formats[] = {IMAGE_ARCHIVE_DOCKER, IMAGE_ARCHIVE_OCI};
	struct fixture *f = *state;
	struct fixture other;
	char name[] = "host:1/a:b";
	char *names[] = {name, NULL};
	struct digest id;

	fixture_import(f, name, "text", &id);
	for (size_t i = 0; i < array_size(formats); i++) {
		own_mem char *path = str_format("%s/archive.tar", f->path);
		own_fd int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		own_image struct image *image = NULL;
		struct image_load options = {0};
		struct error err = {0};

		fixture_begin(&other);
		assert_int_equal(image_save(f->store, names, formats[i], fd, &err), 0);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		if (image_load(other.store, fd, &options, &err) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(image_find(other.store, name, &image, &err), 0);
		assert_string_equal(image->id.text, id.text);
		assert_int_equal(fixture_check(&other, IMAGE_CHECK_CONTENT), 0);
		fixture_end(&other);
	}
}

static void a_truncated_archive_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	char name[] = "a";
	char *names[] = {name, NULL};
	own_mem char *path = str_format("%s/archive.tar", f->path);
	own_fd int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct digest id;
	struct fixture other;
	struct stat st;

	fixture_import(f, "a", "text", &id);
	assert_int_equal(image_save(f->store, names, IMAGE_ARCHIVE_OCI, fd, NULL), 0);
	assert_int_equal(fstat(fd, &st), 0);
	fixture_begin(&other);
	for (off_t len = st.st_size - 1536; len > 0; len -= 512) {
		struct image_load options = {0};
		struct error err = {0};

		assert_int_equal(ftruncate(fd, len), 0);
		assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
		assert_true(image_load(other.store, fd, &options, &err) < 0);
		assert_int_not_equal(err.text[0], '\0');
		assert_int_equal(fixture_count(&other, "ingest"), 0);
		assert_int_equal(fixture_count(&other, "blobs/sha256"), 0);
		assert_int_equal(fixture_count(&other, "layers"), 0);
	}
	fixture_end(&other);
}

static void a_wrong_layer_is_refused(void **state)
{
	struct fixture *f = *state;
	own_mem char *command = str_format(
		"cd %s && mkdir x && cd x && "
		"printf '{\"rootfs\":{\"diff_ids\":[\"sha256:%064d\"]},\"os\":\"linux\"}' 1 >c.json && "
		"echo hi >file && tar cf l.tar file && "
		"echo '[{\"Config\":\"c.json\",\"RepoTags\":[\"w:1\"],\"Layers\":[\"l.tar\"]}]' "
		">manifest.json && tar cf ../w.tar c.json l.tar manifest.json && cd .. && rm -r x",
		f->path, 0);
	own_mem char *path = str_format("%s/w.tar", f->path);
	struct image_load options = {0};
	struct error err = {0};
	own_fd int fd = -1;

	assert_int_equal(system(command), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(image_load(f->store, fd, &options, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "was promised"));
	assert_int_equal(fixture_count(f, "layers"), 0);
	assert_int_equal(fixture_count(f, "blobs/sha256"), 0);
	assert_int_equal(fixture_count(f, "ingest"), 0);
}

static void garbage_is_no_archive(void **state)
{
	static const char *const texts[] = {"", "x",
					    "not a tar at all, but long enough to be read as one"};
	struct fixture *f = *state;

	for (size_t i = 0; i < array_size(texts); i++) {
		own_mem char *path = str_format("%s/g", f->path);
		struct image_load options = {0};
		struct error err = {0};
		own_fd int fd = -1;

		assert_int_equal(file_write(AT_FDCWD, path, texts[i], strlen(texts[i]), 0600,
					    FILE_WRITE_PLAIN, NULL),
				 0);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(image_load(f->store, fd, &options, &err), -EBADMSG);
	}
}

static int put_bytes(const void *bytes, size_t len, void *data, struct error *err)
{
	(void)err;
	return fd_write_full(*(int *)data, bytes, len);
}

/* Loads an archive of this entry and a manifest.json that asks for a file without a name. */
static void load_hostile(struct fixture *f, const struct tar_entry *entry, struct error *err)
{
	static const char manifest[] = "[{\"Config\":\"\",\"Layers\":[]}]";
	const struct tar_entry list = {.type = TAR_FILE,
				       .path = "manifest.json",
				       .mode = 0644,
				       .size = sizeof(manifest) - 1};
	own_fd int fd = memfd_create("archive", MFD_CLOEXEC);
	struct tar_writer w = {.fn = put_bytes, .data = &fd};
	struct image_load options = {0};

	assert_int_equal(tar_write_entry(&w, entry, NULL), 0);
	assert_int_equal(tar_write_entry(&w, &list, NULL), 0);
	assert_int_equal(tar_write_data(&w, manifest, sizeof(manifest) - 1, NULL), 0);
	assert_int_equal(tar_write_end(&w, NULL), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_true(image_load(f->store, fd, &options, err) < 0);
}

static void a_link_without_a_name_is_no_file(void **state)
{
	const struct tar_entry link = {.type = TAR_SYMLINK, .path = "./", .link = "a"};
	struct error err = {0};

	load_hostile(*state, &link, &err);
	assert_non_null(strstr(err.text, "is missing"));
}

static void a_name_beyond_the_limit_is_refused(void **state)
{
	struct fixture *f = *state;
	own_mem char *path = str_format("%s/long.tar", f->path);
	own_mem char *command = str_format(
		"cd %s && touch x && tar --format=gnu --transform \"s,x,$(printf %%05000d 0),\" "
		"-cf long.tar x && rm x",
		f->path);
	struct image_load options = {0};
	struct error err = {0};
	own_fd int fd = -1;

	assert_int_equal(system(command), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(image_load(f->store, fd, &options, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "too large"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(opening_makes_nothing, begin, end),
		cmocka_unit_test_setup_teardown(finds_by_name_digest_and_id, begin, end),
		cmocka_unit_test_setup_teardown(a_near_name_is_offered, begin, end),
		cmocka_unit_test_setup_teardown(equal_input_gives_an_equal_image, begin, end),
		cmocka_unit_test_setup_teardown(removing_takes_names_then_the_image, begin, end),
		cmocka_unit_test_setup_teardown(shared_parts_stay, begin, end),
		cmocka_unit_test_setup_teardown(an_image_in_use_stays, begin, end),
		cmocka_unit_test_setup_teardown(prune_takes_what_has_no_name, begin, end),
		cmocka_unit_test_setup_teardown(usage_is_exact, begin, end),
		cmocka_unit_test_setup_teardown(check_finds_and_repairs, begin, end),
		cmocka_unit_test_setup_teardown(a_damaged_part_in_use_is_reported_not_removed,
						begin, end),
		cmocka_unit_test_setup_teardown(a_kill_at_any_moment_leaves_a_sound_store, begin,
						end),
		cmocka_unit_test_setup_teardown(save_and_load_keep_the_image, begin, end),
		cmocka_unit_test_setup_teardown(a_truncated_archive_leaves_nothing, begin, end),
		cmocka_unit_test_setup_teardown(a_wrong_layer_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(garbage_is_no_archive, begin, end),
		cmocka_unit_test_setup_teardown(a_link_without_a_name_is_no_file, begin, end),
		cmocka_unit_test_setup_teardown(a_name_beyond_the_limit_is_refused, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
