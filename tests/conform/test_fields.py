"""Fields of the specification that the other files do not look at: each is in force, or refused by its name."""
import array
import json
import os
import socket
import subprocess
import threading
import time
import unittest

from harness import CGROUP_V2, RuntimeTest, read

NEW = unittest.skipIf(os.environ.get("CONTROL") == "runc", "Debian 12's runc does not know it")

RECURSIVE = {"rro": "ro", "rnosuid": "nosuid", "rnodev": "nodev", "rnoexec": "noexec", "rnodiratime": "nodiratime",
             "rnosymfollow": "nosymfollow", "rnoatime": "noatime", "rrelatime": "relatime"}


class ProcessFields(RuntimeTest):
    @NEW
    def test_scheduler(self):
        self.process["capabilities"]["bounding"] = self.process["capabilities"]["effective"] = \
            self.process["capabilities"]["permitted"] = ["CAP_SYS_NICE"]
        for policy, number in (("SCHED_OTHER", "0"), ("SCHED_BATCH", "3"), ("SCHED_IDLE", "5")):
            with self.subTest(policy=policy):
                self.process["scheduler"] = {"policy": policy, **({"nice": 7} if number != "5" else {})}
                fields = self.output("cat /proc/self/stat").rsplit(")", 1)[1].split()
                self.assertEqual(fields[38], number)
                if number != "5":
                    self.assertEqual(fields[16], "7")

    @NEW
    def test_scheduler_that_makes_no_sense(self):
        for scheduler in ({"policy": "SCHED_NONE"}, {"policy": "SCHED_OTHER", "priority": 5}, {"nice": 1},
                          {"policy": "SCHED_FIFO", "priority": 5, "flags": ["NONE"]},
                          {"policy": "SCHED_OTHER", "deadline": 1000000}):
            with self.subTest(scheduler=scheduler):
                self.process["scheduler"] = scheduler
                self.refused("scheduler")

    @NEW
    def test_io_priority(self):
        self.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 0}
        self.assertEqual(self.output("ionice -p 1").split(":")[0], "idle")
        self.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
        self.assertRegex(self.output("ionice -p 1"), "best-effort: prio 6")
        self.process["ioPriority"] = {"class": "IOPRIO_CLASS_ODD", "priority": 0}
        self.refused("ioPriority")

    @NEW
    def test_labels_need_their_module(self):
        if not os.path.exists("/sys/module/apparmor"):
            self.process["apparmorProfile"] = "some-profile"
            self.refused("apparmorProfile")
            del self.process["apparmorProfile"]
        if not os.path.exists("/sys/fs/selinux/enforce"):
            self.process["selinuxLabel"] = "system_u:system_r:svirt_lxc_net_t:s0"
            self.refused("selinuxLabel")

    def test_fields_of_other_systems_do_nothing(self):
        self.process["commandLine"] = "cmd.exe"
        self.process["user"]["username"] = "nobody"
        self.assertEqual(self.output("id -u"), "0")


