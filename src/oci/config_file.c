/* config_file: see config_file.h. */
#include "oci/config_file.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "oci/config.h"

enum { DIGITS_UINT64_MAX = 20, DIGITS_INT64_MAX = 19 };

/* Replaces the digits of one number, if it needs to be, by as many characters. */
static void wrap_number(char *digits, size_t len)
{
	char copy[DIGITS_UINT64_MAX + 1], text[DIGITS_UINT64_MAX + 2];
	unsigned long long value;
	int n;

	memcpy(copy, digits, len);
	copy[len] = '\0';
	errno = 0;
	value = strtoull(copy, NULL, 10);
	if (errno != 0 || value <= INT64_MAX)
		return; /* beyond 64 bits: the parser refuses it */
	n = snprintf(text, sizeof(text), "%" PRId64, (int64_t)value);
	/* At most 20 characters with the sign, and the number had at least 19 digits: the smallest
	 * that is wrapped, 2^63, has 19 digits and becomes one of 20 characters; it stays as it is. */
	if (n < 0 || (size_t)n > len)
		return;
	memcpy(digits, text, (size_t)n);
	memset(digits + n, ' ', len - (size_t)n);
}

static void wrap_numbers(char *text, size_t len)
{
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		size_t start = i;

		if (in_string) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				in_string = false;
			continue;
		}
		if (text[i] == '"')
			in_string = true;
		if (!isdigit((unsigned char)text[i]))
			continue;
		while (i < len && isdigit((unsigned char)text[i]))
			i++;
		if (i - start >= DIGITS_INT64_MAX && i - start <= DIGITS_UINT64_MAX &&
		    (start == 0 || strchr("-.+eE", text[start - 1]) == NULL) &&
		    (i == len || strchr(".eE", text[i]) == NULL))
			wrap_number(text + start, i - start);
		i--;
	}
}

int config_read_text(char *text, size_t len, const char *what, json_t **ret, struct error *err)
{
	wrap_numbers(text, len);
	return json_parse(text, len, what, ret, err);
}

int config_read_file(int dirfd, const char *path, json_t **ret, char **ret_text, struct error *err)
{
	own_mem char *text = NULL;
	size_t len;
	int rc = file_read(dirfd, path, CONFIG_FILE_MAX, &text, &len, err);

	if (rc == 0)
		rc = config_read_text(text, len, path, ret, err);
	if (rc == 0 && ret_text != NULL)
		*ret_text = take(text);
	return rc;
}
