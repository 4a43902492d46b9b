"""systemd as the manager of control groups: that of the system, and that of an ordinary user.

Run where it is process 1 and the control groups are version 2, or in a machine where that is so: INIT=systemd in-vm.
The user is the one of that machine.
"""
import json
import os
import pwd
import shutil
import subprocess
import unittest

from harness import CGROUP_V2, RUNTIME, RuntimeTest, read, wait_for

MIB = 1 << 20
TOP = "/sys/fs/cgroup"


@unittest.skipUnless(CGROUP_V2 and os.path.exists("/run/systemd/private"), "systemd is not process 1 here, or not with version 2: see in-vm")
class Manager(RuntimeTest):
    """What holds for both: `systemctl` asks the manager that is meant, and groups are below `above`."""
    systemctl = ["systemctl"]
    above = ""
    slice = "system.slice"

    def setUp(self):
        super().setUp()
        self.unit = ""

    def command(self, *arguments):
        return [*RUNTIME, "--systemd-cgroup", "--root", self.root, *arguments]

    def limit(self, **resources):
        self.linux.setdefault("resources", {}).update(resources)

    def start(self, slice_=None):
        """A container in a scope whose name the test knows; returns its id."""
        name = f"x{self.counter}{os.path.basename(self.work)[8:]}"
        self.unit = f"conform-{name}.scope"
        self.linux["cgroupsPath"] = f"{slice_ or self.slice}:conform:{name}"
        return self.start_sleeping()

    def show(self, name):
        return subprocess.check_output([*self.systemctl, "show", self.unit, "-p", name, "--value"], text=True).strip()

    def group(self):
        return TOP + self.show("ControlGroup")

    def assert_properties(self, **expected):
        self.assertEqual({k: self.show(k) for k in expected}, expected)

    def assert_files(self, **expected):
        named = {k.replace("__", "."): v for k, v in expected.items()}
        group = self.group()
        self.assertEqual({f: read(f"{group}/{f}").strip() for f in named}, named)

    def reload(self):
        subprocess.check_call([*self.systemctl, "daemon-reload"])

    def gone(self):
        """Neither a group nor a unit is left."""
        wait_for(lambda: self.show("LoadState") == "not-found", "the unit to be forgotten")
        left = [d for d, _, _ in os.walk(TOP) if self.unit in d]
        self.assertEqual(left, [])


