/*
 * fsops: says what a file system does, one line for each operation, so that the same program's words on
 * two file systems can be compared: `fsops DIR` works in the empty directory DIR, as root. Nothing that
 * may differ between two runs (times, inode numbers, sizes of directories) is printed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SAY(call) say(#call, (long)(call))

static const char *error_name(int error)
{
	return error ? strerrorname_np(error) : "ok";
}

static void say(const char *what, long rc)
{
	printf("%s = %s\n", what, rc < 0 ? error_name(errno) : "ok");
}

static void tell(const char *name)
{
	struct stat st;

	if (lstat(name, &st) < 0) {
		printf("  %s: %s\n", name, error_name(errno));
		return;
	}
	printf("  %s: %o links %lu uid %u gid %u", name, st.st_mode,
	       S_ISDIR(st.st_mode) ? 0ul : (unsigned long)st.st_nlink, st.st_uid, st.st_gid);
	if (!S_ISDIR(st.st_mode))
		printf(" size %lld", (long long)st.st_size);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		printf(" device %u:%u", major(st.st_rdev), minor(st.st_rdev));
	printf("\n");
}

static int make(const char *name, mode_t mode)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);

	return fd < 0 ? fd : close(fd);
}

static int put(const char *name, int flags, const char *text)
{
	int fd = open(name, O_WRONLY | flags, 0644), rc;

	if (fd < 0)
		return fd;
	rc = write(fd, text, strlen(text)) < 0 ? -1 : 0;
	return close(fd) < 0 ? -1 : rc;
}

static void show(const char *name)
{
	char text[256] = "";
	int fd = open(name, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	printf("  %s contains \"%s\"%s\n", name, n < 0 ? error_name(errno) : text,
	       n < 0 ? "!" : "");
	if (fd >= 0)
		close(fd);
}

/* Runs `work` as somebody else, with one further group. */
static void as(uid_t user, gid_t group, gid_t further, void (*work)(void))
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		if (setgroups(1, &further) < 0 || setgid(group) < 0 || setuid(user) < 0)
			_exit(1);
		work();
		fflush(stdout);
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void test_names(void)
{
	char longest[256 + 1], too_long[257 + 1], path[PATH_MAX];
	int i;

	printf("# names\n");
	SAY(mkdir("d", 0755));
	SAY(mkdir("d", 0755));
	SAY(make("d/f", 0644));
	SAY(make("d/f", 0644));
	SAY(make("nowhere/f", 0644));
	SAY(make("d/f/g", 0644));
	SAY(mkdir("d/f/g", 0755));
	SAY(rmdir("d"));
	SAY(rmdir("d/f"));
	SAY(unlink("d"));
	SAY(unlink("d/none"));
	SAY(rmdir("d/."));
	SAY(rmdir("d/.."));
	memset(longest, 'x', 255);
	longest[255] = '\0';
	memset(too_long, 'x', 256);
	too_long[256] = '\0';
	say("make of 255 bytes", make(longest, 0600));
	say("make of 256 bytes", make(too_long, 0600));
	say("unlink of 255 bytes", unlink(longest));
	SAY(make("sp ace", 0600));
	SAY(make("new\nline", 0600));
	SAY(make("\xff\xfe", 0600));
	SAY(unlink("sp ace"));
	SAY(unlink("new\nline"));
	SAY(unlink("\xff\xfe"));
	strcpy(path, "deep");
	for (i = 0; i < 40; i++) {
		if (mkdir(path, 0755) < 0)
			break;
		strcat(path, "/deeper");
	}
	printf("depth %d\n", i);
	SAY(access("deep/deeper/deeper/../../deeper/..", F_OK));
}

static void test_links(void)
{
	char target[PATH_MAX + 8], text[300] = "";

	printf("# links\n");
	SAY(symlink("d/f", "s"));
	SAY(symlink("d/f", "s"));
	SAY(symlink("/etc/passwd", "out"));
	SAY(symlink("../../../../../etc/shadow", "up"));
	SAY(symlink("loop", "loop"));
	SAY(open("loop", O_RDONLY));
	SAY(open("s", O_RDONLY | O_NOFOLLOW));
	say("readlink", readlink("s", text, sizeof(text)));
	printf("  -> %s\n", text);
	SAY(readlink("d/f", text, sizeof(text)));
	memset(target, 'y', sizeof(target));
	target[4095] = '\0';
	say("symlink of 4095 bytes", symlink(target, "longest"));
	tell("s");
	SAY(lchown("s", 12, 13));
	tell("s");
	SAY(link("d/f", "hard"));
	SAY(link("d/f", "hard"));
	SAY(link("d", "hard2"));
	SAY(link("none", "hard2"));
	SAY(link("s", "hards"));
	tell("hards");
	tell("hard");
	SAY(put("hard", 0, "through the other name"));
	show("d/f");
	SAY(unlink("d/f"));
	show("hard");
	tell("hard");
	SAY(unlink("hards"));
}

