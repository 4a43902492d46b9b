/* registry_answer: what a registry says besides what it was asked for: refusals, warnings, addresses. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "image/registry_priv.h"

enum { SHOWN_BODY_MAX = 300, WARNINGS_MAX = 8 };

/* What others wrote, on one line. */
static void make_printable(char *text)
{
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
}

/* Hands a warning for the user on, each once: `299 - "TEXT"` (OCI distribution specification 1.1,
 * "Warnings"). */
void registry_pass_warning(struct registry *r, const char *header)
{
	const char *text = str_after(header, "299 - \"");
	const char *end = text ? strrchr(text, '"') : NULL;
	own_mem char *shown = NULL;

	if (end == NULL || end == text || strv_len(r->warned) >= WARNINGS_MAX)
		return;
	shown = str_copy_n(text,
			   end - text < SHOWN_BODY_MAX ? (size_t)(end - text) : SHOWN_BODY_MAX);
	make_printable(shown);
	if (strv_has(r->warned, shown))
		return;
	strv_push(&r->warned, shown);
	log_warn("%s says: %s", r->host, shown);
}

/* The message within a registry's error document, or the beginning of the body; on one line. */
static char *error_message(const char *body)
{
	own_json json_t *value = body ? json_loads(body, 0, NULL) : NULL;
	const json_t *first = json_array_get(json_object_get(value, "errors"), 0);
	const char *message = json_string_value(json_object_get(first, "message"));
	char *text = str_copy_n(message ? message : body ? body : "", SHOWN_BODY_MAX);

	make_printable(text);
	return text;
}

/* Whether a 401 means the name and password that were sent. With a token they have been accepted: then it
 * is the repository that is not for everybody, or not there. */
static bool login_refused(const struct registry *r)
{
	return (r->credentials.secret != NULL || r->credentials.identity_token != NULL) &&
	       (r->authorization == NULL || str_after(r->authorization, "Basic ") != NULL);
}

int registry_status(struct registry *r, const struct http_response *response, const char *what,
		    struct error *err)
{
	own_mem char *message = error_message(response->error_body);
	const char *separator = message[0] ? ": " : "";

	if (response->status == 401 && login_refused(r))
		return hint(err,
			    refuse(err, -EACCES, "%s does not accept the name and the password%s%s",
				   r->host, separator, message),
			    "check them (berth login %s), and that the account may use %s", r->host,
			    what);
	switch (response->status) {
	case 401:
	case 403:
		return hint(err,
			    refuse(err, -EACCES, "%s does not allow access to %s%s%s", r->host,
				   what, separator, message),
			    "log in, or check the name: berth login %s", r->host);
	case 404:
		return refuse(err, -ENOENT, "%s has no %s%s%s", r->host, what, separator, message);
	case 429:
		return hint(err,
			    refuse(err, -EAGAIN, "%s has had too many requests%s%s", r->host,
				   separator, message),
			    "wait, or log in for a higher limit: berth login %s", r->host);
	default:
		return refuse(err, response->status >= 500 ? -EREMOTEIO : -EPROTO,
			      "%s answered %ld to the request for %s%s%s", r->host,
			      response->status, what, separator, message);
	}
}

int registry_absolute(struct registry *r, const char *location, char **ret, struct error *err)
{
	if (location[0] != '/' && str_eq(r->scheme, "https") && !str_after(location, "https://"))
		return refuse(err, -EPROTO, "%s wants the upload without encryption", r->host);
	*ret = location[0] == '/' ? str_format("%s://%s%s", r->scheme, r->api_host, location)
				  : str_copy(location);
	return 0;
}
