/*
 * aml: writes ACPI machine language (ACPI 6.4, chapter 20). Terms with a body are opened and closed;
 * their length, whose own size depends on it, is put in when they are closed.
 */
#pragma once

#include <stdint.h>

#include "base/str.h"

enum { AML_DEPTH_MAX = 8 };

struct aml {
	struct buf code;
	unsigned int depth;
	size_t open[AML_DEPTH_MAX]; /* where the length of each open term belongs */
};

/* Names are paths as in ASL ("_SB_", "\\_GPE", "PCI0._CRS"): segments of exactly four letters. */
void aml_open_scope(struct aml *aml, const char *name);
void aml_open_device(struct aml *aml, const char *name);
void aml_open_method(struct aml *aml, const char *name, unsigned int arguments);
/* A package whose elements follow. */
void aml_open_package(struct aml *aml, uint8_t elements);
void aml_close(struct aml *aml);

/* Name(name, <the object that is written next>) */
void aml_name(struct aml *aml, const char *name);
void aml_integer(struct aml *aml, uint64_t value);
void aml_string(struct aml *aml, const char *text);
/* A compressed identifier such as "PNP0A08". */
void aml_eisa_id(struct aml *aml, const char *id);
/* Notify(name, value) */
void aml_notify(struct aml *aml, const char *name, uint8_t value);

/* A resource template: open, descriptors, close. */
void aml_open_resources(struct aml *aml);
void aml_io(struct aml *aml, uint16_t first, uint8_t count);
void aml_irq(struct aml *aml, unsigned int line);
void aml_memory_fixed(struct aml *aml, uint32_t start, uint32_t size);
void aml_bus_range(struct aml *aml, uint16_t first, uint16_t last);
void aml_io_range(struct aml *aml, uint16_t first, uint16_t last);
void aml_memory_range(struct aml *aml, uint32_t first, uint32_t last);
void aml_memory_range64(struct aml *aml, uint64_t first, uint64_t last);
void aml_close_resources(struct aml *aml);
