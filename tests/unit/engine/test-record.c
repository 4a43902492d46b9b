/* Tests of rows, locks and recovery, in an engine of their own without any image. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/engine_priv.h"
#include "engine/live.h"
#include "engine/lock.h"
#include "engine/name.h"
#include "engine/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct fixture {
	char path[32];
	char *root, *state;
	struct engine *engine;
};

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));
	struct engine_options options;
	struct error err = {0};

	strcpy(f->path, "/tmp/test-record-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->root = str_format("%s/root", f->path);
	f->state = str_format("%s/state", f->path);
	options = (struct engine_options){.root = f->root, .state = f->state};
	if (engine_open(&options, &f->engine, &err) < 0)
		fail_msg("%s", err.text);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	engine_close(f->engine);
	assert_int_equal(tree_remove(AT_FDCWD, f->path, NULL), 0);
	free(f->root);
	free(f->state);
	free(f);
	return 0;
}

/* A row as record_insert writes it, without the mark on an image that is not there. */
static void add(struct fixture *f, const char *id, const char *name, enum record_status status,
		bool auto_remove)
{
	struct error err = {0};
	int rc = db_run(
		f->engine->db, &err,
		"INSERT INTO workload (id, name, status, auto_remove, created_ns, argv, config) "
		"VALUES (?, ?, ?, ?, ?, '[\"x\"]', ?)",
		"ttiiit", id, name, (int64_t)status, (int64_t)auto_remove, clock_now_ns(),
		auto_remove ? "{\"flags\":4}" : "{}");

	if (rc < 0)
		fail_msg("%s", err.text);
	assert_int_equal(dir_make(f->engine->root_fd, workload_dir(id).path, 0700, NULL), 0);
}

static const char id_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char id_ab[] = "abaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char id_c[] = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

static void names_ids_and_beginnings(void **state)
{
	static const struct {
		const char *ref;
		int rc;
		const char *id;
	} cases[] = {
		{"first", 0, id_a},
		{id_a, 0, id_a},
		{"aa", 0, id_a},
		{"ab", 0, id_ab},
		{"a", -ENOTUNIQ, NULL},
		{"c", 0, id_ab}, /* the name of ab, though it begins the id of c */
		{"cc", 0, id_c},
		{"ca", -ENOENT, NULL},
		{"d", -ENOENT, NULL},
		{"", -ENOENT, NULL},
		{"a%", -ENOENT, NULL},
		{"FIRST", -ENOENT, NULL},
	};
	struct fixture *f = *state;

	add(f, id_a, "first", RECORD_CREATED, false);
	add(f, id_ab, "c", RECORD_CREATED, false);
	add(f, id_c, "third", RECORD_CREATED, false);
	for (size_t i = 0; i < array_size(cases); i++) {
		char id[WORKLOAD_ID_LEN + 1] = "";
		struct error err = {0};
		int rc = record_resolve(f->engine, cases[i].ref, id, &err);

		if (rc != cases[i].rc || (rc == 0 && strcmp(id, cases[i].id) != 0))
			fail_msg("\"%s\": %d %s %s", cases[i].ref, rc, id, err.text);
	}
}

static void a_name_is_there_once(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};

	add(f, id_a, "first", RECORD_CREATED, false);
	add(f, id_c, "third", RECORD_CREATED, false);
	assert_int_equal(record_set_name(f->engine, id_c, "first", &err), -EEXIST);
	assert_non_null(strstr(err.text, "in use"));
	assert_int_equal(record_set_name(f->engine, id_c, "other", NULL), 0);
	assert_int_equal(record_set_name(f->engine, id_ab, "none", NULL), -ENOENT);
}

static void a_damaged_row_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct workload w;
	enum record_status status;
	struct error err = {0};

	add(f, id_a, "first", RECORD_CREATED, false);
	assert_int_equal(db_run(f->engine->db, NULL, "UPDATE workload SET config = '{'", ""), 1);
	assert_true(record_load(f->engine, id_a, &w, &status, &err) < 0);
	assert_non_null(strstr(err.text, "first"));
	assert_int_equal(db_run(f->engine->db, NULL, "UPDATE workload SET status = 77", ""), 1);
	assert_int_equal(record_load(f->engine, id_a, &w, &status, NULL), -EUCLEAN);
}

