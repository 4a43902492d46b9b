/* client: see client.h. */
#include "vmm/machine/client.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sock.h"
#include "vmm/machine/snapshot.h"

enum { REPLY_MAX = 1 << 20 };

int control_connect(const char *path, int64_t timeout_ms, struct error *err)
{
	return control_connect_at(AT_FDCWD, path, timeout_ms, err);
}

int control_connect_at(int dirfd, const char *path, int64_t timeout_ms, struct error *err)
{
	own_fd int fd = sock_connect(dirfd, path, SOCK_STREAM);
	struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};

	if (fd < 0)
		return fail(err, fd, "connect to the machine at %s", path);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
		return fail(err, -errno, "set a time limit for the machine's replies");
	return take(fd);
}

static int send_request(int fd, json_t *request, const int *fds, unsigned int count)
{
	own_mem char *text = json_text(request);
	own_mem char *line = str_format("%s\n", text);

	return count ? sock_send_fds(fd, line, strlen(line), fds, count)
		     : fd_write_full(fd, line, strlen(line));
}

static int receive_line(int fd, struct buf *line)
{
	char part[4096];

	while (!line->len || line->data[line->len - 1] != '\n') {
		ssize_t n = recv(fd, part, sizeof(part), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (n == 0)
			return -ECONNRESET;
		if (line->len + (size_t)n > REPLY_MAX)
			return -EPROTO;
		buf_add(line, part, (size_t)n);
	}
	return 0;
}

static int take_reply(const struct buf *line, json_t **ret_result, struct error *err)
{
	own_json json_t *reply = NULL;
	struct json_at root, error;
	const char *text = NULL, *advice = NULL;
	int64_t code = -EPROTO;
	json_t *result;
	int rc = json_parse(line->data, line->len, "the machine's reply", &reply, err);

	if (rc < 0)
		return rc;
	root = json_root(reply);
	result = json_object_get(reply, "result");
	if (result) {
		if (ret_result)
			*ret_result = json_incref(result);
		return 0;
	}
	rc = json_object_at(&root, "error", JSON_REQUIRED, &error, err);
	if (rc >= 0)
		rc = json_get_string(&error, "text", JSON_REQUIRED, &text, err);
	if (rc >= 0)
		rc = json_get_string(&error, "hint", JSON_OPTIONAL, &advice, err);
	if (rc >= 0)
		rc = json_get_int(&error, "code", JSON_REQUIRED, -4095, -1, &code, err);
	if (rc < 0)
		return rc;
	refuse(err, (int)code, "%s", text);
	return advice ? hint(err, (int)code, "%s", advice) : (int)code;
}

int control_call(int fd, json_t *request, const int *fds, unsigned int count, json_t **ret_result,
		 struct error *err)
{
	struct buf line __attribute__((cleanup(buf_release))) = {0};
	int rc = send_request(fd, request, fds, count);

	if (rc == 0)
		rc = receive_line(fd, &line);
	if (rc == -ETIMEDOUT)
		return refuse(err, rc, "the machine does not answer");
	if (rc < 0)
		return fail(err, rc, "talk to the machine");
	return take_reply(&line, ret_result, err);
}

int control_do(int fd, const char *what, json_t **ret_result, struct error *err)
{
	own_json json_t *request = json_object();

	json_set_string(request, "do", what);
	return control_call(fd, request, NULL, 0, ret_result, err);
}

static int write_snapshot(int fd, int dir, const char *then, bool durable, struct error *err)
{
	own_json json_t *request = json_object();
	int fds[SNAPSHOT_FILES], rc = 0;

	for (unsigned int i = 0; i < SNAPSHOT_FILES; i++) {
		fds[i] =
			openat(dir, snapshot_names[i], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fds[i] < 0 && rc == 0)
			rc = fail(err, -errno, "create %s", snapshot_names[i]);
	}
	json_set_string(request, "do", "snapshot");
	json_set_string(request, "then", then);
	if (rc == 0)
		rc = control_call(fd, request, fds, SNAPSHOT_FILES, NULL, err);
	for (unsigned int i = 0; i < SNAPSHOT_FILES; i++) {
		if (rc == 0 && durable && fsync(fds[i]) < 0)
			rc = fail(err, -errno, "write %s to disk", snapshot_names[i]);
		fd_close(&fds[i]);
	}
	if (rc == 0 && durable)
		rc = dir_sync(dir);
	return rc;
}

/* Who writes there holds a lock, which ends with its process: what nobody has locked was left behind by one that was
 * killed, and is taken over. Returns the directory. */
static int make_partial(const char *partial, struct error *err)
{
	const bool is_new = mkdir(partial, 0700) == 0;
	own_fd int dir = -1;
	struct stat st, named;

	if (!is_new && errno != EEXIST)
		return fail(err, -errno, "create %s", partial);
	dir = open(partial, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return fail(err, -errno, "open %s", partial);
	/* It may also have been completed, and have another name by now. */
	if (flock(dir, LOCK_EX | LOCK_NB) < 0 || fstat(dir, &st) < 0 ||
	    lstat(partial, &named) < 0 || st.st_ino != named.st_ino)
		return refuse(err, -EBUSY, "another snapshot is being written to %s", partial);
	for (unsigned int i = 0; !is_new && i < SNAPSHOT_FILES; i++)
		if (unlinkat(dir, snapshot_names[i], 0) < 0 && errno != ENOENT)
			return fail(err, -errno, "remove %s/%s", partial, snapshot_names[i]);
	return take(dir);
}

int control_snapshot(int fd, const char *path, const char *then, bool durable, struct error *err)
{
	own_mem char *partial = str_format("%s.partial", path);
	own_fd int dir = -1;
	struct stat st;
	int rc;

	if (lstat(path, &st) == 0)
		return refuse(err, -EEXIST, "%s exists already", path);
	dir = make_partial(partial, err);
	if (dir < 0)
		return dir;
	rc = write_snapshot(fd, dir, then, durable, err);
	if (rc == 0 && rename(partial, path) < 0)
		rc = fail(err, -errno, "create %s", path);
	if (rc < 0 && tree_remove(AT_FDCWD, partial, NULL) < 0)
		hint(err, rc, "%s is left over and can be removed", partial);
	return rc;
}
