/*
 * chips: the small devices of a PC, each one file. Every create function puts its device on the
 * board's buses and gives back the device; 0 or -errno.
 */
#pragma once

#include "vmm/board.h"
#include "vmm/input.h"

/* A 16550A at port 0x3f8, line 4. Output goes to `out_fd` (-1: nowhere); input comes by
 * serial_receive, which takes up to `size` bytes and returns how many it had room for; `input` is
 * woken when there is room again. */
struct serial;
int serial_create(struct board *board, int out_fd, struct input *input,
		  struct serial **ret) must_check;
struct device *serial_device(struct serial *serial);
size_t serial_receive(struct serial *serial, const void *data, size_t size);

/* The test device at port 0xf4: a write of V ends the machine with exit code V * 2 + 1. */
int debug_exit_create(struct board *board, struct device **ret) must_check;

/* What CPU test kernels expect besides: latches at ports 0xe0 and 0xe8, the IO-APIC's inputs as ports from
 * 0x2000 on, 64 KiB of slow memory at 0xff000000. */
int test_device_create(struct board *board, struct device **ret) must_check;

/* The keyboard controller at 0x60 and 0x64, as far as resetting goes, and port 0x92. */
int i8042_create(struct board *board, struct device **ret) must_check;

/* The 8254 at 0x40-0x43 and the gate and speaker port 0x61. */
int pit_create(struct board *board, struct device **ret) must_check;

/* CMOS memory and real-time clock at 0x70/0x71, line 8. */
int rtc_create(struct board *board, struct device **ret) must_check;

/* ACPI's fixed hardware: PM1 event and control, PM timer, reset register, general-purpose event 0. */
struct acpi_pm;
enum {
	ACPI_PM_PORT = 0x600,
	ACPI_PM1_EVENT = ACPI_PM_PORT,
	ACPI_PM1_CONTROL = ACPI_PM_PORT + 4,
	ACPI_PM_TIMER = ACPI_PM_PORT + 8,
	ACPI_RESET = ACPI_PM_PORT + 12,
	ACPI_GPE0 = ACPI_PM_PORT + 16, /* two bytes: status, enable */
	ACPI_PM_PORTS = 18,
	ACPI_SLEEP_OFF = 5,      /* SLP_TYP of S5 */
	ACPI_GPE_GENERATION = 0, /* the VM generation id has changed */
};
int acpi_pm_create(struct board *board, struct acpi_pm **ret) must_check;
struct device *acpi_pm_device(struct acpi_pm *pm);
/* Presses the power button. Any thread. */
void acpi_pm_power_button(struct acpi_pm *pm);
/* Raises a general-purpose event. Any thread. */
void acpi_pm_event(struct acpi_pm *pm, unsigned int gpe);
