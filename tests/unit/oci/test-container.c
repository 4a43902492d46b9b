/* The directory or file of a container: ids, locks, what a killed runtime leaves. */
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "oci/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static char root[32];
/* Every test runs with both. */
static enum container_form form;

static int make_root(void **state)
{
	(void)state;
	strcpy(root, "/tmp/test-container-XXXXXX");
	return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
	(void)state;
	return tree_remove(AT_FDCWD, root, NULL);
}

static void refuses_ids_that_are_no_names(void **state)
{
	static const char *const ids[] = {"",    ".",    "..",  ".seccomp",
					  "a/b", "../x", "a b", "\xc3\xa4"};

	(void)state;
	for (size_t i = 0; i < array_size(ids); i++) {
		own_container struct container *c = NULL;
		struct error err = {0};

		assert_int_equal(container_create(root, ids[i], form, &c, &err), -EINVAL);
		assert_int_equal(container_open(root, ids[i], CONTAINER_LOOK, &c, &err), -EINVAL);
	}
}

static void refuses_an_id_in_use(void **state)
{
	own_container struct container *a = NULL, *b = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(container_create(root, "twice", form, &a, &err), 0);
	for (enum container_form any = CONTAINER_DIRECTORY; any <= CONTAINER_FILE; any++)
		assert_int_equal(container_create(root, "twice", any, &b, &err), -EEXIST);
	assert_int_equal(container_remove(a, &err), 0);
	assert_int_equal(container_create(root, "twice", form, &b, &err), 0);
	assert_int_equal(container_remove(b, &err), 0);
}

static void says_that_it_does_not_exist(void **state)
{
	own_container struct container *c = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(container_open(root, "none", CONTAINER_LOCK, &c, &err), -ENOENT);
	assert_non_null(strstr(err.text, "does not exist"));
}

static void is_creating_only_while_somebody_creates_it(void **state)
{
	struct container *maker = NULL;
	own_container struct container *c = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(container_create(root, "half", form, &maker, &err), 0);
	assert_int_equal(container_open(root, "half", CONTAINER_LOOK, &c, &err), 0);
	assert_int_equal(container_status(c), OCI_CREATING);
	/* As if its runtime had been killed. */
	container_close(maker);
	assert_int_equal(container_status(c), OCI_STOPPED);
	assert_int_equal(oci_delete(root, "half", OCI_DELETE_STOPPED, &err), 0);
	assert_int_equal(access(root, F_OK), 0);
}

static void asks_who_holds_the_lock(void **state)
{
	own_container struct container *holder = NULL, *other = NULL;
	own_fd int watch = -1;
	struct pollfd asked = {.events = POLLIN};
	struct error err = {0};

	(void)state;
	assert_int_equal(container_create(root, "held", form, &holder, &err), 0);
	watch = asked.fd = container_watch(holder);
	assert_true(watch >= 0);
	assert_int_equal(container_open(root, "held", CONTAINER_TRY, &other, &err), 0);
	assert_false(other->locked);
	/* What the holder writes is no question. */
	assert_int_equal(container_save(holder, holder->record, NULL, &err), 0);
	assert_int_equal(poll(&asked, 1, 0), 0);
	container_ask(other);
	assert_int_equal(poll(&asked, 1, 0), 1);
	container_unlock(holder);
	container_close(take(other));
	assert_int_equal(container_open(root, "held", CONTAINER_TRY, &other, &err), 0);
	assert_true(other->locked);
	assert_int_equal(container_remove(other, &err), 0);
}

static void survives_a_record_that_is_cut_short(void **state)
{
	own_container struct container *maker = NULL;
	own_mem char *path = form == CONTAINER_FILE
				     ? str_format("%s/cut", root)
				     : str_format("%s/cut/%s", root, CONTAINER_STATE);
	own_oci_state struct oci_state got = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(container_create(root, "cut", form, &maker, &err), 0);
	container_close(take(maker));
	assert_int_equal(
		file_write(AT_FDCWD, path, "{\"id\": \"cu", 10, 0600, FILE_WRITE_PLAIN, &err), 0);
	assert_int_equal(oci_get_state(root, "cut", &got, &err), 0);
	assert_int_equal(got.status, OCI_STOPPED);
	assert_int_equal(oci_delete(root, "cut", OCI_DELETE_STOPPED, &err), 0);
}

