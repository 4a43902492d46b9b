/* login: `login` and `logout`: credentials for registries. */
#include "image/login.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/listing.h"

enum { SECRET_MAX = 65536 };

#define AUTHFILE_OPTION                                                                            \
	{                                                                                          \
		"authfile", 0, OPTION_STRING, 0, "FILE", "",                                       \
			"Where credentials are kept (default ~/.docker/config.json)"               \
	}

static const struct option_spec login_options[] = {
	AUTHFILE_OPTION,
	{"cert-dir", 0, OPTION_STRING, 0, "DIR", "", "Certificates of registries"},
	{"password", 'p', OPTION_STRING, 0, "PASSWORD", "",
	 "The password; every process of this host can read it there"},
	{"password-stdin", 0, OPTION_FLAG, 0, "", "", "Read the password from stdin"},
	{"tls-verify", 0, OPTION_FLAG, 0, "", "true", "Check the registry's certificate"},
	{"username", 'u', OPTION_STRING, 0, "NAME", "", "The user's name"},
};

static const struct option_spec logout_options[] = {AUTHFILE_OPTION};

/* Cuts the text at the end of its first line. */
static void cut_line(char *text)
{
	text[strcspn(text, "\r\n")] = '\0';
}

/* Asks on the terminal, for a secret without showing what is typed. The caller frees *ret. */
static int ask(const char *question, bool secret, char **ret, struct error *err)
{
	struct termios before, hidden;
	char answer[1024];
	bool got, hide;

	if (!isatty(0))
		return hint(err, refuse(err, -ENOTTY, "stdin is no terminal to ask at"),
			    "give --username, and the password with --password-stdin");
	fprintf(stderr, "%s: ", question);
	hide = secret && tcgetattr(0, &before) == 0;
	if (hide) {
		hidden = before;
		hidden.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(0, TCSAFLUSH, &hidden);
	}
	got = fgets(answer, sizeof(answer), stdin) != NULL;
	if (hide) {
		tcsetattr(0, TCSAFLUSH, &before);
		fputc('\n', stderr);
	}
	if (!got)
		return refuse(err, -ECANCELED, "no %s was given", question);
	cut_line(answer);
	*ret = str_copy(answer);
	explicit_bzero(answer, sizeof(answer));
	return 0;
}

static int read_password(const struct args *args, char **ret, struct error *err)
{
	size_t len;
	int rc;

	if (args_flag(args, "password-stdin")) {
		if (args_given(args, "password") || !args_given(args, "username"))
			return args_refuse(args, err,
					   "--password-stdin needs --username, and goes "
					   "without --password");
		rc = fd_read_all(0, SECRET_MAX, ret, &len);
		if (rc < 0)
			return fail(err, rc, "read the password from stdin");
		cut_line(*ret);
		return 0;
	}
	if (!args_given(args, "password"))
		return ask("Password", true, ret, err);
	log_warn("a password on the command line can be read by every process; --password-stdin is "
		 "safer");
	*ret = str_copy(args_string(args, "password"));
	return 0;
}

static int run_login(const struct args *args, struct error *err)
{
	const char *registry = args_count(args) > 0 ? args_at(args, 0) : REFERENCE_DEFAULT_REGISTRY;
	struct image_remote remote = {
		.auth_file = args_string(args, "authfile"),
		.cert_dir = args_string(args, "cert-dir"),
	};
	own_mem char *user = str_copy(args_string(args, "username"));
	own_mem char *password = NULL;
	int rc = 0;

	if (args_given(args, "tls-verify"))
		remote.tls = args_flag(args, "tls-verify") ? IMAGE_TLS_VERIFY : IMAGE_TLS_INSECURE;
	if (user == NULL && !args_flag(args, "password-stdin"))
		rc = ask("Username", false, &user, err);
	if (rc >= 0)
		rc = read_password(args, &password, err);
	if (rc < 0)
		return rc;
	rc = image_login(registry, user, password, &remote, err);
	explicit_bzero(password, strlen(password));
	if (rc < 0)
		return refuse(err, rc, "cannot log in to \"%s\"", registry);
	return print_text("Login Succeeded\n", err);
}

const struct command login_command = {
	.arguments = "[REGISTRY]",
	.summary = "Keep credentials for a registry",
	.description =
		"Tries them at the registry (docker.io, if none is named) first. They are kept in "
		"the file that docker and podman use, or by the credential helper that it names.",
	.examples = "berth login -u me --password-stdin localhost:5000 < secret\tFrom a file\n",
	.options = {OPTION_SET(login_options)},
	.run = run_login,
};

static int run_logout(const struct args *args, struct error *err)
{
	const char *registry = args_count(args) > 0 ? args_at(args, 0) : REFERENCE_DEFAULT_REGISTRY;
	const struct image_remote remote = {.auth_file = args_string(args, "authfile")};
	own_mem char *line = str_format("Removed login credentials for %s\n", registry);
	int rc = image_logout(registry, &remote, err);

	if (rc == -ENOENT) {
		error_clear(err);
		return refuse(err, rc, "not logged in to \"%s\"", registry);
	}
	return rc < 0 ? rc : print_text(line, err);
}

const struct command logout_command = {
	.arguments = "[REGISTRY]",
	.summary = "Forget the credentials for a registry",
	.options = {OPTION_SET(logout_options)},
	.run = run_logout,
};
