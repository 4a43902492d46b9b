/* The filter: compiled, cached by content, and the cache really used. */
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/config.h"
#include "oci/seccomp_filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char text[] =
	"{\"ociVersion\":\"1.2.0\",\"linux\":{\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ERRNO\","
	"\"syscalls\":[{\"names\":[\"read\",\"write\",\"no_such_call\"],"
	"\"action\":\"SCMP_ACT_ALLOW\"},{\"names\":[\"kill\"],\"action\":\"SCMP_ACT_ERRNO\"}]}}}";

static struct config *config(void)
{
	own_json json_t *json = NULL;
	struct config *c = NULL;
	struct error err = {0};

	assert_int_equal(json_parse(text, strlen(text), "test", &json, &err), 0);
	assert_int_equal(config_parse(json, &c, &err), 0);
	return c;
}

static void caches_by_content(void **state)
{
	char root[] = "/tmp/test-seccomp-XXXXXX";
	own_config struct config *c = config();
	own_seccomp_program struct seccomp_program first = {0}, second = {0};
	own_mem char *path = NULL;
	own_dir DIR *dir = NULL;
	own_fd int fd = -1;
	struct error err = {0};
	struct dirent *entry;
	struct sock_filter other = {.code = BPF_RET | BPF_K, .k = 5};
	char *name = NULL;

	(void)state;
	assert_non_null(mkdtemp(root));
	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(seccomp_compile(&c->linux_.seccomp, fd, &first, &err), 0);
	assert_true(first.count > 5);
	path = str_format("%s/%s", root, SECCOMP_CACHE);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			name = str_format("%s/%s", path, entry->d_name);
	assert_non_null(name);
	/* What stands in the cache is what comes out: it is not compiled again. */
	assert_int_equal(
		file_write(AT_FDCWD, name, &other, sizeof(other), 0600, FILE_WRITE_PLAIN, &err), 0);
	assert_int_equal(seccomp_compile(&c->linux_.seccomp, fd, &second, &err), 0);
	assert_int_equal(second.count, 1);
	/* A damaged file is no filter. */
	seccomp_program_release(&second);
	assert_int_equal(file_write(AT_FDCWD, name, "abc", 3, 0600, FILE_WRITE_PLAIN, &err), 0);
	assert_int_equal(seccomp_compile(&c->linux_.seccomp, fd, &second, &err), 0);
	assert_int_equal(second.count, first.count);
	free(name);
	assert_int_equal(tree_remove(AT_FDCWD, root, &err), 0);
}

static void a_filter_that_is_kept_is_the_configuration_s(void **state)
{
	own_json json_t *spec = json_loads(text, 0, NULL);
	json_t *seccomp = json_object_get(json_object_get(spec, "linux"), "seccomp");
	own_config struct config *c = NULL;
	own_seccomp_program struct seccomp_program compiled = {0}, kept = {0};
	struct config_seccomp used = {.listener_path = "/left/from/before"};
	struct oci_filter *filter = NULL;
	struct error err = {0};

	(void)state;
	assert_int_equal(config_parse(spec, &c, &err), 0);
	assert_int_equal(seccomp_compile(&c->linux_.seccomp, -1, &compiled, &err), 0);
	assert_int_equal(oci_filter_compile(seccomp, &filter, &err), 0);
	seccomp_use(filter, &used, &kept);
	assert_true(used.given);
	assert_null(used.listener_path);
	assert_int_equal(used.default_action, c->linux_.seccomp.default_action);
	assert_int_equal(kept.count, compiled.count);
	assert_memory_equal(kept.code, compiled.code, kept.count * sizeof(*kept.code));
	oci_filter_free(filter);
	/* Each of its processes would need a listener of its own. */
	json_object_set_new(seccomp, "listenerPath", json_string("/run/listener"));
	assert_int_equal(oci_filter_compile(seccomp, &filter, &err), -ENOTSUP);
	json_object_set_new(seccomp, "defaultAction", json_string("SCMP_ACT_NONE"));
	assert_int_equal(oci_filter_compile(seccomp, &filter, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(caches_by_content),
		cmocka_unit_test(a_filter_that_is_kept_is_the_configuration_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
