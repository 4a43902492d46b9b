# shellcheck shell=sh
# Arithmetic, text, files, processes, threads, an event loop, a database in memory, hashes.
cat > /tmp/p.py <<'END'
import asyncio, decimal, hashlib, json, math, os, random, re, struct, subprocess, sys, threading, zlib
print(sys.version_info[:2], sys.byteorder, sys.float_info.max)
print(math.sin(1), math.exp(math.pi), 2 ** 0.5, float.hex(0.1), decimal.Decimal(1) / 7)
random.seed(7)
print([random.random() for _ in range(3)], sum(i * i for i in range(200000)))
data = bytes(random.getrandbits(8) for _ in range(100000))
print(hashlib.sha256(data).hexdigest(), hashlib.blake2b(data).hexdigest()[:32], zlib.crc32(data))
assert zlib.decompress(zlib.compress(data)) == data
print(re.sub(r"(\w+) (\w+)", r"\2 \1", "hello world"), json.dumps({"a": [1, None, "\u00e4"]}))
print(subprocess.run(["sh", "-c", "echo out; exit 3"], capture_output=True))
total, lock = [0], threading.Lock()
def add():
    for _ in range(2000):
        with lock:
            total[0] += 1
threads = [threading.Thread(target=add) for _ in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
print(total)
async def main():
    return await asyncio.gather(*(asyncio.sleep(0.01 * i, i) for i in range(5)))
print(asyncio.run(main()))
os.makedirs("/tmp/d/e")
open("/tmp/d/e/f", "w").write("x" * 5000)
os.rename("/tmp/d/e/f", "/tmp/d/g")
print(sorted(os.listdir("/tmp/d")), os.stat("/tmp/d/g").st_size, oct(os.stat("/tmp/d/g").st_mode))
print(struct.pack("<d", 1 / 3).hex(), os.cpu_count() > 0, os.getuid())
try:
    1 // 0
except ZeroDivisionError as e:
    print(repr(e))
END
python3 /tmp/p.py
# Processes that share memory and queues, signals, terminals, sockets of all kinds, a database on disk, archives,
# memory maps, locks, and errors of the kernel by their names.
cat > /tmp/q.py <<'END'
import bz2, concurrent.futures, contextlib, errno, fcntl, lzma, mmap, multiprocessing as mp
import os, pty, resource, shutil, signal, socket, socketserver, sqlite3, tarfile, tempfile, threading, time, zipfile
def square(x):
    return x * x
def worker(q, v):
    with v.get_lock():
        v.value += 1
    q.put(os.getpid() != os.getppid())
with concurrent.futures.ProcessPoolExecutor(3) as pool:
    print(sum(pool.map(square, range(100))))
q, v = mp.Queue(), mp.Value("i", 0)
ps = [mp.Process(target=worker, args=(q, v)) for _ in range(3)]
[p.start() for p in ps]
print(sorted(q.get() for _ in ps), [p.join() for p in ps], v.value, [p.exitcode for p in ps])
got = []
signal.signal(signal.SIGALRM, lambda n, f: got.append(signal.Signals(n).name))
signal.setitimer(signal.ITIMER_REAL, 0.05)
while not got:
    signal.pause()
print(got, signal.getitimer(signal.ITIMER_REAL))
pid, fd = pty.fork()
if pid == 0:
    os.execvp("sh", ["sh", "-c", "stty -echo; tty > /dev/null && read x && echo got $x"])
time.sleep(0.5)
os.write(fd, b"typed\n")
out = b""
with contextlib.suppress(OSError):
    while chunk := os.read(fd, 1000):
        out += chunk
print(b"got typed" in out, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
class Up(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline().upper())
for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, "/tmp/sock")):
    class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
        address_family = family
    with Server(address, Up) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        with socket.socket(family) as c:
            c.connect(s.server_address)
            c.sendall(b"hello\n")
            print(c.recv(100))
        s.shutdown()
a, b = socket.socketpair()
r, w = os.pipe()
socket.send_fds(a, [b"x"], [w])
_, fds, _, _ = socket.recv_fds(b, 1, 1)
os.write(fds[0], b"passed")
print(os.read(r, 100))
u = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
u[0].bind(("127.0.0.1", 0))
u[1].sendto(b"datagram", u[0].getsockname())
print(u[0].recv(100))
db = sqlite3.connect("/tmp/db")
db.execute("pragma journal_mode = wal")
db.execute("create table t (a integer primary key, b text)")
with db:
    db.executemany("insert into t (b) values (?)", ((str(i) * 3,) for i in range(3000)))
print(db.execute("select count(*), max(b), sum(length(b)) from t").fetchone(), db.execute("pragma integrity_check").fetchone())
text = b"".join(b"%d " % (i * i) for i in range(30000))
print([z.decompress(z.compress(text)) == text for z in (bz2, lzma)])
with tempfile.TemporaryDirectory() as d:
    for i in range(20):
        with open(f"{d}/{i}", "wb") as f:
            f.write(text[: i * 1000])
    os.link(f"{d}/3", f"{d}/hard")
    os.symlink("3", f"{d}/soft")
    os.mkfifo(f"{d}/fifo")
    print(sorted(os.listdir(d))[-4:], os.stat(f"{d}/3").st_nlink, shutil.disk_usage(d).total > 0)
    with tarfile.open("/tmp/x.tar.xz", "w:xz") as t:
        t.add(d, "d")
    with tarfile.open("/tmp/x.tar.xz") as t:
        print(len(t.getnames()), {m.type for m in t.getmembers()} == {b"0", b"1", b"2", b"5", b"6"})
    with zipfile.ZipFile("/tmp/x.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("text", text)
    print(zipfile.ZipFile("/tmp/x.zip").testzip(), os.path.getsize("/tmp/x.zip") < len(text))
    with open(f"{d}/map", "w+b") as f:
        f.truncate(1 << 20)
        with mmap.mmap(f.fileno(), 1 << 20) as m:
            m[500000:500003] = b"abc"
        f.seek(500000)
        print(f.read(4), os.stat(f"{d}/map").st_blocks <= 32)
        fcntl.lockf(f, fcntl.LOCK_EX)
        if os.fork() == 0:
            try:
                fcntl.lockf(open(f"{d}/map", "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                os._exit(e.errno)
            os._exit(0)
        print(errno.errorcode[os.waitstatus_to_exitcode(os.wait()[1])])
    for what in (lambda: open(f"{d}/none"), lambda: os.rmdir(d), lambda: os.mkdir(d), lambda: open(d, "w"), lambda: os.listdir(f"{d}/1"),
                 lambda: os.open(f"{d}/soft", os.O_NOFOLLOW), lambda: socket.create_connection(("127.0.0.1", 1)), lambda: os.kill(99999, 0),
                 lambda: os.mknod("/tmp/n", 0o20600, os.makedev(1, 3)), lambda: os.chroot("/nowhere"), lambda: os.nice(-30),
                 lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)), lambda: socket.sethostname("other"),
                 lambda: os.setxattr("/tmp/db", "trusted.x", b"1"), lambda: os.setxattr("/tmp/db", "user.x", b"1")):
        try:
            print(what() and "done")
        except OSError as e:
            print(type(e).__name__, errno.errorcode[e.errno])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    open("/tmp/large", "wb", buffering=0).write(bytes(1000)) and open("/tmp/large", "ab", buffering=0).write(b"x")
except OSError as e:
    print(errno.errorcode[e.errno])
END
python3 -W ignore /tmp/q.py
