/* exec: further processes, and attaching to the first (verbs of workload.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sock.h"
#include "base/str.h"
#include "base/tty.h"
#include "engine/capability.h"
#include "engine/channel.h"
#include "engine/find.h"
#include "engine/isolation.h"
#include "engine/spec.h"
#include "engine/streams.h"
#include "image/config.h"
#include "image/store.h"
#include "oci/user.h"

/* The environment of the workload's own process, and on top what is asked for. */
static int make_environment(struct engine *engine, const struct workload *w,
			    const struct workload_exec *exec, char ***ret, char **ret_user,
			    struct error *err)
{
	own_image_config struct image_config config = {0};
	own_image struct image *image = NULL;
	struct image_store *store;
	char **env;
	int rc = engine_images(engine, &store, err);

	if (rc == 0)
		rc = image_find(store, w->config.image_id, &image, err);
	if (rc == 0)
		rc = image_read_config(image, &config, err);
	if (rc < 0)
		return rc;
	env = spec_environment(w, &config);
	if (exec->tty && env_get(env, "TERM") == NULL)
		env_set(&env, "TERM", "xterm");
	for (size_t i = 0; exec->env != NULL && exec->env[i] != NULL; i++)
		env_set_pair(&env, exec->env[i]);
	*ret = env;
	*ret_user = str_copy(str_empty(exec->user) ? spec_user(&w->config, &config) : exec->user);
	return 0;
}

/* The user is looked up in the workload's files as they are now. */
static int set_user(struct engine *engine, const struct workload *w, const char *name,
		    json_t *process, char ***env, struct error *err)
{
	const struct isolation *isolation = isolation_of(w->config.isolation);
	own_user struct user user = {0};
	own_fd int root = -1;
	int rc;

	if (isolation->open_root == NULL) {
		json_t *who = json_object();

		json_set_string(who, "name", name);
		json_set_strv(who, "groups", w->config.groups_add);
		json_object_set_new(process, ISOLATION_USER, who);
		return 0;
	}
	root = isolation->open_root(engine, w, err);
	rc = root < 0 ? root : user_resolve(root, name, w->config.groups_add, &user, err);
	if (rc < 0)
		return rc;
	json_object_set_new(process, "user", user_to_json(&user));
	if (env_get(*env, "HOME") == NULL)
		env_set(env, "HOME", user.home);
	return 0;
}

static void add_all_capabilities(json_t *process)
{
	json_t *set = json_object();
	own_json json_t *all = capability_all();

	json_object_set(set, "bounding", all);
	json_object_set(set, "effective", all);
	json_object_set(set, "permitted", all);
	json_object_set_new(process, "capabilities", set);
}

static int make_process(struct engine *engine, const struct workload *w,
			const struct workload_exec *exec, json_t **ret, struct error *err)
{
	own_json json_t *process = json_object();
	own_strv char **env = NULL;
	own_mem char *user = NULL;
	struct tty_size size;
	int rc;

	if (exec->working_dir != NULL && exec->working_dir[0] != '/')
		return refuse(err, -EINVAL, "working directory \"%s\" is not an absolute path",
			      exec->working_dir);
	rc = make_environment(engine, w, exec, &env, &user, err);
	if (rc == 0)
		rc = set_user(engine, w, user, process, &env, err);
	if (rc < 0)
		return rc;
	json_set_strv(process, "args", exec->argv);
	json_object_set_new(process, "terminal", json_boolean(exec->tty));
	if (exec->tty && !exec->detach && tty_get_size(exec->stdio.fds[0], &size) == 0)
		spec_set_size(process, size.rows, size.columns);
	json_set_string(process, "cwd", exec->working_dir);
	json_set_strv(process, "env", env);
	if (exec->privileged)
		add_all_capabilities(process);
	*ret = take(process);
	return 0;
}

/* Sends the request with the process as a memory file. */
static int send_request(int channel_fd, const struct workload_exec *exec, const json_t *process,
			struct error *err)
{
	own_mem char *text = json_text(process);
	own_fd int fd = memfd_create("exec", MFD_CLOEXEC);
	const bool with_stdin = !exec->detach && (exec->stdio.flags & WORKLOAD_ATTACH_STDIN);
	uint32_t head[4] = {
		CHANNEL_EXEC,
		exec->detach ? 0 : (uint32_t)exec->stdio.flags,
		(exec->tty ? CHANNEL_EXEC_TTY : 0U) | (with_stdin ? CHANNEL_EXEC_STDIN : 0U),
	};
	int rc = fd < 0 ? -errno : fd_write_full(fd, text, strlen(text));

	if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
		rc = -errno;
	if (rc == 0)
		rc = sock_send_fds(channel_fd, head, sizeof(head), &fd, 1);
	return rc < 0 ? fail(err, rc, "ask the monitor") : 0;
}

static int follow_exec(int channel_fd, const struct workload_exec *exec, struct error *err)
{
	struct streams streams = {
		.channel_fd = channel_fd,
		.stdio = &exec->stdio,
		.tty = exec->tty,
		.foreground = true,
	};

	if (exec->detach)
		return streams_answer(channel_fd, NULL, err);
	return streams_run(&streams, err);
}

/* One that runs and is not paused. */
static int find_awake(struct engine *engine, const char *ref, struct workload *ret,
		      struct error *err)
{
	int rc = find_running(engine, ref, ret, err);

	if (rc == 0 && ret->status == WORKLOAD_PAUSED)
		rc = hint(err, refuse(err, -EBUSY, "\"%s\" is paused", ref),
			  "unpause it first (berth unpause %s)", ref);
	return rc;
}

int workload_exec(struct engine *engine, const char *ref, const struct workload_exec *exec,
		  struct error *err)
{
	own_workload struct workload w = {0};
	own_json json_t *process = NULL;
	own_fd int fd = -1;
	int rc = find_awake(engine, ref, &w, err);

	if (rc == 0)
		rc = isolation_check_inside(&w, err);
	if (rc == 0)
		rc = make_process(engine, &w, exec, &process, err);
	if (rc == 0)
		rc = fd = streams_connect(engine, &w, err);
	if (rc >= 0)
		rc = send_request(fd, exec, process, err);
	if (rc == 0)
		rc = follow_exec(fd, exec, err);
	return rc < 0 ? fail(err, rc, "cannot exec in \"%s\"", ref) : rc;
}

int workload_attach(struct engine *engine, const char *ref, const struct workload_stdio *stdio,
		    struct error *err)
{
	own_workload struct workload w = {0};
	own_fd int fd = -1;
	struct streams streams = {.name = ref, .stdio = stdio, .started = true};
	int rc = find_awake(engine, ref, &w, err);

	if (rc == 0)
		rc = fd = streams_connect(engine, &w, err);
	if (rc >= 0)
		rc = channel_send_head(fd, CHANNEL_ATTACH, (uint32_t)stdio->flags, 0, true);
	if (rc == 0) {
		streams.channel_fd = fd;
		streams.tty = (w.config.flags & WORKLOAD_TTY) != 0;
		streams.forward_signals = !(stdio->flags & WORKLOAD_ATTACH_NO_SIGNALS);
		rc = streams_run(&streams, err);
	}
	return rc < 0 ? fail(err, rc, "cannot attach to \"%s\"", ref) : rc;
}
