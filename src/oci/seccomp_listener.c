/* seccomp_listener: see seccomp_listener.h. */
#include "oci/seccomp_listener.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/sock.h"
#include "base/str.h"
#include "oci/container.h"

/* The version of the container process state that the specification's example has, and other runtimes. */
#define STATE_VERSION "0.2.0"

int seccomp_listener_send(int sock, int listener_fd, const struct config_seccomp *s, const char *id,
			  const char *bundle, pid_t pid, const json_t *annotations,
			  struct error *err)
{
	own_json json_t *state = json_pack("{s:s, s:[s], s:i}", "ociVersion", STATE_VERSION, "fds",
					   "seccompFd", "pid", (int)pid);
	json_t *container = json_pack("{s:s, s:s, s:s, s:i}", "ociVersion", OCI_VERSION, "id", id,
				      "status", "creating", "pid", (int)pid);
	own_mem char *text = NULL;
	int rc;

	json_object_set_new(container, "bundle", json_string(bundle));
	if (annotations != NULL)
		json_object_set_new(container, "annotations", json_deep_copy(annotations));
	json_object_set_new(state, "metadata",
			    json_string(s->listener_metadata ? s->listener_metadata : ""));
	json_object_set_new(state, "state", container);
	text = json_text(state);
	rc = sock_send_fds(sock, text, strlen(text), &listener_fd, 1);
	return rc < 0 ? fail(err, rc, "linux.seccomp.listenerPath: send the listener to %s",
			     s->listener_path)
		      : 0;
}
