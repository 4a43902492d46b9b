/*
 * completion: `completion bash|zsh|fish` prints a script that makes the shell ask `__complete`, which
 * answers from the command table and from the containers and images there are.
 *
 * The answer of __complete is one "WORD\tSUMMARY" a line, and, where names of files fit, a last line
 * ":files" or ":dirs".
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/complete.h"
#include "cli/completion.h"
#include "cli/context.h"
#include "cli/listing.h"

static const char bash_script[] =
	"# bash completion for berth\n"
	"_berth() {\n"
	"\tlocal line word part words\n"
	"\t# COMP_WORDS is split at = and :, which belong to our words: split the line ourselves.\n"
	"\tread -ra words <<<\"${COMP_LINE:0:COMP_POINT}\"\n"
	"\t[[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=(\"\")\n"
	"\tword=${words[${#words[@]}-1]}\n"
	"\tpart=${word%\"${word##*[=:]}\"}\n"
	"\tCOMPREPLY=()\n"
	"\twhile IFS= read -r line; do\n"
	"\t\tcase $line in\n"
	"\t\t:files | :dirs)\n"
	"\t\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\t\t[ \"$line\" = :dirs ] && line=-d || line=-f\n"
	"\t\t\twhile IFS= read -r line; do COMPREPLY+=(\"$line\"); done \\\n"
	"\t\t\t\t< <(compgen \"$line\" -- \"${word##*[=:]}\")\n"
	"\t\t\t;;\n"
	"\t\t*)\n"
	"\t\t\tline=${line%%$'\\t'*}\n"
	"\t\t\tCOMPREPLY+=(\"${line#\"$part\"}\")\n"
	"\t\t\t;;\n"
	"\t\tesac\n"
	"\tdone < <(\"${words[0]}\" __complete -- \"${words[@]:1}\" 2>/dev/null)\n"
	"}\n"
	"complete -F _berth berth\n";

static const char zsh_script[] =
	"#compdef berth\n"
	"# zsh completion for berth\n"
	"_berth() {\n"
	"\tlocal line files=\n"
	"\tlocal -a names\n"
	"\tfor line in \"${(@f)$(${words[1]} __complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\"; do\n"
	"\t\tcase $line in\n"
	"\t\t'') ;;\n"
	"\t\t:files) files=1 ;;\n"
	"\t\t:dirs) files=2 ;;\n"
	"\t\t*) names+=(\"${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
	"\t\tesac\n"
	"\tdone\n"
	"\t(( $#names )) && _describe -t words berth names\n"
	"\tcase $files in\n"
	"\t1) _files ;;\n"
	"\t2) _files -/ ;;\n"
	"\tesac\n"
	"}\n"
	"if [ \"$funcstack[1]\" = _berth ]; then _berth \"$@\"; else compdef _berth berth; fi\n";

static const char fish_script[] =
	"# fish completion for berth\n"
	"function __berth_complete\n"
	"\tset -l words (commandline -opc) (commandline -ct)\n"
	"\tfor line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)\n"
	"\t\tswitch $line\n"
	"\t\t\tcase :files\n"
	"\t\t\t\t__fish_complete_path (commandline -ct)\n"
	"\t\t\tcase :dirs\n"
	"\t\t\t\t__fish_complete_directories (commandline -ct)\n"
	"\t\t\tcase '*'\n"
	"\t\t\t\techo $line\n"
	"\t\tend\n"
	"\tend\n"
	"end\n"
	"complete -c berth -f -a '(__berth_complete)'\n";

const char *completion_script(const char *shell)
{
	static const struct {
		const char *shell, *script;
	} scripts[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

	for (size_t i = 0; i < array_size(scripts); i++)
		if (strcmp(scripts[i].shell, shell) == 0)
			return scripts[i].script;
	return NULL;
}

static int run_completion(const struct args *args, struct error *err)
{
	const char *script = completion_script(args_at(args, 0));

	if (script == NULL)
		return args_refuse(args, err,
				   "there is no completion for \"%s\": expected bash, zsh "
				   "or fish",
				   args_at(args, 0));
	return print_text(script, err);
}

const struct command completion_command = {
	.arguments = "bash|zsh|fish",
	.summary = "Print a script that completes command lines in a shell",
	.examples = "source <(berth completion bash)\tIn this shell\n"
		    "berth completion fish > ~/.config/fish/completions/berth.fish\tFor good\n",
	.run = run_completion,
};

/* --- __complete ---------------------------------------------------------------------------------- */

