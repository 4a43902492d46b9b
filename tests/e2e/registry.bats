#!/usr/bin/env bats
# Pull and push against a real registry (docker-registry on loopback) over HTTP and HTTPS, with another
# client (skopeo) putting images there and fetching them.
load helpers
load registries

setup() {
	berth_setup
	command -v docker-registry >/dev/null || skip "docker-registry is not installed"
	PORT=$(free_port)
	REGISTRY=localhost:$PORT
}

teardown() {
	[ -z "${REGISTRY_PID:-}" ] || { kill "$REGISTRY_PID"; wait "$REGISTRY_PID" || true; }
	berth_teardown
}

# The id of the image that skopeo sees under that name.
id_at_registry() {
	skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/$1" |
		sed -n 's/.*"config":{[^}]*"digest":"\([^"]*\)".*/\1/p'
}

@test "push and pull over HTTP keep the image" {
	registry_begin
	id=$(berth images -q --no-trunc busybox)
	berth tag busybox "$REGISTRY/my/busybox:1"
	berth push "$REGISTRY/my/busybox:1"
	expect "$(id_at_registry my/busybox:1)" "$id"
	berth rmi "$REGISTRY/my/busybox:1" busybox
	expect "$(berth images -q)" ""
	expect "$(berth pull -q "$REGISTRY/my/busybox:1")" "$id"
	expect "$(berth run --rm "$REGISTRY/my/busybox:1" echo hello)" hello
	berth system check
}

@test "run fetches an image that is not here" {
	registry_begin
	berth push busybox "$REGISTRY/lib/bb:2"
	berth rmi busybox
	expect "$(berth run --rm "$REGISTRY/lib/bb:2" echo hello 2>/dev/null)" hello
	run_split berth run --rm --pull never "$REGISTRY/lib/other:2" true
	expect "$status" 125
	expect_in "$stderr" "there is no image"
}

@test "an image that skopeo has pushed, by tag and by digest" {
	registry_begin
	berth save -o "$TEST_DIR/busybox.tar" busybox
	skopeo copy -q --dest-tls-verify=false "docker-archive:$TEST_DIR/busybox.tar" "docker://$REGISTRY/a/b/c:v1"
	digest=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$REGISTRY/a/b/c:v1")
	id=$(berth pull -q "$REGISTRY/a/b/c:v1")
	expect "$(berth pull -q "$REGISTRY/a/b/c@$digest")" "$id"
	expect_in "$(berth images --digests "$REGISTRY/a/b/c")" "$digest"
	# What goes back has the digest it came with.
	berth push "$REGISTRY/a/b/c:v1" "$REGISTRY/copy/of:c"
	expect "$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$REGISTRY/copy/of:c")" "$digest"
}

@test "zstd layers" {
	registry_begin
	berth save -o "$TEST_DIR/busybox.tar" busybox
	skopeo copy -q --dest-tls-verify=false --dest-compress-format zstd --format oci \
		"docker-archive:$TEST_DIR/busybox.tar" "docker://$REGISTRY/z:1"
	berth rmi busybox
	expect "$(berth pull -q "$REGISTRY/z:1")" "$(id_at_registry z:1)"
	expect "$(berth run --rm "$REGISTRY/z:1" echo hello)" hello
}

@test "what the registry does not have" {
	registry_begin
	run_split berth pull "$REGISTRY/no/such:thing"
	expect "$status" 125
	expect_in "$stderr" "manifest"
	expect_in "$stderr" "berth search --list-tags $REGISTRY/no/such"
	expect "$(echo "$stderr" | grep -c '^berth: ')" 1
	expect "$(berth images -q "$REGISTRY/no/such")" ""
}

@test "nobody listens" {
	run_split berth pull "$REGISTRY/no/such:thing"
	expect "$status" 125
	expect_in "$stderr" "connect"
}

@test "HTTPS with a private authority" {
	make_certificates
	registry_begin "  tls: {certificate: $TEST_DIR/server.crt, key: $TEST_DIR/server.key}"
	run_split berth push --tls-verify=true busybox "$REGISTRY/s:1"
	expect "$status" 125
	expect_in "$stderr" "certificate"
	expect_in "$stderr" "hint:"
	mkdir "$TEST_DIR/certs"
	cp "$TEST_DIR/ca.crt" "$TEST_DIR/certs/"
	berth push --cert-dir "$TEST_DIR/certs" busybox "$REGISTRY/s:1"
	berth pull -q --cert-dir "$TEST_DIR/certs" "$REGISTRY/s:1"
	berth pull -q --tls-verify=false "$REGISTRY/s:1"
}

