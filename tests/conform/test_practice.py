"""What the specification leaves open and engines, or the test suites of other runtimes, rely on."""

import json
import os
import signal
import subprocess
import unittest
from harness import CGROUP_V2, RuntimeTest, read, wait_for

UNKNOWN_CALL = """
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/syscall.h>
int main(void)
{
	long rc = syscall(1000);
	printf("%s", rc == -1 && errno == ENOSYS ? "ENOSYS" : errno == EPERM ? "EPERM" : "other");
	return 0;
}
"""


def mounts_below(path):
    return [line for line in read("/proc/self/mountinfo").splitlines() if path in line.split()[4]]


class Practice(RuntimeTest):
    def test_a_call_newer_than_the_profile_is_not_there(self):
        source, program = self.work + "/unknown.c", self.rootfs + "/bin/unknown"
        with open(source, "w") as out:
            out.write(UNKNOWN_CALL)
        subprocess.check_call(["cc", "-static", "-o", program, source])
        everything = ["read", "write", "exit_group", "execve", "brk", "mmap", "fstat", "newfstatat",
                      "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64",
                      "readlink", "readlinkat", "getrandom", "mprotect", "uname", "access", "ioctl",
                      "close", "close_range", "capset", "prctl", "futex", "fcntl", "openat", "open",
                      "epoll_pwait", "epoll_ctl", "epoll_wait", "getpid", "gettid", "tgkill", "sendmsg",
                      "rt_sigaction", "rt_sigreturn", "rt_sigprocmask", "nanosleep", "sendto",
                      "setresuid", "setresgid", "setgroups", "chdir", "getppid", "statx", "dup3",
                      "munmap", "madvise", "statfs", "fstatfs", "getdents64", "lseek", "pread64", "sched_yield", "getcwd", "fchdir", "sigaltstack"]
        self.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO",
                                 "architectures": ["SCMP_ARCH_X86_64"],
                                 "syscalls": [{"names": everything, "action": "SCMP_ACT_ALLOW"}]}
        self.process["args"] = ["/bin/unknown"]
        self.assertEqual(self.output(), "ENOSYS")

    def test_tmpfs_has_the_mode_of_what_it_covers(self):
        os.mkdir(self.rootfs + "/cover")
        os.chmod(self.rootfs + "/cover", 0o2710)
        self.mount("/cover", "tmpfs", "tmpfs", [])
        self.assertEqual(self.output("stat -c %a /cover"), "2710")

    def test_missing_working_directory_in_a_readonly_root(self):
        self.config["root"]["readonly"] = True
        self.process["cwd"] = "/not/there/yet"
        self.assertEqual(self.output("pwd"), "/not/there/yet")

    def test_readonly_dev_is_filled_first(self):
        for mount in self.config["mounts"]:
            if mount["destination"] == "/dev":
                mount["options"] = mount.get("options", []) + ["ro"]
        self.assertEqual(self.output("test -c /dev/null && (touch /dev/x 2>/dev/null || echo full)"),
                         "full")

    def test_proc_on_a_link_is_refused(self):
        os.rmdir(self.rootfs + "/proc")
        os.symlink("/tmp", self.rootfs + "/proc")
        self.refused("must be mounted on ordinary directory")

    def test_start_hooks_run_under_the_filter(self):
        self.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW",
                                 "syscalls": [{"names": ["mkdir", "mkdirat"],
                                               "action": "SCMP_ACT_ERRNO"}]}
        self.config["hooks"] = {"startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", "mkdir /tmp/made 2>/dev/null; true"]}]}
        self.assertEqual(self.output("ls /tmp"), "")

    def test_container_hooks_begin_in_the_root(self):
        self.config["hooks"] = {"createContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", "touch ./etc/was-here"]}]}
        self.assertEqual(self.output("ls /etc"), "was-here")

    def test_hooks_have_the_runtimes_environment(self):
        self.config["hooks"] = {"prestart": [
            {"path": "/bin/sh", "args": ["sh", "-c", 'test "$PATH" = "%s"' % os.environ["PATH"]]}]}
        self.assertEqual(self.output("echo ran"), "ran")

    def test_without_mount_namespace_nothing_stays_mounted(self):
        self.no_namespace("mount")
        self.linux.pop("maskedPaths", None)
        self.linux.pop("readonlyPaths", None)
        self.config["root"]["readonly"] = False
        try:
            inside = self.output("readlink /proc/self/ns/mnt")
            self.runtime("delete", "--force", self.ids[-1])
        finally:
            left = mounts_below(self.rootfs)
            for line in reversed(left):
                subprocess.call(["umount", "-l", line.split()[4]])
        self.assertEqual(inside, os.readlink("/proc/self/ns/mnt"))
        self.assertEqual(left, [])

    def test_device_that_the_host_does_not_have_in_a_user_namespace(self):
        self.user_namespace()
        self.linux.setdefault("devices", []).append(
            {"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "uid": 3, "gid": 4,
             "fileMode": 0o644})
        self.assertEqual(self.output("stat -c '%a %u:%g %t,%T' /dev/extra; "
                                     "head -c 3 /dev/extra | wc -c"), "644 3:4 1,5\n3")

    def test_namespaces_of_a_container_with_a_user_namespace_can_be_shared(self):
        self.user_namespace()
        first = self.start_sleeping()
        pid = self.state(first)["pid"]
        files = {"network": "net", "mount": "mnt"}
        self.linux["namespaces"] = [
            {"type": n["type"]} if n["type"] == "mount" else
            {"type": n["type"], "path": f"/proc/{pid}/ns/{files.get(n['type'], n['type'])}"}
            for n in self.linux["namespaces"]]
        del self.linux["uidMappings"], self.linux["gidMappings"]
        self.assertEqual(self.output("cat /proc/self/uid_map").split(), ["0", "100000", "65536"])

    def test_preserved_descriptors_may_have_holes(self):
        read_end, write_end = os.pipe()
        os.dup2(write_end, 9)
        os.write(write_end, b"through\n")
        os.dup2(read_end, 8)
        os.set_inheritable(8, True)
        self.write_config()
        self.shell("head -n 1 <&8; ls /proc/self/fd | wc -l")
        self.write_config()
        result = subprocess.run(self.command("run", "--bundle", self.bundle, "--preserve-fds", "12",
                                             self.new_id()), stdin=subprocess.DEVNULL, pass_fds=[8],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
        for fd in (8, 9, read_end, write_end):
            os.close(fd)
        self.assertEqual(result.stdout.split()[0], "through", result.stderr)

    def test_exec_cgroup_stays_below(self):
        name = self.start_sleeping()
        result = self.runtime("exec", "--cgroup", "..", name, "true")
        self.assertEqual(result.returncode, 255)
        self.assertIn(" .. is not a sub cgroup path", result.stderr)
        result = self.runtime("exec", "--cgroup", "absent", name, "true")
        self.assertIn("/absent/cgroup.procs: no such file", result.stderr)
        self.exec(name, "true", flags=["--cgroup", "/"])

    def test_exec_has_no_new_privileges_where_it_is_asked_for(self):
        name = self.start_sleeping()
        for flags, expected in (([], "0"), (["--no-new-privs"], "1")):
            self.assertEqual(self.exec(name, "grep", "NoNewPrivs", "/proc/self/status",
                                       flags=flags).split()[1], expected)
        path = self.work + "/process.json"
        with open(path, "w") as out:
            json.dump({**self.process, "args": ["grep", "NoNewPrivs", "/proc/self/status"]}, out)
        result = self.runtime("exec", "--process", path, name)
        self.assertEqual(result.stdout.split()[1:], ["1"], result.stderr)

    def test_what_is_wrong_is_said_in_the_words_that_others_look_for(self):
        self.write_config()
        self.assertIn("invalid character `/` in the ID",
                      self.runtime("create", "--bundle", self.bundle, "a/b").stderr)
        self.process["terminal"] = True
        self.write_config()
        self.assertIn("use --console-socket", self.runtime(
            "run", "--detach", "--bundle", self.bundle, self.new_id()).stderr)

    def test_slash_at_the_end_of_a_device(self):
        self.linux["devices"] = [{"path": "/dev/extra/", "type": "c", "major": 1, "minor": 5}]
        self.assertEqual(self.output("stat -c %t,%T /dev/extra"), "1,5")

    def test_argument_written_as_a_number(self):
        self.process["args"] = ["echo", 17]
        self.assertEqual(self.output(), "17")

    def test_signal_0_and_all_of_a_stopped_container(self):
        name = self.start_sleeping()
        self.ok("kill", name, "KILL")
        self.wait_status(name, "stopped")
        self.ok("kill", "--all", name, "0")

    def test_stack_limit(self):
        self.process["rlimits"] = [{"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 1 << 20}]
        self.assertEqual(self.output("ulimit -s"), "1024")

    def test_words_that_say_nothing_about_a_bind_mount(self):
        os.mkdir(self.work + "/shown")
        self.mount("/mnt", self.work + "/shown", options=["bind", "mode=755"])
        self.assertEqual(self.output("test -d /mnt && echo there"), "there")

    def test_label_without_selinux(self):
        if os.path.exists("/sys/fs/selinux/enforce"):
            self.skipTest("SELinux is on")
        self.linux["mountLabel"] = "system_u:object_r:container_file_t:s0"
        self.assertEqual(self.output("echo ran"), "ran")

    @unittest.skipIf(os.environ.get("CONTROL") == "runc", "waits for the tracer for ever")
    def test_delete_ends_a_tracer_in_the_cgroup_that_hangs(self):
        self.shell("sleep 1000 & wait")
        name = self.create()
        self.ok("start", name)
        init = self.state(name)["pid"]
        children = f"/proc/{init}/task/{init}/children"
        child = wait_for(lambda: read(children).split(), "the second process")[0]
        tracer = subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-p", child])
        try:
            wait_for(lambda: f"TracerPid:\t{tracer.pid}" in read(f"/proc/{child}/status"), "the tracer")
            os.kill(tracer.pid, signal.SIGSTOP)
            for line in read(f"/proc/{init}/cgroup").splitlines():
                _, names, path = line.split(":", 2)
                top = "/sys/fs/cgroup" if CGROUP_V2 else "/sys/fs/cgroup/" + (names.replace("name=", "") or "unified")
                with open(f"{top}{path}/cgroup.procs", "w") as procs:
                    procs.write(str(tracer.pid))
            self.ok("delete", "--force", name)
            self.assertEqual(tracer.wait(10), -signal.SIGKILL)
        finally:
            tracer.kill()
            tracer.wait()


if __name__ == "__main__":
    unittest.main()
