/* fuzz-config: the OCI runtime configuration, from text to structs, and to a compiled filter. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "oci/config.h"
#include "oci/config_file.h"
#include "oci/seccomp_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	own_mem char *text = str_copy_n((const char *)data, size);
	own_seccomp_program struct seccomp_program program = {0};
	own_config struct config *config = NULL;
	own_json json_t *json = NULL;
	struct error err = {0};
	int rc = config_read_text(text, strlen(text), "input", &json, &err);

	if (rc == 0)
		rc = config_parse(json, &config, &err);
	if (rc < 0 && err.text[0] == '\0')
		abort(); /* a failure without a reason */
	/* Compiling is slow: only small filters. */
	if (rc == 0 && config->linux_.seccomp.given && config->linux_.seccomp.rule_count < 4 &&
	    seccomp_compile(&config->linux_.seccomp, -1, &program, &err) < 0 && err.text[0] == '\0')
		abort();
	return 0;
}
