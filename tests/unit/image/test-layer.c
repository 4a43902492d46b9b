/* Layers in both formats: what a tar becomes, what is refused, what a crash leaves. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "image/layer.h"
#include "../tar/tarball.h"
#include "tar/pack.h"

/* cmocka has a macro of the name of our function. */
#include <cmocka.h>

static char directory[] = "/dev/shm/berth-test-XXXXXX";
static int layers_fd = -1, state_fd = -1;

static int set_up(void **state)
{
	int fd;

	(void)state;
	/* Whatever is mounted here is gone with this process. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		fprintf(stderr, "SKIPPED: layers cannot be mounted without root's rights\n");
		_exit(77);
	}
	if (mkdtemp(directory) == NULL)
		return -1;
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	layers_fd = dir_open(fd, "layers", 0700, NULL);
	state_fd = dir_open(fd, "state", 0700, NULL);
	close(fd);
	return layers_fd < 0 || state_fd < 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(layers_fd);
	close(state_fd);
	return tree_remove(AT_FDCWD, directory, NULL);
}

/* Writes the tar as a layer in pieces. The diffid is the tar's digest. */
static int write_layer(const struct buf *ball, const char *format, size_t piece,
		       struct digest *ret_diffid, struct layer_info *ret, struct error *err)
{
	own_layer_writer struct layer_writer *w = NULL;
	int rc = layer_writer_begin(layers_fd, layer_format_find(format), &w, err);

	*ret_diffid = digest_of(ball->data, ball->len);
	for (size_t at = 0; at < ball->len && rc == 0; at += piece)
		rc = layer_writer_add(w, ball->data + at,
				      ball->len - at < piece ? ball->len - at : piece, err);
	return rc < 0 ? rc : layer_writer_finish(w, ret_diffid, ret, err);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void list_xattrs(struct buf *out, const char *path)
{
	char list[1024], value[1024];
	ssize_t len = llistxattr(path, list, sizeof(list));

	for (char *x = list; len > 0 && x < list + len; x += strlen(x) + 1) {
		ssize_t n = lgetxattr(path, x, value, sizeof(value));

		buf_format(out, " %s=%.*s", x, (int)(n < 0 ? 0 : n), value);
	}
}

static void list_tree(struct buf *out, const char *path, const char *shown);

static void list_one(struct buf *out, const char *path, const char *shown)
{
	char text[8192];
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	if (S_ISCHR(st.st_mode) && st.st_rdev == 0) {
		buf_format(out, "%s whiteout\n", shown);
		return;
	}
	buf_format(out, "%s %o %u:%u %lld.%09ld", shown, st.st_mode, st.st_uid, st.st_gid,
		   (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	if (!S_ISDIR(st.st_mode))
		buf_format(out, " %u", (unsigned int)st.st_nlink);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		buf_format(out, " %u,%u", major(st.st_rdev), minor(st.st_rdev));
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(path, text, sizeof(text));

		buf_format(out, " >%.*s", (int)n, text);
	}
	if (S_ISREG(st.st_mode)) {
		own_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
		struct digest d;

		assert_int_equal(digest_of_fd(fd, NULL, &d), 0);
		buf_format(out, " %lld %.8s", (long long)st.st_size, digest_hex(&d));
	}
	list_xattrs(out, path);
	buf_add_char(out, '\n');
	if (S_ISDIR(st.st_mode))
		list_tree(out, path, shown);
}

static void list_tree(struct buf *out, const char *path, const char *shown)
{
	struct dirent **names = NULL;
	int count = scandir(path, &names, NULL, by_name);

	for (int i = 0; i < count; i++) {
		own_mem char *below = str_format("%s/%s", path, names[i]->d_name);
		own_mem char *name = str_format("%s/%s", shown, names[i]->d_name);

		if (!str_eq(names[i]->d_name, ".") && !str_eq(names[i]->d_name, ".."))
			list_one(out, below, name);
		free(names[i]);
	}
	free(names);
}

/* What can be seen of a layer. It is removed. */
static char *show_layer(const struct digest *diffid)
{
	struct layer_use use = LAYER_USE_NONE;
	struct error err = {0};
	struct buf out = {0};
	struct fd_path path;

	if (layer_use(layers_fd, state_fd, diffid, &use, &err) < 0)
		fail_msg("%s", err.text);
	path = fd_path(use.root_fd);
	buf_add_str(&out, "");
	own_mem char *root = str_format("%s/.", path.text);
	list_one(&out, root, "");
	assert_int_equal(layer_release(state_fd, diffid, &use, &err), 0);
	assert_int_equal(layer_remove(layers_fd, state_fd, diffid, &err), 0);
	return buf_take(&out);
}

/* The same tar in both formats, in different pieces, looks the same. Returns how. */
static char *check_formats(const char *name, const struct buf *ball)
{
	static const char *const formats[] = {"erofs", "directory"};
	char *shown[2] = {NULL, NULL};

	for (int i = 0; i < 2; i++) {
		struct layer_info info = {0};
		struct error err = {0};
		struct digest diffid;

		if (write_layer(ball, formats[i], i ? 513 : 1 << 20, &diffid, &info, &err) < 0)
			fail_msg("%s, %s: %s", name, formats[i], err.text);
		if (layer_verify(layers_fd, &diffid, &info, &err) < 0)
			fail_msg("%s, %s: %s", name, formats[i], err.text);
		shown[i] = show_layer(&diffid);
	}
	if (strcmp(shown[0], shown[1]) != 0)
		fail_msg("%s:\nerofs:\n%sdirectory:\n%s", name, shown[0], shown[1]);
	free(shown[1]);
	return shown[0];
}

#define add(...) ball_add(b, &(struct ball_entry){__VA_ARGS__})

static void make_plain(struct buf *b)
{
	add(.name = "./", .type = '5', .mode = 0750, .mtime = 5);
	add(.name = "./d/", .type = '5', .mode = 01777, .mtime = 6, .uid = 7, .gid = 8);
	ball_pax(b, "SCHILY.xattr.user.a", "b", 1);
	ball_pax(b, "mtime", "-7.5", 4);
	add(.name = "./d/f", .data = "hello", .mode = 04755);
	add(.name = "./d/g", .type = '1', .link = "./d/f");
	add(.name = "/abs", .type = '2', .link = "/d/f", .mtime = 9);
	add(.name = "c", .type = '3', .major = 4095, .minor = 1048575);
	add(.name = "k", .type = '4', .major = 8, .minor = 1);
	add(.name = "p", .type = '6');
}

static void make_implicit(struct buf *b)
{
	add(.name = "a/b/c", .data = "x", .mtime = 11);
	add(.name = "a/", .type = '5', .mode = 0700, .mtime = 12);
}

static void make_replaced(struct buf *b)
{
	add(.name = "f", .data = "first", .mtime = 1);
	add(.name = "l", .type = '1', .link = "f");
	add(.name = "f", .data = "second!", .mtime = 2);
	add(.name = "d/", .type = '5', .mtime = 3, .mode = 0755);
	add(.name = "d/x", .data = "x");
	add(.name = "d", .data = "now a file", .mtime = 4);
	add(.name = "e", .data = "e");
	add(.name = "e/", .type = '5', .mode = 0711, .mtime = 5);
	add(.name = "g/", .type = '5', .mode = 0711);
	add(.name = "g/kept", .data = "k");
	add(.name = "g/", .type = '5', .mode = 0700, .mtime = 6);
}

static void make_through_links(struct buf *b)
{
	add(.name = "usr/bin/", .type = '5', .mode = 0755);
	add(.name = "bin", .type = '2', .link = "usr/bin");
	add(.name = "bin/sh", .data = "sh");
	add(.name = "up", .type = '2', .link = "../../../usr/./bin/..//");
	add(.name = "up/x", .data = "x");
	add(.name = "dangling", .type = '2', .link = "/new/place");
	add(.name = "dangling/y", .data = "y");
	add(.name = "hard", .type = '1', .link = "/bin/sh");
}

static void make_inner_dotdot(struct buf *b)
{
	add(.name = "l", .type = '2', .link = "/d/e");
	add(.name = "never/../x", .data = "x");
	add(.name = "./l/../y", .data = "y");
	add(.name = "/d/./e//../../d/f", .data = "f");
	add(.name = "h", .type = '1', .link = "a/b/../../d/f");
	add(.name = "d/..", .type = '5', .mode = 0711);
}

static void make_whiteouts(struct buf *b)
{
	add(.name = "a/.wh.gone");
	add(.name = "a/.wh.never", .data = "contents do not matter");
	add(.name = "a/kept", .data = "k");
	add(.name = "a/.wh.kept");
	add(.name = "b/.wh..wh..opq");
	add(.name = "b/new", .data = "n");
	add(.name = ".wh..wh.plnk", .type = '5');
	add(.name = ".wh.c");
	add(.name = "c/", .type = '5', .mode = 0755);
	add(.name = "d/", .type = '5', .mode = 0755);
	add(.name = ".wh.d");
	add(.name = ".wh.e");
	add(.name = "e/f", .data = "f");
}

static void make_escaped(struct buf *b)
{
	ball_pax(b, "SCHILY.xattr.trusted.overlay.opaque", "y", 1);
	add(.name = "d/", .type = '5', .mode = 0755);
	ball_pax(b, "SCHILY.xattr.trusted.overlay.redirect", "/etc", 4);
	add(.name = "f");
}

static const struct {
	const char *name;
	void (*make)(struct buf *b);
	const char *expected;
} trees[] = {
	{"keeps_everything", make_plain,
	 " 40750 0:0 5.000000000\n"
	 "/abs 120777 0:0 9.000000000 1 >/d/f\n"
	 "/c 20644 0:0 0.000000000 1 4095,1048575\n"
	 "/d 41777 7:8 6.000000000\n"
	 "/d/f 104755 0:0 -8.500000000 2 5 2cf24dba user.a=b\n"
	 "/d/g 104755 0:0 -8.500000000 2 5 2cf24dba user.a=b\n"
	 "/k 60644 0:0 0.000000000 1 8,1\n"
	 "/p 10644 0:0 0.000000000 1\n"},
	{"makes_missing_directories", make_implicit,
	 " 40755 0:0 0.000000000 trusted.overlay.implied=\n"
	 "/a 40700 0:0 12.000000000\n"
	 "/a/b 40755 0:0 11.000000000\n"
	 "/a/b/c 100644 0:0 11.000000000 1 1 2d711642\n"},
	{"lets_the_last_entry_win", make_replaced,
	 " 40755 0:0 0.000000000 trusted.overlay.implied=\n"
	 "/d 100644 0:0 4.000000000 1 10 92af885f\n"
	 "/e 40711 0:0 5.000000000\n"
	 "/f 100644 0:0 2.000000000 1 7 d8470465\n"
	 "/g 40700 0:0 6.000000000\n"
	 "/g/kept 100644 0:0 0.000000000 1 1 8254c329\n"
	 "/l 100644 0:0 1.000000000 1 5 a7937b64\n"},
	{"follows_links_of_the_layer_inside_it", make_through_links,
	 " 40755 0:0 0.000000000 trusted.overlay.implied=\n"
	 "/bin 120777 0:0 0.000000000 1 >usr/bin\n"
	 "/dangling 120777 0:0 0.000000000 1 >/new/place\n"
	 "/hard 100644 0:0 0.000000000 2 2 89c4ec9f\n"
	 "/new 40755 0:0 0.000000000\n"
	 "/new/place 40755 0:0 0.000000000\n"
	 "/new/place/y 100644 0:0 0.000000000 1 1 a1fce436\n"
	 "/up 120777 0:0 0.000000000 1 >../../../usr/./bin/..//\n"
	 "/usr 40755 0:0 0.000000000\n"
	 "/usr/bin 40755 0:0 0.000000000\n"
	 "/usr/bin/sh 100644 0:0 0.000000000 2 2 89c4ec9f\n"
	 "/usr/x 100644 0:0 0.000000000 1 1 2d711642\n"},
	{"takes_dotdot_within_a_name_by_its_text", make_inner_dotdot,
	 " 40711 0:0 0.000000000\n"
	 "/d 40755 0:0 0.000000000\n"
	 "/d/f 100644 0:0 0.000000000 2 1 252f10c8\n"
	 "/h 100644 0:0 0.000000000 2 1 252f10c8\n"
	 "/l 120777 0:0 0.000000000 1 >/d/e\n"
	 "/x 100644 0:0 0.000000000 1 1 2d711642\n"
	 "/y 100644 0:0 0.000000000 1 1 a1fce436\n"},
	{"turns_whiteouts_into_overlayfs_s", make_whiteouts,
	 " 40755 0:0 0.000000000 trusted.overlay.implied=\n"
	 "/a 40755 0:0 0.000000000 trusted.overlay.origin=\n"
	 "/a/gone whiteout\n"
	 "/a/kept 100644 0:0 0.000000000 1 1 8254c329\n"
	 "/a/never whiteout\n"
	 "/b 40755 0:0 0.000000000 trusted.overlay.opaque=y\n"
	 "/b/new 100644 0:0 0.000000000 1 1 1b16b1df\n"
	 "/c 40755 0:0 0.000000000 trusted.overlay.opaque=y\n"
	 "/d 40755 0:0 0.000000000 trusted.overlay.opaque=y\n"
	 "/e 40755 0:0 0.000000000 trusted.overlay.opaque=y\n"
	 "/e/f 100644 0:0 0.000000000 1 1 252f10c8\n"},
	{"disarms_attributes_of_overlayfs", make_escaped,
	 " 40755 0:0 0.000000000 trusted.overlay.implied=\n"
	 "/d 40755 0:0 0.000000000 trusted.overlay.overlay.opaque=y\n"
	 "/f 100644 0:0 0.000000000 1 0 e3b0c442 trusted.overlay.overlay.redirect=/etc\n"},
};

static void tars_become_the_same_tree_in_both_formats(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(trees); i++) {
		own_buf struct buf ball = {0};
		own_mem char *shown = NULL;

		trees[i].make(&ball);
		ball_end(&ball);
		shown = check_formats(trees[i].name, &ball);
		if (strcmp(shown, trees[i].expected) != 0)
			fail_msg("%s:\n%sinstead of\n%s", trees[i].name, shown, trees[i].expected);
	}
}

/* --- what is refused --- */

static void make_dotdot(struct buf *b)
{
	add(.name = "a/../../etc/passwd", .data = "x");
}

static void make_link_dotdot(struct buf *b)
{
	add(.name = "h", .type = '1', .link = "../../etc/passwd");
}

static void make_link_to_nothing(struct buf *b)
{
	add(.name = "h", .type = '1', .link = "/etc/passwd");
}

static void make_link_to_directory(struct buf *b)
{
	add(.name = "d/", .type = '5');
	add(.name = "h", .type = '1', .link = "d");
}

static void make_through_file(struct buf *b)
{
	add(.name = "f", .data = "x");
	add(.name = "f/g", .data = "y");
}

static void make_link_loop(struct buf *b)
{
	add(.name = "a", .type = '2', .link = "b");
	add(.name = "b", .type = '2', .link = "a");
	add(.name = "a/x", .data = "y");
}

static void make_root_file(struct buf *b)
{
	add(.name = "/", .type = '2', .link = "x");
}

static void make_bad_whiteout(struct buf *b)
{
	add(.name = "d/.wh...");
}

static void make_long_component(struct buf *b)
{
	char name[300];

	memset(name, 'n', 256);
	ball_pax(b, "path", name, 256);
	add(.name = "x");
}

static void make_long_path(struct buf *b)
{
	char name[4200];

	for (size_t i = 0; i < sizeof(name); i++)
		name[i] = i % 2 ? '/' : 'd';
	ball_pax(b, "path", name, 4097);
	add(.name = "x");
}

static void make_replaces_its_target(struct buf *b)
{
	add(.name = "d/f", .data = "x");
	add(.name = "d", .type = '1', .link = "d/f");
}

static void make_bad_device(struct buf *b)
{
	add(.name = "c", .type = '3', .major = 4096);
}

static void make_growing_links(struct buf *b)
{
	char target[4001];

	for (size_t i = 0; i < sizeof(target) - 1; i++)
		target[i] = i % 2 ? '/' : 'a';
	target[4000] = '\0';
	ball_pax(b, "linkpath", target, 4000);
	add(.name = "a", .type = '2', .link = "x");
	add(.name = "a/x", .data = "y");
}

static const struct {
	const char *name;
	void (*make)(struct buf *b);
	const char *reason;
} hostile[] = {
	{"dotdot", make_dotdot, "leads out with \"..\""},
	{"link_dotdot", make_link_dotdot, "leads out with \"..\""},
	{"link_to_nothing", make_link_to_nothing, "not in this layer"},
	{"link_to_directory", make_link_to_directory, "which is a directory"},
	{"through_file", make_through_file, "is not a directory"},
	{"link_loop", make_link_loop, "too many levels"},
	{"root_file", make_root_file, "must be a directory"},
	{"bad_whiteout", make_bad_whiteout, "names nothing"},
	{"long_component", make_long_component, "a component of 256 bytes"},
	{"long_path", make_long_path, "of 4097 bytes"},
	{"replaces_its_target", make_replaces_its_target, "which it replaces"},
	{"bad_device", make_bad_device, "no device has"},
	{"growing_links", make_growing_links, "links"},
};

static size_t count_files(int fd)
{
	own_dir DIR *dir = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	size_t count = 0;

	while (readdir(dir) != NULL)
		count++;
	return count - 2;
}

static void hostile_tars_are_refused_and_leave_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(hostile) * 2; i++) {
		const char *format = i % 2 ? "directory" : "erofs";
		own_buf struct buf ball = {0};
		struct layer_info info;
		struct error err = {0};
		struct digest diffid;
		int rc;

		/* The directory format leaves device numbers to the kernel. */
		if (i % 2 && hostile[i / 2].make == make_bad_device)
			continue;
		hostile[i / 2].make(&ball);
		ball_end(&ball);
		rc = write_layer(&ball, format, 1000, &diffid, &info, &err);
		if (rc != -EBADMSG || strstr(err.text, hostile[i / 2].reason) == NULL)
			fail_msg("%s, %s: %d %s", hostile[i / 2].name, format, rc, err.text);
		assert_int_equal(count_files(layers_fd), 0);
	}
}

