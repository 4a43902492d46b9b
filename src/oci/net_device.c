/* net_device: see net_device.h. Rtnetlink: a request is a header and attributes, answered by messages. */
#include "oci/net_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"

enum { ANSWER_MAX = 65536, REQUEST_MAX = 1024 };

struct request {
	struct nlmsghdr header;
	char rest[REQUEST_MAX];
};

static void begin(struct request *r, int type, int flags, const void *data, size_t len)
{
	memset(r, 0, sizeof(*r));
	r->header.nlmsg_type = (uint16_t)type;
	r->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	r->header.nlmsg_len = NLMSG_LENGTH((uint32_t)len);
	memcpy(NLMSG_DATA(&r->header), data, len);
}

/* False if there is no room. */
static bool add_attribute(struct request *r, int type, const void *data, size_t len)
{
	const size_t at = NLMSG_ALIGN(r->header.nlmsg_len), total = at + RTA_SPACE(len);
	struct rtattr head = {.rta_type = (uint16_t)type, .rta_len = (uint16_t)RTA_LENGTH(len)};

	if (total > sizeof(*r))
		return false;
	memcpy((char *)r + at, &head, sizeof(head));
	memcpy((char *)r + at + RTA_LENGTH(0), data, len);
	r->header.nlmsg_len = (uint32_t)total;
	return true;
}

static int open_netlink(void)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return sock < 0 ? -errno : sock;
}

