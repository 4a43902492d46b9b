/*
 * gate: lets the threads that serve devices beside the device thread (block and file system workers) work
 * only while the machine runs: who stops the machine to reset, save or load it closes the gate, and waits
 * until the last of them is out.
 *
 * A zeroed gate is open. Any thread may call.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool closed;
	unsigned int inside;
};

/* Waits until the gate is open, and goes in. No device's lock may be held. */
void gate_enter(struct gate *gate);
void gate_leave(struct gate *gate);
/* One stay more, for what goes on after the caller, who is inside, has left. It ends with gate_leave. */
void gate_stay(struct gate *gate);
/* Returns when nobody is inside any more. */
void gate_close(struct gate *gate);
void gate_open(struct gate *gate);
