/* tarball: see tarball.h. */
#include "tarball.h"

#include <stdio.h>
#include <string.h>

static void field(char *at, int width, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%0*llo", width - 1, (unsigned long long)value);
	memcpy(at, text, (size_t)width);
}

void ball_add(struct buf *ball, const struct ball_entry *e)
{
	static const char zeros[512];
	size_t len = e->len ? e->len : e->data ? strlen(e->data) : 0;
	unsigned char block[512] = {0};
	char *h = (char *)block;
	unsigned int sum = 0;

	memcpy(h, e->name, strnlen(e->name, 100));
	field(h + 100, 8, e->mode ? e->mode : 0644);
	field(h + 108, 8, e->uid);
	field(h + 116, 8, e->gid);
	field(h + 124, 12, len);
	field(h + 136, 12, (uint64_t)e->mtime);
	h[156] = e->type ? e->type : '0';
	if (e->link != NULL)
		memcpy(h + 157, e->link, strnlen(e->link, 100));
	if (!e->v7)
		memcpy(h + 257,
		       "ustar\0"
		       "00",
		       8);
	field(h + 329, 8, e->major);
	field(h + 337, 8, e->minor);
	if (e->size_field != NULL)
		memcpy(h + 124, e->size_field, 12);
	if (e->uid_field != NULL)
		memcpy(h + 108, e->uid_field, 8);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < sizeof(block); i++)
		sum += block[i];
	field(h + 148, 7, sum);
	buf_add(ball, block, sizeof(block));
	if (len > 0)
		buf_add(ball, e->data, len);
	buf_add(ball, zeros, -len & 511);
}

void ball_pax_raw(struct buf *ball, const char *text, size_t len)
{
	const struct ball_entry e = {.name = "PaxHeader", .type = 'x', .data = text, .len = len};

	ball_add(ball, &e);
}

void ball_pax(struct buf *ball, const char *key, const char *value, size_t len)
{
	own_buf struct buf record = {0};
	size_t total = strlen(key) + len + 3;
	char digits[24];

	/* The length counts its own digits. */
	for (size_t guess = total + 1;; guess++) {
		snprintf(digits, sizeof(digits), "%zu", guess);
		if (total + strlen(digits) == guess)
			break;
	}
	buf_format(&record, "%s %s=", digits, key);
	buf_add(&record, value, len);
	buf_add_char(&record, '\n');
	ball_pax_raw(ball, record.data, record.len);
}

void ball_end(struct buf *ball)
{
	static const char zeros[1024];

	buf_add(ball, zeros, sizeof(zeros));
}
