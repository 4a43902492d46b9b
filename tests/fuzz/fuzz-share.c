/*
 * fuzz-share: a hostile guest before the file server: the input is a list of requests, whose numbers of
 * files and handles are mostly ones that it has been given. The directory lies beside a canary that no
 * request may read, change or remove, and holds links that lead there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file.h"
#include "vmm/share/share.h"

enum {
	REQUESTS_MAX = 60,
	KNOWN_MAX = 8,
	ARGS = sizeof(struct fuse_setattr_in), /* the largest */
	NAMES = 3,
	ROOM = 8192,
	FILE_MAX = 1 << 20,
	CLEAN_EVERY = 50,
};

/* One request as the input has it. */
struct step {
	uint8_t opcode, node, handle, kind;
	uint8_t names[NAMES]; /* which name goes where */
	uint8_t size;         /* of the arguments before the names */
	uint8_t args[ARGS];
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char canary[] = "sings";
static char base[] = "/dev/shm/fuzz-share-XXXXXX";
static int base_fd = -1, shared_fd = -1;
static uint64_t nodes[KNOWN_MAX], handles[KNOWN_MAX];
static unsigned int next_node, next_handle;

static const char *const names[] = {
	"a",      "b",    "dir",  "link",      "up",  "..",  "a/b",  "",       ".",         "out",
	"user.x", "fifo", "zero", "dir/../..", "hop", "new", "/etc", "canary", "../canary", "file"};

static void put(int dir, const char *name, const char *text)
{
	if (file_write(dir, name, text, strlen(text), 0600, FILE_WRITE_PLAIN, NULL) < 0)
		abort();
}

static void make_tree(void)
{
	if (mkdirat(base_fd, "shared", 0755) < 0)
		abort();
	shared_fd = openat(base_fd, "shared", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (shared_fd < 0 || mkdirat(shared_fd, "dir", 0755) < 0 ||
	    symlinkat("../canary", shared_fd, "link") < 0 || symlinkat("..", shared_fd, "up") < 0 ||
	    symlinkat("/etc", shared_fd, "out") < 0 ||
	    symlinkat("../..", shared_fd, "dir/hop") < 0 || mkfifoat(shared_fd, "fifo", 0666) < 0)
		abort();
	(void)mknodat(shared_fd, "zero", S_IFCHR | 0666, makedev(1, 5));
	put(shared_fd, "a", "contents of a");
	put(shared_fd, "dir/b", "contents of b");
}

static void leave(void)
{
	(void)tree_remove(AT_FDCWD, base, NULL);
}

static void build(void)
{
	struct rlimit limit = {FILE_MAX, FILE_MAX};

	/* A request may ask for as much room as there are numbers. */
	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit) < 0 || !mkdtemp(base))
		abort();
	atexit(leave);
	base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put(base_fd, "canary", canary);
	make_tree();
}

/* Not by memmem: libFuzzer would see what is looked for, and the guest write it. */
__attribute__((no_sanitize("coverage"))) static bool is_canary_in(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i + sizeof(canary) - 1 <= size; i++) {
		size_t same = 0;

		while (same < sizeof(canary) - 1 && data[i + same] == (uint8_t)canary[same])
			same++;
		if (same == sizeof(canary) - 1)
			return true;
	}
	return false;
}

static void check_canary(void)
{
	static mode_t mode;
	struct stat st, parent;
	uint8_t text[16];
	int fd = openat(base_fd, "canary", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || read(fd, text, sizeof(text)) != 5 || !is_canary_in(text, 5) ||
	    fstat(fd, &st) < 0 || st.st_nlink != 1 || fstat(base_fd, &parent) < 0 ||
	    parent.st_nlink != 3 || (mode && mode != st.st_mode) || geteuid() != getuid())
		abort();
	mode = st.st_mode;
	close(fd);
}

static uint64_t known(const uint64_t *list, uint8_t which)
{
	if (which < 16)
		return which;
	return which & 0x80 ? list[which % KNOWN_MAX] : list[which % KNOWN_MAX] + (1ull << 32);
}

