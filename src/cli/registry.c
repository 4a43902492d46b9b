/* registry: what is at registries: `copy`, `search`, `image referrers`. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/transfer.h"
#include "image/copy.h"
#include "image/find.h"

/* --- copy ---------------------------------------------------------------------------------------- */

static const struct option_spec copy_options[] = {
	{"all", 'a', OPTION_FLAG, 0, "", "", "All platforms, if there are several"},
	{"dest-authfile", 0, OPTION_STRING, 0, "FILE", "", "Credentials for the destination"},
	{"dest-cert-dir", 0, OPTION_STRING, 0, "DIR", "", "Certificates for the destination"},
	{"dest-creds", 0, OPTION_STRING, 0, "USER:PASSWORD", "", "Credentials for the destination"},
	{"dest-tls-verify", 0, OPTION_FLAG, 0, "", "true", "Check the destination's certificate"},
	{"platform", 0, OPTION_STRING, 0, "OS/ARCH[/VARIANT]", "",
	 "Which of the image's platforms (default: the host's)"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Print only the digest"},
	{"referrers", 0, OPTION_FLAG, 0, "", "",
	 "Signatures and other artifacts that refer to it, too"},
};

static int run_copy(const struct args *args, struct error *err)
{
	own_progress struct progress *progress = progress_new(args_flag(args, "quiet"));
	const struct image_remote source = transfer_remote(args, progress);
	struct image_remote target = transfer_remote(args, NULL);
	const struct image_copy copy = {
		.from = args_at(args, 0),
		.to = args_at(args, 1),
		.flags = (args_flag(args, "all") ? IMAGE_COPY_ALL : 0U) |
			 (args_flag(args, "referrers") ? IMAGE_COPY_REFERRERS : 0U),
		.source = &source,
		.target = &target,
	};
	own_mem char *line = NULL;
	struct digest digest;
	int rc;

	if (args_flag(args, "all") && args_given(args, "platform"))
		return args_refuse(args, err, "--all and --platform exclude each other");
	if (args_given(args, "dest-authfile"))
		target.auth_file = args_string(args, "dest-authfile");
	if (args_given(args, "dest-cert-dir"))
		target.cert_dir = args_string(args, "dest-cert-dir");
	if (args_given(args, "dest-creds"))
		target.user = args_string(args, "dest-creds");
	if (args_given(args, "dest-tls-verify"))
		target.tls =
			args_flag(args, "dest-tls-verify") ? IMAGE_TLS_VERIFY : IMAGE_TLS_INSECURE;
	rc = image_copy(&copy, &digest, err);
	if (rc < 0)
		return refuse(err, rc, "cannot copy \"%s\" to \"%s\"", copy.from, copy.to);
	line = str_format("%s\n", digest.text);
	return print_text(line, err);
}

const struct command copy_command = {
	.arguments = "SOURCE DESTINATION",
	.summary = "Copy an image between registries or OCI layout directories",
	.description =
		"SOURCE and DESTINATION are names of images at registries, or oci:DIR[:TAG] for an "
		"OCI layout. Nothing is unpacked or kept here; digests stay as they are. Artifacts "
		"can be copied as well. Prints the digest.",
	.examples =
		"berth copy docker.io/library/debian:12 localhost:5000/debian:12\tTo a registry\n"
		"berth copy --all --referrers a.example/app:1 b.example/app:1\tEverything of it\n"
		"berth copy localhost:5000/app:1 oci:layout:1\tTo a directory\n",
	.options = {OPTION_SET(copy_options), TRANSFER_OPTIONS},
	.run = run_copy,
};

/* --- search -------------------------------------------------------------------------------------- */

enum { SEARCH_LIMIT = 25, DESCRIPTION_COLUMNS = 45 };

static const struct option_spec search_options[] = {
	{"filter", 'f', OPTION_LIST, 0, "KEY=VALUE", "", "Only some: is-official=BOOL, stars=N"},
	LISTING_OPTION_FORMAT,
	{"limit", 0, OPTION_INT, 0, "N", "25", "The most lines for each registry"},
	{"list-tags", 0, OPTION_FLAG, 0, "", "", "List the tags of the repository TERM"},
	LISTING_OPTION_NO_TRUNC,
};

static const struct listing_heading search_headings[] = {
	{"Name", "NAME"},       {"Description", "DESCRIPTION"},
	{"StarCount", "STARS"}, {"IsOfficial", "OFFICIAL"},
	{"Tag", "TAG"},
};

static const struct listing_spec search_listing = {
	.table = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
	.headings = search_headings,
	.headings_count = array_size(search_headings),
};

static const struct listing_spec tags_listing = {
	.table = "{{.Name}}\t{{.Tag}}",
	.headings = search_headings,
	.headings_count = array_size(search_headings),
};

struct search {
	struct listing listing;
	bool whole;
	int64_t stars;   /* at least */
	int is_official; /* -1: all the same */
};

static int read_filter(const char *text, struct search *search, struct error *err)
{
	const char *stars = str_after(text, "stars=");
	const char *official = str_after(text, "is-official=");

	if (stars != NULL && str_to_int(stars, 0, INT64_MAX, &search->stars) == 0)
		return 0;
	if (official != NULL && (str_eq(official, "true") || str_eq(official, "false"))) {
		search->is_official = str_eq(official, "true");
		return 0;
	}
	return hint(err, refuse(err, -EINVAL, "invalid filter \"%s\"", text),
		    "there are: is-official=true|false, stars=N");
}

static int add_found(const struct image_found *found, void *data, struct error *err)
{
	struct search *s = data;
	own_mem char *description = s->whole
					    ? str_copy(found->description)
					    : text_shorten(found->description, DESCRIPTION_COLUMNS);
	json_t *row;

	if (found->stars < s->stars || (s->is_official >= 0 && found->official != s->is_official))
		return 0;
	row = json_object();
	json_object_set_new(row, "Description", json_string(description));
	json_object_set_new(row, "IsOfficial", json_string(found->official ? "[OK]" : ""));
	json_object_set_new(row, "Name", json_string(found->name));
	json_object_set_new(row, "StarCount", json_sprintf("%lld", (long long)found->stars));
	return listing_add(&s->listing, row, err);
}

static int add_tag(const char *name, const char *tag, void *data, struct error *err)
{
	struct search *s = data;
	json_t *row = json_object();

	json_object_set_new(row, "Name", json_string(name));
	json_object_set_new(row, "Tag", json_string(tag));
	return listing_add(&s->listing, row, err);
}

static int run_search(const struct args *args, struct error *err)
{
	const struct image_remote remote = transfer_remote(args, NULL);
	const bool tags = args_flag(args, "list-tags");
	struct search s = {.whole = args_flag(args, "no-trunc"), .is_official = -1};
	const int64_t limit = args_int(args, "limit");
	int rc;

	if (limit < 1 || limit > 100000)
		return args_refuse(args, err, "--limit must be between 1 and 100000");
	rc = listing_begin(&s.listing, tags ? &tags_listing : &search_listing, args, err);
	for (char *const *f = args_list(args, "filter"); rc >= 0 && *f != NULL; f++)
		rc = read_filter(*f, &s, err);
	if (rc >= 0)
		rc = tags ? image_list_tags(args_at(args, 0),
					    args_given(args, "limit") ? (size_t)limit : SIZE_MAX,
					    &remote, add_tag, &s, err)
			  : image_search(args_at(args, 0), (size_t)limit, &remote, add_found, &s,
					 err);
	if (rc >= 0)
		rc = listing_end(&s.listing, err);
	listing_release(&s.listing);
	return rc < 0 ? refuse(err, rc, "cannot search for \"%s\"", args_at(args, 0)) : 0;
}

const struct command search_command = {
	.arguments = "TERM",
	.summary = "Look for images at registries",
	.description =
		"With a registry in front of it (localhost:5000/app) TERM is looked for there, else at "
		"the registries that registries.conf names for short names, or at docker.io. "
		"Registries without a search are asked for the list of what they have.",
	.examples = "berth search debian\tAt docker.io\n"
		    "berth search localhost:5000/\tAll that a registry has\n"
		    "berth search --list-tags localhost:5000/app\tThe tags of a repository\n",
	.options = {OPTION_SET(search_options), TRANSFER_OPTIONS},
	.run = run_search,
};

/* --- referrers ----------------------------------------------------------------------------------- */

static const struct option_spec referrers_options[] = {
	LISTING_OPTION_FORMAT,
	{"type", 0, OPTION_STRING, 0, "TYPE", "", "Only artifacts of this type"},
};

static const struct listing_heading referrers_headings[] = {
	{"Digest", "DIGEST"},
	{"ArtifactType", "ARTIFACT TYPE"},
	{"Size", "SIZE"},
};

static const struct listing_spec referrers_listing = {
	.table = "{{.Digest}}\t{{.ArtifactType}}\t{{.Size}}",
	.headings = referrers_headings,
	.headings_count = array_size(referrers_headings),
};

static int run_referrers(const struct args *args, struct error *err)
{
	const struct image_remote remote = transfer_remote(args, NULL);
	own_json json_t *list = NULL;
	own_listing struct listing listing;
	int rc = listing_begin(&listing, &referrers_listing, args, err);

	if (rc >= 0)
		rc = image_referrers(args_at(args, 0), args_string(args, "type"), &remote, &list,
				     err);
	for (size_t i = 0; rc >= 0 && i < json_array_size(list); i++) {
		const json_t *d = json_array_get(list, i);
		const char *digest = json_string_value(json_object_get(d, "digest"));
		const char *type = json_string_value(json_object_get(d, "artifactType"));
		json_t *row = json_object(), *annotations = json_object_get(d, "annotations");

		json_object_set(row, "Annotations", annotations ? annotations : json_null());
		json_object_set_new(row, "ArtifactType", json_string(type ? type : "<none>"));
		json_object_set_new(row, "Digest", json_string(digest ? digest : "<none>"));
		json_object_set_new(row, "Size",
				    json_sprintf("%lld", (long long)json_integer_value(
								 json_object_get(d, "size"))));
		rc = listing_add(&listing, row, err);
	}
	return rc < 0 ? refuse(err, rc, "cannot list what refers to \"%s\"", args_at(args, 0))
		      : listing_end(&listing, err);
}

const struct command referrers_command = {
	.arguments = "IMAGE",
	.summary = "List what refers to an image in its registry",
	.description = "Signatures, bills of material and other artifacts whose subject it is.",
	.options = {OPTION_SET(referrers_options), TRANSFER_OPTIONS},
	.run = run_referrers,
};

/* --- delete -------------------------------------------------------------------------------------- */

static const struct option_spec delete_options[] = {
	{"blob", 0, OPTION_FLAG, 0, "", "", "The digest is a layer's or a configuration's"},
};

static int run_delete(const struct args *args, struct error *err)
{
	const struct image_remote remote = transfer_remote(args, NULL);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < args_count(args); i++) {
		rc = image_delete_remote(args_at(args, i), args_flag(args, "blob"), &remote, err);
		if (rc < 0)
			return refuse(err, rc, "cannot delete \"%s\"", args_at(args, i));
		printf("%s\n", args_at(args, i));
	}
	return rc;
}

const struct command image_delete_command = {
	.arguments = "IMAGE...",
	.summary = "Delete images from their registry",
	.description =
		"With a tag only the tag goes; with a digest (NAME@sha256:...) the image itself with all "
		"of its tags, and with --blob one of the parts of images that are gone. What is here "
		"stays. Registries can forbid either.",
	.options = {OPTION_SET(delete_options), TRANSFER_OPTIONS},
	.run = run_delete,
};
