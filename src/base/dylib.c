/* dylib: see dylib.h. */
#include "base/dylib.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int dylib_load(const char *soname, const char *package, const struct dylib_symbol *symbols,
	       size_t count, void *api, struct error *err)
{
	void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		return hint(err, refuse(err, -ENOENT, "the library %s is missing", soname),
			    "apt-get install %s", package);
	for (size_t i = 0; i < count; i++)
		if (dlsym(library, symbols[i].name) == NULL) {
			dlclose(library);
			return refuse(err, -ENOSYS, "the library %s lacks %s", soname,
				      symbols[i].name);
		}
	for (size_t i = 0; i < count; i++) {
		void *symbol = dlsym(library, symbols[i].name);

		/* Copied, since ISO C knows no cast from void * to a function pointer. */
		memcpy((char *)api + symbols[i].offset, &symbol, sizeof(symbol));
	}
	return 0;
}
