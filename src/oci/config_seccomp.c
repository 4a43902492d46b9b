/*
 * config_seccomp: linux.seccomp. While parsing, everything that decides about the compiled filter
 * goes into a digest, the name under which the compiled filter is cached.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>

#include "base/mem.h"
#include "oci/config_priv.h"

static const struct config_word actions[] = {
	{"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
	{"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
	{"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
	{"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
	{"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
	{"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
	{"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
	{"SCMP_ACT_LOG", SCMP_ACT_LOG},
	{"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY},
	{NULL, 0},
};

static const struct config_word architectures[] = {
	{"SCMP_ARCH_X86", SCMP_ARCH_X86},
	{"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
	{"SCMP_ARCH_X32", SCMP_ARCH_X32},
	{"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
	{"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},
	{"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS},
	{"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64},
	{"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32},
	{"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL},
	{"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64},
	{"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32},
	{"SCMP_ARCH_PPC", SCMP_ARCH_PPC},
	{"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64},
	{"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
	{"SCMP_ARCH_S390", SCMP_ARCH_S390},
	{"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
	{"SCMP_ARCH_PARISC", SCMP_ARCH_PARISC},
	{"SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64},
	{"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64},
	{NULL, 0},
};

static const struct config_word filter_flags[] = {
	{"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
	{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
	{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
	{NULL, 0},
};

static const struct config_word operators[] = {
	{"SCMP_CMP_NE", SCMP_CMP_NE},
	{"SCMP_CMP_LT", SCMP_CMP_LT},
	{"SCMP_CMP_LE", SCMP_CMP_LE},
	{"SCMP_CMP_EQ", SCMP_CMP_EQ},
	{"SCMP_CMP_GE", SCMP_CMP_GE},
	{"SCMP_CMP_GT", SCMP_CMP_GT},
	{"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
	{NULL, 0},
};

const char *seccomp_word(const char *table, size_t i)
{
	const struct config_word *words = strcmp(table, "actions") == 0         ? actions
					  : strcmp(table, "architectures") == 0 ? architectures
					  : strcmp(table, "flags") == 0         ? filter_flags
										: operators;

	for (size_t k = 0; k <= i; k++)
		if (words[k].name == NULL)
			return NULL;
	return words[i].name;
}

/* EPERM where nothing is said. Only these two actions carry a number. */
static int add_errno(const struct json_at *at, const char *key, uint64_t *action, struct error *err)
{
	int64_t number = EPERM;
	int rc = json_get_int(at, key, JSON_OPTIONAL, 0, UINT16_MAX, &number, err);

	if (rc < 0)
		return rc;
	if (*action == SCMP_ACT_ERRNO(0))
		*action = SCMP_ACT_ERRNO((uint32_t)number);
	else if (*action == SCMP_ACT_TRACE(0))
		*action = SCMP_ACT_TRACE((uint32_t)number);
	else if (rc > 0 && number != 0)
		return json_refuse(err, at, "%s: goes with SCMP_ACT_ERRNO and SCMP_ACT_TRACE only",
				   key);
	return 0;
}

static void add_text(struct digest_state *digest, const char *s)
{
	digest_add(digest, s, strlen(s) + 1);
}

static int parse_args(struct config *c, const struct json_at *rule, struct config_seccomp_rule *r,
		      struct digest_state *digest, struct error *err)
{
	struct json_at array, item;
	int rc = config_list(c, rule, "args", sizeof(*r->args), &array, &r->args, &r->arg_count,
			     err);

	for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++) {
		struct config_seccomp_arg *a = &r->args[i];
		int64_t index, value, value_two = 0;
		uint64_t op;

		/* Values above 2^63-1 arrive as negative numbers (config_file.c). */
		if (json_get_int(&item, "index", JSON_REQUIRED, 0, 5, &index, err) < 0 ||
		    json_get_int(&item, "value", JSON_REQUIRED, INT64_MIN, INT64_MAX, &value, err) <
			    0 ||
		    json_get_int(&item, "valueTwo", JSON_OPTIONAL, INT64_MIN, INT64_MAX, &value_two,
				 err) < 0 ||
		    config_word(&item, "op", JSON_REQUIRED, operators, &op, err) < 0)
			return -EINVAL;
		a->index = (unsigned int)index;
		a->value = (uint64_t)value;
		a->value_two = (uint64_t)value_two;
		a->op = (int)op;
		digest_add(digest, a, sizeof(*a));
	}
	return rc;
}

static int parse_rule(struct config *c, const struct json_at *at, struct config_seccomp_rule *r,
		      struct digest_state *digest, struct error *err)
{
	uint64_t action;
	int rc;

