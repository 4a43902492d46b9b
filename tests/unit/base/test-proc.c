/* proc and spawn: exit codes, identities, signals; what a started program is given, and nothing more. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/str.h"

#include "scratch.h"
#include <cmocka.h>

/* Runs `sh -c script`, gathers its standard output and returns the exit code. */
static int shell(struct proc_spawn spawn, const char *script, char **ret_output)
{
	char *argv[] = {str_copy("sh"), str_copy("-c"), str_copy(script), NULL};
	own_fd int pidfd = -1;
	pid_t pid;
	size_t len;
	int fds[2], code;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	spawn.path = "/bin/sh";
	spawn.argv = argv;
	spawn.stdio[0] = -1;
	spawn.stdio[1] = fds[1];
	spawn.stdio[2] = 2;
	assert_int_equal(proc_spawn(&spawn, &pid, &pidfd, NULL), 0);
	close(fds[1]);
	assert_int_equal(fd_read_all(fds[0], 65536, ret_output, &len), 0);
	close(fds[0]);
	code = proc_wait(pidfd, NULL);
	for (int i = 0; i < 3; i++)
		free(argv[i]);
	return code;
}

static void exit_codes_are_a_shells(void **state)
{
	static const struct {
		const char *script;
		int code;
	} cases[] = {
		{"exit 0", 0}, {"exit 255", 255}, {"kill -TERM $$", 143}, {"kill -KILL $$", 137}};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_mem char *output = NULL;

		assert_int_equal(shell((struct proc_spawn){0}, cases[i].script, &output),
				 cases[i].code);
	}
}

/* Leaves something open without close-on-exec, which is exactly what must not arrive. */
static void descriptors_are_exactly_those_given(void **state)
{
	int leak = open("/dev/zero", O_RDONLY), high = fcntl(leak, F_DUPFD, 200);
	int keep[] = {open("/dev/full", O_RDONLY | O_CLOEXEC), -1, leak};
	own_mem char *output = NULL;

	(void)state;
	assert_int_equal(shell((struct proc_spawn){.keep = keep, .keep_count = 3},
			       "for f in 0 3 4 5; do readlink /proc/$$/fd/$f; done; "
			       /* No pipe: the shell would have its ends open for a moment. */
			       "ls /proc/$$/fd; :",
			       &output),
			 0);
	assert_string_equal(output,
			    "/dev/null\n/dev/full\n/dev/null\n/dev/zero\n0\n1\n2\n3\n4\n5\n");
	close(leak);
	close(high);
	close(keep[0]);
}

/* Targets that are also sources, in the worst order: each must survive the placing of the others. */
static void descriptors_may_change_places(void **state)
{
	own_fd int full = open("/dev/full", O_RDWR | O_CLOEXEC);
	own_fd int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	int keep[] = {zero, full};
	own_mem char *output = NULL;

	(void)state;
	assert_int_equal(shell((struct proc_spawn){.keep = keep, .keep_count = 2},
			       "readlink /proc/$$/fd/3 /proc/$$/fd/4", &output),
			 0);
	assert_string_equal(output, "/dev/zero\n/dev/full\n");
}

static void too_many_descriptors_are_refused(void **state)
{
	int keep[64] = {0};
	struct proc_spawn spawn = {.path = "/bin/true",
				   .argv = (char *[]){(char[]){"true"}, NULL},
				   .stdio = {-1, -1, -1},
				   .keep = keep,
				   .keep_count = 64};
	pid_t pid;
	int pidfd;

	(void)state;
	assert_int_equal(proc_spawn(&spawn, &pid, &pidfd, NULL), -EMFILE);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void missing_program_is_an_error_and_no_zombie(void **state)
{
	static const struct {
		const char *path;
		int rc;
	} cases[] = {{"/no/such", -ENOENT}, {"/etc/passwd", -EACCES}, {"/tmp", -EACCES}};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct proc_spawn spawn = {.path = cases[i].path,
					   .argv = (char *[]){(char[]){"x"}, NULL},
					   .stdio = {-1, -1, -1}};
		struct error err = {0};
		int pidfd = -7, lowest = dup(0);
		pid_t pid = -7;

		assert_int_equal(proc_spawn(&spawn, &pid, &pidfd, &err), cases[i].rc);
		assert_non_null(strstr(err.text, cases[i].path));
		assert_true(pid == -7 && pidfd == -7);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
		assert_int_equal(errno, ECHILD);
		/* Nor has a descriptor been left. */
		close(lowest);
		assert_int_equal(dup(0), lowest);
		close(lowest);
	}
}

