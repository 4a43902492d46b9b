/* transfer: images from and to elsewhere: pull, push, load, save, import, bootstrap. */
#include "cli/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/interrupt.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/change.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/output.h"
#include "image/find.h"
#include "image/reference.h"

/* --- registries ---------------------------------------------------------------------------------- */

const struct option_spec transfer_options[TRANSFER_OPTIONS_COUNT] = {
	{"authfile", 0, OPTION_STRING, 0, "FILE", "",
	 "Credentials (default ~/.docker/config.json)"},
	{"cert-dir", 0, OPTION_STRING, 0, "DIR", "", "Certificates of registries"},
	{"creds", 0, OPTION_STRING, 0, "USER:PASSWORD", "", "Credentials for this call"},
	{"tls-verify", 0, OPTION_FLAG, 0, "", "true", "Check the registry's certificate"},
};

static const struct option_spec pull_options[] = {
	{"all-tags", 'a', OPTION_FLAG, 0, "", "", "All tags of the repository"},
	{"disable-content-trust", 0, OPTION_FLAG, OPTION_HIDDEN, "", "true", "Skip signatures"},
	{"platform", 0, OPTION_STRING, 0, "OS/ARCH[/VARIANT]", "",
	 "Which of the image's platforms (default: the host's)"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Print only the id"},
};

static const struct option_spec push_options[] = {
	{"all-tags", 'a', OPTION_FLAG, 0, "", "", "All tags of the repository that are here"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Print only the digest"},
};

/* As podman does it: a short name that could be at several registries is asked about. */
static int ask_which(const char *name, char *const *names, struct error *err)
{
	const size_t count = strv_len(names);
	const struct interrupt interrupt = interrupt_begin();
	uint64_t chosen = 0;
	int rc = 0;

	fprintf(stderr, "\"%s\" may be any of these images:\n", name);
	for (size_t i = 0; i < count; i++)
		fprintf(stderr, "  %zu  %s\n", i + 1, names[i]);
	while (rc == 0 && chosen == 0) {
		char answer[32] = "";

		fprintf(stderr, "Which one (1-%zu)? ", count);
		rc = interrupt_await(0, err);
		if (rc == 0 && fgets(answer, sizeof(answer), stdin) == NULL)
			rc = refuse(err, -ECANCELED, "none of them was chosen");
		answer[strcspn(answer, "\r\n")] = '\0';
		if (rc == 0 && str_to_uint(answer, count, &chosen) < 0)
			chosen = 0;
	}
	interrupt_end(&interrupt, rc);
	return rc < 0 ? rc : (int)chosen - 1;
}

image_choose_fn *transfer_choose(void)
{
	return isatty(0) && isatty(1) ? ask_which : NULL;
}

struct image_remote transfer_remote(const struct args *args, struct progress *progress)
{
	struct image_remote remote = {
		.auth_file = args_string(args, "authfile"),
		.cert_dir = args_string(args, "cert-dir"),
		.user = args_string(args, "creds"),
		.progress = progress ? progress_report : NULL,
		.progress_data = progress,
		.choose = transfer_choose(),
	};

	if (args_given(args, "tls-verify"))
		remote.tls = args_flag(args, "tls-verify") ? IMAGE_TLS_VERIFY : IMAGE_TLS_INSECURE;
	if (args_has(args, "platform"))
		remote.platform = args_string(args, "platform");
	return remote;
}

/* What commands that bring an image print at the end: its id, or its name. */
static int print_image(const struct image *image, bool quiet, struct error *err)
{
	own_mem char *line =
		str_format("%s\n", quiet || image->name == NULL ? image->id.text : image->name);

	return print_text(line, err);
}

static int pull_one(struct image_store *store, const char *name, const struct image_remote *remote,
		    bool quiet, struct error *err)
{
	own_image struct image *image = NULL;
	int rc = image_pull(store, name, remote, &image, err);

	return rc < 0 ? rc : print_image(image, quiet, err);
}

static int add_tag(const char *name, const char *tag, void *data, struct error *err)
{
	(void)err;
	strv_push_format(data, "%s:%s", name, tag);
	return 0;
}

static int pull_all(struct image_store *store, const char *name, const struct image_remote *remote,
		    bool quiet, struct error *err)
{
	own_strv char **names = NULL;
	int rc = image_list_tags(name, SIZE_MAX, remote, add_tag, &names, err);

	for (size_t i = 0; rc >= 0 && names != NULL && names[i] != NULL; i++)
		rc = pull_one(store, names[i], remote, quiet, err);
	return rc;
}

static int run_pull(const struct args *args, struct error *err)
{
	const bool quiet = args_flag(args, "quiet");
	own_progress struct progress *progress = progress_new(quiet);
	const struct image_remote remote = transfer_remote(args, progress);
	own_engine struct engine *engine = NULL;
	struct image_store *store;
	int rc;

	if (args_given(args, "disable-content-trust") && !args_flag(args, "disable-content-trust"))
		return args_refuse(args, err,
				   "Notary's signatures are not supported: the policy says what "
				   "must be signed (--signature-policy)");
	/* Until the end of the program: whenever a signal comes, there is a message. */
	(void)interrupt_begin();
	rc = open_images(args, &engine, &store, err);
	if (rc >= 0)
		rc = args_flag(args, "all-tags")
			     ? pull_all(store, args_at(args, 0), &remote, quiet, err)
			     : pull_one(store, args_at(args, 0), &remote, quiet, err);
	return rc < 0 ? refuse(err, rc, "cannot pull \"%s\"", args_at(args, 0)) : 0;
}

const struct command pull_command = {
	.arguments = "IMAGE",
	.summary = "Fetch an image from a registry",
	.examples = "berth pull debian:bookworm\tFrom docker.io\n"
		    "berth pull --platform linux/arm64 localhost:5000/app\tFor another machine\n",
	.options = {OPTION_SET(pull_options), TRANSFER_OPTIONS},
	.run = run_pull,
};

static int push_one(struct image_store *store, const char *name, const char *target,
		    const struct image_remote *remote, struct error *err)
{
	own_mem char *line = NULL;
	struct digest manifest;
	int rc = image_push(store, name, target, remote, &manifest, err);

	if (rc < 0)
		return rc;
	line = str_format("%s\n", manifest.text);
	return print_text(line, err);
}

static int add_name(const struct image_row *row, void *data, struct error *err)
{
	(void)err;
	if (row->name != NULL)
		strv_push(data, row->name);
	return 0;
}

static int push_all(struct image_store *store, const char *name, const struct image_remote *remote,
		    struct error *err)
{
	const struct image_filter filter = {.reference = name};
	own_strv char **names = NULL;
	struct reference reference;
	int rc = reference_parse(name, &reference, err);

	if (rc == 0 && !reference.default_tag)
		rc = refuse(err, -EINVAL, "with --all-tags it must not have a tag or digest");
	if (rc == 0)
		rc = image_list(store, &filter, add_name, &names, err);
	if (rc == 0 && names == NULL)
		rc = refuse(err, -ENOENT, "there is no image of this repository");
	for (size_t i = 0; rc >= 0 && names[i] != NULL; i++)
		rc = push_one(store, names[i], NULL, remote, err);
	return rc;
}

static int run_push(const struct args *args, struct error *err)
{
	own_progress struct progress *progress = progress_new(args_flag(args, "quiet"));
	const struct image_remote remote = transfer_remote(args, progress);
	const bool all = args_flag(args, "all-tags");
	own_engine struct engine *engine = NULL;
	struct image_store *store;
	int rc;

	if (all && args_at(args, 1) != NULL)
		return args_refuse(args, err, "--all-tags leaves the names as they are");
	rc = open_images(args, &engine, &store, err);
	if (rc >= 0)
		rc = all ? push_all(store, args_at(args, 0), &remote, err)
			 : push_one(store, args_at(args, 0), args_at(args, 1), &remote, err);
	return rc < 0 ? refuse(err, rc, "cannot push \"%s\"", args_at(args, 0)) : 0;
}

const struct command push_command = {
	.arguments = "IMAGE [NAME]",
	.summary = "Send an image to a registry",
	.description =
		"The registry is part of the image's name, or of NAME, if it is to have another "
		"one there. Prints the manifest's digest.",
	.options = {OPTION_SET(push_options), TRANSFER_OPTIONS},
	.run = run_push,
};

/* --- archives ------------------------------------------------------------------------------------ */

static const struct option_spec load_options[] = {
	{"input", 'i', OPTION_STRING, 0, "FILE", "",
	 "Read from this file, or directory with an OCI layout, instead of stdin"},
	{"platform", 0, OPTION_STRING, 0, "OS/ARCH[/VARIANT]", "",
	 "Which platform of images that have several (default: the host's)"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Do not show the progress"},
};

static void print_loaded(const struct digest *id, const char *name, void *data)
{
	(void)data;
	if (name != NULL)
		printf("Loaded image: %s\n", name);
	else
		printf("Loaded image ID: %s\n", id->text);
}

/* Opens a file, or takes stdin for NULL and "-", unless that is a terminal. */
static int open_input(const char *path, int *ret, struct error *err)
{
	if (path == NULL || strcmp(path, "-") == 0) {
		if (isatty(0))
			return hint(err, refuse(err, -EINVAL, "stdin is a terminal"),
				    "name a file with --input, or redirect one: < FILE");
		*ret = dup(0);
	} else {
		*ret = open(path, O_RDONLY | O_CLOEXEC);
	}
	return *ret < 0 ? fail(err, -errno, "open %s", path ? path : "stdin") : 0;
}

static int run_load(const struct args *args, struct error *err)
{
	own_progress struct progress *progress = progress_new(args_flag(args, "quiet"));
	const struct image_load load = {
		.platform = args_string(args, "platform"),
		.loaded = print_loaded,
		.progress = progress_report,
		.progress_data = progress,
	};
	const char *path = args_string(args, "input");
	own_engine struct engine *engine = NULL;
	own_fd int fd = -1;
	struct image_store *store;
	struct stat st;
	int rc = open_input(path, &fd, err);

	if (rc >= 0)
		rc = open_images(args, &engine, &store, err);
	if (rc < 0)
		return rc;
	if (path != NULL && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		rc = image_load_layout(store, path, &load, err);
	else
		rc = image_load(store, fd, &load, err);
	if (fflush(stdout) != 0 && rc >= 0)
		rc = fail(err, -errno, "write the output");
	return rc;
}

const struct command load_command = {
	.summary = "Read images from an archive",
	.description =
		"The archive is one of \"docker save\" or an OCI layout, as tar, plain or "
		"compressed, or a directory with an OCI layout or what \"skopeo copy\" writes to dir:.",
	.examples = "berth load -i app.tar\tFrom a file\n"
		    "gzip -dc app.tar.gz | berth load\tFrom another program\n",
	.options = {OPTION_SET(load_options)},
	.run = run_load,
};

static const struct option_spec save_options[] = {
	{"format", 0, OPTION_ENUM, 0, "docker|oci|oci-dir|docker-archive|oci-archive", "docker",
	 "docker save's archive, an OCI layout as tar, or as a directory; podman's names for them, "
	 "too"},
	{"multi-image-archive", 'm', OPTION_FLAG, OPTION_HIDDEN, "", "",
	 "Accepted for podman's sake"},
	{"output", 'o', OPTION_STRING, 0, "FILE", "", "Write to this file instead of stdout"},
	{"quiet", 'q', OPTION_FLAG, OPTION_HIDDEN, "", "", "Accepted for podman's sake"},
};

static int run_save(const struct args *args, struct error *err)
{
	const char *path = args_string(args, "output"), *text = args_string(args, "format");
	const enum image_archive format =
		str_after(text, "docker") != NULL ? IMAGE_ARCHIVE_DOCKER : IMAGE_ARCHIVE_OCI;
	const bool directory = strcmp(text, "oci-dir") == 0;
	own_engine struct engine *engine = NULL;
	struct image_store *store;
	struct output output;
	int rc;

	if (directory && (path == NULL || args_count(args) != 1))
		return args_refuse(args, err, "--format oci-dir needs --output and one image");
	rc = open_images(args, &engine, &store, err);
	if (rc >= 0 && directory)
		return image_save_layout(store, args_at(args, 0), path, err);
	if (rc >= 0)
		rc = output_open(path, &output, err);
	if (rc < 0)
		return rc;
	rc = image_save(store, args_positional(args), format, output.fd, err);
	return output_close(&output, rc, err);
}

const struct command save_command = {
	.arguments = "IMAGE...",
	.summary = "Write images to an archive",
	.options = {OPTION_SET(save_options)},
	.run = run_save,
};

/* --- import, bootstrap --------------------------------------------------------------------------- */

static const struct option_spec import_options[] = {
	{"change", 'c', OPTION_LIST, 0, "INSTRUCTION", "",
	 "Set a part of the configuration: 'CMD [\"sh\"]', 'ENV A=1', 'WORKDIR /srv', 'USER 1000', "
	 "'LABEL a=b'"},
	{"message", 'm', OPTION_STRING, 0, "TEXT", "", "A comment for the image's history"},
	{"platform", 0, OPTION_STRING, 0, "OS/ARCH[/VARIANT]", "",
	 "What the image is for (default: the host's)"},
	{"quiet", 'q', OPTION_FLAG, OPTION_HIDDEN, "", "", "Accepted for podman's sake"},
};

static int run_import(const struct args *args, struct error *err)
{
	own_json json_t *config = json_object();
	struct image_import import = {
		.name = args_at(args, 1),
		.platform = args_string(args, "platform"),
		.config = config,
		.comment = args_string(args, "message"),
	};
	own_engine struct engine *engine = NULL;
	own_image struct image *image = NULL;
	own_fd int fd = -1;
	struct image_store *store;
	int rc = 0;

	for (char *const *change = args_list(args, "change"); *change && rc >= 0; change++)
		rc = change_config(config, *change, err);
	if (rc >= 0)
		rc = open_input(args_at(args, 0), &fd, err);
	if (rc >= 0)
		rc = open_images(args, &engine, &store, err);
	if (rc >= 0)
		rc = image_import(store, fd, &import, &image, err);
	if (rc == -ENOTSUP)
		hint(err, rc, "unpack it first: bzip2 -dc FILE | berth import - NAME");
	if (rc == -ENOENT && strstr(args_at(args, 0), "://") != NULL)
		hint(err, rc, "fetch it first: curl -L %.100s | berth import - NAME",
		     args_at(args, 0));
	if (rc < 0)
		return refuse(err, rc, "cannot import \"%s\"", args_at(args, 0));
	return print_image(image, true, err);
}

const struct command import_command = {
	.arguments = "FILE|- [NAME]",
	.summary = "Make an image from the tar of a root file system",
	.examples =
		"tar -C rootfs -c . | berth import -c 'CMD [\"/bin/sh\"]' - mine:1\tFrom a directory\n",
	.options = {OPTION_SET(import_options)},
	.run = run_import,
};

static const struct option_spec bootstrap_options[] = {
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Print only the id"},
};

static int run_bootstrap(const struct args *args, struct error *err)
{
	const bool quiet = args_flag(args, "quiet");
	own_progress struct progress *progress = progress_new(quiet);
	own_engine struct engine *engine = NULL;
	own_image struct image *image = NULL;
	struct image_store *store;
	int rc = open_images(args, &engine, &store, err);

	if (rc >= 0)
		rc = image_bootstrap(store, args_at(args, 0), progress_report, progress, &image,
				     err);
	if (rc < 0)
		return refuse(err, rc, "cannot make the image \"%s\"", args_at(args, 0));
	return print_image(image, quiet, err);
}

const struct command bootstrap_command = {
	.arguments = "busybox|debian[:SUITE]",
	.summary = "Make an image without a registry",
	.description =
		"busybox is made from the package busybox-static, debian from the distribution's "
		"mirror. They are ordinary images from then on, docker.io/library/busybox:latest "
		"and docker.io/library/debian:SUITE.",
	.options = {OPTION_SET(bootstrap_options)},
	.run = run_bootstrap,
};
