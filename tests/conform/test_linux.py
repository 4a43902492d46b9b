"""config.json: root, mounts, hostname and linux."""
import os
import subprocess
import unittest

from harness import CGROUP_V2, RuntimeTest, read


class Root(RuntimeTest):
    def test_readonly_root(self):
        self.config["root"]["readonly"] = True
        self.assertEqual(self.output("touch /x 2>/dev/null || echo refused"), "refused")

    def test_writable_root(self):
        self.output("echo y >/x")
        self.assertEqual(read(self.rootfs + "/x"), "y\n")

    def test_missing_root_is_refused(self):
        self.config["root"]["path"] = "nothing"
        self.refused("nothing")

    def test_absolute_root_path(self):
        self.config["root"]["path"] = self.rootfs
        self.assertEqual(self.output("echo here"), "here")

    def test_nothing_of_the_host_is_mounted_inside(self):
        self.assertNotIn(self.work, self.output("cat /proc/self/mountinfo | cut -d' ' -f5"))


class Mounts(RuntimeTest):
    def setUp(self):
        super().setUp()
        self.shared = os.path.join(self.work, "shared")
        os.mkdir(self.shared)
        with open(self.shared + "/file", "w") as out:
            out.write("content")

    def test_bind(self):
        self.mount("/mnt/deep", self.shared)
        self.assertEqual(self.output("cat /mnt/deep/file"), "content")

    def test_bind_of_a_file(self):
        self.mount("/etc/some.conf", self.shared + "/file", options=["bind"])
        self.assertEqual(self.output("cat /etc/some.conf"), "content")

    def test_readonly_bind(self):
        self.mount("/mnt", self.shared, options=["rbind", "ro"])
        self.assertEqual(self.output("touch /mnt/x 2>/dev/null || echo refused"), "refused")

    def test_bind_flags(self):
        self.mount("/mnt", self.shared, options=["bind", "nosuid", "nodev", "noexec"])
        options = self.output("grep ' /mnt ' /proc/self/mountinfo").split()[5].split(",")
        self.assertLessEqual({"nosuid", "nodev", "noexec", "rw"}, set(options))

    def test_missing_source_names_it(self):
        self.mount("/mnt", self.work + "/absent")
        self.refused(self.work + "/absent")

    def test_tmpfs_options(self):
        self.mount("/scratch", "tmpfs", "tmpfs", ["size=1m", "mode=1770", "nosuid"])
        self.assertEqual(self.output("stat -c %a /scratch; df -k /scratch | tail -1 | "
                                     "tr -s ' ' | cut -d' ' -f2").split(), ["1770", "1024"])

    def test_order_of_mounts_is_kept(self):
        self.mount("/a", "tmpfs", "tmpfs", [])
        self.mount("/a/b", self.shared)
        self.assertEqual(self.output("cat /a/b/file"), "content")

    def test_propagation_option(self):
        self.mount("/mnt", self.shared, options=["rbind", "rslave"])
        self.assertNotIn("shared:", self.output("grep ' /mnt ' /proc/self/mountinfo"))

    def test_destination_through_a_link_stays_inside(self):
        os.symlink("/../../../../../../../escape", self.rootfs + "/link")
        self.mount("/link/under", self.shared)
        self.assertEqual(self.output("cat /escape/under/file"), "content")
        self.assertFalse(os.path.exists("/escape"))

    def test_recursive_readonly(self):
        subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", self.shared])
        try:
            os.mkdir(self.shared + "/sub")
            subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", self.shared + "/sub"])
            self.mount("/mnt", self.shared, options=["rbind", "rro"])
            result = self.run_container()
            if "rro" in result.stderr:
                self.skipTest("runtime lacks rro: " + result.stderr)
            self.assertEqual(self.output("touch /mnt/sub/x 2>/dev/null || echo refused"), "refused")
        finally:
            subprocess.call(["umount", "-R", self.shared])

    def test_dev_links_and_devices(self):
        seen = self.output("cd /dev; for l in fd stdin stdout stderr ptmx; do readlink $l; done; "
                           "for d in null zero full random urandom tty; do test -c $d || echo no $d; done")
        self.assertEqual(seen.split(), ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1",
                                        "/proc/self/fd/2", "pts/ptmx"])

    def test_dev_null_works_for_a_user(self):
        self.process["user"] = {"uid": 1000, "gid": 1000}
        self.assertEqual(self.output("echo gone >/dev/null && echo ok"), "ok")


