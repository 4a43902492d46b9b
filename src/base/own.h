/*
 * own: ownership by attribute.
 *
 * An owning local is declared with one of these and initialised on the spot; it is released when it
 * goes out of scope, on every path. `return take(x)` hands the value on. Releasing accepts -1 and
 * NULL, keeps errno, and never retries close() (on Linux the descriptor is gone even after EINTR).
 *
 *     own_fd int fd = open(...);
 *     own_mem char *text = str_format("%d", n);
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/types.h>

void own_fd_release(int *fd);
void own_mem_release(void *pointer_to_pointer);
void own_dir_release(DIR **dir);
void own_file_release(FILE **file);

#define own_fd __attribute__((cleanup(own_fd_release)))
#define own_mem __attribute__((cleanup(own_mem_release)))
#define own_dir __attribute__((cleanup(own_dir_release)))
#define own_file __attribute__((cleanup(own_file_release)))

/* Defines the cleanup function `NAME_release` for `own_x` of a pointer type:
 *     OWN_DEFINE(own_blob, struct blob *, blob_close)
 *     #define own_blob __attribute__((cleanup(own_blob_release))) */
#define OWN_DEFINE(name, type, destroy)                                                            \
	static inline void name##_release(type *owned)                                             \
	{                                                                                          \
		int saved_errno_ = errno;                                                          \
                                                                                                   \
		if (*owned)                                                                        \
			destroy(*owned);                                                           \
		errno = saved_errno_;                                                              \
	}                                                                                          \
	struct name##_needs_semicolon

/* Moves the value out of an owning variable, which is left empty (-1 for a descriptor, NULL). */
#define take(owned)                                                                                \
	({                                                                                         \
		__typeof__(owned) *take_from_ = &(owned);                                          \
		__typeof__(owned) taken_ = *take_from_;                                            \
		*take_from_ = _Generic((owned), int : -1, default : (void *)0);                    \
		taken_;                                                                            \
	})

/* Closes a descriptor now and marks it closed. Accepts -1, keeps errno. */
void fd_close(int *fd);