class MountFields(RuntimeTest):
    def tree(self):
        """A directory with another mount in it; made in a mount namespace that is left to the runtime."""
        self.write_config()
        name = self.new_id()
        command = " ".join(f"'{word}'" for word in self.command("run", "--bundle", self.bundle, name))
        tree = os.path.join(self.work, "tree")
        os.makedirs(tree + "/below", exist_ok=True)
        return subprocess.run(["unshare", "-m", "sh", "-ec", f"mount -t tmpfs t '{tree}/below'; exec {command}"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=30)

    @NEW
    def test_recursive_options(self):
        for option, seen in RECURSIVE.items():
            with self.subTest(option=option):
                self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] != "/tmp/t"]
                self.mount("/tmp/t", os.path.join(self.work, "tree"), options=("rbind", option))
                self.shell("grep /tmp/t /proc/self/mountinfo")
                result = self.tree()
                self.assertEqual(result.returncode, 0, result.stderr)
                lines = result.stdout.splitlines()
                self.assertEqual(len(lines), 2)
                for line in lines:
                    self.assertIn(seen, line.split()[5].split(","))

    @NEW
    def test_options_of_one_mount_leave_the_others(self):
        self.mount("/tmp/t", os.path.join(self.work, "tree"), options=("rbind", "ro"))
        self.shell("grep /tmp/t /proc/self/mountinfo")
        top, below = [line.split()[5].split(",") for line in self.tree().stdout.splitlines()]
        self.assertIn("ro", top)
        self.assertIn("rw", below)

    @NEW
    def test_tmpcopyup(self):
        with open(os.path.join(self.rootfs, "etc/kept"), "w") as out:
            out.write("content")
        os.makedirs(os.path.join(self.rootfs, "etc/dir"))
        os.symlink("kept", os.path.join(self.rootfs, "etc/link"))
        self.mount("/etc", "tmpfs", kind="tmpfs", options=("tmpcopyup",))
        self.assertEqual(self.output("cat /etc/link; test -d /etc/dir && touch /etc/new && stat -f -c %T /etc"),
                         "contenttmpfs")
        self.assertFalse(os.path.exists(os.path.join(self.rootfs, "etc/new")))

    @NEW
    def test_idmap(self):
        os.makedirs(os.path.join(self.work, "mapped"))
        with open(os.path.join(self.work, "mapped/file"), "w"):
            pass
        self.config["mounts"].append({
            "destination": "/tmp", "source": os.path.join(self.work, "mapped"), "type": "bind",
            "options": ["bind", "idmap"], "uidMappings": [{"containerID": 0, "hostID": 1234, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 4321, "size": 1}]})
        self.shell("stat -c %u:%g /tmp/file")
        result = self.run_container()
        if "operation not permitted" in result.stderr.lower() or "invalid argument" in result.stderr.lower():
            self.skipTest("this file system takes no id-mapped mount: " + result.stderr)
        self.assertEqual(result.stdout.strip(), "1234:4321", result.stderr)

    @NEW
    def test_ids_go_together(self):
        self.mount("/tmp", self.work, options=("bind", "idmap"))
        self.config["mounts"][-1]["uidMappings"] = [{"containerID": 0, "hostID": 1234, "size": 1}]
        self.refused("mounts[", "gidMappings")


class HookFields(RuntimeTest):
    def test_timeout_ends_a_hook(self):
        for kind in ("prestart", "createRuntime", "createContainer", "startContainer"):
            with self.subTest(kind=kind):
                path = "/bin/sleep" if kind == "startContainer" else "/usr/bin/sleep"
                self.config["hooks"] = {kind: [{"path": path, "args": ["sleep", "60"], "timeout": 1}]}
                begin = time.monotonic()
                self.assertNotEqual(self.run_container().returncode, 0)
                self.assertLess(time.monotonic() - begin, 30)

    def test_late_hooks_that_fail_do_no_harm(self):
        self.config["hooks"] = {kind: [
            {"path": "/bin/false"},
            {"path": "/bin/sh", "args": ["sh", "-c", f"cat >{self.work}/{kind}"]},
        ] for kind in ("poststart", "poststop")}
        self.process["args"] = ["true"]
        name = self.create()
        self.runtime("start", name)
        self.wait_status(name, "stopped")
        self.ok("delete", name)
        # The hooks after it have run as well.
        for kind in ("poststart", "poststop"):
            self.assertEqual(json.loads(read(f"{self.work}/{kind}"))["id"], name)

    def test_poststart_hooks_are_told_of_a_process_that_has_ended(self):
        self.config["hooks"] = {"poststart": [
            {"path": "/bin/sh", "args": ["sh", "-c", f"cat >{self.work}/told"]}]}
        self.process["args"] = ["true"]
        for _ in range(10):
            name = self.create()
            pid = json.loads(self.ok("state", name))["pid"]
            self.ok("start", name)
            self.assertEqual(json.loads(read(self.work + "/told")).get("pid"), pid)
            self.wait_status(name, "stopped")
            self.ok("delete", name)


