/*
 * compare: the same image behind both walls, measured here and now. Everything goes through the command
 * itself, as a user would do it: what is printed is what a user waits for.
 *
 * CPU, disk and system calls are measured by programs of the image (sh, dd), run with exec in a workload
 * that is there already; from each time that of an exec of nothing is taken off. Runs of both walls
 * alternate, and the median counts.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/random.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/context.h"

enum {
	ROUNDS = 5,
	WALLS = 2,
	CPU_STEPS = 20000,
	CALLS = 20000, /* reads of one byte, each with a write */
	DISK_BYTES = 16 << 20,
	PROCESSES_MAX = 64,
};

static const char *const walls[WALLS] = {"container", "vm"};
/* After so long what was needed to start has been given back, by a machine once its guest is idle. */
static const int idle_s[WALLS] = {1, 4};

/* What was measured of one wall; negative: it could not be. */
struct result {
	double start_ms, memory_bytes, step_ns, call_ns, disk_bytes_per_s;
};

struct compare {
	struct engine *engine;
	const char *image;
	char *const *command; /* NULL-terminated, for the start */
	char *names[WALLS];   /* of the workloads that stay */
	struct result results[WALLS];
};

/* --- running ourselves ------------------------------------------------------------------------------ */

/* Runs `berth WORDS...`; its output is not shown. Returns the exit code, or -errno. */
static int run_self(const struct compare *c, char *const *words, int64_t *ret_ns, struct error *err)
{
	own_strv char **argv = NULL;
	own_fd int exe = open("/proc/self/exe", O_PATH | O_CLOEXEC), pidfd = -1;
	struct proc_spawn spawn = {.exe_fd = exe, .stdio = {-1, -1, -1}, .die_with_parent = true};
	int64_t begin = clock_monotonic_ns();
	pid_t pid;
	int rc;

	strv_push(&argv, "berth");
	strv_push(&argv, "--root");
	strv_push(&argv, engine_root_path(c->engine));
	strv_push(&argv, "--state");
	strv_push(&argv, engine_state_path(c->engine));
	for (; *words != NULL; words++)
		strv_push(&argv, *words);
	spawn.argv = argv;
	rc = proc_spawn(&spawn, &pid, &pidfd, err);
	if (rc < 0)
		return rc;
	rc = proc_wait(pidfd, NULL);
	if (ret_ns != NULL)
		*ret_ns = clock_monotonic_ns() - begin;
	return rc;
}

static char **words_for_run(const struct compare *c, int wall, const char *name)
{
	char **words = NULL;

	strv_push(&words, "run");
	if (name != NULL) {
		strv_push(&words, "-d");
		strv_push(&words, "--name");
		strv_push(&words, name);
	} else {
		strv_push(&words, "--rm");
	}
	strv_push(&words, "--isolation");
	strv_push(&words, walls[wall]);
	strv_push(&words, c->image);
	return words;
}

static int compare_numbers(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare_numbers);
	return values[count / 2];
}

/* --- start ------------------------------------------------------------------------------------------ */

static int start_once(const struct compare *c, int wall, int64_t *ret_ns, struct error *err)
{
	own_strv char **words = words_for_run(c, wall, NULL);
	int rc;

	for (char *const *word = c->command; *word != NULL; word++)
		strv_push(&words, *word);
	rc = run_self(c, words, ret_ns, err);
	if (rc > 0)
		return hint(err,
			    refuse(err, -EIO, "the command ended with exit code %d as a %s", rc,
				   walls[wall]),
			    "berth run --rm --isolation %s %s shows why", walls[wall], c->image);
	return rc;
}

static int measure_starts(struct compare *c, struct error *err)
{
	double times[WALLS][ROUNDS];
	int64_t ns = 0;
	int rc = 0;

	/* The first of each makes what later ones find: a template, mounted layers. */
	for (int wall = 0; rc == 0 && wall < WALLS; wall++)
		rc = start_once(c, wall, NULL, err);
	for (int round = 0; rc == 0 && round < ROUNDS; round++)
		for (int wall = 0; rc == 0 && wall < WALLS; wall++) {
			rc = start_once(c, wall, &ns, err);
			times[wall][round] = (double)ns / 1e6;
		}
	for (int wall = 0; rc == 0 && wall < WALLS; wall++)
		c->results[wall].start_ms = median(times[wall], ROUNDS);
	return rc;
}

/* --- inside ------------------------------------------------------------------------------------------ */

/* Milliseconds for `sh -c script` in the workload, or negative if the image cannot do it. */
static double exec_ms(const struct compare *c, int wall, const char *script)
{
	const char *const words[] = {"exec", c->names[wall], "sh", "-c", script, NULL};
	own_strv char **copy = strv_copy((char *const *)(uintptr_t)words);
	double times[3];

	for (int i = 0; i < 3; i++) {
		int64_t ns = 0;

		if (run_self(c, copy, &ns, NULL) != 0)
			return -1;
		times[i] = (double)ns / 1e6;
	}
	return median(times, 3);
}