class Both:
    def test_limits_are_properties_and_files(self):
        self.limit(memory={"limit": 64 * MIB, "reservation": 16 * MIB, "swap": 96 * MIB},
                   cpu={"shares": 2048, "quota": 20000, "period": 50000}, pids={"limit": 77})
        name = self.start()
        properties = {"MemoryMax": str(64 * MIB), "MemoryLow": str(16 * MIB), "MemorySwapMax": str(32 * MIB),
                      "CPUQuotaPerSecUSec": "400ms", "CPUQuotaPeriodUSec": "50ms", "CPUWeight": "79", "TasksMax": "77"}
        files = {"memory__max": str(64 * MIB), "memory__low": str(16 * MIB), "memory__swap__max": str(32 * MIB),
                 "cpu__max": "20000 50000", "cpu__weight": "79", "pids__max": "77"}
        self.assert_properties(**properties, ActiveState="active", Slice=self.slice, Delegate="yes")
        self.assert_files(**files)
        self.reload()
        self.assert_properties(**properties)
        self.assert_files(**files)
        self.ok("delete", "--force", name)
        self.gone()

    def test_update(self):
        self.limit(memory={"limit": 64 * MIB}, pids={"limit": 77})
        name = self.start()
        self.ok("update", "--memory", str(48 * MIB), "--pids-limit", "55", "--cpu-quota", "30000", "--cpu-period", "100000",
                "--cpu-share", "1024", name)
        self.assert_properties(MemoryMax=str(48 * MIB), TasksMax="55", CPUQuotaPerSecUSec="300ms", CPUWeight="39")
        self.assert_files(memory__max=str(48 * MIB), pids__max="55", cpu__max="30000 100000", cpu__weight="39")
        self.ok("update", "--resources", "-", name, stdin=None, input=json.dumps({"pids": {"limit": -1}, "memory": {"limit": 80 * MIB}}))
        self.assert_properties(MemoryMax=str(80 * MIB), TasksMax="infinity")
        self.reload()
        self.assert_files(memory__max=str(80 * MIB), pids__max="max", cpu__max="30000 100000")

    def test_unified_map(self):
        self.limit(unified={"memory.high": str(48 * MIB), "memory.min": str(4 * MIB), "memory.max": str(64 * MIB),
                            "memory.swap.max": str(8 * MIB), "cpu.weight": "55", "cpu.max": "25000 100000", "pids.max": "12"})
        self.start()
        self.assert_properties(MemoryHigh=str(48 * MIB), MemoryMin=str(4 * MIB), MemoryMax=str(64 * MIB),
                               MemorySwapMax=str(8 * MIB), CPUWeight="55", CPUQuotaPerSecUSec="250ms", TasksMax="12")
        # Whatever makes the manager write its own idea of the limits again.
        subprocess.check_call([*self.systemctl, "set-property", "--runtime", self.unit, "MemoryLow=1M", "CPUWeight=56", "TasksMax=13"])
        self.reload()
        self.assert_files(memory__high=str(48 * MIB), memory__min=str(4 * MIB), memory__max=str(64 * MIB),
                          memory__swap__max=str(8 * MIB), cpu__weight="56", cpu__max="25000 100000", pids__max="13")

    def test_life(self):
        name = self.start()
        pid = self.state(name)["pid"]
        self.assertIn("/" + self.unit, read(f"/proc/{pid}/cgroup"))
        self.assertIn(self.unit, self.exec(name, "cat", "/proc/self/cgroup"))
        self.assertEqual(json.loads(self.ok("ps", "--format", "json", name)), [pid])
        self.ok("pause", name)
        self.assertEqual(self.state(name)["status"], "paused")
        self.assertEqual(read(self.group() + "/cgroup.freeze").strip(), "1")
        self.ok("resume", name)
        self.wait_status(name, "running")
        stats = json.loads(self.ok("events", "--stats", name))
        self.assertGreater(stats["data"]["memory"]["usage"]["usage"], 0)
        self.ok("kill", name, "KILL")
        self.wait_status(name, "stopped")
        self.ok("delete", name)
        self.gone()

    def test_its_name_is_free_again_when_it_has_ended(self):
        self.process["args"] = ["sh", "-c", "exit 3"]
        self.unit = f"conform-again{os.path.basename(self.work)[8:]}.scope"
        self.linux["cgroupsPath"] = f"{self.slice}:{self.unit[:-6].replace('-', ':', 1)}"
        for _ in range(3):
            self.assertEqual(self.run_container().returncode, 3)
            self.gone()

    def test_what_ignores_signals_and_makes_groups_is_removed(self):
        self.namespace("cgroup")
        self.mount("/sys/fs/cgroup", "cgroup", "cgroup", ("rw",))
        name = self.start()
        self.exec(name, "sh", "-c", "mkdir -p /sys/fs/cgroup/a/b && (trap '' TERM INT HUP; sh -c 'echo $$ >/sys/fs/cgroup/a/b/cgroup.procs;"
                  "trap \"\" TERM; while :; do sleep 1; done' >/dev/null 2>&1 &)")
        wait_for(lambda: read(self.group() + "/a/b/cgroup.procs").strip(), "the process in the group below")
        self.ok("delete", "--force", name)
        self.gone()


class System(Both, Manager):
    def test_slices_are_made(self):
        self.start("conform-one-two.slice")
        self.assert_properties(Slice="conform-one-two.slice")
        self.assertTrue(self.group().endswith(f"/conform.slice/conform-one.slice/conform-one-two.slice/{self.unit}"), self.group())

    def test_processors(self):
        self.limit(cpu={"cpus": "0", "mems": "0"})
        name = self.start()
        self.assert_properties(AllowedCPUs="0", AllowedMemoryNodes="0")
        self.assert_files(cpuset__cpus="0", cpuset__mems="0")
        self.assertEqual(self.exec(name, "nproc"), "1")

    def test_devices_stay_what_they_are(self):
        self.limit(devices=[{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 1, "access": "r"}])
        self.linux["devices"] = [{"path": "/dev/one", "type": "c", "major": 1, "minor": 1}, {"path": "/dev/four", "type": "c", "major": 1, "minor": 4}]
        self.process["capabilities"]["bounding"] = self.process["capabilities"]["effective"] = self.process["capabilities"]["permitted"] = \
            ["CAP_SYS_RAWIO", "CAP_DAC_OVERRIDE"]
        name = self.start()
        attempts = "head -c 1 /dev/zero >/dev/null && echo zero; (: </dev/one) 2>/dev/null && echo one; (: >>/dev/one) 2>/dev/null && echo write;" \
            "(: </dev/four) 2>/dev/null && echo four; :"
        self.assertEqual(self.exec(name, "sh", "-c", attempts).split(), ["zero", "one"])
        self.reload()
        self.ok("update", "--pids-limit", "44", name)
        self.reload()
        self.assertEqual(self.exec(name, "sh", "-c", attempts).split(), ["zero", "one"])


