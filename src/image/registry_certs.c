/*
 * registry_certs: the certificates that lie ready for one registry, in HOST[:PORT] below
 *
 *     ~/.config/containers/certs.d, /etc/containers/certs.d, /etc/docker/certs.d
 *
 * or in a directory that is named instead. *.crt are authorities; NAME.cert is ours, with NAME.key. Of several
 * of ours the first is shown, by directory and name: a server that asks for one does not say for which.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/registry_priv.h"

enum { CERT_MAX = 1 << 20 };

static int add_authority(int dir_fd, const char *dir, const char *name, struct http_tls *tls,
			 struct error *err)
{
	own_mem char *text = NULL, *joined = NULL;
	size_t len;
	int rc = file_read(dir_fd, name, CERT_MAX, &text, &len, err);

	if (rc < 0)
		return refuse(err, rc, "%s/%s", dir, name);
	joined = str_format("%s%s\n", tls->ca_pem ? tls->ca_pem : "", text);
	free(tls->ca_pem);
	tls->ca_pem = take(joined);
	return 0;
}

/* The file that belongs to `name`, with another ending; it must be there. */
static int find_partner(int dir_fd, const char *dir, const char *name, const char *ending,
			const char *other, char **ret, struct error *err)
{
	own_mem char *base = str_copy_n(name, strlen(name) - strlen(ending));
	own_mem char *partner = str_format("%s%s", base, other);

	if (faccessat(dir_fd, partner, F_OK, 0) < 0)
		return hint(
			err,
			refuse(err, -errno, "%s/%s is of no use without %s", dir, name, partner),
			"authorities' certificates have names that end in .crt");
	*ret = str_format("%s/%s", dir, partner);
	return 0;
}

static int read_one(int dir_fd, const char *dir, const char *name, struct http_tls *tls,
		    struct error *err)
{
	own_mem char *partner = NULL;
	int rc = 0;

	if (str_ends_with(name, ".crt"))
		return add_authority(dir_fd, dir, name, tls, err);
	if (str_ends_with(name, ".key"))
		return find_partner(dir_fd, dir, name, ".key", ".cert", &partner, err);
	if (!str_ends_with(name, ".cert"))
		return 0;
	rc = find_partner(dir_fd, dir, name, ".cert", ".key", &partner, err);
	if (rc < 0 || tls->client_cert != NULL)
		return rc;
	tls->client_cert = str_format("%s/%s", dir, name);
	tls->client_key = take(partner);
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_certs(const char *dir, bool required, struct http_tls *tls, struct error *err)
{
	own_dir DIR *d = opendir(dir);
	own_strv char **names = NULL;
	const struct dirent *entry;
	int rc = 0;

	if (d == NULL)
		return errno == ENOENT && !required
			       ? 0
			       : fail(err, -errno, "read the certificates in %s", dir);
	while ((entry = readdir(d)) != NULL)
		strv_push(&names, entry->d_name);
	if (names != NULL)
		qsort(names, strv_len(names), sizeof(*names), compare_names);
	for (size_t i = 0; rc == 0 && names != NULL && names[i] != NULL; i++)
		rc = read_one(dirfd(d), dir, names[i], tls, err);
	return rc;
}

int registry_find_certs(const char *cert_dir, const char *host, struct http_tls *tls,
			struct error *err)
{
	static const char *const dirs[] = {"/etc/containers/certs.d", "/etc/docker/certs.d"};
	const char *home = getenv("HOME");
	int rc = 0;

	if (cert_dir != NULL)
		return read_certs(cert_dir, true, tls, err);
	if (!str_empty(home)) {
		own_mem char *dir = str_format("%s/.config/containers/certs.d/%s", home, host);

		rc = read_certs(dir, false, tls, err);
	}
	for (size_t i = 0; rc == 0 && i < array_size(dirs); i++) {
		own_mem char *dir = str_format("%s/%s", dirs[i], host);

		rc = read_certs(dir, false, tls, err);
	}
	return rc;
}
