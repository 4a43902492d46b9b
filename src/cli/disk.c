/* disk: disk images for virtual machines: `disk create`, `convert`, `resize`, `info`, `check`,
 * `snapshot`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/listing.h"
#include "vmm/disk/image.h"

static const struct option_spec from_options[] = {
	{"from", 0, OPTION_ENUM, 0, "auto|raw|qcow2", "auto", "The format of FILE"},
};

static enum disk_format format_of(const struct args *args, const char *option)
{
	enum disk_format format;

	/* The table lets nothing else through but "auto". */
	return disk_format_parse(args_string(args, option), &format) == 0 ? format
									  : DISK_FORMAT_AUTO;
}

static int read_size(const struct args *args, const char *text, uint64_t *ret, struct error *err)
{
	if (str_to_size(text, ret) == 0)
		return 0;
	return args_refuse(args, err, "\"%s\" is no size such as 10g", text);
}

/* --- create, snapshot ------------------------------------------------------------------------------- */

static const struct option_spec create_options[] = {
	{"backing", 'b', OPTION_STRING, 0, "FILE", "",
	 "An image that the new one is based on, and that must not be written to any more"},
	{"backing-format", 'F', OPTION_ENUM, 0, "auto|raw|qcow2", "auto", "The format of that"},
	{"format", 0, OPTION_ENUM, 0, "raw|qcow2", "qcow2", "The format of the new image"},
};

static int run_create(const struct args *args, struct error *err)
{
	struct disk_image_new image = {.format = format_of(args, "format"),
				       .backing = args_string(args, "backing"),
				       .backing_format = format_of(args, "backing-format")};
	int rc = 0;

	if (args_at(args, 1))
		rc = read_size(args, args_at(args, 1), &image.size_bytes, err);
	else if (!image.backing)
		return args_refuse(args, err, "a disk without --backing needs a SIZE");
	if (rc == 0)
		rc = disk_image_create(args_at(args, 0), &image, err);
	return rc < 0 ? refuse(err, rc, "cannot make the disk") : 0;
}

static const struct command disk_create = {
	.arguments = "FILE [SIZE]",
	.summary = "Make an empty disk image",
	.description = "The image takes no space until a machine writes to it. With --backing it "
		       "reads as that image until then.",
	.examples = "berth disk create data.qcow2 20g\tA disk of 20 GiB\n"
		    "berth disk create -b debian.qcow2 web.qcow2\tOne that begins as another\n",
	.options = {OPTION_SET(create_options)},
	.run = run_create,
};

static int run_snapshot(const struct args *args, struct error *err)
{
	const struct disk_image_new image = {.format = DISK_FORMAT_QCOW2,
					     .backing = args_at(args, 0),
					     .backing_format = format_of(args, "from")};
	int rc = disk_image_create(args_at(args, 1), &image, err);

	return rc < 0 ? refuse(err, rc, "cannot make a disk on top of \"%s\"", args_at(args, 0))
		      : 0;
}

static const struct command disk_snapshot = {
	.arguments = "FILE NEW-FILE",
	.summary = "Keep a disk as it is, and go on in a new file",
	.description =
		"Makes NEW-FILE, a qcow2 image that takes only what differs from FILE. Give the "
		"machine NEW-FILE from now on: FILE must not be written to any more. To go back, "
		"remove NEW-FILE and make it again.",
	.options = {OPTION_SET(from_options)},
	.run = run_snapshot,
};

/* --- convert ---------------------------------------------------------------------------------------- */

