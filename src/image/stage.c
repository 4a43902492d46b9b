/*
 * stage: see stage.h.
 *
 * The buffers are a ring: those from `done` to `sent` are the thread's, the others ours. The lock guards
 * what stands behind it; the buffers' contents change hands with the counters.
 */
#include "image/stage.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"

struct stage {
	stage_fn *fn;
	void *context;
	unsigned char *buffers;
	size_t lengths[STAGE_BUFFERS]; /* of those that are the thread's */
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t sent, done; /* buffers; done <= sent <= done + STAGE_BUFFERS */
	bool ending;
	int rc; /* the function's failure */
	struct error err;
};

static void *buffer_of(struct stage *s, uint64_t number)
{
	return s->buffers + number % STAGE_BUFFERS * STAGE_ROOM;
}

static void *thread(void *argument)
{
	struct stage *s = argument;

	pthread_mutex_lock(&s->lock);
	for (;;) {
		struct error err = {0};
		uint64_t number = s->done;
		int rc = s->rc;

		if (s->ending)
			break;
		if (s->done == s->sent) {
			pthread_cond_wait(&s->changed, &s->lock);
			continue;
		}
		pthread_mutex_unlock(&s->lock);
		if (rc == 0)
			rc = s->fn(buffer_of(s, number), s->lengths[number % STAGE_BUFFERS],
				   s->context, &err);
		pthread_mutex_lock(&s->lock);
		if (rc < 0 && s->rc == 0) {
			s->rc = rc;
			s->err = err;
		}
		s->done++;
		pthread_cond_signal(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int stage_create(stage_fn *fn, void *context, struct stage **ret, struct error *err)
{
	struct stage *s = mem_new(sizeof(*s));
	int rc;

	s->fn = fn;
	s->context = context;
	s->buffers = mem_new((size_t)STAGE_BUFFERS * STAGE_ROOM);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	rc = -pthread_create(&s->thread, NULL, thread, s);
	if (rc < 0) {
		free(s->buffers);
		free(s);
		return fail(err, rc, "start a thread");
	}
	*ret = s;
	return 0;
}

void stage_destroy(struct stage *s)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	s->ending = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s->buffers);
	free(s);
}

/* Waits, with the lock, until at most `left` buffers are the thread's. */
static void await(struct stage *s, uint64_t left)
{
	while (s->sent - s->done > left)
		pthread_cond_wait(&s->changed, &s->lock);
}

void *stage_room(struct stage *s)
{
	pthread_mutex_lock(&s->lock);
	await(s, STAGE_BUFFERS - 1);
	pthread_mutex_unlock(&s->lock);
	return buffer_of(s, s->sent);
}

static int outcome(struct stage *s, struct error *err)
{
	if (s->rc < 0 && err != NULL)
		*err = s->err;
	return s->rc;
}

int stage_send(struct stage *s, size_t len, struct error *err)
{
	int rc;

	pthread_mutex_lock(&s->lock);
	s->lengths[s->sent % STAGE_BUFFERS] = len;
	s->sent++;
	pthread_cond_signal(&s->changed);
	rc = outcome(s, err);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int stage_drain(struct stage *s, struct error *err)
{
	int rc;

	pthread_mutex_lock(&s->lock);
	await(s, 0);
	rc = outcome(s, err);
	pthread_mutex_unlock(&s->lock);
	return rc;
}
