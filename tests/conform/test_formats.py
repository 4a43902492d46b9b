"""Output that engines read, compared member for member with runc's, where runc is installed."""
import json
import os
import shutil
import subprocess
import unittest

from harness import RuntimeTest


def shape(value, path=""):
    """The paths of all members, with the kind of their values."""
    found = {path: "number" if isinstance(value, (int, float)) else type(value).__name__}
    if isinstance(value, dict):
        for key, member in value.items():
            found.update(shape(member, f"{path}.{key}"))
    elif isinstance(value, list):
        for member in value:
            found.update(shape(member, path + "[]"))
    return found


@unittest.skipUnless(shutil.which("runc"), "runc is not installed: nothing to compare with")
class Formats(RuntimeTest):
    def setUp(self):
        super().setUp()
        self.config["annotations"] = {"org.example": "value"}
        self.linux["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 50})
        self.process["args"] = ["sleep", "1000"]
        self.write_config()
        self.ours, self.theirs = self.new_id(), "control-" + os.path.basename(self.work)
        self.run_detached(self.command(), self.ours)
        self.run_detached(["runc", "--root", self.root + "-control"], self.theirs)

    def tearDown(self):
        self.control("delete", "--force", self.theirs)
        super().tearDown()

    def run_detached(self, command, name):
        with open(os.path.join(self.work, "nothing"), "w+") as nothing:
            subprocess.run([*command, "run", "--detach", "--bundle", self.bundle, name], check=True,
                           stdin=nothing, stdout=nothing, stderr=nothing, timeout=30)

    def control(self, *arguments):
        return subprocess.run(["runc", "--root", self.root + "-control", *arguments], timeout=30,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout

    def assert_same_shape(self, *arguments):
        """Both answers as values. The id comes last."""
        ours = json.loads(self.ok(*arguments, *([self.ours] if arguments[0] != "list" else [])))
        theirs = json.loads(self.control(
            *arguments, *([self.theirs] if arguments[0] != "list" else [])))
        self.assertEqual(shape(ours), shape(theirs))
        return ours, theirs

    def test_state(self):
        ours, theirs = self.assert_same_shape("state")
        for key in ("status", "bundle", "rootfs", "annotations", "owner"):
            self.assertEqual(ours[key], theirs[key], key)

    def test_list(self):
        self.assert_same_shape("list", "--format", "json")
        ours, theirs = self.ok("list").splitlines(), self.control("list").splitlines()
        self.assertEqual(ours[0].split(), theirs[0].split())
        self.assertEqual(len(ours[1].split()), len(theirs[1].split()))

    def test_ps(self):
        self.assert_same_shape("ps", "--format", "json")
        ours, theirs = self.ok("ps", self.ours).splitlines(), self.control("ps", self.theirs).splitlines()
        self.assertEqual(ours[0], theirs[0])
        self.assertEqual(ours[1].split()[-2:], theirs[1].split()[-2:])
        self.assertIn("sleep", self.ok("ps", self.ours, "-o", "pid,comm"))

    def test_stats(self):
        """What is 0 is left out of some places, so members may be missing on one side."""
        ours = json.loads(self.ok("events", "--stats", self.ours))
        theirs = json.loads(self.control("events", "--stats", self.theirs))
        self.assertEqual(set(ours), set(theirs))
        self.assertEqual(set(ours["data"]), set(theirs["data"]))
        for section, sometimes in (("cpuset", {"cpus", "mems"}), ("memory", {"cache"}), ("pids", set()),
                                   ("cpu", set())):
            self.assertEqual(set(ours["data"][section]) - sometimes,
                             set(theirs["data"][section]) - sometimes)
        for kind in ("usage", "swap"):
            self.assertLessEqual({"limit", "usage", "failcnt"}, set(ours["data"]["memory"][kind]))
        self.assertEqual(set(ours["data"]["memory"]["raw"]), set(theirs["data"]["memory"]["raw"]))
        self.assertEqual(ours["data"]["memory"]["usage"]["limit"], 64 << 20)
        self.assertEqual(ours["data"]["pids"], {"current": 1, "limit": 50})

    def test_features(self):
        ours, theirs = shape(json.loads(self.ok("features"))), shape(json.loads(self.control("features")))
        missing = {path for path in theirs if not path.startswith(".annotations.")} - set(ours)
        self.assertEqual(missing, set())

    def test_spec(self):
        for flags in ([], ["--rootless"]):
            both = []
            for command in (self.command(), ["runc"]):
                where = os.path.join(self.work, f"spec{len(flags)}{len(both)}")
                os.mkdir(where)
                subprocess.run([*command, "spec", *flags, "--bundle", where], check=True, timeout=30)
                with open(where + "/config.json") as source:
                    both.append(json.load(source))
                del both[-1]["ociVersion"], both[-1]["hostname"]
                # Left out since runc 1.2.
                both[-1]["process"]["capabilities"].pop("ambient", None)
            self.assertEqual(both[0], both[1])


if __name__ == "__main__":
    unittest.main()
