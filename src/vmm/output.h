/*
 * output: what a guest writes to a terminal, pipe or file of the user's, without ever waiting for who reads it.
 *
 * The descriptor is shared with other programs, so it is not made non-blocking: a pipe or terminal is opened
 * anew; what cannot be, a socket, is asked before each write.
 *
 * A plain value; one thread at a time uses it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct output {
	int fd;   /* -1: there is nobody; everything is forgotten */
	bool own; /* it was opened anew */
	bool gone; /* nobody reads any more: the same. It stays open, since a vCPU's thread may not close anything */
	bool ask;
};

/* `fd` stays the caller's; -1: there is nobody. Before the jail is entered. */
void output_init(struct output *output, int fd);
void output_release(struct output *output);

/* Writes what is taken now: how many bytes that were. */
size_t output_write(struct output *output, const void *data, size_t size);
/* The same at the end: waits as long as the reader takes something every second. */
void output_drain(struct output *output, const void *data, size_t size);
