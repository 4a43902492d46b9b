#!/usr/bin/env python3
"""Times commands side by side.

    compare.py [--runs N] [--json] NAME=COMMAND NAME=COMMAND ...

Runs the commands (shell text) in turn, N rounds after two rounds of warm-up, so that whatever else the
machine does falls on all alike, and prints for each the median and minimum wall time, the median CPU
time of the command and its children, and the ratio of its median to the first one's.
A command that fails stops the whole comparison: a time of something that did not work is no time.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def once(command):
    """Wall seconds, CPU seconds (user + system, with waited-for children)."""
    start = time.perf_counter()
    process = subprocess.Popen(
        ["/bin/sh", "-c", "exec " + command],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != 0:
        sys.exit(f"compare: failed with {process.returncode}: {command}\n{errors.decode()}")
    return wall, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("commands", nargs="+", metavar="NAME=COMMAND")
    arguments = parser.parse_args()
    commands = [item.split("=", 1) for item in arguments.commands]
    samples = {name: [] for name, _ in commands}
    for run in range(arguments.runs + 2):
        for name, command in commands:
            sample = once(command)
            if run >= 2:
                samples[name].append(sample)
    first = None
    rows = []
    for name, _ in commands:
        wall, cpu = zip(*samples[name])
        median = statistics.median(wall)
        first = first or median
        rows.append({
            "name": name, "runs": len(wall), "wall_ms": median * 1e3, "wall_min_ms": min(wall) * 1e3,
            "cpu_ms": statistics.median(cpu) * 1e3, "ratio": median / first})
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'':28}{'wall ms':>9}{'min':>9}{'CPU ms':>9}{'ratio':>8}")
    for row in rows:
        print(f"{row['name']:28}{row['wall_ms']:9.1f}{row['wall_min_ms']:9.1f}{row['cpu_ms']:9.1f}"
              f"{row['ratio']:8.2f}")
    print(f"({arguments.runs} runs each, interleaved; ratio: of medians, to the first)")


if __name__ == "__main__":
    main()
