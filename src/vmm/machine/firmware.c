/* firmware: where the distribution's packages have firmware; declared in machine.h. */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static const struct machine_uefi places[] = {
	{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
};

/* Code and variables belong together: where the code looks for them depends on their size. */
static bool fits(const struct machine_uefi *place, const struct stat *vars)
{
	struct stat own;

	if (access(place->code, R_OK) < 0 || stat(place->vars, &own) < 0)
		return false;
	return vars == NULL || own.st_size == vars->st_size;
}

int machine_find_uefi(const char *vars, struct machine_uefi *ret, struct error *err)
{
	struct stat st;

	if (vars != NULL && stat(vars, &st) < 0)
		return fail(err, -errno, "the firmware's variables, %s", vars);
	for (unsigned int i = 0; i < array_size(places); i++)
		if (fits(&places[i], vars ? &st : NULL)) {
			*ret = places[i];
			return 0;
		}
	for (unsigned int i = 0; vars != NULL && i < array_size(places); i++)
		if (fits(&places[i], NULL))
			return hint(
				err,
				refuse(err, -EINVAL,
				       "%s is not of the size of this host's firmware variables",
				       vars),
				"begin with a copy of %s", places[i].vars);
	return hint(err, refuse(err, -ENOENT, "there is no UEFI firmware on this host"),
		    "apt-get install ovmf");
}