static void learn(uint32_t opcode, const uint8_t *answer)
{
	struct fuse_out_header header;
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	bool made = opcode == FUSE_CREATE || opcode == FUSE_TMPFILE;

	memcpy(&header, answer, sizeof(header));
	if (header.error)
		return;
	memcpy(&entry, answer + sizeof(header), sizeof(entry));
	memcpy(&open, answer + sizeof(header) + (made ? sizeof(entry) : 0), sizeof(open));
	switch (opcode) {
	case FUSE_CREATE:
	case FUSE_LOOKUP:
	case FUSE_MKDIR:
	case FUSE_MKNOD:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_TMPFILE:
		if (entry.nodeid) /* 0: there is no such file, says a lookup */
			nodes[next_node++ % KNOWN_MAX] = entry.nodeid;
		break;
	}
	if (made || opcode == FUSE_OPEN || opcode == FUSE_OPENDIR)
		handles[next_handle++ % KNOWN_MAX] = open.fh;
}

static void perform(struct share_thread *thread, const struct step *step)
{
	static uint8_t out[4096], in[ROOM];
	struct fuse_in_header header = {.opcode = step->opcode % 56,
					.nodeid = known(nodes, step->node),
					.uid = step->kind & 1 ? 1000 : 0,
					.gid = step->kind & 2 ? 1000 : 0};
	uint64_t handle = known(handles, step->handle), other = known(nodes, step->handle);
	size_t size = step->size % (ARGS + 1);
	struct iovec parts[3], answer = {in, sizeof(in)};
	struct share_request request = {.out = parts,
					.out_count = 3,
					.in = &answer,
					.in_count = 1,
					.in_bytes = step->kind & 4 ? 20 : sizeof(in)};

	memcpy(out, step->args, size);
	/* Most arguments begin with a handle, or with another file's number; or have it second. */
	if (!(step->kind & 32))
		memcpy(out + (step->kind & 64 ? 8 : 0), step->kind & 8 ? &other : &handle, 8);
	for (unsigned int i = 0; i < NAMES && step->names[i] != 255; i++) {
		const char *name = names[step->names[i] % (sizeof(names) / sizeof(names[0]))];

		memcpy(out + size, name, strlen(name) + 1);
		size += strlen(name) + 1;
	}
	header.len = (uint32_t)(sizeof(header) + size);
	if (step->kind & 16)
		header.len += step->names[0];
	parts[0] = (struct iovec){&header, sizeof(header)};
	parts[1] = (struct iovec){out, size / 2};
	parts[2] = (struct iovec){out + size / 2, size - size / 2};
	request.out_bytes = sizeof(header) + size;
	answer.iov_len = request.in_bytes;
	memset(in, 0, sizeof(in));
	if (share_serve(thread, &request) > 0) {
		learn(header.opcode, in);
		if (is_canary_in(in, sizeof(in)))
			abort();
	}
}

/* What an input has left behind, and links that it has made, must not be the next one's. */
static void clean(void)
{
	static unsigned int inputs;

	if (++inputs % CLEAN_EVERY)
		return;
	close(shared_fd);
	if (tree_remove(base_fd, "shared", NULL) < 0)
		abort();
	make_tree();
}

/* A snapshot: what the input says, or else what has been saved. */
static void reload(struct share *share, const uint8_t *data, size_t size)
{
	struct state_writer out = {0};
	struct state_reader in = {.next = data, .end = data + size};

	share_save(share, &out);
	if (size < 16)
		in = (struct state_reader){.next = (const uint8_t *)out.data.data,
					   .end = (const uint8_t *)out.data.data + out.data.len};
	share_load(share, &in);
	buf_release(&out.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct share_config config = {.cache = SHARE_CACHE_ALWAYS};
	struct share *share = NULL;
	struct share_thread *thread = NULL;
	struct step step;

	if (base_fd < 0)
		build();
	/* Now and then a single file, of which the guest sees nothing around it. */
	if (size % 8 == 3) {
		put(shared_fd, "lone", "only this");
		config.directory_fd = openat(shared_fd, "lone", O_PATH | O_CLOEXEC);
	} else {
		config.directory_fd = fcntl(shared_fd, F_DUPFD_CLOEXEC, 0);
	}
	config.read_only = size % 8 == 7;
	if (share_create(&config, &share, NULL) < 0 || share_thread_create(share, &thread) < 0)
		abort();
	memset(handles, 0, sizeof(handles));
	next_node = next_handle = 0;
	for (unsigned int i = 0; i < KNOWN_MAX; i++)
		nodes[i] = FUSE_ROOT_ID;
	for (unsigned int i = 0; i < REQUESTS_MAX && size >= sizeof(step); i++) {
		memcpy(&step, data, sizeof(step));
		data += sizeof(step);
		size -= sizeof(step);
		perform(thread, &step);
	}
	reload(share, data, size);
	share_thread_destroy(thread);
	share_destroy(share);
	check_canary();
	clean();
	return 0;
}
