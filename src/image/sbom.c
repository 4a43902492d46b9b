/*
 * sbom: see sbom.h.
 *
 * Identifiers are derived from the content (the subject's digest, the position in the sorted list), so
 * that two documents of one image differ in nothing but their time.
 */
#include "image/sbom.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/str.h"

/* Appends `s` percent-encoded as the purl specification wants it; `keep` are further characters that
 * stay. */
static void add_encoded(struct buf *b, const char *s, const char *keep)
{
	for (; *s != '\0'; s++) {
		if (isalnum((unsigned char)*s) || strchr("-._~", *s) || strchr(keep, *s))
			buf_add_char(b, *s);
		else
			buf_format(b, "%%%02X", (unsigned char)*s);
	}
}

/* Names of Python packages are compared in lower case with dashes; the purl has that form. */
static char *purl_name(const struct package *p)
{
	char *name = str_copy(p->name);

	if (!str_eq(p->type, "pypi"))
		return name;
	for (char *c = name; *c != '\0'; c++)
		*c = *c == '_' || *c == '.' ? '-' : (char)tolower((unsigned char)*c);
	return name;
}

static bool is_distribution_package(const struct package *p)
{
	return str_eq(p->type, "deb") || str_eq(p->type, "apk") || str_eq(p->type, "rpm");
}

/* The version in the form that scanners expect: rpm's epoch is a qualifier. */
static const char *purl_version(const struct package *p, char epoch[static 12])
{
	const char *colon = strchr(p->version, ':');

	epoch[0] = '\0';
	if (!str_eq(p->type, "rpm") || colon == NULL || colon - p->version > 10)
		return p->version;
	memcpy(epoch, p->version, (size_t)(colon - p->version));
	epoch[colon - p->version] = '\0';
	return colon + 1;
}

char *sbom_purl(const struct packages *list, const struct package *p)
{
	own_mem char *name = purl_name(p);
	struct buf b = {0};
	char epoch[12];
	char separator = '?';

	buf_format(&b, "pkg:%s/", p->type);
	if (is_distribution_package(p)) {
		add_encoded(&b, list->distribution ? list->distribution : "unknown", "");
		buf_add_char(&b, '/');
	}
	/* A scope or a vendor is the namespace: its slash separates. */
	add_encoded(&b, name, is_distribution_package(p) ? "" : "/");
	buf_add_char(&b, '@');
	add_encoded(&b, purl_version(p, epoch), is_distribution_package(p) ? ":" : "");
	if (!is_distribution_package(p))
		return buf_take(&b);
	if (p->architecture != NULL) {
		buf_format(&b, "%carch=", separator);
		add_encoded(&b, p->architecture, "");
		separator = '&';
	}
	if (list->distribution != NULL && list->release != NULL) {
		buf_format(&b, "%cdistro=", separator);
		add_encoded(&b, list->distribution, "");
		buf_add_char(&b, '-');
		add_encoded(&b, list->release, "");
		separator = '&';
	}
	if (epoch[0] != '\0') {
		buf_format(&b, "%cepoch=%s", separator, epoch);
		separator = '&';
	}
	if (p->source_name != NULL) {
		buf_format(&b, "%cupstream=", separator);
		add_encoded(&b, p->source_name, "");
		if (p->source_version != NULL) {
			buf_add_str(&b, "%40");
			add_encoded(&b, p->source_version, "");
		}
	}
	return buf_take(&b);
}

static void created_text(const struct sbom_subject *subject, char out[static CLOCK_TEXT_MAX])
{
	clock_format(subject->created_ns, out);
	/* Both formats want whole seconds. */
	strcpy(out + strlen("2000-01-01T00:00:00"), "Z");
}

/* "ecc9...": a name-based UUID (RFC 9562, version 8) from the subject's digest and `salt`. */
static void subject_uuid(const struct sbom_subject *subject, const char *salt, char out[static 37])
{
	own_mem char *text = str_format("%s %s", subject->digest, salt);
	struct digest d = digest_of(text, strlen(text));
	const char *hex = digest_hex(&d);

	snprintf(out, 37, "%.8s-%.4s-8%.3s-a%.3s-%.12s", hex, hex + 8, hex + 12, hex + 15,
		 hex + 18);
}

/* --- SPDX ----------------------------------------------------------------------------------------- */

static json_t *spdx_reference(const char *purl)
{
	return json_pack("[{s:s, s:s, s:s}]", "referenceCategory", "PACKAGE-MANAGER",
			 "referenceType", "purl", "referenceLocator", purl);
}

static json_t *spdx_package(const struct packages *list, const struct package *p, const char *id)
{
	own_mem char *purl = sbom_purl(list, p);
	own_mem char *source = str_format("from %s", p->path);
	json_t *item = json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:o}", "SPDXID", id,
				 "name", p->name, "versionInfo", p->version, "downloadLocation",
				 "NOASSERTION", "filesAnalyzed", 0, "licenseConcluded",
				 "NOASSERTION", "copyrightText", "NOASSERTION", "sourceInfo",
				 source, "externalRefs", spdx_reference(purl));

	/* What a package states is seldom an SPDX expression: it is kept as a comment. */
	json_object_set_new(item, "licenseDeclared", json_string("NOASSERTION"));
	if (p->license != NULL) {
		own_mem char *comment = str_format("stated by the package: %s", p->license);

		json_object_set_new(item, "licenseComments", json_string(comment));
	}
	return item;
}