static int rename_with(const char *from, const char *to, unsigned int flags)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void test_rename(void)
{
	printf("# rename\n");
	SAY(mkdir("r", 0755));
	SAY(put("r/a", O_CREAT, "a"));
	SAY(put("r/b", O_CREAT, "b"));
	SAY(mkdir("r/e", 0755));
	SAY(mkdir("r/full", 0755));
	SAY(make("r/full/x", 0600));
	SAY(rename("r/a", "r/a"));
	SAY(rename("r/none", "r/x"));
	SAY(rename("r/a", "r/e"));
	SAY(rename("r/e", "r/a"));
	SAY(rename("r/e", "r/full"));
	SAY(rename("r/full", "r/e"));
	SAY(rename("r/e", "r/e/inside"));
	SAY(rename_with("r/a", "r/b", RENAME_NOREPLACE));
	SAY(rename_with("r/a", "r/b", RENAME_EXCHANGE));
	show("r/a");
	show("r/b");
	SAY(rename_with("r/a", "r/none", RENAME_EXCHANGE));
	SAY(rename_with("r/a", "r/e", RENAME_EXCHANGE));
	tell("r/a");
	tell("r/e");
	SAY(rename("r/e", "r/b"));
	show("r/b");
	tell("r/e");
	SAY(rename_with("r/b", "r/gone", RENAME_WHITEOUT));
	tell("r/b");
	SAY(rename("r/gone", "top"));
	show("top");
	SAY(rename("r", "r2"));
	tell("r2/gone");
	tell("r2/a");
}

