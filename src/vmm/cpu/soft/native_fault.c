/* native_fault: see the header. Generated code has the CPU in rdi and the operation in rsi whenever the
 * instruction itself executes, so the handler only redirects the thread to a function that throws. The
 * host's FPU state, with its pending exception, comes back with the return from the signal. */
#include "vmm/cpu/soft/native_fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "base/mem.h"
#include "vmm/cpu/soft/cache.h"
#include "vmm/cpu/soft/kept.h"

static _Thread_local struct soft *running;

static const int signals[] = {SIGFPE, SIGSEGV, SIGILL, SIGBUS};
static struct sigaction previous[array_size(signals)];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int install_result;

void native_fault_enter(struct soft *c)
{
	running = c;
}

void native_fault_leave(void)
{
	running = NULL;
}

static _Noreturn void land(struct soft *c, const struct op *op, enum soft_vector vector)
{
	c->op = op;
	c->commit.kind = COMMIT_NONE;
	soft_throw(c, vector, 0);
}

static enum soft_vector vector_of(int number, const siginfo_t *info, const ucontext_t *context)
{
	/* The kernel leaves the number of the host's exception for us. */
	unsigned int trap = (unsigned int)context->uc_mcontext.gregs[REG_TRAPNO];

	(void)info;
	switch (number) {
	case SIGFPE:
		return trap == VECTOR_MF || trap == VECTOR_XM ? (enum soft_vector)trap : VECTOR_DE;
	case SIGILL:
		return VECTOR_UD;
	default:
		return trap == VECTOR_AC ? VECTOR_AC : VECTOR_GP;
	}
}

static void pass_on(int number, siginfo_t *info, void *context)
{
	for (unsigned int i = 0; i < array_size(signals); i++) {
		const struct sigaction *old = &previous[i];

		if (signals[i] != number)
			continue;
		if (old->sa_flags & SA_SIGINFO)
			old->sa_sigaction(number, info, context);
		else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN)
			old->sa_handler(number);
		else
			sigaction(number, old, NULL); /* it happens again, and ends the process */
	}
}

static void handle(int number, siginfo_t *info, void *data)
{
	ucontext_t *context = data;
	greg_t *regs = context->uc_mcontext.gregs;
	struct soft *c = running;

	if (!c || (!code_contains(cache_code(c->cache), (uint64_t)regs[REG_RIP]) &&
		   !kept_contains(c->vm->kept, (uint64_t)regs[REG_RIP]))) {
		pass_on(number, info, data);
		return;
	}
	regs[REG_RDX] = vector_of(number, info, context);
	regs[REG_RDI] = (greg_t)(uintptr_t)c;
	regs[REG_RIP] = (greg_t)(uintptr_t)land;
	regs[REG_RSP] = ((regs[REG_RSP] - 128) & ~15ll) - 8; /* as a call would leave it */
}

static void install(void)
{
	struct sigaction action = {.sa_sigaction = handle,
				   .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};

	for (unsigned int i = 0; i < array_size(signals); i++) {
		if (sigaction(signals[i], &action, &previous[i]) < 0)
			install_result = -errno;
	}
}

int native_fault_install(struct error *err)
{
	pthread_once(&once, install);
	return install_result < 0 ? fail(err, install_result, "handle the CPU's exceptions") : 0;
}
