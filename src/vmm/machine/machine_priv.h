/*
 * machine_priv: what the files of the machine share.
 *
 * Threads: the device thread (the caller of machine_run) runs the loop; each vCPU has one, the disks have
 * one, each shared directory two. `lock` guards
 * mode, power, exit_code, and the vCPUs' `parked`, `must_reset` and jobs; it is taken with device locks held, and nothing
 * but an accelerator's request() is called under it.
 *
 * Invariants
 *   M1  a vCPU thread is in run() only while mode was MACHINE_RUNNING when it last looked, and whoever
 *       changes the mode kicks every vCPU afterwards.
 *   M2  when every vCPU is parked and the device thread is not in a callback, nothing changes the
 *       machine's state: that is when it is reset, saved and loaded. Devices with threads of their own
 *       let them work only behind the board's gate, which is closed then.
 */
#pragma once

#include <pthread.h>

#include "vmm/board.h"
#include "vmm/boot/boot.h"
#include "vmm/chip/acpi.h"
#include "vmm/chip/chips.h"
#include "vmm/chip/fw_cfg.h"
#include "vmm/chip/irqchip.h"
#include "vmm/chip/pci.h"
#include "vmm/chip/q35.h"
#include "vmm/cpu/cpu.h"
#include "vmm/input.h"
#include "vmm/machine/control.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/snapshot.h"
#include "vmm/virtio/devices.h"

enum machine_mode { MACHINE_PARKED, MACHINE_RUNNING, MACHINE_ENDING };

enum { MACHINE_DEVICES_MAX = 64 };

/* What a parked vCPU's thread is asked to do. */
enum machine_job { JOB_NONE, JOB_GET_STATE, JOB_SET_STATE };

struct machine_cpu {
	struct machine *machine;
	unsigned int index;
	pthread_t thread;
	bool started;    /* the thread exists */
	bool parked;     /* it waits for a mode other than MACHINE_PARKED */
	bool must_reset; /* it begins with its state after power on, or as the kernel is entered */
	enum machine_job job;
	struct cpu_state *job_state;
	int job_result;
	struct vcpu *vcpu;
	struct error err; /* why it could not be created */
	struct cpu_state power_on;
};

/* The thread of board.disk_loop; all of it, but for `ready`, `rc` and `err` before it is ready, is the device
 * thread's. */
struct machine_disks {
	pthread_t thread;
	bool started, ready;
	int end_fd;
	int rc; /* why it could not begin */
	struct error err;
};

struct machine {
	struct board board;
	struct machine_config config;
	struct cpu_client client;
	struct irqchip_host irqchip_host;

	const struct cpu_accel *accel;
	struct cpu_vm *vm;
	struct irqchip *irqchip; /* NULL: the accelerator's */
	int kernel_fd, modules_fd, initrd_fd;
	int users_fd;          /* the jail's, if there are shares (jail/jail.h); else -1 */
	struct cpu_region rom; /* UEFI's code; .host NULL: none */
	struct acpi_layout acpi;
	struct boot_entry entry;
	struct snapshot *from; /* NULL: the machine boots */
	struct snapshot_host host;
	json_t *description;     /* what a snapshot's machine.json will say */
	struct control *control; /* NULL: none */
	int64_t started_ns;      /* monotonic */
	bool paused;             /* by request; the device thread's */
	unsigned int wakers;     /* who have it run though it is paused; the device thread's */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum machine_mode mode;
	enum board_power power;
	int exit_code;
	struct machine_disks disk_thread;
	int wake_fd; /* an eventfd: tells the device thread that `power` has changed */
	struct machine_cpu cpus[CPU_VCPUS_MAX];

	struct acpi_pm *pm;
	struct pci_host *pci;
	struct fw_cfg *fw_cfg; /* with firmware, else NULL */
	struct serial *serial;
	struct input serial_input;
	struct virtio *console, *balloon;
	struct input console_input;
	struct virtio *disks[MACHINE_DEVICES_MAX]; /* as many as config.disk_count */
	struct virtio *nets[MACHINE_DEVICES_MAX];  /* as many as config.net_count */
	struct virtio *shares[MACHINE_DEVICES_MAX];
	unsigned int device_count;
	struct device *devices[MACHINE_DEVICES_MAX]; /* in the order of their making */
};

/* machine_accel.c: NULL if it is not there, with a reason. */
const struct cpu_accel *machine_choose_accel(enum machine_accel wanted);

/* machine.c; all on the device thread, without a device's lock */
/* Stops the vCPUs between two instructions; the device thread goes on. Again is no error. */
void machine_pause(struct machine *machine);
void machine_resume(struct machine *machine);
bool machine_is_paused(const struct machine *machine);
/* Between the two it runs, paused or not. They come in pairs. */
void machine_wake(struct machine *machine);
void machine_unwake(struct machine *machine);

/* machine_cpus.c */
extern const struct cpu_client_ops machine_client_ops;
extern const struct irqchip_host_ops machine_irqchip_ops;
/* Makes the threads and their vCPUs; all are parked on return. */
int machine_cpus_start(struct machine *machine, struct error *err) must_check;
/* Sets the mode; with MACHINE_PARKED it returns when all vCPUs are parked. Not on a vCPU's thread. */
void machine_cpus_set_mode(struct machine *machine, enum machine_mode mode);
/* Reads or sets the states of all vCPUs (an array of as many), which are parked. The first failure. */
int machine_cpus_state(struct machine *machine, enum machine_job job,
		       struct cpu_state *states) must_check;
/* Ends the threads. */
void machine_cpus_stop(struct machine *machine);
/* When nothing can send interrupts any more: the devices' own threads may until they have ended. */
void machine_cpus_destroy(struct machine *machine);
/* What a device asks for; any thread. */
void machine_power(struct board *board, enum board_power what, int exit_code);
/* The end by whoever owns the machine, also if the guest has just asked to start anew. Any thread. */
void machine_end(struct machine *machine, int exit_code);

/* machine_disks.c: the thread of the disks, if there are any. What is under way when it is stopped is
 * waited for by the disks' destruction. */
int machine_disks_create(struct machine *machine) must_check;
int machine_disks_start(struct machine *machine, struct error *err) must_check;
void machine_disks_stop(struct machine *machine);
void machine_disks_destroy(struct machine *machine);

/* machine_devices.c */
bool machine_has_console(const struct machine_config *config);
int machine_devices_create(struct machine *machine, struct error *err) must_check;
/* Starts the threads that devices have of their own; after the jail has been entered. */
int machine_devices_start(struct machine *machine, struct error *err) must_check;
void machine_devices_destroy(struct machine *machine);
