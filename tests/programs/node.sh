# shellcheck shell=sh
# Code generated at run time, garbage, promises, worker threads, a server on the loopback interface.
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
