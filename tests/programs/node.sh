# shellcheck shell=sh
# Code generated at run time, garbage, promises, worker threads, a server on the loopback interface; files,
# streams, children, timers, shared memory between workers.
cat > /tmp/n.js <<'END'
const http = require("http"), crypto = require("crypto"), { Worker } = require("worker_threads");
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
console.log(fib(22), Math.sin(1), 0.1 + 0.2, 2n ** 100n, [3, 1, 2].sort());
let garbage = [];
for (let i = 0; i < 200000; i++) { garbage.push({ i }); if (i % 1000 === 0) garbage = []; }
console.log(crypto.createHash("sha256").update("x".repeat(100000)).digest("hex"));
console.log(JSON.stringify(new Map([[1, { a: [true, null] }]]).get(1)), "\u00e4".normalize("NFD").length);
const worker = new Worker("require('worker_threads').parentPort.postMessage(6 * 7)", { eval: true });
worker.on("message", (m) => {
	console.log("worker", m);
	const server = http.createServer((q, r) => r.end(q.url.toUpperCase()));
	server.listen(0, "127.0.0.1", () => {
		http.get({ host: "127.0.0.1", port: server.address().port, path: "/hello" }, (r) => {
			r.on("data", (d) => console.log(String(d), r.statusCode));
			r.on("end", () => server.close());
		});
	});
});
END
node /tmp/n.js
cat > /tmp/m.mjs <<'END'
import fs from "node:fs/promises";
import net from "node:net";
import zlib from "node:zlib";
import { spawn } from "node:child_process";
import { createReadStream, createWriteStream, watch } from "node:fs";
import { pipeline } from "node:stream/promises";
import { setTimeout as after } from "node:timers/promises";
import { Worker } from "node:worker_threads";

await fs.mkdir("/tmp/tree/a/b", { recursive: true });
await fs.writeFile("/tmp/tree/a/f", "line\n".repeat(40000));
await pipeline(createReadStream("/tmp/tree/a/f"), zlib.createGzip(), zlib.createGunzip(), createWriteStream("/tmp/tree/a/b/g"));
console.log((await fs.readFile("/tmp/tree/a/b/g")).equals(await fs.readFile("/tmp/tree/a/f")),
	(await fs.readdir("/tmp/tree", { withFileTypes: true })).map((e) => [e.name, e.isDirectory()]));
await fs.symlink("f", "/tmp/tree/a/l");
await fs.chmod("/tmp/tree/a/f", 0o640);
console.log(await fs.readlink("/tmp/tree/a/l"), ((await fs.stat("/tmp/tree/a/f")).mode & 0o777).toString(8));
await fs.access("/tmp/tree/none").catch((e) => console.log(e.code, e.errno));

const seen = new Promise((done) => {
	const w = watch("/tmp/tree/a/b", (what, name) => { w.close(); done([what, name]); });
});
await fs.writeFile("/tmp/tree/a/b/new", "x");
console.log(await seen);

const order = [];
await Promise.all([30, 10, 20].map(async (ms) => { await after(ms * 10); order.push(ms); }));
process.nextTick(() => order.push("tick"));
setImmediate(() => order.push("immediate"));
await after(50);
console.log(order);

const child = spawn("sh", ["-c", "cat; exit 5"]);
child.stdin.end("through a child\n");
for await (const d of child.stdout) process.stdout.write(d);
console.log(await new Promise((done) => child.on("close", (code, signal) => done([code, signal]))));
const killed = spawn("sleep", ["1000"]);
killed.kill("SIGTERM");
console.log(await new Promise((done) => killed.on("close", (code, signal) => done([code, signal]))));

const shared = new Int32Array(new SharedArrayBuffer(8));
const code = `const { workerData: a } = require("worker_threads");
	for (let i = 0; i < 20000; i++) Atomics.add(a, 0, 1);
	Atomics.add(a, 1, 1); Atomics.notify(a, 1);`;
const workers = [1, 2, 3].map(() => new Worker(code, { eval: true, workerData: shared }));
await Promise.all(workers.map((w) => new Promise((done) => w.on("exit", done))));
console.log([...shared]);

const server = net.createServer((c) => c.pipe(c));
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const sums = await Promise.all([...Array(20).keys()].map((i) => new Promise((done, failed) => {
	let n = 0;
	const c = net.connect(server.address().port, "127.0.0.1", () => c.end(Buffer.alloc(50000 + i, i)));
	c.on("data", (d) => { for (const b of d) n += b; });
	c.on("end", () => done(n));
	c.on("error", failed);
})));
console.log(sums.reduce((a, b) => a + b));
server.close();
const failed = net.connect(1, "127.0.0.1");
failed.on("error", (e) => console.log(e.code));
END
node /tmp/m.mjs
node -e 'throw new TypeError("thrown")' 2>&1 | grep TypeError
node -e 'process.exit(9)' || echo "exit $?"
node -e 'process.kill(process.pid, "SIGKILL"); setTimeout(() => {}, 10000)' || echo "exit $?"
