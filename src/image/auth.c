/* auth: see auth.h. */
#include "image/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/str.h"
#include "image/registries.h"

enum { AUTH_FILE_MAX = 4 << 20, HELPER_ANSWER_MAX = 1 << 20, HELPER_NAME_MAX = 64 };

static const char docker_io_key[] = "https://index.docker.io/v1/";

void credentials_release(struct credentials *c)
{
	if (c->secret != NULL)
		explicit_bzero(c->secret, strlen(c->secret));
	if (c->identity_token != NULL)
		explicit_bzero(c->identity_token, strlen(c->identity_token));
	free(c->user);
	free(c->secret);
	free(c->identity_token);
	memset(c, 0, sizeof(*c));
}

char *base64_encode(const void *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = data;
	struct buf b = {0};

	for (size_t i = 0; i < len; i += 3) {
		unsigned int v = (unsigned int)p[i] << 16;

		if (i + 1 < len)
			v |= (unsigned int)p[i + 1] << 8;
		if (i + 2 < len)
			v |= p[i + 2];
		buf_add_char(&b, digits[v >> 18]);
		buf_add_char(&b, digits[v >> 12 & 63]);
		buf_add_char(&b, i + 1 < len ? digits[v >> 6 & 63] : '=');
		buf_add_char(&b, i + 2 < len ? digits[v & 63] : '=');
	}
	return buf_take(&b);
}

static int digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : -1;
}

int base64_decode(const char *s, char **ret, size_t *ret_len)
{
	own_buf struct buf b = {0};
	unsigned int bits = 0, value = 0;

	for (; *s != '\0' && *s != '='; s++) {
		int digit = digit_value(*s);

		if (digit < 0)
			return -EINVAL;
		value = value << 6 | (unsigned int)digit;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			buf_add_char(&b, (char)(value >> bits));
		}
	}
	if (s[strspn(s, "=")] != '\0')
		return -EINVAL;
	*ret_len = b.len;
	*ret = buf_take(&b);
	return 0;
}

int credentials_parse(const char *text, struct credentials *ret, struct error *err)
{
	const char *colon = strchr(text, ':');

	if (colon == NULL || colon == text)
		return refuse(err, -EINVAL, "credentials are given as name:password");
	ret->user = str_copy_n(text, (size_t)(colon - text));
	ret->secret = str_copy(colon + 1);
	return 0;
}

/* $variable/suffix, or $HOME/home_suffix; NULL if neither is set. */
static char *below(const char *variable, const char *suffix, const char *home_suffix)
{
	const char *dir = getenv(variable), *home = getenv("HOME");

	if (!str_empty(dir))
		return str_format("%s/%s", dir, suffix);
	return home_suffix && !str_empty(home) ? str_format("%s/%s", home, home_suffix) : NULL;
}

static char **auth_files(const char *auth_file)
{
	const char *set = auth_file ? auth_file : getenv("REGISTRY_AUTH_FILE");
	char *candidates[3];
	char **files = NULL;

	if (!str_empty(set)) {
		strv_push(&files, set);
		return files;
	}
	candidates[0] = below("XDG_RUNTIME_DIR", "containers/auth.json", NULL);
	candidates[1] =
		below("XDG_CONFIG_HOME", "containers/auth.json", ".config/containers/auth.json");
	candidates[2] = below("DOCKER_CONFIG", "config.json", ".docker/config.json");
	for (size_t i = 0; i < array_size(candidates); i++)
		if (candidates[i] != NULL)
			strv_push_take(&files, candidates[i]);
	return files;
}

static bool helper_valid(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= HELPER_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
		       len;
}

/* Where the helper is, in $PATH. */
static char *find_program(const char *name)
{
	const char *path = getenv("PATH");
	own_strv char **dirs = strv_split(path ? path : "/usr/local/bin:/usr/bin:/bin", ':');

	for (size_t i = 0; dirs != NULL && dirs[i] != NULL; i++) {
		own_mem char *file = str_format("%s/%s", dirs[i][0] ? dirs[i] : ".", name);

		if (access(file, X_OK) == 0)
			return take(file);
	}
	return NULL;
}

