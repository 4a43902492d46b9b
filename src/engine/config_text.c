/*
 * config_text: the command line's texts for mounts, devices, limits, policies and security options
 * (declared in config.h). The forms are docker's.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/config.h"

int workload_config_parse_network(struct workload_config *config, const char *text,
				  struct error *err)
{
	if (str_eq(text, "none"))
		config->network = WORKLOAD_NETWORK_NONE;
	else if (str_eq(text, "host"))
		config->network = WORKLOAD_NETWORK_HOST;
	else
		return hint(err,
			    refuse(err, -EINVAL,
				   "network \"%s\" cannot be used: this version has "
				   "only \"none\" and \"host\"",
				   text),
			    "--network none gives the workload a loopback interface of its own, "
			    "--network host the host's interfaces");
	return 0;
}

int workload_config_parse_restart(struct workload_config *config, const char *text,
				  struct error *err)
{
	const char *max = str_after(text, "on-failure:");
	int64_t count = 0;

	if (max != NULL && str_to_int(max, 0, INT_MAX, &count) < 0)
		return refuse(err, -EINVAL, "restart policy \"%s\": \"%s\" is not a number", text,
			      max);
	if (str_eq(text, "no") || str_empty(text))
		config->restart = WORKLOAD_RESTART_NO;
	else if (str_eq(text, "on-failure") || max != NULL)
		config->restart = WORKLOAD_RESTART_ON_FAILURE;
	else if (str_eq(text, "always"))
		config->restart = WORKLOAD_RESTART_ALWAYS;
	else if (str_eq(text, "unless-stopped"))
		config->restart = WORKLOAD_RESTART_UNLESS_STOPPED;
	else
		return hint(err, refuse(err, -EINVAL, "unknown restart policy \"%s\"", text),
			    "no, on-failure[:N], always, or unless-stopped");
	config->restart_max = (int)count;
	return 0;
}

/* --- mounts ---------------------------------------------------------------------------------------- */

static const char *const bind_options[] = {
	"ro",     "rw",    "private", "rprivate",   "shared",   "rshared", "slave",
	"rslave", "bind",  "rbind",   "nosuid",     "suid",     "nodev",   "dev",
	"noexec", "exec",  "noatime", "nodiratime", "relatime", "z",       "Z",
	"U",      "idmap", "copy",    "nocopy",     "readonly",
};
static const char *const tmpfs_options[] = {
	"ro",   "rw",      "nosuid",     "suid",     "nodev",       "dev",  "noexec",
	"exec", "noatime", "nodiratime", "relatime", "strictatime", "sync", "async",
};

static bool among(const char *const *words, size_t count, const char *word)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(words[i], word))
			return true;
	return false;
}

/* Options whose meaning needs something that is not there are refused instead of dropped. */
static int check_bind_option(const char *option, const char *text, struct error *err)
{
	if (str_eq(option, "copy") || str_eq(option, "nocopy"))
		return refuse(err, -EINVAL,
			      "\"%s\": option \"%s\" is for named volumes, which this "
			      "version does not have",
			      text, option);
	if (str_eq(option, "U") || str_eq(option, "idmap"))
		return refuse(err, -EINVAL,
			      "\"%s\": option \"%s\" needs user namespaces for "
			      "workloads, which this version does not have",
			      text, option);
	if (!among(bind_options, array_size(bind_options), option))
		return refuse(err, -EINVAL, "\"%s\": unknown mount option \"%s\"", text, option);
	return 0;
}

static bool is_absolute(const char *path)
{
	return path != NULL && path[0] == '/';
}

/* Takes the three parts; checks paths. */
static int add_bind(struct workload_config *config, const char *text, const char *source,
		    const char *target, char *const *options, bool create, struct error *err)
{
	own_strv char **kept = NULL;

	if (!is_absolute(target))
		return refuse(err, -EINVAL,
			      "\"%s\": \"%s\" must be an absolute path in the workload", text,
			      target ? target : "");
	if (!is_absolute(source))
		return hint(err,
			    refuse(err, -EINVAL,
				   "\"%s\": \"%s\" names a volume, and this version "
				   "has no named volumes",
				   text, source ? source : ""),
			    "a directory of the host is given as an absolute path or with ./");
	if (str_eq(target, "/"))
		return refuse(err, -EINVAL, "\"%s\": the root directory cannot be mounted over",
			      text);
	for (size_t i = 0; options != NULL && options[i] != NULL; i++) {
		int rc = check_bind_option(options[i], text, err);

		if (rc < 0)
			return rc;
		/* SELinux labels: without SELinux they mean nothing, as with docker. */
		if (!str_eq(options[i], "z") && !str_eq(options[i], "Z"))
			strv_push(&kept, str_eq(options[i], "readonly") ? "ro" : options[i]);
	}
	workload_config_add_mount(config, (struct workload_mount){
						  .type = WORKLOAD_MOUNT_BIND,
						  .source = str_copy(source),
						  .target = str_copy(target),
						  .options = take(kept),
						  .create_source = create,
					  });
	return 0;
}

