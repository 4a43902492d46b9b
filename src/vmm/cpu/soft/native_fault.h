/*
 * native_fault: exceptions that the host raises in generated code are the guest's: the signal becomes
 * the guest's exception at the operation that was executing. The handlers are the process's; a signal
 * from anywhere else goes on to whoever handled it before.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

/* Installs the handlers; once per process. */
int native_fault_install(struct error *err) must_check;
/* Tells the handlers which vCPU this thread runs. */
void native_fault_enter(struct soft *c);
void native_fault_leave(void);
