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
