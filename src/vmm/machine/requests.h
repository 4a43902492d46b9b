/* requests: what can be asked of a running machine over its control socket. */
#pragma once

#include "base/json.h"
#include "base/sock.h"

struct machine;

/* The descriptors that came with a request; a request that keeps one takes it out. */
struct request_fds {
	unsigned int count;
	int fds[SOCK_FDS_MAX];
};

/* Carries out `request`, an object whose member "do" names what. *ret_result (may stay NULL) is what
 * there is to tell. On the device thread. 0; -EINVAL for what makes no sense, or why it failed. */
int request_execute(struct machine *machine, const struct json_at *request, struct request_fds *fds,
		    json_t **ret_result, struct error *err) must_check;
