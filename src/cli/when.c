/* when: see when.h. */
#include "cli/when.h"

#include <string.h>
#include <time.h>

#include "base/str.h"

void when_ago(int64_t ns, char out[static CLOCK_TEXT_MAX])
{
	const int64_t age = clock_now_ns() - ns;

	out[0] = '\0';
	if (ns == 0)
		return;
	clock_format_age(age > 0 ? age : 0, out);
	if (strlen(out) + sizeof(" ago") <= CLOCK_TEXT_MAX)
		strcat(out, " ago");
}

void when_local(int64_t ns, char out[static CLOCK_TEXT_MAX])
{
	const time_t seconds = ns / 1000000000;
	struct tm tm;

	out[0] = '\0';
	if (ns != 0 && localtime_r(&seconds, &tm) != NULL)
		strftime(out, CLOCK_TEXT_MAX, "%Y-%m-%d %H:%M:%S %z %Z", &tm);
}

int when_read(const struct args *args, const char *option, int64_t *ret_ns, struct error *err)
{
	const char *text = args_string(args, option);
	int64_t ago_ns;

	*ret_ns = 0;
	if (text == NULL || clock_parse(text, ret_ns) >= 0)
		return 0;
	if (str_to_duration(text, &ago_ns) < 0)
		return args_refuse(args, err,
				   "invalid value \"%s\" for --%s: expected a time such as "
				   "2024-01-02T13:23:37Z, or a duration such as 42m",
				   text, option);
	*ret_ns = clock_now_ns() - ago_ns;
	return 0;
}
