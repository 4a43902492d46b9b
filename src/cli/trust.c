/* trust: whether images are what they should be, and what is in them: sign, verify, sbom. */
#include "image/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/transfer.h"
#include "image/attach.h"
#include "image/sbom.h"

/* --- sign ---------------------------------------------------------------------------------------- */

static const struct option_spec sign_options[] = {
	{"key", 0, OPTION_STRING, 0, "FILE", "",
	 "The private key, in PEM form: ECDSA P-256 or Ed25519"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Print only the digest"},
};

static int run_sign(const struct args *args, struct error *err)
{
	const struct image_remote remote = transfer_remote(args, NULL);
	const char *key = args_string(args, "key");
	own_engine struct engine *engine = NULL;
	own_mem char *line = NULL;
	struct image_store *store;
	struct digest digest;
	int rc;

	if (key == NULL)
		return args_refuse(args, err, "--key FILE is needed");
	rc = open_images(args, &engine, &store, err);
	if (rc >= 0)
		rc = image_sign(store, args_at(args, 0), key, &remote, &digest, err);
	if (rc < 0)
		return refuse(err, rc, "cannot sign \"%s\"", args_at(args, 0));
	if (args_flag(args, "quiet"))
		line = str_format("%s\n", digest.text);
	else
		line = str_format("%s %s\n",
				  rc ? "Signed" : "Signed by this key already:", digest.text);
	return print_text(line, err);
}

const struct command sign_command = {
	.arguments = "IMAGE",
	.summary = "Sign an image in its registry",
	.description =
		"Signs what the name stands for in the registry, which must be the same as here if "
		"the image is here, and puts the signature beside it in the form that cosign uses.",
	.examples = "berth sign --key app.key example.org/app:1\tAfter berth push\n",
	.options = {OPTION_SET(sign_options), TRANSFER_OPTIONS},
	.run = run_sign,
};

/* --- verify -------------------------------------------------------------------------------------- */

static const struct option_spec verify_options[] = {
	{"key", 0, OPTION_STRING, 0, "FILE", "",
	 "The public key that must have signed it (default: what the policy requires)"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Print nothing if all is well"},
};

static void print_problem(const char *problem, bool repaired, void *data)
{
	(void)repaired;
	(void)data;
	printf("%s\n", problem);
}

static int print_verified(const struct image_verified *verified, const char *key, struct error *err)
{
	own_buf struct buf text = {0};

	if (verified->is_here)
		buf_format(&text, "Files: %zu blobs and %zu layers have their digests\n",
			   verified->blobs, verified->layers);
	else
		buf_format(&text, "Files: the image is not here\n");
	if (!verified->is_signed)
		buf_format(&text, "Signatures: none are required\n");
	else if (key != NULL)
		buf_format(&text, "Signatures: %s is signed by %s\n", verified->signed_digest.text,
			   key);
	else
		buf_format(&text, "Signatures: as the policy requires\n");
	return print_text(text.data, err);
}

static int run_verify(const struct args *args, struct error *err)
{
	const struct image_remote remote = transfer_remote(args, NULL);
	const char *key = args_string(args, "key");
	own_engine struct engine *engine = NULL;
	struct image_verified verified;
	struct image_store *store;
	int rc = open_images(args, &engine, &store, err);

	if (rc >= 0)
		rc = image_verify(store, args_at(args, 0), key, &remote, print_problem, NULL,
				  &verified, err);
	if (fflush(stdout) != 0 && rc >= 0)
		return fail(err, -errno, "write the output");
	if (rc < 0)
		return refuse(err, rc, "cannot verify \"%s\"", args_at(args, 0));
	return args_flag(args, "quiet") ? 0 : print_verified(&verified, key, err);
}

const struct command verify_command = {
	.arguments = "IMAGE",
	.summary = "Check an image's files and signatures",
	.description =
		"Reads every file of an image that is here and compares its digest; then compares "
		"the signatures in the image's registry with the key, or with what the policy "
		"requires. For an image that is not here only the signatures of what the registry "
		"has now are checked.",
	.examples = "berth verify --key app.pub example.org/app:1\tWith a key\n"
		    "berth verify example.org/app:1\tAs the policy says\n",
	.options = {OPTION_SET(verify_options), TRANSFER_OPTIONS},
	.run = run_verify,
};

/* --- sbom ---------------------------------------------------------------------------------------- */

static const struct option_spec sbom_options[] = {
	{"attach", 0, OPTION_FLAG, 0, "", "",
	 "Put it beside the image in its registry, instead of writing it out"},
	{"format", 0, OPTION_ENUM, 0, "spdx-json|cyclonedx-json", "spdx-json",
	 "SPDX 2.3 or CycloneDX 1.5, both as JSON"},
	{"output", 'o', OPTION_STRING, 0, "FILE", "", "Write to this file instead of stdout"},
};

/* Prints the artifact's digest. */
static int attach(struct image_store *store, const struct args *args, const char *type,
		  const char *text, struct error *err)
{
	const struct image_remote remote = transfer_remote(args, NULL);
	const struct image_attachment attachment = {
		.type = type, .text = text, .len = strlen(text)};
	own_mem char *line = NULL;
	struct digest digest;
	int rc = image_attach(store, args_at(args, 0), &attachment, &remote, &digest, err);

	if (rc < 0)
		return refuse(err, rc, "cannot attach the list to \"%s\"", args_at(args, 0));
	line = str_format("%s\n", digest.text);
	return print_text(line, err);
}

static int run_sbom(const struct args *args, struct error *err)
{
	const enum sbom_format format =
		strcmp(args_string(args, "format"), "spdx-json") == 0 ? SBOM_SPDX : SBOM_CYCLONEDX;
	const char *path = args_string(args, "output");
	own_packages struct packages list = {0};
	own_engine struct engine *engine = NULL;
	own_json json_t *document = NULL;
	own_mem char *text = NULL, *line = NULL;
	struct image_store *store;
	int rc;

	if (args_flag(args, "attach") && path != NULL)
		return args_refuse(args, err, "either --attach or --output");
	rc = open_images(args, &engine, &store, err);
	if (rc >= 0)
		rc = image_sbom(store, args_at(args, 0), format, engine_rootless(engine), &document,
				&list, err);
	if (rc < 0)
		return refuse(err, rc, "cannot list what is in \"%s\"", args_at(args, 0));
	for (char **note = list.notes; note != NULL && *note != NULL; note++)
		log_warn("%s", *note);
	text = json_text_pretty(document);
	line = str_format("%s\n", text);
	if (args_flag(args, "attach"))
		return attach(store, args, sbom_media_type(format), line, err);
	return path ? file_write(AT_FDCWD, path, line, strlen(line), 0666, FILE_WRITE_ATOMIC, err)
		    : print_text(line, err);
}

const struct command sbom_command = {
	.arguments = "IMAGE",
	.summary = "List the software in an image (SBOM)",
	.description =
		"Reads the databases of dpkg, apk and rpm and what the package managers of Python, "
		"Node, Rust, Ruby, PHP and Go leave. Nothing of the image is run.",
	.examples =
		"berth sbom debian:bookworm --output debian.spdx.json\tFor a scanner\n"
		"berth sbom --format cyclonedx-json app:1\tIn the other format\n"
		"berth sbom --attach example.org/app:1\tFor who finds it by `image referrers`\n",
	.options = {OPTION_SET(sbom_options), TRANSFER_OPTIONS},
	.run = run_sbom,
};
