/* tap: see tap.h. */
#include "vmm/machine/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/own.h"

#define HOW_TO_MAKE "make one with: ip tuntap add dev %s mode tap vnet_hdr%s"

static int refuse_kind(const char *name, bool several, struct error *err)
{
	return hint(err,
		    refuse(err, -EINVAL, "%s is no tap%s", name,
			   several ? " with several queues" : ", or one with several queues"),
		    HOW_TO_MAKE, name, several ? " multi_queue" : "");
}

static int open_queue(const char *name, bool several, struct error *err)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	own_fd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return fail(err, -errno, "open /dev/net/tun");
	if (several)
		request.ifr_flags |= IFF_MULTI_QUEUE;
	memcpy(request.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return errno == EINVAL ? refuse_kind(name, several, err)
				       : fail(err, -errno, "open the tap %s", name);
	return take(fd);
}

int tap_open(const char *name, unsigned int queues, int *ret_fds, struct error *err)
{
	int rc = 0;

	if (strlen(name) >= IFNAMSIZ)
		return refuse(err, -EINVAL, "the interface name \"%s\" is too long", name);
	if (if_nametoindex(name) == 0)
		return hint(err, refuse(err, -ENODEV, "there is no tap %s", name), HOW_TO_MAKE,
			    name, queues > 1 ? " multi_queue" : "");
	for (unsigned int i = 0; i < queues; i++) {
		rc = open_queue(name, queues > 1, err);
		if (rc < 0) {
			while (i > 0)
				fd_close(&ret_fds[--i]);
			return rc;
		}
		ret_fds[i] = rc;
	}
	return 0;
}
