/* when: see when.h. */
#include "cli/when.h"

#include <string.h>
#include <time.h>

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
