"""The guest's half of tests/stress/run, and its first process: several workers do rounds at the same time
until the time is over. A round that finds anything wrong is a line with FAULT."""
import bz2
import ctypes
import filecmp
import fcntl
import glob
import hashlib
import json
import lzma
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib

import peer
from peer import Wrong

HOST, GUEST = "10.77.0.1", "10.77.0.2"
STREAMS, DATAGRAMS, INCOMING = 5000, 5001, 6000
VSOCK_OUT, VSOCK_IN = 1000, 2000
HOST_CID = 2
VSOCK_CONNECT_TIMEOUT = 6  # SO_VM_SOCKETS_CONNECT_TIMEOUT
SILENT_S = 3600  # so long may a worker take for a round
BAD = re.compile(rb"WARNING:|BUG:|Oops|rcu.*(stall|detected|kthread)|soft lockup|hung_task|blocked for more|"
                 rb"I/O error|EXT4-fs (error|warning)|[Cc]locksource.*unstable|general protection|segfault|"
                 rb"page allocation failure|TX timeout|NETDEV WATCHDOG|invalid opcode|trap |virtio.*fail")
DATA = pathlib.Path("/data")
SHARE = pathlib.Path("/share")


def say(text):
    """One line in one write: no lock, which a process that is forked meanwhile would find taken for ever."""
    os.write(1, (text[:1500].replace("\n", " | ") + "\n").encode())