/* "./x" and "../x" as the shell would mean them; others as they are. NULL with errno. */
static char *absolute_source(const char *source)
{
	char *cwd, *path;

	if (source[0] != '.')
		return str_copy(source);
	path = realpath(source, NULL);
	if (path != NULL || errno != ENOENT)
		return path;
	cwd = realpath(".", NULL);
	if (cwd == NULL)
		return NULL;
	path = str_format("%s/%s", cwd, source);
	free(cwd);
	return path;
}

int workload_config_parse_volume(struct workload_config *config, const char *text,
				 struct error *err)
{
	own_strv char **parts = strv_split(text, ':');
	own_strv char **options = NULL;
	own_mem char *source = NULL;
	size_t count = strv_len(parts);

	if (count == 1)
		return hint(err,
			    refuse(err, -EINVAL,
				   "\"%s\" asks for an anonymous volume, which this "
				   "version does not have",
				   text),
			    "use SOURCE:TARGET, or --tmpfs TARGET for scratch space");
	if (count != 2 && count != 3)
		return hint(err, refuse(err, -EINVAL, "\"%s\" is not a volume", text),
			    "SOURCE:TARGET or SOURCE:TARGET:OPTIONS");
	source = absolute_source(parts[0]);
	if (source == NULL)
		return fail(err, -errno, "\"%s\": %s", text, parts[0]);
	if (count == 3)
		options = strv_split(parts[2], ',');
	return add_bind(config, text, source, parts[1], options, true, err);
}

static int add_tmpfs(struct workload_config *config, const char *text, const char *target,
		     char *const *options, struct error *err)
{
	if (!is_absolute(target) || str_eq(target, "/"))
		return refuse(err, -EINVAL,
			      "\"%s\": \"%s\" must be an absolute path in the workload", text,
			      target ? target : "");
	for (size_t i = 0; options != NULL && options[i] != NULL; i++)
		if (!among(tmpfs_options, array_size(tmpfs_options), options[i]) &&
		    str_after(options[i], "size=") == NULL &&
		    str_after(options[i], "mode=") == NULL &&
		    str_after(options[i], "uid=") == NULL &&
		    str_after(options[i], "gid=") == NULL &&
		    str_after(options[i], "nr_inodes=") == NULL)
			return refuse(err, -EINVAL, "\"%s\": unknown tmpfs option \"%s\"", text,
				      options[i]);
	workload_config_add_mount(config, (struct workload_mount){
						  .type = WORKLOAD_MOUNT_TMPFS,
						  .target = str_copy(target),
						  .options = strv_copy(options),
					  });
	return 0;
}

int workload_config_parse_tmpfs(struct workload_config *config, const char *text, struct error *err)
{
	const char *colon = strchr(text, ':');
	own_mem char *target = colon ? str_copy_n(text, (size_t)(colon - text)) : str_copy(text);
	own_strv char **options = colon ? strv_split(colon + 1, ',') : NULL;

	return add_tmpfs(config, text, target, options, err);
}

/* What `--mount` says, before it is known of which type it is. */
struct mount_words {
	const char *type, *source, *target;
	char **options;
};

