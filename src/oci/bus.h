/*
 * bus: calling systemd over D-Bus, as much as control groups take.
 *
 * Calls are made one after the other and waited for; no thread, nothing that stays open between two uses
 * of the runtime. Bodies are written with the bus_put functions, which align as the D-Bus specification
 * ("Marshaling") says; all messages are of our own byte order.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/own.h"
#include "base/str.h"

struct bus;

enum bus_kind { BUS_SYSTEM, BUS_USER };

/* Connects to the bus of that manager, or to the manager itself where there is no bus. -ENOENT if there is
 * neither. */
int bus_open(enum bus_kind kind, struct bus **ret, struct error *err) must_check;
void bus_close(struct bus *bus);
OWN_DEFINE(own_bus, struct bus *, bus_close);
#define own_bus __attribute__((cleanup(own_bus_release)))

void bus_put_byte(struct buf *b, uint8_t value);
void bus_put_u32(struct buf *b, uint32_t value);
void bus_put_u64(struct buf *b, uint64_t value);
void bus_put_bool(struct buf *b, bool value);
void bus_put_string(struct buf *b, const char *text); /* also an object's path */
void bus_put_signature(struct buf *b, const char *text);
void bus_put_struct(struct buf *b); /* what follows is the members of one */
/* An array of elements with that alignment; what begin returns is handed to end. */
size_t bus_begin_array(struct buf *b, size_t alignment);
void bus_end_array(struct buf *b, size_t begin, size_t alignment);
/* A member of a list of properties, a(sv): its value follows. */
void bus_put_property(struct buf *b, const char *name, const char *signature);

/* Calls a method of the manager. *ret_text (may be NULL; the caller frees it) gets the string, path or
 * variant of a string that the answer begins with, else NULL. -ENOENT: no such unit; -EEXIST: there is one;
 * -ETIMEDOUT. */
int bus_call(struct bus *bus, const char *interface, const char *member, const char *signature,
	     const struct buf *body, char **ret_text, struct error *err) must_check;
/* Waits for a job, by its path. -EIO if it ended otherwise than "done". */
int bus_wait_job(struct bus *bus, const char *job, struct error *err) must_check;
