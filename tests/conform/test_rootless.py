"""The runtime of an ordinary user: with one id, and with the ids that newuidmap gives."""
import json
import os
import shlex
import subprocess
import unittest

from harness import RUNTIME, RuntimeTest

USER, IDS = 54321, 500000
IN_PRIVATE = """
for file in passwd group subuid subgid; do mount --bind "$0/$file" /etc/$file; done
cd "$0" && exec setpriv --reuid {user} --regid {user} --clear-groups {more} env HOME="$0" XDG_RUNTIME_DIR="$0/run" "$@"
"""


@unittest.skipIf(os.environ.get("CONTROL") == "classic", "an ordinary user's filter of system calls would keep newuidmap from its rights")
class AsUser(RuntimeTest):
    """Every command is the user's, whom the files of a mount namespace of its own know."""
    MAPPINGS = [{"containerID": 0, "hostID": USER, "size": 1}]
    more = ""

    def setUp(self):
        super().setUp()
        self.etc = os.path.join(self.work, "etc")
        os.makedirs(self.etc + "/run")
        with open("/etc/passwd") as passwd, open(self.etc + "/passwd", "w") as out:
            out.write(passwd.read() + f"conform:x:{USER}:{USER}::/:/bin/sh\n")
        with open("/etc/group") as group, open(self.etc + "/group", "w") as out:
            out.write(group.read() + f"conform:x:{USER}:\n")
        for name in ("subuid", "subgid"):
            with open(f"{self.etc}/{name}", "w") as out:
                out.write(f"conform:{IDS}:65536\n")
        self.namespace("user")
        self.linux["uidMappings"] = self.linux["gidMappings"] = self.MAPPINGS
        del self.linux["resources"]
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] != "/dev/pts"]
        self.config["mounts"].append({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                                      "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]})
        self.theirs()

    def theirs(self):
        for directory, _, files in os.walk(self.work):
            for name in [directory] + [os.path.join(directory, f) for f in files]:
                os.lchown(name, USER, USER)

    def write_config(self):
        super().write_config()
        self.theirs()

    def command(self, *arguments):
        script = IN_PRIVATE.format(user=USER, more=self.more)
        return ["unshare", "-m", "sh", "-ec", script, self.etc, *RUNTIME, "--root", self.root, *arguments]


class Rootless(AsUser):
    def test_steps_of_a_life(self):
        self.shell("trap 'exit 7' TERM; while :; do sleep 0.1; done")
        name = self.create()
        self.assertEqual(self.state(name)["status"], "created")
        self.ok("start", name)
        state = self.state(name)
        self.assertEqual(state["status"], "running")
        self.assertEqual(os.stat(f"/proc/{state['pid']}").st_uid, USER)
        self.assertEqual(self.exec(name, "id", "-u"), "0")
        self.assertEqual(self.ok("list", "-q").split(), [name])
        self.ok("kill", name, "KILL")
        self.wait_status(name, "stopped")
        self.ok("delete", name)
        self.assertNotEqual(self.runtime("state", name).returncode, 0)
        self.assertEqual([entry for entry in os.listdir(self.root) if not entry.startswith(".")], [])

    def test_exit_code(self):
        self.shell("exit 7")
        self.assertEqual(self.run_container().returncode, 7)

    def test_ids_are_those_that_are_mapped(self):
        said = self.output("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g")
        maps = [[m["containerID"], m["hostID"], m["size"]] for m in self.MAPPINGS] * 2
        self.assertEqual([list(map(int, line.split())) for line in said.splitlines()[:-2]], maps)
        self.assertEqual(said.splitlines()[-2:], ["0", "0"])

    def test_mounts(self):
        os.makedirs(self.work + "/volume")
        with open(self.work + "/volume/file", "w") as out:
            out.write("theirs")
        self.mount("/volume", self.work + "/volume", options=("rbind", "rw"))
        self.mount("/fixed", self.work + "/volume", options=("bind", "ro"))
        self.mount("/scratch", "tmpfs", "tmpfs", ("size=64k", "mode=700"))
        said = self.output("cat /fixed/file; echo; touch /fixed/x 2>/dev/null || echo fixed; echo new >/volume/made;"
                           "stat -c %a /scratch; dd if=/dev/zero of=/scratch/x bs=1k count=100 2>/dev/null || echo full;"
                           "stat -f -c %T /proc /sys /dev/mqueue /dev/shm")
        self.assertEqual(said.split("\n")[:4], ["theirs", "fixed", "700", "full"])
        self.assertEqual(said.split("\n")[4:6], ["proc", "sysfs"])
        self.assertEqual(os.stat(self.work + "/volume/made").st_uid, USER)

    def test_files_of_others_stay_theirs(self):
        secret = self.work + "/secret"
        with open(secret, "w") as out:
            out.write("secret")
        self.mount("/secret", secret, options=("bind",))
        self.shell("cat /secret")
        super().write_config()
        os.chown(secret, 0, 0)
        os.chmod(secret, 0o600)
        self.theirs = lambda: None
        self.assertNotEqual(self.run_container().returncode, 0)

    def test_devices_are_the_hosts(self):
        self.linux["devices"] = [{"path": "/dev/full", "type": "c", "major": 1, "minor": 7}]
        said = self.output("stat -c %t:%T /dev/null /dev/zero /dev/full /dev/urandom; echo >/dev/null && echo written;"
                           "head -c 4 /dev/urandom | wc -c")
        self.assertEqual(said.split(), ["1:3", "1:5", "1:7", "1:9", "written", "4"])
        self.linux["devices"] = [{"path": "/dev/made", "type": "c", "major": 1, "minor": 7}]
        self.refused("linux.devices[0]")

    def test_masks_and_read_only_paths(self):
        said = self.output("wc -c </proc/keys; echo 1 2>/dev/null >/proc/sys/kernel/panic || echo refused")
        self.assertEqual(said.split(), ["0", "refused"])

    def test_names_and_terminal(self):
        self.process["terminal"] = True
        self.shell("tty; hostname")
        self.write_config()
        result = subprocess.run(["script", "-qefc", shlex.join(self.command("run", "--bundle", self.bundle, self.new_id())),
                                 "/dev/null"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=30)
        self.assertEqual(result.stdout.replace("^@", "").split(), ["/dev/pts/0", "conform"])

    def test_no_group_of_its_own(self):
        """No group of the host's is the user's: the container stays where the caller is."""
        name = self.start_sleeping()
        with open("/proc/self/cgroup") as ours, open(f"/proc/{self.state(name)['pid']}/cgroup") as its:
            self.assertEqual(its.read(), ours.read())
        for _ in range(2):
            self.assertEqual(self.exec(name, "id", "-u"), "0")
        self.ok("delete", "--force", name)

    def test_limit_that_cannot_be_is_refused(self):
        self.linux["resources"] = {"pids": {"limit": 20}}
        self.refused("cgroup")

    def test_spec(self):
        self.ok("spec", "--rootless", "--bundle", self.bundle)
        with open(self.bundle + "/config.json") as source:
            spec = json.load(source)
        self.assertEqual([(m["hostID"], m["size"]) for m in spec["linux"]["uidMappings"]], [(USER, 1)])
        spec["process"].update(terminal=False, args=["id", "-u"])
        with open(self.bundle + "/config.json", "w") as out:
            json.dump(spec, out)
        self.theirs()
        result = self.runtime("run", "--bundle", self.bundle, self.new_id())
        self.assertEqual((result.returncode, result.stdout.strip()), (0, "0"), result.stderr)


class Single(AsUser):
    def test_needs_no_privilege(self):
        """Neither a program that has some, nor a way to get any."""
        self.more = "--no-new-privs --bounding-set=-all"
        self.assertEqual(self.output("id -u"), "0")
        name = self.start_sleeping()
        self.assertEqual(self.exec(name, "id", "-u"), "0")

    def test_other_users_are_refused(self):
        self.process["user"] = {"uid": 1000, "gid": 1000}
        self.refused("process.user")
        self.process["user"] = {"uid": 0, "gid": 0, "additionalGids": [5]}
        self.refused("process.user.additionalGids")


class Ranges(Rootless):
    MAPPINGS = [{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": IDS, "size": 65536}]

    def test_other_users(self):
        self.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5]}
        os.chmod(self.rootfs, 0o755)
        os.chmod(self.rootfs + "/tmp", 0o1777)
        self.assertEqual(self.output("id -u; id -g; grep Groups /proc/self/status; touch /tmp/own").split(),
                         ["1000", "1000", "Groups:", "5"])
        self.assertEqual(os.stat(self.rootfs + "/tmp/own").st_uid, IDS + 999)
        self.process["user"] = {"uid": 0, "gid": 0}
        name = self.start_sleeping()
        self.assertEqual(self.exec(name, "id", "-u", flags=("--user", "1000:1000")), "1000")

    def test_ids_that_are_not_the_users_are_refused(self):
        self.linux["uidMappings"] = [self.MAPPINGS[0], {"containerID": 1, "hostID": 1, "size": 10}]
        self.refused("newuidmap")

    def test_without_newuidmap_is_said(self):
        self.write_config()
        command = self.command("run", "--bundle", self.bundle, self.new_id())
        at = command.index("-ec") + 1
        command[at] = "mount --bind $0/passwd /usr/bin/newuidmap\n" + command[at]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("newuidmap", result.stderr)


if __name__ == "__main__":
    unittest.main()
