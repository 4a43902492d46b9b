"""Readiness for service managers: NOTIFY_SOCKET in the runtime's environment."""
import ctypes
import os
import socket
import subprocess
import unittest

from harness import RuntimeTest, wait_for

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000


def send_from_inside(pid, path, message):
    """Sends a datagram as a process in the container's user and mount namespaces."""
    child = os.fork()
    if child == 0:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            fds = [(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), flag)
                   for name, flag in (("user", CLONE_NEWUSER), ("mnt", CLONE_NEWNS))]
            same = os.readlink("/proc/self/ns/user") == os.readlink(f"/proc/{pid}/ns/user")
            for fd, flag in fds[1 if same else 0:]:
                if libc.setns(fd, flag) < 0:
                    os._exit(ctypes.get_errno())
            if not same:
                os.setresuid(0, 0, 0)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(message, path)
            os._exit(0)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@unittest.skipIf(os.environ.get("CONTROL") == "runc", "runc has its socket at a fixed path of its own")
class Notify(RuntimeTest):
    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.work, "manager.sock")
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(self.path)
        self.manager.settimeout(10)
        self.env = {**os.environ, "NOTIFY_SOCKET": self.path}

    def tearDown(self):
        self.manager.close()
        super().tearDown()

    def test_process_is_told_another_socket(self):
        self.shell("echo $NOTIFY_SOCKET; ls $NOTIFY_SOCKET; grep -c manager.sock /proc/self/mountinfo")
        result = self.run_container(env=self.env)
        self.assertEqual(result.stdout.split(), [self.path + "/notify"] * 2 + ["1"], result.stderr)

    def test_manager_that_is_gone_is_no_error(self):
        self.shell("ls $NOTIFY_SOCKET")
        result = self.run_container(env={**os.environ, "NOTIFY_SOCKET": "/tmp/no-dir/no-socket"})
        self.assertEqual((result.returncode, result.stdout), (0, "/tmp/no-dir/no-socket/notify\n"), result.stderr)

    def test_configuration_with_a_socket_of_its_own_is_left_alone(self):
        self.process["env"].append("NOTIFY_SOCKET=/own")
        self.shell("echo $NOTIFY_SOCKET; ! grep manager.sock /proc/self/mountinfo")
        result = self.run_container(env=self.env)
        self.assertEqual((result.returncode, result.stdout), (0, "/own\n"), result.stderr)

    def check_ready(self, pid):
        """What the container says otherwise is not for the manager, and comes first."""
        self.assertEqual(send_from_inside(pid, self.path + "/notify", b"STOPPING=1\nMAINPID=1"), 0)
        self.assertEqual(send_from_inside(pid, self.path + "/notify", b"STATUS=up\nREADY=1"), 0)
        self.assertEqual(self.manager.recv(100), b"READY=1")
        self.assertEqual(self.manager.recv(100), b"MAINPID=%d" % pid)

    def test_run_passes_on_that_it_is_ready(self):
        self.process["args"] = ["sleep", "1000"]
        self.write_config()
        name = self.new_id()
        runtime = subprocess.Popen(self.command("run", "--bundle", self.bundle, name), env=self.env)
        try:
            wait_for(lambda: self.runtime("state", name).returncode == 0, "the container")
            self.wait_status(name, "running")
            self.check_ready(self.state(name)["pid"])
            self.ok("kill", name, "KILL")
            runtime.wait(10)
        finally:
            runtime.kill()
            runtime.wait()

    def test_start_returns_when_it_is_ready(self):
        for user in (False, True):
            with self.subTest(user_namespace=user):
                if user:
                    self.user_namespace()
                self.process["args"] = ["sleep", "1000"]
                self.write_config()
                name = self.new_id()
                subprocess.run(self.command("create", "--bundle", self.bundle, name), env=self.env, check=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=30)
                start = subprocess.Popen(self.command("start", name), env=self.env)
                try:
                    self.wait_status(name, "running")
                    self.assertIsNone(start.poll())
                    self.check_ready(self.state(name)["pid"])
                    self.assertEqual(start.wait(10), 0)
                finally:
                    start.kill()
                    start.wait()

    def test_start_returns_when_it_ends_before_it_is_ready(self):
        self.process["args"] = ["true"]
        self.write_config()
        name = self.new_id()
        subprocess.run(self.command("create", "--bundle", self.bundle, name), env=self.env, check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=30)
        self.assertEqual(subprocess.run(self.command("start", name), env=self.env, timeout=10).returncode, 0)

    def test_container_without_it_starts_as_ever(self):
        name = self.create()
        self.assertEqual(self.runtime("start", name, env=self.env).returncode, 0)


if __name__ == "__main__":
    unittest.main()