struct answer {
	struct buf *out;
	const char *prefix; /* what of the word stands before the value: "--attach=" */
	size_t prefix_len;
	const char *typed; /* the value so far */
};

static void add_answer(struct answer *answer, const char *name, const char *text)
{
	if (name != NULL && str_after(name, answer->typed) != NULL)
		buf_format(answer->out, "%.*s%s\t%s\n", (int)answer->prefix_len, answer->prefix,
			   name, text);
}

static int add_workload(const struct workload *workload, void *data, struct error *err)
{
	struct answer *answer = data;

	(void)err;
	add_answer(answer, workload->name, workload->config.image ? workload->config.image : "");
	/* Ids only for who has begun to type one. */
	if (answer->typed[0] != '\0')
		add_answer(answer, workload->id, workload->name ? workload->name : "");
	return 0;
}

static int add_image(const struct image_row *row, void *data, struct error *err)
{
	(void)err;
	if (row->repository != NULL) {
		own_mem char *name = str_format("%s:%s", row->repository, row->tag ? row->tag : "");

		add_answer(data, name, "");
	}
	return 0;
}

/* Whatever goes wrong here, the shell has no use for it: there are no such names then. */
static int add_objects(const struct args *args, enum complete_kind kind, struct answer *answer,
		       struct error *err)
{
	const struct workload_filter all = {.all = true};
	const struct image_filter named = {.dangling = -1};
	own_engine struct engine *engine = NULL;
	struct image_store *store;
	int rc = open_images(args, &engine, &store, err);

	if (rc < 0)
		return rc;
	return kind == COMPLETE_IMAGES ? image_list(store, &named, add_image, answer, err)
				       : workload_list(engine, &all, add_workload, answer, err);
}

/* Puts what stands before the value in front of each line. */
static void add_prefixed(struct buf *out, char *lines, const char *prefix, size_t len)
{
	for (char *line = lines; *line != '\0';) {
		size_t n = strcspn(line, "\n");

		buf_format(out, "%.*s%.*s\n", (int)len, prefix, (int)n, line);
		line += n + (line[n] == '\n');
	}
}

static int run_complete(const struct args *args, struct error *err)
{
	own_buf struct buf found = {0}, out = {0};
	const char *last = args_at(args, args_count(args) - 1);
	size_t prefix;
	enum complete_kind kind =
		complete_words(&berth_command, args_positional(args), &found, &prefix);
	struct answer answer = {.out = &out, .prefix = last, .prefix_len = prefix};
	struct error ignored = {0};

	if (last == NULL)
		return 0;
	answer.typed = last + prefix;
	if (found.len > 0)
		add_prefixed(&out, found.data, last, prefix);
	if (kind == COMPLETE_FILES)
		buf_add_str(&out, ":files\n");
	else if (kind == COMPLETE_DIRS)
		buf_add_str(&out, ":dirs\n");
	else if (kind != COMPLETE_NOTHING && add_objects(args, kind, &answer, &ignored) < 0)
		log_debug("completion: %s", ignored.text);
	return out.len > 0 ? print_text(out.data, err) : 0;
}

const struct command complete_command = {
	.arguments = "[WORD...]",
	.summary = "Answer a shell's question about a command line",
	.flags = COMMAND_HIDDEN | COMMAND_STOP_AT_ARGUMENT,
	.run = run_complete,
};