static bool exists(struct fixture *f, const char *what, const char *id)
{
	own_mem char *path = str_format("%s/%s/%s", f->path, what, id);

	return access(path, F_OK) == 0;
}

static void a_lock_has_one_holder_and_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	int first, second;

	first = lock_try(f->engine, id_a, NULL);
	assert_true(first >= 0);
	assert_int_equal(lock_try(f->engine, id_a, NULL), -EWOULDBLOCK);
	second = lock_try(f->engine, id_c, NULL);
	assert_true(second >= 0);
	lock_release(f->engine, id_a, &first);
	assert_false(exists(f, "state", id_a));
	assert_true(exists(f, "state", id_c));
	first = lock_try(f->engine, id_a, NULL);
	assert_true(first >= 0);
	lock_release(f->engine, id_a, &first);
	lock_release(f->engine, id_c, &second);
}

static void a_waiting_command_is_told_of_a_monitor(void **state)
{
	struct fixture *f = *state;
	int held;

	add(f, id_a, "first", RECORD_ACTIVE, false);
	held = lock_try(f->engine, id_a, NULL);
	assert_int_equal(lock_take(f->engine, id_a, NULL), -EBUSY);
	lock_release(f->engine, id_a, &held);
	assert_int_equal(lock_take(f->engine, id_c, NULL), -ENOENT);
	assert_false(exists(f, "state", id_c));
}

static void recovery_waits_for_a_helper(void **state)
{
	struct fixture *f = *state;
	int fd = lock_try(f->engine, id_a, NULL), status, ready[2];
	int64_t before;
	pid_t pid;
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (lock_helper(fd) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		usleep(150000);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	/* Helpers do not exclude each other. */
	assert_int_equal(lock_helper(fd), 0);
	before = clock_monotonic_ns();
	assert_int_equal(lock_await_helpers(fd), 0);
	assert_true(clock_monotonic_ns() - before > 50000000);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(ready[0]);
	close(ready[1]);
	lock_release(f->engine, id_a, &fd);
}

struct crash_case {
	const char *name;
	int status; /* of the row, -1: none */
	bool auto_remove;
	bool in_state; /* <state>/<id> is there */
	int phase;     /* of the run file, -1: none */
	int expected;  /* the row's state afterwards, -1: gone */
	int exit_code;
};

static const struct crash_case crashes[] = {
	{"while it was being made", -1, false, true, -1, -1, 0},
	{"created", RECORD_CREATED, false, true, -1, RECORD_CREATED, 0},
	{"reboot", RECORD_ACTIVE, false, false, -1, RECORD_EXITED, 255},
	{"reboot with --rm", RECORD_ACTIVE, true, false, -1, -1, 0},
	{"before its start", RECORD_ACTIVE, false, true, -1, RECORD_EXITED, 255},
	{"while it ran", RECORD_ACTIVE, false, true, LIVE_RUNNING, RECORD_EXITED, 137},
	{"while it ran with --rm", RECORD_ACTIVE, true, true, LIVE_RUNNING, -1, 0},
	{"after its end", RECORD_ACTIVE, false, true, LIVE_ENDED, RECORD_EXITED, 42},
	{"before a restart", RECORD_ACTIVE, false, true, LIVE_WAITING, RECORD_EXITED, 42},
	{"while it was removed", RECORD_REMOVING, false, true, -1, -1, 0},
	{"exited", RECORD_EXITED, false, true, -1, RECORD_EXITED, 0},
};

static void leave_behind(struct fixture *f, const struct crash_case *c)
{
	if (c->status >= 0)
		add(f, id_a, "first", (enum record_status)c->status, c->auto_remove);
	else
		assert_int_equal(dir_make(f->engine->root_fd, workload_dir(id_a).path, 0700, NULL),
				 0);
	if (c->in_state) {
		int lock = lock_try(f->engine, id_a, NULL);

		lock_leave(&lock);
	}
	if (c->phase >= 0) {
		struct live live = {.version = LIVE_VERSION,
				    .phase = (uint32_t)c->phase,
				    .exit_code = 42,
				    .finished_ns = 1,
				    .started_ns = 1};
		int fd = live_create(f->engine, id_a);

		assert_int_equal(live_write(fd, &live), 0);
		close(fd);
	}
}

static void whatever_crashed_is_settled(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(crashes); i++) {
		const struct crash_case *c = &crashes[i];
		own_workload struct workload w = {0};
		enum record_status status;
		struct error err = {0};
		struct fixture *f;
		void *fresh;
		int rc;

		set_up(&fresh);
		f = fresh;
		leave_behind(f, c);
		if (engine_recover(f->engine, &err) < 0)
			fail_msg("%s: %s", c->name, err.text);
		rc = record_load(f->engine, id_a, &w, &status, NULL);
		if ((rc == 0 ? (int)status : -1) != c->expected)
			fail_msg("%s: row %d, %d", c->name, rc, rc == 0 ? (int)status : -1);
		if (rc == 0 && w.exit_code != c->exit_code)
			fail_msg("%s: exit code %d", c->name, w.exit_code);
		if (exists(f, "state", id_a) ||
		    exists(f, "root/workloads", id_a) != (c->expected >= 0))
			fail_msg("%s: files are left or lost", c->name);
		workload_release(&w);
		memset(&w, 0, sizeof(w));
		tear_down(&fresh);
	}
}

