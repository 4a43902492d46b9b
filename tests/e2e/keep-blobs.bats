#!/usr/bin/env bats
# keep-blobs = false: no compressed copies. Layers give their tars back byte for byte, push and save compress
# them anew, and the store checks, mends and counts what it has.
load helpers
load registries

setup() {
	berth_setup nothing
	PORT=$(free_port)
	REGISTRY=localhost:$PORT
	mkdir "$TEST_DIR/config" "$TEST_DIR/config/berth"
	echo 'keep-blobs = false' >"$TEST_DIR/config/berth/berth.toml"
}

teardown() {
	registries_end
	berth_teardown
}

need() { command -v "$1" >/dev/null || skip "$1 is not installed"; }
no_layer_blobs() {
	local f
	for f in "$TEST_DIR"/root/blobs/sha256/*; do python3 -m json.tool "$f" >/dev/null || return 1; done
}
digest_at() { skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$REGISTRY/$1"; }
config_at() { skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/$1" | python3 -c 'import json,sys; print(json.load(sys.stdin)["config"]["digest"])'; }
layers_at() { skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/$1" | python3 -c 'import json,sys; [print(l["mediaType"], l["digest"], l["size"]) for l in json.load(sys.stdin)["layers"]]'; }
id_of() { berth images -q --no-trunc "$1"; }

# The layers of a layout with one image become plain tars; its tag is 1 then.
unpack_layers() {
	python3 - "$1" <<-'END'
		import gzip, hashlib, json, sys
		dir = sys.argv[1]
		def read(d):
		    return open(f"{dir}/blobs/sha256/{d['digest'][7:]}", "rb").read()
		def put(data, d):
		    d["digest"], d["size"] = "sha256:" + hashlib.sha256(data).hexdigest(), len(data)
		    open(f"{dir}/blobs/sha256/{d['digest'][7:]}", "wb").write(data)
		index = json.load(open(dir + "/index.json"))
		manifest = json.loads(read(index["manifests"][0]))
		for layer in manifest["layers"]:
		    put(gzip.decompress(read(layer)), layer)
		    layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
		put(json.dumps(manifest).encode(), index["manifests"][0])
		index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "1"}
		json.dump(index, open(dir + "/index.json", "w"))
	END
}

# load_tars NAME TAR...: an image of these tars as its layers, by way of a docker archive.
load_tars() {
	local name=$1
	shift
	mkdir "$TEST_DIR/archive"
	python3 - "$TEST_DIR/archive" "$name" "$@" <<-'END'
		import hashlib, json, os, shutil, sys
		dir, name, tars = sys.argv[1], sys.argv[2], sys.argv[3:]
		digests = ["sha256:" + hashlib.sha256(open(t, "rb").read()).hexdigest() for t in tars]
		for i, t in enumerate(tars):
		    shutil.copy(t, f"{dir}/{i}.tar")
		json.dump({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]}, "rootfs": {"type": "layers", "diff_ids": digests}},
		    open(dir + "/c.json", "w"))
		json.dump([{"Config": "c.json", "RepoTags": [name], "Layers": [f"{i}.tar" for i in range(len(tars))]}],
		    open(dir + "/manifest.json", "w"))
	END
	berth load -q -i <(tar -C "$TEST_DIR/archive" -c .)
	rm -r "$TEST_DIR/archive"
}

# The tars of an image, each compared with its name, which is its digest.
tars_are_right() {
	mkdir "$TEST_DIR/saved"
	berth save "$1" | tar -C "$TEST_DIR/saved" -x
	(cd "$TEST_DIR/saved" && sha256sum -- *.tar | sed 's/\.tar$//' | awk '$1 != $2 { bad = 1; print } END { exit bad }')
	rm -r "$TEST_DIR/saved"
}

@test "no copy is kept, the store is hardly larger than what is in it, and all is counted" {
	local unpacked stored
	mkdir -p "$TEST_DIR/tree/many"
	python3 -c 'for i in range(5000): open("'"$TEST_DIR"'/tree/many/f%d" % i, "w").write("content %d\n" % i * 300)'
	cp -r /usr/bin/git /usr/bin/python3* /usr/lib/python3 "$TEST_DIR/tree/" 2>/dev/null || true
	tar -C "$TEST_DIR/tree" -cf "$TEST_DIR/1.tar" .
	load_tars large:1 "$TEST_DIR/1.tar"
	no_layer_blobs
	unpacked=$(find "$TEST_DIR/tree" -type f -printf '%i %s\n' | sort -u | awk '{ s += $2 } END { print s }')
	stored=$(find "$TEST_DIR/root/blobs" "$TEST_DIR/root/layers" -type f -printf '%s\n' | awk '{ s += $1 } END { print s }')
	echo "unpacked $unpacked, stored $stored"
	[ $((stored * 100)) -le $((unpacked * 105)) ]
	expect "$(berth system df --format '{{.Type}} {{.SizeBytes}}' | sed -n 's/^Images //p')" "$stored"
	tars_are_right large:1
	berth verify large:1
	berth system check --content
	fsck.erofs "$TEST_DIR"/root/layers/*.erofs
	berth rmi large:1
	expect "$(find "$TEST_DIR/root/blobs" "$TEST_DIR/root/layers" -type f)" ""
}

@test "it runs; what is made here has the digests that it would have with copies" {
	local with without
	need docker-registry
	need skopeo
	registry_begin
	berth bootstrap --quiet busybox
	expect "$(berth run --rm busybox echo hello)" hello
	berth run --name c busybox sh -c 'echo new >/etc/new; rm /bin/cat; ln -s /etc/new /l'
	berth commit c "$REGISTRY/c:1"
	berth rm c
	no_layer_blobs
	run_split berth push -q "$REGISTRY/c:1"
	expect "$stderr" ""
	without=$output
	expect "$(digest_at c:1)" "$without"
	id=$(id_of "$REGISTRY/c:1")
	# Into a store with copies, and from there to the registry once more.
	berth rmi "$REGISTRY/c:1"
	with=$(berth --keep-blobs pull -q "$REGISTRY/c:1")
	expect "$with" "$id"
	expect "$(berth push -q "$REGISTRY/c:1" "$REGISTRY/other:1")" "$without"
	expect "$(digest_at other:1)" "$without"
	expect "$(berth run --rm "$REGISTRY/c:1" sed p -n /l)" new
}

@test "what others packed is packed anew where it is not known yet: the id stays" {
	local digest new
	need docker-registry
	need skopeo
	registry_begin
	berth bootstrap --quiet busybox
	berth save -o "$TEST_DIR/busybox.tar" busybox
	skopeo copy -q --dest-tls-verify=false "docker-archive:$TEST_DIR/busybox.tar" "docker://$REGISTRY/from:gzip"
	skopeo copy -q --dest-tls-verify=false --format oci --dest-compress-format zstd "docker-archive:$TEST_DIR/busybox.tar" "docker://$REGISTRY/from:zstd"
	berth save --format oci-dir -o "$TEST_DIR/plain" busybox
	unpack_layers "$TEST_DIR/plain"
	berth copy -q "oci:$TEST_DIR/plain:1" "$REGISTRY/from:plain"
	expect "$(layers_at from:plain | cut -d' ' -f1)" application/vnd.oci.image.layer.v1.tar
	berth rmi busybox
	for tag in gzip zstd plain; do
		berth pull -q "$REGISTRY/from:$tag"
		no_layer_blobs
		digest=$(digest_at "from:$tag")
		# It is there, or in another of its repositories: all stays as it is.
		run_split berth push -q "$REGISTRY/from:$tag" "$REGISTRY/to/there:$tag"
		expect "$stderr" ""
		expect "$(digest_at "to/there:$tag")" "$digest"
		# Another registry knows nothing of it.
		zot "ZOT_$tag"
		local other="ZOT_$tag"
		run_split berth push -q "$REGISTRY/from:$tag" "${!other}/anew:$tag"
		expect "$status" 0
		new=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://${!other}/anew:$tag")
		id=$(id_of "$REGISTRY/from:$tag")
		if [ "$tag" = plain ]; then
			expect "$stderr" ""
			expect "$new" "$digest"
		else
			expect_in "$stderr" "compressed anew"
			expect_in "$stderr" "$new"
			[ "$new" != "$digest" ]
			expect_in "$(berth inspect -f '{{.RepoDigests}}' "$id")" "anew@$new"
		fi
		# Who fetches it from there has the same image, with and without copies.
		berth rmi --force "$id"
		expect "$(berth pull -q "${!other}/anew:$tag")" "$id"
		berth system check --content
		berth rmi "${!other}/anew:$tag"
		expect "$(berth --keep-blobs pull -q "${!other}/anew:$tag")" "$id"
		berth system check --content
		berth rmi "${!other}/anew:$tag"
	done
}

@test "archives: others read what is saved, and the images in them have their ids" {
	local id
	need skopeo
	need umoci
	berth bootstrap --quiet busybox
	id=$(id_of busybox)
	tars_are_right busybox
	berth save --format oci -o "$TEST_DIR/oci.tar" busybox
	expect_in "$(skopeo inspect --config --raw "oci-archive:$TEST_DIR/oci.tar")" '"rootfs"'
	expect "sha256:$(skopeo inspect --config --raw "oci-archive:$TEST_DIR/oci.tar" | sha256sum | cut -d' ' -f1)" "$id"
	berth save --format oci-dir -o "$TEST_DIR/layout" busybox
	name=$(python3 -c 'import json; print(json.load(open("'"$TEST_DIR"'/layout/index.json"))["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"])')
	expect "$name" docker.io/library/busybox:latest
	berth rmi busybox
	berth load -q -i "$TEST_DIR/oci.tar"
	expect "$(id_of busybox)" "$id"
	# What is here already is not unpacked again, whichever way it comes.
	berth load -q -i "$TEST_DIR/layout"
	no_layer_blobs
	berth system check --content
}

for_tar() {
	tar --numeric-owner --sort=name "$@" -C "$TEST_DIR/tree" -cf "$TEST_DIR/$((++made)).tar" .
	made_tars+=("$TEST_DIR/$made.tar")
}

@test "tars of every dialect come back byte for byte" {
	local made=0 made_tars=() long
	mkdir -p "$TEST_DIR/tree/d/e"
	long=$(printf 'n%.0s' $(seq 180))
	echo one >"$TEST_DIR/tree/one"
	head -c 4096 /dev/urandom >"$TEST_DIR/tree/block"
	head -c 4097 /dev/urandom >"$TEST_DIR/tree/block-and-one"
	head -c 3000000 /dev/urandom >"$TEST_DIR/tree/large"
	: >"$TEST_DIR/tree/empty"
	truncate -s 9000000 "$TEST_DIR/tree/hole"
	printf x | dd of="$TEST_DIR/tree/hole" bs=1 seek=5000000 conv=notrunc 2>/dev/null
	ln "$TEST_DIR/tree/one" "$TEST_DIR/tree/d/hard"
	ln -s "$long" "$TEST_DIR/tree/d/far"
	mkfifo "$TEST_DIR/tree/d/fifo"
	setfattr -n user.x -v y "$TEST_DIR/tree/block" 2>/dev/null || true
	for_tar --format=v7 --exclude=./d/f*
	for_tar --format=ustar --exclude=./d/far
	echo two >"$TEST_DIR/tree/$long"
	for_tar --format=gnu
	for_tar --format=gnu --sparse
	for_tar --format=pax --xattrs
	for_tar --format=pax --sparse --sparse-version=0.0
	for_tar --format=pax --sparse --sparse-version=0.1
	for_tar --format=pax --sparse --sparse-version=1.0
	# Files twice, a whiteout with contents, other blocking, no end, rubbish behind the end.
	python3 - "$TEST_DIR" <<-'END'
		import io, sys, tarfile
		with tarfile.open(sys.argv[1] + "/twice.tar", "w") as t:
		    for data in (b"first" * 2000, b"second" * 3000, b""):
		        for name in ("a", "b/c", ".wh.gone", "b/.wh..wh..opq"):
		            i = tarfile.TarInfo(name); i.size = len(data); t.addfile(i, io.BytesIO(data))
		    i = tarfile.TarInfo("link"); i.type = tarfile.LNKTYPE; i.linkname = "a"; t.addfile(i)
		whole = open(sys.argv[1] + "/twice.tar", "rb").read()
		open(sys.argv[1] + "/rubbish.tar", "wb").write(whole + b"rubbish" * 30000)
		open(sys.argv[1] + "/endless.tar", "wb").write(whole.rstrip(b"\0") + bytes(-len(whole.rstrip(b"\0")) % 512))
	END
	load_tars dialects:1 "${made_tars[@]}" "$TEST_DIR"/{twice,rubbish,endless}.tar
	no_layer_blobs
	expect "$(find "$TEST_DIR/root/layers" -name '*.erofs' | wc -l)" 11
	tars_are_right dialects:1
	berth system check --content
}

@test "faults: what is found, what is mended" {
	local layer file id
	berth bootstrap --quiet busybox
	id=$(id_of busybox)
	file=$(echo "$TEST_DIR"/root/layers/*.erofs)
	layer=$(basename "$file" .erofs)
	cp "$file" "$TEST_DIR/right.erofs"
	# The layer's row is gone, or says something else: the layer is right, as its tar proves.
	python3 - "$TEST_DIR/root/berth.db" <<-'END'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1])
		db.execute("DELETE FROM image_layer")
		db.commit()
	END
	run_split berth system check
	[ "$status" -ne 0 ]
	berth system check --repair
	berth system check --content
	cmp "$file" "$TEST_DIR/right.erofs"
	expect "$(berth run --rm busybox echo hello)" hello
	tars_are_right busybox
	# A bit of what only the tar needs is turned: the layer is not what it was.
	python3 - "$file" <<-'END'
		import sys
		f = open(sys.argv[1], "r+b")
		f.seek(1024 + 36)
		f.seek(int.from_bytes(f.read(4), "little") * 4096 + 60)
		byte = f.read(1)[0]
		f.seek(-1, 1)
		f.write(bytes([byte ^ 1]))
	END
	run_split berth save -o "$TEST_DIR/x.tar" busybox
	expect "$status" 125
	expect_in "$stderr" "damaged"
	[ ! -e "$TEST_DIR/x.tar" ]
	run_split berth verify busybox
	[ "$status" -ne 0 ]
	run_split berth system check --content
	[ "$status" -ne 0 ]
	expect_in "$output$stderr" "$layer"
	# There is nothing it could be made from: the image goes.
	berth system check --content --repair
	expect "$(berth images -q)" ""
	berth system check --content
	berth bootstrap --quiet busybox
	expect "$(id_of busybox)" "$id"
	rm "$file"
	berth system check --repair
	expect "$(berth images -q)" ""
}

@test "with and without copies mixed: nothing is fetched or kept twice" {
	local blobs
	need docker-registry
	need skopeo
	registry_begin
	berth bootstrap --quiet busybox
	berth push -q busybox "$REGISTRY/a:1"
	berth tag busybox "$REGISTRY/a:1"
	# Without a copy, and then asked for with one: it is complete as it is.
	berth --keep-blobs pull -q "$REGISTRY/a:1"
	no_layer_blobs
	berth rmi "$REGISTRY/a:1" busybox
	berth --keep-blobs pull -q "$REGISTRY/a:1"
	blobs=$(find "$TEST_DIR/root/blobs" -type f | wc -l)
	berth pull -q "$REGISTRY/a:1"
	expect "$(find "$TEST_DIR/root/blobs" -type f | wc -l)" "$blobs"
	run no_layer_blobs
	[ "$status" -ne 0 ]
	# What is recorded is what is there, also if one form replaces the other.
	find "$TEST_DIR/root/blobs" -type f -size +50k -delete
	berth system check --repair
	berth pull -q "$REGISTRY/a:1"
	no_layer_blobs
	berth system check --content
	tars_are_right "$REGISTRY/a:1"
	# A copy that is lost is forgotten, and can come again.
	berth run --name c "$REGISTRY/a:1" touch /new
	berth commit c b:1
	berth rm c
	berth push -q b:1 "$REGISTRY/b:1"
	berth system check --content
	berth rmi b:1 "$REGISTRY/a:1"
	berth system check
	expect "$(find "$TEST_DIR/root/layers" -type f)" ""
}

@test "killed at random moments, and two at once" {
	local i pid
	RANDOM=${BERTH_SEED:-7}
	mkdir "$TEST_DIR/registry"
	python3 "$BATS_TEST_DIRNAME/registry.py" --make "$TEST_DIR/layout" '[{"noise": 5000000}, {"noise": 500000, "files": 3000}, {"noise": 100}]'
	python3 "$BATS_TEST_DIRNAME/registry.py" "$TEST_DIR/layout" "$TEST_DIR/registry" 3>&- &
	REGISTRY_PIDS+=($!)
	eventually test -e "$TEST_DIR/registry/port"
	read -r PORT <"$TEST_DIR/registry/port" || true
	for ((i = 0; i < ${BERTH_PULL_KILLS:-6}; i++)); do
		"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "localhost:$PORT/test:1" >/dev/null 2>&1 3>&- &
		pid=$!
		sleep "$(printf '0.%03d' $((RANDOM % 300)))"
		kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
		eventually nobody_left
		berth system check
	done
	berth rmi "localhost:$PORT/test:1" 2>/dev/null || true
	: >"$TEST_DIR/registry/log"
	berth pull -q "localhost:$PORT/test:1" 3>&- &
	pid=$!
	berth pull -q "localhost:$PORT/test:1"
	wait "$pid"
	no_layer_blobs
	berth system check --content
	tars_are_right "localhost:$PORT/test:1"
}