static void test_nodes(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	printf("# nodes\n");
	SAY(mkfifo("fifo", 0640));
	tell("fifo");
	SAY(mknod("file", S_IFREG | 0604, 0));
	tell("file");
	SAY(mknod("white", S_IFCHR, makedev(0, 0)));
	tell("white");
	SAY(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	tell("socket");
	close(fd);
	SAY(open("fifo", O_WRONLY | O_NONBLOCK));
	fd = open("fifo", O_RDWR | O_NONBLOCK);
	say("open of the fifo", fd);
	say("write into the fifo", write(fd, "x", 1));
	close(fd);
}

static void test_modes(void)
{
	struct timespec times[2] = {{.tv_sec = 1000, .tv_nsec = 5},
				    {.tv_sec = -7, .tv_nsec = 999999999}};
	struct stat st;

	printf("# modes\n");
	umask(027);
	SAY(make("m", 0777));
	SAY(mkdir("md", 01777));
	tell("m");
	tell("md");
	umask(0);
	SAY(make("suid", 06755));
	tell("suid");
	umask(022);
	for (mode_t mode = 0; mode <= 07777; mode += 0111) {
		if (chmod("m", mode) < 0)
			printf("chmod %o: %s\n", mode, error_name(errno));
		else if (stat("m", &st) < 0 || (st.st_mode & 07777) != mode)
			printf("mode %o became %o\n", mode, st.st_mode);
	}
	SAY(chown("m", 1000, 1001));
	tell("m");
	SAY(chown("m", (uid_t)-1, 55));
	tell("m");
	SAY(chmod("suid", 06755));
	SAY(chown("suid", 1000, 1000));
	tell("suid");
	SAY(utimensat(AT_FDCWD, "m", times, 0));
	if (stat("m", &st) == 0)
		printf("  times %lld.%09ld %lld.%09ld\n", (long long)st.st_atim.tv_sec,
		       st.st_atim.tv_nsec, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	SAY(utimensat(AT_FDCWD, "s", times, AT_SYMLINK_NOFOLLOW));
	if (lstat("s", &st) == 0)
		printf("  times %lld %lld\n", (long long)st.st_atim.tv_sec,
		       (long long)st.st_mtim.tv_sec);
	times[0].tv_nsec = UTIME_OMIT;
	times[1].tv_nsec = UTIME_NOW;
	SAY(utimensat(AT_FDCWD, "m", times, 0));
	if (stat("m", &st) == 0)
		printf("  times %lld now %d\n", (long long)st.st_atim.tv_sec,
		       st.st_mtim.tv_sec > 1000000000);
}

static void user_work(void)
{
	SAY(make("shared/mine", 0666));
	SAY(mkdir("shared/minedir", 0777));
	SAY(symlink("x", "shared/minelink"));
	SAY(mkfifo("shared/minefifo", 0666));
	tell("shared/mine");
	tell("shared/minedir");
	tell("shared/minelink");
	tell("shared/minefifo");
	SAY(make("private/no", 0666));
	SAY(make("group/yes", 0666));
	tell("group/yes");
	SAY(mkdir("setgid/dir", 0755));
	SAY(make("setgid/file", 0755));
	tell("setgid/dir");
	tell("setgid/file");
	SAY(chown("shared/mine", 0, 0));
	SAY(chown("shared/mine", (uid_t)-1, 2002));
	tell("shared/mine");
	SAY(chmod("shared/roots", 0777));
	SAY(unlink("shared/roots"));
	SAY(unlink("sticky/roots"));
	SAY(rename("sticky/roots", "sticky/x"));
	SAY(open("shared/roots", O_RDONLY));
	SAY(open("shared/secret", O_RDONLY));
	SAY(truncate("shared/secret", 0));
	SAY(access("shared/secret", R_OK));
	SAY(setxattr("shared/mine", "user.x", "1", 1, 0));
	SAY(setxattr("shared/mine", "trusted.x", "1", 1, 0));
	SAY(chmod("shared/mine", 02777));
	tell("shared/mine");
	SAY(put("suidwrite", 0, "x"));
	tell("suidwrite");
	SAY(truncate("suidtrunc", 1));
	tell("suidtrunc");
}

static void test_users(void)
{
	printf("# users\n");
	umask(0);
	SAY(mkdir("shared", 0777));
	SAY(mkdir("private", 0700));
	SAY(mkdir("group", 0770));
	SAY(chown("group", 0, 2002));
	SAY(mkdir("setgid", 0777));
	SAY(chown("setgid", 0, 3003));
	SAY(chmod("setgid", 02777));
	SAY(mkdir("sticky", 01777));
	SAY(make("sticky/roots", 0644));
	SAY(make("shared/roots", 0644));
	SAY(make("shared/secret", 0600));
	SAY(make("suidwrite", 0666));
	SAY(chmod("suidwrite", 06777));
	SAY(make("suidtrunc", 0666));
	SAY(chmod("suidtrunc", 06777));
	as(1000, 1001, 2002, user_work);
	SAY(make("suidroot", 0666));
	SAY(chmod("suidroot", 06777));
	SAY(put("suidroot", 0, "root"));
	tell("suidroot");
	umask(022);
}

static void test_data(void)
{
	static char block[300000], back[sizeof(block)];
	int fd = open("data", O_RDWR | O_CREAT | O_TRUNC, 0644), other;
	char *map;
	struct stat st;
	loff_t from = 1000, to = 5;

	printf("# data\n");
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)(i * 31 >> 4);
	say("write", write(fd, block, sizeof(block)));
	say("pread", pread(fd, back, sizeof(back), 0));
	printf("same %d\n", memcmp(block, back, sizeof(block)) == 0);
	say("pwrite beyond", pwrite(fd, "end", 3, 1000000));
	tell("data");
	SAY(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 8192));
	say("pread of the hole", pread(fd, back, 10, 9000));
	printf("zero %d\n", back[0] == 0 && back[9] == 0);
	SAY(fallocate(fd, 0, 0, 2000000));
	tell("data");
	SAY(ftruncate(fd, 500000));
	tell("data");
	SAY(ftruncate(fd, -1));
	SAY(lseek(fd, 0, SEEK_END));
	printf("at %lld\n", (long long)lseek(fd, 0, SEEK_CUR));
	SAY(fsync(fd));
	SAY(fdatasync(fd));
	SAY(syncfs(fd));
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	say("mmap", map == MAP_FAILED ? -1 : 0);
	if (map != MAP_FAILED) {
		printf("mapped %d\n", memcmp(map, block, 8192) == 0);
		memcpy(map + 100, "through the map", 15);
		say("msync", msync(map, 8192, MS_SYNC));
		munmap(map, 8192);
	}
	say("pread", pread(fd, back, 15, 100));
	printf("read %.15s\n", back);
	other = open("copy", O_RDWR | O_CREAT, 0600);
	say("copy_file_range", copy_file_range(fd, &from, other, &to, 100000, 0));
	printf("at %lld %lld\n", (long long)from, (long long)to);
	tell("copy");
	say("pread", pread(other, back, 100000, 5));
	printf("same %d\n", memcmp(block + 1000, back, 90000) == 0);
	SAY(unlink("copy"));
	SAY(fstat(other, &st));
	printf("links of a removed file %lu\n", (unsigned long)st.st_nlink);
	say("read of a removed file", pread(other, back, 100, 5));
	close(other);
	SAY(put("log", O_CREAT | O_APPEND, "one,"));
	SAY(put("log", O_APPEND, "two,"));
	SAY(put("log", O_APPEND | O_TRUNC, "three"));
	show("log");
	SAY(put("log", O_EXCL | O_CREAT, "x"));
	SAY(open("log", O_RDONLY | O_DIRECTORY));
	SAY(open("d", O_WRONLY));
	SAY(open("d", O_RDONLY | O_CREAT, 0600));
	SAY(truncate("d", 0));
	close(fd);
	fd = open("log", O_RDONLY);
	SAY(write(fd, "x", 1));
	SAY(ioctl(fd, FIGETBSZ, &st) < 0 ? -1 : 0);
	close(fd);
}