def has_user():
    try:
        return pwd.getpwnam("conform") is not None
    except KeyError:
        return False


@unittest.skipUnless(has_user(), "there is no user \"conform\"")
class User(Both, Manager):
    """In a service of the user's, as engines are."""
    slice = "app.slice"

    @classmethod
    def setUpClass(cls):
        cls.user = pwd.getpwnam("conform")
        subprocess.check_call(["systemctl", "start", f"user@{cls.user.pw_uid}.service"])
        runtime = f"/run/user/{cls.user.pw_uid}"
        cls.become = ["setpriv", "--reuid", str(cls.user.pw_uid), "--regid", str(cls.user.pw_gid), "--clear-groups", "env",
                      f"XDG_RUNTIME_DIR={runtime}", f"HOME={runtime}"]
        cls.systemctl = [*cls.become, "systemctl", "--user"]
        cls.inside = ["systemd-run", "--user", "--quiet", "--scope", "--collect", "--slice=app.slice"]

    def setUp(self):
        super().setUp()
        uid = self.user.pw_uid
        self.namespace("user")
        self.linux["uidMappings"] = self.linux["gidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1},
                                                                 {"containerID": 1, "hostID": 600000, "size": 65536}]
        del self.linux["resources"]
        self.theirs()

    def theirs(self):
        for directory, _, files in os.walk(self.work):
            for name in [directory] + [os.path.join(directory, f) for f in files]:
                os.lchown(name, self.user.pw_uid, self.user.pw_gid)

    def write_config(self):
        super().write_config()
        self.theirs()

    def command(self, *arguments):
        return [*self.become, *self.inside, *super().command(*arguments)]

    def test_the_group_is_the_users(self):
        self.start()
        self.assertTrue(self.group().startswith(f"{TOP}/user.slice/user-{self.user.pw_uid}.slice/user@{self.user.pw_uid}.service/"), self.group())
        self.assertEqual(os.stat(self.group()).st_uid, self.user.pw_uid)


class Session(User):
    """Outside of what the user's manager has: as after ssh or su, where groups are not the user's."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.inside = []


@unittest.skipUnless(shutil.which("podman") and RUNTIME[1:] == ["oci"], "there is no podman, or the runtime is not ours")
class Podman(Manager):
    """podman, which asks for this manager itself: of the system, and of a user."""

    def podman(self, become, home, *arguments):
        command = [*become, "env", f"CONTAINERS_CONF={home}/containers.conf", "podman", "--root", home + "/storage", "--runroot", home + "/run",
                   "--storage-driver", "vfs", "--runtime", home + "/berth-oci", "--cgroup-manager", "systemd", "--events-backend", "file", *arguments]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip()

    def life(self, become, home):
        os.symlink(shutil.which(RUNTIME[0]), home + "/berth-oci")
        with open(home + "/containers.conf", "w") as out:
            out.write('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n')
        name = self.podman(become, home, "run", "-d", "--network", "none", "--memory", "64m", "--pids-limit", "77",
                           "--rootfs", home + "/rootfs", "sleep", "1000")
        self.unit = f"libpod-{name}.scope"
        self.assert_properties(ActiveState="active", MemoryMax=str(64 * MIB), TasksMax="77")
        self.assert_files(memory__max=str(64 * MIB), pids__max="77")
        self.assertEqual(self.podman(become, home, "exec", name, "echo", "inside"), "inside")
        self.podman(become, home, "rm", "-f", "-t", "0", name)
        self.gone()

    def test_of_the_system(self):
        self.life([], self.bundle)

    @unittest.skipUnless(has_user(), "there is no user \"conform\"")
    def test_of_a_user(self):
        User.setUpClass()
        self.systemctl = User.systemctl
        home = f"/run/user/{User.user.pw_uid}/podman{os.path.basename(self.work)}"
        try:
            shutil.copytree(self.bundle, home, symlinks=True)
            for directory, _, files in os.walk(home):
                for name in [directory] + [os.path.join(directory, f) for f in files]:
                    os.lchown(name, User.user.pw_uid, User.user.pw_gid)
            self.life([*User.become, f"DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{User.user.pw_uid}/bus"], home)
        finally:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    unittest.main()
