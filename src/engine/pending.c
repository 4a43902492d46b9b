/* pending: the calls of the engine whose implementation has not landed yet; each says so. */
#include <errno.h>

#include "engine/engine.h"
#include "engine/isolation.h"
#include "engine/workload.h"

int engine_open(const struct engine_options *options, struct engine **ret, struct error *err)
{
	(void)options;
	(void)ret;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

void engine_close(struct engine *engine)
{
	(void)engine;
}

struct db *engine_db(struct engine *engine)
{
	(void)engine;
	return NULL;
}

int engine_root_fd(const struct engine *engine)
{
	(void)engine;
	return -ENOSYS;
}

int engine_state_fd(const struct engine *engine)
{
	(void)engine;
	return -ENOSYS;
}

const char *engine_root_path(const struct engine *engine)
{
	(void)engine;
	return NULL;
}

const char *engine_state_path(const struct engine *engine)
{
	(void)engine;
	return NULL;
}

bool engine_rootless(const struct engine *engine)
{
	(void)engine;
	return false;
}

int engine_images(struct engine *engine, struct image_store **ret, struct error *err)
{
	(void)engine;
	(void)ret;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int engine_check(struct engine *engine, enum engine_check_flags flags, engine_problem_fn *fn,
		 void *data, struct error *err)
{
	(void)engine;
	(void)flags;
	(void)fn;
	(void)data;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int engine_info(struct engine *engine, json_t **ret, struct error *err)
{
	(void)engine;
	(void)ret;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

void workload_config_init(struct workload_config *config)
{
	(void)config;
}

void workload_config_release(struct workload_config *config)
{
	(void)config;
}

void workload_config_add_mount(struct workload_config *config, struct workload_mount mount)
{
	(void)config;
	(void)mount;
}

void workload_config_add_device(struct workload_config *config, struct workload_device device)
{
	(void)config;
	(void)device;
}

void workload_config_add_ulimit(struct workload_config *config, struct workload_ulimit ulimit)
{
	(void)config;
	(void)ulimit;
}

int workload_config_parse_network(struct workload_config *config, const char *text,
				  struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_parse_restart(struct workload_config *config, const char *text,
				  struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_parse_volume(struct workload_config *config, const char *text,
				 struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_parse_mount(struct workload_config *config, const char *text, struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_parse_tmpfs(struct workload_config *config, const char *text, struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_parse_device(struct workload_config *config, const char *text,
				 struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_parse_ulimit(struct workload_config *config, const char *text,
				 struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_parse_security(struct workload_config *config, const char *text,
				   struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_parse_log_option(struct workload_config *config, const char *text,
				     struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_parse_log_driver(struct workload_config *config, const char *text,
				     struct error *err)
{
	(void)config;
	(void)text;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_config_check(const struct workload_config *config, struct error *err)
{
	(void)config;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

json_t *workload_config_to_json(const struct workload_config *config)
{
	(void)config;
	return NULL;
}

int workload_config_from_json(json_t *value, struct workload_config *ret, struct error *err)
{
	(void)value;
	(void)ret;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

const char *workload_status_name(enum workload_status status)
{
	(void)status;
	return NULL;
}

void workload_release(struct workload *workload)
{
	(void)workload;
}

int workload_find(struct engine *engine, const char *ref, struct workload *ret, struct error *err)
{
	(void)engine;
	(void)ref;
	(void)ret;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_list(struct engine *engine, const struct workload_filter *filter, workload_list_fn *fn,
		  void *data, struct error *err)
{
	(void)engine;
	(void)filter;
	(void)fn;
	(void)data;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

char *workload_status_text(const struct workload *workload)
{
	(void)workload;
	return NULL;
}

int workload_inspect(struct engine *engine, const char *ref, json_t **ret, struct error *err)
{
	(void)engine;
	(void)ref;
	(void)ret;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_create(struct engine *engine, struct workload_config *config,
		    char ret_id[static WORKLOAD_ID_LEN + 1], struct error *err)
{
	(void)engine;
	(void)config;
	(void)ret_id;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_run(struct engine *engine, struct workload_config *config,
		 const struct workload_run *options, struct error *err)
{
	(void)engine;
	(void)config;
	(void)options;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_start(struct engine *engine, const char *ref, const struct workload_stdio *stdio,
		   struct error *err)
{
	(void)engine;
	(void)ref;
	(void)stdio;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_stop(struct engine *engine, const char *ref, int signal, int timeout_s,
		  struct error *err)
{
	(void)engine;
	(void)ref;
	(void)signal;
	(void)timeout_s;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_restart(struct engine *engine, const char *ref, int signal, int timeout_s,
		     struct error *err)
{
	(void)engine;
	(void)ref;
	(void)signal;
	(void)timeout_s;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_kill(struct engine *engine, const char *ref, int signal, struct error *err)
{
	(void)engine;
	(void)ref;
	(void)signal;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_pause(struct engine *engine, const char *ref, struct error *err)
{
	(void)engine;
	(void)ref;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_unpause(struct engine *engine, const char *ref, struct error *err)
{
	(void)engine;
	(void)ref;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_remove(struct engine *engine, const char *ref, enum workload_remove_flags flags,
		    struct error *err)
{
	(void)engine;
	(void)ref;
	(void)flags;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_wait(struct engine *engine, const char *ref, enum workload_wait until,
		  struct error *err)
{
	(void)engine;
	(void)ref;
	(void)until;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_rename(struct engine *engine, const char *ref, const char *name, struct error *err)
{
	(void)engine;
	(void)ref;
	(void)name;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_exec(struct engine *engine, const char *ref, const struct workload_exec *options,
		  struct error *err)
{
	(void)engine;
	(void)ref;
	(void)options;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_attach(struct engine *engine, const char *ref, const struct workload_stdio *stdio,
		    struct error *err)
{
	(void)engine;
	(void)ref;
	(void)stdio;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_read_logs(struct engine *engine, const char *ref, const struct workload_logs *options,
		       workload_output_fn *fn, void *data, struct error *err)
{
	(void)engine;
	(void)ref;
	(void)options;
	(void)fn;
	(void)data;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_get_stats(struct engine *engine, const char *ref, struct workload_stats *ret,
		       struct error *err)
{
	(void)engine;
	(void)ref;
	(void)ret;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_top(struct engine *engine, const char *ref, workload_process_fn *fn, void *data,
		 struct error *err)
{
	(void)engine;
	(void)ref;
	(void)fn;
	(void)data;
	return refuse(err, -ENOSYS, "%s is not implemented yet", __func__);
}

int workload_monitor_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return -ENOSYS;
}