/* The time beyond that of nothing; at least a little, since less cannot be told apart. */
static double beyond(double ms, double nothing_ms)
{
	if (ms < 0 || nothing_ms < 0)
		return -1;
	return ms - nothing_ms > 0.1 ? ms - nothing_ms : 0.1;
}

static void measure_inside(struct compare *c, int wall)
{
	struct result *r = &c->results[wall];
	own_mem char *steps =
		str_format("i=0; while [ $i -lt %d ]; do i=$((i+1)); done", CPU_STEPS);
	own_mem char *calls = str_format("dd if=/dev/zero of=/dev/null bs=1 count=%d", CALLS);
	own_mem char *disk = str_format("dd if=/dev/zero of=/compare.tmp bs=65536 count=%d "
					"conv=fsync && rm /compare.tmp",
					DISK_BYTES / 65536);
	double nothing = exec_ms(c, wall, ":"), ms;

	ms = beyond(exec_ms(c, wall, steps), nothing);
	r->step_ns = ms < 0 ? -1 : ms * 1e6 / CPU_STEPS;
	ms = beyond(exec_ms(c, wall, calls), nothing);
	r->call_ns = ms < 0 ? -1 : ms * 1e6 / (2.0 * CALLS);
	ms = beyond(exec_ms(c, wall, disk), nothing);
	r->disk_bytes_per_s = ms < 0 ? -1 : DISK_BYTES / (ms / 1e3);
}

/* --- memory ------------------------------------------------------------------------------------------ */

static pid_t parent_of(pid_t pid)
{
	struct proc_info info = {0};
	pid_t parent;

	if (proc_info_read(pid, &info) < 0)
		return 0;
	parent = info.parent;
	free(info.command);
	return parent;
}

/* What of memory the process and all below it have alone, but for `without` and what is below that. */
static double own_below(pid_t top, pid_t without)
{
	pid_t found[PROCESSES_MAX] = {top};
	unsigned int count = 1;
	double sum = (double)proc_own_bytes(top);
	own_dir DIR *dir = opendir("/proc");
	const struct dirent *entry;

	/* Children have larger numbers than their parents nearly always, and /proc is in order: one pass
	 * finds a chain. Who wrapped around is missed, which only costs exactness. */
	while (dir != NULL && (entry = readdir(dir)) != NULL && count < PROCESSES_MAX) {
		int64_t pid;
		pid_t parent;

		if (str_to_int(entry->d_name, 1, INT32_MAX, &pid) < 0 || pid == without)
			continue;
		parent = parent_of((pid_t)pid);
		for (unsigned int i = 0; i < count; i++)
			if (found[i] == parent && pid != top) {
				found[count++] = (pid_t)pid;
				sum += (double)proc_own_bytes((pid_t)pid);
				break;
			}
	}
	return sum;
}

/* What the wall costs each workload: berth's processes, and the machine less what the workload itself has. Not
 * what it shares with others or can read from a file again: a template's memory, programs, layers. */
static int measure_memory(struct compare *c, int wall, struct error *err)
{
	own_workload struct workload w = {0};
	struct workload_stats stats = {0};
	int rc = workload_find(c->engine, c->names[wall], &w, err);

	if (rc == 0)
		rc = workload_get_stats(c->engine, c->names[wall], &stats, err);
	if (rc < 0)
		return rc;
	c->results[wall].memory_bytes =
		w.config.isolation == WORKLOAD_VM
			? own_below(w.monitor_pid, 0) - (double)stats.memory_bytes
			: own_below(w.monitor_pid, w.pid);
	if (c->results[wall].memory_bytes < 0)
		c->results[wall].memory_bytes = 0;
	return 0;
}

static int measure_running(struct compare *c, int wall, struct error *err)
{
	own_strv char **words = words_for_run(c, wall, c->names[wall]);
	int rc;

	strv_push(&words, "sleep");
	strv_push(&words, "3600");
	rc = run_self(c, words, NULL, err);
	if (rc > 0)
		return hint(err,
			    refuse(err, -EIO, "\"sleep\" does not run in the image %s", c->image),
			    "name an image that has sh, sleep and dd, such as busybox");
	if (rc < 0)
		return rc;
	nanosleep(&(struct timespec){.tv_sec = idle_s[wall]}, NULL);
	rc = measure_memory(c, wall, err);
	if (rc == 0)
		measure_inside(c, wall);
	return rc;
}

/* --- telling ------------------------------------------------------------------------------------------ */

static void add_number(json_t *o, const char *key, double value)
{
	json_object_set_new(o, key, value < 0 ? json_null() : json_real(value));
}

static int print_json(const struct compare *c)
{
	own_json json_t *all = json_object();
	own_mem char *text = NULL;

	json_set_string(all, "image", c->image);
	for (int wall = 0; wall < WALLS; wall++) {
		const struct result *r = &c->results[wall];
		json_t *o = json_object();

		add_number(o, "startMs", r->start_ms);
		add_number(o, "memoryBytes", r->memory_bytes);
		add_number(o, "shellStepNs", r->step_ns);
		add_number(o, "systemCallNs", r->call_ns);
		add_number(o, "diskWriteBytesPerSecond", r->disk_bytes_per_s);
		json_object_set_new(all, walls[wall], o);
	}
	text = json_text_pretty(all);
	puts(text);
	return 0;
}

