#!/usr/bin/env bats
# Pulls that go wrong: killed, cut off, lied to, flooded, on a full disk, several at once. Whatever happens,
# there is one clear error, `system check` has nothing to complain about, and the next pull succeeds.
#
# BERTH_PULL_KILLS is how often a pull is killed (15), BERTH_PULL_FILES how many entries a large layer has
# (100000), BERTH_PULL_SLOW=1 adds what waits for timeouts or unpacks gigabytes.
load helpers

setup() {
	berth_setup nothing
	mkdir "$TEST_DIR/registry"
}

teardown() {
	[ -z "${REGISTRY_PID:-}" ] || { kill "$REGISTRY_PID"; wait "$REGISTRY_PID" || true; }
	if mountpoint -q "$TEST_DIR/root"; then
		berth system check
		umount "$TEST_DIR/root"
	fi
	berth_teardown
}

# serve SPECIFICATION: a registry with one image, $IMAGE, made after it (registry.py tells how). Sets
# LAYERS to the digests of its layers.
serve() {
	local port
	read -ra LAYERS < <(python3 "$BATS_TEST_DIRNAME/registry.py" --make "$TEST_DIR/layout" "$1")
	python3 "$BATS_TEST_DIRNAME/registry.py" "$TEST_DIR/layout" "$TEST_DIR/registry" 3>&- &
	REGISTRY_PID=$!
	eventually test -e "$TEST_DIR/registry/port"
	read -r port <"$TEST_DIR/registry/port" || true
	IMAGE=localhost:$port/test:1
}

# fault DO LAYER [NAME VALUE]...: what goes wrong with the layer of that number from now on.
fault() {
	local json
	json="{\"do\": \"$1\", \"match\": \"${LAYERS[$2]}\""
	shift 2
	while [ $# -gt 0 ]; do
		json+=", \"$1\": $2"
		shift 2
	done
	echo "$json}" >"$TEST_DIR/registry/fault"
}

all_is_well() { rm -f "$TEST_DIR/registry/fault"; }

# How often the layer of that number was asked for.
requests_of() { grep -c "GET .*${LAYERS[$1]}" "$TEST_DIR/registry/log" || true; }

# The pull fails with one error that contains $1, and leaves nothing.
pull_fails() {
	run_split berth pull -q "$IMAGE"
	expect "$status" 125
	expect_in "$stderr" "$1"
	expect "$(grep -c '^berth: ' <<<"$stderr")" 1
	berth system check
	expect "$(berth images -q)" ""
	expect "$(find "$TEST_DIR/root/ingest" -mindepth 1)" ""
}

pull_succeeds() {
	berth pull -q "$IMAGE"
	berth system check --content
	expect "$(find "$TEST_DIR/root/ingest" "$TEST_DIR/state/fetch" -mindepth 1)" ""
}

@test "killed at random moments" {
	local i pid start full
	RANDOM=${BERTH_SEED:-7}
	serve '[{"noise": 3000000}, {"noise": 9000000, "zeros": 9000000}, {"noise": 500000, "files": 3000},
		{"noise": 6000000}, {"noise": 100}]'
	start=$(date +%s%3N)
	pull_succeeds
	full=$(($(date +%s%3N) - start))
	berth rmi "$IMAGE" >/dev/null
	for ((i = 0; i < ${BERTH_PULL_KILLS:-15}; i++)); do
		"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$IMAGE" >/dev/null 2>&1 3>&- &
		pid=$!
		sleep "$(printf '%d.%03d' 0 $((RANDOM % (full < 999 ? full + 1 : 999))))"
		kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
		# The command's children die with it, but not before it is gone.
		eventually nobody_left
		berth system check
		[ $((i % 4)) -ne 0 ] || pull_succeeds
		berth rmi "$IMAGE" >/dev/null 2>&1 || true
	done
	pull_succeeds
}

@test "the next pull goes on from the layers that were complete" {
	serve '[{"noise": 300000}, {"noise": 3000000}, {"noise": 200000}]'
	fault stall 1 after 1000000
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$IMAGE" >/dev/null 2>&1 3>&- &
	pid=$!
	two_layers() { [ "$(find "$TEST_DIR/root/layers" -name '*.*' ! -name 'tmp.*' | wc -l)" = 2 ]; }
	eventually two_layers
	sleep 0.2
	kill -TERM "$pid"
	wait "$pid" || true
	all_is_well
	pull_succeeds
	expect "$(requests_of 0) $(requests_of 1) $(requests_of 2)" "1 2 1"
}