/* Runs docker-credential-<name> with `verb` and `input`. Returns its exit code, with its answer. */
static int run_helper(const char *name, const char *verb, const char *input, char **ret_answer,
		      struct error *err)
{
	own_mem char *program = str_format("docker-credential-%s", name), *path = NULL;
	own_mem char *verb_copy = str_copy(verb);
	/* A file rather than a pipe: no signal, no waiting, if it does not read. */
	own_fd int in = memfd_create("input", MFD_CLOEXEC), out = -1, child_out = -1, pidfd = -1;
	int pipe_fds[2], rc;
	size_t len;
	pid_t pid;

	if (!helper_valid(name))
		return refuse(err, -EINVAL, "\"%.64s\" is not the name of a credential helper",
			      name);
	path = find_program(program);
	if (path == NULL)
		return refuse(err, -ENOENT, "the credential helper %s is not in $PATH", program);
	if (in < 0 || pipe2(pipe_fds, O_CLOEXEC) < 0)
		return fail(err, -errno, "run %s", program);
	out = pipe_fds[0];
	child_out = pipe_fds[1];
	rc = fd_write_full_at(in, input, strlen(input), 0);
	if (rc < 0)
		return fail(err, rc, "run %s", program);
	rc = proc_spawn(
		&(struct proc_spawn){
			.path = path,
			.exe_fd = -1,
			.argv = (char *[]){path, verb_copy, NULL},
			.stdio = {in, child_out, STDERR_FILENO},
		},
		&pid, &pidfd, err);
	fd_close(&child_out);
	if (rc < 0)
		return rc;
	rc = fd_read_all(out, HELPER_ANSWER_MAX, ret_answer, &len);
	if (rc < 0)
		return fail(err, rc, "read from %s", program);
	rc = proc_wait(pidfd, NULL);
	return rc < 0 ? fail(err, rc, "wait for %s", program) : rc;
}

/* Asks a helper. 1 found, 0 it has none. */
static int ask_helper(const char *name, const char *server, struct credentials *ret,
		      struct error *err)
{
	own_mem char *answer = NULL;
	own_json json_t *value = NULL;
	const char *user = NULL, *secret = NULL;
	struct json_at root;
	int rc = run_helper(name, "get", server, &answer, err);

	if (rc < 0)
		return rc;
	if (rc > 0) {
		if (strstr(answer, "not found") != NULL)
			return 0;
		return refuse(err, -EIO, "the credential helper \"%s\" failed: %.200s", name,
			      answer);
	}
	rc = json_parse(answer, strlen(answer), "the credential helper's answer", &value, err);
	if (rc < 0)
		return rc;
	root = json_root(value);
	rc = json_get_string(&root, "Username", JSON_REQUIRED, &user, err);
	if (rc > 0)
		rc = json_get_string(&root, "Secret", JSON_REQUIRED, &secret, err);
	if (rc < 0)
		return refuse(err, rc, "the credential helper's answer");
	if (str_eq(user, "<token>")) {
		ret->identity_token = str_copy(secret);
	} else {
		ret->user = str_copy(user);
		ret->secret = str_copy(secret);
	}
	return 1;
}

/* "https://host/v1/" -> "host". */
static char *plain_key(const char *key)
{
	const char *rest = str_after(key, "https://");
	char *plain;

	if (rest == NULL)
		rest = str_after(key, "http://");
	if (rest == NULL)
		return str_copy(key);
	plain = str_copy_n(rest, strcspn(rest, "/"));
	if (str_eq(plain, "index.docker.io")) {
		free(plain);
		return str_copy("docker.io");
	}
	return plain;
}

/* How many bytes of "registry/repository" the key covers; 0 if it is for something else. */
static size_t key_match(const char *key, const char *registry, const char *repository)
{
	own_mem char *plain = plain_key(key), *whole = str_format("%s/%s", registry, repository);
	size_t len = strlen(plain);

	if (strncmp(whole, plain, len) != 0 || (whole[len] != '/' && whole[len] != '\0'))
		return 0;
	return len;
}

