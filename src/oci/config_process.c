/* config_process: a process, as in the member "process" and as exec gets it. */
#include "oci/config_priv.h"

#include <linux/ioprio.h>
#include <linux/sched.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/mem.h"
#include "oci/caps.h"

static int parse_user(struct config *c, const struct json_at *process, struct config_process *p,
		      struct error *err)
{
	struct json_at user, array, item;
	int64_t uid = 0, gid = 0, umask = 0, id;
	int rc = json_object_at(process, "user", JSON_OPTIONAL, &user, err);

	if (rc <= 0)
		return rc;
	/* 4294967295 is the kernel's "no such id". */
	if ((rc = json_get_int(&user, "uid", JSON_OPTIONAL, 0, UINT32_MAX - 1, &uid, err)) < 0 ||
	    (rc = json_get_int(&user, "gid", JSON_OPTIONAL, 0, UINT32_MAX - 1, &gid, err)) < 0 ||
	    (rc = json_get_int(&user, "umask", JSON_OPTIONAL, 0, 07777, &umask, err)) < 0)
		return rc;
	p->has_umask = rc > 0;
	p->umask = (mode_t)umask & 0777;
	p->uid = (uid_t)uid;
	p->gid = (gid_t)gid;
	rc = config_list(c, &user, "additionalGids", sizeof(gid_t), &array, &p->groups,
			 &p->group_count, err);
	if (rc <= 0)
		return rc;
	for (size_t i = 0; json_element(&array, i, &item); i++) {
		rc = json_as_int(&item, 0, UINT32_MAX - 1, &id, err);
		if (rc < 0)
			return rc;
		p->groups[i] = (gid_t)id;
	}
	return 1;
}

static int parse_caps(struct config *c, const struct json_at *process, struct config_process *p,
		      struct error *err)
{
	const struct {
		const char *key;
		uint64_t *set;
	} sets[] = {
		{"bounding", &p->caps.bounding},       {"effective", &p->caps.effective},
		{"inheritable", &p->caps.inheritable}, {"permitted", &p->caps.permitted},
		{"ambient", &p->caps.ambient},
	};
	struct json_at caps;
	int rc = json_object_at(process, "capabilities", JSON_OPTIONAL, &caps, err);

	if (rc <= 0)
		return rc;
	p->has_caps = true;
	p->caps = (struct config_caps){0};
	for (size_t i = 0; i < array_size(sets); i++) {
		char **names = NULL;

		rc = config_strings(c, &caps, sets[i].key, &names, err);
		if (rc < 0)
			return rc;
		for (size_t k = 0; names != NULL && names[k] != NULL; k++) {
			int number = caps_parse(names[k]);

			/* The specification: a capability that cannot be granted is a warning. */
			if (number < 0)
				log_warn("process.capabilities.%s: there is no capability \"%s\"",
					 sets[i].key, names[k]);
			else
				*sets[i].set |= UINT64_C(1) << number;
		}
	}
	return 1;
}

