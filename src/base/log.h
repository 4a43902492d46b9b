/*
 * log: what a program tells its operator; libraries return reasons instead (error.h).
 *
 * Lines go to stderr as "berth: <message>", or, with a log file set, as logfmt text or one JSON
 * object per line with the keys level, msg and time, which other engines read.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_PLAIN, LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

/* Sets the least important level that is written, where to, and in which form. Once, at start. */
void log_setup(enum log_level level, enum log_format format, int fd);
bool log_enabled(enum log_level level);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_LEVEL_DEBUG))                                                  \
			log_line(LOG_LEVEL_DEBUG, __VA_ARGS__);                                    \
	} while (0)

/* Writes an error as the user sees it: "berth: <text>" and, if there is one, "hint: <hint>". */
void log_failure(const struct error *err);
