/* suggest: see suggest.h. */
#include "cli/suggest.h"

#include <string.h>

#include "base/str.h"

struct suggest suggest_for(const char *word)
{
	/* Up to a third of the letters may be wrong, but at least one and at most three. */
	unsigned int limit = (unsigned int)strlen(word) / 3;

	limit = limit < 1 ? 1 : limit > 3 ? 3 : limit;
	return (struct suggest){.word = word, .distance = limit + 1};
}

void suggest_offer(struct suggest *suggest, const char *name)
{
	unsigned int distance = str_distance(suggest->word, name);

	/* The beginning of a name is a good sign even when much is missing: "cont" for "container". */
	if (strlen(suggest->word) >= 3 && str_after(name, suggest->word) != NULL)
		distance = 1;
	if (distance < suggest->distance) {
		suggest->distance = distance;
		suggest->best = name;
	}
}