class LinuxFields(RuntimeTest):
    @NEW
    def test_personality(self):
        self.linux["personality"] = {"domain": "LINUX32"}
        self.assertRegex(self.output("uname -m"), "i.86|armv|aarch32")
        self.linux["personality"] = {"domain": "LINUX"}
        self.assertEqual(self.output("uname -m"), os.uname().machine)
        self.linux["personality"] = {"domain": "OTHER"}
        self.refused("personality")

    @NEW
    def test_intel_rdt_is_refused_by_its_name(self):
        for given in ({"closID": "group", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=50"}, {"enableMonitoring": True}, {}):
            self.linux["intelRdt"] = given
            if not os.path.exists("/sys/fs/resctrl/schemata"):
                self.refused("intelRdt", "resctrl")

    @NEW
    def test_other_systems_are_refused(self):
        for system in ("windows", "solaris", "vm", "zos"):
            with self.subTest(system=system):
                self.config[system] = {}
                self.refused(system)
                del self.config[system]

    def test_seccomp_listener_gets_the_descriptor_and_the_metadata(self):
        path = os.path.join(self.work, "agent.sock")
        got = []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.settimeout(30)

            def accept():
                with listener.accept()[0] as connection:
                    data, ancillary, _, _ = connection.recvmsg(65536, 256)
                    fds = array.array("i")
                    fds.frombytes(ancillary[0][2][:len(ancillary[0][2]) // 4 * 4])
                    got.append((json.loads(data), list(fds)))
            thread = threading.Thread(target=accept)
            thread.start()
            self.linux["seccomp"] = {
                "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "for the agent",
                "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_NOTIFY"}]}
            self.process["args"] = ["sleep", "1000"]
            name = self.create()
            self.ok("start", name)
            thread.join()
        state, fds = got[0]
        self.assertEqual(state["metadata"], "for the agent")
        self.assertEqual(state["state"]["id"], name)
        self.assertIn("seccompFd", state["fds"])
        self.assertEqual(state["pid"], self.state(name)["pid"])
        for fd in fds:
            self.assertIn("seccomp", os.readlink(f"/proc/self/fd/{fd}"))
            os.close(fd)

    def test_seccomp_flags(self):
        self.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW",
                                 "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
                                 "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]}
        self.assertEqual(self.output("grep Seccomp: /proc/self/status").split()[1], "2")
        self.linux["seccomp"]["flags"] = ["SECCOMP_FILTER_FLAG_ODD"]
        self.refused("SECCOMP_FILTER_FLAG_ODD")

    def test_seccomp_default_errno_and_masked_argument(self):
        self.linux["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
                          "args": [{"index": 1, "value": 0o700, "valueTwo": 0o700, "op": "SCMP_CMP_MASKED_EQ"}]}]}
        self.assertIn("No space", self.output("mkdir -m 700 /tmp/a 2>&1 || true; mkdir /tmp/a 2>&1 || true"))