static void test_tmpfile(void)
{
	char path[64];
	int fd = open(".", O_TMPFILE | O_RDWR, 0640);

	printf("# tmpfile\n");
	say("tmpfile", fd);
	if (fd < 0)
		return;
	say("write", write(fd, "hidden", 6));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	say("linkat", linkat(AT_FDCWD, path, AT_FDCWD, "shown", AT_SYMLINK_FOLLOW));
	close(fd);
	tell("shown");
	show("shown");
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void test_directories(void)
{
	enum { FILES = 700 };
	char *names[FILES + 8], name[32];
	unsigned int count = 0, before;
	struct dirent *entry;
	long place = -1;
	DIR *dir;

	printf("# directories\n");
	SAY(mkdir("many", 0755));
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "many/file-%d", i * 7919 % FILES);
		if (make(name, 0600) < 0)
			printf("%s: %s\n", name, error_name(errno));
	}
	dir = opendir("many");
	while (dir && (entry = readdir(dir)) && count < FILES + 8) {
		names[count++] = strdup(entry->d_name);
		if (count == 100)
			place = telldir(dir);
	}
	qsort(names, count, sizeof(*names), by_name);
	printf("%u entries, first %s, last %s\n", count, names[0], names[count - 1]);
	for (unsigned int i = 1; i < count; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			printf("%s twice\n", names[i]);
	seekdir(dir, place);
	for (before = 0; readdir(dir); before++)
		;
	printf("%u after the 100th\n", before);
	rewinddir(dir);
	SAY(unlink("many/file-5"));
	for (before = 0; (entry = readdir(dir));)
		before += strcmp(entry->d_name, "file-5") != 0;
	printf("%u when one is gone\n", before);
	SAY(fsync(dirfd(dir)));
	closedir(dir);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "many/file-%d", i);
		if (unlink(name) < 0 && i != 5)
			printf("%s: %s\n", name, error_name(errno));
	}
	SAY(rmdir("many"));
	SAY(mkdir("gone", 0755));
	place = open("gone", O_RDONLY | O_DIRECTORY);
	SAY(rmdir("gone"));
	say("mkdirat in a removed directory", mkdirat((int)place, "x", 0755));
	close((int)place);
}