@test "connections that break are taken up again" {
	serve '[{"noise": 2000000}, {"noise": 100}]'
	for kind in cut reset; do
		fault "$kind" 0 after 500000 times 3
		pull_succeeds
		berth rmi "$IMAGE" >/dev/null
	done
	expect "$(requests_of 0)" 8
	expect_in "$(tail -n 3 "$TEST_DIR/registry/log")" "bytes="
	fault status 0 status 503 times 2
	pull_succeeds
	berth rmi "$IMAGE" >/dev/null
	fault status 0 status 429 times 1
	pull_succeeds
}

@test "a registry that lies" {
	serve '[{"noise": 1000000}, {"noise": 2000000, "lie_size": -5}]'
	pull_fails "promised"
	kill "$REGISTRY_PID"
	wait "$REGISTRY_PID" || true
	rm -r "$TEST_DIR/layout" "$TEST_DIR/registry"/*
	serve '[{"noise": 1000000, "lie_diffid": true}, {"noise": 100}]'
	pull_fails "digest of the unpacked layer"
	kill "$REGISTRY_PID"
	wait "$REGISTRY_PID" || true
	rm -r "$TEST_DIR/layout" "$TEST_DIR/registry"/*
	serve '[{"noise": 1000000}, {"noise": 100}]'
	fault flip 0 after 700000
	pull_fails "${LAYERS[0]}"
	all_is_well
	pull_succeeds
}

@test "a registry that lies about manifest and configuration" {
	local manifest config name
	serve '[{"noise": 1000}]'
	read -r manifest config < <(python3 -c 'import json, sys
read = lambda name: json.load(open(sys.argv[1] + name))
manifest = read("/index.json")["manifests"][0]["digest"]
print(manifest, read("/blobs/sha256/" + manifest[7:])["config"]["digest"])' "$TEST_DIR/layout")
	IMAGE=${IMAGE%:1}@$manifest
	for name in "$manifest" "$config"; do
		echo "{\"do\": \"flip\", \"match\": \"$name\", \"after\": 40}" >"$TEST_DIR/registry/fault"
		pull_fails "$name"
	done
	all_is_well
	pull_succeeds
}

@test "a layer of many entries in bounded memory" {
	local files=${BERTH_PULL_FILES:-100000}
	serve "[{\"noise\": 100, \"files\": $files}]"
	# What is promised: 64 MiB and 200 bytes for each entry. It is the data of each process that is
	# limited; the parent's is small.
	(
		ulimit -d $(((64 << 10) + files * 200 / 1024))
		"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$IMAGE"
	)
	expect "$(berth inspect -f '{{len .RootFS.Layers}}' "$IMAGE")" 1
	berth system check
}

@test "a bomb on a small disk, and a full disk: the error says so, room is given back" {
	mount -t tmpfs -o size=30m none "$TEST_DIR/root"
	serve '[{"noise": 200000}, {"noise": 1000000, "zeros": 200000000}, {"noise": 100}]'
	pull_fails "No space left"
	expect "$(($(stat -f -c '(%b-%f)*%S' "$TEST_DIR/root") < 2000000))" 1
	mount -o remount,size=400m "$TEST_DIR/root"
	pull_succeeds
}

@test "a full disk with layer files" {
	truncate -s 64M "$TEST_DIR/disk"
	mkfs.ext4 -q "$TEST_DIR/disk"
	mount -o loop "$TEST_DIR/disk" "$TEST_DIR/root" || skip "no loop devices"
	serve '[{"noise": 5000000}, {"noise": 30000000}, {"noise": 25000000}]'
	pull_fails "No space left"
	# The same registry, the same store, the room of one layer more.
	umount "$TEST_DIR/root"
	truncate -s 200M "$TEST_DIR/disk"
	resize2fs -f "$TEST_DIR/disk" >/dev/null 2>&1
	mount -o loop "$TEST_DIR/disk" "$TEST_DIR/root"
	pull_succeeds
}

@test "hostile layers are refused" {
	mkdir "$TEST_DIR/evil"
	python3 - "$TEST_DIR/evil" <<-'TAR'
		import io, sys, tarfile
		def make(name, *members):
		    with tarfile.open(f"{sys.argv[1]}/{name}", "w") as tar:
		        for path, kind, link in members:
		            info = tarfile.TarInfo(path)
		            info.type, info.linkname = kind, link
		            tar.addfile(info)
		make("up", ("../../../tmp/berth-was-here", tarfile.REGTYPE, ""))
		make("link", ("a", tarfile.LNKTYPE, "../../etc/passwd"))
		make("loop", ("a", tarfile.SYMTYPE, "b"), ("b", tarfile.SYMTYPE, "a"), ("a/x", tarfile.REGTYPE, ""))
		make("file-as-directory", ("a", tarfile.REGTYPE, ""), ("a/b", tarfile.REGTYPE, ""))
	TAR
	printf 'no tar at all, but long enough to be one: %0600d' 0 >"$TEST_DIR/evil/nonsense"
	for file in "$TEST_DIR"/evil/*; do
		serve "[{\"noise\": 100000}, {\"raw\": \"$file\"}]"
		pull_fails "layer 2"
		kill "$REGISTRY_PID"
		wait "$REGISTRY_PID" || true
		rm -r "$TEST_DIR/layout" "$TEST_DIR/registry"/*
	done
	REGISTRY_PID=
	[ ! -e /tmp/berth-was-here ]
}

@test "two pulls at once: one download" {
	serve '[{"noise": 2000000}, {"noise": 1000000}, {"noise": 100}]'
	fault slow 0
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$IMAGE" >"$TEST_DIR/first" 3>&- &
	pid=$!
	berth pull -q "$IMAGE" >"$TEST_DIR/second"
	wait "$pid"
	expect "$(cat "$TEST_DIR/second")" "$(cat "$TEST_DIR/first")"
	expect "$(requests_of 0) $(requests_of 1) $(requests_of 2)" "1 1 1"
	berth system check --content
}

@test "two pulls at once, one of them killed: the other one goes on" {
	serve '[{"noise": 4000000}, {"noise": 1000000}, {"noise": 100}]'
	fault slow 0 times 1
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$IMAGE" >/dev/null 2>&1 3>&- &
	pid=$!
	asked() { grep -q "${LAYERS[0]}" "$TEST_DIR/registry/log"; }
	eventually asked
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$IMAGE" >"$TEST_DIR/second" 3>&- &
	other=$!
	sleep 0.5
	kill -9 "$pid"
	wait "$pid" || true
	wait "$other"
	expect "$(cat "$TEST_DIR/second")" "$(berth images -q --no-trunc)"
	expect "$(requests_of 0)" 2
	berth system check --content
}

@test "images that share a layer: it is fetched once" {
	serve '[{"noise": 2000000}]'
	# The same layer under another manifest, in the same registry.
	other=$(python3 - "$TEST_DIR/layout" <<-'END'
		import hashlib, json, sys
		layout = sys.argv[1]
		def read(digest):
		    with open(f"{layout}/blobs/sha256/{digest[7:]}", "rb") as f:
		        return json.load(f)
		def write(value):
		    data = json.dumps(value).encode()
		    name = hashlib.sha256(data).hexdigest()
		    with open(f"{layout}/blobs/sha256/{name}", "wb") as f:
		        f.write(data)
		    return {"digest": "sha256:" + name, "size": len(data)}
		with open(layout + "/index.json") as f:
		    manifest = read(json.load(f)["manifests"][0]["digest"])
		config = read(manifest["config"]["digest"]) | {"author": "another"}
		manifest["config"] |= write(config)
		print(write(manifest)["digest"])
		END
	)
	fault slow 0
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$IMAGE" 3>&- &
	pid=$!
	berth pull -q "${IMAGE%:1}@$other"
	wait "$pid"
	expect "$(requests_of 0)" 1
	expect "$(berth images -qa | sort -u | wc -l)" 2
	berth system check --content
}

@test "a registry that stalls; bombs of gigabytes" {
	[ -n "${BERTH_PULL_SLOW:-}" ] || skip "takes minutes: BERTH_PULL_SLOW=1"
	serve '[{"noise": 2000000}, {"bomb": 6442450944}]'
	pull_fails "bomb"
	kill "$REGISTRY_PID"
	wait "$REGISTRY_PID" || true
	rm -r "$TEST_DIR/layout" "$TEST_DIR/registry"/*
	serve '[{"noise": 2000000}, {"noise": 100}]'
	fault stall 0 after 1000000 times 1
	pull_succeeds
	expect "$(requests_of 0)" 2
	berth rmi "$IMAGE" >/dev/null
	fault stall 0
	run_split berth pull -q "$IMAGE"
	expect "$status" 125
	expect_in "$stderr" "layer 1"
	berth system check
}
