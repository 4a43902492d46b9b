#!/usr/bin/env bats
# The image policy, signatures by key, and `verify`, against a real registry (docker-registry on
# loopback), with keys and forgeries made by openssl.
load helpers

setup() {
	berth_setup
	command -v docker-registry >/dev/null || skip "docker-registry is not installed"
	PORT=$(free_port)
	REGISTRY=localhost:$PORT
	cat >"$TEST_DIR/registry.yml" <<-END
		version: 0.1
		log: {level: error, accesslog: {disabled: true}}
		storage: {filesystem: {rootdirectory: $TEST_DIR/registry}, delete: {enabled: true}}
		http: {addr: "localhost:$PORT"}
	END
	docker-registry serve "$TEST_DIR/registry.yml" >"$TEST_DIR/registry.log" 2>&1 3>&- &
	REGISTRY_PID=$!
	eventually bash -c "exec 4<>/dev/tcp/localhost/$PORT"
	openssl ecparam -name prime256v1 -genkey -noout -out "$TEST_DIR/ec.key"
	openssl genpkey -algorithm ed25519 -out "$TEST_DIR/ed.key" 2>/dev/null
	for key in ec ed; do
		openssl pkey -in "$TEST_DIR/$key.key" -pubout -out "$TEST_DIR/$key.pub" 2>/dev/null
	done
	policy "{\"default\": [{\"type\": \"reject\"}], \"transports\": {\"docker\": {
		\"$REGISTRY/app\": [{\"type\": \"sigstoreSigned\", \"keyPath\": \"$TEST_DIR/ec.pub\"}],
		\"$REGISTRY/either\": [{\"type\": \"sigstoreSigned\",
			\"keyPaths\": [\"$TEST_DIR/ec.pub\", \"$TEST_DIR/ed.pub\"]}],
		\"$REGISTRY/moved\": [{\"type\": \"sigstoreSigned\", \"keyPath\": \"$TEST_DIR/ec.pub\",
			\"signedIdentity\": {\"type\": \"exactRepository\",
				\"dockerRepository\": \"$REGISTRY/app\"}}],
		\"$REGISTRY/data\": [{\"type\": \"sigstoreSigned\", \"keyData\": \"$(base64 -w0 "$TEST_DIR/ec.pub")\"}],
		\"$REGISTRY/gpg\": [{\"type\": \"signedBy\", \"keyType\": \"GPGKeys\", \"keyPath\": \"/x\"}],
		\"$REGISTRY/open\": [{\"type\": \"insecureAcceptAnything\"}]}}}"
	DIGEST=$(berth push -q busybox "$REGISTRY/app:1")
}

teardown() {
	[ -z "${REGISTRY_PID:-}" ] || { kill "$REGISTRY_PID"; wait "$REGISTRY_PID" || true; }
	berth_teardown
}

policy() { printf '%s\n' "$1" >"$TEST_DIR/policy.json"; }

# Pulls under the policy into an empty store, in which a refused image leaves nothing.
pull() {
	"$BERTH" --root "$TEST_DIR/other" --state "$TEST_DIR/other-state" \
		--signature-policy "$TEST_DIR/policy.json" pull -q "$1"
}

# refused IMAGE TEXT: the pull fails with TEXT, and nothing of the image is here.
refused() {
	mkdir -p "$TEST_DIR/other" "$TEST_DIR/other-state"
	run_split pull "$1"
	expect "$status" 125
	expect_in "$stderr" "$2"
	expect "$(find "$TEST_DIR/other" -path '*/blobs/sha256/*' -o -path '*/layers/*.*')" ""
	expect "$("$BERTH" --root "$TEST_DIR/other" --state "$TEST_DIR/other-state" images -aq)" ""
}

# api PATH [CURL'S OPTIONS]: an OCI manifest is only served to who accepts one.
api() {
	local path=$1
	shift
	curl -sSf -H 'Accept: application/vnd.oci.image.manifest.v1+json' "$@" "http://$REGISTRY/v2/$path"
}

upload() { # REPOSITORY FILE: prints the digest
	local digest location
	digest=sha256:$(sha256sum <"$2" | cut -d' ' -f1)
	location=$(curl -sSfi -X POST "http://$REGISTRY/v2/$1/blobs/uploads/" | tr -d '\r' |
		sed -n 's/^Location: //ip')
	curl -sSf -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$2" \
		"$location&digest=$digest" >/dev/null
	echo "$digest"
}

