/*
 * board: what the machine offers to its devices: memory, buses, interrupts, time, the device thread's
 * loop and the power switch. One per machine, made before and released after the devices.
 */
#pragma once

#include "base/loop.h"
#include "vmm/bus.h"
#include "vmm/gate.h"
#include "vmm/irq.h"
#include "vmm/memory.h"
#include "vmm/timer.h"

enum board_power {
	BOARD_ON,
	BOARD_RESET, /* start anew */
	BOARD_OFF,
	BOARD_EXIT, /* end with a code: the test device */
	BOARD_FAILED,
};

struct board;

struct board_ops {
	/* Asks for an end of the present run. The first request counts. Any thread. */
	void (*power)(struct board *board, enum board_power what, int exit_code);
	/* A device has written guest memory (cpu.h, C3). */
	void (*written)(struct board *board, gpa_t gpa, uint64_t size);
	/* Doorbells that do not leave the kernel: 0, or -ENOTSUP where the accelerator has none. */
	int (*add_doorbell)(struct board *board, gpa_t gpa, int fd);
	void (*remove_doorbell)(struct board *board, gpa_t gpa, int fd);
};

struct board {
	const struct board_ops *ops;
	struct memory *memory;
	struct bus ports, mmio;
	struct irq *irq;
	struct timer_queue timers;
	struct gate gate;  /* of the devices' own threads */
	struct loop *loop; /* the device thread's; sources are only touched on that thread */
	/* The same of the thread that serves disks, which may take long; NULL: the device thread does. */
	struct loop *disk_loop;
};
