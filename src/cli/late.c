/*
 * late: what static libraries would have every start pay for, put off until it is used.
 *
 * Debian's SQLite refers to libm for SQL's mathematical functions, which none of our statements uses: loading
 * it takes a tenth of a millisecond. So its functions are defined here, and open libm when they are called.
 *
 * libcrypto finds out in an initialiser what the CPU can: a dozen CPUID instructions, each of which leaves a
 * virtual machine. The linker sends the calls of these functions here (meson.build).
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <dlfcn.h>
#include <math.h>
#include <openssl/sha.h>
#include <string.h>

static void find(const char *name, void *ret_function)
{
	void *library = dlopen("libm.so.6", RTLD_LAZY | RTLD_LOCAL);
	void *symbol = library ? dlsym(library, name) : NULL;

	/* Copied, since ISO C knows no cast from void * to a function pointer. */
	memcpy(ret_function, &symbol, sizeof(symbol));
}

#define LATE_1(name)                                                                               \
	double name(double x)                                                                      \
	{                                                                                          \
		double (*function)(double);                                                        \
                                                                                                   \
		find(#name, &function);                                                            \
		return function ? function(x) : (double)NAN;                                       \
	}

#define LATE_2(name)                                                                               \
	double name(double x, double y)                                                            \
	{                                                                                          \
		double (*function)(double, double);                                                \
                                                                                                   \
		find(#name, &function);                                                            \
		return function ? function(x, y) : (double)NAN;                                    \
	}

LATE_1(acos)
LATE_1(acosh)
LATE_1(asin)
LATE_1(asinh)
LATE_1(atan)
LATE_2(atan2)
LATE_1(atanh)
LATE_1(cos)
LATE_1(cosh)
LATE_1(exp)
LATE_2(fmod)
LATE_1(log)
LATE_2(pow)
LATE_1(sin)
LATE_1(sinh)
LATE_1(sqrt)
LATE_1(tan)
LATE_1(tanh)
LATE_1(trunc)

void __real_OPENSSL_cpuid_setup(void);
void __wrap_OPENSSL_cpuid_setup(void);
int __real_SHA256_Init(SHA256_CTX *ctx);
int __wrap_SHA256_Init(SHA256_CTX *ctx);
int __real_SHA512_Init(SHA512_CTX *ctx);
int __wrap_SHA512_Init(SHA512_CTX *ctx);

/* What the initialiser calls. */
void __wrap_OPENSSL_cpuid_setup(void)
{
}

int __wrap_SHA256_Init(SHA256_CTX *ctx)
{
	/* From the second time on it returns at once. */
	__real_OPENSSL_cpuid_setup();
	return __real_SHA256_Init(ctx);
}

int __wrap_SHA512_Init(SHA512_CTX *ctx)
{
	__real_OPENSSL_cpuid_setup();
	return __real_SHA512_Init(ctx);
}
