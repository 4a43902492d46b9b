/*
 * network: the machine's addresses. Only what the engine says is configured; nothing is asked of the
 * network.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/own.h"
#include "base/str.h"
#include "guest/agent.h"

static int bring_up(int sock, struct ifreq *request)
{
	if (ioctl(sock, SIOCGIFFLAGS, request) < 0)
		return -errno;
	request->ifr_flags |= IFF_UP | IFF_RUNNING;
	return ioctl(sock, SIOCSIFFLAGS, request) < 0 ? -errno : 0;
}

static void set_name(struct ifreq *request, const char *name)
{
	*request = (struct ifreq){0};
	snprintf(request->ifr_name, sizeof(request->ifr_name), "%s", name);
}

static struct sockaddr *put_address(struct sockaddr *place, uint32_t address)
{
	const struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = address};

	memcpy(place, &in, sizeof(in));
	return place;
}

/* "a.b.c.d/n" */
static int parse_address(const char *text, uint32_t *address, uint32_t *mask)
{
	const char *slash = strchr(text, '/');
	own_mem char *number = slash ? str_copy_n(text, (size_t)(slash - text)) : NULL;
	struct in_addr in;
	uint64_t bits;

	if (slash == NULL || str_to_uint(slash + 1, 32, &bits) < 0 ||
	    inet_pton(AF_INET, number, &in) != 1)
		return -EINVAL;
	*address = in.s_addr;
	*mask = htonl(bits ? UINT32_MAX << (32 - bits) : 0);
	return 0;
}

static int add_address(int sock, const char *name, const char *text, struct error *err)
{
	struct ifreq request;
	uint32_t address = 0, mask = 0;
	int rc = parse_address(text, &address, &mask);

	if (rc < 0)
		return refuse(err, rc, "\"%s\" is no address of the form a.b.c.d/n", text);
	set_name(&request, name);
	put_address(&request.ifr_addr, address);
	if (ioctl(sock, SIOCSIFADDR, &request) < 0)
		return fail(err, -errno, "give %s the address %s", name, text);
	put_address(&request.ifr_netmask, mask);
	if (ioctl(sock, SIOCSIFNETMASK, &request) < 0)
		return fail(err, -errno, "give %s the address %s", name, text);
	return 0;
}

static int add_gateway(int sock, const char *text, struct error *err)
{
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
	struct in_addr gateway;

	if (inet_pton(AF_INET, text, &gateway) != 1)
		return refuse(err, -EINVAL, "\"%s\" is no gateway's address", text);
	put_address(&route.rt_dst, 0);
	put_address(&route.rt_genmask, 0);
	put_address(&route.rt_gateway, gateway.s_addr);
	return ioctl(sock, SIOCADDRT, &route) < 0 ? fail(err, -errno, "add the route by %s", text)
						  : 0;
}

/* A snapshot's cards have its address still: each workload gets one of its own. */
static int set_mac(int sock, const char *name, const char *mac, struct error *err)
{
	struct ifreq request;
	unsigned char b[6];

	if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &b[0], &b[1], &b[2], &b[3], &b[4],
		   &b[5]) != 6)
		return refuse(err, -EINVAL, "\"%s\" is no card's address", mac);
	set_name(&request, name);
	request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(request.ifr_hwaddr.sa_data, b, sizeof(b));
	return ioctl(sock, SIOCSIFHWADDR, &request) < 0
		       ? fail(err, -errno, "give %s the card address %s", name, mac)
		       : 0;
}

static int set_up_card(int sock, size_t i, const struct json_at *card, struct error *err)
{
	const char *mac = NULL, *address = NULL, *gateway = NULL;
	struct ifreq request;
	int64_t mtu = 0;
	char name[IFNAMSIZ];
	int rc = json_get_string(card, "mac", JSON_OPTIONAL, &mac, err);

	snprintf(name, sizeof(name), "eth%zu", i);
	set_name(&request, name);
	if (rc >= 0)
		rc = json_get_string(card, "address", JSON_OPTIONAL, &address, err);
	if (rc >= 0)
		rc = json_get_string(card, "gateway", JSON_OPTIONAL, &gateway, err);
	if (rc >= 0)
		rc = json_get_int(card, "mtu", JSON_OPTIONAL, 68, 65535, &mtu, err);
	if (rc > 0) {
		request.ifr_mtu = (int)mtu;
		if (ioctl(sock, SIOCSIFMTU, &request) < 0)
			return fail(err, -errno, "set the MTU of %s", name);
	}
	if (rc >= 0 && mac)
		rc = set_mac(sock, name, mac, err);
	if (rc >= 0 && address)
		rc = add_address(sock, name, address, err);
	set_name(&request, name);
	if (rc >= 0 && (rc = bring_up(sock, &request)) < 0)
		rc = fail(err, rc, "bring %s up", name);
	if (rc >= 0 && gateway)
		rc = add_gateway(sock, gateway, err);
	return rc;
}

int network_set_up(const struct json_at *request, struct error *err)
{
	struct json_at cards, card;
	own_fd int sock = -1;
	struct ifreq loopback;
	int rc = json_array_at(request, "network", JSON_OPTIONAL, &cards, err);

	if (rc <= 0)
		return rc;
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return fail(err, -errno, "configure the network");
	set_name(&loopback, "lo");
	rc = bring_up(sock, &loopback);
	if (rc < 0)
		return fail(err, rc, "bring the loopback interface up");
	for (size_t i = 0; rc >= 0 && json_element(&cards, i, &card); i++)
		rc = set_up_card(sock, i, &card, err);
	return rc < 0 ? rc : 0;
}
