#!/usr/bin/env bats
# berth sbom: compared with what dpkg itself says inside the image, and with the fields that the two
# specifications require.
load helpers
load registries

setup() { berth_setup none; }
teardown() {
	registries_end
	berth_teardown
}

# An image of one layer from a directory.
import_tree() { tar -C "$1" -c . | berth import -c 'CMD ["/bin/sh"]' - "$2" >/dev/null; }

# check_spdx FILE: what SPDX 2.3 requires of a document, its packages and relationships.
check_spdx() {
	python3 - "$1" <<-'END'
		import json, re, sys
		d = json.load(open(sys.argv[1]))
		assert d["spdxVersion"] == "SPDX-2.3" and d["dataLicense"] == "CC0-1.0"
		assert d["SPDXID"] == "SPDXRef-DOCUMENT" and d["name"]
		assert re.fullmatch(r"[a-z][a-z0-9+.-]*:[^#\s]+", d["documentNamespace"]), d["documentNamespace"]
		info = d["creationInfo"]
		assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info["created"]), info
		assert info["creators"] and all(re.match(r"(Tool|Person|Organization): \S", c) for c in info["creators"])
		ids = [p["SPDXID"] for p in d["packages"]]
		assert len(ids) == len(set(ids)) and all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", i) for i in ids)
		for p in d["packages"]:
		    assert p["name"] and p["downloadLocation"] and p["filesAnalyzed"] is False, p
		    for r in p.get("externalRefs", []):
		        assert r["referenceCategory"] and r["referenceType"] and r["referenceLocator"], r
		known = set(ids) | {"SPDXRef-DOCUMENT"}
		for r in d["relationships"]:
		    assert r["spdxElementId"] in known and r["relatedSpdxElement"] in known and r["relationshipType"]
		assert any(r["relationshipType"] == "DESCRIBES" for r in d["relationships"])
	END
}

# check_cyclonedx FILE: what CycloneDX 1.5 requires.
check_cyclonedx() {
	python3 - "$1" <<-'END'
		import json, re, sys
		d = json.load(open(sys.argv[1]))
		assert d["bomFormat"] == "CycloneDX" and d["specVersion"] == "1.5"
		assert isinstance(d["version"], int) and d["version"] >= 1
		assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", d["serialNumber"])
		assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", d["metadata"]["timestamp"])
		assert d["metadata"]["component"]["type"] == "container"
		types = {"application", "framework", "library", "container", "platform", "operating-system",
		         "device", "device-driver", "firmware", "file", "machine-learning-model", "data"}
		refs = [c["bom-ref"] for c in d["components"]]
		assert len(refs) == len(set(refs))
		for c in d["components"]:
		    assert c["type"] in types and c["name"], c
		    assert "purl" not in c or c["purl"].startswith("pkg:"), c
	END
}

# purls TYPE FILE: "name version" of the packages of a type, of either document.
purls() {
	python3 - "$1" "$2" <<-'END'
		import json, sys
		d = json.load(open(sys.argv[2]))
		for p in d.get("packages", d.get("components")):
		    purl = p.get("purl") or "".join(r["referenceLocator"] for r in p.get("externalRefs", []))
		    if purl.startswith("pkg:" + sys.argv[1] + "/"):
		        print(p["name"], p.get("versionInfo") or p.get("version"))
	END
}

@test "debian: exactly what dpkg-query says inside" {
	berth bootstrap -q debian
	berth run --rm debian:bookworm dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' |
		sed -n 's/^installed //p' | LC_ALL=C sort >"$TEST_DIR/dpkg"
	[ "$(wc -l <"$TEST_DIR/dpkg")" -gt 50 ]
	berth sbom debian:bookworm --output "$TEST_DIR/spdx.json"
	berth sbom debian:bookworm --format cyclonedx-json >"$TEST_DIR/cyclonedx.json"
	check_spdx "$TEST_DIR/spdx.json"
	check_cyclonedx "$TEST_DIR/cyclonedx.json"
	for format in spdx cyclonedx; do
		purls deb "$TEST_DIR/$format.json" | LC_ALL=C sort | diff "$TEST_DIR/dpkg" -
	done
	# Nothing stays mounted, nothing is noted as unread.
	run_split berth sbom debian:bookworm
	expect "$stderr" ""
}

