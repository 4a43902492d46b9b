/* name: see name.h. */
#include "engine/name.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"

enum { NAME_MAX_LEN = 128 };

void id_make(char ret_id[static WORKLOAD_ID_LEN + 1])
{
	random_hex(ret_id, WORKLOAD_ID_LEN / 2);
}

static size_t hex_span(const char *text)
{
	return strspn(text, "0123456789abcdef");
}

bool id_is_valid(const char *text)
{
	return hex_span(text) == WORKLOAD_ID_LEN && text[WORKLOAD_ID_LEN] == '\0';
}

bool id_is_prefix(const char *text)
{
	size_t n = hex_span(text);

	return n > 0 && n <= WORKLOAD_ID_LEN && text[n] == '\0';
}

char *name_make(unsigned int attempt)
{
	static const char first[][10] = {
		"amber",    "brave", "calm",    "clear",  "coastal",  "copper",  "dapper",
		"deep",     "eager", "early",   "fair",   "fresh",    "gentle",  "golden",
		"grand",    "hardy", "hidden",  "humble", "idle",     "jolly",   "keen",
		"kind",     "late",  "lively",  "loyal",  "lucky",    "mellow",  "merry",
		"mild",     "misty", "modest",  "noble",  "northern", "patient", "plain",
		"polite",   "proud", "quick",   "quiet",  "rapid",    "ready",   "robust",
		"rustic",   "sandy", "serene",  "sharp",  "silent",   "silver",  "smooth",
		"southern", "spare", "steady",  "stormy", "sturdy",   "sunny",   "swift",
		"tidal",    "tidy",  "upright", "vivid",  "warm",     "western", "wide",
		"windy",
	};
	static const char second[][11] = {
		"anchor",  "barge",   "bay",      "beacon",  "bight",   "bollard", "bosun",
		"bow",     "breeze",  "brig",     "bridge",  "buoy",    "cabin",   "canal",
		"cape",    "capstan", "cargo",    "channel", "chart",   "cleat",   "clipper",
		"coast",   "compass", "cove",     "crane",   "current", "cutter",  "deck",
		"delta",   "dinghy",  "dock",     "ferry",   "fjord",   "galley",  "gannet",
		"harbour", "hawser",  "helm",     "hull",    "inlet",   "island",  "jetty",
		"keel",    "ketch",   "lagoon",   "lantern", "lock",    "marina",  "mast",
		"mooring", "oar",     "pier",     "pilot",   "quay",    "reef",    "rigging",
		"rudder",  "sail",    "schooner", "sextant", "sloop",   "strait",  "tide",
		"wharf",
	};
	uint32_t r[3];

	random_bytes(r, sizeof(r));
	if (attempt == 0)
		return str_format("%s_%s", first[r[0] % array_size(first)],
				  second[r[1] % array_size(second)]);
	return str_format("%s_%s%u", first[r[0] % array_size(first)],
			  second[r[1] % array_size(second)], r[2] % (10U << attempt));
}

int name_check(const char *name, struct error *err)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t n = strlen(name);

	if (n >= 1 && n <= NAME_MAX_LEN && strspn(name, letters) == n &&
	    strchr("_.-", name[0]) == NULL)
		return 0;
	return hint(err, refuse(err, -EINVAL, "\"%s\" cannot be a name", name),
		    "letters, digits, \"_\", \".\" and \"-\", beginning with a letter or digit");
}