static void what_somebody_works_on_is_left_alone(void **state)
{
	struct fixture *f = *state;
	enum record_status status;
	int fd;

	add(f, id_a, "first", RECORD_ACTIVE, true);
	fd = lock_try(f->engine, id_a, NULL);
	assert_int_equal(engine_recover(f->engine, NULL), 0);
	assert_int_equal(record_get_status(f->engine, id_a, &status, NULL), 0);
	assert_int_equal(status, RECORD_ACTIVE);
	assert_true(exists(f, "root/workloads", id_a));
	lock_release(f->engine, id_a, &fd);
}

static void made_up_names_and_ids_are_valid(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 200; i++) {
		own_mem char *name = name_make(i % 6);
		char id[WORKLOAD_ID_LEN + 1];

		id_make(id);
		assert_int_equal(name_check(name, NULL), 0);
		assert_true(id_is_valid(id));
	}
	assert_false(id_is_valid("abc"));
	assert_true(id_is_prefix("abc"));
	assert_false(id_is_prefix("abcg"));
	assert_false(id_is_prefix(""));
	assert_int_equal(name_check("", NULL), -EINVAL);
	assert_int_equal(name_check("-x", NULL), -EINVAL);
	assert_int_equal(name_check("a b", NULL), -EINVAL);
	assert_int_equal(name_check("..", NULL), -EINVAL);
}

/* Holds the lock of `id` as recovery does, tells so through a pipe, then removes what it took for a
 * leftover. */
static _Noreturn void hold_for_a_moment(struct fixture *f, const char *id, int tell_fd)
{
	struct error err = {0};
	int lock_fd = lock_try(f->engine, id, &err);

	if (lock_fd < 0 || write(tell_fd, "x", 1) != 1)
		_exit(1);
	usleep(50000);
	lock_release(f->engine, id, &lock_fd);
	_exit(0);
}

static void a_new_workload_waits_for_who_takes_its_directory_for_a_leftover(void **state)
{
	struct fixture *f = *state;
	struct error err = {0};
	char id[WORKLOAD_ID_LEN + 1], told;
	int ends[2], status, lock_fd;
	pid_t pid;

	id_make(id);
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0)
		hold_for_a_moment(f, id, ends[1]);
	assert_true(pid > 0);
	assert_int_equal(read(ends[0], &told, 1), 1);
	lock_fd = lock_new(f->engine, id, &err);
	assert_true(lock_fd >= 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	lock_release(f->engine, id, &lock_fd);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_ids_and_beginnings, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_name_is_there_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_damaged_row_is_an_error, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_lock_has_one_holder_and_leaves_nothing, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_waiting_command_is_told_of_a_monitor, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(recovery_waits_for_a_helper, set_up, tear_down),
		cmocka_unit_test(whatever_crashed_is_settled),
		cmocka_unit_test_setup_teardown(what_somebody_works_on_is_left_alone, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			a_new_workload_waits_for_who_takes_its_directory_for_a_leftover, set_up,
			tear_down),
		cmocka_unit_test(made_up_names_and_ids_are_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
