/* Tests of image/http_proxy.h: which requests go through which proxy. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/http_proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static const char *const names[] = {"http_proxy",  "HTTP_PROXY", "https_proxy",
				    "HTTPS_PROXY", "all_proxy",  "ALL_PROXY",
				    "no_proxy",    "NO_PROXY",   "REQUEST_METHOD"};

/* Settings as "NAME=value" joined by blanks. */
static void set_environment(const char *settings)
{
	own_strv char **list = strv_split(settings, ' ');

	for (size_t i = 0; i < array_size(names); i++)
		unsetenv(names[i]);
	for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
		char *equals = strchr(list[i], '=');

		assert_non_null(equals);
		*equals = '\0';
		setenv(list[i], equals + 1, 1);
	}
}

static void the_environment_says_which_proxy(void **state)
{
	static const struct {
		const char *settings, *url, *proxy;
	} cases[] = {
		{"HTTPS_PROXY=p:1", "https://r.example/v2/", "p:1"},
		{"HTTPS_PROXY=p:1", "http://r.example/v2/", NULL},
		{"https_proxy=l:1 HTTPS_PROXY=u:1", "https://r.example/", "l:1"},
		{"HTTP_PROXY=p:2", "http://r.example/", "p:2"},
		{"HTTP_PROXY=p:2 REQUEST_METHOD=GET", "http://r.example/", NULL},
		{"http_proxy=p:2 REQUEST_METHOD=GET", "http://r.example/", "p:2"},
		{"ALL_PROXY=a:1 HTTP_PROXY=p:2", "https://r.example/", "a:1"},
		{"ALL_PROXY=a:1 HTTP_PROXY=p:2", "http://r.example/", "p:2"},
		{"", "https://r.example/", NULL},
		/* Loopback. */
		{"ALL_PROXY=a:1", "https://localhost:5000/", NULL},
		{"ALL_PROXY=a:1", "https://reg.localhost/", NULL},
		{"ALL_PROXY=a:1", "http://127.1.2.3:5000/", NULL},
		{"ALL_PROXY=a:1", "http://[::1]:5000/", NULL},
		{"ALL_PROXY=a:1", "http://localhost.example/", "a:1"},
		/* NO_PROXY. */
		{"ALL_PROXY=a NO_PROXY=*", "https://r.example/", NULL},
		{"ALL_PROXY=a NO_PROXY=r.example", "https://r.example/", NULL},
		{"ALL_PROXY=a NO_PROXY=R.Example", "https://r.example/", NULL},
		{"ALL_PROXY=a NO_PROXY=r.example", "https://sub.r.example:444/", NULL},
		{"ALL_PROXY=a NO_PROXY=r.example", "https://other.example/", "a"},
		{"ALL_PROXY=a NO_PROXY=r.example", "https://bar.example/", "a"},
		{"ALL_PROXY=a NO_PROXY=.example", "https://r.example/", NULL},
		{"ALL_PROXY=a NO_PROXY=.r.example", "https://r.example/", "a"},
		{"ALL_PROXY=a NO_PROXY=*.r.example", "https://x.r.example/", NULL},
		{"ALL_PROXY=a NO_PROXY=*.r.example", "https://r.example/", "a"},
		{"ALL_PROXY=a NO_PROXY=r.example:444", "https://r.example:444/", NULL},
		{"ALL_PROXY=a NO_PROXY=r.example:444", "https://r.example/", "a"},
		{"ALL_PROXY=a NO_PROXY=r.example:443", "https://r.example/", NULL},
		{"ALL_PROXY=a NO_PROXY=x.example,r.example", "https://r.example/", NULL},
		{"ALL_PROXY=a no_proxy=x.example NO_PROXY=r.example", "https://r.example/", "a"},
		{"ALL_PROXY=a NO_PROXY=10.0.0.0/8", "https://10.200.3.4/", NULL},
		{"ALL_PROXY=a NO_PROXY=10.0.0.0/8", "https://11.200.3.4/", "a"},
		{"ALL_PROXY=a NO_PROXY=192.168.5.128/25", "https://192.168.5.200/", NULL},
		{"ALL_PROXY=a NO_PROXY=192.168.5.128/25", "https://192.168.5.100/", "a"},
		{"ALL_PROXY=a NO_PROXY=192.168.5.1", "https://192.168.5.1:5000/", NULL},
		{"ALL_PROXY=a NO_PROXY=192.168.5.1:5000", "https://192.168.5.1:5000/", NULL},
		{"ALL_PROXY=a NO_PROXY=192.168.5.1:5001", "https://192.168.5.1:5000/", "a"},
		{"ALL_PROXY=a NO_PROXY=10.0.0.0/33", "https://10.0.0.1/", "a"},
		{"ALL_PROXY=a NO_PROXY=fd00::/8", "https://[fd12::3]:5000/", NULL},
		{"ALL_PROXY=a NO_PROXY=[fd12::3]:5000", "https://[fd12::3]:5000/", NULL},
		{"ALL_PROXY=a NO_PROXY=fd00::/8", "https://[fe12::3]/", "a"},
		{"ALL_PROXY=a NO_PROXY=0.0.0.0/0", "https://[fe12::3]/", "a"},
		{"ALL_PROXY=a NO_PROXY=,", "https://r.example/", "a"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_mem char *proxy = NULL;

		set_environment(cases[i].settings);
		proxy = http_proxy_for(cases[i].url);
		if (!str_eq(proxy, cases[i].proxy))
			fail_msg("%s, %s: %s", cases[i].settings, cases[i].url,
				 proxy ? proxy : "none");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_environment_says_which_proxy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
