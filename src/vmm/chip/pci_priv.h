/* pci_priv: between the host and the functions. The device's lock is held. */
#pragma once

#include "vmm/chip/pci.h"

/* `offset` + `size` is within configuration space and does not cross a word of 32 bits. */
uint32_t pci_config_read(struct pci_function *function, unsigned int offset, unsigned int size);
void pci_config_write(struct pci_function *function, unsigned int offset, unsigned int size,
		      uint32_t value);
/* Sets a window's address, as firmware would. */
void pci_place_bar(struct pci_function *function, unsigned int bar, uint32_t at);