static void one_tar_gives_one_file_however_it_is_cut(void **state)
{
	static const size_t pieces[] = {1, 511, 4096, 1 << 20};
	own_buf struct buf ball = {0};
	struct layer_info first = {0};

	(void)state;
	for (int i = 0; i < 3000; i++) {
		char name[32];
		own_mem char *data = mem_new(9001);

		snprintf(name, sizeof(name), "d%d/f%d", i % 7, i);
		memset(data, 'a' + i % 20, 9000);
		ball_add(&ball, &(struct ball_entry){.name = name,
						     .data = data,
						     .len = (size_t)(i * 7919 % 9000)});
	}
	ball_end(&ball);
	for (size_t i = 0; i < array_size(pieces); i++) {
		struct layer_info info;
		struct error err = {0};
		struct digest diffid;

		assert_int_equal(write_layer(&ball, "erofs", pieces[i], &diffid, &info, &err), 0);
		assert_int_equal(layer_verify(layers_fd, &diffid, &info, &err), 0);
		assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), 0);
		if (i == 0)
			first = info;
		assert_string_equal(info.digest.text, first.digest.text);
	}
	/* Little is lost to packing, and what is in the layer is counted. */
	assert_int_equal(first.entries, 3007);
	assert_true(first.size_bytes < first.unpacked_bytes + first.unpacked_bytes / 20);
}

