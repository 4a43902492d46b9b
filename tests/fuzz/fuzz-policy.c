/* Fuzzes the parser of policy files. What is accepted must decide about every name, and what it
 * decides must be one of the known kinds, with a key wherever signatures are wanted. */
#include <stdint.h>
#include <stdlib.h>

#include "image/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void decide(const struct policy *policy, const struct policy_scope *scope,
		   const struct reference *reference)
{
	struct error err = {0};
	bool rejects = false;

	if (scope == NULL || scope->count == 0)
		abort();
	for (size_t i = 0; i < scope->count; i++) {
		const struct policy_requirement *q = &scope->requirements[i];

		if (q->kind == POLICY_REJECT)
			rejects = true;
		else if (q->kind == POLICY_SIGNED && q->key_paths == NULL && q->key_datas == NULL)
			abort();
		else if (q->kind != POLICY_ACCEPT && q->kind != POLICY_SIGNED)
			abort();
	}
	if ((policy_check_rejects(policy, scope, reference, &err) < 0) != rejects)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const names[] = {"busybox", "example.org/app:1", "a.b.example.org/x/y/z",
					    "localhost:5000/a"};
	own_policy struct policy policy = {0};
	struct reference reference;
	struct error err = {0};

	if (policy_parse((const char *)data, len, "policy.json", &policy, &err) < 0) {
		if (err.text[0] == '\0')
			abort();
		return 0;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (reference_parse(names[i], &reference, &err) < 0)
			abort();
		decide(&policy, policy_find(&policy, &reference), &reference);
	}
	decide(&policy, policy_default(&policy), &reference);
	return 0;
}