static void keeps_the_record_and_the_configuration_apart(void **state)
{
	own_container struct container *maker = NULL, *c = NULL;
	own_json json_t *config = json_pack("{s:s}", "text", "\n,\"config\":{}");
	own_json json_t *got = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(container_create(root, "both", form, &maker, &err), 0);
	json_object_set_new(maker->record, "bundle", json_string("{\n,\"config\":"));
	assert_int_equal(container_save(maker, config, NULL, &err), 0);
	assert_int_equal(container_open(root, "both", CONTAINER_LOOK, &c, &err), 0);
	assert_string_equal(json_string_value(json_object_get(c->record, "bundle")),
			    "{\n,\"config\":");
	assert_int_equal(container_pid(c), 0);
	assert_int_equal(container_config_json(c, &got, &err), 0);
	assert_true(json_equal(got, config));
	assert_int_equal(container_remove(maker, &err), 0);
}

/* The text of a configuration may have lines of its own, also one that looks like where it begins. */
static void keeps_the_text_of_a_configuration(void **state)
{
	static const char text[] = "{\n\"record\": 1\n,\"config\":{\"b\": 2}\n}\n";
	own_container struct container *maker = NULL, *c = NULL;
	static const char longer[] =
		"{\"a\": \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"}";
	own_mem char *path = form == CONTAINER_FILE
				     ? str_format("%s/text", root)
				     : str_format("%s/text/%s", root, CONTAINER_STATE);
	own_json json_t *config = json_loads(text, 0, NULL), *got = NULL, *whole = NULL;
	struct error err = {0};

	(void)state;
	assert_non_null(config);
	assert_int_equal(container_create(root, "text", form, &maker, &err), 0);
	json_object_set_new(maker->record, "bundle", json_string("/b"));
	/* Written again, it can be shorter. */
	assert_int_equal(container_save(maker, config, longer, &err), 0);
	assert_int_equal(container_save(maker, config, text, &err), 0);
	assert_int_equal(json_read_file(AT_FDCWD, path, 4096, &whole, &err), 0);
	assert_int_equal(container_open(root, "text", CONTAINER_LOOK, &c, &err), 0);
	assert_string_equal(json_string_value(json_object_get(c->record, "bundle")), "/b");
	assert_int_equal(container_config_json(c, &got, &err), 0);
	assert_true(json_equal(got, config));
	assert_int_equal(container_remove(maker, &err), 0);
}

/* The process is written over the blanks: whatever its numbers, the file stays one JSON object. */
static void adds_the_process_in_place(void **state)
{
	static const pid_t pids[] = {1, INT32_MAX};
	static const uint64_t starts[] = {1, INT64_MAX};
	own_mem char *path = form == CONTAINER_FILE
				     ? str_format("%s/place", root)
				     : str_format("%s/place/%s", root, CONTAINER_STATE);
	own_container struct container *maker = NULL;
	own_json json_t *config = json_object();
	struct error err = {0};

	(void)state;
	assert_int_equal(container_create(root, "place", form, &maker, &err), 0);
	json_object_set_new(maker->record, "bundle", json_string("/b"));
	assert_int_equal(container_save(maker, config, NULL, &err), 0);
	for (size_t i = 0; i < array_size(pids); i++) {
		own_json json_t *whole = NULL;
		const json_t *record;

		assert_int_equal(container_save_process(maker, pids[i], starts[i], i > 0, &err), 0);
		assert_int_equal(json_read_file(AT_FDCWD, path, 4096, &whole, &err), 0);
		record = json_object_get(whole, "record");
		assert_int_equal(json_integer_value(json_object_get(record, "pid")), pids[i]);
		assert_int_equal(json_integer_value(json_object_get(record, "startTime")),
				 (json_int_t)starts[i]);
		assert_true(json_is_boolean(json_object_get(record, "ready")));
		assert_string_equal(json_string_value(json_object_get(record, "bundle")), "/b");
		assert_true(json_is_object(json_object_get(whole, "config")));
	}
	assert_int_equal(container_remove(maker, &err), 0);
}