/* One "key=value" of --mount. */
static int mount_word(struct mount_words *words, const char *text, char *word, struct error *err)
{
	char *equals = strchr(word, '=');
	const char *value = equals ? equals + 1 : "true";

	if (equals != NULL)
		*equals = '\0';
	if (str_eq(word, "type")) {
		words->type = value;
	} else if (str_eq(word, "source") || str_eq(word, "src")) {
		words->source = value;
	} else if (str_eq(word, "target") || str_eq(word, "destination") || str_eq(word, "dst")) {
		words->target = value;
	} else if (str_eq(word, "readonly") || str_eq(word, "ro")) {
		if (str_eq(value, "true") || str_eq(value, "1"))
			strv_push(&words->options, "ro");
	} else if (str_eq(word, "bind-propagation")) {
		strv_push(&words->options, value);
	} else if (str_eq(word, "bind-nonrecursive")) {
		strv_push(&words->options, str_eq(value, "true") ? "bind" : "rbind");
	} else if (str_eq(word, "tmpfs-size")) {
		strv_push_format(&words->options, "size=%s", value);
	} else if (str_eq(word, "tmpfs-mode")) {
		strv_push_format(&words->options, "mode=%s", value);
	} else {
		return refuse(err, -EINVAL, "\"%s\": unknown key \"%s\"", text, word);
	}
	return 0;
}

int workload_config_parse_mount(struct workload_config *config, const char *text, struct error *err)
{
	own_strv char **parts = strv_split(text, ',');
	struct mount_words words = {.type = "volume"};
	int rc = 0;

	for (size_t i = 0; rc == 0 && parts != NULL && parts[i] != NULL; i++)
		rc = mount_word(&words, text, parts[i], err);
	if (rc == 0 && str_eq(words.type, "bind"))
		rc = add_bind(config, text, words.source, words.target, words.options, false, err);
	else if (rc == 0 && str_eq(words.type, "tmpfs"))
		rc = add_tmpfs(config, text, words.target, words.options, err);
	else if (rc == 0)
		rc = hint(err,
			  refuse(err, -EINVAL, "\"%s\": mounts of type \"%s\" cannot be made", text,
				 words.type),
			  "this version has type=bind and type=tmpfs");
	strv_free(words.options);
	return rc;
}

/* --- devices and limits ------------------------------------------------------------------------------ */

static bool is_access(const char *s)
{
	return s[0] != '\0' && strlen(s) <= 3 && s[strspn(s, "rwm")] == '\0';
}

int workload_config_parse_device(struct workload_config *config, const char *text,
				 struct error *err)
{
	own_strv char **parts = strv_split(text, ':');
	struct workload_device device = {.access = "rwm"};
	size_t count = strv_len(parts);
	const char *target = count > 0 ? parts[0] : "";

	if (count == 2 && is_access(parts[1]))
		strcpy(device.access, parts[1]);
	else if (count >= 2)
		target = parts[1];
	if (count == 3 && is_access(parts[2]))
		strcpy(device.access, parts[2]);
	else if (count == 3)
		return refuse(err, -EINVAL, "\"%s\": \"%s\" is not made of r, w and m", text,
			      parts[2]);
	if (count < 1 || count > 3 || !is_absolute(parts[0]) || !is_absolute(target))
		return hint(err, refuse(err, -EINVAL, "\"%s\" is not a device", text),
			    "SOURCE[:TARGET][:rwm] with absolute paths");
	device.source = str_copy(parts[0]);
	device.target = str_copy(target);
	workload_config_add_device(config, device);
	return 0;
}

static int parse_limit(const char *text, uint64_t *ret)
{
	int64_t number;
	int rc;

	if (str_eq(text, "unlimited") || str_eq(text, "-1")) {
		*ret = UINT64_MAX;
		return 0;
	}
	rc = str_to_int(text, 0, INT64_MAX, &number);
	if (rc == 0)
		*ret = (uint64_t)number;
	return rc;
}

int workload_config_parse_ulimit(struct workload_config *config, const char *text,
				 struct error *err)
{
	static const char *const names[] = {
		"as",   "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue",
		"nice", "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack",
	};
	const char *equals = strchr(text, '=');
	own_mem char *name = equals ? str_copy_n(text, (size_t)(equals - text)) : NULL;
	own_strv char **limits = equals ? strv_split(equals + 1, ':') : NULL;
	struct workload_ulimit ulimit = {0};
	size_t count = strv_len(limits);

	if (name == NULL || count < 1 || count > 2 || parse_limit(limits[0], &ulimit.soft) < 0 ||
	    parse_limit(limits[count - 1], &ulimit.hard) < 0)
		return hint(err, refuse(err, -EINVAL, "\"%s\" is not a limit", text),
			    "NAME=SOFT[:HARD], for example nofile=1024:2048");
	if (!among(names, array_size(names), name))
		return refuse(err, -EINVAL, "\"%s\": there is no limit \"%s\"", text, name);
	if (ulimit.soft > ulimit.hard)
		return refuse(err, -EINVAL, "\"%s\": the soft limit is above the hard one", text);
	ulimit.name = take(name);
	workload_config_add_ulimit(config, ulimit);
	return 0;
}

