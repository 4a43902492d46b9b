/*
 * without: runs a program on a kernel that seems to lack some system calls.
 *
 *     without CALL[=ERRNO],... COMMAND [ARGUMENT...]
 *
 * The calls (by name, or prctl:OPTION for one operation of prctl) fail with ENOSYS, or with the given
 * number, in the program and all that it starts. Where open_tree or mount_setattr is not there, neither is
 * open_tree_attr, which came after both.
 */
#include <errno.h>
#include <linux/prctl.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"

static void die(const char *what, int rc)
{
	fprintf(stderr, "without: %s: %s\n", what, strerror(-rc));
	exit(125);
}

static int add(scmp_filter_ctx filter, char *call)
{
	char *equals = strchr(call, '='), *colon = strchr(call, ':');
	const int error = equals ? atoi(equals + 1) : ENOSYS;
	int number;

	if (equals != NULL)
		*equals = '\0';
	if (colon != NULL)
		*colon = '\0';
	number = call_number(call);
	if (number == __NR_SCMP_ERROR)
		return -EINVAL;
	if (colon != NULL)
		return seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned int)error), number, 1,
					SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)atoi(colon + 1)));
	return seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned int)error), number, 0);
}

int main(int argc, char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	char *save = NULL;
	bool attr = false;
	int rc;

	if (argc < 3) {
		fputs("usage: without CALL[=ERRNO],... COMMAND [ARGUMENT...]\n", stderr);
		return 125;
	}
	/* The program's own rights stay as they are. */
	rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
	for (char *call = strtok_r(argv[1], ",", &save); rc == 0 && call != NULL;
	     call = strtok_r(NULL, ",", &save)) {
		rc = add(filter, call);
		if (rc < 0)
			die(call, rc);
		attr |= strcmp(call, "open_tree") == 0 || strcmp(call, "mount_setattr") == 0;
	}
	if (rc == 0 && attr)
		rc = add(filter, (char[]){"open_tree_attr"});
	if (rc == 0)
		rc = seccomp_load(filter);
	if (rc < 0)
		die("filter", rc);
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 127;
}