	if ((rc = config_strings(c, at, "names", &r->names, err)) < 0 ||
	    (rc = config_word(at, "action", JSON_REQUIRED, actions, &action, err)) < 0 ||
	    (rc = add_errno(at, "errnoRet", &action, err)) < 0)
		return rc;
	if (r->names == NULL || r->names[0] == NULL)
		return json_refuse(err, at, "names no system call");
	r->action = (uint32_t)action;
	for (size_t i = 0; r->names[i] != NULL; i++)
		add_text(digest, r->names[i]);
	digest_add(digest, &r->action, sizeof(r->action));
	return parse_args(c, at, r, digest, err);
}

static int parse_architectures(struct config *c, const struct json_at *at, struct config_seccomp *s,
			       struct digest_state *digest, struct error *err)
{
	struct json_at array, item;
	int rc = config_list(c, at, "architectures", sizeof(*s->architectures), &array,
			     &s->architectures, &s->architecture_count, err);

	for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++) {
		const char *name;
		uint64_t value;

		if (json_as_string(&item, &name, err) < 0 ||
		    config_find_word(&item, name, architectures, &value, err) < 0)
			return -EINVAL;
		s->architectures[i] = (uint32_t)value;
		add_text(digest, name);
	}
	return rc;
}

static int parse_flags(struct config *c, const struct json_at *at, struct config_seccomp *s,
		       struct error *err)
{
	struct json_at array, item;
	char **unused;
	size_t count;
	int rc = config_list(c, at, "flags", sizeof(*unused), &array, &unused, &count, err);

	for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++) {
		const char *name;
		uint64_t value;

		if (json_as_string(&item, &name, err) < 0 ||
		    config_find_word(&item, name, filter_flags, &value, err) < 0)
			return -EINVAL;
		s->flags |= (unsigned int)value;
	}
	return rc;
}

static int check_listener(const struct json_at *at, struct config_seccomp *s, struct error *err)
{
	bool notify = s->default_action == SCMP_ACT_NOTIFY;

	if (notify)
		return json_refuse(err, at, "defaultAction: SCMP_ACT_NOTIFY cannot be the default");
	for (size_t i = 0; i < s->rule_count; i++) {
		notify |= s->rules[i].action == SCMP_ACT_NOTIFY;
		/* The runtime itself writes after the filter is in place: to its parent. */
		for (size_t k = 0;
		     s->rules[i].action == SCMP_ACT_NOTIFY && s->rules[i].names[k] != NULL; k++)
			if (strcmp(s->rules[i].names[k], "write") == 0)
				return json_refuse(err, at,
						   "syscalls[%zu]: SCMP_ACT_NOTIFY cannot be used "
						   "for the write syscall",
						   i);
	}
	if (notify && str_empty(s->listener_path))
		return json_refuse(err, at, "listenerPath: is required with SCMP_ACT_NOTIFY");
	return 0;
}

int config_parse_seccomp(struct config *c, const struct json_at *linux_, struct error *err)
{
	struct config_seccomp *s = &c->linux_.seccomp;
	struct digest_state digest;
	struct json_at at, array, item;
	uint64_t action;
	int rc = json_object_at(linux_, "seccomp", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	digest_begin(&digest, NULL);
	if ((rc = config_word(&at, "defaultAction", JSON_REQUIRED, actions, &action, err)) < 0 ||
	    (rc = add_errno(&at, "defaultErrnoRet", &action, err)) < 0 ||
	    (rc = parse_architectures(c, &at, s, &digest, err)) < 0 ||
	    (rc = parse_flags(c, &at, s, err)) < 0 ||
	    (rc = json_get_string(&at, "listenerPath", JSON_OPTIONAL, &s->listener_path, err)) <
		    0 ||
	    (rc = json_get_string(&at, "listenerMetadata", JSON_OPTIONAL, &s->listener_metadata,
				  err)) < 0 ||
	    (rc = config_list(c, &at, "syscalls", sizeof(*s->rules), &array, &s->rules,
			      &s->rule_count, err)) < 0)
		return rc;
	s->given = true;
	s->default_action = (uint32_t)action;
	for (size_t i = 0; i < s->rule_count && json_element(&array, i, &item); i++)
		if (parse_rule(c, &item, &s->rules[i], &digest, err) < 0)
			return -EINVAL;
	digest_add(&digest, &s->default_action, sizeof(s->default_action));
	digest_end(&digest, &s->content);
	return check_listener(&at, s, err);
}
