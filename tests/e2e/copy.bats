#!/usr/bin/env bats
# Copies between registries and directories, uploads in pieces, mounts, referrers, tags, searches: against
# docker-registry, and against a registry that does what docker-registry does not.
load helpers
load registries

setup() {
	berth_setup
	command -v docker-registry >/dev/null || skip "docker-registry is not installed"
	PORT=$(free_port)
	REGISTRY=localhost:$PORT
}

teardown() {
	registries_end
	berth_teardown
}

raw() { skopeo inspect --raw --tls-verify=false "docker://$1"; }

# An index of two platforms and an attestation, made by hand, as oci:$1.
make_index() {
	python3 - "$1" <<-'END'
		import hashlib, io, json, os, sys, tarfile
		dir = sys.argv[1]
		os.makedirs(dir + "/blobs/sha256")
		def put(data):
		    d = hashlib.sha256(data).hexdigest()
		    open(f"{dir}/blobs/sha256/{d}", "wb").write(data)
		    return {"digest": "sha256:" + d, "size": len(data)}
		def js(o): return json.dumps(o, indent=3).encode()
		def image(arch, text):
		    tar = io.BytesIO()
		    with tarfile.open(fileobj=tar, mode="w") as t:
		        i = tarfile.TarInfo("text"); i.size = len(text)
		        t.addfile(i, io.BytesIO(text))
		    layer = put(tar.getvalue())
		    config = put(js({"architecture": arch, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}))
		    m = put(js({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
		        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **layer}]}))
		    return {"mediaType": "application/vnd.oci.image.manifest.v1+json", **m, "platform": {"os": "linux", "architecture": arch}}
		statement = put(b"statement")
		none = put(b"{}")
		attestation = put(js({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **none},
		    "layers": [{"mediaType": "application/vnd.in-toto+json", **statement}]}))
		index = put(js({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
		    image("amd64", b"for amd64"), image("arm64", b"for arm64"),
		    {"mediaType": "application/vnd.oci.image.manifest.v1+json", **attestation, "platform": {"os": "unknown", "architecture": "unknown"},
		     "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}]}))
		open(dir + "/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
		open(dir + "/index.json", "wb").write(js({"schemaVersion": 2, "manifests": [
		    {"mediaType": "application/vnd.oci.image.index.v1+json", **index, "annotations": {"org.opencontainers.image.ref.name": "multi"}}]}))
		print(index["digest"])
	END
}

@test "copy between registries keeps every byte, and sends nothing twice" {
	registry_begin
	zot other
	digest=$(berth push -q busybox "$REGISTRY/a:1")
	expect "$(berth copy -q "$REGISTRY/a:1" "$other/b/c:2")" "$digest"
	expect "$(raw "$other/b/c:2" | sha256sum)" "$(raw "$REGISTRY/a:1" | sha256sum)"
	expect "$(berth pull -q "$other/b/c:2")" "$(berth images -q --no-trunc busybox)"
	sent=$(grep -c PATCH "$TEST_DIR/other.log")
	[ "$sent" -ge 2 ]
	berth copy -q "$REGISTRY/a:1" "$other/b/c:3"
	expect "$(grep -c PATCH "$TEST_DIR/other.log")" "$sent"
	# Within one registry the blobs are mounted.
	berth copy -q "$other/b/c:2" "$other/d:1"
	expect "$(grep -c PATCH "$TEST_DIR/other.log")" "$sent"
	expect "$(berth copy -q "docker://$other/d:1" "docker://$REGISTRY/e@$digest")" "$digest"
	run_split berth copy -q "$other/d:1" "$REGISTRY/e@sha256:$(printf 'a%.0s' $(seq 64))"
	expect "$status" 125
	expect_in "$stderr" "another digest"
	run_split berth copy "$REGISTRY/none:1" "$other/x:1"
	expect "$status" 125
	expect "$(echo "$stderr" | grep -c '^berth: ')" 1
}

@test "copy: one platform of an index, or all of it with its attestation" {
	registry_begin
	digest=$(make_index "$TEST_DIR/layout")
	expect "$(berth copy -q --all "oci:$TEST_DIR/layout:multi" "$REGISTRY/multi:all")" "$digest"
	expect "sha256:$(raw "$REGISTRY/multi:all" | sha256sum | cut -d' ' -f1)" "$digest"
	one=$(berth copy -q --platform linux/arm64 "$REGISTRY/multi:all" "$REGISTRY/multi:arm")
	expect_in "$(raw "$REGISTRY/multi:all")" "$one"
	expect "$(skopeo inspect --tls-verify=false --override-arch arm64 "docker://$REGISTRY/multi:arm" | grep -c arm64)" 1
	berth pull -q --platform linux/arm64 "$REGISTRY/multi:all" >/dev/null
	expect "$(berth image inspect -f '{{.Architecture}}' "$REGISTRY/multi:all")" arm64
	expect "$(berth copy -q --all "$REGISTRY/multi:all" "oci:$TEST_DIR/back:x")" "$digest"
	diff -r "$TEST_DIR/layout/blobs" "$TEST_DIR/back/blobs"
	expect "$(skopeo copy -q --all "oci:$TEST_DIR/back:x" "dir:$TEST_DIR/dir" && sha256sum <"$TEST_DIR/dir/manifest.json" | cut -d' ' -f1)" "${digest#sha256:}"
	run_split berth copy --platform linux/s390x "$REGISTRY/multi:all" "$REGISTRY/multi:z"
	expect "$status" 125
	expect_in "$stderr" "linux/amd64, linux/arm64"
}

@test "copy: an OCI layout, read and written by others" {
	registry_begin
	berth push -q busybox "$REGISTRY/a:1" >/dev/null
	berth copy -q "$REGISTRY/a:1" "oci:$TEST_DIR/layout:one"
	berth copy -q "$REGISTRY/a:1" "oci:$TEST_DIR/layout:two"
	skopeo copy -q --dest-tls-verify=false "oci:$TEST_DIR/layout:two" "docker://$REGISTRY/b:1"
	expect "$(raw "$REGISTRY/b:1")" "$(raw "$REGISTRY/a:1")"
	skopeo copy -q --src-tls-verify=false "docker://$REGISTRY/a:1" "oci:$TEST_DIR/theirs:x"
	berth copy -q "oci:$TEST_DIR/theirs" "$REGISTRY/c:1"
	expect "$(raw "$REGISTRY/c:1")" "$(raw "$REGISTRY/a:1")"
	run_split berth copy "oci:$TEST_DIR/layout" "$REGISTRY/d:1"
	expect "$status" 125
	expect_in "$stderr" "holds 2 images"
	run_split berth copy "oci:$TEST_DIR/layout:three" "$REGISTRY/d:1"
	expect "$status" 125
	expect_in "$stderr" "hint: it holds: one, two"
	# Names with colons, as others write them; and as "save" does, also in short.
	skopeo copy -q "oci:$TEST_DIR/theirs:x" "oci:$TEST_DIR/named:some.where:5000/app:2"
	berth copy -q "oci:$TEST_DIR/named:some.where:5000/app:2" "oci:$TEST_DIR/ours:app:3"
	skopeo inspect "oci:$TEST_DIR/ours:app:3" >/dev/null
	berth save --format oci-dir -o "$TEST_DIR/saved" busybox
	for name in busybox:latest docker.io/library/busybox:latest; do
		berth copy -q "oci:$TEST_DIR/saved:$name" "$REGISTRY/e:1"
	done
	for other in "docker-archive:$TEST_DIR/x.tar" oci-archive:x.tar containers-storage:x "dir:$TEST_DIR/x"; do
		run_split berth copy "$REGISTRY/a:1" "$other"
		expect "$status" 125
		expect_in "$stderr" "nor an OCI layout directory"
	done
	blob=$(find "$TEST_DIR/theirs/blobs" -type f -size +100k)
	printf x | dd of="$blob" bs=1 seek=5000 conv=notrunc status=none
	berth copy "oci:$TEST_DIR/theirs" "oci:$TEST_DIR/no" 2>"$TEST_DIR/error" && return 1
	expect_in "$(cat "$TEST_DIR/error")" "not as promised"
	[ ! -e "$TEST_DIR/no/index.json" ]
	expect "$(find "$TEST_DIR/no" -name '.berth*')" ""
}

@test "large blobs go in pieces, and on after a broken connection" {
	zot pieces break=2
	head -c 30000000 /dev/urandom >"$TEST_DIR/random"
	tar -C "$TEST_DIR" -cf "$TEST_DIR/fs.tar" random
	berth import "$TEST_DIR/fs.tar" big:1 >/dev/null
	digest=$(berth push -q big:1 "$pieces/big:1")
	expect "sha256:$(raw "$pieces/big:1" | sha256sum | cut -d' ' -f1)" "$digest"
	# The second PATCH goes on where the first broke, in the same upload.
	expect "$(grep -c '^POST' "$TEST_DIR/pieces.log")" 2
	[ "$(sed -n 's/^PATCH [^ ]* \([0-9]*\)-.*/\1/p' "$TEST_DIR/pieces.log" | sed -n 2p)" -gt 10000000 ]
	berth rmi big:1 >/dev/null
	berth pull -q "$pieces/big:1" >/dev/null
	# A copy as well; and pieces that are as large as the registry wants them.
	zot least chunk-min=20000000 break=1
	expect "$(berth copy -q "$pieces/big:1" "$least/big:1")" "$digest"
	grep -q '^PATCH .* 0-19999999$' "$TEST_DIR/least.log"
	# A registry that forgets an upload gets all of it again.
	zot forgetful break=1 lose
	expect "$(berth push -q "$pieces/big:1" "$forgetful/big:1")" "$digest"
	berth system check
}

@test "the real registry takes pieces too" {
	registry_begin
	head -c 30000000 /dev/urandom >"$TEST_DIR/random"
	tar -C "$TEST_DIR" -cf "$TEST_DIR/fs.tar" random
	berth import "$TEST_DIR/fs.tar" big:1 >/dev/null
	digest=$(berth push -q big:1 "$REGISTRY/big:1")
	expect "$(berth copy -q "$REGISTRY/big:1" "oci:$TEST_DIR/layout:1")" "$digest"
	expect "$(berth copy -q "oci:$TEST_DIR/layout:1" "$REGISTRY/again/big:2")" "$digest"
	skopeo copy -q --src-tls-verify=false "docker://$REGISTRY/again/big:2" "dir:$TEST_DIR/dir"
}

@test "mounts from another repository, with tokens for each" {
	zot tokens token
	berth push -q busybox "$tokens/one:1" >/dev/null
	expect "$(grep -c '^PUT .*/blobs/' "$TEST_DIR/tokens.log")" 2
	berth push -q busybox "$tokens/two:1" >/dev/null
	expect "$(grep -c '^PUT .*/blobs/' "$TEST_DIR/tokens.log")" 2
	expect_in "$(cat "$TEST_DIR/tokens.log")" "from=one"
	berth pull -q "$tokens/two:1" >/dev/null
	berth copy -q "$tokens/two:1" "$tokens/three:1" >/dev/null
	berth system check
}

@test "429 with Retry-After is waited for" {
	zot busy busy=2
	before=$SECONDS
	berth push -q busybox "$busy/a:1" >/dev/null
	[ $((SECONDS - before)) -ge 2 ]
	berth pull -q "$busy/a:1" >/dev/null
	# A date, for what cannot simply be repeated: the bytes of blobs, whole and in pieces.
	zot dated busy-upload=1
	before=$SECONDS
	berth push -q busybox "$dated/a:1" >/dev/null
	[ $((SECONDS - before)) -ge 1 ]
	zot again busy-upload=1
	before=$SECONDS
	berth copy -q "$dated/a:1" "$again/a:1" >/dev/null
	[ $((SECONDS - before)) -ge 1 ]
}

# attach REGISTRY/NAME DIGEST TYPE: puts an artifact with that subject there, by curl.
attach() {
	local base=http://${1%%/*}/v2/${1#*/} size
	size=$(curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "$base/manifests/$2" | wc -c)
	local where
	where=$(curl -sfi -X POST "$base/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
	[[ $where = http* ]] || where=http://${1%%/*}$where
	curl -sf -X PUT --data-binary '{}' -H 'Content-Type: application/octet-stream' \
		"$where&digest=sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"%s","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d}}' \
		"$3" "$2" "$size" >"$TEST_DIR/artifact"
	curl -sf -X PUT --data-binary @"$TEST_DIR/artifact" -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
		"$base/manifests/sha256:$(sha256sum <"$TEST_DIR/artifact" | cut -d' ' -f1)" >/dev/null
	sha256sum <"$TEST_DIR/artifact" | cut -d' ' -f1
}

@test "referrers: listed, filtered, copied to registries with and without the API" {
	zot new referrers
	registry_begin
	digest=$(berth push -q busybox "$new/a:1")
	expect "$(berth image referrers "$new/a:1" --format '{{.Digest}}')" ""
	sbom=$(attach "$new/a" "$digest" application/spdx+json)
	note=$(attach "$new/a" "$digest" text/note)
	expect "$(berth image referrers "$new/a:1" --format '{{.Digest}}' | sort)" "$(printf 'sha256:%s\n' "$sbom" "$note" | sort)"
	expect "$(berth image referrers --type text/note --format '{{.ArtifactType}} {{.Digest}}' "$new/a:1")" "text/note sha256:$note"
	# To a registry without the API: by the tag.
	berth copy -q --referrers "$new/a:1" "$REGISTRY/b:1"
	expect "$(berth image referrers "$REGISTRY/b:1" --format '{{.Digest}}' | sort)" "$(printf 'sha256:%s\n' "$sbom" "$note" | sort)"
	raw "$REGISTRY/b:sha256-${digest#sha256:}" | grep -q "$sbom"
	# From there to a directory, and back to one with it.
	berth copy -q --referrers "$REGISTRY/b:1" "oci:$TEST_DIR/layout:1"
	zot again referrers
	berth copy -q --referrers "oci:$TEST_DIR/layout:1" "$again/c:1"
	expect "$(berth image referrers "$again/c:1" --format '{{.Digest}}' | sort)" "$(printf 'sha256:%s\n' "$sbom" "$note" | sort)"
	# Without the flag none of it.
	berth copy -q "$new/a:1" "$REGISTRY/d:1"
	expect "$(berth image referrers "$REGISTRY/d:1" --format '{{.Digest}}')" ""
}

@test "referrers: an artifact that is copied by itself is listed, too" {
	zot new referrers
	registry_begin
	digest=$(berth push -q busybox "$new/a:1")
	note=$(attach "$new/a" "$digest" text/note)
	berth push -q busybox "$REGISTRY/b:1" >/dev/null
	berth copy -q "$new/a@sha256:$note" "$REGISTRY/b" >/dev/null
	expect "$(berth image referrers "$REGISTRY/b:1" --format '{{.Digest}} {{.ArtifactType}}')" "sha256:$note text/note"
	# Again: it is listed once.
	berth copy -q "$new/a@sha256:$note" "$REGISTRY/b:note" >/dev/null
	expect "$(berth image referrers "$REGISTRY/b:1" --format '{{.Digest}}')" "sha256:$note"
}

@test "what is sent and what is there already is told apart" {
	zot one
	run_split berth push busybox "$one/a:1"
	expect "$(grep -c ' done, ' <<<"$stderr") $(grep -c 'already there' <<<"$stderr")" "2 0"
	run_split berth push busybox "$one/a:2"
	expect "$(grep -c ' done, ' <<<"$stderr") $(grep -c 'already there' <<<"$stderr")" "0 2"
	run_split berth copy "$one/a:1" "$one/b:1"
	expect "$(grep -c ' done, ' <<<"$stderr") $(grep -c 'already there' <<<"$stderr")" "0 2"
}

@test "delete: blobs" {
	local layer
	zot new
	zot no no-delete
	registry_begin
	for registry in "$new" "$REGISTRY"; do
		berth push -q busybox "$registry/a:1" >/dev/null
		layer=$(raw "$registry/a:1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["layers"][0]["digest"])')
		expect "$(berth image delete --blob "$registry/a@$layer")" "$registry/a@$layer"
		run_split berth image delete --blob "$registry/a@$layer"
		expect "$status" 125
		expect_in "$stderr" "$registry has no a/blobs/$layer"
		run_split berth --root "$TEST_DIR/other" pull "$registry/a:1"
		expect "$status" 125
		expect_in "$stderr" "$layer"
		# The image is sent again, with what is missing.
		run_split berth push busybox "$registry/a:1"
		expect "$status" 0
		expect "$(grep -c ' done, ' <<<"$stderr")" 1
		berth --root "$TEST_DIR/other" pull -q "$registry/a:1"
		rm -rf "$TEST_DIR/other"
	done
	run_split berth image delete --blob "$new/a:1"
	expect "$status" 125
	expect_in "$stderr" "NAME@sha256:"
	berth push -q busybox "$no/a:1" >/dev/null
	run_split berth image delete --blob "$no/a@$layer"
	expect "$status" 125
	expect_in "$stderr" "does not delete blobs"
}

@test "delete: tags, manifests, and what refers to them" {
	zot new referrers
	zot token token referrers
	registry_begin
	digest=$(berth push -q busybox "$new/a:1")
	expect "$(berth push -q busybox "$new/a:2")" "$digest"
	expect "$(berth image delete "$new/a:1")" "$new/a:1"
	expect "$(berth search --list-tags "$new/a" --format '{{.Tag}}')" 2
	# By its digest it goes with what is left of its tags.
	berth push -q busybox "$new/a:3" >/dev/null
	berth image delete "$new/a@$digest" >/dev/null
	run_split berth search --list-tags "$new/a"
	expect "$status" 125
	run_split berth image delete "$new/a@$digest"
	expect "$status" 125
	expect_in "$stderr" "has no manifest"
	# With tokens.
	berth push -q busybox "$token/a:1" >/dev/null
	berth image delete "$token/a:1" >/dev/null
	# docker-registry keeps no list of referrers: we do.
	berth push -q busybox "$REGISTRY/b:1" >/dev/null
	berth push -q busybox "$new/a:1" >/dev/null
	for type in text/note text/other; do
		note=$(attach "$new/a" "$digest" $type)
		berth copy -q "$new/a@sha256:$note" "$REGISTRY/b" >/dev/null
	done
	expect "$(berth image referrers "$REGISTRY/b:1" | grep -c sha256)" 2
	berth image delete "$REGISTRY/b@sha256:$note" >/dev/null
	expect "$(berth image referrers "$REGISTRY/b:1" --format '{{.ArtifactType}}')" text/note
	berth image delete "$REGISTRY/b@$digest" >/dev/null
	# One that does not allow it.
	zot no no-delete
	zot tags no-delete=tag
	berth push -q busybox "$no/a:1" >/dev/null
	berth push -q busybox "$tags/a:1" >/dev/null
	run_split berth image delete "$no/a@$digest"
	expect_in "$stderr" "does not delete manifests"
	run_split berth image delete "$tags/a:1"
	expect "$status" 125
	expect_in "$stderr" "does not delete tags"
	expect_in "$stderr" "a@$digest"
	berth image delete "$tags/a@$digest" >/dev/null
}

@test "a registry's warning is shown once" {
	zot old "warning=closes \"soon\""
	run_split berth push -q busybox "$old/a:1"
	expect "$status" 0
	expect "$stderr" "berth: $old says: closes \"soon\""
	berth rmi busybox >/dev/null
	run_split berth pull -q "$old/a:1"
	expect "$status" 0
	expect "$(grep -c 'closes' <<<"$stderr")" 1
}

@test "copy --referrers takes cosign's signatures along" {
	registry_begin
	zot other
	openssl ecparam -name prime256v1 -genkey -noout -out "$TEST_DIR/key"
	openssl ec -in "$TEST_DIR/key" -pubout -out "$TEST_DIR/pub" 2>/dev/null
	berth push -q busybox "$REGISTRY/a:1" >/dev/null
	berth sign -q --key "$TEST_DIR/key" "$REGISTRY/a:1" >/dev/null
	digest=$(berth copy -q --referrers "$REGISTRY/a:1" "$other/a:1")
	expect "$(raw "$other/a:sha256-${digest#sha256:}.sig")" "$(raw "$REGISTRY/a:sha256-${digest#sha256:}.sig")"
}

@test "copy --referrers takes along what is found both as a referrer and by cosign's tag, under both" {
	zot new referrers
	registry_begin
	digest=$(berth push -q busybox "$new/a:1")
	note=$(attach "$new/a" "$digest" text/note)
	berth copy -q "$new/a@sha256:$note" "$new/a:sha256-${digest#sha256:}.sig"
	berth copy -q --referrers "$new/a:1" "$REGISTRY/b:1"
	expect "$(berth image referrers "$REGISTRY/b:1" --format '{{.Digest}}')" "sha256:$note"
	expect "$(raw "$REGISTRY/b:sha256-${digest#sha256:}.sig" | sha256sum)" "$note  -"
}

@test "copies into one directory at the same time lose nothing of each other, referrers included" {
	local copies=()
	zot new referrers
	for i in 1 2 3 4 5 6; do
		digest=$(berth push -q busybox "$new/a$i:1")
		attach "$new/a$i" "$digest" "text/$i" >>"$TEST_DIR/notes"
	done
	for i in 1 2 3 4 5 6; do
		berth copy -q --referrers "$new/a$i:1" "oci:$TEST_DIR/layout:$i" 3>&- &
		copies+=($!)
	done
	for pid in "${copies[@]}"; do wait "$pid"; done
	berth copy -q --referrers "oci:$TEST_DIR/layout:1" "$new/all:1"
	expect "$(berth image referrers "$new/all:1" --format '{{.Digest}}' | sort)" "$(sed 's/^/sha256:/' "$TEST_DIR/notes" | sort)"
	expect "$(jq -r '.manifests[].annotations["org.opencontainers.image.ref.name"]' "$TEST_DIR/layout/index.json" | grep -c '^[1-6]$')" 6
}

@test "pull and push --all-tags" {
	registry_begin
	for tag in 1 2 three; do berth tag busybox "$REGISTRY/many:$tag"; done
	berth tag busybox "$REGISTRY/many/more:1"
	expect "$(berth push -q -a "$REGISTRY/many" | sort -u | wc -l)" 1
	expect "$(berth search --list-tags --format '{{.Tag}}' "$REGISTRY/many" | paste -sd' ')" "1 2 three"
	run_split berth search --list-tags "$REGISTRY/many/more"
	expect "$status" 125
	berth rmi "$REGISTRY/many:1" "$REGISTRY/many:2" "$REGISTRY/many:three" >/dev/null
	berth pull -q -a "$REGISTRY/many" >/dev/null
	expect "$(berth images --format '{{.Tag}}' "$REGISTRY/many" | sort | paste -sd' ')" "1 2 three"
	for bad in "push -a $REGISTRY/many:1" "push -a $REGISTRY/none" "pull -a $REGISTRY/many:1" "pull -a $REGISTRY/none"; do
		# shellcheck disable=SC2086
		run_split berth $bad
		expect "$status" 125
		expect "$(echo "$stderr" | grep -c '^berth: ')" 1
	done
}

@test "a pull that is interrupted says so, leaves nothing, and the next one goes on" {
	zot slow stall=3000000
	for i in 1 2 3; do
		mkdir "$TEST_DIR/l$i"
		head -c $((i * 1200000)) /dev/urandom >"$TEST_DIR/l$i/data$i"
		tar -C "$TEST_DIR/l$i" -cf "$TEST_DIR/l$i.tar" .
	done
	berth import "$TEST_DIR/l1.tar" one:1 >/dev/null
	berth create --name c one:1 /x >/dev/null
	for i in 2 3; do
		berth cp "$TEST_DIR/l$i" c:/
		berth commit c "$slow/big:1" >/dev/null
		berth rm c >/dev/null
		berth create --name c "$slow/big:1" /x >/dev/null
	done
	berth rm c >/dev/null
	berth push -q "$slow/big:1" >/dev/null
	berth rmi "$slow/big:1" one:1 busybox >/dev/null
	berth image prune -f >/dev/null
	expect "$(find "$TEST_DIR/root/layers" -type f)" ""
	: >"$TEST_DIR/slow.log"
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull "$slow/big:1" >"$TEST_DIR/out" 2>"$TEST_DIR/error" 3>&- &
	pid=$!
	# The smallest layer is complete first.
	eventually bash -c "[ \$(find '$TEST_DIR/root/layers' -name '*.erofs' | wc -l) -ge 2 ]"
	kill -TERM $pid 2>/dev/null || true
	wait $pid && return 1
	expect "$(grep -c '^berth: ' "$TEST_DIR/error")" 1
	expect_in "$(cat "$TEST_DIR/error")" interrupted
	expect "$(find "$TEST_DIR/root/ingest" -mindepth 1; find "$TEST_DIR/root/layers" -name 'tmp.*')" ""
	berth system check
	have=$(find "$TEST_DIR/root/layers" -name '*.erofs' | wc -l)
	: >"$TEST_DIR/slow.log"
	berth pull -q "$slow/big:1" >/dev/null
	# The three layers and the configuration, but for what was complete.
	expect "$(grep -c '^GET .*/blobs/' "$TEST_DIR/slow.log")" $((4 - have))
}

@test "search and tags" {
	registry_begin
	for name in team/app team/tool other; do
		for tag in 1 2 3 latest; do berth push -q busybox "$REGISTRY/$name:$tag" >/dev/null; done
	done
	expect "$(berth search --format '{{.Name}}' "$REGISTRY/team" | sort)" "$REGISTRY/team/app
$REGISTRY/team/tool"
	expect "$(berth search --format '{{.Name}}' --limit 2 "$REGISTRY/" | wc -l)" 2
	expect "$(berth search "$REGISTRY/other" | tr -s ' ' | head -1)" "NAME DESCRIPTION STARS OFFICIAL"
	expect "$(berth search --list-tags --format '{{.Tag}}' "$REGISTRY/team/app" | paste -sd' ')" "1 2 3 latest"
	# Over several pages.
	zot pages
	for tag in e d c b a; do berth copy -q "$REGISTRY/other:1" "$pages/x:$tag"; done
	expect "$(berth search --list-tags --format '{{.Tag}}' "$pages/x" | paste -sd' ')" "a b c d e"
	expect "$(berth search --list-tags --limit 2 --format '{{.Name}}:{{.Tag}}' "$pages/x")" "$pages/x:a
$pages/x:b"
	run_split berth search --list-tags "$REGISTRY/nothing"
	expect "$status" 125
	run_split berth search "$pages/x"
	expect "$status" 125
	expect_in "$stderr" "search"
}

@test "a copy that is interrupted leaves nothing" {
	zot slow stall=1000000
	berth push -q busybox "$slow/a:1" >/dev/null
	"$BERTH" copy -q "$slow/a:1" "oci:$TEST_DIR/layout:1" >/dev/null 2>"$TEST_DIR/error" 3>&- &
	pid=$!
	# It stops in the middle of the layer.
	eventually bash -c "[ \$(find '$TEST_DIR/layout' -name '.berth-*' -size +100k | wc -l) -gt 0 ]"
	kill -TERM $pid
	wait $pid && return 1
	expect_in "$(cat "$TEST_DIR/error")" interrupted
	expect "$(find "$TEST_DIR/layout" -name '.berth-*')" ""
	[ ! -e "$TEST_DIR/layout/index.json" ]
	berth copy -q "$slow/a:1" "oci:$TEST_DIR/layout:1"
}
