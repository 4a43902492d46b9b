"""config.json: process."""
import os
import subprocess
import unittest

from harness import RuntimeTest


class Process(RuntimeTest):
    def test_args_and_exit_code(self):
        self.shell("exit 7")
        self.assertEqual(self.run_container().returncode, 7)

    def test_signal_becomes_128_plus_number(self):
        self.shell("kill -9 $$")
        # Signals other than the kernel's do not reach pid 1 of a pid namespace from inside.
        self.process["args"] = ["/bin/sh", "-c", "sh -c 'kill -9 $$'; exit $?"]
        self.assertEqual(self.run_container().returncode, 137)

    def test_environment_is_exactly_what_is_given(self):
        self.process["env"] = ["PATH=/bin", "A=1", "B=x y"]
        seen = self.output("env | sort").split("\n")
        self.assertIn("A=1", seen)
        self.assertIn("B=x y", seen)
        self.assertFalse([line for line in seen if line.startswith(("BERTH", "_OCI", "_LIBCONTAINER"))])

    def test_path_of_the_container_finds_the_program(self):
        os.makedirs(self.rootfs + "/opt")
        os.symlink("/bin/busybox", self.rootfs + "/opt/echo")
        os.unlink(self.rootfs + "/bin/echo")
        self.process["env"] = ["PATH=/opt"]
        self.process["args"] = ["echo", "found"]
        self.assertEqual(self.output(), "found")

    def test_cwd(self):
        self.process["cwd"] = "/tmp"
        self.assertEqual(self.output("pwd"), "/tmp")

    def test_cwd_that_is_missing_is_made(self):
        self.process["cwd"] = "/does/not/exist"
        self.assertEqual(self.output("pwd"), "/does/not/exist")

    def test_cwd_must_be_absolute(self):
        self.process["cwd"] = "tmp"
        self.refused()

    def test_empty_args_are_refused(self):
        self.process["args"] = []
        self.refused()

    def test_missing_program_names_it(self):
        self.process["args"] = ["no-such-program"]
        self.refused("no-such-program", "executable file not found in $PATH")

    def test_missing_absolute_program(self):
        self.process["args"] = ["/no/such/program"]
        self.refused("/no/such/program", "no such file or directory")

    def test_program_without_permission(self):
        with open(self.rootfs + "/plain", "w") as out:
            out.write("text")
        os.chmod(self.rootfs + "/plain", 0o644)
        self.process["args"] = ["/plain"]
        self.refused("permission denied")

    def test_user_and_groups(self):
        self.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6]}
        self.assertEqual(self.output("id -u; id -g; grep ^Groups: /proc/self/status").split(),
                         ["1000", "1001", "Groups:", "5", "6"])

    def test_umask(self):
        self.process["user"] = {"uid": 0, "gid": 0, "umask": 0o77}
        self.assertEqual(self.output("umask"), "0077")

    def test_default_umask(self):
        self.assertEqual(self.output("umask"), "0022")

    def test_capabilities_are_exactly_those_given(self):
        self.process["capabilities"] = {
            "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
            "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
        caps = dict(line.split(":\t") for line in
                    self.output("grep ^Cap /proc/self/status").split("\n"))
        # The shell's own exec of grep keeps what root's exec rules give: look at the set limits.
        self.assertEqual(int(caps["CapBnd"], 16), 1 << 5 | 1 << 0)
        self.assertEqual(int(caps["CapInh"], 16), 1 << 5)
        self.assertEqual(int(caps["CapAmb"], 16), 1 << 5)

    def test_ambient_capabilities_of_a_user(self):
        self.process["user"] = {"uid": 1000, "gid": 1000}
        self.process["capabilities"] = {k: ["CAP_NET_BIND_SERVICE"] for k in (
            "bounding", "permitted", "effective", "inheritable", "ambient")}
        caps = self.output("grep ^CapEff /proc/self/status").split()[1]
        self.assertEqual(int(caps, 16), 1 << 10)

    def test_user_without_capabilities_has_none(self):
        self.process["user"] = {"uid": 1000, "gid": 1000}
        caps = self.output("grep -E '^Cap(Eff|Prm|Inh|Amb)' /proc/self/status").split()[1::2]
        self.assertEqual({int(c, 16) for c in caps}, {0})

    def test_inheritable_is_empty_unless_asked_for(self):
        self.assertEqual(int(self.output("grep ^CapInh /proc/self/status").split()[1], 16), 0)

    def test_no_capabilities_member_drops_all(self):
        del self.process["capabilities"]
        self.assertEqual(int(self.output("grep ^CapBnd /proc/self/status").split()[1], 16), 0)

    def test_no_new_privileges(self):
        self.assertEqual(self.output("grep ^NoNewPrivs /proc/self/status").split()[1], "1")
        self.process["noNewPrivileges"] = False
        self.assertEqual(self.output("grep ^NoNewPrivs /proc/self/status").split()[1], "0")

    def test_rlimits(self):
        self.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99},
                                   {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
        limits = self.output("cat /proc/self/limits")
        self.assertRegex(limits, r"Max open files\s+77\s+99")
        self.assertRegex(limits, r"Max core file size\s+0\s+0")

    def test_duplicate_rlimits_are_refused(self):
        self.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2
        self.refused()

    def test_unknown_rlimit_is_refused(self):
        self.process["rlimits"] = [{"type": "RLIMIT_BANANA", "soft": 0, "hard": 0}]
        self.refused()

    def test_oom_score_adj(self):
        self.process["oomScoreAdj"] = 500
        self.assertEqual(self.output("cat /proc/self/oom_score_adj"), "500")

    def test_terminal_is_refused_without_a_console_socket_when_detached(self):
        self.process["terminal"] = True
        self.write_config()
        result = self.runtime("create", "--bundle", self.bundle, self.new_id())
        self.assertNotEqual(result.returncode, 0)

    def test_console_socket_without_terminal_is_refused(self):
        self.write_config()
        result = self.runtime("create", "--bundle", self.bundle, "--console-socket",
                              self.work + "/none", self.new_id())
        self.assertNotEqual(result.returncode, 0)

    def test_stdin_reaches_the_process(self):
        self.process["args"] = ["cat"]
        self.write_config()
        result = subprocess.run(self.command("run", "--bundle", self.bundle, self.new_id()),
                                input="through\n", capture_output=True, text=True, timeout=30)
        self.assertEqual(result.stdout, "through\n", result.stderr)

    def test_descriptors_of_the_caller_do_not_leak(self):
        self.shell("ls /proc/self/fd | wc -l; ls -l /proc/self/fd")
        self.write_config()
        with open("/etc/hostname") as leak:
            os.set_inheritable(leak.fileno(), True)
            result = subprocess.run(self.command("run", "--bundle", self.bundle, self.new_id()),
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                    timeout=30, close_fds=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        # ls itself holds one descriptor, of the directory.
        self.assertEqual(result.stdout.split()[0], "4", result.stdout)

    def test_preserved_descriptors_are_kept(self):
        self.shell("cat <&3")
        self.write_config()
        read, write = os.pipe()
        os.write(write, b"kept")
        os.close(write)
        command = self.command("run", "--preserve-fds", "1", "--bundle", self.bundle, self.new_id())
        result = subprocess.run(["/bin/sh", "-c", f'exec "$@" 3<&{read}', "sh", *command],
                                stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=30, pass_fds=(read,))
        os.close(read)
        self.assertEqual(result.stdout, "kept", result.stderr)

    def test_cwd_through_a_descriptor_of_the_host_is_refused(self):
        for number in range(3, 12):
            self.process["cwd"] = f"/proc/self/fd/{number}"
            self.process["args"] = ["ls", "-a", "."]
            result = self.run_container()
            self.assertNotEqual(result.returncode, 0, result.stdout)


if __name__ == "__main__":
    unittest.main()
