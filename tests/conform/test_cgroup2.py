"""Control groups of version 2. Run on a host that has them alone, or in a machine that does: in-vm."""
import glob
import json
import os
import subprocess
import unittest

from harness import CGROUP_V2, RuntimeTest, kill_quietly, read, wait_for

MIB = 1 << 20


def disk():
    """A block device as "major:minor"."""
    for name in ("vda", "sda", "loop0"):
        if os.path.exists(f"/sys/block/{name}/dev"):
            return read(f"/sys/block/{name}/dev").strip()
    return None


@unittest.skipUnless(CGROUP_V2, "this host's control groups are not version 2: see in-vm")
class Unified(RuntimeTest):
    def limit(self, **resources):
        self.linux["resources"].update(resources)

    def group(self, name):
        return self.host_cgroup(self.state(name)["pid"], "")

    def values(self, group, *files):
        return {f: read(f"{group}/{f}").strip() for f in files}

    def assert_values(self, group, **expected):
        named = {k.replace("__", "."): v for k, v in expected.items()}
        self.assertEqual(self.values(group, *named), named)

    def test_limits_are_the_files(self):
        self.limit(memory={"limit": 64 * MIB, "reservation": 16 * MIB, "swap": 96 * MIB},
                   cpu={"shares": 2048, "quota": 20000, "period": 50000, "burst": 5000,
                        "cpus": "0", "mems": "0"},
                   pids={"limit": 77},
                   hugepageLimits=[{"pageSize": "2MB", "limit": 4 * MIB}],
                   blockIO={"weight": 500})
        self.assert_values(
            self.group(self.start_sleeping()), memory__max=str(64 * MIB), memory__low=str(16 * MIB),
            memory__swap__max=str(32 * MIB), cpu__weight="79", cpu__max="20000 50000",
            cpu__max__burst="5000", cpuset__cpus="0", cpuset__mems="0", pids__max="77",
            hugetlb__2MB__max=str(4 * MIB), io__weight="default 4950")

    def test_no_limits(self):
        self.limit(memory={"limit": -1, "swap": -1}, cpu={"quota": -1}, pids={"limit": -1})
        self.assert_values(self.group(self.start_sleeping()), memory__max="max", cpu__max="max 100000",
                           memory__swap__max="max", pids__max="max")

    def test_idle(self):
        self.limit(cpu={"idle": 1})
        self.assert_values(self.group(self.start_sleeping()), cpu__idle="1")

    def test_throttled_devices(self):
        device = disk()
        if device is None:
            self.skipTest("no block device here")
        try:
            with open("/sys/fs/cgroup/io.cost.qos", "w") as out:
                out.write(device + " enable=1")
        except OSError:
            self.skipTest("the kernel cannot weigh this device")
        major, minor = map(int, device.split(":"))
        one = {"major": major, "minor": minor}
        self.limit(blockIO={"throttleReadBpsDevice": [{**one, "rate": 1000}],
                            "throttleWriteBpsDevice": [{**one, "rate": 2000}],
                            "throttleReadIOPSDevice": [{**one, "rate": 30}],
                            "throttleWriteIOPSDevice": [{**one, "rate": 0}],
                            "weightDevice": [{**one, "weight": 1000}]})
        group = self.group(self.start_sleeping())
        self.assertEqual(read(group + "/io.max").split(),
                         [device, "rbps=1000", "wbps=2000", "riops=30", "wiops=max"])
        self.assertIn(f"{device} 10000", read(group + "/io.weight"))

    def test_unified_map(self):
        self.limit(unified={"memory.high": str(48 * MIB), "memory.min": str(4 * MIB),
                            "cpu.weight": "55", "pids.max": "12", "memory.oom.group": "1"})
        self.assert_values(self.group(self.start_sleeping()), memory__high=str(48 * MIB),
                           memory__min=str(4 * MIB), cpu__weight="55", pids__max="12",
                           memory__oom__group="1")

    def test_unified_map_with_mistakes(self):
        for key, words in (("foo.bar", ("the requested cgroup controller `foo` is not available",)),
                           ("nodot", ("CONTROLLER.VALUE", "`nodot`")),
                           ("memory.absent", ("memory.absent", "No such file")),
                           ("memory.high", ("memory.high", "Invalid argument")),
                           ("cgroup.procs", ("cgroup.procs",))):
            self.linux["resources"]["unified"] = {key: "x"}
            self.refused("linux.resources.unified", *words)

    def test_what_only_version_1_has_is_refused_by_name(self):
        for section, field, value in (
                ("memory", "swappiness", 10), ("memory", "kernelTCP", MIB),
                ("memory", "disableOOMKiller", True), ("cpu", "realtimeRuntime", 1000),
                ("blockIO", "leafWeight", 100), ("network", "classID", 1)):
            self.linux["resources"] = {section: {field: value}}
            self.refused(f"linux.resources.{section}.{field}", "cgroup v2")

    def test_rdma_names_the_device_that_is_missing(self):
        self.limit(rdma={"mlx9": {"hcaHandles": 3}})
        self.refused("linux.resources.rdma")

    def test_out_of_memory(self):
        self.limit(memory={"limit": 16 * MIB, "swap": 16 * MIB})
        self.shell("cat /dev/zero | head -c 64m | tail >/dev/null; echo $?")
        name = self.create()
        events = subprocess.Popen(self.command("events", "--interval", "100ms", name), text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            self.ok("start", name)
            kinds = {json.loads(line)["type"] for line in events.stdout}
        finally:
            events.kill()
            events.wait()
            events.stdout.close()
        self.assertIn("oom", kinds)
        self.assertIn("137", self.written(name))

    def test_processes_above_the_limit_cannot_be_made(self):
        self.limit(pids={"limit": 3})
        self.shell("for i in 1 2 3 4 5; do sleep 100 & done 2>&1; wait")
        result = self.run_container()
        self.assertIn("can't fork", result.stderr + result.stdout)

    def test_devices(self):
        self.limit(devices=[{"allow": False, "access": "rwm"},
                            {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"},
                            {"allow": True, "type": "c", "major": 10, "minor": 237, "access": "rwm"},
                            {"allow": False, "type": "c", "major": 10, "minor": 237, "access": "w"},
                            {"allow": True, "type": "b", "major": 7, "access": "m"}])
        self.process["capabilities"] = {s: ["CAP_MKNOD"] for s in (
            "bounding", "effective", "permitted")}
        script = """
            cd /tmp; try() { if eval "$2" 2>/dev/null; then echo "$1 yes"; else echo "$1 no"; fi; }
            try read-null 'head -c 1 /dev/null'; try make-ctl 'mknod ctl c 10 237'
            try read-ctl 'true <ctl'; try write-ctl 'true >ctl'
            try make-loop 'mknod loop b 7 3'; try read-loop 'head -c 1 loop'
            try read-zero 'head -c 1 /dev/zero >/dev/null'
            """
        expected = ["read-null yes", "make-ctl yes", "read-ctl yes", "write-ctl no", "make-loop yes",
                    "read-loop no", "read-zero yes"]
        self.assertEqual(self.output(script).splitlines(), expected)
        # A later change of something else leaves the rules as they are.
        name = self.start_sleeping()
        self.ok("update", "--pids-limit", "20", name)
        self.exec(name, "sh", "-c", "rm -f /tmp/ctl /tmp/loop")
        self.assertEqual(self.exec(name, "sh", "-c", script, flags=["--cap", "CAP_MKNOD"]).splitlines(),
                         expected)

    def test_pause(self):
        self.shell("while :; do echo x; sleep 0.05; done")
        name = self.create()
        self.ok("start", name)
        group = self.group(name)
        self.ok("pause", name)
        self.assertIn("frozen 1", read(group + "/cgroup.events"))
        before = self.written(name)
        self.assertNotEqual(self.runtime("exec", name, "true").returncode, 0)
        self.assertEqual(self.written(name), before)
        self.ok("resume", name)
        wait_for(lambda: self.written(name) != before, "it to go on")
        self.ok("pause", name)
        self.ok("delete", "--force", name)
        self.assertFalse(os.path.exists(group))

    def test_what_ignores_signals_is_removed(self):
        self.no_namespace("pid")
        self.shell("trap '' TERM INT HUP; for i in 1 2 3; do setsid sh -c "
                   "'trap \"\" TERM INT HUP; sleep 1000; sleep 1000' & done; echo up; wait; sleep 1000")
        name = self.create()
        self.ok("start", name)
        wait_for(lambda: "up" in self.written(name), "its children")
        group = self.group(name)
        pids = wait_for(lambda: (lambda p: len(p) > 6 and p)(read(group + "/cgroup.procs").split()),
                        "the group to fill")
        self.ok("delete", "--force", name)
        self.assertFalse(os.path.exists(group))
        for pid in pids:
            self.assertFalse(os.path.exists(f"/proc/{pid}"), pid)

    def writable_groups(self):
        self.namespace("cgroup")
        self.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup",
                                      "source": "cgroup", "options": ["rw", "nosuid"]})

    def test_subtree_of_the_containers_own(self):
        self.writable_groups()
        self.shell("cd /sys/fs/cgroup; mkdir a a/b; echo $$ >a/b/cgroup.procs; "
                   "echo +pids +memory >cgroup.subtree_control; echo +pids >a/cgroup.subtree_control; "
                   "sleep 500 & cat a/b/pids.max; echo ready; sleep 1000")
        name = self.create()
        self.ok("start", name)
        wait_for(lambda: "ready" in self.written(name), "its groups")
        pid = self.state(name)["pid"]
        group = self.host_cgroup(pid, "")
        self.assertTrue(group.endswith("/a/b"), group)
        # Its root has controllers enabled below and takes no process: exec joins the container's own.
        self.assertEqual(self.exec(name, "cat", "/proc/self/cgroup"), "0::/a/b")
        self.assertEqual(len(json.loads(self.ok("ps", "--format", "json", name))), 2)
        self.ok("pause", name)
        self.assertEqual(self.state(name)["status"], "paused")
        self.ok("resume", name)
        self.ok("delete", "--force", name)
        self.assertFalse(os.path.exists(group[:-len("/a/b")]))

    def test_exec_below(self):
        self.writable_groups()
        name = self.start_sleeping()
        self.exec(name, "mkdir", "/sys/fs/cgroup/below")
        self.assertEqual(self.exec(name, "cat", "/proc/self/cgroup", flags=["--cgroup", "below"]),
                         "0::/below")

    def test_update(self):
        self.limit(memory={"limit": 32 * MIB})
        name = self.start_sleeping()
        group = self.group(name)
        self.ok("update", "--memory", "64m", "--memory-swap", "80m", "--cpu-quota", "30000",
                "--cpu-period", "60000", "--cpu-share", "512", "--cpuset-cpus", "0",
                "--pids-limit", "41", "--memory-reservation", "8m", "--blkio-weight", "100", name)
        self.assert_values(group, memory__max=str(64 * MIB), memory__swap__max=str(16 * MIB),
                           cpu__max="30000 60000", cpu__weight="20", cpuset__cpus="0",
                           pids__max="41", memory__low=str(8 * MIB), io__weight="default 910")
        self.ok("update", "--cpu-period", "50000", name)
        self.assert_values(group, cpu__max="30000 50000")
        self.ok("update", "--cpu-quota", "-1", "--memory", "-1", "--pids-limit", "-1", name)
        self.assert_values(group, cpu__max="max 50000", memory__max="max", memory__swap__max="max",
                           pids__max="max")
        document = {"memory": {"limit": 48 * MIB}, "unified": {"memory.high": str(40 * MIB)}}
        result = subprocess.run(self.command("update", "-r", "-", name), input=json.dumps(document),
                                capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assert_values(group, memory__max=str(48 * MIB), memory__high=str(40 * MIB))

    def test_stats(self):
        self.limit(memory={"limit": 32 * MIB}, pids={"limit": 9})
        self.shell("i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done; echo spun; sleep 1000")
        name = self.create()
        self.ok("start", name)
        wait_for(lambda: "spun" in self.written(name), "some work")
        data = json.loads(self.ok("events", "--stats", name))["data"]
        self.assertEqual(data["memory"]["usage"]["limit"], 32 * MIB)
        self.assertGreater(data["memory"]["usage"]["usage"], 0)
        self.assertLess(data["memory"]["usage"]["usage"], 32 * MIB)
        self.assertEqual(data["pids"], {"current": 1, "limit": 9})
        self.assertGreater(data["cpu"]["usage"]["total"], 10 ** 6)

    def test_nested_path_gets_its_controllers(self):
        self.linux["cgroupsPath"] = f"/{os.path.basename(self.work)}/deep/down"
        self.limit(memory={"limit": 32 * MIB}, cpu={"shares": 100}, pids={"limit": 9})
        name = self.start_sleeping()
        group = self.group(name)
        self.assertTrue(group.endswith("/deep/down"), group)
        self.assert_values(group, memory__max=str(32 * MIB), pids__max="9")
        self.ok("delete", "--force", name)
        self.assertFalse(os.path.exists(group))
        for left in (os.path.dirname(group), os.path.dirname(os.path.dirname(group))):
            os.rmdir(left)

    def test_the_containers_own_view(self):
        self.namespace("cgroup")
        self.config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup",
                                      "source": "cgroup", "options": ["ro", "nosuid"]})
        self.limit(memory={"limit": 32 * MIB})
        self.assertEqual(self.output("cat /proc/self/cgroup /sys/fs/cgroup/memory.max; "
                                     "mkdir /sys/fs/cgroup/x 2>/dev/null || echo read-only").split(),
                         ["0::/", str(32 * MIB), "read-only"])
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] != "cgroup"]
        self.assertEqual(self.output("cat /sys/fs/cgroup/memory.max"), str(32 * MIB))

    def test_killed_runtime_leaves_nothing_that_delete_does_not_remove(self):
        self.shell("sleep 1000")
        self.write_config()
        for pause in (0.0, 0.01, 0.03, 0.06, 0.1, 0.2):
            name = self.new_id()
            process = subprocess.Popen(self.command("create", "--bundle", self.bundle, name),
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            try:
                process.wait(pause)
            except subprocess.TimeoutExpired:
                kill_quietly(process.pid)
                process.wait()
            self.ok("delete", "--force", name)
            self.assertEqual(glob.glob(f"/sys/fs/cgroup/**/{name}", recursive=True), [])


if __name__ == "__main__":
    unittest.main()
