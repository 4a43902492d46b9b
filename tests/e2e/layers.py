#!/usr/bin/env python3
"""Layers as nobody writes them but anybody may: every dialect of tar, every kind of file, whiteouts, files
that come and go, at random; and what an image of them must look like.

    layers.py make DIRECTORY SEED [WORD...]

makes DIRECTORY/layout, an OCI layout with the image "x", and DIRECTORY/expected, a line for each file that
the image has by the OCI image specification. The WORD `peers` leaves out what umoci or podman are known not to
do: zstd (umoci), sparse files, global headers, files of type 7, names twice in a layer or beside their own
whiteout, a path through what is no directory below, whiteouts of what is not there, of everything in the root,
times beyond 2242 or before 1970 with a fraction, attributes without a value, ACLs that files inherit.

    layers.py describe TREE
    layers.py compare EXPECTED DESCRIPTION [WORD...]

describe prints the lines of a tree on the disk. compare prints what differs, and fails if anything does;
WORDs are what the tool that made the tree is known to do in its own way: `implied` (owner and mode of
directories that have no entry in the layer), `implied-time`, `dir-times`, `before-1970`, `root` (of the root
directory nothing is looked at).
"""
import base64
import gzip
import hashlib
import json
import os
import random
import stat
import subprocess
import sys

BLOCK = 512
DIALECTS = ("v7", "ustar", "star", "gnu", "pax")
MODES = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK, "char": stat.S_IFCHR,
         "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}
TYPES = {"file": b"0", "link": b"1", "symlink": b"2", "char": b"3", "block": b"4", "dir": b"5", "fifo": b"6"}
COMPONENTS = [b"a", b"b", b"c", b"dir", b"etc", b"usr", b"\xff\xfe", b"new\nline", b"back\\slash", b" space ",
              b"-", b"*", "é中".encode(), b".hidden", b"...", b"..a", b"x" * 100, b"y" * 255, b"\x01\x7f",
              b"wh.", b".wh", b"=", b"1 a=b\n", b"a.wh.b"]


class Node:
    """A file of any kind. Hard links are the same node."""

    def __init__(self, kind, **more):
        self.kind = kind
        self.mode, self.uid, self.gid, self.mtime = 0o755, 0, 0, 0  # time in nanoseconds
        self.target, self.device = b"", (0, 0)
        self.size, self.extents = 0, []  # (offset, data)
        self.xattrs = {}
        self.implied = False
        self.__dict__.update(more)

    def content(self):
        data = bytearray(self.size)
        for offset, piece in self.extents:
            data[offset:offset + len(piece)] = piece
        return bytes(data)


# The tar.

def octal(value, width, rng):
    """A number field in one of the ways in which it has been written."""
    digits = b"%o" % value
    forms = [digits.rjust(width - 1, b"0") + b"\0", digits.rjust(width - 1, b" ") + b" "]
    if len(digits) <= width - 2:
        forms += [digits.rjust(width - 2, b" ") + b" \0", digits.rjust(width - 2, b"0") + b" \0"]
    return rng.choice(forms)


def number(value, width, dialect, rng):
    if 0 <= value < 8 ** (width - 1) and (dialect != "gnu" or rng.random() < 0.8):
        return octal(value, width, rng)
    if dialect in ("gnu", "star"):
        field = bytearray((value % (1 << (8 * width))).to_bytes(width, "big"))
        field[0] |= 0x80
        return bytes(field)
    return octal(0, width, rng)


def pad(data):
    return data + bytes(-len(data) % BLOCK)


