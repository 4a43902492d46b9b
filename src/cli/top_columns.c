/* top_columns: see top_columns.h. */
#include "cli/top_columns.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

enum { NS_PER_S = 1000000000 };

struct top_column {
	const char *name, *heading;
	void (*add)(struct buf *out, const struct proc_info *p);
};

/* --- cells --------------------------------------------------------------------------------------- */

static void add_uid(struct buf *out, const struct proc_info *p)
{
	buf_format(out, "%u", p->uid);
}

static void add_user(struct buf *out, const struct proc_info *p)
{
	const struct passwd *user = getpwuid(p->uid);

	if (user == NULL)
		add_uid(out, p);
	else
		buf_add_str(out, user->pw_name);
}

static void add_pid(struct buf *out, const struct proc_info *p)
{
	buf_format(out, "%d", (int)p->pid);
}

static void add_parent(struct buf *out, const struct proc_info *p)
{
	buf_format(out, "%d", (int)p->parent);
}

static void add_pgid(struct buf *out, const struct proc_info *p)
{
	buf_format(out, "%d", (int)p->pgid);
}

static void add_sid(struct buf *out, const struct proc_info *p)
{
	buf_format(out, "%d", (int)p->sid);
}

static void add_state(struct buf *out, const struct proc_info *p)
{
	buf_add_char(out, p->state);
}

static void add_nice(struct buf *out, const struct proc_info *p)
{
	buf_format(out, "%d", p->nice);
}

static void add_threads(struct buf *out, const struct proc_info *p)
{
	buf_format(out, "%u", p->threads);
}

static void add_virtual(struct buf *out, const struct proc_info *p)
{
	buf_format(out, "%llu", (unsigned long long)p->virtual_bytes >> 10);
}

static void add_resident(struct buf *out, const struct proc_info *p)
{
	buf_format(out, "%llu", (unsigned long long)p->resident_bytes >> 10);
}

static void add_started(struct buf *out, const struct proc_info *p)
{
	const time_t started = p->started_ns / NS_PER_S;
	char clock[16] = "";
	struct tm tm;

	if (localtime_r(&started, &tm) != NULL)
		strftime(clock, sizeof(clock), "%H:%M", &tm);
	buf_add_str(out, clock);
}

static void add_terminal(struct buf *out, const struct proc_info *p)
{
	buf_add_str(out, p->terminal[0] ? p->terminal : "?");
}

