/* Any text as a --format template, executed over a small document. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/template.h"

static const char document[] =
	"{\"ID\":\"0123\",\"Size\":42,\"Up\":true,\"None\":null,\"Names\":[\"a\",\"b\"],"
	"\"Labels\":{\"x\":\"1\"},\"Mounts\":[{\"Source\":\"/a\"}]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	own_mem char *text = str_copy_n((const char *)data, size);
	own_template struct template *template = NULL;
	own_json json_t *value = NULL;
	own_buf struct buf out = {0};
	struct error err = {0};

	if (json_parse(document, strlen(document), "document", &value, &err) < 0)
		abort();
	if (template_parse(text, &template, &err) < 0 ||
	    template_execute(template, value, &out, &err) < 0)
		if (err.text[0] == '\0')
			abort();
	return 0;
}