def header(rng, dialect, name, kind, node, size, link=b"", prefix=b"", extra=b""):
    h = bytearray(BLOCK)

    def put(at, data):
        h[at:at + len(data)] = data

    put(0, name[:100])
    put(100, octal(node.mode, 8, rng))
    put(108, number(node.uid, 8, dialect, rng))
    put(116, number(node.gid, 8, dialect, rng))
    put(124, number(size, 12, dialect, rng))
    put(136, number(node.mtime // 10 ** 9, 12, dialect, rng))
    put(156, kind)
    put(157, link[:100])
    if dialect == "gnu":
        put(257, b"ustar  \0")
    elif dialect != "v7":
        put(257, b"ustar\x0000")
    if dialect != "v7":
        put(265, rng.choice([b"root", b"", b"nobody \xff"]))
        put(297, rng.choice([b"root", b"", b"x" * 31]))
        put(329, number(node.device[0], 8, dialect, rng))
        put(337, number(node.device[1], 8, dialect, rng))
    put(345, prefix)
    if dialect == "star":
        put(476, octal(1, 12, rng) + octal(2, 12, rng))
        put(508, b"tar\0")
    put(345, extra)
    put(148, b" " * 8)
    total = sum(h)
    if any(b > 127 for b in h) and rng.random() < 0.3:
        total = sum(b - 256 if b > 127 else b for b in h)
    if total < 0:
        total = sum(h)
    put(148, rng.choice([b"%06o\0 " % total, b"%07o\0" % total, b"%6o \0" % total]))
    return bytes(h)


def record(key, value):
    rest = len(key) + len(value) + 3
    total = rest + 1
    while len(str(total)) + rest != total:
        total = len(str(total)) + rest
    return b"%d %s=%s\n" % (total, key, value)


def time_text(ns):
    seconds, rest = divmod(abs(ns), 10 ** 9)
    text = ("-" if ns < 0 else "") + str(seconds) + (f".{rest:09}" if rest else "")
    return (text.rstrip("0") if rest else text).encode()


def split_name(name, most):
    """prefix and name of a ustar header, or None."""
    if len(name) <= 100:
        return b"", name
    for at in range(min(most, len(name) - 2), 0, -1):
        if name[at:at + 1] == b"/" and 0 < len(name) - at - 1 <= 100:
            return name[:at], name[at + 1:]
    return None


def fits(dialect, name, link, node, sparse):
    """Whether an entry can be said in this dialect."""
    plain = (node.mtime % 10 ** 9 == 0 and not node.xattrs)
    small = (0 <= node.mtime < 8 ** 11 * 10 ** 9 and max(node.uid, node.gid, *node.device) < 8 ** 7)
    if dialect == "pax":
        return max(node.device) < 8 ** 7
    if dialect == "gnu":
        return plain and not (sparse and node.size == 0)
    if sparse or not plain or not small or len(link) > 100:
        return False
    if dialect == "v7":
        return len(name) <= 100 and node.kind in ("file", "dir", "symlink")
    return split_name(name, 155 if dialect == "ustar" else 131) is not None


def sparse_gnu(rng, node, name):
    pairs = [(o, len(d)) for o, d in node.extents]
    if not pairs or pairs[-1][0] + pairs[-1][1] < node.size:
        pairs.append((node.size, 0))  # as GNU tar says where a hole at the end ends

    def field(value):
        return b"%011o\0" % value

    data = b"".join(d for _, d in node.extents)
    extra = bytearray(BLOCK - 345)
    for i, (offset, length) in enumerate(pairs[:4]):
        extra[41 + 24 * i:41 + 24 * i + 24] = field(offset) + field(length)
    extra[482 - 345] = 1 if len(pairs) > 4 else 0
    extra[483 - 345:495 - 345] = field(node.size)
    out = header(rng, "gnu", name, b"S", node, len(data), extra=bytes(extra))
    for at in range(4, len(pairs), 21):
        more = bytearray(BLOCK)
        for i, (offset, length) in enumerate(pairs[at:at + 21]):
            more[24 * i:24 * i + 24] = field(offset) + field(length)
        more[504] = 1 if at + 21 < len(pairs) else 0
        out += bytes(more)
    return out + pad(data)


def sparse_records(rng, node, name):
    """The records of one of the pax forms, the map in front of the data, and the name in the header."""
    form = rng.choice(["0.0", "0.1", "1.0"])
    pairs = [(o, len(d)) for o, d in node.extents] or [(node.size, 0)]
    size = str(node.size).encode()
    if form == "0.0":
        return (record(b"GNU.sparse.size", size) + record(b"GNU.sparse.numblocks", b"%d" % len(pairs)) +
                b"".join(record(b"GNU.sparse.offset", b"%d" % o) + record(b"GNU.sparse.numbytes", b"%d" % n)
                         for o, n in pairs)), b"", None
    records = record(b"GNU.sparse.name", name)
    if form == "0.1":
        return (records + record(b"GNU.sparse.size", size) +
                record(b"GNU.sparse.numblocks", b"%d" % len(pairs)) +
                record(b"GNU.sparse.map", b",".join(b"%d,%d" % p for p in pairs))), b"", b"GNUSparse/name"
    table = b"%d\n" % len(pairs) + b"".join(b"%d\n%d\n" % p for p in pairs)
    return (records + record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0") +
            record(b"GNU.sparse.realsize", size)), pad(table), b"GNUSparse/name"


def pax_entry(rng, node, name, kind, link, sparse):
    records, table, other = b"", b"", None
    data = node.content() if kind == b"0" else b""
    if sparse:
        records, table, other = sparse_records(rng, node, name)
        data = b"".join(d for _, d in node.extents)
    size = len(table) + len(data)
    if other is None and (len(name) > 100 or rng.random() < 0.3):
        if rng.random() < 0.1:
            records += record(b"path", b"not/this/one")
        records += record(b"path", name)
    if link and (len(link) > 100 or rng.random() < 0.3):
        records += record(b"linkpath", link)
    for key, value in ((b"uid", node.uid), (b"gid", node.gid)):
        if value >= 8 ** 7 or rng.random() < 0.2:
            records += record(key, b"%d" % value)
    if node.mtime < 0 or node.mtime % 10 ** 9 or node.mtime >= 8 ** 11 * 10 ** 9 or rng.random() < 0.2:
        records += record(b"mtime", time_text(node.mtime))
    if kind == b"0" and rng.random() < 0.2:
        records += record(b"size", b"%d" % size)
    for key, value in node.xattrs.items():
        if kind == b"1":
            break
        if rng.random() < 0.15:
            text = base64.b64encode(value)
            records += record(b"LIBARCHIVE.xattr." + key.encode(),
                              text.rstrip(b"=") if rng.random() < 0.5 else text)
            records += record(b"SCHILY.xattr." + key.encode(), value)
        else:
            records += record(b"SCHILY.xattr." + key.encode(), value)
    for noise in ((b"comment", b"any\xff thing\nat all"), (b"atime", b"1.5"), (b"ctime", b"-3"),
                  (b"uname", b"root"), (b"SCHILY.dev", b"5"), (b"VENDOR.thing", b"a=b"),
                  (b"SCHILY.fflags", b"nodump"), (b"LIBARCHIVE.creationtime", b"7")):
        if rng.random() < 0.05:
            records += record(*noise)
    out = b""
    if records:
        out = header(rng, "pax", b"PaxHeaders/x", b"x", Node("file", mode=0o644), len(records)) + pad(records)
    dialect = rng.choice(["pax", "pax", "ustar"])
    prefix, short = split_name(name, 155) or (b"", name[:100])
    if other is not None:
        prefix, short = b"", other
    return out + header(rng, dialect, short, kind, node, size, link, prefix) + pad(table + data)


def entry(rng, node, name, words, link=None, sparse=False):
    """One entry: a link to a name if `link` is given, else the file."""
    kind = b"1" if link is not None else TYPES[node.kind]
    target = link if link is not None else node.target
    possible = [d for d in DIALECTS if fits(d, name, target, node, sparse) and not (d == "v7" and kind == b"1"
                                                                                     and node.kind != "file")]
    dialect = rng.choice(possible)
    data = node.content() if kind == b"0" and not sparse else b""
    if dialect == "pax":
        return pax_entry(rng, node, name, kind, target, sparse)
    if kind == b"0" and not sparse:
        kind = rng.choice([b"0", b"\0"] + [b"7"] * (dialect != "v7" and "peers" not in words))
    if dialect == "v7" and kind == b"5" and name.endswith(b"/"):
        kind = rng.choice([b"5", b"\0"])
    out, prefix, short = b"", b"", name
    if dialect == "gnu":
        for letter, text in ((b"K", target), (b"L", name)):
            if len(text) > 100 or (text and rng.random() < 0.1):
                text += b"\0"
                out += header(rng, "gnu", b"././@LongLink", letter, Node("file", mode=0), len(text)) + pad(text)
        if sparse:
            return out + sparse_gnu(rng, node, name[:100])
    elif dialect != "v7":
        prefix, short = split_name(name, 155 if dialect == "ustar" else 131)
    return out + header(rng, dialect, short, kind, node, len(data), target, prefix) + pad(data)


# What is in it.

def random_xattrs(rng, kind, mode, words):
    xattrs = {}
    if rng.random() < 0.3:
        xattrs["trusted.t" + str(rng.randrange(3))] = rng.randbytes(rng.choice([0, 1, 20, 300]))
    if kind in ("file", "dir"):
        for _ in range(rng.choice([0, 1, 2])):
            name = rng.choice(["user.comment", "user.mime_type", "user.é", "user." + "n" * 200, "user.a b"])
            xattrs[name] = rng.choice([b"\0bin\xff=\n", rng.randbytes(200), b"text", b""])
    if kind == "file" and rng.random() < 0.3:
        xattrs["security.capability"] = rng.choice([
            bytes.fromhex("0100000200040000000000000000000000000000"),
            bytes.fromhex("010000030004000000000000000000000000000010270000")])
    if kind in ("file", "dir") and rng.random() < 0.2:
        def acl(*entries):
            return b"\2\0\0\0" + b"".join(t.to_bytes(2, "little") + p.to_bytes(2, "little") +
                                          i.to_bytes(4, "little") for t, p, i in entries)
        none = (1 << 32) - 1
        # With a mask the mode's group bits are the mask.
        xattrs["system.posix_acl_access"] = acl((1, mode >> 6 & 7, none), (2, 6, 1000), (4, 5, none),
                                                (16, mode >> 3 & 7, none), (32, mode & 7, none))
        if kind == "dir" and "peers" not in words:
            xattrs["system.posix_acl_default"] = acl((1, 7, none), (4, 5, none), (32, 0, none))
    return xattrs


def random_node(rng, kind, words):
    node = Node(kind)
    node.mode = rng.choice([0o644, 0o755, 0, 0o7777, 0o4711, 0o1777, 0o2755, 0o400, rng.randrange(0o10000)])
    if kind == "symlink":
        node.mode = 0o777
    node.uid, node.gid = (rng.choice([0, 1, 1000, 65534, 2097151, 2097152, 3000000, 1 << 31, (1 << 32) - 2])
                          for _ in range(2))
    node.mtime = rng.choice([0, 1, 1600000000, (1 << 31) - 1, 1 << 31, 1 << 32, 8 ** 11 - 1, rng.randrange(1 << 31),
                             -1, -rng.randrange(1 << 31)] +
                            [8 ** 11, 15032385534] * ("peers" not in words)) * 10 ** 9
    if rng.random() < 0.4 and ("peers" not in words or node.mtime >= 0):
        node.mtime += rng.choice([1, 500000000, 999999999, 123456789])
    if kind == "symlink":
        node.target = rng.choice([b"a", b"/etc/x", b"../../..", b"\xff\n", b"t" * 100, b"t" * 101, b"./l/" * 500,
                                  b"u" * 4095, b".", b"/"])
    elif kind in ("char", "block"):
        node.device = rng.choice([(1, 3), (259, 70000), (4095, 1048575), (0, 1), (5, 0)])
        if kind == "block":
            node.device = rng.choice([node.device] * 5 + [(0, 0)])
    elif kind == "file":
        node.size = rng.choice([0, 1, 511, 512, 513, 4095, 4096, 4097, 8192, 12288, 65536, 100000,
                                rng.randrange(20000)])
        node.extents = [(0, rng.randbytes(node.size))] if node.size else []
    if rng.random() < 0.3:
        node.xattrs = random_xattrs(rng, kind, node.mode, words)
        if "peers" in words:
            node.xattrs = {k: v for k, v in node.xattrs.items() if v}
    return node


def make_sparse(rng, node):
    """Turns a file into one with holes."""
    at, node.extents = 0, []
    for _ in range(rng.choice([0, 1, 2, 4, 5, 30])):
        at += rng.choice([0, 512, 4096, 5000, 65536]) if node.extents else rng.choice([0, 4096, 100])
        piece = rng.randbytes(rng.choice([512, 4096, 1, 700]))
        if node.extents and node.extents[-1][0] + len(node.extents[-1][1]) == at:
            at += 512
        node.extents.append((at, piece))
        at += len(piece)
    node.size = at + rng.choice([0, 1, 4096, 1000000])


class Layer:
    """One layer in the making: the tar, and what it says."""

    def __init__(self, rng, words, below):
        self.rng, self.words, self.below = rng, words, below
        self.tar, self.tree = [], {}
        self.whiteouts, self.opaque = set(), set()

    def decorate(self, path, is_dir):
        """The path as a name in a tar."""
        rng = self.rng
        name = b"/".join(path)
        way = rng.random()
        if way < 0.3:
            name = b"./" + name
        elif way < 0.4:
            name = b"/" + name
        elif way < 0.45:
            name = name.replace(b"/", b"//", 1)
        elif way < 0.5:
            name = name.replace(b"/", b"/./", 1)
        elif way < 0.53 and len(path) > 1:
            name = path[0] + b"/../" + name
        if is_dir and rng.random() < 0.8:
            name += b"/"
        return name

    def parents(self, path, mtime):
        for i in range(1, len(path)):
            if path[:i] not in self.tree:
                self.tree[path[:i]] = Node("dir", mtime=mtime, implied=True)

    def drop(self, path):
        for other in [p for p in self.tree if p[:len(path)] == path]:
            del self.tree[other]

    def may_have(self, path):
        """Whether nothing on the way is in this layer and no directory."""
        if "peers" in self.words and any(self.below.get(path[:i], Node("dir")).kind != "dir" or
                                         path[:i] in self.whiteouts for i in range(1, len(path))):
            return False
        return all(self.tree.get(path[:i], Node("dir")).kind == "dir" for i in range(1, len(path)))

    def is_below(self, path):
        """Whether the layers below have a name that this layer has said nothing about."""
        return path in self.below and all(path[:i] not in self.whiteouts | self.opaque for i in range(len(path) + 1))

    def put(self, path, node):
        old = self.tree.get(path)
        self.parents(path, node.mtime)
        if old is not None and not (old.kind == "dir" and node.kind == "dir"):
            self.drop(path)
        self.tree[path] = node

    def add(self, path):
        rng = self.rng
        kind = rng.choice(["file"] * 5 + ["dir"] * 5 + ["symlink", "symlink", "char", "block", "fifo"])
        old = self.tree.get(path)
        if old is not None and "peers" in self.words and not (old.implied and kind == "dir"):
            return
        # What such a replacement leaves of the layers below is not said anywhere.
        if old is not None and (old.kind == "dir") != (kind == "dir") and (path in self.below or
                                                                           path in self.whiteouts):
            kind = "dir" if old.kind == "dir" else "file"
        if not self.may_have(path):
            return
        if path in self.whiteouts and "peers" in self.words:
            return
        node = random_node(rng, kind, self.words)
        sparse = kind == "file" and "peers" not in self.words and rng.random() < 0.25
        if sparse:
            make_sparse(rng, node)
        self.tar.append(entry(rng, node, self.decorate(path, kind == "dir"), self.words, sparse=sparse))
        self.put(path, node)

    def link(self, path):
        targets = [p for p, n in self.tree.items() if n.kind != "dir" and p != path and p[:len(path)] != path]
        old = self.tree.get(path)
        if not targets or not self.may_have(path) or (old is not None and (
                old.kind == "dir" or "peers" in self.words)):
            return
        if path in self.whiteouts and "peers" in self.words:
            return
        target = self.rng.choice(targets)
        node = self.tree[target]
        if target[:len(path)] == path or path[:len(target)] == target:
            return
        self.tar.append(entry(self.rng, node, self.decorate(path, False), self.words,
                              link=self.decorate(target, False)))
        self.put(path, node)

    def whiteout(self, path):
        if not self.may_have(path) or len(path[-1]) > 251:
            return
        if "peers" in self.words and (path in self.tree or not self.is_below(path)):
            return
        node = Node("file", mode=self.rng.choice([0, 0o644]), mtime=1600000000 * 10 ** 9)
        name = self.decorate(path[:-1] + (b".wh." + path[-1],), False)
        self.tar.append(entry(self.rng, node, name, self.words))
        self.parents(path, node.mtime)
        self.whiteouts.add(path)

    def hide_all(self, path):
        if not self.may_have(path + (b"x",)):
            return
        if "peers" in self.words and (path == () or not self.is_below(path) or
                                      any(p[:len(path)] == path for p in self.tree if p != path)):
            return
        node = Node("file", mode=0o600, mtime=1600000000 * 10 ** 9)
        self.tar.append(entry(self.rng, node, self.decorate(path + (b".wh..wh..opq",), False), self.words))
        self.parents(path + (b"x",), node.mtime)
        self.opaque.add(path)

    def global_header(self):
        text = record(b"comment", b"0123456789abcdef0123456789abcdef01234567")
        self.tar.append(header(self.rng, "pax", b"pax_global_header", b"g", Node("file", mode=0o666),
                               len(text)) + pad(text))

    def finish(self):
        end = self.rng.choice([bytes(1024), bytes(1024), bytes(512), b"", bytes(10240)])
        return b"".join(self.tar) + end


def random_path(rng, known):
    if known and rng.random() < 0.6:
        path = rng.choice(known)
        if rng.random() < 0.5:
            return path
        path += (rng.choice(COMPONENTS),)
    else:
        path = tuple(rng.choice(COMPONENTS) for _ in range(rng.choice([1, 1, 2, 3, 6])))
    return path if sum(len(c) + 1 for c in path) < 3500 else path[:3]


def random_layer(rng, words, merged):
    layer = Layer(rng, words, merged)
    if rng.random() < 0.6:
        node = random_node(rng, "dir", words)
        layer.tar.append(entry(rng, node, rng.choice([b"./", b".", b"/"]), words))
        layer.tree[()] = node
    for _ in range(rng.choice([1, 5, 30, 60])):
        path = random_path(rng, sorted(merged.keys() | layer.tree.keys() - {()}))
        way = rng.random()
        if path == ():
            continue
        if way < 0.65:
            layer.add(path)
        elif way < 0.8 and True:
            layer.link(path)
        elif way < 0.93:
            layer.whiteout(path)
        elif way < 0.97:
            layer.hide_all(path[:-1])
        elif "peers" not in words:
            layer.global_header()
    return layer


def apply(merged, layer):
    def drop(path, itself):
        for other in [p for p in merged if p[:len(path)] == path and (itself or p != path) and p != ()]:
            del merged[other]

    for path in layer.whiteouts:
        drop(path, True)
    for path in layer.opaque:
        drop(path, False)
    for path in sorted(layer.tree, key=len):
        node, old = layer.tree[path], merged.get(path)
        if old is not None and not (old.kind == "dir" and node.kind == "dir"):
            drop(path, True)
        merged[path] = node


# Words about trees.

def line(path, kind, node, device, what, links):
    mode = stat.S_IMODE(node.mode) | MODES[kind]
    return json.dumps({
        "name": b"/".join(path).decode("latin1"), "mode": oct(mode), "uid": node.uid, "gid": node.gid,
        "mtime": node.mtime, "device": device, "what": what, "links": links, "implied": node.implied,
        "xattrs": {k: v.hex() for k, v in sorted(node.xattrs.items())}})


def what_of(kind, content, target):
    if kind == "file":
        return f"{len(content)} {hashlib.sha256(content).hexdigest()}"
    return target.decode("latin1") if kind == "symlink" else ""


def expected(merged):
    names = {}
    for path in sorted(merged):
        names.setdefault(id(merged[path]), []).append(b"/".join(path).decode("latin1"))
    lines = []
    for path in sorted(merged):
        node = merged[path]
        links = sorted(names[id(node)]) if len(names[id(node)]) > 1 else []
        device = list(node.device) if node.kind in ("char", "block") else []
        lines.append(line(path, node.kind, node, device, what_of(node.kind, node.content(), node.target), links))
    return lines


def describe(root):
    root = os.fsencode(root)
    found, names = [], {}

    def look(path):
        full = os.path.join(root, *path)
        s = os.lstat(full)
        kind = next(k for k, m in MODES.items() if m == stat.S_IFMT(s.st_mode))
        node = Node(kind, mode=stat.S_IMODE(s.st_mode), uid=s.st_uid, gid=s.st_gid, mtime=s.st_mtime_ns)
        node.xattrs = {a: os.getxattr(full, a, follow_symlinks=False)
                       for a in os.listxattr(full, follow_symlinks=False)}
        device = [os.major(s.st_rdev), os.minor(s.st_rdev)] if kind in ("char", "block") else []
        content = b""
        if kind == "file":
            with open(full, "rb") as f:
                content = f.read()
        target = os.readlink(full) if kind == "symlink" else b""
        if kind != "dir" and s.st_nlink > 1:
            names.setdefault((s.st_dev, s.st_ino), []).append(b"/".join(path).decode("latin1"))
        found.append((path, kind, node, device, what_of(kind, content, target), (s.st_dev, s.st_ino)))
        if kind == "dir":
            for name in os.listdir(full):
                look(path + (name,))

    look(())
    return [line(path, kind, node, device, what, sorted(names.get(inode, [])) if kind != "dir" and
                 len(names.get(inode, [])) > 1 else [])
            for path, kind, node, device, what, inode in sorted(found, key=lambda f: f[0])]


def compare(wanted, got, words):
    bad = 0

    def complain(text):
        nonlocal bad
        bad += 1
        print(text)

    with open(wanted, encoding="utf-8") as a, open(got, encoding="utf-8") as b:
        first = {x["name"]: x for x in map(json.loads, a)}
        second = {x["name"]: x for x in map(json.loads, b)}
    for name in sorted(first.keys() | second.keys()):
        x, y = first.get(name), second.get(name)
        if x is None or y is None:
            complain(f"{name!r}: {'should not be there' if x is None else 'is missing'}: {x or y}")
            continue
        if name == "" and ("root" in words or x["implied"]):
            continue
        for key in ("mode", "uid", "gid", "mtime", "device", "what", "links", "xattrs"):
            if x["implied"] and "implied" in words and key in ("mode", "uid", "gid", "mtime", "xattrs"):
                continue
            if x["implied"] and "implied-time" in words and key == "mtime":
                continue
            if key == "mtime" and "dir-times" in words and stat.S_ISDIR(int(x["mode"], 8)):
                continue
            if key == "mtime" and x[key] < 0 and "before-1970" in words:
                continue
            if x[key] != y[key]:
                complain(f"{name!r}: {key} {y[key]!r}, expected {x[key]!r} (implied: {x['implied']})")
    return bad


def make_layout(layout, tars, rng, words):
    os.makedirs(layout + "/blobs/sha256")

    def put(data, media):
        name = hashlib.sha256(data).hexdigest()
        with open(f"{layout}/blobs/sha256/{name}", "wb") as f:
            f.write(data)
        return {"mediaType": "application/vnd.oci.image." + media, "digest": "sha256:" + name, "size": len(data)}

    layers, diffids = [], []
    for tar in tars:
        diffids.append("sha256:" + hashlib.sha256(tar).hexdigest())
        way = rng.choice(["", "+gzip"] + ["+zstd"] * ("peers" not in words))
        if way == "+gzip":
            tar = gzip.compress(tar, 1, mtime=0)
        elif way == "+zstd":
            tar = subprocess.run(["zstd", "-q", "-1", "-c"], input=tar, stdout=subprocess.PIPE, check=True).stdout
        layers.append(put(tar, "layer.v1.tar" + way))
    config = put(json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]},
                             "rootfs": {"type": "layers", "diff_ids": diffids}}).encode(), "config.v1+json")
    manifest = put(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                               "config": config, "layers": layers}).encode(), "manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    for name, content in (("oci-layout", {"imageLayoutVersion": "1.0.0"}),
                          ("index.json", {"schemaVersion": 2, "manifests": [manifest]})):
        with open(f"{layout}/{name}", "w", encoding="utf-8") as f:
            json.dump(content, f)


def make(directory, seed, words):
    rng = random.Random(seed)
    merged = {(): Node("dir", implied=True)}
    tars = []
    for _ in range(rng.choice([1, 2, 3, 5])):
        layer = random_layer(rng, words, merged)
        apply(merged, layer)
        tars.append(layer.finish() or bytes(1024))
    make_layout(directory + "/layout", tars, rng, words)
    with open(directory + "/expected", "w", encoding="utf-8") as f:
        f.writelines(text + "\n" for text in expected(merged))


def main():
    verb, *rest = sys.argv[1:]
    if verb == "make":
        make(rest[0], int(rest[1]), rest[2:])
    elif verb == "describe":
        print(*describe(rest[0]), sep="\n")
    elif verb == "compare":
        sys.exit(compare(rest[0], rest[1], rest[2:]) != 0)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
