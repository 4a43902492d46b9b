/*
 * cp: files between the host and containers, and between containers.
 *
 * Both ends are the same to the rules, which are docker's: what is at the destination decides under which
 * name the source arrives there. Then the source is read as a tar that already has that name, and the tar
 * is put into the destination's directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "tar/extract.h"
#include "tar/pack.h"

enum { LINKS_MAX = 40, READ_SIZE = 256 << 10 };

/* One end of the copy. */
struct place {
	const char *text; /* as the user typed it */
	char *container;  /* NULL: the host */
	char *path;       /* without slashes at its end; "" is the root */
	bool is_stream;   /* "-" */
	bool is_contents; /* it ended in "/." */
	bool must_be_dir; /* it ended in "/" or "/." */
	mode_t mode;      /* 0: there is nothing */
};

static void place_release(struct place *place)
{
	free(place->container);
	free(place->path);
}
#define own_place __attribute__((cleanup(place_release)))

/* "CONTAINER:PATH", a path of the host, or "-". What begins with a dot or a slash is a path. */
static int place_parse(const char *text, struct place *ret, struct error *err)
{
	const char *colon = text[0] == '.' || text[0] == '/' ? NULL : strchr(text, ':');
	const char *path = colon ? colon + 1 : text;
	size_t len;

	*ret = (struct place){.text = text};
	if (str_eq(text, "-")) {
		ret->is_stream = true;
		return 0;
	}
	if (colon == text || path[0] == '\0')
		return refuse(err, -EINVAL, "\"%s\": expected CONTAINER:PATH or a path", text);
	if (colon != NULL)
		ret->container = str_copy_n(text, (size_t)(colon - text));
	ret->path = str_format("%s%s", colon && path[0] != '/' ? "/" : "", path);
	ret->must_be_dir = str_ends_with(ret->path, "/") || str_ends_with(ret->path, "/.") ||
			   str_eq(ret->path, ".");
	ret->is_contents = str_ends_with(ret->path, "/.") || str_ends_with(ret->path, "/..") ||
			   str_eq(ret->path, ".") || str_eq(ret->path, "..");
	len = strlen(ret->path);
	for (;;) {
		if (len > 0 && ret->path[len - 1] == '/')
			len--;
		else if (len > 1 && ret->path[len - 1] == '.' && ret->path[len - 2] == '/')
			len -= 2;
		else
			break;
	}
	ret->path[len] = '\0';
	/* The root has no name of its own. */
	ret->is_contents = ret->is_contents || len == 0;
	ret->must_be_dir = ret->must_be_dir || len == 0;
	return 0;
}

static const char *system_path(const struct place *p)
{
	return p->path[0] ? p->path : "/";
}

/* The last component. */
static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The directory that the path is in. */
static char *dir_of(const char *path, bool on_host)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return str_copy(on_host ? "." : "/");
	return slash == path ? str_copy("/") : str_copy_n(path, (size_t)(slash - path));
}

/* Goes from a link to what it points to. */
static void go_on(struct place *place, const char *target)
{
	own_mem char *dir = dir_of(place->path, place->container == NULL);

	free(place->path);
	place->path = target[0] == '/' ? str_copy(target) : str_format("%s/%s", dir, target);
}

/* What is there, with `follow` behind links at its end; place->path is then where they lead. */
static int look(struct engine *engine, struct place *place, bool follow, struct error *err)
{
	place->mode = 0;
	for (int i = 0; i < LINKS_MAX; i++) {
		own_workload_path struct workload_path found = {0};
		char target[PATH_MAX];
		struct stat st;
		ssize_t len;
		int rc;

		if (place->container != NULL) {
			struct error why = {0};

			rc = workload_stat_path(engine, place->container, system_path(place),
						&found, &why);
			/* No such path, or no such container? */
			if (rc == -ENOENT && strstr(why.text, "in the container") != NULL)
				return 0;
			if (rc < 0) {
				*err = why;
				return rc;
			}
			place->mode = found.mode;
			if (!follow || found.target == NULL)
				return 0;
			go_on(place, found.target);
			continue;
		}
		if (lstat(system_path(place), &st) < 0)
			return errno == ENOENT ? 0 : fail(err, -errno, "look at %s", place->text);
		place->mode = st.st_mode;
		if (!follow || !S_ISLNK(st.st_mode))
			return 0;
		len = readlink(place->path, target, sizeof(target) - 1);
		if (len < 0)
			return fail(err, -errno, "read the link %s", place->text);
		target[len] = '\0';
		go_on(place, target);
	}
	return refuse(err, -ELOOP, "%s: too many links", place->text);
}

