/*
 * input: carries what is read from a descriptor to a device that takes as much as it has room for. On
 * the device thread.
 */
#pragma once

#include <stddef.h>

#include "base/loop.h"

struct input;

struct input_ops {
	/* Takes up to `size` bytes, returns how many. */
	size_t (*deliver)(struct input *input, const void *data, size_t size);
	/* The escape key (ctrl-a x) was typed. */
	void (*escape)(struct input *input);
};

enum { INPUT_BUFFER = 4096 };

struct input {
	const struct input_ops *ops;
	struct loop *loop;
	struct loop_source *source, *wake_source;
	int fd, wake_fd;
	bool has_escape;
	bool after_prefix; /* ctrl-a was typed */
	size_t count;
	char buffer[INPUT_BUFFER];
};

/* Without `has_escape` no key is special. */
int input_init(struct input *input, const struct input_ops *ops, struct loop *loop, int fd,
	       bool has_escape) must_check;
void input_release(struct input *input);
/* The device has room again. Any thread. */
void input_wake(struct input *input);