def run(*command, **options):
    """The output of a program that has to succeed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", **options)
    if done.returncode:
        raise Wrong(f"{' '.join(map(str, command))[:200]}: {done.returncode}: {done.stdout[-600:]}")
    return done.stdout


def expect(what, found, wanted):
    if found != wanted:
        raise Wrong(f"{what}: {str(found)[:200]!r} instead of {str(wanted)[:200]!r}")


def drop_caches():
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("1\n")


def digest_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def write_random(path, seed, size):
    """A file that is on the medium when this returns; its digest, of what was meant to be written."""
    source, digest = random.Random(seed), hashlib.sha256()
    with open(path, "wb") as file:
        while size:
            data = source.randbytes(min(size, 1 << 16))
            digest.update(data)
            file.write(data)
            size -= len(data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


# Workers. Each gets the number of its round and a random source of its own.

def disk(number, dice):
    """Random writes and reads with checksums and fsync, past the page cache and through it."""
    engine = ("libaio", "io_uring", "psync")[number % 3]
    direct = dice.randrange(2)
    run("fio", "--name=verify", "--filename=/data/fio", "--rw=randrw", "--bsrange=512-64k" if not direct
        else "--bsrange=4k-64k", "--size=48m", "--io_size=24m", f"--ioengine={engine}",
        f"--iodepth={dice.choice((1, 8, 32))}", f"--direct={direct}", f"--fsync={dice.choice((1, 16, 64))}",
        "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", f"--randseed={dice.randrange(1 << 30)}")
    digests = {}
    for i in range(4):
        path = DATA / f"file{dice.randrange(12)}"
        digests[path] = write_random(path, dice.random(), dice.randrange(1, 8 << 20))
    drop_caches()
    for path, digest in digests.items():
        expect(f"what {path} contains", digest_of(path), digest)
    if number % 4 == 3:
        run("fstrim", "/data")
        for path, digest in digests.items():
            expect(f"after a trim, what {path} contains", digest_of(path), digest)


def net(_number, dice):
    """Streams of bytes each way at once, short connections, datagrams of every size."""
    for _ in range(3):
        peer.call(socket.create_connection((HOST, STREAMS)), dice.randrange(1 << 60),
                  dice.randrange(8 << 20), dice.randrange(8 << 20))
    for _ in range(40):
        peer.call(socket.create_connection((HOST, STREAMS)), dice.randrange(1 << 60),
                  dice.randrange(3000), dice.randrange(3000))
    lost = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        for i in range(40):
            data = dice.randbytes(dice.choice((dice.randrange(1, 1500), dice.randrange(1, 65000))))
            s.sendto(data, (HOST, DATAGRAMS))
            try:
                got = s.recv(1 << 16)
            except TimeoutError:
                lost += 1
                continue
            if got != data and not lost:  # one that was late would be the answer before
                raise Wrong(f"a datagram of {len(data)} bytes came back as another of {len(got)}")
    if lost > 4:
        raise Wrong(f"{lost} of 40 datagrams were lost")


def share(number, dice):
    """Trees, files of both sides, locks and verified random writes on a directory of the host."""
    mine = SHARE / f"round{number}"
    mine.mkdir()
    run("cp", "-a", "/usr/lib/python3.11/json", "/usr/lib/python3.11/asyncio", mine)
    for name in ("json", "asyncio"):
        run("diff", "-r", f"/usr/lib/python3.11/{name}", mine / name)
    run("tar", "-C", mine, "-czf", mine / "all.tgz", "json", "asyncio")
    (mine / "again").mkdir()
    run("tar", "-C", mine / "again", "-xzf", mine / "all.tgz")
    run("diff", "-r", mine / "json", mine / "again" / "json")
    for path in mine.glob("asyncio/*.py"):
        path.rename(path.with_suffix(".moved"))
    run("fio", "--name=verify", f"--filename={mine}/fio", "--rw=randrw", "--bs=4k", "--size=4m",
        "--ioengine=psync", "--fsync=32", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
        f"--randseed={dice.randrange(1 << 30)}")
    with open(mine / "lock", "w") as one, open(mine / "lock", "w") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise Wrong("two have the same lock")
        except BlockingIOError:
            pass
    # The name says what is in it; who finds it checks and removes it.
    path = mine / "new"
    digest = write_random(path, dice.random(), dice.randrange(1, 3 << 20))
    path.rename(SHARE / "to-host" / digest)
    for path in (SHARE / "to-guest").iterdir():
        if not path.name.startswith("."):
            expect("a file of the host's", digest_of(path), path.name)
            path.unlink()
    shutil.rmtree(mine)


def vsock_connect():
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    # Linux's 2 seconds are too short when many want the CPUs; Python's setsockopt has no way to say so.
    time_s = struct.pack("qq", 120, 0)
    if ctypes.CDLL(None).setsockopt(s.fileno(), socket.AF_VSOCK, VSOCK_CONNECT_TIMEOUT, time_s, len(time_s)):
        raise Wrong("setsockopt")
    s.connect((HOST_CID, VSOCK_OUT))
    return s


def vsock(_number, dice):
    for _ in range(3):
        peer.call(vsock_connect(), dice.randrange(1 << 60), dice.randrange(4 << 20), dice.randrange(4 << 20))
    for _ in range(30):
        peer.call(vsock_connect(), dice.randrange(1 << 60), dice.randrange(3000), dice.randrange(3000))


def postgres_tool(name, *arguments):
    directory = glob.glob("/usr/lib/postgresql/*/bin")[0]
    return run("runuser", "-u", "postgres", "--", f"{directory}/{name}", *arguments, cwd="/tmp")


def postgres_start():
    postgres_tool("pg_ctl", "-D", "/data/pg", "-w", "-t", "600", "-l", "/data/pg.log", "start")


def sql(text):
    return postgres_tool("psql", "-h", "/tmp", "-d", "postgres", "-Atqc", text).strip()


def postgres(number, dice):
    """pgbench; what it moved has to add up, also after the server was killed and has recovered."""
    if number == 0:
        pathlib.Path("/data/pg").mkdir()
        shutil.chown("/data/pg", "postgres", "postgres")
        pathlib.Path("/data/pg.log").touch()
        shutil.chown("/data/pg.log", "postgres", "postgres")
        postgres_tool("initdb", "-k", "-D", "/data/pg")
        with open("/data/pg/postgresql.conf", "a") as file:
            file.write("listen_addresses = ''\nunix_socket_directories = '/tmp'\n")
        postgres_start()
        postgres_tool("pgbench", "-h", "/tmp", "-i", "-s", "3", "-q", "postgres")
    result = postgres_tool("pgbench", "-h", "/tmp", "-c", "4", "-j", "2", "-T", "30", "-n", "postgres")
    if "number of failed transactions: 0 " not in result:
        raise Wrong(result[-500:])
    if number % 3 == 2:
        postgres_tool("pg_ctl", "-D", "/data/pg", "-w", "-t", "600", "-m", "immediate", "stop")
        postgres_start()
    sums = sql("select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from "
               "pgbench_branches), (select sum(tbalance) from pgbench_tellers), (select sum(delta) from "
               "pgbench_history)").split("|")
    expect("sums of the accounts, branches, tellers and the history", len(set(sums)), 1)
    done = int(re.search(r"transactions actually processed: (\d+)", result)[1])
    if number and int(sql("select count(*) from pgbench_history")) < done:
        raise Wrong("transactions were lost")
    if number % 5 == 4:
        sql("vacuum full")
        sql("reindex database postgres")


PROGRAM = """
#include <stdint.h>
#include <stdio.h>
static uint64_t state = %dull;
static uint32_t next(void) { state = state * 6364136223846793005ull + 1442695040888963407ull; return state >> 33; }
int main(void)
{
    static uint32_t table[4096];
    uint64_t sum = 0;
    double area = 0;
    for (int i = 0; i < 4096; i++) table[i] = next();
    for (int i = 1; i < 4096; i++)
        for (int k = i; k > 0 && table[k - 1] > table[k]; k--) {
            uint32_t t = table[k]; table[k] = table[k - 1]; table[k - 1] = t;
        }
    for (int i = 0; i < 4096; i++) { sum = sum * 31 + table[i]; area += table[i] / 4096.0; }
    printf("%%llu %%.6f\\n", (unsigned long long)sum, area);
}
"""


def compiler(_number, dice):
    """The same program, differently optimized, computes what Python does."""
    seed = dice.randrange(1 << 60)
    state, table = seed, []
    for _ in range(4096):
        state = (state * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        table.append(state >> 33)
    total, area = 0, 0.0
    for value in sorted(table):
        total = (total * 31 + value) & (1 << 64) - 1
        area += value / 4096.0
    with tempfile.TemporaryDirectory(dir="/data") as name:
        source = pathlib.Path(name) / "p.c"
        source.write_text(PROGRAM % seed)
        for flags in (["-O0"], ["-O2"], ["-O3", "-mavx2"], ["-Os", "-static", "-flto"]):
            run("gcc", *flags, "-o", f"{name}/p", source)
            expect(f"a program compiled with {flags}", run(f"{name}/p").strip(), f"{total} {area:.6f}")


def python(_number, dice):
    data = dice.randbytes(300000) + bytes(100000) + b"abc" * 50000
    for module in (zlib, bz2, lzma):
        expect(f"what {module.__name__} packed", module.decompress(module.compress(data)), data)
    expect("a SHA-256, beside coreutils'", run("sha256sum", write_to("/tmp/python-data", data)).split()[0],
           hashlib.sha256(data).hexdigest())
    prime = (1 << 2203) - 1
    expect("Fermat's little theorem", pow(dice.randrange(2, 1 << 2000), prime - 1, prime), 1)
    tree = {str(i): [dice.random(), dice.randrange(1 << 60), None, "ä" * i] for i in range(300)}
    expect("JSON", json.loads(json.dumps(tree)), tree)
    with tempfile.TemporaryDirectory(dir="/data") as name, sqlite3.connect(f"{name}/db") as db:
        db.execute("create table t (k integer primary key, v blob)")
        values = {i: dice.randbytes(dice.randrange(2000)) for i in range(500)}
        db.executemany("insert into t values (?, ?)", values.items())
        db.commit()
        expect("SQLite's check", db.execute("pragma integrity_check").fetchone(), ("ok",))
        expect("rows of SQLite", dict(db.execute("select k, v from t")), values)
    pids = [os.fork() or os._exit(i) for i in range(20)]
    for i, pid in enumerate(pids):
        expect("the exit code of a fork", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), i)


def write_to(path, data):
    pathlib.Path(path).write_bytes(data)
    return path


def openssl(number, dice):
    kind = ("rsa2048", "ecdsap256", "ed25519", "sha256")[number % 4]
    for arguments in ((kind,), ("-evp", ("aes-256-gcm", "chacha20-poly1305")[number % 2])):
        result = run("openssl", "speed", "-seconds", "1", *arguments)
        # One that has time for one operation only prints no table.
        if "options:" not in result or re.search("failure|:error:", result):
            raise Wrong(f"openssl speed {arguments}: {result[-800:]}")
    with tempfile.TemporaryDirectory(dir="/data") as name:
        data = dice.randbytes(1 << 20)
        write_to(f"{name}/plain", data)
        for cipher in ("aes-256-cbc", "aes-128-ctr", "chacha20", "camellia-256-cbc"):
            word = f"pass:{dice.random()}"
            run("openssl", "enc", f"-{cipher}", "-pbkdf2", "-in", f"{name}/plain", "-out", f"{name}/secret",
                "-pass", word)
            run("openssl", "enc", "-d", f"-{cipher}", "-pbkdf2", "-in", f"{name}/secret", "-out",
                f"{name}/again", "-pass", word)
            expect(f"what {cipher} encrypted", filecmp.cmp(f"{name}/plain", f"{name}/again", False), True)
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-out", f"{name}/key")
        run("openssl", "ec", "-in", f"{name}/key", "-pubout", "-out", f"{name}/public")
        run("openssl", "dgst", "-sha512", "-sign", f"{name}/key", "-out", f"{name}/sign", f"{name}/plain")
        run("openssl", "dgst", "-sha512", "-verify", f"{name}/public", "-signature", f"{name}/sign",
            f"{name}/plain")
    expect("a SHA-1 of NIST's", hashlib.new("sha1", b"abc").hexdigest(),
           "a9993e364706816aba3e25717850c26c9cd0d89d")


APT_PACKAGES = ("git", "jq", "file", "bc", "strace", "tree")


def apt(_number, _dice):
    """The archive's signed index, packages with what they need, their programs, and all of it off again."""
    get = ("apt-get", "-q", "-y", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=0", "-o",
           "APT::Install-Recommends=false", "-o", "DPkg::Use-Pty=0")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
    for path in glob.glob("/var/lib/apt/lists/*Packages*") + glob.glob("/var/lib/apt/lists/*Release*"):
        os.unlink(path)
    run(*get, "clean", env=environment)
    result = run(*get, "update", env=environment)
    if "Err:" in result or "W:" in result:
        raise Wrong(result[-500:])
    run(*get, "install", *APT_PACKAGES, env=environment)
    expect("jq", subprocess.run(["jq", ".a|add"], input='{"a":[1,2,39]}', text=True, stdout=subprocess.PIPE,
                                check=True).stdout, "42\n")
    expect("bc", subprocess.run(["bc"], input="2^200\n", text=True, stdout=subprocess.PIPE, check=True).stdout,
           f"{2 ** 200}\n")
    with tempfile.TemporaryDirectory(dir="/data") as name:
        shutil.copytree("/usr/lib/python3.11/json", f"{name}/json")
        run("git", "init", "-q", name)
        run("git", "-C", name, "add", ".")
        run("git", "-C", name, "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "all")
        run("git", "-C", name, "fsck", "--full", "--strict")
    run("strace", "-f", "-c", "-o", "/tmp/strace", "file", "/usr/bin/python3")
    changed = [line for line in subprocess.run(["dpkg", "--verify", "git", "jq", "libc6", "gcc-12"],
                                               stdout=subprocess.PIPE, text=True).stdout.splitlines()
               if not line.startswith("missing")]
    expect("dpkg --verify", changed, [])
    run(*get, "purge", "--autoremove", *APT_PACKAGES, env=environment)
    expect("dpkg --audit", run("dpkg", "--audit"), "")


WORKERS = {f.__name__: f for f in (disk, net, share, vsock, postgres, compiler, python, openssl, apt)}


class Worker(threading.Thread):
    """A process that does rounds of one kind, and who waits for it: interpreters of their own, so that the
    workers use several CPUs."""

    def __init__(self, name, until, seed):
        super().__init__(daemon=True)
        self.work, self.until, self.seed = WORKERS[name], until, seed
        self.rounds, self.faults, self.pid, self.since = 0, 0, 0, time.monotonic()

    def one(self, number):
        try:
            self.work(number, random.Random(f"{self.work.__name__} {self.seed} {number}"))
            return 0
        except BaseException as error:  # whatever it is, it is a finding
            where = traceback.extract_tb(error.__traceback__)
            lines = ",".join(str(frame.lineno) for frame in where if frame.filename == __file__)
            say(f"FAULT {self.work.__name__} round {number} (line {lines}): {error!r}")
            return 1

    def run(self):
        while time.monotonic() < self.until:
            self.since = time.monotonic()
            self.pid = os.fork()
            if self.pid == 0:
                os.closerange(3, 1024)  # connections of those who serve the host, which would not end
                os._exit(self.one(self.rounds))
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.pid = 0
            if code:
                self.faults += 1
                if code != 1:
                    say(f"FAULT {self.work.__name__} round {self.rounds}: the process ended with {code}")
                time.sleep(5)
            else:
                say(f"round {self.work.__name__} {self.rounds} {time.monotonic() - self.since:.1f}")
            self.rounds += 1


def watch_kernel():
    """What the kernel complains about."""
    log = os.open("/dev/kmsg", os.O_RDONLY)
    while True:
        try:
            line = os.read(log, 8192)
        except BrokenPipeError:
            continue
        if BAD.search(line):
            say("FAULT kernel: " + line.split(b";", 1)[-1].decode(errors="replace").strip())


def set_up(options):
    for kind, where in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run"),
                        ("devpts", "/dev/pts"), ("tmpfs", "/dev/shm"), ("tmpfs", "/tmp")):
        os.makedirs(where, exist_ok=True)
        subprocess.run(["mount", "-t", kind, kind, where], stderr=subprocess.DEVNULL)
    os.chmod("/tmp", 0o1777)
    os.environ.update(PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME="/root",
                      LC_ALL="C.UTF-8")
    for command in ("ip link set lo up", f"ip addr add {GUEST}/24 dev eth0", "ip link set eth0 up",
                    "mkfs.ext4 -q /dev/vdb"):
        run(*command.split())
    DATA.mkdir(exist_ok=True)
    run("mount", "/dev/vdb", DATA)
    pathlib.Path("/etc/apt/sources.list").write_text(f"deb http://{HOST}/debian bookworm main\n")
    shutil.rmtree("/etc/apt/sources.list.d", ignore_errors=True)
    if "share" in options:
        SHARE.mkdir(exist_ok=True)
        run("mount", "-t", "virtiofs", "stress", SHARE)


