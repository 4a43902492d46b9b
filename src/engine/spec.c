/* spec: see spec.h. */
#include "engine/spec.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "engine/capability.h"
#include "image/config.h"
#include "oci/user.h"

int spec_command(const struct workload_config *config, const struct image_config *image,
		 char ***ret, struct error *err)
{
	/* As docker: an entrypoint given by the user makes the image's command void. */
	char *const *entrypoint = config->entrypoint ? config->entrypoint : image->entrypoint;
	char *const *command = config->command;
	own_strv char **argv = NULL;

	if (command == NULL && config->entrypoint == NULL)
		command = image->cmd;
	for (size_t i = 0; entrypoint != NULL && entrypoint[i] != NULL; i++)
		strv_push(&argv, entrypoint[i]);
	for (size_t i = 0; command != NULL && command[i] != NULL; i++)
		strv_push(&argv, command[i]);
	if (argv == NULL)
		return hint(err,
			    refuse(err, -EINVAL, "no command: image \"%s\" has none",
				   config->image ? config->image : ""),
			    "add one behind the image's name");
	*ret = take(argv);
	return 0;
}

char **spec_environment(const struct workload *workload, const struct image_config *image)
{
	char **env = NULL;

	env_set(&env, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (workload->config.hostname != NULL)
		env_set(&env, "HOSTNAME", workload->config.hostname);
	if (workload->config.flags & WORKLOAD_TTY)
		env_set(&env, "TERM", "xterm");
	for (size_t i = 0; image->env != NULL && image->env[i] != NULL; i++)
		env_set_pair(&env, image->env[i]);
	for (size_t i = 0; workload->config.env != NULL && workload->config.env[i] != NULL; i++)
		env_set_pair(&env, workload->config.env[i]);
	return env;
}

const char *spec_user(const struct workload_config *config, const struct image_config *image)
{
	return config->user ? config->user : image->user;
}

static json_t *capabilities_json(json_t *set)
{
	json_t *o = json_object();

	/* Inheritable and ambient stay empty: CVE-2022-24769. */
	json_object_set(o, "bounding", set);
	json_object_set(o, "effective", set);
	json_object_set(o, "permitted", set);
	return o;
}

static json_t *rlimits_json(const struct workload_config *config)
{
	json_t *array = json_array();

	for (size_t i = 0; i < config->ulimits_count; i++) {
		const struct workload_ulimit *u = &config->ulimits[i];
		own_mem char *type = str_format("RLIMIT_%s", u->name);
		json_t *o = json_object();

		for (char *p = type + strlen("RLIMIT_"); *p != '\0'; p++)
			*p = (char)(*p - 'a' + 'A');
		json_set_string(o, "type", type);
		json_object_set_new(o, "soft", json_integer((json_int_t)u->soft));
		json_object_set_new(o, "hard", json_integer((json_int_t)u->hard));
		json_array_append_new(array, o);
	}
	return array;
}

int spec_process(const struct workload *workload, const struct image_config *image, int root_fd,
		 json_t **ret, struct error *err)
{
	const struct workload_config *config = &workload->config;
	own_strv char **env = spec_environment(workload, image);
	own_json json_t *process = json_object(), *capabilities = NULL;
	own_user struct user user = {0};
	const char *cwd = config->working_dir ? config->working_dir : image->working_dir;
	int rc = 0;

	if (root_fd >= 0)
		rc = user_resolve(root_fd, spec_user(config, image), config->groups_add, &user,
				  err);
	if (rc == 0)
		rc = capability_set(config, &capabilities, err);
	if (rc < 0)
		return rc;
	if (root_fd >= 0 && env_get(env, "HOME") == NULL)
		env_set(&env, "HOME", user.home);
	json_object_set_new(process, "terminal", json_boolean(config->flags & WORKLOAD_TTY));
	if (config->flags & WORKLOAD_TTY)
		spec_set_size(process, workload->rows, workload->columns);
	json_object_set_new(process, "user", user_to_json(&user));
	json_set_strv(process, "args", workload->argv);
	json_set_strv(process, "env", env);
	json_set_string(process, "cwd", cwd[0] ? cwd : "/");
	json_object_set_new(process, "capabilities", capabilities_json(capabilities));
	if (config->ulimits_count > 0)
		json_object_set_new(process, "rlimits", rlimits_json(config));
	if (config->flags & WORKLOAD_NO_NEW_PRIVS)
		json_object_set_new(process, "noNewPrivileges", json_true());
	json_set_string(process, "apparmorProfile", config->apparmor);
	if (config->oom_score_set)
		json_object_set_new(process, "oomScoreAdj", json_integer(config->oom_score_adj));
	*ret = take(process);
	return 0;
}

void spec_set_size(json_t *process, unsigned int rows, unsigned int columns)
{
	json_t *size;

	if (rows == 0 || columns == 0)
		return;
	size = json_object();
	json_object_set_new(size, "height", json_integer(rows));
	json_object_set_new(size, "width", json_integer(columns));
	json_object_set_new(process, "consoleSize", size);
}

static json_t *annotations_json(const struct workload_config *config)
{
	json_t *o = json_object();

	for (size_t i = 0; config->annotations[i] != NULL; i++) {
		const char *pair = config->annotations[i], *equals = strchrnul(pair, '=');
		own_mem char *key = str_copy_n(pair, (size_t)(equals - pair));

		json_set_string(o, key, *equals ? equals + 1 : "");
	}
	return o;
}

int spec_make(struct engine *engine, const struct workload *workload,
	      const struct image_config *image, int root_fd, json_t **ret, struct error *err)
{
	const struct workload_config *config = &workload->config;
	own_json json_t *spec = json_object();
	json_t *process, *mounts, *linux_part, *root = json_object();
	int rc;

	json_set_string(spec, "ociVersion", "1.2.0");
	json_set_string(root, "path", "rootfs");
	json_object_set_new(root, "readonly", json_boolean(config->flags & WORKLOAD_READ_ONLY));
	json_object_set_new(spec, "root", root);
	rc = spec_process(workload, image, root_fd, &process, err);
	if (rc < 0)
		return rc;
	json_object_set_new(spec, "process", process);
	if (!(config->flags & WORKLOAD_UTS_HOST)) {
		json_set_string(spec, "hostname", config->hostname);
		json_set_string(spec, "domainname", config->domainname);
	}
	rc = spec_mounts(engine, workload, &mounts, err);
	if (rc < 0)
		return rc;
	json_object_set_new(spec, "mounts", mounts);
	rc = spec_linux(workload,
			json_object_get(json_object_get(process, "capabilities"), "bounding"),
			&linux_part, err);
	if (rc < 0)
		return rc;
	json_object_set_new(spec, "linux", linux_part);
	if (config->annotations != NULL)
		json_object_set_new(spec, "annotations", annotations_json(config));
	*ret = take(spec);
	return 0;
}