static const struct config_word rlimit_names[] = {
	{"RLIMIT_AS", RLIMIT_AS},
	{"RLIMIT_CORE", RLIMIT_CORE},
	{"RLIMIT_CPU", RLIMIT_CPU},
	{"RLIMIT_DATA", RLIMIT_DATA},
	{"RLIMIT_FSIZE", RLIMIT_FSIZE},
	{"RLIMIT_LOCKS", RLIMIT_LOCKS},
	{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
	{"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
	{"RLIMIT_NICE", RLIMIT_NICE},
	{"RLIMIT_NOFILE", RLIMIT_NOFILE},
	{"RLIMIT_NPROC", RLIMIT_NPROC},
	{"RLIMIT_RSS", RLIMIT_RSS},
	{"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
	{"RLIMIT_RTTIME", RLIMIT_RTTIME},
	{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
	{"RLIMIT_STACK", RLIMIT_STACK},
	{NULL, 0},
};

static int parse_rlimits(struct config *c, const struct json_at *process, struct config_process *p,
			 struct error *err)
{
	struct json_at array, item;
	int rc = config_list(c, process, "rlimits", sizeof(*p->rlimits), &array, &p->rlimits,
			     &p->rlimit_count, err);

	if (rc <= 0)
		return rc;
	for (size_t i = 0; json_element(&array, i, &item); i++) {
		struct config_rlimit *limit = &p->rlimits[i];
		uint64_t resource;
		int64_t soft, hard;

		/* A limit beyond 2^63-1 arrives as a negative number (config_file.c). */
		if ((rc = config_word(&item, "type", JSON_REQUIRED, rlimit_names, &resource, err)) <
			    0 ||
		    (rc = json_get_int(&item, "soft", JSON_REQUIRED, INT64_MIN, INT64_MAX, &soft,
				       err)) < 0 ||
		    (rc = json_get_int(&item, "hard", JSON_REQUIRED, INT64_MIN, INT64_MAX, &hard,
				       err)) < 0)
			return rc;
		limit->resource = (int)resource;
		limit->soft = (uint64_t)soft;
		limit->hard = (uint64_t)hard;
		if (limit->soft > limit->hard)
			return json_refuse(err, &item, "the soft limit is above the hard limit");
		for (size_t k = 0; k < i; k++)
			if (p->rlimits[k].resource == limit->resource)
				return json_refuse(err, &item,
						   "sets the same limit as rlimits[%zu]", k);
	}
	return 1;
}

static int parse_io_priority(const struct json_at *process, struct config_process *p,
			     struct error *err)
{
	static const struct config_word classes[] = {
		{"IOPRIO_CLASS_RT", IOPRIO_CLASS_RT},
		{"IOPRIO_CLASS_BE", IOPRIO_CLASS_BE},
		{"IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE},
		{NULL, 0},
	};
	struct json_at at;
	uint64_t class;
	int64_t level = 0;
	int rc = json_object_at(process, "ioPriority", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	if ((rc = config_word(&at, "class", JSON_REQUIRED, classes, &class, err)) < 0 ||
	    (rc = json_get_int(&at, "priority", JSON_OPTIONAL, 0, 7, &level, err)) < 0)
		return rc;
	p->has_io_priority = true;
	p->io_priority = IOPRIO_PRIO_VALUE((int)class, (int)level);
	return 1;
}

static const struct config_word scheduler_policies[] = {
	{"SCHED_OTHER", SCHED_NORMAL},
	{"SCHED_FIFO", SCHED_FIFO},
	{"SCHED_RR", SCHED_RR},
	{"SCHED_BATCH", SCHED_BATCH},
	{"SCHED_IDLE", SCHED_IDLE},
	{"SCHED_DEADLINE", SCHED_DEADLINE},
	{NULL, 0},
};

static const struct config_word scheduler_flags[] = {
	{"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},
	{"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
	{"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},
	{"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
	{"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},
	{"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
	{"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX},
	{NULL, 0},
};

static int parse_scheduler(struct config *c, const struct json_at *process,
			   struct config_process *p, struct error *err)
{
	struct config_scheduler *s = &p->scheduler;
	int64_t nice = 0, priority = 0, runtime = 0, deadline = 0, period = 0;
	uint64_t policy, flag;
	struct json_at at, item;
	char **flags = NULL;
	int rc = json_object_at(process, "scheduler", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	if ((rc = config_word(&at, "policy", JSON_REQUIRED, scheduler_policies, &policy, err)) <
		    0 ||
	    (rc = json_get_int(&at, "nice", JSON_OPTIONAL, -20, 19, &nice, err)) < 0 ||
	    (rc = json_get_int(&at, "priority", JSON_OPTIONAL, 0, 99, &priority, err)) < 0 ||
	    (rc = json_get_int(&at, "runtime", JSON_OPTIONAL, 0, INT64_MAX, &runtime, err)) < 0 ||
	    (rc = json_get_int(&at, "deadline", JSON_OPTIONAL, 0, INT64_MAX, &deadline, err)) < 0 ||
	    (rc = json_get_int(&at, "period", JSON_OPTIONAL, 0, INT64_MAX, &period, err)) < 0 ||
	    (rc = config_strings(c, &at, "flags", &flags, err)) < 0)
		return rc;
	for (size_t i = 0; flags != NULL && flags[i] != NULL; i++) {
		item = (struct json_at){.up = &at, .key = "flags"};
		rc = config_find_word(&item, flags[i], scheduler_flags, &flag, err);
		if (rc < 0)
			return rc;
		s->flags |= flag;
	}
	if (priority != 0 && policy != SCHED_FIFO && policy != SCHED_RR)
		return json_refuse(err, &at, "a priority goes with SCHED_FIFO and SCHED_RR only");
	if ((runtime || deadline || period) && policy != SCHED_DEADLINE)
		return json_refuse(err, &at,
				   "runtime, deadline and period go with SCHED_DEADLINE only");
	p->has_scheduler = true;
	s->policy = (uint32_t)policy;
	s->nice = (int32_t)nice;
	s->priority = (int32_t)priority;
	s->runtime_ns = (uint64_t)runtime;
	s->deadline_ns = (uint64_t)deadline;
	s->period_ns = (uint64_t)period;
	return 1;
}

static int parse_console(const struct json_at *process, struct config_process *p, struct error *err)
{
	int64_t rows = 0, columns = 0;
	struct json_at at;
	int rc = json_get_bool(process, "terminal", JSON_OPTIONAL, &p->terminal, err);

	if (rc < 0)
		return rc;
	rc = json_object_at(process, "consoleSize", JSON_OPTIONAL, &at, err);
	if (rc <= 0)
		return rc;
	if ((rc = json_get_int(&at, "height", JSON_REQUIRED, 0, UINT16_MAX, &rows, err)) < 0 ||
	    (rc = json_get_int(&at, "width", JSON_REQUIRED, 0, UINT16_MAX, &columns, err)) < 0)
		return rc;
	p->console_rows = (uint16_t)rows;
	p->console_columns = (uint16_t)columns;
	return 1;
}

static int check_strings(const struct json_at *process, const struct config_process *p,
			 struct error *err)
{
	if (p->args != NULL && p->args[0] == NULL)
		return json_refuse(err, process, "args is empty");
	for (size_t i = 0; p->env != NULL && p->env[i] != NULL; i++)
		if (p->env[i][0] == '=' || p->env[i][0] == '\0')
			return json_refuse(err, process, "env[%zu]: \"%s\" names no variable", i,
					   p->env[i]);
	return 0;
}

int config_parse_process(struct config *c, const struct json_at *at, struct config_process *p,
			 struct error *err)
{
	struct json_at affinity;
	int64_t oom = 0;
	int rc;

	if ((rc = json_as_object(at, err)) < 0 || (rc = parse_console(at, p, err)) < 0 ||
	    (rc = parse_user(c, at, p, err)) < 0 ||
	    (rc = config_strings(c, at, "args", &p->args, err)) < 0 ||
	    (rc = config_strings(c, at, "env", &p->env, err)) < 0 ||
	    (rc = config_absolute_path(at, "cwd", JSON_OPTIONAL, &p->cwd, err)) < 0 ||
	    (rc = parse_caps(c, at, p, err)) < 0 || (rc = parse_rlimits(c, at, p, err)) < 0 ||
	    (rc = json_get_bool(at, "noNewPrivileges", JSON_OPTIONAL, &p->no_new_privileges, err)) <
		    0 ||
	    (rc = json_get_string(at, "apparmorProfile", JSON_OPTIONAL, &p->apparmor_profile,
				  err)) < 0 ||
	    (rc = json_get_string(at, "selinuxLabel", JSON_OPTIONAL, &p->selinux_label, err)) < 0 ||
	    (rc = parse_io_priority(at, p, err)) < 0 || (rc = parse_scheduler(c, at, p, err)) < 0 ||
	    (rc = json_get_int(at, "oomScoreAdj", JSON_OPTIONAL, -1000, 1000, &oom, err)) < 0)
		return rc;
	if (rc > 0) {
		p->has_oom_score_adj = true;
		p->oom_score_adj = (int)oom;
	}
	rc = json_object_at(at, "execCPUAffinity", JSON_OPTIONAL, &affinity, err);
	if (rc > 0 && ((rc = json_get_string(&affinity, "initial", JSON_OPTIONAL,
					     &p->cpu_affinity_initial, err)) < 0 ||
		       (rc = json_get_string(&affinity, "final", JSON_OPTIONAL,
					     &p->cpu_affinity_final, err)) < 0))
		return rc;
	return rc < 0 ? rc : check_strings(at, p, err);
}