json_t *sbom_spdx(const struct sbom_subject *subject, const struct packages *list)
{
	static const char root_id[] = "SPDXRef-Image";
	json_t *packages = json_array(), *relations = json_array();
	char uuid[37], time[CLOCK_TEXT_MAX];
	own_mem char *space = NULL, *notes = NULL;
	json_t *document;

	subject_uuid(subject, "spdx", uuid);
	created_text(subject, time);
	space = str_format("urn:uuid:%s", uuid);
	json_array_append_new(packages,
			      json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:s}", "SPDXID",
					root_id, "name", subject->name, "versionInfo",
					subject->digest, "downloadLocation", "NOASSERTION",
					"filesAnalyzed", 0, "primaryPackagePurpose", "CONTAINER",
					"licenseConcluded", "NOASSERTION", "licenseDeclared",
					"NOASSERTION", "copyrightText", "NOASSERTION"));
	json_array_append_new(relations, json_pack("{s:s, s:s, s:s}", "spdxElementId",
						   "SPDXRef-DOCUMENT", "relationshipType",
						   "DESCRIBES", "relatedSpdxElement", root_id));
	for (size_t i = 0; i < list->count; i++) {
		own_mem char *id = str_format("SPDXRef-Package-%zu", i + 1);

		json_array_append_new(packages, spdx_package(list, &list->items[i], id));
		json_array_append_new(relations, json_pack("{s:s, s:s, s:s}", "spdxElementId",
							   root_id, "relationshipType", "CONTAINS",
							   "relatedSpdxElement", id));
	}
	document = json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:s, s:[s]}, s:o, s:o}", "spdxVersion",
			     "SPDX-2.3", "dataLicense", "CC0-1.0", "SPDXID", "SPDXRef-DOCUMENT",
			     "name", subject->name, "documentNamespace", space, "creationInfo",
			     "created", time, "creators", "Tool: berth-" BERTH_VERSION, "packages",
			     packages, "relationships", relations);
	if (list->notes != NULL) {
		notes = strv_join(list->notes, "\n");
		json_object_set_new(document, "comment", json_string(notes));
	}
	return document;
}

/* --- CycloneDX ------------------------------------------------------------------------------------ */

static void add_property(json_t *properties, const char *name, const char *value)
{
	if (value != NULL)
		json_array_append_new(properties,
				      json_pack("{s:s, s:s}", "name", name, "value", value));
}

static json_t *cyclonedx_component(const struct packages *list, const struct package *p)
{
	own_mem char *purl = sbom_purl(list, p);
	own_mem char *reference = str_format("%s#%s", purl, p->path);
	json_t *properties = json_array();
	json_t *item = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "type", "library", "bom-ref",
				 reference, "name", p->name, "version", p->version, "purl", purl,
				 "properties", properties);

	add_property(properties, "berth:location", p->path);
	add_property(properties, "berth:source", p->source_name);
	if (p->license != NULL)
		json_object_set_new(item, "licenses",
				    json_pack("[{s:{s:s}}]", "license", "name", p->license));
	return item;
}

static json_t *cyclonedx_system(const struct packages *list)
{
	json_t *item = json_pack("{s:s, s:s, s:s}", "type", "operating-system", "bom-ref",
				 "operating-system", "name", list->distribution);

	if (list->release != NULL)
		json_object_set_new(item, "version", json_string(list->release));
	if (list->pretty_name != NULL)
		json_object_set_new(item, "description", json_string(list->pretty_name));
	return item;
}

json_t *sbom_cyclonedx(const struct sbom_subject *subject, const struct packages *list)
{
	json_t *components = json_array(), *metadata;
	char uuid[37], time[CLOCK_TEXT_MAX];
	own_mem char *serial = NULL;

	subject_uuid(subject, "cyclonedx", uuid);
	created_text(subject, time);
	serial = str_format("urn:uuid:%s", uuid);
	if (list->distribution != NULL)
		json_array_append_new(components, cyclonedx_system(list));
	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(components, cyclonedx_component(list, &list->items[i]));
	metadata = json_pack("{s:s, s:{s:[{s:s, s:s, s:s}]}, s:{s:s, s:s, s:s, s:s}}", "timestamp",
			     time, "tools", "components", "type", "application", "name", "berth",
			     "version", BERTH_VERSION, "component", "type", "container", "bom-ref",
			     "image", "name", subject->name, "version", subject->digest);
	if (list->notes != NULL) {
		json_t *properties = json_array();

		for (char **note = list->notes; *note != NULL; note++)
			add_property(properties, "berth:incomplete", *note);
		json_object_set_new(metadata, "properties", properties);
	}
	return json_pack("{s:s, s:s, s:s, s:i, s:o, s:o}", "bomFormat", "CycloneDX", "specVersion",
			 "1.5", "serialNumber", serial, "version", 1, "metadata", metadata,
			 "components", components);
}