static int read_entry(const struct json_at *entry, struct credentials *ret, struct error *err)
{
	const char *auth = NULL, *token = NULL, *user = NULL, *secret = NULL;
	own_mem char *decoded = NULL;
	size_t len;
	int rc = json_get_string(entry, "auth", JSON_OPTIONAL, &auth, err);

	if (rc >= 0)
		rc = json_get_string(entry, "identitytoken", JSON_OPTIONAL, &token, err);
	if (rc >= 0)
		rc = json_get_string(entry, "username", JSON_OPTIONAL, &user, err);
	if (rc >= 0)
		rc = json_get_string(entry, "password", JSON_OPTIONAL, &secret, err);
	if (rc < 0)
		return rc;
	if (!str_empty(token)) {
		ret->identity_token = str_copy(token);
		return 1;
	}
	if (!str_empty(user) && secret != NULL) {
		ret->user = str_copy(user);
		ret->secret = str_copy(secret);
		return 1;
	}
	if (str_empty(auth))
		return 0;
	if (base64_decode(auth, &decoded, &len) < 0)
		return json_refuse(err, entry, "auth is not base64");
	rc = credentials_parse(decoded, ret, NULL);
	explicit_bzero(decoded, len);
	return rc < 0 ? json_refuse(err, entry, "auth is not name:password in base64") : 1;
}

static int search_entries(const struct json_at *root, const char *registry, const char *repository,
			  struct credentials *ret, struct error *err)
{
	struct json_at auths, best = {0};
	size_t best_len = 0;
	const char *key;
	json_t *value;
	int rc = json_object_at(root, "auths", JSON_OPTIONAL, &auths, err);

	if (rc <= 0)
		return rc;
	json_object_foreach (auths.value, key, value) {
		size_t len = key_match(key, registry, repository);

		if (len <= best_len || !json_is_object(value))
			continue;
		best = (struct json_at){.value = value, .up = &auths, .key = key};
		best_len = len;
	}
	return best_len > 0 ? read_entry(&best, ret, err) : 0;
}

/* What helpers know a registry by. */
static const char *helper_key(const char *registry)
{
	return str_eq(registry, "docker.io") ? docker_io_key : registry;
}

static const char *own_helper(const struct json_at *root, const char *registry)
{
	const json_t *helpers = json_object_get(root->value, "credHelpers");

	return json_string_value(json_object_get(helpers, registry));
}

static int search_file(const char *file, const char *registry, const char *repository,
		       struct credentials *ret, struct error *err)
{
	own_json json_t *value = NULL;
	struct json_at root;
	const char *helper, *store = NULL;
	int rc = json_read_file(AT_FDCWD, file, AUTH_FILE_MAX, &value, NULL);

	if (rc == -ENOENT || rc == -ENOTDIR)
		return 0;
	if (rc < 0)
		rc = json_read_file(AT_FDCWD, file, AUTH_FILE_MAX, &value, err);
	if (rc < 0)
		return rc;
	root = json_root(value);
	rc = json_as_object(&root, err);
	if (rc < 0)
		return refuse(err, rc, "%s", file);
	helper = own_helper(&root, registry);
	if (helper != NULL)
		return ask_helper(helper, helper_key(registry), ret, err);
	rc = search_entries(&root, registry, repository, ret, err);
	if (rc == 0)
		rc = json_get_string(&root, "credsStore", JSON_OPTIONAL, &store, err);
	else
		return rc < 0 ? refuse(err, rc, "%s", file) : rc;
	if (rc < 0)
		return refuse(err, rc, "%s", file);
	return str_empty(store) ? 0 : ask_helper(store, helper_key(registry), ret, err);
}

static int search_files(const char *auth_file, const char *registry, const char *repository,
			struct credentials *ret, struct error *err)
{
	own_strv char **files = auth_files(auth_file);
	int rc = 0;

	for (size_t i = 0; rc == 0 && files != NULL && files[i] != NULL; i++)
		rc = search_file(files[i], registry, repository, ret, err);
	return rc;
}

int credentials_find(const char *auth_file, const char *registry, const char *repository,
		     struct credentials *ret, struct error *err)
{
	own_strv char **helpers = NULL;
	int rc;

	if (!str_empty(auth_file))
		return search_files(auth_file, registry, repository, ret, err);
	rc = registries_helpers(&helpers, err);
	for (size_t i = 0; rc == 0 && helpers != NULL && helpers[i] != NULL; i++)
		rc = str_eq(helpers[i], REGISTRIES_AUTH_FILES)
			     ? search_files(NULL, registry, repository, ret, err)
			     : ask_helper(helpers[i], helper_key(registry), ret, err);
	return rc;
}