/* Reads one datagram of answers. The number of bytes or -errno. */
static ssize_t receive(int sock, char *data)
{
	ssize_t n;

	do
		n = recv(sock, data, ANSWER_MAX, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Sends a request that is acknowledged. 0 or -errno. */
static int perform(int sock, struct request *r)
{
	own_mem char *answer = mem_new(ANSWER_MAX);
	ssize_t n;

	r->header.nlmsg_flags |= NLM_F_ACK;
	if (send(sock, r, r->header.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		struct nlmsghdr *h = (struct nlmsghdr *)(void *)answer;

		n = receive(sock, answer);
		if (n < 0)
			return (int)n;
		for (int left = (int)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
	}
}

/* --- addresses ---------------------------------------------------------------------------------- */

/* The requests that add the interface's addresses again, one after the other in the buffer. */
static void keep_address(struct nlmsghdr *h, unsigned int index, struct buf *ret)
{
	struct ifaddrmsg *message = NLMSG_DATA(h);
	struct ifaddrmsg again = {.ifa_family = message->ifa_family,
				  .ifa_prefixlen = message->ifa_prefixlen};
	int left = (int)IFA_PAYLOAD(h);
	struct request r;

	if (message->ifa_index != index || message->ifa_scope != RT_SCOPE_UNIVERSE ||
	    !(message->ifa_flags & IFA_F_PERMANENT))
		return;
	begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &again, sizeof(again));
	for (struct rtattr *a = IFA_RTA(message); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		const bool wanted = a->rta_type == IFA_LOCAL || a->rta_type == IFA_ADDRESS ||
				    a->rta_type == IFA_BROADCAST;

		if (wanted && !add_attribute(&r, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a)))
			return;
	}
	buf_add(ret, &r, sizeof(r));
}

static int keep_addresses(int sock, unsigned int index, struct buf *ret)
{
	own_mem char *answer = mem_new(ANSWER_MAX);
	struct ifaddrmsg all = {.ifa_family = AF_UNSPEC};
	struct request r;

	begin(&r, RTM_GETADDR, NLM_F_DUMP, &all, sizeof(all));
	if (send(sock, &r, r.header.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		struct nlmsghdr *h = (struct nlmsghdr *)(void *)answer;
		ssize_t n = receive(sock, answer);

		if (n < 0)
			return (int)n;
		for (int left = (int)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
			if (h->nlmsg_type == RTM_NEWADDR)
				keep_address(h, index, ret);
		}
	}
}

static int add_addresses(int sock, unsigned int index, const struct buf *requests)
{
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < requests->len; at += sizeof(struct request)) {
		struct request r;

		memcpy(&r, requests->data + at, sizeof(r));
		((struct ifaddrmsg *)NLMSG_DATA(&r.header))->ifa_index = index;
		rc = perform(sock, &r);
		/* The kernel keeps some of them meanwhile. */
		if (rc == -EEXIST)
			rc = 0;
	}
	return rc;
}

/* --- interfaces --------------------------------------------------------------------------------- */

static int set_up(int sock, unsigned int index, bool up)
{
	struct ifinfomsg link = {
		.ifi_index = (int)index, .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP};
	struct request r;

	begin(&r, RTM_NEWLINK, 0, &link, sizeof(link));
	return perform(sock, &r);
}

static int move(int sock, unsigned int index, const char *name, int ns_fd)
{
	struct ifinfomsg link = {.ifi_index = (int)index};
	struct request r;

	begin(&r, RTM_NEWLINK, 0, &link, sizeof(link));
	if (!add_attribute(&r, IFLA_NET_NS_FD, &ns_fd, sizeof(ns_fd)) ||
	    !add_attribute(&r, IFLA_IFNAME, name, strlen(name) + 1))
		return -ENOBUFS;
	return perform(sock, &r);
}

/* The interface's number and flags in the namespace of the socket. */
static int find(int sock, const char *name, struct ifinfomsg *ret)
{
	own_mem char *answer = mem_new(ANSWER_MAX);
	struct ifinfomsg link = {0};
	struct request r;
	struct nlmsghdr *h = (struct nlmsghdr *)(void *)answer;
	ssize_t n;

	begin(&r, RTM_GETLINK, 0, &link, sizeof(link));
	if (!add_attribute(&r, IFLA_IFNAME, name, strlen(name) + 1))
		return -ENOBUFS;
	if (send(sock, &r, r.header.nlmsg_len, 0) < 0)
		return -errno;
	n = receive(sock, answer);
	if (n < 0)
		return (int)n;
	if (!NLMSG_OK(h, (int)n))
		return -EBADMSG;
	if (h->nlmsg_type == NLMSG_ERROR)
		return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
	*ret = *(struct ifinfomsg *)NLMSG_DATA(h);
	return 0;
}

/* One that stays is as it was: without being up it has lost its IPv6 addresses. */
static void put_back(int sock, const struct ifinfomsg *was, const struct buf *addresses)
{
	const unsigned int index = (unsigned int)was->ifi_index;
	int rc = was->ifi_flags & IFF_UP ? set_up(sock, index, true) : 0;

	if (rc == 0)
		rc = add_addresses(sock, index, addresses);
	if (rc < 0)
		log_warn("the interface %u stays without what it had: %s", index, strerror(-rc));
}

static int move_one(const struct config_net_device *d, int here, int there, int ns_fd,
		    struct error *err)
{
	own_buf struct buf addresses = {0};
	struct ifinfomsg link;
	unsigned int index;
	int rc;

	/* The kernel would notice only when it is there. */
	if (find(there, d->name, &link) == 0)
		return refuse(err, -EEXIST, "the container has an interface \"%s\" already",
			      d->name);
	rc = find(here, d->host_name, &link);
	if (rc == -ENODEV)
		return refuse(err, rc, "the host has no such interface");
	if (rc < 0)
		return fail(err, rc, "find the interface");
	index = (unsigned int)link.ifi_index;
	if ((rc = keep_addresses(here, index, &addresses)) < 0)
		return fail(err, rc, "list its addresses");
	if ((rc = set_up(here, index, false)) < 0 || (rc = move(here, index, d->name, ns_fd)) < 0) {
		put_back(here, &link, &addresses);
		return fail(err, rc, "move it as \"%s\"", d->name);
	}
	if ((rc = find(there, d->name, &link)) < 0)
		return fail(err, rc, "find it as \"%s\"", d->name);
	index = (unsigned int)link.ifi_index;
	if ((rc = add_addresses(there, index, &addresses)) < 0 ||
	    (rc = set_up(there, index, true)) < 0)
		return fail(err, rc, "set it up as \"%s\"", d->name);
	return 0;
}

/* A socket belongs to the namespace in which it was made; so does the descriptor of one. */
static int visit(int ns_fd, int *ret_sock, int *ret_ns, struct error *err)
{
	own_fd int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (home < 0 || setns(ns_fd, CLONE_NEWNET) < 0)
		return fail(err, -errno, "visit the network namespace");
	*ret_sock = open_netlink();
	*ret_ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (setns(home, CLONE_NEWNET) < 0)
		return fail(err, -errno, "return to our network namespace");
	return *ret_sock < 0 || *ret_ns < 0 ? fail(err, -EIO, "open a netlink socket") : 0;
}

int net_devices_move(const struct config_linux *l, int ns_fd, struct error *err)
{
	own_fd int here = -1, there = -1, ns = -1;
	int rc;

	if (l->net_device_count == 0)
		return 0;
	here = open_netlink();
	if (here < 0)
		return fail(err, here, "linux.netDevices: open a netlink socket");
	rc = visit(ns_fd, &there, &ns, err);
	if (rc < 0)
		return fail(err, rc, "linux.netDevices");
	for (size_t i = 0; i < l->net_device_count; i++) {
		rc = move_one(&l->net_devices[i], here, there, ns, err);
		if (rc < 0)
			return fail(err, rc, "linux.netDevices.%s", l->net_devices[i].host_name);
	}
	return 0;
}
