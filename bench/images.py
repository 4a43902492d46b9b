#!/usr/bin/env python3
"""Makes the images that bench/pull pulls.

    images.py DIRECTORY

Writes an OCI layout into DIRECTORY/layout with three images, unless it is there already:

    python      Debian with Python, git and perl, about 360 MB unpacked, as six layers of the kind that
                a Dockerfile gives: the base, then what the packages of one step brought, then programs
                of one's own
    python-zstd the same with zstd layers
    small       the base, and one layer with 20,000 files of 0 to 8 KB in 200 directories

The packages come from the distribution's mirror with mmdebstrap, so the bytes depend on the day.
"""
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile

STEPS = [
    None,  # the base: what the other steps do not have
    ["perl", "perl-modules-5.36", "libperl5.36", "git", "liberror-perl"],
    ["python3.11", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"],
    ["python3-pip", "python3-setuptools", "python3-wheel", "python3-pkg-resources",
     "python3-distutils", "python3-lib2to3", "python3-pip-whl"],
    ["python3-numpy", "libopenblas0-pthread", "libgfortran5", "libquadmath0", "libblas3",
     "liblapack3"],
    "application",
]


def bootstrap(directory):
    """The root file system with all packages."""
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", "--include=perl,git,python3-pip,python3-numpy",
         "bookworm", directory], check=True)


def files_of(root, packages):
    names = set()
    for package in packages:
        for suffix in ("", ":amd64"):
            try:
                with open(f"{root}/var/lib/dpkg/info/{package}{suffix}.list", encoding="utf-8") as f:
                    names.update(line.rstrip("\n") for line in f)
            except FileNotFoundError:
                pass
    return names


def add_tree(tar, root, wanted):
    """The members of the tree below `root` for whose path `wanted` is true, with their directories."""
    parents = set()

    def plain(info):
        info.uname = info.gname = ""
        return info

    for at, directories, files in os.walk(root):
        directories.sort()
        links = [d for d in directories if os.path.islink(os.path.join(at, d))]
        rest = [d for d in directories if d not in links]
        for name in sorted(files + links) + [d + "/" for d in rest]:
            path = os.path.join(at, name.rstrip("/"))[len(root):]
            if name.endswith("/") and os.listdir(root + path) or not wanted(path):
                continue
            parent, chain = os.path.dirname(path), []
            while parent not in parents and parent != "/":
                chain.append(parent)
                parents.add(parent)
                parent = os.path.dirname(parent)
            for missing in reversed(chain):
                tar.add(root + missing, missing[1:], recursive=False, filter=plain)
            tar.add(root + path, path[1:], recursive=False, filter=plain)


def python_layers(root, directory):
    """The tars of the image `python`."""
    owner = {}
    for i, step in enumerate(STEPS):
        if isinstance(step, list):
            for name in files_of(root, step):
                # A directory belongs to the base.
                if os.path.islink(root + name) or not os.path.isdir(root + name):
                    owner[name] = i
    # Python's compiled files are made by the packages' scripts: they go with their sources.
    for name, i in list(owner.items()):
        if name.endswith(".py"):
            at, base = os.path.split(name)
            owner[f"{at}/__pycache__/{base[:-3]}.cpython-311.pyc"] = i
    for i, step in enumerate(STEPS):
        with tarfile.open(f"{directory}/{i}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            if step == "application":
                # A small program with its data: what changes from image to image.
                for k in range(300):
                    data = (f"value_{k} = {k}\n" * (k + 1)).encode()
                    info = tarfile.TarInfo(f"srv/application/module_{k}.py")
                    info.size = len(data)
                    info.mtime = 1700000000 + k
                    tar.addfile(info, io.BytesIO(data))
            else:
                add_tree(tar, root, lambda path, i=i: owner.get(path, 0) == i)
        yield f"{directory}/{i}.tar"


def small_layer(directory):
    """The tar of 20,000 small files: half text, half noise."""
    rng = random.Random(1)
    with tarfile.open(f"{directory}/small.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for i in range(20000):
            size = i * 7919 % 8000
            data = rng.randbytes(size) if i % 2 else (b"line %d of the file\n" % i * 600)[:size]
            info = tarfile.TarInfo(f"data/d{i % 200}/f{i}")
            info.size = size
            info.mtime = 1700000000
            tar.addfile(info, io.BytesIO(data))
    return f"{directory}/small.tar"


class Layout:
    def __init__(self, directory):
        self.directory = directory
        self.manifests = []
        os.makedirs(f"{directory}/blobs/sha256")

    def blob(self, data):
        name = hashlib.sha256(data).hexdigest()
        with open(f"{self.directory}/blobs/sha256/{name}", "wb") as f:
            f.write(data)
        return {"digest": "sha256:" + name, "size": len(data)}

    def image(self, name, tars, compression):
        layers, diffids = [], []
        for path in tars:
            with open(path, "rb") as f:
                data = f.read()
            diffids.append("sha256:" + hashlib.sha256(data).hexdigest())
            if compression == "gzip":
                # The level that docker and buildah use.
                data = gzip.compress(data, 6, mtime=0)
            else:
                data = subprocess.run(["zstd", "-q", "-3", "-c"], input=data, check=True,
                                      stdout=subprocess.PIPE).stdout
            layers.append(self.blob(data) |
                          {"mediaType": "application/vnd.oci.image.layer.v1.tar+" + compression})
        config = self.blob(json.dumps({
            "architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/bash"]},
            "rootfs": {"type": "layers", "diff_ids": diffids},
        }).encode())
        manifest = self.blob(json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config | {"mediaType": "application/vnd.oci.image.config.v1+json"},
            "layers": layers,
        }).encode())
        self.manifests.append(manifest | {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "annotations": {"org.opencontainers.image.ref.name": name}})

    def close(self):
        with open(f"{self.directory}/oci-layout", "w", encoding="utf-8") as f:
            json.dump({"imageLayoutVersion": "1.0.0"}, f)
        with open(f"{self.directory}/index.json", "w", encoding="utf-8") as f:
            json.dump({"schemaVersion": 2, "manifests": self.manifests}, f)


def main():
    directory = sys.argv[1]
    if os.path.exists(f"{directory}/layout/index.json"):
        return
    os.makedirs(directory, exist_ok=True)
    for name in ("root", "layout"):
        shutil.rmtree(f"{directory}/{name}", ignore_errors=True)
    bootstrap(f"{directory}/root")
    tars = list(python_layers(f"{directory}/root", directory))
    layout = Layout(f"{directory}/layout")
    layout.image("python", tars, "gzip")
    layout.image("python-zstd", tars, "zstd")
    layout.image("small", [tars[0], small_layer(directory)], "gzip")
    layout.close()
    print("layers of python, bytes unpacked:", *(os.path.getsize(path) for path in tars))
    for path in tars + [f"{directory}/small.tar"]:
        os.unlink(path)
    shutil.rmtree(f"{directory}/root")


if __name__ == "__main__":
    main()