struct cell {
	char text[32];
};

static struct cell in_unit(double value, double scale, const char *unit)
{
	struct cell cell = {"not measured"};
	const double x = value / scale;

	if (value >= 0)
		snprintf(cell.text, sizeof(cell.text), "%.*f %s", x < 10 ? 1 : 0, x, unit);
	return cell;
}

static void print_row(const char *name, const char *a, const char *b)
{
	printf("  %-26s %-27s %s\n", name, a, b);
}

static void print_numbers(const struct compare *c)
{
	const struct result *a = &c->results[0], *b = &c->results[1];

	print_row("", "container", "virtual machine");
	print_row("start to end", in_unit(a->start_ms, 1, "ms").text,
		  in_unit(b->start_ms, 1, "ms").text);
	print_row("memory beyond its own", in_unit(a->memory_bytes, 1 << 20, "MiB").text,
		  in_unit(b->memory_bytes, 1 << 20, "MiB").text);
	print_row("CPU: one step of a shell", in_unit(a->step_ns, 1000, "us").text,
		  in_unit(b->step_ns, 1000, "us").text);
	print_row("a system call", in_unit(a->call_ns, 1, "ns").text,
		  in_unit(b->call_ns, 1, "ns").text);
	print_row("disk, written and synced", in_unit(a->disk_bytes_per_s, 1 << 20, "MiB/s").text,
		  in_unit(b->disk_bytes_per_s, 1 << 20, "MiB/s").text);
	print_row("network", "none in this version", "none in this version");
}

static void print_text_form(const struct compare *c)
{
	printf("%s, measured on this machine (median of %d starts)\n\n", c->image, ROUNDS);
	print_numbers(c);
	puts("");
	print_row("kernel", "the host's, shared", "its own");
	print_row("devices", "a few of the host's", "virtual ones of its own");
	print_row("what a bug must be in", "the host's kernel", "berth's devices, in a jail");
	print_row("inside", "namespaces, filter, limits", "the same again");
	puts("");
	puts("  Choose a container for what you trust, for many small things, for speed.\n"
	     "  Choose a virtual machine for what you do not trust, or for a kernel of its own.");
}

/* --- the command --------------------------------------------------------------------------------------- */

static void clean_up(struct compare *c)
{
	for (int wall = 0; wall < WALLS; wall++) {
		struct error ignored = {0};

		if (c->names[wall] != NULL &&
		    workload_remove(c->engine, c->names[wall], WORKLOAD_REMOVE_FORCE, &ignored) < 0)
			error_clear(&ignored); /* it was never made */
		free(c->names[wall]);
	}
}

static int measure(struct compare *c, struct error *err)
{
	char token[9];
	int rc = measure_starts(c, err);

	random_hex(token, 4);
	for (int wall = 0; rc == 0 && wall < WALLS; wall++) {
		c->names[wall] = str_format("compare-%s-%s", walls[wall], token);
		rc = measure_running(c, wall, err);
	}
	return rc;
}

static int run(const struct args *args, struct error *err)
{
	static char true_word[] = "true";
	static char *const nothing[] = {true_word, NULL};
	const struct result unknown = {-1, -1, -1, -1, -1};
	own_engine struct engine *engine = NULL;
	own_image struct image *image = NULL;
	struct image_store *store;
	struct compare c = {.image = args_at(args, 0), .results = {unknown, unknown}};
	int rc = open_images(args, &engine, &store, err);

	if (rc == 0)
		rc = image_find(store, c.image, &image, err);
	if (rc < 0)
		return fail(err, rc, "cannot compare");
	c.engine = engine;
	c.command = args_count(args) > 1 ? args_positional(args) + 1 : nothing;
	rc = measure(&c, err);
	clean_up(&c);
	if (rc < 0)
		return fail(err, rc, "cannot compare");
	if (str_eq(args_string(args, "format"), "json"))
		return print_json(&c);
	print_text_form(&c);
	return 0;
}

static const struct option_spec options[] = {
	{"format", 0, OPTION_ENUM, 0, "text|json", "text", "How to print it"},
};

const struct command compare_command = {
	.arguments = "IMAGE [COMMAND] [ARG...]",
	.summary = "Compare an image as a container and as a virtual machine",
	.description =
		"Runs the command (default: true) of an image both ways, several times, and measures "
		"what each wall costs on this machine: start, memory, CPU, system calls, disk. The image "
		"needs sh, sleep and dd for all but the first. Takes about a minute where virtual "
		"machines run on the software CPU.",
	.options = {OPTION_SET(options)},
	.flags = COMMAND_STOP_AT_ARGUMENT,
	.run = run,
};