@test "python and node packages; several layers, the upper one hides" {
	mkdir -p "$TEST_DIR/lower/usr/lib/python3/dist-packages/requests-2.31.0.dist-info" \
		"$TEST_DIR/lower/srv/node_modules/left-pad" "$TEST_DIR/lower/srv/node_modules/@scope/part"
	printf 'Metadata-Version: 2.1\nName: requests\nVersion: 2.31.0\n' \
		>"$TEST_DIR/lower/usr/lib/python3/dist-packages/requests-2.31.0.dist-info/METADATA"
	echo '{"name": "left-pad", "version": "1.3.0"}' >"$TEST_DIR/lower/srv/node_modules/left-pad/package.json"
	echo '{"name": "@scope/part", "version": "0.1.0"}' >"$TEST_DIR/lower/srv/node_modules/@scope/part/package.json"
	import_tree "$TEST_DIR/lower" lower:1
	for format in spdx-json cyclonedx-json; do
		berth sbom --format "$format" -o "$TEST_DIR/out.json" lower:1
		"check_${format%-json}" "$TEST_DIR/out.json"
		expect "$(purls pypi "$TEST_DIR/out.json")" "requests 2.31.0"
		expect "$(purls npm "$TEST_DIR/out.json" | sort | tr '\n' ,)" "@scope/part 0.1.0,left-pad 1.3.0,"
	done
	# A second layer removes one and changes the other.
	berth save --format oci-dir -o "$TEST_DIR/layout" lower:1
	mkdir -p "$TEST_DIR/upper/srv/node_modules/left-pad" "$TEST_DIR/upper/srv/node_modules/@scope"
	echo '{"name": "left-pad", "version": "2.0.0"}' >"$TEST_DIR/upper/srv/node_modules/left-pad/package.json"
	touch "$TEST_DIR/upper/srv/node_modules/@scope/.wh.part"
	tar -C "$TEST_DIR/upper" -c . >"$TEST_DIR/upper.tar"
	python3 - "$TEST_DIR" <<-'END'
		import hashlib, json, os, sys
		root = sys.argv[1] + "/layout/"
		def read(digest): return open(root + "blobs/" + digest.replace(":", "/"), "rb").read()
		def put(data):
		    digest = hashlib.sha256(data).hexdigest()
		    open(root + "blobs/sha256/" + digest, "wb").write(data)
		    return {"digest": "sha256:" + digest, "size": len(data)}
		index = json.load(open(root + "index.json"))
		manifest = json.loads(read(index["manifests"][0]["digest"]))
		config = json.loads(read(manifest["config"]["digest"]))
		layer = put(open(sys.argv[1] + "/upper.tar", "rb").read())
		manifest["layers"].append({"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer})
		config["rootfs"]["diff_ids"].append(layer["digest"])
		config.pop("history", None)
		manifest["config"].update(put(json.dumps(config).encode()))
		index["manifests"] = [{"mediaType": manifest["mediaType"], **put(json.dumps(manifest).encode()),
		    "annotations": {"io.containerd.image.name": "docker.io/library/upper:1"}}]
		json.dump(index, open(root + "index.json", "w"))
	END
	berth load -i "$TEST_DIR/layout"
	berth sbom -o "$TEST_DIR/out.json" upper:1
	expect "$(purls npm "$TEST_DIR/out.json")" "left-pad 2.0.0"
	expect "$(purls pypi "$TEST_DIR/out.json")" "requests 2.31.0"
}

# make_rpmdb FORM FILE: a database of rpm's with forty packages, as RHEL 8 ("bdb", made by Berkeley DB itself)
# or SUSE ("ndb") have it; the third package has an epoch, the fifth is a key.
make_rpmdb() {
	/usr/bin/python3 - "$1" "$2" <<-'END'
		import os, struct, sys
		form, path = sys.argv[1:]
		def header(n):
		    texts = [(1000, f"pkg{n}" if n != 5 else "gpg-pubkey"), (1001, f"1.{n}"), (1002, "2.el8"), (1022, "noarch"),
		             (1014, "MIT"), (1005, "d" * (n * n * 20))]
		    entries, data = b"", b""
		    for tag, text in texts:
		        entries += struct.pack(">IIII", tag, 6, len(data), 1)
		        data += text.encode() + b"\0"
		    if n == 3:
		        data += bytes(-len(data) % 4)
		        entries += struct.pack(">IIII", 1003, 4, len(data), 1)
		        data += struct.pack(">I", 7)
		    return struct.pack(">II", len(entries) // 16, len(data)) + entries + data
		if form == "bdb":
		    import dbm.ndbm
		    if dbm.ndbm.library != "Berkeley DB":
		        sys.exit(77)
		    with dbm.ndbm.open(path, "n") as db:
		        db[struct.pack("<I", 0)] = struct.pack("<I", 40)
		        for n in range(1, 41):
		            db[struct.pack("<I", n)] = header(n)
		    os.rename(path + ".db", path)
		else:
		    slots, blocks, at = b"", b"", 4096
		    for n in range(1, 41):
		        h = header(n)
		        blob = struct.pack("<IIII", 0x53626c42, n, 0, len(h)) + h
		        blob += bytes(-(len(blob) + 12) % 16) + struct.pack("<III", 0, len(h), 0x45626c42)
		        slots += struct.pack("<IIII", 0x746f6c53, n, at // 16, len(blob) // 16)
		        slots += struct.pack("<IIII", 0x746f6c53, 0, 0, 0)
		        blocks += blob
		        at += len(blob)
		    page = struct.pack("<IIIII", 0x506d7052, 0, 1, 1, 41).ljust(32, b"\0") + slots
		    while len(page) < 4096:
		        page += struct.pack("<IIII", 0x746f6c53, 0, 0, 0)
		    open(path, "wb").write(page + blocks)
	END
}

@test "rpm databases from before SQLite: Berkeley DB and ndb" {
	local form file
	for form in bdb:var/lib/rpm/Packages ndb:usr/lib/sysimage/rpm/Packages.db; do
		file=$TEST_DIR/tree-${form%%:*}/${form#*:}
		form=${form%%:*}
		mkdir -p "$(dirname "$file")"
		make_rpmdb "$form" "$file" || {
			[ $? -eq 77 ] || return 1
			echo "SKIPPED: python's dbm.ndbm is not Berkeley DB" >&3
			continue
		}
		import_tree "$TEST_DIR/tree-$form" "$form:1"
		berth sbom "$form:1" >"$TEST_DIR/$form.json"
		check_spdx "$TEST_DIR/$form.json"
		expect "$(purls rpm "$TEST_DIR/$form.json" | wc -l)" 39
		expect "$(purls rpm "$TEST_DIR/$form.json" | grep -x 'pkg40 1.40-2.el8')" 'pkg40 1.40-2.el8'
		expect "$(purls rpm "$TEST_DIR/$form.json" | grep '^pkg3 ')" 'pkg3 7:1.3-2.el8'
		# A half is read, and said to be one.
		truncate -s $(($(stat -c %s "$file") / 2)) "$file"
		import_tree "$TEST_DIR/tree-$form" "$form:half"
		run_split berth sbom "$form:half"
		expect "$status" 0
		expect_in "$stderr" "damaged"
		echo rubbish >"$file"
		import_tree "$TEST_DIR/tree-$form" "$form:rubbish"
		run_split berth sbom "$form:rubbish"
		expect_in "$stderr" "cannot be read"
	done
}

@test "attached to the image in its registry, with and without the referrers API" {
	local first
	command -v docker-registry >/dev/null || skip "docker-registry is not installed"
	PORT=$(free_port)
	REGISTRY=localhost:$PORT
	registry_begin
	zot api referrers
	mkdir -p "$TEST_DIR/1/usr/lib/python3/dist-packages/a-1.dist-info"
	printf 'Metadata-Version: 2.1\nName: a\nVersion: 1\n' >"$TEST_DIR/1/usr/lib/python3/dist-packages/a-1.dist-info/METADATA"
	import_tree "$TEST_DIR/1" py:1
	run_split berth sbom --attach py:1 --tls-verify=false -o x
	expect "$status" 125
	for registry in "$REGISTRY" "$api"; do
		berth tag py:1 "$registry/py:1"
		run_split berth sbom --attach "$registry/py:1"
		expect "$status" 125
		expect_in "$stderr" "does not have the image"
		berth push -q "$registry/py:1" >/dev/null
		export SOURCE_DATE_EPOCH=1700000000
		first=$(berth sbom --attach "$registry/py:1")
		expect "$(berth sbom --attach "$registry/py:1")" "$first"
		berth sbom --format cyclonedx-json --attach "$registry/py:1"
		unset SOURCE_DATE_EPOCH
		expect "$(berth image referrers "$registry/py:1" --format '{{.ArtifactType}}' | sort)" \
			"$(printf 'application/spdx+json\napplication/vnd.cyclonedx+json')"
		expect "$(berth image referrers --type application/spdx+json "$registry/py:1" --format '{{.Digest}}')" "$first"
		# What is there is the document.
		curl -sSf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$registry/v2/py/manifests/$first" >"$TEST_DIR/m.json"
		curl -sSf "http://$registry/v2/py/blobs/$(python3 -c 'import json, sys
m = json.load(open(sys.argv[1]))
assert m["subject"]["mediaType"] == "application/vnd.oci.image.manifest.v1+json", m
print(m["layers"][0]["digest"])' "$TEST_DIR/m.json")" >"$TEST_DIR/spdx.json"
		check_spdx "$TEST_DIR/spdx.json"
		expect "$(purls pypi "$TEST_DIR/spdx.json")" "a 1"
		expect_in "$(cat "$TEST_DIR/spdx.json")" 2023-11-14T22:13:20Z
	done
	# It goes along, and the image itself is what it was.
	berth copy -q --referrers "$REGISTRY/py:1" "$api/again:1"
	expect "$(berth image referrers --type application/spdx+json "$api/again:1" --format '{{.Digest}}')" \
		"$(berth image referrers --type application/spdx+json "$REGISTRY/py:1" --format '{{.Digest}}')"
	expect "$(berth pull -q "$api/again:1")" "$(berth images -q --no-trunc py:1)"
	run_split berth sbom --attach "$(berth images -q py:1)"
	expect "$status" 125
	expect_in "$stderr" "which registry"
}

@test "what cannot be done is said" {
	run_split berth sbom nothing:1
	expect "$status" 125
	expect_in "$stderr" "no image"
	run_split berth sbom --format csv nothing:1
	expect_in "$stderr" "csv"
}

@test "an image that has the same layer twice, and one that hides what is below" {
	mkdir -p "$TEST_DIR/1/etc" "$TEST_DIR/1/lib/apk/db" "$TEST_DIR/2/x" "$TEST_DIR/3"
	printf 'P:below\nV:1-r0\nA:x86_64\n\n' >"$TEST_DIR/1/lib/apk/db/installed"
	echo 'ID=alpine' >"$TEST_DIR/1/etc/os-release"
	touch "$TEST_DIR/3/.wh..wh..opq"
	for n in 1 2 3; do tar -C "$TEST_DIR/$n" -cf "$TEST_DIR/$n.tar" .; done
	python3 - "$TEST_DIR" <<-'END'
		import hashlib, json, sys, tarfile
		d = sys.argv[1]
		def image(name, *layers):
		    ids = ["sha256:" + hashlib.sha256(open(f"{d}/{n}.tar", "rb").read()).hexdigest() for n in layers]
		    json.dump({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]},
		               "rootfs": {"type": "layers", "diff_ids": ids}}, open(f"{d}/config.json", "w"))
		    json.dump([{"Config": "config.json", "RepoTags": [name], "Layers": [f"{n}.tar" for n in layers]}],
		              open(f"{d}/manifest.json", "w"))
		    with tarfile.open(f"{d}/{name[:-2]}.archive", "w") as t:
		        for f in ["manifest.json", "config.json"] + [f"{n}.tar" for n in sorted(set(layers))]:
		            t.add(f"{d}/{f}", f)
		image("twice:1", 2, 1, 2)
		image("hides:1", 1, 2, 3)
	END
	for name in twice hides; do berth load -q -i "$TEST_DIR/$name.archive" >/dev/null; done
	berth sbom twice:1 >"$TEST_DIR/twice.json"
	expect_in "$(cat "$TEST_DIR/twice.json")" below
	berth sbom hides:1 >"$TEST_DIR/hides.json"
	! grep below "$TEST_DIR/hides.json"
	expect "$(berth export "$(berth create twice:1)" | tar -t)" "$(printf './\netc/\netc/os-release\nlib/\nlib/apk/\nlib/apk/db/\nlib/apk/db/installed\nx/')"
	expect "$(berth export "$(berth create hides:1)" | tar -t)" ./
}