static void make_one(struct buf *ball)
{
	ball_add(ball, &(struct ball_entry){.name = "file", .data = "contents"});
	ball_end(ball);
}

static int gather(const void *data, size_t len, void *context, struct error *err)
{
	(void)err;
	buf_add(context, data, len);
	return 0;
}

/* With the parts of a tar that no file system shows: what is replaced, filling that is not zeros, data
 * behind a whiteout, bytes behind the end. */
static void a_layer_gives_its_tar_back(void **state)
{
	own_buf struct buf ball = {0}, block = {0};
	struct digest first = {0};

	(void)state;
	for (int i = 0; i < 9000; i++)
		buf_add_char(&block, (char)(i * i >> 5));
	ball_pax(&ball, "comment", "nobody reads this", 17);
	ball_add(&ball, &(struct ball_entry){.name = "a", .data = block.data, .len = 9000});
	ball_add(&ball, &(struct ball_entry){.name = ".wh.b", .data = "contents"});
	ball_add(&ball, &(struct ball_entry){.name = "a", .data = block.data, .len = 4096});
	ball_add(&ball, &(struct ball_entry){.name = "c", .type = '1', .link = "a"});
	ball_add(&ball, &(struct ball_entry){.name = "small", .data = "x"});
	ball.data[ball.len - 1] = 'f';
	ball_pax(&ball, "GNU.sparse.map", "4090,10,9000,1", 14);
	ball_pax(&ball, "GNU.sparse.size", "100000", 6);
	ball_add(&ball, &(struct ball_entry){.name = "sparse", .data = "0123456789x"});
	ball_add(&ball, &(struct ball_entry){.name = "empty"});
	ball_end(&ball);
	buf_add(&ball, block.data, block.len);
	for (size_t piece = 1; piece < 100000; piece = piece * 17 + 3) {
		own_layer_writer struct layer_writer *w = NULL;
		own_buf struct buf again = {0};
		own_fd int fd = -1;
		struct layer_info info = {0};
		struct error err = {0};
		const struct digest diffid = digest_of(ball.data, ball.len);
		uint64_t bytes = 0;

		assert_int_equal(
			layer_writer_begin(layers_fd, layer_format_find("erofs"), &w, &err), 0);
		assert_true(layer_writer_keep_tar(w));
		for (size_t at = 0; at < ball.len; at += piece)
			assert_int_equal(
				layer_writer_add(w, ball.data + at,
						 ball.len - at < piece ? ball.len - at : piece,
						 &err),
				0);
		assert_int_equal(layer_writer_finish(w, &diffid, &info, &err), 0);
		fd = layer_again_open(layers_fd, &diffid, &bytes, &err);
		assert_true(fd >= 0);
		assert_int_equal(bytes, ball.len);
		assert_int_equal(layer_again(fd, &diffid, gather, &again, &err), 0);
		assert_int_equal(again.len, ball.len);
		assert_memory_equal(again.data, ball.data, ball.len);
		if (first.text[0] == '\0')
			first = info.digest;
		assert_string_equal(first.text, info.digest.text);
		assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), 0);
	}
}