/* One that is being made has its process already, but nobody may join that yet. */
static void is_creating_until_its_process_is_ready(void **state)
{
	own_container struct container *maker = NULL, *c = NULL;
	own_json json_t *config = json_object();
	struct error err = {0};
	uint64_t start;

	(void)state;
	assert_int_equal(proc_start_time(getpid(), &start), 0);
	assert_int_equal(container_create(root, "ready", form, &maker, &err), 0);
	assert_int_equal(container_save(maker, config, NULL, &err), 0);
	assert_int_equal(container_save_process(maker, getpid(), start, false, &err), 0);
	assert_int_equal(container_open(root, "ready", CONTAINER_LOOK, &c, &err), 0);
	assert_int_equal(container_status(c), OCI_CREATING);
	assert_int_equal(container_save_process(maker, getpid(), start, true, &err), 0);
	container_close(take(c));
	assert_int_equal(container_open(root, "ready", CONTAINER_LOOK, &c, &err), 0);
	assert_int_equal(container_status(c), OCI_RUNNING);
	assert_int_equal(container_remove(maker, &err), 0);
}

/* A pid alone may be another process by now. */
static void knows_a_process_by_its_start(void **state)
{
	own_container struct container *c = NULL;
	struct error err = {0};
	uint64_t start;

	(void)state;
	assert_int_equal(container_create(root, "pid", form, &c, &err), 0);
	assert_int_equal(proc_start_time(getpid(), &start), 0);
	json_object_set_new(c->record, "pid", json_integer(getpid()));
	json_object_set_new(c->record, "startTime", json_integer((json_int_t)start));
	assert_int_equal(container_pid(c), getpid());
	json_object_set_new(c->record, "startTime", json_integer((json_int_t)start + 1));
	assert_int_equal(container_pid(c), 0);
	assert_int_equal(container_remove(c, &err), 0);
}

/* What else is in the directory is nobody's container. */
static void lists_nothing_but_containers(void **state)
{
	own_container struct container *made = NULL, *begun = NULL;
	own_mem char *other = str_format("%s/other.json", root);
	own_json json_t *config = json_object();
	own_strv char **ids = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(container_create(root, "made", form, &made, &err), 0);
	assert_int_equal(container_save(made, config, NULL, &err), 0);
	assert_int_equal(container_create(root, "begun", form, &begun, &err), 0);
	assert_int_equal(file_write(AT_FDCWD, other, "{\"a\":1}", 7, 0600, FILE_WRITE_PLAIN, &err),
			 0);
	assert_int_equal(oci_list(root, &ids, &err), 0);
	assert_int_equal(strv_len(ids), 2);
	assert_string_equal(ids[0], "begun");
	assert_string_equal(ids[1], "made");
	assert_int_equal(container_remove(made, &err), 0);
	assert_int_equal(container_remove(begun, &err), 0);
	assert_int_equal(unlink(other), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_ids_that_are_no_names),
		cmocka_unit_test(refuses_an_id_in_use),
		cmocka_unit_test(says_that_it_does_not_exist),
		cmocka_unit_test(is_creating_only_while_somebody_creates_it),
		cmocka_unit_test(asks_who_holds_the_lock),
		cmocka_unit_test(survives_a_record_that_is_cut_short),
		cmocka_unit_test(keeps_the_record_and_the_configuration_apart),
		cmocka_unit_test(keeps_the_text_of_a_configuration),
		cmocka_unit_test(adds_the_process_in_place),
		cmocka_unit_test(is_creating_until_its_process_is_ready),
		cmocka_unit_test(knows_a_process_by_its_start),
		cmocka_unit_test(lists_nothing_but_containers),
	};
	int failed = 0;

	for (form = CONTAINER_DIRECTORY; form <= CONTAINER_FILE; form++)
		failed += cmocka_run_group_tests(tests, make_root, remove_root);
	return failed;
}
