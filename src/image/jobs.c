/*
 * jobs: see jobs.h.
 *
 * A child is known by its pid until it is reaped here. A record in the pipe is smaller than PIPE_BUF,
 * so records of several children do not mix. A child that ends without a record was killed.
 */
#include "image/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/mem.h"

enum { TICK_MS = 100, OVER = -1 };

struct record {
	uint32_t index;
	int32_t rc;
	struct error err;
	unsigned char result[IMAGE_JOB_RESULT_MAX];
};
_Static_assert(sizeof(struct record) <= PIPE_BUF, "a record is written in one piece");

struct crew {
	const struct image_jobs *jobs;
	struct image_job_meter *meters;
	pid_t *pids;           /* by job; 0: not begun, -1: over */
	size_t begun, running; /* counts */
	int pipe[2];
	int signal_fd;
	struct interrupt interrupt;
	pid_t parent;
};

static _Noreturn void child(struct crew *crew, size_t i)
{
	struct record record = {.index = (uint32_t)i};

	/* Die with the parent, also if it died before we could say so. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != crew->parent)
		_exit(1);
	fd_close(&crew->pipe[0]);
	fd_close(&crew->signal_fd);
	interrupt_leave_to_parent();
	signal(SIGPIPE, SIG_IGN);
	record.rc = crew->jobs->run(i, &crew->meters[i], record.result, crew->jobs->context,
				    &record.err);
	/* Not exit(): what the parent opened is the parent's to close. */
	_exit(fd_write_full(crew->pipe[1], &record, sizeof(record)) < 0);
}

static int spawn(struct crew *crew, struct error *err)
{
	size_t i = crew->begun;
	int rc = crew->jobs->prepare ? crew->jobs->prepare(i, crew->jobs->context, err) : 0;
	pid_t pid;

	if (rc < 0)
		return rc;
	pid = fork();
	if (pid < 0)
		return fail(err, -errno, "start a process for a layer");
	if (pid == 0)
		child(crew, i);
	crew->pids[i] = pid;
	crew->begun++;
	crew->running++;
	return 0;
}

static void tell(struct crew *crew, size_t i, enum image_step step)
{
	const struct image_jobs *jobs = crew->jobs;
	const struct image_job_meter *meter = &crew->meters[i];
	struct image_progress progress = {
		.step = step,
		.what = jobs->name ? jobs->name(i, jobs->context) : "",
		.index = i,
		.count = jobs->count,
		.done_bytes = __atomic_load_n(&meter->done_bytes, __ATOMIC_RELAXED),
		.total_bytes = __atomic_load_n(&meter->total_bytes, __ATOMIC_RELAXED),
	};

	if (jobs->progress != NULL)
		jobs->progress(&progress, jobs->progress_data);
}

/* Takes one record that is waiting in the pipe. */
static int take_record(struct crew *crew, struct error *err)
{
	const struct image_jobs *jobs = crew->jobs;
	struct record record;
	ssize_t n = fd_read_full(crew->pipe[0], &record, sizeof(record));
	int rc;

	if (n < 0)
		return fail(err, (int)n, "hear from a layer's process");
	if ((size_t)n < sizeof(record) || record.index >= crew->begun ||
	    crew->pids[record.index] <= 0)
		return refuse(err, -EPROTO, "a layer's process sent nonsense");
	waitpid(crew->pids[record.index], NULL, 0);
	crew->pids[record.index] = OVER;
	crew->running--;
	if (record.rc < 0) {
		if (err != NULL)
			*err = record.err;
		return record.rc;
	}
	rc = jobs->done(record.index, record.result, jobs->context, err);
	if (rc == 0)
		tell(crew, record.index,
		     crew->meters[record.index].was_there ? IMAGE_STEP_THERE : IMAGE_STEP_DONE);
	return rc;
}

static int take_records(struct crew *crew, struct error *err)
{
	struct pollfd waiting = {.fd = crew->pipe[0], .events = POLLIN};
	int rc = 0;

	while (rc == 0 && poll(&waiting, 1, 0) > 0)
		rc = take_record(crew, err);
	return rc;
}