# forge REPOSITORY DIGEST PAYLOAD-FILE SIGNATURE: puts any payload and signature beside an image, as
# only somebody who may write there can.
forge() {
	local payload config
	printf '{}' >"$TEST_DIR/empty.json"
	config=$(upload "$1" "$TEST_DIR/empty.json")
	payload=$(upload "$1" "$3")
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2},
		"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"%s",
		"size":%d,"annotations":{"dev.cosignproject.cosign/signature":"%s"}}]}' \
		"$config" "$payload" "$(stat -c %s "$3")" "$4" >"$TEST_DIR/forged.json"
	api "$1/manifests/${2/:/-}.sig" -X PUT --data-binary "@$TEST_DIR/forged.json" \
		-H 'Content-Type: application/vnd.oci.image.manifest.v1+json' >/dev/null
}

payload() { # IDENTITY DIGEST
	printf '{"critical":{"identity":{"docker-reference":"%s"},"image":{"docker-manifest-digest":"%s"},"type":"cosign container image signature"},"optional":null}' \
		"$1" "$2" >"$TEST_DIR/payload.json"
}

openssl_sign() { openssl dgst -sha256 -sign "$TEST_DIR/$1.key" "$TEST_DIR/payload.json" | base64 -w0; }

@test "unsigned is refused, signed is accepted, and stays what it is" {
	refused "$REGISTRY/app:1" "is not signed"
	expect "$(berth sign -q --key "$TEST_DIR/ec.key" "$REGISTRY/app:1")" "$DIGEST"
	expect "$(pull "$REGISTRY/app:1")" "$(berth images -q --no-trunc busybox)"
	# Once more by the same key changes nothing.
	before=$(api "app/manifests/${DIGEST/:/-}.sig" | sha256sum)
	expect_in "$(berth sign --key "$TEST_DIR/ec.key" "$REGISTRY/app:1")" "already"
	expect "$(api "app/manifests/${DIGEST/:/-}.sig" | sha256sum)" "$before"
	# By another it adds one.
	berth sign --key "$TEST_DIR/ed.key" "$REGISTRY/app:1"
	expect "$(api "app/manifests/${DIGEST/:/-}.sig" | grep -o simplesigning | wc -l)" 2
	berth verify --key "$TEST_DIR/ec.pub" "$REGISTRY/app:1"
	berth verify --key "$TEST_DIR/ed.pub" "$REGISTRY/app:1"
}

