"""The runtime's operations, hooks and command line."""
import array
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import threading
import unittest

from harness import RuntimeTest, read, wait_for


class Lifecycle(RuntimeTest):
    def test_created_then_running_then_stopped(self):
        self.shell("echo started; sleep 0.3")
        name = self.create()
        state = self.state(name)
        self.assertEqual(state["status"], "created")
        self.assertEqual(state["id"], name)
        self.assertEqual(state["bundle"], self.bundle)
        self.assertTrue(os.path.exists(f"/proc/{state['pid']}"))
        self.assertEqual(self.written(name), "")
        self.ok("start", name)
        self.wait_status(name, "stopped")
        self.assertEqual(self.written(name), "started\n")
        self.ok("delete", name)
        self.assertNotEqual(self.runtime("state", name).returncode, 0)

    def test_state_has_the_specified_members(self):
        self.config["annotations"] = {"org.example": "value"}
        name = self.start_sleeping()
        state = self.state(name)
        self.assertLessEqual({"ociVersion", "id", "status", "pid", "bundle"}, set(state))
        self.assertEqual(state["annotations"]["org.example"], "value")
        self.assertRegex(state["ociVersion"], r"^1\.\d+\.\d+")

    def test_id_in_use_is_refused(self):
        name = self.start_sleeping()
        result = self.runtime("create", "--bundle", self.bundle, name)
        self.assertNotEqual(result.returncode, 0)
        self.assertEqual(self.state(name)["status"], "running")

    def test_bad_ids_are_refused(self):
        self.write_config()
        for name in ("", "..", ".", "a/b", "../x", "a b", "a\nb"):
            self.assertNotEqual(self.runtime("create", "--bundle", self.bundle, name).returncode, 0, name)

    def test_start_twice_is_refused(self):
        name = self.start_sleeping()
        self.assertNotEqual(self.runtime("start", name).returncode, 0)

    def test_start_of_a_stopped_one_is_refused(self):
        self.process["args"] = ["true"]
        name = self.create()
        self.ok("start", name)
        self.wait_status(name, "stopped")
        self.assertNotEqual(self.runtime("start", name).returncode, 0)

    def test_delete_of_a_running_one_is_refused(self):
        name = self.start_sleeping()
        self.assertNotEqual(self.runtime("delete", name).returncode, 0)
        self.assertEqual(self.state(name)["status"], "running")

    def test_delete_force(self):
        name = self.start_sleeping()
        pid = self.state(name)["pid"]
        self.ok("delete", "--force", name)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "its process to end")

    def test_delete_of_a_created_one(self):
        name = self.create()
        pid = self.state(name)["pid"]
        self.ok("delete", "--force", name)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "its process to end")

    def test_delete_force_of_what_does_not_exist_succeeds(self):
        self.ok("delete", "--force", "never-was")

    def test_unknown_container(self):
        for verb in ("state", "start", "kill", "delete"):
            result = self.runtime(verb, "never-was")
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("does not exist", result.stderr)

    def test_kill(self):
        self.shell("trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.05; done")
        name = self.create()
        self.ok("start", name)
        wait_for(lambda: "ready" in self.written(name), "the trap")
        self.ok("kill", name, "USR1")
        self.wait_status(name, "stopped")
        self.assertIn("got", self.written(name))

    def test_kill_by_number_and_by_full_name(self):
        for sent in ("9", "SIGKILL"):
            name = self.start_sleeping()
            self.ok("kill", name, sent)
            self.wait_status(name, "stopped")

    def test_kill_of_a_stopped_one(self):
        self.process["args"] = ["true"]
        name = self.create()
        self.ok("start", name)
        self.wait_status(name, "stopped")
        result = self.runtime("kill", name, "9")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("container not running", result.stderr)

    def test_kill_with_a_bad_signal(self):
        name = self.start_sleeping()
        self.assertNotEqual(self.runtime("kill", name, "BANANA").returncode, 0)

    def test_children_die_with_pid_1(self):
        self.shell("sleep 999 & echo $! >/child; sleep 998")
        name = self.create()
        self.ok("start", name)
        wait_for(lambda: os.path.exists(self.rootfs + "/child"), "the child")
        self.ok("kill", name, "KILL")
        self.wait_status(name, "stopped")
        self.ok("delete", name)
        found = subprocess.run(["pgrep", "-fx", "sleep 999"], capture_output=True, text=True).stdout
        self.assertEqual(found, "")

    def test_cgroups_are_gone_after_delete(self):
        name = self.start_sleeping()
        pid = self.state(name)["pid"]
        group = self.host_cgroup(pid, "memory")
        self.assertIn(name, group)
        self.ok("delete", "--force", name)
        self.assertFalse(os.path.exists(group))

    def test_pid_file(self):
        pid_file = self.work + "/pid"
        name = self.start_sleeping("--pid-file", pid_file)
        self.assertEqual(int(read(pid_file)), self.state(name)["pid"])

    def test_list(self):
        name = self.start_sleeping()
        listed = json.loads(self.ok("list", "--format", "json"))
        self.assertEqual([(c["id"], c["status"]) for c in listed], [(name, "running")])
        self.assertEqual(self.ok("list", "-q").split(), [name])
        self.assertIn("PID", self.ok("list").split("\n")[0])

    def test_empty_list(self):
        self.assertIn(json.loads(self.ok("list", "--format", "json")), (None, []))

    def test_run_detached(self):
        self.process["args"] = ["sleep", "1000"]
        self.write_config()
        name = self.new_id()
        subprocess.run(self.command("run", "--detach", "--bundle", self.bundle, name), check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=30)
        self.assertEqual(self.state(name)["status"], "running")

    def test_run_leaves_nothing(self):
        self.output("true")
        self.assertEqual(self.ok("list", "-q").strip(), "")

    def test_pause_and_resume(self):
        name = self.start_sleeping()
        self.ok("pause", name)
        self.assertEqual(self.state(name)["status"], "paused")
        self.assertNotEqual(self.runtime("exec", name, "true").returncode, 0)
        self.ok("resume", name)
        self.assertEqual(self.state(name)["status"], "running")

    def test_delete_force_of_a_paused_one(self):
        name = self.start_sleeping()
        self.ok("pause", name)
        self.ok("delete", "--force", name)

    def test_update(self):
        name = self.start_sleeping()
        self.ok("update", "--pids-limit", "9", name)
        group = self.host_cgroup(self.state(name)["pid"], "pids")
        self.assertEqual(read(group + "/pids.max").strip(), "9")
        # Standard input that cannot be opened a second time.
        ours, theirs = socket.socketpair()
        ours.sendall(b'{"pids": {"limit": 8}}')
        ours.close()
        self.ok("update", "--resources", "-", name, stdin=theirs)
        theirs.close()
        self.assertEqual(read(group + "/pids.max").strip(), "8")

    def test_ps(self):
        name = self.start_sleeping()
        pids = json.loads(self.ok("ps", "--format", "json", name))
        self.assertEqual(pids, [self.state(name)["pid"]])

    def test_events_stats(self):
        name = self.start_sleeping()
        event = json.loads(self.ok("events", "--stats", name))
        self.assertEqual((event["type"], event["id"]), ("stats", name))
        self.assertEqual(event["data"]["pids"]["current"], 1)
        self.assertGreater(event["data"]["memory"]["usage"]["usage"], 0)

    def test_errors_go_to_the_log_as_json(self):
        log = self.work + "/log"
        result = subprocess.run([*self.command(), "--log", log, "--log-format", "json",
                                 "start", "never-was"], capture_output=True, text=True, timeout=30)
        self.assertNotEqual(result.returncode, 0)
        last = json.loads([l for l in read(log).splitlines() if '"error"' in l][-1])
        self.assertLessEqual({"level", "msg", "time"}, set(last))
        self.assertIn("does not exist", last["msg"])

    def test_spec_runs_after_setting_the_arguments(self):
        os.makedirs(self.work + "/fresh")
        self.ok("spec", "--bundle", self.work + "/fresh")
        config = json.loads(read(self.work + "/fresh/config.json"))
        self.assertEqual(config["process"]["args"], ["sh"])
        config["process"].update(args=["echo", "fine"], terminal=False)
        config["root"]["readonly"] = False
        self.config = config
        self.assertEqual(self.output(), "fine")

    def test_features(self):
        features = json.loads(self.ok("features"))
        self.assertIn("rbind", features["mountOptions"])
        self.assertIn("createRuntime", features["hooks"])
        self.assertTrue(features["linux"]["seccomp"]["enabled"])

    def test_says_whether_checkpoints_can_be_made_here(self):
        works = bool(shutil.which("criu")) and subprocess.run(
            ["criu", "check", "--no-default-config"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        annotations = json.loads(self.ok("features"))["annotations"]
        self.assertEqual(annotations["org.opencontainers.runc.checkpoint.enabled"], "true" if works else "false")
        self.assertEqual("+CRIU" in self.ok("--version"), works)

    def test_features_name_the_annotations_that_do_something_on_the_host(self):
        unsafe = json.loads(self.ok("features"))["potentiallyUnsafeConfigAnnotations"]
        self.assertIn("org.criu.config", unsafe)
        self.assertIn("org.systemd.property.", unsafe)

    def test_version(self):
        self.assertIn("spec:", self.ok("--version"))


class Exec(RuntimeTest):
    def test_exec_runs_inside(self):
        name = self.start_sleeping()
        self.assertEqual(self.exec(name, "hostname"), "conform")
        for kind in ("pid", "net", "ipc", "uts", "mnt"):
            self.assertEqual(self.exec(name, "readlink", f"/proc/self/ns/{kind}"),
                             os.readlink(f"/proc/{self.state(name)['pid']}/ns/{kind}"))

    def test_exit_code(self):
        name = self.start_sleeping()
        self.assertEqual(self.runtime("exec", name, "sh", "-c", "exit 9").returncode, 9)

    def test_flags(self):
        name = self.start_sleeping()
        self.assertEqual(self.exec(name, "pwd", flags=["--cwd", "/tmp"]), "/tmp")
        self.assertEqual(self.exec(name, "sh", "-c", "echo $X", flags=["--env", "X=1"]), "1")
        self.assertEqual(self.exec(name, "id", "-u", flags=["--user", "12:34"]), "12")
        self.assertEqual(self.exec(name, "id", "-g", flags=["--user", "12:34"]), "34")

    def test_process_file(self):
        name = self.start_sleeping()
        path = self.work + "/process.json"
        with open(path, "w") as out:
            json.dump({**self.process, "args": ["sh", "-c", "pwd; id -u"], "cwd": "/etc",
                       "user": {"uid": 7, "gid": 8}}, out)
        result = self.runtime("exec", "--process", path, name)
        self.assertEqual(result.stdout.split(), ["/etc", "7"], result.stderr)

    def test_capabilities_and_limits_are_the_containers(self):
        name = self.start_sleeping()
        inside = self.exec(name, "grep", "-E", "^(CapBnd|CapInh)", "/proc/self/status")
        init = "\n".join(line for line in read(f"/proc/{self.state(name)['pid']}/status").split("\n")
                         if re.match("CapBnd|CapInh", line))
        self.assertEqual(inside, init)

    def test_exec_is_in_the_cgroup(self):
        self.namespace("cgroup")
        name = self.start_sleeping()
        paths = {line.split(":", 2)[2] for line in self.exec(name, "cat", "/proc/self/cgroup").split("\n")}
        self.assertEqual(paths, {"/"})

    def test_exec_in_a_user_namespace(self):
        self.user_namespace()
        name = self.start_sleeping()
        self.assertEqual(self.exec(name, "cat", "/proc/self/uid_map").split()[1], "100000")

    def test_missing_program(self):
        name = self.start_sleeping()
        result = self.runtime("exec", name, "no-such-program")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("executable file not found in $PATH", result.stderr)

    def test_not_running(self):
        name = self.create()
        self.ok("kill", name, "KILL")
        self.wait_status(name, "stopped")
        self.assertNotEqual(self.runtime("exec", name, "true").returncode, 0)

    def test_detached_with_pid_file(self):
        name = self.start_sleeping()
        pid_file = self.work + "/exec.pid"
        subprocess.run(self.command("exec", "--detach", "--pid-file", pid_file, name, "sleep", "77"),
                       check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=30)
        pid = int(read(pid_file))
        self.assertIn("sleep\x0077", read(f"/proc/{pid}/cmdline"))


class StatusFile(RuntimeTest):
    def test_container_has_one_as_crun_does(self):
        self.process["args"] = ["sleep", "1000"]
        for make in (self.create, self.start_detached):
            with self.subTest(make=make.__name__):
                self.look(make())

    def start_detached(self):
        self.write_config()
        name = self.new_id()
        with open(os.devnull, "r+") as nothing:
            subprocess.run(self.command("run", "--detach", "--bundle", self.bundle, name), stdin=nothing,
                           stdout=nothing, stderr=nothing, check=True, timeout=60)
        return name

    def look(self, name):
        state = json.loads(self.ok("state", name))
        status = json.loads(read(os.path.join(self.root, name, "status")))
        self.assertEqual((status["pid"], status["bundle"]), (state["pid"], state["bundle"]))
        descriptors = json.loads(status["external_descriptors"])
        self.assertEqual(len(descriptors), 3)
        for number, what in enumerate(descriptors):
            self.assertEqual(what, os.readlink(f"/proc/{state['pid']}/fd/{number}"))
        self.ok("delete", "--force", name)
        self.assertFalse(os.path.exists(os.path.join(self.root, name)))


class Hooks(RuntimeTest):
    def hook(self, kind, script, **more):
        """Adds a hook on the host that runs a shell script with the state on its standard input."""
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(
            {"path": "/bin/sh", "args": ["sh", "-c", script], **more})

    def test_order_and_state(self):
        for kind in ("prestart", "createRuntime", "poststart", "poststop"):
            self.hook(kind, f"cat >{self.work}/{kind}; echo {kind} >>{self.work}/order")
        self.process["args"] = ["sleep", "1000"]
        name = self.create()
        self.assertEqual(read(self.work + "/order").split(), ["prestart", "createRuntime"])
        self.ok("start", name)
        wait_for(lambda: os.path.exists(self.work + "/poststart"), "poststart")
        self.ok("delete", "--force", name)
        self.assertEqual(read(self.work + "/order").split(),
                         ["prestart", "createRuntime", "poststart", "poststop"])
        state = json.loads(read(self.work + "/createRuntime"))
        self.assertEqual((state["id"], state["bundle"]), (name, self.bundle))
        self.assertGreater(state["pid"], 0)
        self.assertEqual(json.loads(read(self.work + "/poststop"))["status"], "stopped")

    @unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "needs two processors")
    def test_poststart_comes_after_first_steps_of_a_program_that_waits_for_a_processor(self):
        crowded = min(os.sched_getaffinity(0))
        crowd = [subprocess.Popen(["taskset", "-c", str(crowded), "sh", "-c", "while :; do :; done"])
                 for _ in range(2)]
        try:
            self.linux["resources"]["cpu"] = {"cpus": str(crowded)}
            self.process["scheduler"] = {"policy": "SCHED_OTHER", "nice": 10}
            self.shell("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo program >>/order; exec sleep 1000")
            self.hook("poststart", f"echo hook >>{self.rootfs}/order")
            for _ in range(6):
                name = self.create()
                self.ok("start", name)
                self.ok("delete", "--force", name)
            self.assertEqual(read(self.rootfs + "/order").split(), ["program", "hook"] * 6)
        finally:
            for process in crowd:
                process.kill()
                process.wait()

    def test_create_container_runs_in_the_containers_namespaces(self):
        self.hook("createContainer", f"readlink /proc/self/ns/uts >{self.work}/uts")
        self.assertEqual(self.output("readlink /proc/self/ns/uts"), read(self.work + "/uts").strip())

    def test_start_container_runs_inside_the_root(self):
        self.config["hooks"] = {"startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", "echo hook >/from-hook"]}]}
        self.assertEqual(self.output("cat /from-hook"), "hook")

    def test_environment_of_a_hook(self):
        self.hook("createRuntime", f"echo $X >{self.work}/x", env=["X=set"])
        self.output("true")
        self.assertEqual(read(self.work + "/x"), "set\n")

    def test_failing_hook_stops_the_creation(self):
        self.hook("createRuntime", "echo why >&2; exit 3")
        self.refused()
        self.assertEqual(self.ok("list", "-q").strip(), "")

    def test_failing_poststop_does_not(self):
        self.hook("poststop", "exit 3")
        name = self.start_sleeping()
        self.runtime("delete", "--force", name)
        self.assertNotEqual(self.runtime("state", name).returncode, 0)

    def test_timeout(self):
        self.hook("createRuntime", "exec sleep 60", timeout=1)
        self.refused()

    def hanging_hook(self, kind):
        """Runs a container with a hook that hangs: who waits for it, and a pipe that is open as long as it is there."""
        fifo = os.path.join(self.work, "fifo-" + kind)
        os.mkfifo(fifo)
        hook = open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
        self.addCleanup(hook.close)
        self.config["hooks"] = {}
        self.hook(kind, f"exec 9>'{fifo}'; echo hangs >&9; exec sleep 60")
        self.process["args"] = ["sleep", "1000"]
        self.write_config()
        name = self.new_id()
        waiting = subprocess.Popen(self.command("run", "--detach", "--bundle", self.bundle, name),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: hook.read(6) == b"hangs\n", "the hook")
        return name, waiting, hook

    def test_forced_deletion_ends_a_hook_that_hangs_and_who_waits_for_it(self):
        for kind in ("prestart", "createRuntime", "createContainer", "poststart"):
            with self.subTest(kind):
                name, waiting, hook = self.hanging_hook(kind)
                self.assertNotEqual(self.runtime("delete", name).returncode, 0)
                self.ok("delete", "--force", name, timeout=20)
                # The hook's end of the pipe is closed.
                wait_for(lambda: hook.read(1) == b"", "the hook to be gone")
                self.assertEqual(waiting.wait(20) == 0, kind == "poststart")
                self.assertNotEqual(self.runtime("state", name).returncode, 0)

    def test_killed_while_a_hook_hangs_it_is_not_created(self):
        for kind in ("prestart", "createRuntime", "createContainer"):
            with self.subTest(kind):
                name, waiting, hook = self.hanging_hook(kind)
                self.ok("kill", name, "KILL")
                wait_for(lambda: hook.read(1) == b"", "the hook to be gone")
                self.assertEqual(waiting.wait(20), 1)
                self.assertNotEqual(self.runtime("state", name).returncode, 0)

    def test_killed_in_a_start_hook_it_was_not_started(self):
        self.config["hooks"] = {"startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", "echo hangs >/from-hook; exec sleep 60"]}]}
        self.process["args"] = ["true"]
        # The hook may have no way to say anything but by its end.
        self.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["sendto", "sendmsg", "socket"], "action": "SCMP_ACT_KILL_PROCESS"}]}
        name = self.create()
        starting = subprocess.Popen(self.command("start", name), stdin=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, text=True)
        wait_for(lambda: os.path.exists(self.rootfs + "/from-hook"), "the hook")
        self.ok("kill", name, "KILL")
        _, said = starting.communicate(timeout=20)
        self.assertEqual(starting.returncode, 1)
        self.assertIn("startContainer", said)
        self.wait_status(name, "stopped")
        self.config["hooks"]["startContainer"][0]["args"] = ["true"]
        name = self.create()
        self.ok("start", name)
        self.wait_status(name, "stopped")

    def test_missing_program(self):
        self.config["hooks"] = {"createRuntime": [{"path": "/no/such/hook"}]}
        self.refused("/no/such/hook")