# tls_fails WORDS HINT: a pull from the registry, with the authority known, fails with these.
tls_fails() {
	run_split berth pull --cert-dir "$TEST_DIR/certs" "$REGISTRY/s:1"
	expect "$status" 125
	expect "$(grep -c '^berth: ' <<<"$stderr")" 1
	expect_in "$stderr" "$1"
	expect_in "$stderr" "hint: $2"
}

@test "certificates that are no good, and none where one is asked for" {
	make_certificates
	mkdir "$TEST_DIR/certs"
	cp "$TEST_DIR/ca.crt" "$TEST_DIR/certs/"
	# Another host's.
	openssl x509 -req -in "$TEST_DIR/server.csr" -CA "$TEST_DIR/ca.crt" -CAkey "$TEST_DIR/ca.key" -CAcreateserial -days 2 \
		-extfile <(echo subjectAltName=DNS:other.example) -out "$TEST_DIR/other.crt" 2>/dev/null
	registry_begin "  tls: {certificate: $TEST_DIR/other.crt, key: $TEST_DIR/server.key}"
	tls_fails "subject name" "the certificate is for another name"
	registries_end
	# One of the year before last.
	touch "$TEST_DIR/index"
	echo 77 >"$TEST_DIR/serial"
	cat >"$TEST_DIR/ca.conf" <<-END
		[ca]
		default_ca = a
		[a]
		new_certs_dir = $TEST_DIR
		database = $TEST_DIR/index
		serial = $TEST_DIR/serial
		default_md = sha256
		policy = p
		x509_extensions = e
		[p]
		commonName = supplied
		[e]
		subjectAltName = DNS:localhost
	END
	openssl ca -batch -notext -config "$TEST_DIR/ca.conf" -cert "$TEST_DIR/ca.crt" -keyfile "$TEST_DIR/ca.key" \
		-startdate 20200101000000Z -enddate 20210101000000Z -in "$TEST_DIR/server.csr" -out "$TEST_DIR/old.crt" 2>/dev/null
	registry_begin "  tls: {certificate: $TEST_DIR/old.crt, key: $TEST_DIR/server.key}"
	tls_fails "certificate has expired" "the registry needs a new certificate"
	registries_end
	# No TLS at all.
	registry_begin
	run_split berth pull --tls-verify=true "$REGISTRY/s:1"
	expect "$status" 125
	expect_in "$stderr" "does not speak TLS"
	expect_in "$stderr" "hint: if that is plain HTTP: --tls-verify=false"
}

@test "a name that only looks like this machine's is not trusted like it" {
	# Where it leads says this proxy. Plain HTTP is never asked for.
	python3 "$BATS_TEST_DIRNAME/proxy.py" "$TEST_DIR/proxy.port" "$TEST_DIR/proxy.log" 3>&- &
	REGISTRY_PID=$!
	eventually test -s "$TEST_DIR/proxy.port"
	https_proxy=http://localhost:$(cat "$TEST_DIR/proxy.port") http_proxy=http://localhost:$(cat "$TEST_DIR/proxy.port") \
		run_split berth pull 127.example.invalid:5000/x:1
	expect "$status" 125
	expect_in "$(cat "$TEST_DIR/proxy.log")" "CONNECT 127.example.invalid:5000"
	expect "$(grep -c 'http://' "$TEST_DIR/proxy.log")" 0
}

@test "--platform holds for an image that is no index, too" {
	registry_begin
	berth push -q busybox "$REGISTRY/one:1"
	berth rmi busybox
	case $(uname -m) in x86_64) other=linux/arm64 ;; *) other=linux/amd64 ;; esac
	run_split berth pull --platform $other "$REGISTRY/one:1"
	expect "$status" 125
	expect_in "$stderr" "the image is not made for $other"
	expect "$(berth images -q)" ""
	berth pull -q "$REGISTRY/one:1"
}