/* The file to write: the first that exists, else docker's. */
static char *file_to_write(const char *auth_file)
{
	own_strv char **files = auth_files(auth_file);
	size_t count = strv_len(files);

	for (size_t i = 0; i < count; i++)
		if (access(files[i], F_OK) == 0)
			return str_copy(files[i]);
	return count > 0 ? str_copy(files[count - 1]) : NULL;
}

static int change_helper(const char *helper, const char *registry,
			 const struct credentials *credentials, struct error *err)
{
	own_json json_t *request = json_object();
	own_mem char *text = NULL, *answer = NULL;
	int rc;

	if (credentials == NULL) {
		rc = run_helper(helper, "erase", helper_key(registry), &answer, err);
	} else {
		json_set_string(request, "ServerURL", helper_key(registry));
		json_set_string(request, "Username", credentials->user);
		json_set_string(request, "Secret", credentials->secret);
		text = json_text(request);
		rc = run_helper(helper, "store", text, &answer, err);
	}
	if (rc > 0)
		return refuse(err, -EIO, "the credential helper \"%s\" failed: %.200s", helper,
			      answer);
	return rc;
}

/* Removes all entries of the registry, by whatever name ("https://host/v1/"). Returns whether there were
 * any. */
static bool remove_entries(json_t *auths, const char *registry)
{
	own_strv char **keys = NULL;
	const char *key;
	json_t *value;

	json_object_foreach (auths, key, value) {
		own_mem char *plain = plain_key(key);

		if (str_eq(plain, registry))
			strv_push(&keys, key);
	}
	for (size_t i = 0; keys != NULL && keys[i] != NULL; i++)
		json_object_del(auths, keys[i]);
	return keys != NULL;
}

static int change_entry(json_t *root, const char *registry, const struct credentials *credentials,
			struct error *err)
{
	json_t *auths = json_object_get(root, "auths"), *entry;
	own_mem char *plain = NULL, *encoded = NULL;

	if (!json_is_object(auths)) {
		auths = json_object();
		json_object_set_new(root, "auths", auths);
	}
	/* An old one of another name would be found as well, or instead. */
	if (!remove_entries(auths, registry) && credentials == NULL)
		return refuse(err, -ENOENT, "not logged in to %s", registry);
	if (credentials == NULL)
		return 0;
	plain = str_format("%s:%s", credentials->user, credentials->secret);
	encoded = base64_encode(plain, strlen(plain));
	explicit_bzero(plain, strlen(plain));
	entry = json_object();
	json_set_string(entry, "auth", encoded);
	json_object_set_new(auths, helper_key(registry), entry);
	return 0;
}

int credentials_store(const char *auth_file, const char *registry,
		      const struct credentials *credentials, struct error *err)
{
	own_mem char *file = file_to_write(auth_file), *dir = NULL;
	own_json json_t *value = NULL;
	const char *helper;
	struct json_at root;
	int rc;

	if (file == NULL)
		return refuse(err, -ENOENT, "there is no place for credentials: HOME is not set");
	if (access(file, F_OK) == 0)
		rc = json_read_file(AT_FDCWD, file, AUTH_FILE_MAX, &value, err);
	else
		rc = (value = json_object()) ? 0 : -ENOMEM;
	if (rc < 0)
		return rc;
	root = json_root(value);
	rc = json_as_object(&root, err);
	if (rc < 0)
		return refuse(err, rc, "%s", file);
	helper = own_helper(&root, registry);
	if (helper == NULL)
		helper = json_string_value(json_object_get(value, "credsStore"));
	if (!str_empty(helper))
		return change_helper(helper, registry, credentials, err);
	rc = change_entry(value, registry, credentials, err);
	if (rc < 0)
		return rc;
	dir = str_copy_n(file, (size_t)(strrchr(file, '/') ? strrchr(file, '/') - file : 0));
	rc = dir[0] ? dir_make(AT_FDCWD, dir, 0700, err) : 0;
	return rc < 0 ? rc : json_write_file(AT_FDCWD, file, value, 0600, err);
}