static void only_layers_that_hold_their_tar_give_it(void **state)
{
	own_layer_writer struct layer_writer *w = NULL;
	own_buf struct buf ball = {0};
	struct layer_info info;
	struct error err = {0};
	struct digest diffid;
	uint64_t bytes;

	(void)state;
	ball_add(&ball, &(struct ball_entry){.name = "a", .data = "x"});
	ball_end(&ball);
	assert_int_equal(write_layer(&ball, "erofs", 100, &diffid, &info, &err), 0);
	assert_int_equal(layer_again_open(layers_fd, &diffid, &bytes, &err), -ENOENT);
	assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), 0);
	assert_int_equal(layer_again_open(layers_fd, &diffid, &bytes, &err), -ENOENT);
	assert_int_equal(layer_writer_begin(layers_fd, layer_format_find("directory"), &w, &err),
			 0);
	assert_false(layer_writer_keep_tar(w));
}

static void verify_sees_any_change(void **state)
{
	own_buf struct buf ball = {0};
	struct layer_info info;
	struct error err = {0};
	struct digest diffid;
	own_mem char *name = NULL;

	(void)state;
	make_one(&ball);
	assert_int_equal(write_layer(&ball, "erofs", 100, &diffid, &info, &err), 0);
	name = str_format("%s.erofs", digest_hex(&diffid));
	for (uint64_t at = 0; at < info.size_bytes; at += 509) {
		own_fd int fd = openat(layers_fd, name, O_RDWR | O_CLOEXEC);
		char byte;

		assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
		error_clear(&err);
		assert_int_equal(layer_verify(layers_fd, &diffid, &info, &err), -EBADMSG);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	}
	assert_int_equal(layer_verify(layers_fd, &diffid, &info, &err), 0);
	info.size_bytes++;
	assert_int_equal(layer_verify(layers_fd, &diffid, &info, &err), -EBADMSG);
	assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), 0);
	assert_int_equal(layer_verify(layers_fd, &diffid, &info, &err), -ENOENT);
}

