/* http_proxy: see http_proxy.h. */
#include "image/http_proxy.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"

struct target {
	char *host; /* without brackets */
	char *port;
	bool tls;
};

static void target_release(struct target *t)
{
	free(t->host);
	free(t->port);
}
#define own_target __attribute__((cleanup(target_release)))

/* "host:port", "[v6]:port" or only a host. */
static void split_port(const char *text, size_t len, char **ret_host, char **ret_port)
{
	own_mem char *whole = str_copy_n(text, len);
	char *end = whole[0] == '[' ? strchr(whole, ']') : NULL;
	char *colon = end ? (end[1] == ':' ? end + 1 : NULL) : strchr(whole, ':');

	/* Several colons without brackets are an address of version 6. */
	if (end == NULL && colon != NULL && strchr(colon + 1, ':') != NULL)
		colon = NULL;
	*ret_port = colon ? str_copy(colon + 1) : NULL;
	if (end != NULL)
		*end = '\0';
	else if (colon != NULL)
		*colon = '\0';
	*ret_host = str_copy(end ? whole + 1 : whole);
}

static bool parse_url(const char *url, struct target *ret)
{
	const char *host = strstr(url, "://");

	if (host == NULL)
		return false;
	ret->tls = strncasecmp(url, "https://", 8) == 0;
	host += 3;
	split_port(host, strcspn(host, "/?#"), &ret->host, &ret->port);
	if (ret->port == NULL)
		ret->port = str_copy(ret->tls ? "443" : "80");
	return true;
}

/* An address as 16 bytes, those of version 4 mapped. */
static bool parse_address(const char *text, unsigned char ret[16], unsigned int *ret_bits)
{
	*ret_bits = 128;
	if (inet_pton(AF_INET6, text, ret) == 1)
		return true;
	*ret_bits = 32;
	memset(ret, 0, 10);
	memset(ret + 10, 0xff, 2);
	return inet_pton(AF_INET, text, ret + 12) == 1;
}

static bool in_network(const char *host, const char *network)
{
	own_mem char *base = str_copy_n(network, strcspn(network, "/"));
	const char *slash = strchr(network, '/');
	unsigned char a[16], b[16];
	unsigned int bits_a, bits_b;
	uint64_t prefix;

	if (!parse_address(host, a, &bits_a) || !parse_address(base, b, &bits_b) ||
	    bits_a != bits_b)
		return false;
	prefix = bits_b;
	if (slash != NULL && str_to_uint(slash + 1, bits_b, &prefix) < 0)
		return false;
	prefix += 128 - bits_b;
	for (unsigned int i = 0; i < prefix; i++)
		if ((a[i / 8] ^ b[i / 8]) & 0x80 >> i % 8)
			return false;
	return true;
}

/* True if the host is the domain (unless `below`) or ends with it, a whole part at a time. */
static bool in_domain(const char *host, const char *domain, bool below)
{
	size_t len = strlen(host), domain_len = strlen(domain);

	if (domain_len == 0 || len < domain_len || strcasecmp(host + len - domain_len, domain) != 0)
		return false;
	return len == domain_len ? !below : host[len - domain_len - 1] == '.';
}

static bool is_excepted(const struct target *t, const char *rule)
{
	own_mem char *host = NULL, *port = NULL;

	if (str_eq(rule, "*"))
		return true;
	split_port(rule, strlen(rule), &host, &port);
	if (port != NULL && !str_eq(port, t->port))
		return false;
	if (in_network(t->host, host))
		return true;
	if (str_after(host, "*.") != NULL)
		return in_domain(t->host, host + 2, true);
	return host[0] == '.' ? in_domain(t->host, host + 1, true)
			      : in_domain(t->host, host, false);
}

static const char *variable(const char *lower, const char *upper)
{
	const char *value = getenv(lower);

	return str_empty(value) ? getenv(upper) : value;
}

static bool no_proxy(const struct target *t)
{
	const char *list = variable("no_proxy", "NO_PROXY");
	own_strv char **rules = list ? strv_split(list, ',') : NULL;

	if (in_domain(t->host, "localhost", false) || in_network(t->host, "127.0.0.0/8") ||
	    in_network(t->host, "::1"))
		return true;
	for (size_t i = 0; rules != NULL && rules[i] != NULL; i++) {
		const char *start = rules[i] + strspn(rules[i], " \t");
		own_mem char *rule = str_copy_n(start, strcspn(start, " \t"));

		if (rule[0] != '\0' && is_excepted(t, rule))
			return true;
	}
	return false;
}

char *http_proxy_for(const char *url)
{
	own_target struct target t = {0};
	const char *proxy;

	if (!parse_url(url, &t) || no_proxy(&t))
		return NULL;
	if (t.tls) {
		proxy = variable("https_proxy", "HTTPS_PROXY");
	} else {
		proxy = getenv("http_proxy");
		/* In a CGI program HTTP_PROXY is what the client's header "Proxy" says. */
		if (str_empty(proxy) && getenv("REQUEST_METHOD") == NULL)
			proxy = getenv("HTTP_PROXY");
	}
	if (str_empty(proxy))
		proxy = variable("all_proxy", "ALL_PROXY");
	return str_empty(proxy) ? NULL : str_copy(proxy);
}
