/* detach_keys: see detach_keys.h. */
#include "engine/detach_keys.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"

static int parse_key(const char *word)
{
	const char *rest = str_after(word, "ctrl-");
	char c;

	if (rest == NULL)
		return word[0] != '\0' && word[1] == '\0' ? word[0] : -EINVAL;
	c = rest[0];
	if (c == '\0' || rest[1] != '\0')
		return -EINVAL;
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 1;
	if (c == '@' || (c >= '[' && c <= '_'))
		return c - '@';
	return -EINVAL;
}

int detach_keys_parse(const char *text, struct detach_keys *ret, struct error *err)
{
	own_strv char **words = strv_split(text, ',');
	struct detach_keys keys = {0};

	for (size_t i = 0; words != NULL && words[i] != NULL; i++) {
		int key = parse_key(words[i]);

		if (key < 0 || keys.count == DETACH_KEYS_MAX)
			return hint(err, refuse(err, -EINVAL, "\"%s\" are no detach keys", text),
				    "a letter or ctrl-<letter>, several with commas");
		keys.keys[keys.count++] = (char)key;
	}
	*ret = keys;
	return 0;
}

bool detach_keys_filter(struct detach_keys *keys, const char *in, size_t len, char *out,
			size_t *ret_len)
{
	size_t n = 0;
	bool found = false;

	for (size_t i = 0; i < len && !found; i++) {
		if (keys->count > 0 && in[i] == keys->keys[keys->seen]) {
			keys->seen++;
			found = keys->seen == keys->count;
			continue;
		}
		/* What was held back was typed for the workload after all. */
		memcpy(out + n, keys->keys, keys->seen);
		n += keys->seen;
		keys->seen = keys->count > 1 && in[i] == keys->keys[0];
		if (keys->seen == 0)
			out[n++] = in[i];
	}
	if (found)
		keys->seen = 0;
	*ret_len = n;
	return found;
}
