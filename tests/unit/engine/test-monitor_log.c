/* Tests of the log file: its form, characters that are cut, rotation. */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/monitor_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct fixture {
	char path[32];
	struct log log;
};

static void begin(struct fixture *f, int64_t max_size, int max_files)
{
	struct order order = {.log_max_size_bytes = max_size, .log_max_files = max_files};

	strcpy(f->path, "/tmp/test-log-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	log_file_init(&f->log, open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC), &order);
}

static void end(struct fixture *f)
{
	close(f->log.dir_fd);
	if (f->log.fd >= 0)
		close(f->log.fd);
	assert_int_equal(tree_remove(AT_FDCWD, f->path, NULL), 0);
}

/* Everything that was logged for a stream, put together again; counts the objects. */
static char *read_back(struct fixture *f, const char *name, const char *stream, size_t *objects)
{
	own_buf struct buf all = {0};
	own_mem char *text = NULL;
	size_t len;

	*objects = 0;
	assert_int_equal(file_read(f->log.dir_fd, name, 64 << 20, &text, &len, NULL), 0);
	for (char *line = text, *end; *line != '\0'; line = end) {
		own_json json_t *value = NULL;

		end = strchr(line, '\n');
		assert_non_null(end);
		value = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
		end++;
		assert_non_null(value);
		assert_non_null(json_string_value(json_object_get(value, "time")));
		if (strcmp(json_string_value(json_object_get(value, "stream")), stream) != 0)
			continue;
		buf_add(&all, json_string_value(json_object_get(value, "log")),
			json_string_length(json_object_get(value, "log")));
		++*objects;
	}
	return buf_take(&all);
}

static void output_comes_back(void **state)
{
	static const struct {
		const char *in, *out;
		size_t objects;
	} cases[] = {
		{"plain\n", "plain\n", 1},
		{"two\nlines\n", "two\nlines\n", 2},
		{"no newline", "no newline", 1},
		{"quote \" back \\ tab \t bell \a esc \x1b del \x7f\n",
		 "quote \" back \\ tab \t bell \a esc \x1b del \x7f\n", 1},
		{"gr\xc3\xbc\xc3\x9f"
		 "e \xe2\x82\xac \xf0\x9f\x98\x80\n",
		 "gr\xc3\xbc\xc3\x9f"
		 "e \xe2\x82\xac \xf0\x9f\x98\x80\n",
		 1},
		{"bad \xff byte\n", "bad \xef\xbf\xbd byte\n", 1},
		{"overlong \xc0\xaf\n", "overlong \xef\xbf\xbd\xef\xbf\xbd\n", 1},
		{"surrogate \xed\xa0\x80\n", "surrogate \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\n", 1},
		{"\n\n\n", "\n\n\n", 3},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_mem char *out = NULL;
		struct fixture f;
		size_t objects;

		begin(&f, 0, 1);
		log_file_add(&f.log, 1, cases[i].in, strlen(cases[i].in));
		out = read_back(&f, "output.log", "stdout", &objects);
		assert_string_equal(out, cases[i].out);
		assert_int_equal(objects, cases[i].objects);
		end(&f);
	}
}

static void characters_may_be_cut_anywhere(void **state)
{
	static const char text[] = "a\xc3\xbc b\xe2\x82\xac c\xf0\x9f\x98\x80 \xe2\x28 \xff.\n";
	own_mem char *whole = NULL;
	struct fixture f;
	size_t n;

	(void)state;
	begin(&f, 0, 1);
	log_file_add(&f.log, 1, text, strlen(text));
	whole = read_back(&f, "output.log", "stdout", &n);
	end(&f);
	for (size_t cut = 1; cut < strlen(text); cut++) {
		own_mem char *parts = NULL;

		begin(&f, 0, 1);
		log_file_add(&f.log, 1, text, cut);
		/* The other stream does not disturb. */
		log_file_add(&f.log, 2, "\xe2\x82", 2);
		log_file_add(&f.log, 1, text + cut, strlen(text) - cut);
		parts = read_back(&f, "output.log", "stdout", &n);
		if (strcmp(parts, whole) != 0)
			fail_msg("cut at %zu: \"%s\"", cut, parts);
		end(&f);
	}
	/* One byte at a time. */
	begin(&f, 0, 1);
	for (size_t i = 0; i < strlen(text); i++)
		log_file_add(&f.log, 1, text + i, 1);
	{
		own_mem char *parts = read_back(&f, "output.log", "stdout", &n);

		assert_string_equal(parts, whole);
	}
	end(&f);
}

static void long_lines_are_split_and_complete(void **state)
{
	static char line[100000];
	own_mem char *out = NULL;
	struct fixture f;
	size_t objects;

	(void)state;
	memset(line, '\x01', sizeof(line)); /* six bytes each in the file */
	begin(&f, 0, 1);
	for (size_t at = 0; at < sizeof(line); at += READ_MAX)
		log_file_add(&f.log, 2, line + at,
			     sizeof(line) - at < READ_MAX ? sizeof(line) - at : READ_MAX);
	out = read_back(&f, "output.log", "stderr", &objects);
	assert_int_equal(strlen(out), sizeof(line));
	assert_true(objects > 50);
	end(&f);
}

static void full_files_are_rotated(void **state)
{
	own_mem char *last = NULL;
	struct fixture f;
	struct stat st;
	size_t objects;

	(void)state;
	begin(&f, 2000, 3);
	for (int i = 0; i < 200; i++)
		log_file_add(&f.log, 1, "0123456789\n", 11);
	assert_int_equal(fstatat(f.log.dir_fd, "output.log", &st, 0), 0);
	assert_true(st.st_size <= 2000);
	assert_int_equal(fstatat(f.log.dir_fd, "output.log.1", &st, 0), 0);
	assert_true(st.st_size <= 2000);
	assert_int_equal(fstatat(f.log.dir_fd, "output.log.2", &st, 0), 0);
	assert_int_equal(fstatat(f.log.dir_fd, "output.log.3", &st, 0), -1);
	last = read_back(&f, "output.log.1", "stdout", &objects);
	assert_true(objects > 10);
	end(&f);
}

/* As on a disk that is full for a while. */
static void a_line_that_is_cut_takes_no_other_with_it(void **state)
{
	struct rlimit before, small;
	own_mem char *text = NULL;
	own_json json_t *last = NULL;
	struct fixture f;
	size_t len;

	(void)state;
	begin(&f, 0, 1);
	log_file_add(&f.log, 1, "before\n", 7);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = (struct rlimit){.rlim_cur = 100, .rlim_max = before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	log_file_add(&f.log, 1, "cut\n", 4);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	log_file_add(&f.log, 1, "after\n", 6);
	assert_int_equal(file_read(f.log.dir_fd, "output.log", 1 << 20, &text, &len, NULL), 0);
	assert_int_equal(f.log.size, len);
	assert_int_equal(text[len - 1], '\n');
	text[len - 1] = '\0';
	last = json_loads(strrchr(text, '\n') + 1, 0, NULL);
	assert_non_null(last);
	assert_string_equal(json_string_value(json_object_get(last, "log")), "after\n");
	end(&f);
}

static void without_a_log_there_is_no_file(void **state)
{
	struct order order = {.log = WORKLOAD_LOG_NONE};
	struct fixture f;
	struct stat st;

	(void)state;
	begin(&f, 0, 1);
	log_file_init(&f.log, f.log.dir_fd, &order);
	log_file_add(&f.log, 1, "x\n", 2);
	assert_int_equal(fstatat(f.log.dir_fd, "output.log", &st, 0), -1);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(output_comes_back),
		cmocka_unit_test(characters_may_be_cut_anywhere),
		cmocka_unit_test(long_lines_are_split_and_complete),
		cmocka_unit_test(full_files_are_rotated),
		cmocka_unit_test(a_line_that_is_cut_takes_no_other_with_it),
		cmocka_unit_test(without_a_log_there_is_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