def listen(options):
    def wrong(text):
        say(f"FAULT incoming: {text}")

    peer.serve(socket.create_server((GUEST, INCOMING)), wrong)
    if "vsock" in options:
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        s.bind((socket.VMADDR_CID_ANY, VSOCK_IN))
        s.listen(16)
        peer.serve(s, wrong)


def kernel_state():
    for key in "wl":
        pathlib.Path("/proc/sysrq-trigger").write_text(key)
    for line in run("dmesg").splitlines()[-200:]:
        say("kernel: " + line)


def wait_for(workers, until):
    """Says every half minute that this guest is alive, and what its clock says."""
    told = set()
    while any(w.is_alive() for w in workers):
        now = time.monotonic()
        say(f"alive {now:.3f} {time.time():.3f} " + " ".join(
            f"{w.work.__name__}={w.rounds}/{now - w.since:.0f}s" for w in workers if w.is_alive()))
        for w in workers:
            if w.is_alive() and now - w.since > SILENT_S and w not in told:
                told.add(w)
                say(f"FAULT {w.work.__name__} round {w.rounds}: not done after {SILENT_S} seconds")
                for line in run("ps", "axfo", "pid,ppid,stat,wchan:20,time,args").splitlines():
                    say("process: " + line)
                kernel_state()
        if now > until + SILENT_S:
            break
        busy = [w for w in workers if w.is_alive()]
        for w in busy:
            w.join(30 / len(busy))


