/* suggest: the known name that is closest to a mistyped one. */
#pragma once

struct suggest {
	const char *word;
	const char *best; /* NULL: nothing is close enough */
	unsigned int distance;
};

struct suggest suggest_for(const char *word);
/* Takes `name` (which must stay valid) if it is closer than what was offered before. */
void suggest_offer(struct suggest *suggest, const char *name);
