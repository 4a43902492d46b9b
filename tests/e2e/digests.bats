#!/usr/bin/env bats
# Images whose digests are sha512, all of them: what else is done with images is done with these.
load helpers
load registries

# A layout with busybox by sha512 ($TEST_DIR/long); MANIFEST and ID are its digests.
setup() {
	local layout
	berth_setup
	REGISTRY_PIDS=()
	layout=$TEST_DIR/short
	berth save -q --format oci-dir -o "$layout" busybox
	read -r MANIFEST ID < <(python3 "$BATS_TEST_DIRNAME/registry.py" --rehash "$layout" "$TEST_DIR/long" sha512)
	berth rmi busybox >/dev/null
}

teardown() {
	registries_end
	berth_teardown
}

# The digest of the image's layer.
layer_digest() {
	python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["layers"][0]["digest"])' \
		"$TEST_DIR/long/blobs/${MANIFEST/://}"
}

runs() { expect "$(berth run --rm "$1" echo it runs)" "it runs"; }

# check_fails TEXT [FLAG]: `system check` finds a problem and names it.
check_fails() {
	run berth system check ${2:+"$2"}
	expect "$status" 125
	expect_in "$output" "$1"
}

@test "load, run, inspect, save and load again, remove" {
	local name
	expect "$(berth load -q -i "$TEST_DIR/long")" "Loaded image ID: $ID"
	berth tag "$ID" long
	expect "$(berth images -q --no-trunc)" "$ID"
	expect "$(berth images --format '{{.ID}}' long)" "$(cut -c8-19 <<<"$ID")"
	# By any part of the id, with and without the algorithm.
	for name in "$ID" "${ID#sha512:}" "${ID:7:12}" "${ID:0:30}"; do
		expect "$(berth inspect --format '{{.Id}}' "$name")" "$ID"
	done
	runs long
	expect "$(find "$TEST_DIR/root/blobs" -type f -path '*/sha512/*' | wc -l)" 3
	expect "$(find "$TEST_DIR/root/blobs/sha256" -type f | wc -l)" 0
	expect "$(berth verify long | head -1)" "$(berth verify "$ID" | head -1)"
	berth save -q --format oci-archive -o "$TEST_DIR/long.tar" long
	expect "$(tar -tf "$TEST_DIR/long.tar" | grep -c '^blobs/sha512/.')" 3
	berth save -q --format docker-archive -o "$TEST_DIR/docker.tar" long
	berth rmi long >/dev/null
	expect "$(find "$TEST_DIR/root/blobs" "$TEST_DIR/root/layers" -type f)" ""
	berth load -q -i "$TEST_DIR/long.tar"
	expect "$(berth images -q --no-trunc)" "$ID"
	berth rmi "$ID" >/dev/null
	# Docker archives say no digest of the configuration; the layers' are in it.
	berth load -q -i "$TEST_DIR/docker.tar"
	runs long
	expect "$(berth inspect --format '{{index .RootFS.Layers 0}}' long | cut -c1-7)" sha512:
	berth system check --content
}

@test "a commit on top of it" {
	berth load -q -i "$TEST_DIR/long"
	berth run --name box "$ID" sh -c 'echo new >/new'
	berth commit -q box more
	berth rm box >/dev/null
	expect "$(berth run --rm more cat /new)" new
	expect "$(berth inspect --format '{{index .RootFS.Layers 0}} {{index .RootFS.Layers 1}}' more |
		sed 's/:[0-9a-f]*//g')" "sha512 sha256"
	berth system check --content
}

@test "push, pull by tag and by digest, copy, sign" {
	local there
	zot there
	berth load -q -i "$TEST_DIR/long"
	expect "$(berth push -q "$ID" "$there/long:1")" "$MANIFEST"
	berth rmi -f "$ID" >/dev/null
	# By its digest the manifest is there by sha512; the tag is what the registry calls it.
	berth pull -q "$there/long@$MANIFEST"
	expect "$(berth images -q --no-trunc)" "$ID"
	expect "$(berth inspect --format '{{index .RepoDigests 0}}' "$ID")" "$there/long@$MANIFEST"
	runs "$there/long@$MANIFEST"
	expect "$(find "$TEST_DIR/root/blobs" -type f -path '*/sha256/*' | wc -l)" 0
	berth rmi -f "$ID" >/dev/null
	berth pull -q "$there/long:1"
	expect "$(berth images -q --no-trunc)" "$ID"
	berth system check --content
	# What is attached to it goes along, and is found under the longer name's beginning.
	openssl genpkey -algorithm ed25519 -out "$TEST_DIR/key.pem" 2>/dev/null
	openssl pkey -in "$TEST_DIR/key.pem" -pubout -out "$TEST_DIR/key.pub"
	berth sign --key "$TEST_DIR/key.pem" "$there/long@$MANIFEST"
	berth search --list-tags "$there/long" | grep -q "sha512-${MANIFEST:7:64}.sig"
	berth verify --key "$TEST_DIR/key.pub" "$there/long@$MANIFEST"
	expect "$(berth copy -q --referrers "$there/long@$MANIFEST" "$there/far:1")" "$MANIFEST"
	berth search --list-tags "$there/far" | grep -q "sha512-${MANIFEST:7:64}.sig"
	berth copy -q --referrers "$there/far@$MANIFEST" "oci:$TEST_DIR/out:1"
	(cd "$TEST_DIR/long/blobs/sha512" && find . -type f -exec cmp {} "$TEST_DIR/out/blobs/sha512/{}" ';')
}

