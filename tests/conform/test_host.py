"""What a container is given of the host: network interfaces, memory nodes, CPUs for exec (specification 1.3)."""
import json
import os
import shlex
import subprocess
import unittest

from harness import RuntimeTest, read


@unittest.skipIf(os.environ.get("CONTROL") == "runc", "Debian 12's runc is older than specification 1.3")
class NetDevices(RuntimeTest):
    def run_with_devices(self, prepare):
        """Runs the container from a network namespace that stands for the host's."""
        self.write_config()
        script = f"ip link set lo up; {prepare}; exec {shlex.join(self.command('run', '--bundle', self.bundle, self.new_id()))}"
        return subprocess.run(["unshare", "-n", "sh", "-ec", script], stdin=subprocess.DEVNULL, timeout=30,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_interface_is_moved_with_its_addresses(self):
        self.linux["netDevices"] = {"host0": {"name": "inside0"}, "host1": {}}
        self.shell("ip -o addr show inside0; ip -o link show inside0; ip -o link show host1")
        result = self.run_with_devices(
            "ip link add host0 mtu 1400 address 02:00:00:00:00:17 type veth peer name peer0;"
            "ip addr add 192.0.2.7/24 brd 192.0.2.255 dev host0; ip addr add 2001:db8::7/64 dev host0;"
            "ip link set peer0 up; ip link add host1 type veth peer name peer1")
        self.assertEqual(result.returncode, 0, result.stderr)
        for word in ("192.0.2.7/24", "192.0.2.255", "2001:db8::7/64", "mtu 1400", "02:00:00:00:00:17",
                     "inside0@", "host1@", ",UP"):
            self.assertIn(word, result.stdout)

    def test_in_a_user_namespace_and_in_one_by_path(self):
        self.linux["netDevices"] = {"host0": {"name": "inside0"}}
        self.shell("ip -o addr show inside0")
        prepare = "ip link add host0 type veth peer name peer0; ip addr add 192.0.2.7/24 dev host0"
        holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; cat"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        try:
            holder.stdout.readline()
            self.namespace("network", f"/proc/{holder.pid}/ns/net")
            result = self.run_with_devices(prepare)
            self.assertIn("192.0.2.7/24", result.stdout, result.stderr)
        finally:
            holder.kill()
            holder.communicate()
        self.namespace("network")
        self.user_namespace()
        result = self.run_with_devices(prepare)
        self.assertIn("192.0.2.7/24", result.stdout, result.stderr)

    def test_refusals_name_the_field(self):
        for devices, word in (({"missing0": {}}, "missing0"), ({"lo": {"name": "a b"}}, "a b"),
                              ({"a" * 16: {}}, "a" * 16), ({"x/y": {}}, "x/y"),
                              ({"one0": {"name": "same"}, "two0": {"name": "same"}}, "same")):
            with self.subTest(devices=devices):
                self.linux["netDevices"] = devices
                result = self.run_with_devices("true")
                self.assertNotEqual(result.returncode, 0)
                self.assertIn("netDevices", result.stderr)
                self.assertIn(word, result.stderr)

    def test_interface_that_cannot_be_moved_is_as_it_was(self):
        # The one name is taken in the container, the other interface belongs to its namespace.
        for host, name in (("host0", "lo"), ("lo", "inside0")):
            with self.subTest(host):
                self.linux["netDevices"] = {host: {"name": name}}
                self.write_config()
                command = shlex.join(self.command("run", "--bundle", self.bundle, self.new_id()))
                script = ("ip link set lo up; ip link add host0 type veth peer name peer0; ip link set peer0 up;"
                          f"ip link set host0 up; ip addr add 192.0.2.7/24 dev {host};"
                          f"ip addr add 2001:db8::7/64 dev {host};"
                          f"! {command}; ip -o addr show {host}; ip -o link show {host}")
                result = subprocess.run(["unshare", "-n", "sh", "-ec", script], stdin=subprocess.DEVNULL, timeout=30,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn("netDevices", result.stderr)
                for word in ("192.0.2.7/24", "2001:db8::7/64", ",UP"):
                    self.assertIn(word, result.stdout)

    def test_needs_a_network_namespace(self):
        self.linux["netDevices"] = {"host0": {}}
        self.no_namespace("network")
        self.refused("netDevices")


@unittest.skipIf(os.environ.get("CONTROL") == "runc", "Debian 12's runc is older than specification 1.3")
class MemoryPolicy(RuntimeTest):
    def policy(self, **policy):
        self.linux["memoryPolicy"] = policy
        return self.output("sed -n 2p /proc/self/numa_maps").split()[1]

    def test_modes(self):
        if not os.path.exists("/proc/self/numa_maps"):
            self.skipTest("the kernel knows no nodes")
        self.assertEqual(self.policy(mode="MPOL_DEFAULT"), "default")
        self.assertEqual(self.policy(mode="MPOL_LOCAL"), "local")
        self.assertEqual(self.policy(mode="MPOL_BIND", nodes="0"), "bind:0")
        self.assertEqual(self.policy(mode="MPOL_INTERLEAVE", nodes="0-0"), "interleave:0")
        self.assertEqual(self.policy(mode="MPOL_PREFERRED", nodes="0", flags=["MPOL_F_STATIC_NODES"]), "prefer=static:0")

    def test_exec_has_it_too(self):
        if not os.path.exists("/proc/self/numa_maps"):
            self.skipTest("the kernel knows no nodes")
        self.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0"}
        name = self.start_sleeping()
        self.assertIn("bind:0", self.exec(name, "sed", "-n", "2p", "/proc/self/numa_maps"))

    def test_refusals_name_the_field(self):
        for policy in ({}, {"mode": "BAD"}, {"mode": "MPOL_BIND", "nodes": "bad"}, {"mode": "MPOL_INTERLEAVE"},
                       {"mode": "MPOL_BIND", "nodes": "10284838"}, {"mode": "MPOL_PREFERRED", "flags": ["BAD"]},
                       {"mode": "MPOL_BIND", "nodes": "0,"[:1] + "-"},
                       {"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}):
            with self.subTest(policy=policy):
                self.linux["memoryPolicy"] = policy
                self.refused("memoryPolicy")


@unittest.skipIf(os.environ.get("CONTROL") == "runc", "Debian 12's runc has no execCPUAffinity")
class Affinity(RuntimeTest):
    SHOW = ("grep", "Cpus_allowed_list", "/proc/self/status")

    def test_is_for_exec_alone(self):
        self.process["execCPUAffinity"] = {"initial": "0", "final": "0"}
        name = self.start_sleeping()
        pid = self.state(name)["pid"]
        ours = [line for line in read("/proc/self/status").splitlines() if line.startswith("Cpus_allowed_list")]
        self.assertIn(ours[0], read(f"/proc/{pid}/status"))
        self.assertEqual(self.exec(name, *self.SHOW).split()[-1], "0")

    def test_final_wins_over_initial(self):
        if os.cpu_count() < 2:
            self.skipTest("one CPU only")
        self.process["execCPUAffinity"] = {"initial": "0", "final": "1"}
        name = self.start_sleeping()
        self.assertEqual(self.exec(name, *self.SHOW).split()[-1], "1")

    def test_process_document_has_its_own(self):
        self.process["execCPUAffinity"] = {"final": "0"}
        name = self.start_sleeping()
        path = os.path.join(self.work, "process.json")
        with open(path, "w") as out:
            json.dump({**self.process, "args": list(self.SHOW), "execCPUAffinity": {"initial": f"0-{os.cpu_count() - 1}"}}, out)
        shown = self.ok("exec", "--process", path, name).split()[-1]
        self.assertEqual(shown, "0" if os.cpu_count() == 1 else f"0-{os.cpu_count() - 1}")

    def test_bad_list_is_refused(self):
        for affinity in ({"initial": "x"}, {"final": "1-0"}, {"final": "999999"}):
            with self.subTest(affinity=affinity):
                self.process["execCPUAffinity"] = affinity
                name = self.start_sleeping()
                result = self.runtime("exec", name, "true")
                self.assertNotEqual(result.returncode, 0)
                self.assertIn("execCPUAffinity." + list(affinity)[0], result.stderr)


if __name__ == "__main__":
    unittest.main()