static void test_xattrs(void)
{
	/* Revision 2, effective, CAP_NET_RAW. */
	static const unsigned char capability[20] = {1, 0, 0, 2, 0, 32};
	char value[256], list[1024];
	ssize_t n;

	printf("# extended attributes\n");
	SAY(make("x", 0644));
	SAY(setxattr("x", "user.a", "hello", 5, 0));
	SAY(setxattr("x", "user.a", "hello", 5, XATTR_CREATE));
	SAY(setxattr("x", "user.b", "world", 5, XATTR_REPLACE));
	SAY(setxattr("x", "user.empty", "", 0, 0));
	SAY(setxattr("x", "user.", "", 0, 0));
	SAY(setxattr("x", "trusted.t", "t", 1, 0));
	n = getxattr("x", "user.a", value, sizeof(value));
	printf("%zd bytes %.5s\n", n, value);
	SAY(getxattr("x", "user.a", value, 2));
	printf("size %zd\n", getxattr("x", "user.a", NULL, 0));
	SAY(getxattr("x", "user.none", value, sizeof(value)));
	printf("list of %zd\n", listxattr("x", NULL, 0));
	n = listxattr("x", list, sizeof(list));
	printf("has trusted.t %d\n", n > 0 && memmem(list, (size_t)n, "trusted.t", 10) != NULL);
	SAY(listxattr("x", list, 3));
	SAY(removexattr("x", "user.a"));
	SAY(removexattr("x", "user.a"));
	SAY(setxattr("fifo", "user.a", "1", 1, 0));
	SAY(setxattr("d", "user.d", "1", 1, 0));
	SAY(lsetxattr("s", "user.a", "1", 1, 0));
	SAY(setxattr("x", "security.capability", capability, sizeof(capability), 0));
	printf("capability of %zd\n", getxattr("x", "security.capability", value, sizeof(value)));
	SAY(put("x", 0, "written"));
	SAY(getxattr("x", "security.capability", value, sizeof(value)));
	SAY(setxattr("x", "security.capability", capability, sizeof(capability), 0));
	SAY(chown("x", 5, 5));
	SAY(getxattr("x", "security.capability", value, sizeof(value)));
}

static long lock(int fd, int command, short type, off_t start, off_t length)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
	long rc = fcntl(fd, command, &l);

	if (command == F_GETLK && rc == 0)
		printf("  lock: type %d %lld+%lld\n", l.l_type, (long long)l.l_start,
		       (long long)l.l_len);
	return rc;
}

static void locker_work(void)
{
	int fd = open("locks", O_RDWR);

	SAY(lock(fd, F_GETLK, F_WRLCK, 0, 0));
	SAY(lock(fd, F_SETLK, F_WRLCK, 5, 2));
	SAY(lock(fd, F_SETLK, F_RDLCK, 5, 2));
	SAY(lock(fd, F_SETLK, F_WRLCK, 100, 10));
	SAY(lock(fd, F_SETLK, F_RDLCK, 20, 5));
	SAY(flock(fd, LOCK_EX | LOCK_NB));
	SAY(flock(fd, LOCK_SH | LOCK_NB));
}

static void test_locks(void)
{
	int fd, other;
	pid_t child;
	int ready[2];
	char c;

	printf("# locks\n");
	SAY(put("locks", O_CREAT, "0123456789"));
	fd = open("locks", O_RDWR);
	SAY(lock(fd, F_SETLK, F_WRLCK, 0, 10));
	SAY(lock(fd, F_SETLK, F_RDLCK, 20, 10));
	SAY(flock(fd, LOCK_SH | LOCK_NB));
	as(0, 0, 0, locker_work);
	other = open("locks", O_RDONLY);
	close(other); /* with it go the locks of fcntl's kind, but not flock's */
	as(0, 0, 0, locker_work);
	SAY(flock(fd, LOCK_UN));
	/* One waits for the other. */
	fflush(stdout);
	if (pipe(ready) < 0)
		return;
	SAY(lock(fd, F_SETLK, F_WRLCK, 0, 1));
	fflush(stdout);
	child = fork();
	if (child == 0) {
		int mine = open("locks", O_RDWR);

		if (write(ready[1], "r", 1) < 0)
			_exit(1);
		say("waiting", lock(mine, F_SETLKW, F_WRLCK, 0, 1));
		show("locks");
		fflush(stdout);
		_exit(0);
	}
	if (read(ready[0], &c, 1) < 0)
		return;
	usleep(200000);
	say("pwrite", pwrite(fd, "first", 5, 0));
	SAY(lock(fd, F_SETLK, F_UNLCK, 0, 1));
	waitpid(child, NULL, 0);
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 2 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: fsops DIR\n");
		return 2;
	}
	umask(022);
	test_names();
	test_links();
	test_rename();
	test_nodes();
	test_modes();
	test_users();
	test_data();
	test_tmpfile();
	test_directories();
	test_xattrs();
	test_locks();
	return 0;
}