class Console(RuntimeTest):
    def receive_master(self, listener, result):
        fds = array.array("i")
        with listener.accept()[0] as connection:
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_LEN(fds.itemsize))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[:fds.itemsize])
        result.append(fds[0])

    def with_console(self, start):
        """Runs start(path) while listening at path; returns the pty's master."""
        path = self.work + "/console"
        received = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(1)
            thread = threading.Thread(target=self.receive_master, args=(listener, received))
            thread.start()
            start(path)
            thread.join(10)
        os.unlink(path)
        self.assertEqual(len(received), 1)
        return received[0]

    def read_until(self, fd, text):
        seen = b""
        while text not in seen:
            try:
                part = os.read(fd, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
        self.assertIn(text, seen)

    def test_console_socket(self):
        self.process["terminal"] = True
        self.process["consoleSize"] = {"height": 33, "width": 44}
        self.shell("tty; stty size; ls -l /dev/console | cut -c1; sleep 1000")
        names = []
        master = self.with_console(lambda path: names.append(self.create("--console-socket", path)))
        self.assertTrue(stat.S_ISCHR(os.fstat(master).st_mode))
        self.ok("start", names[0])
        self.read_until(master, b"/dev/pts/0\r\n33 44\r\nc")
        os.close(master)

    def test_exec_with_a_terminal(self):
        name = self.start_sleeping()
        master = self.with_console(lambda path: self.ok(
            "exec", "--tty", "--detach", "--console-socket", path, name, "tty"))
        self.read_until(master, b"/dev/pts/")
        os.close(master)

    def test_terminal_belongs_to_the_user(self):
        self.process["terminal"] = True
        self.process["user"] = {"uid": 1000, "gid": 1000}
        self.shell("stat -c %u $(tty); sleep 1000")
        names = []
        master = self.with_console(lambda path: names.append(self.create("--console-socket", path)))
        self.ok("start", names[0])
        self.read_until(master, b"1000")
        os.close(master)


if __name__ == "__main__":
    unittest.main()