static void program_is_started_from_a_descriptor(void **state)
{
	struct proc_spawn spawn = {.exe_fd = open("/bin/true", O_PATH | O_CLOEXEC),
				   .argv = (char *[]){(char[]){"true"}, NULL},
				   .stdio = {-1, -1, -1}};
	own_fd int pidfd = -1;
	pid_t pid;

	(void)state;
	assert_int_equal(proc_spawn(&spawn, &pid, &pidfd, NULL), 0);
	assert_int_equal(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(proc_wait(pidfd, NULL), 0);
	close(spawn.exe_fd);
}

static void environment_and_session_are_as_asked(void **state)
{
	char *env[] = {(char[]){"ONLY=this"}, NULL};
	own_mem char *output = NULL;

	(void)state;
	assert_int_equal(shell((struct proc_spawn){.env = env, .new_session = true},
			       "echo \"$ONLY,$HOME\"; set -- $(cat /proc/$$/stat); "
			       "test $6 = $$ && echo leader",
			       &output),
			 0);
	assert_string_equal(output, "this,\nleader\n");
}

/* One signal ignored, one handled, one blocked: none of it reaches the program, and ours stays. */
static void signals_are_reset_in_the_child_only(void **state)
{
	own_mem char *output = NULL;
	sigset_t set, now;

	(void)state;
	signal(SIGUSR1, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	assert_int_equal(
		shell((struct proc_spawn){0}, "grep -E '^Sig(Blk|Ign)' /proc/self/status", &output),
		0);
	assert_string_equal(output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	sigprocmask(SIG_UNBLOCK, &set, &now);
	assert_true(sigismember(&now, SIGTERM) && sigismember(&now, SIGUSR2));
	assert_ptr_equal(signal(SIGUSR1, SIG_DFL), SIG_IGN);
}

static void spawn_and_end(void *data)
{
	struct proc_spawn spawn = {.path = "/bin/sleep",
				   .argv = (char *[]){(char[]){"sleep"}, (char[]){"30"}, NULL},
				   .stdio = {-1, *(int *)data, -1},
				   .die_with_parent = true};
	int pidfd;
	pid_t pid;

	child_check(proc_spawn(&spawn, &pid, &pidfd, NULL) == 0);
}

static void child_dies_with_its_parent(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(child_wait(child_start(spawn_and_end, &fds[1])), 0);
	close(fds[1]);
	/* The end of the pipe is the end of its last holder: at once, not after 30 seconds. */
	alarm(10);
	assert_int_equal(read(fds[0], &(char){0}, 1), 0);
	alarm(0);
	close(fds[0]);
}

static void wait_for_ever(void *data)
{
	(void)data;
	pause();
}

static void process_is_known_by_its_start_time(void **state)
{
	pid_t pid = child_start(wait_for_ever, NULL);
	own_fd int pidfd = proc_open(pid);
	uint64_t ticks = 0;
	siginfo_t info;
	int status;

	(void)state;
	assert_int_equal(proc_start_time(pid, &ticks), 0);
	assert_true(ticks > 0 && proc_is(pid, ticks) && !proc_is(pid, ticks + 1));
	assert_false(proc_is(0, ticks) || proc_is(-1, ticks));
	assert_int_equal(proc_signal(pidfd, SIGTERM), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_false(proc_is(pid, ticks)); /* a zombie */
	assert_int_equal(proc_wait(pidfd, &status), 128 + SIGTERM);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	assert_int_equal(proc_wait(pidfd, NULL), -ECHILD);
	assert_int_equal(proc_signal(pidfd, SIGTERM), -ESRCH);
	assert_int_equal(proc_open(pid), -ESRCH);
	assert_int_equal(proc_start_time(pid, &ticks), -ESRCH);
}

static void ending_lasts_until_collected(void **state)
{
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		pause();
	assert_true(pid > 0);
	assert_false(proc_is_ending(pid));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	assert_true(proc_is_ending(pid));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(proc_is_ending(pid));
	assert_false(proc_is_ending(0));
}

static void name_with_parentheses_does_not_confuse(void **state)
{
	uint64_t before, after;

	(void)state;
	assert_int_equal(proc_start_time(getpid(), &before), 0);
	assert_int_equal(file_put(AT_FDCWD, "/proc/self/comm", "x) Z 1 2 (3"), 0);
	assert_int_equal(proc_start_time(getpid(), &after), 0);
	assert_true(before == after && proc_is(getpid(), before));
}

static void parses_signals(void **state)
{
	const struct {
		const char *text;
		int signal;
	} cases[] = {
		{"TERM", SIGTERM},
		{"SIGTERM", SIGTERM},
		{"term", SIGTERM},
		{"SigKill", SIGKILL},
		{"15", 15},
		{"1", 1},
		{"64", 64},
		{"RTMIN", SIGRTMIN},
		{"SIGRTMIN+3", SIGRTMIN + 3},
		{"rtmax-1", SIGRTMAX - 1},
		{"RTMAX", SIGRTMAX},
		{"CLD", SIGCHLD},
		{"IO", SIGIO},
		{"POLL", SIGIO},
		{"SIGIOT", SIGABRT},
		{"WINCH", SIGWINCH},
		{"0", -EINVAL},
		{"65", -EINVAL},
		{"-9", -EINVAL},
		{"", -EINVAL},
		{"SIG", -EINVAL},
		{"NOPE", -EINVAL},
		{"SIGSIGTERM", -EINVAL},
		{"SIG15", -EINVAL},
		{"15 ", -EINVAL},
		{"RTMIN+", -EINVAL},
		{"RTMIN+99", -EINVAL},
		{"RTMIN-1", -EINVAL},
		{"RTMAX+1", -EINVAL},
		{"RTMIN+-1", -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		print_message("\"%s\"\n", cases[i].text);
		assert_int_equal(proc_parse_signal(cases[i].text), cases[i].signal);
	}
}

static void marks_descriptors_close_on_exec(void **state)
{
	int fd = open("/dev/null", O_RDONLY), high = fcntl(fd, F_DUPFD, 100);

	(void)state;
	assert_int_equal(proc_cloexec_from(100), 0);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	assert_int_equal(fcntl(high, F_GETFD), FD_CLOEXEC);
	close(fd);
	close(high);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exit_codes_are_a_shells),
		cmocka_unit_test(descriptors_are_exactly_those_given),
		cmocka_unit_test(descriptors_may_change_places),
		cmocka_unit_test(too_many_descriptors_are_refused),
		cmocka_unit_test(missing_program_is_an_error_and_no_zombie),
		cmocka_unit_test(program_is_started_from_a_descriptor),
		cmocka_unit_test(environment_and_session_are_as_asked),
		cmocka_unit_test(signals_are_reset_in_the_child_only),
		cmocka_unit_test(child_dies_with_its_parent),
		cmocka_unit_test(process_is_known_by_its_start_time),
		cmocka_unit_test(ending_lasts_until_collected),
		cmocka_unit_test(name_with_parentheses_does_not_confuse),
		cmocka_unit_test(parses_signals),
		cmocka_unit_test(marks_descriptors_close_on_exec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