@test "what berth signs is what openssl verifies, in the form of cosign" {
	berth sign -q --key "$TEST_DIR/ec.key" "$REGISTRY/app:1"
	api "app/manifests/${DIGEST/:/-}.sig" >"$TEST_DIR/sig.json"
	read -r blob signature < <(python3 -c '
import json, sys
layer = json.load(open(sys.argv[1]))["layers"][0]
assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
print(layer["digest"], layer["annotations"]["dev.cosignproject.cosign/signature"])' "$TEST_DIR/sig.json")
	api "app/blobs/$blob" -L >"$TEST_DIR/payload.json"
	echo "$signature" | base64 -d >"$TEST_DIR/signature"
	openssl dgst -sha256 -verify "$TEST_DIR/ec.pub" -signature "$TEST_DIR/signature" "$TEST_DIR/payload.json"
	python3 -c '
import json, sys
critical = json.load(open(sys.argv[1]))["critical"]
assert critical["image"]["docker-manifest-digest"] == sys.argv[2], critical
assert critical["identity"]["docker-reference"] == sys.argv[3], critical
assert critical["type"] == "cosign container image signature"' "$TEST_DIR/payload.json" "$DIGEST" "$REGISTRY/app"
}

@test "what openssl signs is accepted" {
	payload "$REGISTRY/app" "$DIGEST"
	forge app "$DIGEST" "$TEST_DIR/payload.json" "$(openssl_sign ec)"
	pull "$REGISTRY/app:1"
}

@test "a signature by another key, of another image or for another name is refused" {
	berth sign --key "$TEST_DIR/ed.key" "$REGISTRY/app:1"
	refused "$REGISTRY/app:1" "not made by this key"
	payload "$REGISTRY/app" "sha256:$(printf '%064d' 7)"
	forge app "$DIGEST" "$TEST_DIR/payload.json" "$(openssl_sign ec)"
	refused "$REGISTRY/app:1" "another image"
	payload "$REGISTRY/open" "$DIGEST"
	forge app "$DIGEST" "$TEST_DIR/payload.json" "$(openssl_sign ec)"
	refused "$REGISTRY/app:1" "is for \"$REGISTRY/open\""
	payload "$REGISTRY/app:2" "$DIGEST"
	forge app "$DIGEST" "$TEST_DIR/payload.json" "$(openssl_sign ec)"
	refused "$REGISTRY/app:1" "is for \"$REGISTRY/app:2\""
}

@test "a payload that was changed after signing is refused" {
	payload "$REGISTRY/app" "sha256:$(printf '%064d' 7)"
	signature=$(openssl_sign ec)
	payload "$REGISTRY/app" "$DIGEST"
	forge app "$DIGEST" "$TEST_DIR/payload.json" "$signature"
	refused "$REGISTRY/app:1" "not made by this key"
	forge app "$DIGEST" "$TEST_DIR/payload.json" "not base64!"
	refused "$REGISTRY/app:1" "not base64"
	# Bytes that change in the registry's storage.
	forge app "$DIGEST" "$TEST_DIR/payload.json" "$(openssl_sign ec)"
	pull "$REGISTRY/app:1"
	rm -rf "$TEST_DIR/other" "$TEST_DIR/other-state"
	hex=$(sha256sum <"$TEST_DIR/payload.json" | cut -d' ' -f1)
	sed -i 's/critical/criticaL/' "$TEST_DIR/registry/docker/registry/v2/blobs/sha256/${hex:0:2}/$hex/data"
	refused "$REGISTRY/app:1" "digest"
}

@test "keyPaths, keyData, exactRepository, reject, insecureAcceptAnything and signedBy" {
	digest=$(berth push -q busybox "$REGISTRY/either:1")
	refused "$REGISTRY/either:1" "is not signed"
	berth sign --key "$TEST_DIR/ed.key" "$REGISTRY/either@$digest"
	pull "$REGISTRY/either:1"
	rm -rf "$TEST_DIR/other" "$TEST_DIR/other-state"
	berth push -q busybox "$REGISTRY/data:1"
	berth sign --key "$TEST_DIR/ed.key" "$REGISTRY/data:1"
	refused "$REGISTRY/data:1" "not made by this key"
	berth sign --key "$TEST_DIR/ec.key" "$REGISTRY/data:1"
	pull "$REGISTRY/data:1"
	rm -rf "$TEST_DIR/other" "$TEST_DIR/other-state"
	berth push -q busybox "$REGISTRY/moved:1"
	payload "$REGISTRY/moved" "$DIGEST"
	forge moved "$DIGEST" "$TEST_DIR/payload.json" "$(openssl_sign ec)"
	refused "$REGISTRY/moved:1" "not for \"$REGISTRY/app\""
	payload "$REGISTRY/app" "$DIGEST"
	forge moved "$DIGEST" "$TEST_DIR/payload.json" "$(openssl_sign ec)"
	pull "$REGISTRY/moved:1"
	rm -rf "$TEST_DIR/other" "$TEST_DIR/other-state"
	berth push -q busybox "$REGISTRY/else:1"
	refused "$REGISTRY/else:1" "does not allow"
	berth push -q busybox "$REGISTRY/gpg:1"
	refused "$REGISTRY/gpg:1" "GPG"
	berth push -q busybox "$REGISTRY/open:1"
	pull "$REGISTRY/open:1"
}

forget() { rm -rf "$TEST_DIR/other" "$TEST_DIR/other-state"; }

# signed_policy CONDITION: everything must be signed so.
signed_policy() { policy "{\"default\": [{\"type\": \"sigstoreSigned\", $1}]}"; }

@test "a tag that moves away from what was signed, and back" {
	local other
	berth sign --key "$TEST_DIR/ec.key" "$REGISTRY/app:1"
	pull "$REGISTRY/app:1"
	forget
	berth run --name c busybox touch /evil
	berth commit c evil:1
	berth rm c
	other=$(berth push -q evil:1 "$REGISTRY/app:1")
	refused "$REGISTRY/app:1" "is not signed"
	# What was signed stays good by its digest; the signature does not fit the other image.
	pull "$REGISTRY/app@$DIGEST"
	forget
	api "app/manifests/${DIGEST/:/-}.sig" >"$TEST_DIR/sig.json"
	api "app/manifests/${other/:/-}.sig" -X PUT --data-binary "@$TEST_DIR/sig.json" \
		-H 'Content-Type: application/vnd.oci.image.manifest.v1+json' >/dev/null
	refused "$REGISTRY/app:1" "another image"
	berth push -q busybox "$REGISTRY/app:1"
	pull "$REGISTRY/app:1"
}

@test "keys are changed without a moment in which nothing is accepted" {
	berth sign --key "$TEST_DIR/ec.key" "$REGISTRY/app:1"
	signed_policy "\"keyPaths\": [\"$TEST_DIR/ec.pub\", \"$TEST_DIR/ed.pub\"]"
	pull "$REGISTRY/app:1"
	forget
	berth sign --key "$TEST_DIR/ed.key" "$REGISTRY/app:1"
	expect "$(api "app/manifests/${DIGEST/:/-}.sig" | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["layers"]))')" 2
	for keys in "[\"$TEST_DIR/ec.pub\", \"$TEST_DIR/ed.pub\"]" "[\"$TEST_DIR/ed.pub\"]" "[\"$TEST_DIR/ec.pub\"]"; do
		signed_policy "\"keyPaths\": $keys"
		pull "$REGISTRY/app:1"
		forget
	done
	signed_policy "\"keyDatas\": [\"$(base64 -w0 "$TEST_DIR/ed.pub")\", \"$(base64 -w0 "$TEST_DIR/ec.pub")\"]"
	pull "$REGISTRY/app:1"
	forget
	# A key that cannot be read is not a key less.
	signed_policy "\"keyPaths\": [\"$TEST_DIR/ec.pub\", \"$TEST_DIR/gone.pub\"]"
	refused "$REGISTRY/app:1" "gone.pub"
	openssl genpkey -algorithm ed25519 -out "$TEST_DIR/third.key" 2>/dev/null
	openssl pkey -in "$TEST_DIR/third.key" -pubout -out "$TEST_DIR/third.pub" 2>/dev/null
	signed_policy "\"keyPath\": \"$TEST_DIR/third.pub\""
	refused "$REGISTRY/app:1" "not made by this key"
}

# accepts IDENTITY: the policy with this signedIdentity accepts the image; refuses TEXT IDENTITY: it does not.
accepts() {
	signed_policy "\"keyPath\": \"$TEST_DIR/ec.pub\", \"signedIdentity\": {$1}"
	pull "$REGISTRY/app:1"
	forget
}
refuses() {
	signed_policy "\"keyPath\": \"$TEST_DIR/ec.pub\", \"signedIdentity\": {$1}"
	refused "$REGISTRY/app:1" "not for"
}
signed_as() {
	payload "$1" "$DIGEST"
	forge app "$DIGEST" "$TEST_DIR/payload.json" "$(openssl_sign ec)"
}

@test "which name must have been signed" {
	signed_as "$REGISTRY/app:1"
	accepts '"type": "matchExact"'
	accepts '"type": "matchRepoDigestOrExact"'
	accepts '"type": "matchRepository"'
	accepts "\"type\": \"exactReference\", \"dockerReference\": \"$REGISTRY/app:1\""
	accepts "\"type\": \"exactRepository\", \"dockerRepository\": \"$REGISTRY/app\""
	refuses "\"type\": \"exactReference\", \"dockerReference\": \"$REGISTRY/app:2\""
	refuses '"type": "remapIdentity", "prefix": "'"$REGISTRY"'", "signedPrefix": "vendor.example"'
	signed_as "$REGISTRY/app"
	accepts '"type": "matchRepoDigestOrExact"'
	refuses '"type": "matchExact"'
	refuses "\"type\": \"exactReference\", \"dockerReference\": \"$REGISTRY/app:1\""
	signed_as "$REGISTRY/app:2"
	accepts '"type": "matchRepository"'
	refuses '"type": "matchExact"'
	refuses '"type": "matchRepoDigestOrExact"'
	# A mirror in whose name nobody signs.
	signed_as vendor.example/team/app:1
	accepts '"type": "remapIdentity", "prefix": "'"$REGISTRY"'", "signedPrefix": "vendor.example/team"'
	refuses '"type": "remapIdentity", "prefix": "'"${REGISTRY%?}"'", "signedPrefix": "vendor.example/team"'
	refuses '"type": "remapIdentity", "prefix": "'"$REGISTRY"'", "signedPrefix": "vendor.example"'
}

@test "what is rejected is not even asked for" {
	kill "$REGISTRY_PID"
	wait "$REGISTRY_PID" || true
	REGISTRY_PID=
	refused "$REGISTRY/else:1" "does not allow"
}

@test "a policy that cannot be read refuses everything" {
	policy '{"default": [{"type": "insecureAcceptAnythin"}]}'
	refused "$REGISTRY/app:1" "insecureAcceptAnythin"
	policy '{"default": [{"type": "insecureAcceptAnything"}],'
	refused "$REGISTRY/app:1" "policy.json"
	rm "$TEST_DIR/policy.json"
	refused "$REGISTRY/app:1" "policy.json"
	policy '{"default": [{"type": "insecureAcceptAnything"}]}'
	pull "$REGISTRY/app:1"
	# A key that is missing is no reason to do without.
	policy '{"default": [{"type": "sigstoreSigned", "keyPath": "/nowhere/app.pub"}]}'
	rm -rf "$TEST_DIR/other" "$TEST_DIR/other-state"
	refused "$REGISTRY/app:1" "/nowhere/app.pub"
}

@test "run fetches under the same policy, which the environment can name" {
	berth rmi busybox
	run_split env BERTH_SIGNATURE_POLICY="$TEST_DIR/policy.json" "$BERTH" --root "$TEST_DIR/root" \
		--state "$TEST_DIR/state" run --rm "$REGISTRY/app:1" true
	expect "$status" 125
	expect_in "$stderr" "is not signed"
	# The user's own file is found by itself.
	mkdir -p "$HOME/.config/berth"
	echo '{"default": [{"type": "reject"}]}' >"$HOME/.config/berth/policy.json"
	run_split berth pull "$REGISTRY/app:1"
	expect_in "$stderr" "does not allow"
}

@test "load: archives are judged by the names in them" {
	berth tag busybox "$REGISTRY/open:1"
	berth tag busybox "$REGISTRY/app:1"
	berth save -o "$TEST_DIR/open.tar" "$REGISTRY/open:1"
	berth save -o "$TEST_DIR/app.tar" "$REGISTRY/app:1"
	berth save --format oci -o "$TEST_DIR/both.tar" "$REGISTRY/open:1" "$REGISTRY/app:1"
	mkdir "$TEST_DIR/other" "$TEST_DIR/other-state"
	judged=("$BERTH" --root "$TEST_DIR/other" --state "$TEST_DIR/other-state"
		--signature-policy "$TEST_DIR/policy.json")
	for archive in app both; do
		run_split "${judged[@]}" load -i "$TEST_DIR/$archive.tar"
		expect "$status" 125
		expect_in "$stderr" "carries no signatures"
		expect "$("${judged[@]}" images -aq)" ""
	done
	"${judged[@]}" load -i "$TEST_DIR/open.tar"
	expect "$("${judged[@]}" images --format '{{.Repository}}')" "$REGISTRY/open"
}

@test "sign refuses another image than the one that is here, and bad keys" {
	berth tag busybox "$REGISTRY/app:1"
	echo other >"$TEST_DIR/file"
	tar -C "$TEST_DIR" -c file | berth import - local/other:1
	berth push -q local/other:1 "$REGISTRY/app:1"
	run_split berth sign --key "$TEST_DIR/ec.key" "$REGISTRY/app:1"
	expect "$status" 125
	expect_in "$stderr" "another image"
	run_split berth sign --key "$TEST_DIR/ec.pub" "$REGISTRY/app:1"
	expect_in "$stderr" "private key"
	run_split berth sign "$REGISTRY/app:1"
	expect_in "$stderr" "--key"
}

@test "verify: files and signatures" {
	berth tag busybox "$REGISTRY/app:1"
	run_split berth verify --key "$TEST_DIR/ec.pub" "$REGISTRY/app:1"
	expect "$status" 125
	expect_in "$stderr" "is not signed"
	berth sign --key "$TEST_DIR/ec.key" "$REGISTRY/app:1"
	run_split berth verify --key "$TEST_DIR/ec.pub" "$REGISTRY/app:1"
	expect "$status" 0
	expect_in "$output" "$DIGEST is signed"
	expect_in "$(berth verify busybox)" "none are required"
	run_split berth verify --key "$TEST_DIR/ed.pub" "$REGISTRY/app:1"
	expect "$status" 125
	# By the policy; and of an image that is not here.
	expect_in "$(berth --signature-policy "$TEST_DIR/policy.json" verify "$REGISTRY/app:1")" "as the policy"
	expect_in "$("$BERTH" --root "$TEST_DIR/other" --state "$TEST_DIR/other-state" \
		verify --key "$TEST_DIR/ec.pub" "$REGISTRY/app:1")" "not here"
	# A byte of a layer, and one of a blob.
	layer=$(find "$TEST_DIR/root/layers" -name '*.erofs' | head -1)
	cp "$layer" "$TEST_DIR/kept"
	printf '\377\376' | dd of="$layer" bs=1 seek=9000 conv=notrunc status=none
	run_split berth verify busybox
	expect "$status" 125
	expect_in "$output" "is damaged"
	cp "$TEST_DIR/kept" "$layer"
	berth verify busybox
	blob=$(find "$TEST_DIR/root/blobs/sha256" -type f -size +100k | head -1)
	cp "$blob" "$TEST_DIR/kept"
	printf '\377\376' | dd of="$blob" bs=1 seek=9000 conv=notrunc status=none
	run_split berth verify busybox
	expect "$status" 125
	expect_in "$output" "has the digest"
	cp "$TEST_DIR/kept" "$blob"
}