static bool is_mounted(const struct digest *diffid)
{
	own_mem char *path = str_format("%s/state/layers/%s", directory, digest_hex(diffid));
	struct statx stx;

	return statx(AT_FDCWD, path, 0, 0, &stx) == 0 &&
	       (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static void the_last_user_unmounts(void **state)
{
	struct layer_use a = LAYER_USE_NONE, b = LAYER_USE_NONE;
	own_buf struct buf ball = {0};
	struct layer_info info;
	struct error err = {0};
	struct digest diffid;

	(void)state;
	make_one(&ball);
	assert_int_equal(write_layer(&ball, "erofs", 100, &diffid, &info, &err), 0);
	assert_int_equal(layer_use(layers_fd, state_fd, &diffid, &a, &err), 0);
	assert_int_equal(layer_use(layers_fd, state_fd, &diffid, &b, &err), 0);
	assert_true(is_mounted(&diffid));
	assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), -EBUSY);
	assert_int_equal(layer_release(state_fd, &diffid, &a, &err), 0);
	assert_true(is_mounted(&diffid));
	assert_int_equal(faccessat(b.root_fd, "file", F_OK, 0), 0);
	assert_int_equal(layer_release(state_fd, &diffid, &b, &err), 0);
	assert_false(is_mounted(&diffid));
	assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), 0);
	error_clear(&err);
	assert_int_equal(layer_use(layers_fd, state_fd, &diffid, &a, &err), -ENOENT);
	own_fd int mounts = openat(state_fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(count_files(mounts), 0);
}

