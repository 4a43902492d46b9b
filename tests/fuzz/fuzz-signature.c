/* Fuzzes the parsers of what a registry holds beside an image: the manifest of its signatures, and the
 * payloads. What was read must survive being written; a payload that is accepted for a digest must
 * name that digest. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "image/signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The corpus' payload is for this one. */
static const char signed_digest[] =
	"sha256:0000000000000000000000000000000000000000000000000000000000000007";

static void again(const struct signatures *list)
{
	own_signatures struct signatures second = {0};
	own_json json_t *document = NULL;
	own_mem char *text = NULL;
	struct error err = {0};
	const char *config;

	document = signatures_manifest(list, &config);
	text = json_text(document);
	if (signatures_parse(text, strlen(text), &second, &err) < 0 || second.count != list->count)
		abort();
	for (size_t i = 0; i < second.count; i++)
		if (strcmp(second.items[i].base64, list->items[i].base64) != 0 ||
		    !digest_eq(&second.items[i].payload, &list->items[i].payload))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	own_signatures struct signatures list = {0};
	struct error err = {0};
	struct digest digest;
	const char *text = (const char *)data;

	if (signatures_parse(text, len, &list, &err) == 0)
		again(&list);
	else if (err.text[0] == '\0')
		abort();
	if (digest_parse(signed_digest, &digest, &err) < 0)
		abort();
	if (signature_check_payload(text, len, &digest, "example.org/app:1",
				    SIGNATURE_TAGS_AS_SIGNED, &err) == 0 &&
	    memmem(text, len, "sha256", 6) == NULL && memmem(text, len, "\\u", 2) == NULL)
		abort();
	return 0;
}
