/*
 * registry_auth: answering a registry's challenge (RFC 7235, and the token protocol of docker's
 * registries).
 *
 *     WWW-Authenticate: Bearer realm="https://auth.docker.io/token",service="registry.docker.io",
 *                              scope="repository:library/busybox:pull"
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "image/registry_priv.h"

char *registry_challenge_parameter(const char *challenge, const char *name)
{
	const char *p = challenge + strcspn(challenge, " ");
	size_t name_len = strlen(name);

	while (*p != '\0') {
		const char *key;
		size_t key_len;
		struct buf value = {0};

		p += strspn(p, " ,\t");
		key = p;
		key_len = strcspn(p, "=, \t");
		p += key_len;
		if (*p != '=')
			continue;
		if (*++p == '"') {
			for (p++; *p != '\0' && *p != '"'; p++) {
				if (*p == '\\' && p[1] != '\0')
					p++;
				buf_add_char(&value, *p);
			}
			p += *p == '"';
		} else {
			buf_add(&value, p, strcspn(p, ", \t"));
			p += strcspn(p, ", \t");
		}
		if (key_len == name_len && strncasecmp(key, name, name_len) == 0)
			return buf_take(&value);
		buf_release(&value);
	}
	return NULL;
}

static int find_credentials(struct registry *r, struct error *err)
{
	int rc;

	if (r->credentials_known)
		return 0;
	r->credentials_known = true;
	if (r->remote->user != NULL)
		return credentials_parse(r->remote->user, &r->credentials, err);
	rc = credentials_find(r->remote->auth_file, r->host, r->repository, &r->credentials, err);
	return rc < 0 ? refuse(err, rc, "find the credentials for %s", r->host) : 0;
}

static char *basic_value(const struct credentials *c)
{
	own_mem char *plain = str_format("%s:%s", c->user, c->secret);
	own_mem char *encoded = base64_encode(plain, strlen(plain));

	explicit_bzero(plain, strlen(plain));
	return str_format("Basic %s", encoded);
}

static int set_basic(struct registry *r, struct error *err)
{
	if (r->credentials.user == NULL || r->credentials.secret == NULL)
		return hint(err, refuse(err, -EACCES, "%s wants a name and a password", r->host),
			    "berth login %s", r->host);
	free(r->authorization);
	r->authorization = basic_value(&r->credentials);
	return 0;
}

static int keep_text(const void *data, size_t len, void *context, struct error *err)
{
	struct buf *text = context;

	if (len > REGISTRY_TOKEN_MAX - text->len)
		return refuse(err, -EFBIG, "the token is larger than %d bytes", REGISTRY_TOKEN_MAX);
	buf_add(text, data, len);
	return 0;
}

/* The query's part with the scopes to ask for: what we are going to do. Without a repository it is a
 * question of who we are, or of what the challenge says (the list of all repositories). */
static char *scope_query(const struct registry *r, const char *challenge)
{
	own_mem char *asked =
		r->repository[0] ? NULL : registry_challenge_parameter(challenge, "scope");
	own_strv char **scopes = NULL;
	struct buf query = {0};

	if (r->repository[0] != '\0')
		strv_push_format(&scopes, "repository:%s:%s", r->repository,
				 r->access == REGISTRY_DELETE ? "pull,push,delete"
				 : r->access == REGISTRY_PUSH ? "pull,push"
							      : "pull");
	else if (asked != NULL)
		strv_push(&scopes, asked);
	for (size_t i = 0; r->also != NULL && r->also[i] != NULL; i++)
		strv_push_format(&scopes, "repository:%s:pull", r->also[i]);
	for (size_t i = 0; scopes != NULL && scopes[i] != NULL; i++) {
		own_mem char *escaped = http_escape(scopes[i]);

		buf_format(&query, "&scope=%s", escaped);
	}
	return buf_take(&query);
}

/* Asks the token server: with GET and basic credentials, or, with an identity token, as OAuth 2. */
static int ask_token(struct registry *r, const char *challenge, const char *realm,
		     struct buf *answer, struct http_response *response, struct error *err)
{
	own_mem char *scopes = scope_query(r, challenge);
	own_mem char *service = registry_challenge_parameter(challenge, "service");
	own_mem char *escaped_service = http_escape(service ? service : "");
	own_mem char *url = NULL, *form = NULL, *authorization = NULL, *token = NULL;
	char content_type[] = "Content-Type: application/x-www-form-urlencoded";
	char *headers[] = {content_type, NULL};
	struct http_request q = {
		.method = "GET", .tls = &r->tls, .out = keep_text, .out_context = answer};

	if (r->credentials.identity_token != NULL) {
		token = http_escape(r->credentials.identity_token);
		form = str_format("grant_type=refresh_token&client_id=berth&service=%s%s&"
				  "refresh_token=%s",
				  escaped_service, scopes, token);
		q.method = "POST";
		q.headers = headers;
		q.url = realm;
		q.body = form;
		q.body_size = strlen(form);
		/* The token is in the body, which would go wherever the answer says. */
		q.no_redirects = true;
		return http_perform(r->http, &q, response, err);
	}
	url = str_format("%s%sservice=%s%s", realm, strchr(realm, '?') ? "&" : "?", escaped_service,
			 scopes);
	if (r->credentials.user != NULL)
		authorization = basic_value(&r->credentials);
	q.url = url;
	q.authorization = authorization;
	return http_perform(r->http, &q, response, err);
}

static int read_token(struct registry *r, const struct buf *answer, struct error *err)
{
	own_json json_t *value = NULL;
	const char *token;
	int rc =
		json_parse(answer->data ? answer->data : "", answer->len, "the token", &value, err);

	if (rc < 0)
		return rc;
	token = json_string_value(json_object_get(value, "token"));
	if (str_empty(token))
		token = json_string_value(json_object_get(value, "access_token"));
	if (str_empty(token) || strpbrk(token, "\r\n") != NULL)
		return refuse(err, -EPROTO, "the token server's answer has no token");
	free(r->authorization);
	r->authorization = str_format("Bearer %s", token);
	return 0;
}

static int set_bearer(struct registry *r, const char *challenge, struct error *err)
{
	own_mem char *realm = registry_challenge_parameter(challenge, "realm");
	own_http_response struct http_response response = {0};
	own_buf struct buf answer = {0};
	int rc;

	if (realm == NULL || (!str_after(realm, "https://") && !str_after(realm, "http://")))
		return refuse(err, -EPROTO, "%s names no token server", r->host);
	if (!str_after(realm, "https://") && !r->insecure)
		return refuse(err, -EPROTO,
			      "%s wants credentials to be sent to %.100s without encryption",
			      r->host, realm);
	rc = ask_token(r, challenge, realm, &answer, &response, err);
	if (rc < 0)
		return refuse(err, rc, "get a token for %s", r->host);
	if (response.status != 200)
		return registry_status(r, &response, r->repository, err);
	return read_token(r, &answer, err);
}

int registry_authenticate(struct registry *r, const char *challenge, struct error *err)
{
	int rc = find_credentials(r, err);

	if (rc < 0)
		return rc;
	if (challenge == NULL)
		return refuse(err, -EACCES, "%s wants credentials but does not say which", r->host);
	if (strncasecmp(challenge, "bearer", 6) == 0)
		return set_bearer(r, challenge, err);
	if (strncasecmp(challenge, "basic", 5) == 0)
		return set_basic(r, err);
	return refuse(err, -ENOTSUP, "%s wants an unknown kind of authorization: %.60s", r->host,
		      challenge);
}