/* In a child: uses the layer and begins another one, then waits to be killed. */
static _Noreturn void use_and_hang(const struct digest *diffid, int ready)
{
	struct layer_use use = LAYER_USE_NONE;
	struct layer_writer *w = NULL;
	struct layer_writer *u = NULL;

	if (layer_use(layers_fd, state_fd, diffid, &use, NULL) < 0 ||
	    layer_writer_begin(layers_fd, layer_format_find("erofs"), &w, NULL) < 0 ||
	    layer_writer_begin(layers_fd, layer_format_find("directory"), &u, NULL) < 0)
		_exit(1);
	if (write(ready, "x", 1) != 1)
		_exit(1);
	pause();
	_exit(1);
}

static void recovery_takes_what_the_dead_left_and_nothing_else(void **state)
{
	struct layer_leftovers left = {0};
	own_buf struct buf ball = {0};
	struct layer_info info;
	struct error err = {0};
	struct digest diffid;
	int ready[2];
	pid_t pid;
	char byte;

	(void)state;
	make_one(&ball);
	assert_int_equal(write_layer(&ball, "erofs", 100, &diffid, &info, &err), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		use_and_hang(&diffid, ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(layer_recover(layers_fd, state_fd, 0, &left, &err), 0);
	assert_int_equal(left.mounts + left.writes, 0);
	assert_true(is_mounted(&diffid));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(layer_recover(layers_fd, state_fd, LAYER_RECOVER_REPORT, &left, &err), 0);
	assert_int_equal(left.mounts, 1);
	assert_int_equal(left.writes, 2);
	assert_true(is_mounted(&diffid));
	assert_int_equal(layer_recover(layers_fd, state_fd, 0, &left, &err), 0);
	assert_int_equal(left.mounts, 1);
	assert_int_equal(left.writes, 2);
	assert_false(is_mounted(&diffid));
	assert_int_equal(count_files(layers_fd), 1);
	assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), 0);
	close(ready[0]);
	close(ready[1]);
}

