#!/usr/bin/env python3
"""A registry that serves what an OCI layout holds, and misbehaves on request.

    registry.py LAYOUT DIRECTORY

Writes its port into DIRECTORY/port and a line for each request into DIRECTORY/log: method, path, and the
range asked for or "-". DIRECTORY/fault, read for every request, is a JSON object or missing:

    match   a part of the path that the fault is for
    times   how often it strikes before all is well (default: always)
    do      "status": answers with `status`; else `after` bytes of the body are sent properly, then:
            "stall" waits, "cut" closes, "reset" resets the connection, "flip" turns a bit and goes on,
            "slow" sends 64 KiB every 20 ms

    registry.py --make LAYOUT SPECIFICATION [ALGORITHM]

makes a layout with one image, tagged "1", whose digests are those of ALGORITHM (sha256). SPECIFICATION is
a JSON list with an object for each layer:
`noise` and `zeros` are bytes of two files, `files` how many small files there are besides, `bomb` bytes of
zeros that are no tar, `raw` a file that is the layer as it is, `lie_size` is added to the size that the
manifest says, `lie_diffid` makes the configuration wrong.

    registry.py --rehash FROM TO ALGORITHM

makes of the image in the layout FROM the same one in the layout TO, all of whose digests are those of
ALGORITHM; it prints the manifest's and the configuration's.
"""
import gzip
import hashlib
import http.server
import io
import json
import os
import random
import socket
import struct
import sys
import tarfile
import threading
import time
import zlib

PIECE = 64 << 10


