/* commands: the top of the command table: the program's own options, and its commands in sections. */
#include "cli/commands.h"

#include "base/mem.h"

static const struct option_spec global_options[] = {
	{"config", 0, OPTION_STRING, 0, "FILE", "",
	 "Configuration file (instead of /etc/berth/berth.toml and the user's own)"},
	{"debug", 'D', OPTION_FLAG, 0, "", "",
	 "Say what is being done (the same as --log-level debug)"},
	{"log-format", 0, OPTION_ENUM, 0, "plain|text|json", "plain", "How messages are written"},
	{"log-level", 'l', OPTION_ENUM, 0, "error|warn|info|debug", "warn",
	 "The least important messages that are written"},
	{"root", 0, OPTION_STRING, 0, "DIR", "",
	 "Where images and workloads are kept (default /var/lib/berth)"},
	{"state", 0, OPTION_STRING, 0, "DIR", "",
	 "Where sockets and locks are kept until the next boot (default /run/berth)"},
	{"version", 'v', OPTION_FLAG, 0, "", "", "Print the version"},
};

static const struct command_entry entries[] = {
	{"version", NULL, &version_command, "System"},
	{0},
};

const struct command berth_command = {
	.summary = "Run OCI images as containers",
	.options = {OPTION_SET(global_options)},
	.entries = entries,
};