@test "a password" {
	# bcrypt, which is all that the registry takes
	perl -e 'print "name:", crypt("secret", q($2b$04$abcdefghijklmnopqrstuu)), "\n"' >"$TEST_DIR/htpasswd"
	registry_begin "auth: {htpasswd: {realm: test, path: $TEST_DIR/htpasswd}}"
	run_split berth push busybox "$REGISTRY/p:1"
	expect "$status" 125
	expect_in "$stderr" "berth login $REGISTRY"
	for words in "pull --creds name:wrong $REGISTRY/p:1" "login -u name -p wrong $REGISTRY"; do
		# shellcheck disable=SC2086 # several words
		run_split berth $words
		expect "$status" 125
		expect_in "$stderr" "$REGISTRY does not accept the name and the password"
	done
	berth login -u name -p secret "$REGISTRY"
	berth push busybox "$REGISTRY/p:1"
	berth logout "$REGISTRY"
	run_split berth pull "$REGISTRY/p:1"
	expect "$status" 125
	# An entry as old dockers wrote it is replaced, and forgotten.
	mkdir -p "$HOME/.docker"
	echo "{\"auths\": {\"https://$REGISTRY/v1/\": {\"auth\": \"$(printf name:old | base64)\"}}}" >"$HOME/.docker/config.json"
	berth login -u name -p secret "$REGISTRY"
	berth pull -q "$REGISTRY/p:1" >/dev/null
	berth logout "$REGISTRY"
	run_split berth pull "$REGISTRY/p:1"
	expect "$status" 125
	run_split berth logout "$REGISTRY"
	expect "$status" 125
}

@test "a list without end is refused, and not taken for the whole" {
	cat >"$TEST_DIR/endless.py" <<-'END'
		import http.server, json, sys
		class Handler(http.server.BaseHTTPRequestHandler):
		    def log_message(self, *_): pass
		    def do_GET(self):
		        entry = {"mediaType": "m", "digest": "sha256:" + 64 * "0", "size": 1}
		        body = {"tags": 30000 * ["x"], "repositories": 30000 * ["x"], "manifests": 30000 * [entry]}
		        small = self.path == "/v2/" or "/manifests/" in self.path
		        body = b"{}" if small else json.dumps(body).encode()
		        self.send_response(404 if "search" in self.path else 200)
		        self.send_header("Link", f'<{self.path}>; rel="next"')
		        self.send_header("Content-Length", str(len(body)))
		        self.end_headers()
		        self.wfile.write(body)
		http.server.HTTPServer(("localhost", int(sys.argv[1])), Handler).serve_forever()
	END
	python3 "$TEST_DIR/endless.py" "$PORT" 3>&- &
	REGISTRY_PID=$!
	eventually bash -c "exec 4<>/dev/tcp/localhost/$PORT"
	for command in "search --list-tags $REGISTRY/a" "search $REGISTRY/none" "image referrers $REGISTRY/a:1"; do
		# shellcheck disable=SC2086
		run_split berth $command
		expect "$status" 125
		[[ "$stderr" == *"more on its list"* ]] || { echo "$command: $stderr"; return 1; }
	done
}

@test "the next pull replaces a layer file that was cut off" {
	registry_begin
	berth push -q busybox "$REGISTRY/bb:1"
	berth rmi busybox
	berth pull -q "$REGISTRY/bb:1"
	truncate -s 8192 "$TEST_DIR"/root/layers/*.erofs
	berth pull -q "$REGISTRY/bb:1"
	berth system check --content
	expect "$(berth run --rm "$REGISTRY/bb:1" echo hello)" hello
}

@test "a killed pull is harmless" {
	registry_begin
	head -c 30000000 /dev/urandom >"$TEST_DIR/random"
	tar -C "$TEST_DIR" -cf "$TEST_DIR/fs.tar" random
	berth import "$TEST_DIR/fs.tar" "$REGISTRY/big:1"
	berth push "$REGISTRY/big:1"
	berth rmi "$REGISTRY/big:1"
	for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
		"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$REGISTRY/big:1" >/dev/null 2>&1 3>&- &
		pid=$!
		sleep "0.$(printf '%02d' $((i * 3)))"
		kill -9 $pid 2>/dev/null || true
		wait $pid 2>/dev/null || true
		berth rmi "$REGISTRY/big:1" >/dev/null 2>&1 || true
	done
	berth pull -q "$REGISTRY/big:1"
	berth system check
	expect "$(find "$TEST_DIR/root/ingest" -mindepth 1 | wc -l)" 0
}