class Fault:
    """What is to go wrong with this request."""
    lock = threading.Lock()
    struck = {}

    @classmethod
    def of(cls, directory, path):
        try:
            with open(directory + "/fault", encoding="utf-8") as f:
                text = f.read()
        except FileNotFoundError:
            return {}
        fault = json.loads(text)
        if fault["match"] not in path:
            return {}
        with cls.lock:
            cls.struck[text] = cls.struck.get(text, 0) + 1
            return fault if cls.struck[text] <= fault.get("times", 1 << 30) else {}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def find(self):
        """The blob's path and type."""
        kind, name = self.path.split("/")[-2:]
        media = "application/octet-stream"
        if kind == "manifests":
            if ":" not in name:
                with open(self.server.layout + "/index.json", encoding="utf-8") as f:
                    name = json.load(f)["manifests"][0]["digest"]
            media = "application/vnd.oci.image.manifest.v1+json"
        return f"{self.server.layout}/blobs/{name.replace(':', '/')}", media

    def do_GET(self):
        asked = self.headers.get("Range", "-")
        with open(self.server.directory + "/log", "a", encoding="utf-8") as f:
            f.write(f"{self.command} {self.path} {asked}\n")
        if self.path == "/v2/":
            self.reply(200, b"{}")
            return
        path, media = self.find()
        fault = Fault.of(self.server.directory, self.path)
        if fault.get("do") == "status":
            self.reply(fault["status"], b'{"errors":[{"message":"as the test wants"}]}')
            return
        if not os.path.exists(path):
            self.reply(404, b'{"errors":[{"message":"not here"}]}')
            return
        start = int(asked[6:].split("-")[0]) if asked.startswith("bytes=") else 0
        size = os.path.getsize(path)
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(size - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        with open(path, "rb") as f:
            f.seek(start)
            self.body(f, size - start, fault)

    def reply(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(text)

    def body(self, f, left, fault):
        do, after = fault.get("do"), fault.get("after", 0)
        while left > 0:
            if do in ("stall", "cut", "reset", "flip") and after == 0:
                if self.strike(do, f):
                    return
                do = None
                left -= 1
                continue
            piece = f.read(min(PIECE, left, after or PIECE))
            self.wfile.write(piece)
            left -= len(piece)
            after -= min(after, len(piece))
            if do == "slow":
                time.sleep(0.02)

    def strike(self, do, f):
        """True if that was the end of the connection."""
        if do == "flip":
            self.wfile.write(bytes([f.read(1)[0] ^ 1]))
            return False
        self.wfile.flush()
        if do == "stall":
            self.connection.settimeout(300)
            self.connection.recv(1)
        if do == "reset":
            time.sleep(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True
        return True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients that go away are what this is for."""


def make_tar(number, layer):
    out = io.BytesIO()
    rng = random.Random(number)
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (("noise", rng.randbytes(layer.get("noise", 0))),
                           ("zeros", bytes(layer.get("zeros", 0)))):
            info = tarfile.TarInfo(f"layer{number}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()[:-1024 if layer.get("files") else None]


def small_files(count):
    """Headers and contents of many small files, by hand: tarfile takes minutes for a million."""
    for i in range(count):
        name = b"many/d%d/file-%d" % (i // 1000, i)
        head = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 +
                         b"%011o\0" % 7 + b"14500000000\0" + b" " * 8 + b"0")
        head = head.ljust(257, b"\0") + b"ustar\x0000"
        head = head.ljust(512, b"\0")
        head[148:156] = b"%06o\0 " % sum(head)
        yield bytes(head) + (b"%07d" % i).ljust(512, b"\0")
    yield bytes(1024)


def make_layer(number, layer, algorithm):
    """The blob and the digest of what it unpacks to."""
    if "raw" in layer:
        with open(layer["raw"], "rb") as f:
            data = f.read()
        return gzip.compress(data, 1, mtime=0), hashlib.new(algorithm, data).hexdigest()
    pieces = [make_tar(number, layer)]
    if layer.get("bomb"):
        pieces = (bytes(1 << 20) for _ in range(layer["bomb"] >> 20))
    elif layer.get("files"):
        # tarfile fills up to records of 10 KiB: what is left out is only zeros at the end.
        pieces[0] = pieces[0].rstrip(b"\0")
        pieces[0] += bytes(-len(pieces[0]) % 512)
        pieces += small_files(layer["files"])
    packer, sha, out = zlib.compressobj(1, zlib.DEFLATED, 31), hashlib.new(algorithm), []
    for piece in pieces:
        sha.update(piece)
        out.append(packer.compress(piece))
    return b"".join(out) + packer.flush(), sha.hexdigest()


def begin_layout(layout, algorithm):
    """Makes the directory; returns what stores a blob and gives its descriptor."""
    os.makedirs(f"{layout}/blobs/{algorithm}")
    with open(layout + "/oci-layout", "w", encoding="utf-8") as f:
        json.dump({"imageLayoutVersion": "1.0.0"}, f)

    def blob(data, media):
        name = hashlib.new(algorithm, data).hexdigest()
        with open(f"{layout}/blobs/{algorithm}/{name}", "wb") as f:
            f.write(data)
        return {"mediaType": "application/vnd.oci.image." + media, "digest": f"{algorithm}:{name}",
                "size": len(data)}

    return blob


def end_layout(layout, manifest):
    with open(layout + "/index.json", "w", encoding="utf-8") as f:
        json.dump({"schemaVersion": 2, "manifests": [
            manifest | {"annotations": {"org.opencontainers.image.ref.name": "1"}}]}, f)


def rehash(old, new, algorithm):
    def read(descriptor):
        with open(f"{old}/blobs/{descriptor['digest'].replace(':', '/')}", "rb") as f:
            return f.read()

    blob = begin_layout(new, algorithm)
    with open(old + "/index.json", encoding="utf-8") as f:
        manifest = json.loads(read(json.load(f)["manifests"][0]))
    config = json.loads(read(manifest["config"]))
    layers = [read(d) for d in manifest["layers"]]
    config["rootfs"]["diff_ids"] = [
        f"{algorithm}:{hashlib.new(algorithm, gzip.decompress(l)).hexdigest()}" for l in layers]
    manifest["config"] = blob(json.dumps(config).encode(), "config.v1+json")
    manifest["layers"] = [blob(l, "layer.v1.tar+gzip") for l in layers]
    top = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    end_layout(new, top)
    print(top["digest"], manifest["config"]["digest"])


def make_layout(layout, layers, algorithm="sha256"):
    blob = begin_layout(layout, algorithm)
    descriptors, diffids = [], []
    for number, layer in enumerate(layers):
        data, diffid = make_layer(number, layer, algorithm)
        if layer.get("lie_diffid"):
            diffid = hashlib.new(algorithm, b"something else").hexdigest()
        descriptor = blob(data, "layer.v1.tar+gzip")
        descriptor["size"] += layer.get("lie_size", 0)
        descriptors.append(descriptor)
        diffids.append(f"{algorithm}:{diffid}")
    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                              "rootfs": {"type": "layers", "diff_ids": diffids}}).encode(),
                  "config.v1+json")
    manifest = blob(json.dumps({"schemaVersion": 2,
                                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                                "config": config, "layers": descriptors}).encode(),
                    "manifest.v1+json")
    end_layout(layout, manifest)
    print(*(d["digest"] for d in descriptors))


def main():
    if sys.argv[1] == "--make":
        make_layout(sys.argv[2], json.loads(sys.argv[3]), *sys.argv[4:])
        return
    if sys.argv[1] == "--rehash":
        rehash(*sys.argv[2:])
        return
    server = Server(("127.0.0.1", 0), Handler)
    server.layout, server.directory = sys.argv[1:]
    with open(server.directory + "/port.new", "w", encoding="utf-8") as f:
        f.write(str(server.server_port))
    os.rename(server.directory + "/port.new", server.directory + "/port")
    server.serve_forever()


if __name__ == "__main__":
    main()