/* Finds children that ended without a record. */
static int find_dead(struct crew *crew, struct error *err)
{
	for (size_t i = 0; i < crew->begun; i++) {
		int status, rc;

		if (crew->pids[i] <= 0 || waitpid(crew->pids[i], &status, WNOHANG) == 0)
			continue;
		/* It may have written its record between our last look and its end. */
		rc = take_records(crew, err);
		if (rc < 0)
			return rc;
		if (crew->pids[i] == OVER)
			continue;
		crew->pids[i] = OVER;
		crew->running--;
		return refuse(err, -EIO, "the process for a layer was ended by %s",
			      WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "itself");
	}
	return 0;
}

static int run(struct crew *crew, size_t at_once, struct error *err)
{
	struct signalfd_siginfo signal;
	int rc = 0;

	while (rc == 0 && (crew->running > 0 || crew->begun < crew->jobs->count)) {
		struct pollfd waiting[] = {
			{.fd = crew->pipe[0], .events = POLLIN},
			{.fd = crew->signal_fd, .events = POLLIN},
		};

		if (crew->running < at_once && crew->begun < crew->jobs->count) {
			rc = spawn(crew, err);
			continue;
		}
		if (poll(waiting, 2, TICK_MS) < 0 && errno != EINTR)
			return fail(err, -errno, "wait for the layers");
		/* Taken, so that it does not end us when it is let through again. */
		if ((waiting[1].revents & POLLIN) &&
		    read(crew->signal_fd, &signal, sizeof(signal)) == sizeof(signal))
			return interrupt_refuse(err, (int)signal.ssi_signo);
		rc = take_records(crew, err);
		if (rc == 0)
			rc = find_dead(crew, err);
		for (size_t i = 0; rc == 0 && i < crew->begun; i++)
			if (crew->pids[i] > 0)
				tell(crew, i, IMAGE_STEP_RUN);
	}
	return rc;
}

static void dismiss(struct crew *crew, int rc)
{
	for (size_t i = 0; i < crew->begun; i++) {
		if (crew->pids[i] <= 0)
			continue;
		kill(crew->pids[i], SIGKILL);
		waitpid(crew->pids[i], NULL, 0);
	}
	fd_close(&crew->pipe[0]);
	fd_close(&crew->pipe[1]);
	fd_close(&crew->signal_fd);
	interrupt_end(&crew->interrupt, rc);
	if (crew->meters != NULL)
		munmap(crew->meters, crew->jobs->count * sizeof(*crew->meters));
	free(crew->pids);
}

static int prepare(struct crew *crew, struct error *err)
{
	const struct image_jobs *jobs = crew->jobs;
	const sigset_t signals = interrupt_signals();
	void *shared;

	crew->interrupt = interrupt_begin();
	crew->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (crew->signal_fd < 0 || pipe2(crew->pipe, O_CLOEXEC) < 0)
		return fail(err, -errno, "prepare the layers' processes");
	shared = mmap(NULL, jobs->count * sizeof(*crew->meters), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return fail(err, -errno, "prepare the layers' processes");
	crew->meters = shared;
	crew->pids = mem_new_array(jobs->count, sizeof(*crew->pids));
	return 0;
}

int image_jobs_run(const struct image_jobs *jobs, struct error *err)
{
	struct crew crew = {.jobs = jobs, .pipe = {-1, -1}, .signal_fd = -1, .parent = getpid()};
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	size_t at_once = jobs->at_once;
	int rc;

	if (jobs->count == 0)
		return 0;
	if (at_once == 0)
		at_once = processors > 3 ? (size_t)processors : 3;
	if (at_once > IMAGE_JOBS_AT_ONCE_MAX)
		at_once = IMAGE_JOBS_AT_ONCE_MAX;
	rc = prepare(&crew, err);
	if (rc == 0)
		rc = run(&crew, at_once, err);
	dismiss(&crew, rc);
	return rc;
}