class Linux(RuntimeTest):
    def test_hostname(self):
        self.assertEqual(self.output("hostname"), "conform")

    def test_domainname(self):
        self.config["domainname"] = "example.org"
        result = self.run_container()
        if "domainname" in result.stderr:
            self.skipTest("runtime lacks domainname")
        self.assertEqual(self.output("cat /proc/sys/kernel/domainname"), "example.org")

    def test_hostname_needs_a_uts_namespace(self):
        self.no_namespace("uts")
        self.refused()

    def test_pid_namespace(self):
        self.assertEqual(self.output("echo $$"), "1")

    def test_without_pid_namespace(self):
        self.no_namespace("pid")
        self.assertNotEqual(self.output("echo $$"), "1")

    def test_namespaces_are_new(self):
        script = "for n in pid net ipc uts mnt; do readlink /proc/self/ns/$n; done"
        ours = subprocess.check_output(["sh", "-c", script], text=True).split()
        self.assertFalse(set(ours) & set(self.output(script).split()))

    def test_absent_namespaces_are_shared(self):
        self.no_namespace("network")
        self.no_namespace("ipc")
        self.config["mounts"] = [m for m in self.config["mounts"] if m["type"] != "mqueue"]
        self.assertEqual(self.output("readlink /proc/self/ns/net; readlink /proc/self/ns/ipc").split(),
                         [os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/ipc")])

    def test_namespace_by_path(self):
        other = self.start_sleeping()
        pid = self.state(other)["pid"]
        for kind, name in (("network", "net"), ("ipc", "ipc"), ("uts", "uts")):
            self.namespace(kind, f"/proc/{pid}/ns/{name}")
        del self.config["hostname"]
        self.assertEqual(self.output("readlink /proc/self/ns/net; hostname").split(),
                         [os.readlink(f"/proc/{pid}/ns/net"), "conform"])

    def test_pid_namespace_by_path(self):
        other = self.start_sleeping()
        pid = self.state(other)["pid"]
        self.namespace("pid", f"/proc/{pid}/ns/pid")
        self.assertIn("sleep 1000", self.output("tr '\\0' ' ' </proc/1/cmdline"))

    def test_namespace_path_that_is_missing(self):
        self.namespace("network", "/proc/1/ns/none")
        self.refused("/proc/1/ns/none")

    def test_namespace_path_of_another_kind(self):
        self.namespace("network", "/proc/self/ns/uts")
        self.refused()

    def test_duplicate_namespace_is_refused(self):
        self.linux["namespaces"].append({"type": "pid"})
        self.refused()

    def test_unknown_namespace_is_refused(self):
        self.linux["namespaces"].append({"type": "banana"})
        self.refused()

    def test_user_namespace(self):
        self.user_namespace()
        self.assertEqual(self.output("cat /proc/self/uid_map; id -u").split(),
                         ["0", "100000", "65536", "0"])

    def test_user_namespace_maps_files(self):
        self.user_namespace()
        self.output("echo made >/by-root")
        self.assertEqual(os.stat(self.rootfs + "/by-root").st_uid, 100000)

    def test_cgroup_namespace(self):
        self.namespace("cgroup")
        paths = {line.split(":", 2)[2] for line in self.output("cat /proc/self/cgroup").split("\n")}
        self.assertEqual(paths, {"/"})

    def test_time_namespace(self):
        self.namespace("time")
        self.linux["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 0},
                                     "monotonic": {"secs": 1000000, "nanosecs": 0}}
        result = self.run_container()
        if "time" in result.stderr:
            self.skipTest("runtime lacks time namespaces: " + result.stderr)
        uptime = float(read("/proc/uptime").split()[0])
        inside = float(self.output("cat /proc/uptime").split()[0])
        self.assertAlmostEqual(inside - uptime, 1000000, delta=60)

    def test_masked_file_reads_empty(self):
        self.assertEqual(self.output("cat /proc/keys | wc -c"), "0")

    def test_masked_directory_is_empty_and_readonly(self):
        self.assertEqual(self.output("ls /sys/firmware | wc -l; "
                                     "touch /sys/firmware/x 2>/dev/null || echo refused").split(),
                         ["0", "refused"])

    def test_masked_path_that_is_missing_is_ignored(self):
        self.linux["maskedPaths"].append("/proc/does-not-exist")
        self.output("true")

    def test_readonly_paths(self):
        self.assertEqual(self.output("echo 1 2>/dev/null >/proc/sys/kernel/domainname || echo refused"),
                         "refused")

    def test_sysctl_of_the_network_namespace(self):
        self.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
        self.assertEqual(self.output("cat /proc/sys/net/ipv4/ip_forward"), "1")

    def test_sysctl_of_the_host_is_refused(self):
        before = read("/proc/sys/vm/swappiness")
        self.linux["sysctl"] = {"vm.swappiness": "17"}
        self.refused("vm.swappiness")
        self.assertEqual(read("/proc/sys/vm/swappiness"), before)

    def test_sysctl_without_its_namespace_is_refused(self):
        self.no_namespace("network")
        self.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
        self.refused("net.ipv4.ip_forward")

    def test_devices(self):
        self.linux["devices"] = [{"path": "/dev/some/thing", "type": "c", "major": 1, "minor": 5,
                                  "fileMode": 0o640, "uid": 3, "gid": 4}]
        self.assertEqual(self.output("stat -c '%F %t:%T %a %u %g' /dev/some/thing"),
                         "character special file 1:5 640 3 4")

    def test_device_access_is_denied_and_allowed(self):
        self.linux["devices"] = [{"path": "/dev/kmsg2", "type": "c", "major": 1, "minor": 11}]
        self.assertEqual(self.output("head -c1 /dev/kmsg2 2>/dev/null || echo denied"), "denied")
        self.linux["resources"]["devices"].append(
            {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"})
        self.linux["devices"][0]["minor"] = 5
        self.assertEqual(self.output("head -c1 /dev/kmsg2 | wc -c"), "1")

    def test_rootfs_propagation(self):
        self.linux["rootfsPropagation"] = "shared"
        self.assertIn("shared:", self.output("awk '$5 == \"/\"' /proc/self/mountinfo"))

    def test_unknown_rootfs_propagation_is_refused(self):
        self.linux["rootfsPropagation"] = "banana"
        self.refused()

    def test_mount_namespace_is_required_for_mounts(self):
        self.no_namespace("mount")
        self.refused()


class Seccomp(RuntimeTest):
    def seccomp(self, default="SCMP_ACT_ALLOW", *rules, **more):
        self.linux["seccomp"] = {"defaultAction": default, "syscalls": list(rules), **more}

    def test_errno(self):
        self.seccomp("SCMP_ACT_ALLOW", {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO",
                                        "errnoRet": 28})
        self.assertIn("No space left", self.output("mkdir /x 2>&1 || true"))

    def test_default_errno_is_eperm(self):
        self.seccomp("SCMP_ACT_ALLOW", {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"})
        self.assertIn("not permitted", self.output("mkdir /x 2>&1 || true"))

    def test_kill(self):
        self.seccomp("SCMP_ACT_ALLOW", {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"})
        self.assertEqual(self.output("mkdir /x 2>/dev/null; echo $?"), "159")

    def test_argument_filter(self):
        self.seccomp("SCMP_ACT_ALLOW", {
            "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
            "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]})
        self.assertIn("No space left", self.output("sleep 9 & kill -USR1 $! 2>&1 || true; kill $!"))

    def test_unknown_system_call_is_ignored(self):
        self.seccomp("SCMP_ACT_ALLOW", {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"})
        self.output("true")

    def test_unknown_action_is_refused(self):
        self.seccomp("SCMP_ACT_BANANA")
        self.refused()

    def test_filter_is_active_without_no_new_privileges(self):
        self.process["noNewPrivileges"] = False
        self.seccomp("SCMP_ACT_ALLOW", {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"})
        self.assertEqual(self.output("grep ^Seccomp: /proc/self/status").split()[1], "2")


class Resources(RuntimeTest):
    def value(self, name, controller, v1, v2):
        pid = self.state(name)["pid"]
        path = self.host_cgroup(pid, controller) + "/" + (v2 if CGROUP_V2 else v1)
        return read(path).strip()

    def test_memory_limit(self):
        self.linux["resources"]["memory"] = {"limit": 64 << 20}
        name = self.start_sleeping()
        self.assertEqual(self.value(name, "memory", "memory.limit_in_bytes", "memory.max"), str(64 << 20))

    def test_memory_limit_holds(self):
        self.linux["resources"]["memory"] = {"limit": 16 << 20}
        # tail keeps what has no line end: it grows until it is killed.
        self.process["args"] = ["tail", "/dev/zero"]
        self.assertEqual(self.run_container().returncode, 137)

    def test_pids_limit(self):
        self.linux["resources"]["pids"] = {"limit": 7}
        name = self.start_sleeping()
        self.assertEqual(self.value(name, "pids", "pids.max", "pids.max"), "7")

    def test_cpu_shares_and_quota(self):
        self.linux["resources"]["cpu"] = {"shares": 512, "quota": 50000, "period": 100000}
        name = self.start_sleeping()
        if CGROUP_V2:
            self.assertEqual(self.value(name, "cpu", "", "cpu.max"), "50000 100000")
        else:
            self.assertEqual(self.value(name, "cpu", "cpu.shares", ""), "512")
            self.assertEqual(self.value(name, "cpu", "cpu.cfs_quota_us", ""), "50000")

    def test_cpuset(self):
        self.linux["resources"]["cpu"] = {"cpus": "0"}
        self.assertEqual(self.output("grep Cpus_allowed_list /proc/self/status").split()[1], "0")

    def test_cgroups_path_is_used(self):
        path = f"/conform-{os.getpid()}/inner"
        self.linux["cgroupsPath"] = path
        name = self.start_sleeping()
        pid = self.state(name)["pid"]
        self.assertTrue(self.host_cgroup(pid, "memory").endswith(path))
        self.ok("delete", "--force", name)
        self.assertFalse(os.path.exists("/sys/fs/cgroup/memory" + path))
        for hierarchy in os.listdir("/sys/fs/cgroup"):
            parent = f"/sys/fs/cgroup/{hierarchy}/conform-{os.getpid()}"
            if os.path.isdir(parent):
                os.rmdir(parent)

    def test_unlimited_memory_is_accepted(self):
        self.linux["resources"]["memory"] = {"limit": -1}
        self.output("true")


def apparmor():
    try:
        return read("/sys/module/apparmor/parameters/enabled").strip() == "Y"
    except OSError:
        return False


@unittest.skipUnless(apparmor(), "AppArmor is off here: see in-vm")
class AppArmor(RuntimeTest):
    """Profile "unconfined" is there without loading any; one that was changed to shows as such."""

    def test_profile(self):
        self.process["apparmorProfile"] = "unconfined"
        self.assertEqual(self.output("cat /proc/self/attr/current"), "unconfined")
        self.process["apparmorProfile"] = "no-such-profile"
        self.refused("process.apparmorProfile")

    def test_false_proc_takes_no_label(self):
        """Take out: process_open_labels() before enter_files() in src/oci/init.c."""
        attr = self.work + "/false/thread-self/attr/apparmor"
        os.makedirs(attr)
        for name in ("exec", "../exec"):
            with open(f"{attr}/{name}", "w"):
                pass
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] != "/proc"]
        self.mount("/proc", self.work + "/false")
        self.linux.pop("maskedPaths", None)
        self.linux.pop("readonlyPaths", None)
        # A profile that does not exist is noticed only by the kernel that was asked for it.
        self.process["apparmorProfile"] = "no-such-profile"
        self.refused("process.apparmorProfile")
        self.assertEqual(read(attr + "/exec") + read(attr + "/../exec"), "")


if __name__ == "__main__":
    unittest.main()