def finish(workers):
    for w in workers:
        if w.is_alive() and w.pid:
            os.kill(w.pid, signal.SIGKILL)
    if pathlib.Path("/data/pg/postmaster.pid").exists():
        postgres_tool("pg_ctl", "-D", "/data/pg", "-w", "-t", "300", "stop")
    run("umount", DATA)
    run("e2fsck", "-f", "-n", "/dev/vdb")
    total = sum(w.faults for w in workers)
    for w in workers:
        say(f"total {w.work.__name__}: {w.rounds} rounds, {w.faults} with faults")
    say(f"stress: ended, {total} faults of workers")


def main():
    options = dict(word.split("=", 1) for word in pathlib.Path("/stress/options").read_text().split())
    os.environ["LC_ALL"] = "C.UTF-8"
    workers = []
    try:
        set_up(options)
        say("kernel " + os.uname().release + f", {os.cpu_count()} CPUs")
        until = time.monotonic() + float(options["seconds"])
        threading.Thread(target=watch_kernel, daemon=True).start()
        listen(options)
        say("ready")
        workers = [Worker(name, until, options["seed"]) for name in options["workers"].split(",")]
        for w in workers:
            w.start()
        wait_for(workers, until)
        finish(workers)
    except BaseException as error:
        say("FAULT guest: " + "".join(traceback.format_exception(error))[-1400:])
    run("sync")
    # All file systems become read-only: what was started besides is not waited for.
    pathlib.Path("/proc/sys/kernel/printk").write_text("7\n")
    pathlib.Path("/proc/sysrq-trigger").write_text("u")
    subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)"])
    while True:
        time.sleep(60)


def first_process():
    """Waits for everybody who has nobody else."""
    if os.fork():
        while True:
            os.wait()
    main()


first_process()
