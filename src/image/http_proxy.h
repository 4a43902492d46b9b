/*
 * http_proxy: which proxy a request goes through, by the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and
 * NO_PROXY, each in capitals or not, as other container engines read them.
 *
 * NO_PROXY is a list with commas:
 *     *                     everything
 *     example.com           that host and all below it
 *     .example.com          all below it
 *     10.0.0.1, 10.0.0.0/8  addresses (fd00::/8, [::1])
 * each of them with :PORT for that port only.
 */
#pragma once

/* The proxy for `url`; NULL: none. Loopback never goes through one. The caller frees it. */
char *http_proxy_for(const char *url);