static void many_use_one_layer_at_once(void **state)
{
	enum { USERS = 16, ROUNDS = 20 };
	own_buf struct buf ball = {0};
	struct layer_info info;
	struct error err = {0};
	struct digest diffid;

	(void)state;
	make_one(&ball);
	assert_int_equal(write_layer(&ball, "erofs", 100, &diffid, &info, &err), 0);
	for (int i = 0; i < USERS; i++) {
		if (fork() != 0)
			continue;
		for (int k = 0; k < ROUNDS; k++) {
			struct layer_use use = LAYER_USE_NONE;

			if (layer_use(layers_fd, state_fd, &diffid, &use, &err) < 0 ||
			    faccessat(use.root_fd, "file", F_OK, 0) < 0 || !is_mounted(&diffid) ||
			    layer_release(state_fd, &diffid, &use, &err) < 0) {
				fprintf(stderr, "in child: %s\n", err.text);
				_exit(1);
			}
		}
		_exit(0);
	}
	for (int i = 0; i < USERS; i++) {
		int status = -1;

		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_false(is_mounted(&diffid));
	assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), 0);
}

static int collect(const void *data, size_t len, void *out, struct error *err)
{
	(void)err;
	buf_add(out, data, len);
	return 0;
}

/* What is said of a layer without the mark of a root that its tar does not name: a tar of a tree does. */
static void name_root(char *shown)
{
	static const char mark[] = " trusted.overlay.implied=";
	char *at = strstr(shown, mark);

	if (at != NULL)
		memmove(at, at + strlen(mark), strlen(at + strlen(mark)) + 1);
}