static const struct option_spec convert_options[] = {
	{"backing-any", 0, OPTION_FLAG, 0, "", "",
	 "FILE may be based on files outside of its directory"},
	{"format", 0, OPTION_ENUM, 0, "raw|qcow2", "qcow2", "The format of the copy"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Show no progress"},
};

static void show_progress(uint64_t done, uint64_t size, void *data)
{
	unsigned int *last = data, percent = (unsigned int)(done * 100 / size);

	if (percent == *last)
		return;
	*last = percent;
	fprintf(stderr, "\rcopying: %u %%%s", percent, done == size ? "\n" : "");
}

static int run_convert(const struct args *args, struct error *err)
{
	unsigned int last = 101;
	struct disk_image_copy options = {
		.from_format = format_of(args, "from"),
		.format = format_of(args, "format"),
		.flags = args_flag(args, "backing-any") ? DISK_BACKING_ANYWHERE : 0,
		.data = &last,
	};
	int rc;

	if (!args_flag(args, "quiet") && isatty(2))
		options.progress = show_progress;
	rc = disk_image_copy(args_at(args, 0), args_at(args, 1), &options, err);
	return rc < 0 ? refuse(err, rc, "cannot convert the disk") : 0;
}

static const struct command disk_convert = {
	.arguments = "FILE NEW-FILE",
	.summary = "Copy a disk into another format",
	.description = "The copy stands alone, also if FILE is based on other images. What is zero "
		       "takes no space in it.",
	.options = {OPTION_SET(from_options), OPTION_SET(convert_options)},
	.run = run_convert,
};

/* --- resize ----------------------------------------------------------------------------------------- */

static int run_resize(const struct args *args, struct error *err)
{
	const char *path = args_at(args, 0), *text = args_at(args, 1);
	enum disk_format format = format_of(args, "from");
	struct disk_image_info info;
	uint64_t size;
	int rc = read_size(args, text + (text[0] == '+'), &size, err);

	if (rc == 0 && text[0] == '+') {
		rc = disk_image_look(path, format, &info, err);
		size = rc == 0 && size <= DISK_SIZE_MAX ? size + info.size_bytes : size;
	}
	if (rc == 0)
		rc = disk_image_grow(path, format, size, err);
	return rc < 0 ? refuse(err, rc, "cannot resize the disk") : 0;
}

static const struct command disk_resize = {
	.arguments = "FILE [+]SIZE",
	.summary = "Make a disk larger",
	.description = "The guest has to grow its partitions and file systems by itself. No "
		       "machine may run with the disk.",
	.options = {OPTION_SET(from_options)},
	.run = run_resize,
};

/* --- info ------------------------------------------------------------------------------------------- */

static const struct option_spec info_options[] = {
	{"format", 0, OPTION_STRING, 0, "TEMPLATE", "", "Print by a template, or as \"json\""},
};

static json_t *info_json(const char *path, const struct disk_image_info *info)
{
	json_t *o = json_object();

	json_object_set_new(o, "filename", json_string(path));
	json_object_set_new(o, "format",
			    json_string(info->format == DISK_FORMAT_QCOW2 ? "qcow2" : "raw"));
	json_object_set_new(o, "virtual-size", json_integer((json_int_t)info->size_bytes));
	json_object_set_new(o, "actual-size", json_integer((json_int_t)info->used_bytes));
	if (info->format != DISK_FORMAT_QCOW2)
		return o;
	json_object_set_new(o, "cluster-size", json_integer((json_int_t)info->cluster_bytes));
	json_object_set_new(o, "version", json_integer(info->version));
	json_object_set_new(o, "compression-type", json_string(info->is_zstd ? "zstd" : "zlib"));
	json_object_set_new(o, "snapshots", json_integer(info->snapshots));
	json_object_set_new(o, "dirty-flag", json_boolean(info->is_dirty));
	json_object_set_new(o, "corrupt", json_boolean(info->is_damaged));
	if (info->backing[0])
		json_object_set_new(o, "backing-filename", json_string(info->backing));
	if (info->backing_format[0])
		json_object_set_new(o, "backing-filename-format",
				    json_string(info->backing_format));
	return o;
}

static void add_qcow2(struct buf *out, const struct disk_image_info *info)
{
	buf_format(out, "version:       %u\ncluster size:  %llu bytes\ncompression:   %s\n",
		   info->version, (unsigned long long)info->cluster_bytes,
		   info->is_zstd ? "zstd" : "zlib");
	if (info->backing[0])
		buf_format(out, "based on:      %s%s%s%s\n", info->backing,
			   info->backing_format[0] ? " (" : "", info->backing_format,
			   info->backing_format[0] ? ")" : "");
	if (info->snapshots)
		buf_format(out, "snapshots:     %u inside (it can only be read)\n",
			   info->snapshots);
	if (info->is_damaged)
		buf_format(out, "state:         marked as damaged\n");
	else if (info->is_dirty)
		buf_format(out, "state:         reference counts are out of date\n");
}

static int run_info(const struct args *args, struct error *err)
{
	const char *path = args_at(args, 0);
	own_buf struct buf out = {0};
	struct disk_image_info info;
	int rc = disk_image_look(path, format_of(args, "from"), &info, err);

	if (rc < 0)
		return refuse(err, rc, "cannot look at the disk");
	if (args_string(args, "format")) {
		own_json json_t *json = info_json(path, &info);

		return print_formatted(json, args_string(args, "format"), err);
	}
	buf_format(&out,
		   "file:          %s\nformat:        %s\nsize:          %llu bytes\n"
		   "space taken:   %llu bytes\n",
		   path, info.format == DISK_FORMAT_QCOW2 ? "qcow2" : "raw",
		   (unsigned long long)info.size_bytes, (unsigned long long)info.used_bytes);
	if (info.format == DISK_FORMAT_QCOW2)
		add_qcow2(&out, &info);
	return print_text(out.data, err);
}

static const struct command disk_info = {
	.arguments = "FILE",
	.summary = "Show what a disk image is",
	.options = {OPTION_SET(from_options), OPTION_SET(info_options)},
	.run = run_info,
};

/* --- check ------------------------------------------------------------------------------------------ */

static const struct option_spec check_options[] = {
	{"repair", 0, OPTION_FLAG, 0, "", "", "Mend what can be mended"},
};

static int run_check(const struct args *args, struct error *err)
{
	struct disk_image_check found;
	own_buf struct buf out = {0};
	uint64_t left;
	int rc = disk_image_check(args_at(args, 0), format_of(args, "from"),
				  args_flag(args, "repair"), &found, err);

	if (rc < 0)
		return refuse(err, rc, "cannot check the disk");
	left = found.errors + found.leaks;
	left -= found.mended < left ? found.mended : left;
	if (found.errors + found.leaks == 0)
		buf_format(&out, "No problems found.\n");
	else
		buf_format(&out, "%llu errors, %llu clusters that nothing uses, %llu mended\n",
			   (unsigned long long)found.errors, (unsigned long long)found.leaks,
			   (unsigned long long)found.mended);
	rc = print_text(out.data, err);
	if (rc == 0 && left > 0) {
		rc = refuse(err, -EUCLEAN, "the disk %s has problems%s%s", args_at(args, 0),
			    found.first[0] ? ": " : "", found.first);
		if (!args_flag(args, "repair"))
			hint(err, rc, "berth disk check --repair %s", args_at(args, 0));
	}
	return rc;
}

static const struct command disk_check = {
	.arguments = "FILE",
	.summary = "Look for contradictions in a qcow2 image",
	.description = "The exit code is 0 if there are none (any more), else 125.",
	.options = {OPTION_SET(from_options), OPTION_SET(check_options)},
	.run = run_check,
};

static const struct command_entry entries[] = {
	{"create", NULL, &disk_create, NULL},
	{"convert", NULL, &disk_convert, NULL},
	{"resize", NULL, &disk_resize, NULL},
	{"info", NULL, &disk_info, NULL},
	{"check", NULL, &disk_check, NULL},
	{"snapshot", NULL, &disk_snapshot, NULL},
	{0},
};

const struct command disk_command = {
	.summary = "Disk images for virtual machines",
	.entries = entries,
};
