/* error: see error.h. */
#include "base/error.h"

#include <stdio.h>
#include <string.h>

/* Puts `head` before what is in err->text. If both do not fit, the middle is cut: the end of `head`,
 * then the beginning of the old text, whose end holds the reason. */
static void prepend(struct error *err, const char *head)
{
	enum { ROOM = ERROR_TEXT_MAX - 1 - 2 /* ": " */ };
	char old[ERROR_TEXT_MAX];
	int head_len = (int)strlen(head), old_len = (int)strlen(err->text);

	memcpy(old, err->text, sizeof(old));
	if (old_len == 0) {
		snprintf(err->text, sizeof(err->text), "%s", head);
		return;
	}
	if (head_len + old_len > ROOM && head_len > ROOM / 2)
		head_len = old_len < ROOM / 2 ? ROOM - old_len : ROOM / 2;
	if (head_len + old_len > ROOM) {
		memmove(old, old + (head_len + old_len - ROOM), (size_t)(ROOM - head_len) + 1);
		old_len = ROOM - head_len;
	}
	snprintf(err->text, sizeof(err->text), "%.*s: %.*s", head_len, head, old_len, old);
}

int refuse_va(struct error *err, int rc, const char *fmt, va_list ap)
{
	char head[ERROR_TEXT_MAX];

	if (err == NULL)
		return rc;
	vsnprintf(head, sizeof(head), fmt, ap);
	prepend(err, head);
	if (err->code == 0)
		err->code = rc;
	return rc;
}

int refuse(struct error *err, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	refuse_va(err, rc, fmt, ap);
	va_end(ap);
	return rc;
}

int fail(struct error *err, int rc, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return rc;
	if (err->text[0] == '\0')
		snprintf(err->text, sizeof(err->text), "%s", strerror(-rc));
	va_start(ap, fmt);
	refuse_va(err, rc, fmt, ap);
	va_end(ap);
	return rc;
}

int hint(struct error *err, int rc, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL || err->hint[0] != '\0')
		return rc;
	va_start(ap, fmt);
	vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
	va_end(ap);
	return rc;
}

int exit_with(struct error *err, int rc, int exit_status)
{
	if (err != NULL)
		err->exit_status = exit_status;
	return rc;
}

void error_clear(struct error *err)
{
	if (err != NULL)
		memset(err, 0, sizeof(*err));
}