/* --- security and logs ------------------------------------------------------------------------------- */

enum { SECCOMP_FILE_MAX = 4 << 20 };

static int parse_seccomp(struct workload_config *config, const char *value, struct error *err)
{
	own_json json_t *profile = NULL;
	int rc;

	if (!str_eq(value, "unconfined") && !str_eq(value, "builtin")) {
		rc = json_read_file(AT_FDCWD, value, SECCOMP_FILE_MAX, &profile, err);
		if (rc < 0)
			return fail(err, rc, "seccomp profile");
	}
	free(config->seccomp);
	json_decref(config->seccomp_profile);
	config->seccomp_profile = take(profile);
	config->seccomp = str_eq(value, "builtin") ? NULL : str_copy(value);
	return 0;
}

int workload_config_parse_security(struct workload_config *config, const char *text,
				   struct error *err)
{
	size_t length = strcspn(text, "=:");
	own_mem char *key = str_copy_n(text, length);
	const char *value = text[length] ? text + length + 1 : NULL;

	if (str_eq(key, "no-new-privileges")) {
		if (value != NULL && !str_eq(value, "true") && !str_eq(value, "false"))
			return refuse(err, -EINVAL, "\"%s\": true or false", text);
		if (str_eq(value, "false"))
			config->flags &= ~(unsigned int)WORKLOAD_NO_NEW_PRIVS;
		else
			config->flags |= WORKLOAD_NO_NEW_PRIVS;
		return 0;
	}
	if (value == NULL)
		return refuse(err, -EINVAL, "security option \"%s\" is not known", text);
	if (str_eq(key, "seccomp"))
		return parse_seccomp(config, value, err);
	if (str_eq(key, "apparmor")) {
		free(config->apparmor);
		config->apparmor = str_copy(value);
		return 0;
	}
	if (str_eq(key, "unmask") || (str_eq(key, "systempaths") && str_eq(value, "unconfined"))) {
		own_strv char **paths = strv_split(str_eq(key, "unmask") ? value : "ALL", ':');

		for (size_t i = 0; paths != NULL && paths[i] != NULL; i++)
			strv_push(&config->masked_paths_off, paths[i]);
		return 0;
	}
	/* Without SELinux there is nothing to switch off. */
	if (str_eq(key, "label") && str_eq(value, "disable"))
		return 0;
	if (str_eq(key, "label"))
		return refuse(err, -EINVAL,
			      "security option \"%s\": SELinux labels are not supported", text);
	return hint(err, refuse(err, -EINVAL, "security option \"%s\" is not known", text),
		    "seccomp=FILE|unconfined, no-new-privileges, apparmor=NAME, unmask=PATHS");
}

int workload_config_parse_log_driver(struct workload_config *config, const char *text,
				     struct error *err)
{
	if (str_eq(text, "json-file"))
		config->log = WORKLOAD_LOG_JSON_FILE;
	else if (str_eq(text, "none"))
		config->log = WORKLOAD_LOG_NONE;
	else
		return hint(err, refuse(err, -EINVAL, "there is no log driver \"%s\"", text),
			    "json-file or none");
	return 0;
}

int workload_config_parse_log_option(struct workload_config *config, const char *text,
				     struct error *err)
{
	const char *size = str_after(text, "max-size="), *files = str_after(text, "max-file=");
	uint64_t bytes;
	int64_t count;

	if (size != NULL) {
		if (str_eq(size, "-1") || str_eq(size, "unlimited")) {
			config->log_max_size_bytes = 0;
			return 0;
		}
		if (str_to_size(size, &bytes) < 0 || bytes == 0 || bytes > INT64_MAX)
			return refuse(err, -EINVAL, "log option \"%s\": \"%s\" is not a size", text,
				      size);
		config->log_max_size_bytes = (int64_t)bytes;
		return 0;
	}
	if (files != NULL) {
		if (str_to_int(files, 1, 1000, &count) < 0)
			return refuse(err, -EINVAL, "log option \"%s\": 1 to 1000 files", text);
		config->log_max_files = (int)count;
		return 0;
	}
	return hint(err, refuse(err, -EINVAL, "log option \"%s\" is not known", text),
		    "max-size=SIZE or max-file=COUNT");
}