/* A copy in progress. */
struct copy {
	struct engine *engine;
	struct place from, to;
	char *as;  /* the name in the destination; "." is its contents */
	char *dir; /* where to put it */
	bool archive;
	uint64_t bytes;
	workload_bytes_fn *out; /* of the receiver, behind count() */
	void *out_context;
};

static int count(const void *data, size_t len, void *context, struct error *err)
{
	struct copy *copy = context;

	copy->bytes += len;
	return copy->out(data, len, copy->out_context, err);
}

static int read_stream(struct copy *copy, struct error *err)
{
	own_mem char *chunk = mem_new(READ_SIZE);

	for (;;) {
		ssize_t n = read(0, chunk, READ_SIZE);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? fail(err, -errno, "read stdin") : 0;
		rc = count(chunk, (size_t)n, copy, err);
		if (rc < 0)
			return rc;
	}
}

static int read_host(struct copy *copy, struct error *err)
{
	const struct pack_options options = {.kind = PACK_PLAIN, .flags = PACK_MOUNTS};
	const char *path = system_path(&copy->from);
	own_mem char *parent = dir_of(copy->from.path, true);
	const char *base = base_of(copy->from.path);
	own_fd int fd = -1;

	if (str_eq(copy->as, ".")) {
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return fd < 0 ? fail(err, -errno, "open %s", copy->from.text)
			      : pack_tree(fd, &options, count, copy, err);
	}
	if (base[0] == '\0' || str_eq(base, ".."))
		fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	else
		fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail(err, -errno, "open %s", copy->from.text);
	return pack_one(fd, base[0] == '\0' || str_eq(base, "..") ? "." : base, copy->as, &options,
			count, copy, err);
}

/* Pushes the tar of the source into `out`. */
static int produce(workload_bytes_fn *out, void *out_context, void *context, struct error *err)
{
	struct copy *copy = context;

	copy->out = out;
	copy->out_context = out_context;
	if (copy->from.is_stream)
		return read_stream(copy, err);
	if (copy->from.container == NULL)
		return read_host(copy, err);
	return workload_read_path(copy->engine, copy->from.container, system_path(&copy->from),
				  copy->as, count, copy, err);
}

static int write_stdout(const void *data, size_t len, void *context, struct error *err)
{
	int rc = fd_write_full(1, data, len);

	(void)context;
	return rc < 0 ? fail(err, rc, "write the output") : 0;
}

static int put_host(const void *data, size_t len, void *context, struct error *err)
{
	return extract_add(context, data, len, err);
}