static void add_time(struct buf *out, const struct proc_info *p)
{
	const long long s = p->cpu_ns / NS_PER_S;

	buf_format(out, "%02lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
}

static int64_t elapsed_ns(const struct proc_info *p)
{
	const int64_t ns = clock_now_ns() - p->started_ns;

	return ns > 0 ? ns : 0;
}

/* [[DAYS-]HOURS:]MINUTES:SECONDS */
static void add_elapsed(struct buf *out, const struct proc_info *p)
{
	const long long s = elapsed_ns(p) / NS_PER_S;

	if (s >= 86400)
		buf_format(out, "%lld-", s / 86400);
	if (s >= 3600)
		buf_format(out, "%02lld:", s / 3600 % 24);
	buf_format(out, "%02lld:%02lld", s / 60 % 60, s % 60);
}

static void add_share(struct buf *out, const struct proc_info *p)
{
	const int64_t ns = elapsed_ns(p);

	buf_format(out, "%.1f", ns > 0 ? 100.0 * (double)p->cpu_ns / (double)ns : 0);
}

static void add_name(struct buf *out, const struct proc_info *p)
{
	buf_add_str(out, p->name);
}

static void add_command(struct buf *out, const struct proc_info *p)
{
	buf_add_str(out, p->command);
}

static const struct top_column available[] = {
	{"pid", "PID", add_pid},           {"ppid", "PPID", add_parent},
	{"uid", "UID", add_uid},           {"user", "USER", add_user},
	{"pgid", "PGID", add_pgid},        {"sid", "SID", add_sid},
	{"comm", "COMMAND", add_name},     {"args", "COMMAND", add_command},
	{"cmd", "CMD", add_command},       {"command", "COMMAND", add_command},
	{"tty", "TTY", add_terminal},      {"time", "TIME", add_time},
	{"etime", "ELAPSED", add_elapsed}, {"stime", "STIME", add_started},
	{"pcpu", "%CPU", add_share},       {"%cpu", "%CPU", add_share},
	{"rss", "RSS", add_resident},      {"vsz", "VSZ", add_virtual},
	{"nlwp", "NLWP", add_threads},     {"ni", "NI", add_nice},
	{"nice", "NI", add_nice},          {"s", "S", add_state},
	{"stat", "STAT", add_state},       {"state", "S", add_state},
};

/* --- words --------------------------------------------------------------------------------------- */

static int refuse_column(const char *name, struct error *err)
{
	own_buf struct buf names = {0};

	for (size_t i = 0; i < array_size(available); i++)
		buf_format(&names, "%s%s", i ? ", " : "", available[i].name);
	return hint(err, refuse(err, -EINVAL, "there is no column \"%s\"", name), "there are %s",
		    names.data);
}

/* "NAME" or "NAME=HEADING". */
static int add_column(struct top_columns *columns, const char *text, struct error *err)
{
	const char *equals = strchr(text, '=');
	own_mem char *name = str_copy_n(text, strcspn(text, "="));

	if (columns->count == TOP_COLUMNS_MAX)
		return refuse(err, -EINVAL, "more than %d columns", TOP_COLUMNS_MAX);
	for (size_t i = 0; i < array_size(available); i++) {
		if (!str_eq(available[i].name, name))
			continue;
		columns->items[columns->count] = &available[i];
		columns->headings[columns->count++] = equals ? str_copy(equals + 1) : NULL;
		return 0;
	}
	return refuse_column(name, err);
}

static int add_list(struct top_columns *columns, const char *list, struct error *err)
{
	own_strv char **names = strv_split(list, ',');
	int rc = 0;

	for (size_t i = 0; names != NULL && names[i] != NULL && rc == 0; i++)
		rc = add_column(columns, names[i], err);
	return rc;
}

static int add_full(struct top_columns *columns, struct error *err)
{
	return add_list(columns, "uid,pid,ppid,stime,tty,time,cmd", err);
}

/* The letters behind a dash, the last of which may have `next` as its list: 1 if it was taken. */
static int add_letters(struct top_columns *columns, const char *word, const char *next,
		       struct error *err)
{
	int rc = 0;

	for (const char *p = word + 1; *p != '\0' && rc == 0; p++) {
		/* Which processes there are is no question here. */
		if (strchr("eAadx", *p) != NULL)
			continue;
		if (*p == 'f') {
			rc = add_full(columns, err);
		} else if (*p == 'o' && p[1] != '\0') {
			return add_list(columns, p + 1, err);
		} else if (*p == 'o' && next != NULL) {
			rc = add_list(columns, next, err);
			return rc < 0 ? rc : 1;
		} else if (*p == 'o') {
			return refuse(err, -EINVAL, "-o needs a list of columns");
		} else {
			return hint(
				err,
				refuse(err, -EINVAL, "the option -%c of ps is not supported", *p),
				"choose columns: -o pid,comm");
		}
	}
	return rc;
}

int top_columns_parse(char *const *words, struct top_columns *ret, struct error *err)
{
	own_top_columns struct top_columns columns = {0};
	int rc = 0;

	for (size_t i = 0; words[i] != NULL && rc >= 0; i += 1 + (size_t)(rc > 0))
		rc = words[i][0] == '-' ? add_letters(&columns, words[i], words[i + 1], err)
					: add_list(&columns, words[i], err);
	if (rc >= 0 && columns.count == 0)
		rc = add_full(&columns, err);
	if (rc < 0)
		return rc;
	*ret = columns;
	columns.count = 0;
	return 0;
}

void top_columns_release(struct top_columns *columns)
{
	for (size_t i = 0; i < columns->count; i++)
		free(columns->headings[i]);
	columns->count = 0;
}

/* --- lines --------------------------------------------------------------------------------------- */

char *top_columns_heading(const struct top_columns *columns)
{
	own_buf struct buf line = {0};
	bool any = false;

	for (size_t i = 0; i < columns->count; i++) {
		const char *given = columns->headings[i];
		const char *heading = given ? given : columns->items[i]->heading;

		any = any || heading[0] != '\0';
		buf_format(&line, "%s%s", i ? "\t" : "", heading);
	}
	return any ? buf_take(&line) : NULL;
}

char *top_columns_line(const struct top_columns *columns, const struct proc_info *process)
{
	own_buf struct buf line = {0};

	for (size_t i = 0; i < columns->count; i++) {
		if (i > 0)
			buf_add_char(&line, '\t');
		columns->items[i]->add(&line, process);
	}
	return buf_take(&line);
}
