/* referrers: see referrers.h. */
#include "image/referrers.h"

#include <errno.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/manifest.h"

char *referrers_tag(const struct digest *subject, const char *suffix)
{
	return str_format("%s-%.64s%s%s", digest_algorithm_name(subject), digest_hex(subject),
			  suffix ? "." : "", suffix ? suffix : "");
}

int referrers_list(referrers_get_fn *get, void *from, const struct digest *subject, json_t **ret,
		   struct error *err)
{
	own_mem char *tag = referrers_tag(subject, NULL), *text = NULL;
	own_json json_t *index = NULL;
	struct error why = {0};
	json_t *list;
	size_t len;
	int rc = get(from, tag, &text, &len, &why);

	if (rc == -ENOENT) {
		*ret = json_array();
		return 0;
	}
	if (rc < 0) {
		if (err != NULL)
			*err = why;
		return rc;
	}
	rc = json_parse(text, len, tag, &index, err);
	list = json_object_get(index, "manifests");
	if (rc == 0)
		*ret = json_is_array(list) ? json_incref(list) : json_array();
	return rc;
}

size_t referrers_find(const json_t *list, const char *digest)
{
	size_t i = 0;

	while (i < json_array_size(list) &&
	       !str_eq(json_string_value(json_object_get(json_array_get(list, i), "digest")),
		       digest))
		i++;
	return i;
}

char *referrers_format(json_t *list)
{
	own_json json_t *index = json_object();

	json_object_set_new(index, "schemaVersion", json_integer(2));
	json_set_string(index, "mediaType", MEDIA_OCI_INDEX);
	json_object_set(index, "manifests", list);
	return json_text(index);
}