static int write_host(struct copy *copy, struct error *err)
{
	own_fd int fd = open(copy->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	own_extract struct extract *x = NULL;
	const struct extract_options options = {
		.root_fd = fd,
		.dir = "",
		.flags = copy->archive ? EXTRACT_OWNERS | EXTRACT_SPECIAL : 0,
		.uid = geteuid(),
		.gid = getegid(),
	};
	int rc;

	if (fd < 0)
		return fail(err, -errno, "open the directory %s", copy->dir);
	rc = extract_begin(&options, &x, err);
	if (rc == 0)
		rc = produce(put_host, x, copy, err);
	return rc < 0 ? rc : extract_finish(x, err);
}

/* Decides where the source goes and under which name. */
static int decide(struct copy *copy, struct error *err)
{
	const struct place *from = &copy->from, *to = &copy->to;
	const bool from_dir = from->is_stream || S_ISDIR(from->mode);

	if (to->mode != 0 && S_ISDIR(to->mode)) {
		copy->dir = str_copy(system_path(to));
		copy->as =
			str_copy(from->is_contents ? "." : base_of(from->path ? from->path : ""));
		return 0;
	}
	if (to->mode != 0 && to->must_be_dir)
		return refuse(err, -ENOTDIR, "%s is not a directory", to->text);
	if (from->is_stream)
		return refuse(err, to->mode ? -ENOTDIR : -ENOENT, "%s is not a directory",
			      to->text);
	if (to->mode != 0 && from_dir)
		return refuse(err, -ENOTDIR, "the directory %s cannot replace the file %s",
			      from->text, to->text);
	if (to->mode == 0 && to->must_be_dir && !from_dir)
		return refuse(err, -ENOENT, "there is no directory %s", to->text);
	copy->dir = dir_of(to->path, to->container == NULL);
	copy->as = str_copy(base_of(to->path));
	return 0;
}

static int copy_places(struct copy *copy, bool follow, struct error *err)
{
	own_mem char *name = NULL;
	struct place *from = &copy->from, *to = &copy->to;
	int rc = 0;

	if (!from->is_stream) {
		/* With a link that is followed, the copy has the link's name. */
		name = str_copy(base_of(from->path));
		rc = look(copy->engine, from, follow || from->must_be_dir, err);
		if (rc == 0 && from->mode == 0)
			rc = refuse(err, -ENOENT, "there is no %s", from->text);
		if (rc == 0 && from->must_be_dir && !S_ISDIR(from->mode))
			rc = refuse(err, -ENOTDIR, "%s is not a directory", from->text);
	}
	if (rc == 0 && to->is_stream) {
		copy->as = str_copy(from->is_contents ? "." : name);
		return produce(write_stdout, NULL, copy, err);
	}
	if (rc == 0)
		rc = look(copy->engine, to, true, err);
	if (rc == 0)
		rc = decide(copy, err);
	if (rc < 0)
		return rc;
	if (S_ISDIR(to->mode) && name != NULL && !from->is_contents) {
		free(copy->as);
		copy->as = take(name);
	}
	if (to->container == NULL)
		return write_host(copy, err);
	return workload_write_path(copy->engine, to->container, copy->dir,
				   copy->archive ? WORKLOAD_PUT_ARCHIVE : 0, produce, copy, err);
}

static const struct option_spec cp_options[] = {
	{"archive", 'a', OPTION_FLAG, 0, "", "",
	 "Keep owners, attributes, set-id bits; devices too"},
	{"follow-link", 'L', OPTION_FLAG, 0, "", "", "Copy what a link points to, not the link"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Do not say how much was copied"},
};

static int check_places(const struct args *args, const struct copy *copy, struct error *err)
{
	if (copy->from.is_stream && copy->to.is_stream)
		return args_refuse(args, err, "only one of the two can be \"-\"");
	if (copy->from.container == NULL && copy->to.container == NULL)
		return hint(err,
			    refuse(err, -EINVAL, "neither \"%s\" nor \"%s\" is in a container",
				   copy->from.text, copy->to.text),
			    "berth cp CONTAINER:PATH PATH, or the other way round");
	if (copy->from.is_stream && isatty(0))
		return refuse(err, -EINVAL, "stdin is a terminal");
	if (copy->to.is_stream && isatty(1))
		return refuse(err, -EINVAL, "stdout is a terminal");
	return 0;
}

static int run_cp(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	struct copy copy = {.archive = args_flag(args, "archive")};
	char size[24];
	int rc = place_parse(args_at(args, 0), &copy.from, err);

	if (rc == 0)
		rc = place_parse(args_at(args, 1), &copy.to, err);
	if (rc == 0)
		rc = check_places(args, &copy, err);
	if (rc == 0)
		rc = open_engine(args, &engine, err);
	copy.engine = engine;
	if (rc == 0)
		rc = copy_places(&copy, args_flag(args, "follow-link"), err);
	if (rc < 0)
		rc = fail(err, rc, "cannot copy \"%s\"", args_at(args, 0));
	str_from_size(copy.bytes, 3, size);
	if (rc == 0 && !args_flag(args, "quiet") && isatty(2))
		fprintf(stderr, "Copied %s to %s\n", size, args_at(args, 1));
	place_release(&copy.from);
	place_release(&copy.to);
	free(copy.as);
	free(copy.dir);
	return rc;
}

const struct command cp_command = {
	.arguments = "CONTAINER:PATH|PATH|- CONTAINER:PATH|PATH|-",
	.summary = "Copy files between containers and the host",
	.description =
		"A directory is copied with all that is in it; PATH/. means only what is in it. If "
		"the destination is a directory, the source is put into it, else it gets the "
		"destination's name. \"-\" reads or writes a tar. Links are copied as links; those "
		"in a container never lead out of it.\n\n"
		"What comes into a container belongs to root there, what comes out to whoever "
		"copies, and set-id bits are left out, unless --archive is given. Of a container "
		"that does not run, mounts cannot be reached.",
	.examples = "berth cp web:/etc/nginx ./conf\tA directory to the host\n"
		    "berth cp site/. web:/srv/www\tWhat is in a directory into another\n"
		    "berth cp web:/var/log - | tar -t\tAs a tar\n",
	.options = {OPTION_SET(cp_options)},
	.run = run_cp,
};