class Resources(RuntimeTest):
    """What a machine's cgroups have is in force; the rest is refused, naming the field."""

    def check(self, resources, field, controller, files):
        """`files` maps names of files to what they hold, for v1 or v2."""
        self.linux["resources"] = {**self.linux["resources"], **resources}
        self.process["args"] = ["sleep", "1000"]
        self.write_config()
        name = self.new_id()
        with open(os.path.join(self.work, "err"), "w") as err:
            result = subprocess.run(self.command("run", "-d", "--bundle", self.bundle, name), timeout=30,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)
        if result.returncode != 0:
            self.assertIn(field, read(os.path.join(self.work, "err")))
            return
        pid = self.state(name)["pid"]
        group = self.host_cgroup(pid, controller)
        for file, value in files.items():
            self.assertIn(value, read(f"{group}/{file}"))

    @NEW
    def test_memory(self):
        files = {"memory.low": "8388608"} if CGROUP_V2 else {"memory.soft_limit_in_bytes": "8388608", "memory.swappiness": "7"}
        self.check({"memory": {"limit": 67108864, "reservation": 8388608, **({} if CGROUP_V2 else {"swappiness": 7})}},
                   "memory", "memory", files)

    @NEW
    def test_memory_limit_below_what_is_used_is_refused_if_asked(self):
        name = self.start_sleeping()
        path = os.path.join(self.work, "update.json")
        with open(path, "w") as out:
            json.dump({"memory": {"limit": 4096, "checkBeforeUpdate": True}}, out)
        result = self.runtime("update", "-r", path, name)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("memory", result.stderr)
        self.assertEqual(self.state(name)["status"], "running")

    @NEW
    def test_cpu_burst_and_idle(self):
        self.check({"cpu": {"quota": 50000, "period": 100000, "burst": 20000}}, "burst", "cpu",
                   {"cpu.max.burst" if CGROUP_V2 else "cpu.cfs_burst_us": "20000"})

    @NEW
    def test_cpu_idle(self):
        self.check({"cpu": {"idle": 1}}, "idle", "cpu", {"cpu.idle": "1"})

    @NEW
    def test_cpuset_memory_nodes(self):
        self.check({"cpu": {"cpus": "0", "mems": "0"}}, "cpu", "cpuset", {"cpuset.mems": "0", "cpuset.cpus": "0"})

    @NEW
    def test_realtime(self):
        self.check({"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 1000000}}, "realtime", "cpu",
                   {} if CGROUP_V2 else {"cpu.rt_runtime_us": "1000"})

    @NEW
    def test_hugepages_rdma_and_network(self):
        self.check({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}, "hugepageLimits", "hugetlb",
                   {"hugetlb.2MB.max" if CGROUP_V2 else "hugetlb.2MB.limit_in_bytes": "4194304"})

    @NEW
    def test_rdma(self):
        self.check({"rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 100}}}, "rdma", "rdma", {"rdma.max": "mlx5_0"})

    @NEW
    def test_network_class_and_priorities(self):
        self.check({"network": {"classID": 1048577}}, "network", "net_cls", {"net_cls.classid": "1048577"})

    @NEW
    def test_network_priorities(self):
        self.check({"network": {"priorities": [{"name": "lo", "priority": 5}]}}, "network", "net_prio",
                   {"net_prio.ifpriomap": "lo 5"})

    @NEW
    def test_block_io(self):
        device = next((line.split()[:2] for line in read("/proc/partitions").splitlines()[2:]), None)
        if device is None:
            self.skipTest("there is no block device here")
        major, minor = map(int, device)
        number = {"major": major, "minor": minor}
        expected = f"{major}:{minor}"
        self.check({"blockIO": {"throttleReadBpsDevice": [{**number, "rate": 1048576}],
                                "throttleWriteBpsDevice": [{**number, "rate": 2097152}],
                                "throttleReadIOPSDevice": [{**number, "rate": 300}],
                                "throttleWriteIOPSDevice": [{**number, "rate": 400}]}}, "throttle", "io" if CGROUP_V2 else "blkio",
                   {"io.max": expected + " rbps=1048576 wbps=2097152 riops=300 wiops=400"} if CGROUP_V2 else
                   {"blkio.throttle.read_bps_device": expected + " 1048576", "blkio.throttle.write_bps_device": expected + " 2097152",
                    "blkio.throttle.read_iops_device": expected + " 300", "blkio.throttle.write_iops_device": expected + " 400"})

    @NEW
    def test_block_io_weight(self):
        self.check({"blockIO": {"weight": 300}}, "weight", "io" if CGROUP_V2 else "blkio", {})

    def test_unified_needs_v2(self):
        if not CGROUP_V2:
            self.linux["resources"]["unified"] = {"memory.high": "1000000"}
            self.refused("unified")
        else:
            self.check({"unified": {"memory.high": "67108864"}}, "unified", "memory", {"memory.high": "67108864"})


if __name__ == "__main__":
    unittest.main()
