"""What the conformance tests stand on: bundles, and a runtime given as a command.

A test makes a bundle from a base configuration, changes what it is about, and looks at what a program
inside sees or at what the runtime answers. Nothing here knows which runtime is tested. RUNTIME holds
the command ("berth oci", "runc"); each test has a state root, bundle and cgroup of its own.
"""
import copy
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

RUNTIME = shlex.split(os.environ.get("RUNTIME", "berth oci"))
CGROUP_V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

BASE = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {
            "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "conform",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
        "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
    },
}


def read(path):
    with open(path) as source:
        return source.read()


def wait_for(condition, what, seconds=10):
    """Polls until condition() is true; the tests' only way to wait for something asynchronous."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("timed out waiting for " + what)


class RuntimeTest(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.mkdtemp(prefix="conform-")
        self.root = os.path.join(self.work, "state")
        self.bundle = os.path.join(self.work, "bundle")
        self.rootfs = os.path.join(self.bundle, "rootfs")
        self.counter = 0
        self.ids = []
        for name in ("bin", "proc", "sys", "dev", "tmp", "etc"):
            os.makedirs(os.path.join(self.rootfs, name))
        busybox = shutil.which("busybox")
        shutil.copy(busybox, os.path.join(self.rootfs, "bin/busybox"))
        for applet in subprocess.check_output([busybox, "--list"], text=True).split():
            link = os.path.join(self.rootfs, "bin", applet)
            if not os.path.exists(link):
                os.symlink("busybox", link)
        self.config = copy.deepcopy(BASE)

    def tearDown(self):
        for name in self.ids:
            self.runtime("delete", "--force", name)
        shutil.rmtree(self.work, ignore_errors=True)

    # --- the configuration

    @property
    def process(self):
        return self.config["process"]

    @property
    def linux(self):
        return self.config["linux"]

    def shell(self, script):
        self.process["args"] = ["/bin/sh", "-c", script]

    def namespace(self, kind, path=None):
        """Adds a namespace, or gives an existing entry a path."""
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] != kind]
        self.linux["namespaces"].append({"type": kind, **({"path": path} if path else {})})

    def no_namespace(self, kind):
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] != kind]

    def mount(self, destination, source, kind="bind", options=("rbind",)):
        self.config["mounts"].append({"destination": destination, "source": source, "type": kind,
                                      "options": list(options)})

    def user_namespace(self):
        self.namespace("user")
        self.linux["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        self.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        for directory, _, files in os.walk(self.rootfs):
            for name in [directory] + [os.path.join(directory, f) for f in files]:
                os.lchown(name, 100000, 100000)
        os.chmod(self.work, 0o755)

    # --- the runtime

    def new_id(self):
        self.counter += 1
        name = f"{os.path.basename(self.work)}-{self.counter}"
        self.ids.append(name)
        return name

    def write_config(self):
        with open(os.path.join(self.bundle, "config.json"), "w") as out:
            json.dump(self.config, out)

    def command(self, *arguments):
        return [*RUNTIME, "--root", self.root, *arguments]

    def runtime(self, *arguments, timeout=30, **options):
        """Runs the runtime; returns the completed process with its output as text."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.command(*arguments), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=timeout, **options)

    def run_container(self, *flags, **options):
        """`run` in the foreground under a new id."""
        self.write_config()
        return self.runtime("run", "--bundle", self.bundle, *flags, self.new_id(), **options)

    def output(self, script=None):
        """The standard output of a container, which must succeed."""
        if script is not None:
            self.shell(script)
        result = self.run_container()
        self.assertEqual(result.returncode, 0, result.stderr + result.stdout)
        return result.stdout.strip()

    def refused(self, *words):
        """The container must not start, and the error must name each of the words."""
        result = self.run_container()
        self.assertNotEqual(result.returncode, 0)
        for word in words:
            self.assertIn(word, result.stderr)
        return result

    def ok(self, *arguments, **options):
        result = self.runtime(*arguments, **options)
        self.assertEqual(result.returncode, 0, " ".join(arguments) + ": " + result.stderr)
        return result.stdout

    def create(self, *flags):
        """Creates a container whose output goes to a file, and returns its id."""
        self.write_config()
        name = self.new_id()
        # create's descriptors become the container's: a pipe would be held open by it.
        with open(os.path.join(self.work, name + ".out"), "w+") as out:
            result = subprocess.run(
                self.command("create", "--bundle", self.bundle, *flags, name),
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=30)
        self.assertEqual(result.returncode, 0, self.written(name))
        return name

    def written(self, name):
        with open(os.path.join(self.work, name + ".out")) as out:
            return out.read()

    def start_sleeping(self, *flags):
        """A running container that sleeps."""
        self.process["args"] = ["sleep", "1000"]
        name = self.create(*flags)
        self.ok("start", name)
        return name

    def state(self, name):
        return json.loads(self.ok("state", name))

    def wait_status(self, name, status):
        return wait_for(lambda: self.state(name)["status"] == status, f"{name} to be {status}")

    def exec(self, name, *command, flags=()):
        result = self.runtime("exec", *flags, name, *command)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip()

    def host_cgroup(self, pid, controller):
        """The directory of a process's group in the hierarchy of `controller`."""
        for line in read(f"/proc/{pid}/cgroup").splitlines():
            _, names, path = line.strip().split(":", 2)
            if CGROUP_V2 and names == "":
                return "/sys/fs/cgroup" + path
            if controller in names.split(","):
                return f"/sys/fs/cgroup/{controller}" + path
        raise AssertionError(f"no {controller} group for {pid}")


def kill_quietly(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