static void a_tree_becomes_the_layer_that_it_came_from(void **state)
{
	const struct pack_options overlay = {.kind = PACK_OVERLAY};

	(void)state;
	for (size_t i = 0; i < array_size(trees); i++) {
		own_buf struct buf ball = {0}, again = {0}, third = {0};
		own_mem char *first = NULL, *second = NULL;
		struct layer_use use = LAYER_USE_NONE;
		struct error err = {0};
		struct layer_info info;
		struct digest diffid;

		trees[i].make(&ball);
		ball_end(&ball);
		first = check_formats(trees[i].name, &ball);
		name_root(first);
		assert_int_equal(write_layer(&ball, "erofs", 4096, &diffid, &info, &err), 0);
		assert_int_equal(layer_use(layers_fd, state_fd, &diffid, &use, &err), 0);
		assert_int_equal(pack_tree(use.root_fd, &overlay, collect, &again, &err), 0);
		assert_int_equal(layer_release(state_fd, &diffid, &use, &err), 0);
		assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), 0);
		second = check_formats(trees[i].name, &again);
		if (strcmp(first, second) != 0)
			fail_msg("%s:\n%sinstead of\n%s", trees[i].name, second, first);
		/* And the tar of that is the same tar. */
		assert_int_equal(write_layer(&again, "directory", 4096, &diffid, &info, &err), 0);
		assert_int_equal(layer_use(layers_fd, state_fd, &diffid, &use, &err), 0);
		assert_int_equal(pack_tree(use.root_fd, &overlay, collect, &third, &err), 0);
		assert_int_equal(layer_release(state_fd, &diffid, &use, &err), 0);
		assert_int_equal(layer_remove(layers_fd, state_fd, &diffid, &err), 0);
		assert_int_equal(third.len, again.len);
	}
}

static void the_best_format_here_is_erofs(void **state)
{
	(void)state;
	assert_string_equal(layer_format_name(layer_format_best(layers_fd)), "erofs");
	assert_int_equal(count_files(layers_fd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_best_format_here_is_erofs),
		cmocka_unit_test(tars_become_the_same_tree_in_both_formats),
		cmocka_unit_test(hostile_tars_are_refused_and_leave_nothing),
		cmocka_unit_test(one_tar_gives_one_file_however_it_is_cut),
		cmocka_unit_test(a_layer_gives_its_tar_back),
		cmocka_unit_test(only_layers_that_hold_their_tar_give_it),
		cmocka_unit_test(verify_sees_any_change),
		cmocka_unit_test(the_last_user_unmounts),
		cmocka_unit_test(recovery_takes_what_the_dead_left_and_nothing_else),
		cmocka_unit_test(many_use_one_layer_at_once),
		cmocka_unit_test(a_tree_becomes_the_layer_that_it_came_from),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