@test "a registry that knows blobs by sha512, but no manifests" {
	PORT=$(free_port)
	REGISTRY=localhost:$PORT
	registry_begin
	berth load -q -i "$TEST_DIR/long"
	run_split berth push -q "$ID" "$REGISTRY/long:1"
	expect "$status" 0
	expect_in "$stderr" "does not name manifests by sha512"
	expect "${output%%:*}" sha256
	berth rmi -f "$ID" >/dev/null
	berth pull -q "$REGISTRY/long@$output"
	expect "$(berth images -q --no-trunc)" "$ID"
	runs "$ID"
	berth copy -q "oci:$TEST_DIR/long" "$REGISTRY/copied:1"
	berth copy -q "$REGISTRY/copied:1" "oci:$TEST_DIR/out:1"
	expect "$(find "$TEST_DIR/out/blobs/sha512" -type f | wc -l)" 2
}

@test "a registry that lies about any of them" {
	local port what
	mkdir "$TEST_DIR/registry"
	python3 "$BATS_TEST_DIRNAME/registry.py" "$TEST_DIR/long" "$TEST_DIR/registry" 3>&- &
	REGISTRY_PIDS+=($!)
	eventually test -e "$TEST_DIR/registry/port"
	read -r port <"$TEST_DIR/registry/port" || true
	for what in "$MANIFEST" "$ID" "$(layer_digest)"; do
		echo "{\"do\": \"flip\", \"after\": 100, \"match\": \"$what\"}" >"$TEST_DIR/registry/fault"
		run_split berth pull -q "localhost:$port/long@$MANIFEST"
		expect "$status" 125
		[[ $stderr == *digest* || $stderr == *damaged* ]]
		expect "$(berth images -q)" ""
		berth system check --content
	done
	rm "$TEST_DIR/registry/fault"
	berth pull -q "localhost:$port/long@$MANIFEST"
	runs "$ID"
}

@test "faults are found and mended" {
	local layer blob
	berth load -q -i "$TEST_DIR/long"
	layer=$(find "$TEST_DIR/root/layers" -name '*.erofs')
	expect "$(basename "$layer" | wc -c)" $((128 + 6 + 1))
	blob=$(layer_digest)
	rm "$layer"
	check_fails missing
	berth system check --repair
	runs "$ID"
	printf x | dd of="$layer" bs=1 seek=50000 conv=notrunc status=none
	check_fails altered --content
	berth system check --content --repair
	printf x | dd of="$TEST_DIR/root/blobs/${blob/://}" bs=1 seek=5000 conv=notrunc status=none
	check_fails "$blob" --content
	berth system check --content --repair
	runs "$ID"
	touch "$TEST_DIR/root/blobs/sha512/$(printf '%0128d' 0)" "$TEST_DIR/root/layers/$(printf '%0128d' 0).erofs"
	check_fails "belongs to nothing"
	berth system check --repair
	expect "$(find "$TEST_DIR/root" -name '0000*')" ""
	printf x | dd of="$TEST_DIR/root/blobs/${ID/://}" bs=1 seek=5 conv=notrunc status=none
	check_fails "$ID" --content
	berth system check --content --repair
	expect "$(berth images -q)" ""
	berth load -q -i "$TEST_DIR/long"
	runs "$ID"
}

@test "without compressed copies" {
	local there
	zot there
	BERTH_KEEP_BLOBS=false berth load -q -i "$TEST_DIR/long"
	runs "$ID"
	# Packed here by our program, so it comes out as it was, with the digest that was promised.
	berth push -q "$ID" "$there/long:1"
	expect "$(berth copy -q "$there/long:1" "oci:$TEST_DIR/out:1" | wc -l)" 1
	expect "$(find "$TEST_DIR/out/blobs/sha512" -type f | wc -l)" 2
	berth system check --content
}
