/*
 * machine_disks: the thread that serves the disks. A medium can take seconds to write what is asked of it;
 * the network, the terminal and timers, which the device thread serves, go on meanwhile.
 */
#include "vmm/machine/machine_priv.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/jail/jail.h"

static void on_end(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		   void *data)
{
	(void)source;
	(void)fd;
	(void)events;
	(void)data;
	loop_stop(loop, 0);
}

int machine_disks_create(struct machine *machine)
{
	struct machine_disks *disks = &machine->disk_thread;
	struct loop_source *source;
	int rc;

	if (machine->config.disk_count == 0)
		return 0;
	disks->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (disks->end_fd < 0)
		return -errno;
	rc = loop_create(&machine->board.disk_loop);
	return rc < 0 ? rc
		      : loop_add_io(machine->board.disk_loop, disks->end_fd, EPOLLIN, on_end, NULL,
				    &source);
}

static void *disk_thread(void *data)
{
	struct machine *machine = data;
	struct machine_disks *disks = &machine->disk_thread;
	int rc = machine->config.jail ? jail_filter(JAIL_DISKS, &disks->err) : 0;

	pthread_mutex_lock(&machine->lock);
	disks->rc = rc;
	disks->ready = true;
	pthread_cond_broadcast(&machine->changed);
	pthread_mutex_unlock(&machine->lock);
	if (rc == 0 && loop_run(machine->board.disk_loop) < 0)
		machine_power(&machine->board, BOARD_FAILED, 0);
	return NULL;
}

int machine_disks_start(struct machine *machine, struct error *err)
{
	struct machine_disks *disks = &machine->disk_thread;
	sigset_t all, before;
	int rc;

	if (!machine->board.disk_loop)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&disks->thread, NULL, disk_thread, machine);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc != 0)
		return fail(err, -rc, "start the disks' thread");
	disks->started = true;
	pthread_mutex_lock(&machine->lock);
	while (!disks->ready)
		pthread_cond_wait(&machine->changed, &machine->lock);
	pthread_mutex_unlock(&machine->lock);
	if (disks->rc < 0 && err)
		*err = disks->err;
	return disks->rc;
}

void machine_disks_stop(struct machine *machine)
{
	struct machine_disks *disks = &machine->disk_thread;
	const uint64_t one = 1;

	if (!disks->started)
		return;
	disks->started = false;
	while (write(disks->end_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(disks->thread, NULL);
}

void machine_disks_destroy(struct machine *machine)
{
	if (machine->board.disk_loop)
		loop_destroy(machine->board.disk_loop);
	fd_close(&machine->disk_thread.end_fd);
}
