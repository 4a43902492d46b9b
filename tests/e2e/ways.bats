#!/usr/bin/env bats
# The ways to a registry: registries.conf, certificates and keys, proxies, credentials from helpers and tokens,
# redirects; against docker-registry, and against a registry and a proxy of our own (zot.py, proxy.py).
load helpers
load registries

setup() {
	berth_setup
	command -v docker-registry >/dev/null || skip "docker-registry is not installed"
	PORT=$(free_port)
	REGISTRY=localhost:$PORT
	export CONTAINERS_REGISTRIES_CONF=$TEST_DIR/registries.conf
}

teardown() {
	registries_end
	berth_teardown
}

# proxy NAME [NAME:PASSWORD]: its address goes to the variable NAME, its log is $TEST_DIR/NAME.log.
proxy() {
	local name=$1
	shift
	python3 "$BATS_TEST_DIRNAME/proxy.py" "$TEST_DIR/$name.port" "$TEST_DIR/$name.log" "$@" 3>&- &
	REGISTRY_PIDS+=($!)
	eventually test -s "$TEST_DIR/$name.port"
	printf -v "$name" 'localhost:%s' "$(cat "$TEST_DIR/$name.port")"
}

# A certificate for registry.test, one for a client, and the authority of both.
make_more_certificates() {
	make_certificates
	cd "$TEST_DIR"
	openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
		-extfile <(echo subjectAltName=DNS:registry.test,DNS:localhost) -out server.crt 2>/dev/null
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=client \
		-keyout client.key -out client.csr 2>/dev/null
	openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out client.cert 2>/dev/null
	cd - >/dev/null
}

id() { berth images -q --no-trunc "$1"; }

@test "mirrors: asked first, passed over when they do not serve; pushes go to the place itself" {
	registry_begin
	zot mirror
	berth push -q busybox "$REGISTRY/a/bb:1"
	berth push -q busybox "$mirror/copy/bb:2"
	cat >"$CONTAINERS_REGISTRIES_CONF" <<-END
		[[registry]]
		prefix = "hub.example/a"
		location = "$REGISTRY/a"
		[[registry.mirror]]
		location = "localhost:1/nobody"
		[[registry.mirror]]
		location = "$mirror/copy"
	END
	: >"$TEST_DIR/mirror.log"
	# The first mirror does not listen, the second lacks it.
	berth pull -q hub.example/a/bb:1
	grep -q '/v2/copy/bb/manifests/1' "$TEST_DIR/mirror.log"
	expect "$(id hub.example/a/bb:1)" "$(id busybox)"
	# It has what the place itself lacks.
	berth pull -q hub.example/a/bb:2
	berth push -q busybox hub.example/a/bb:3
	berth pull -q "$REGISTRY/a/bb:3"
	run_split berth pull "$mirror/copy/bb:3"
	expect "$status" 125
}

@test "mirrors for digests only" {
	local digest
	registry_begin
	zot mirror
	digest=$(berth push -q busybox "$REGISTRY/bb:1")
	berth push -q busybox "$mirror/bb:1"
	cat >"$CONTAINERS_REGISTRIES_CONF" <<-END
		[[registry]]
		location = "$REGISTRY"
		mirror-by-digest-only = true
		[[registry.mirror]]
		location = "$mirror"
	END
	: >"$TEST_DIR/mirror.log"
	berth pull -q "$REGISTRY/bb:1"
	expect "$(cat "$TEST_DIR/mirror.log")" ""
	berth pull -q "$REGISTRY/bb@$digest"
	grep -q "GET /v2/bb/manifests/$digest" "$TEST_DIR/mirror.log"
}

@test "blocked, wildcards, short names" {
	registry_begin
	berth push -q busybox "$REGISTRY/team/bb:1"
	cat >"$CONTAINERS_REGISTRIES_CONF" <<-END
		unqualified-search-registries = ["localhost:1", "$REGISTRY"]
		[aliases]
		"bb" = "any.sub.example/team/bb"
		[[registry]]
		prefix = "*.sub.example"
		location = "$REGISTRY"
		[[registry]]
		location = "$REGISTRY/secret"
		blocked = true
	END
	berth pull -q bb:1
	expect "$(id any.sub.example/team/bb:1)" "$(id busybox)"
	# By its alias it is found here, too, and need not be fetched again.
	expect "$(berth run --rm --pull never bb:1 echo hello)" hello
	berth pull -q team/bb:1
	expect "$(id "$REGISTRY/team/bb:1")" "$(id busybox)"
	expect "$(berth run --rm --pull never team/bb:1 echo hello)" hello
	for verb in pull push; do
		if [ $verb = push ]; then berth tag busybox "$REGISTRY/secret/x:1"; fi
		run_split berth "$verb" "$REGISTRY/secret/x:1"
		expect "$status" 125
		expect_in "$stderr" "blocked"
	done
	run_split berth copy "$REGISTRY/team/bb:1" "$REGISTRY/secret/x:1"
	expect_in "$stderr" "blocked"
	sed -i '1i short-name-mode = "enforcing"' "$CONTAINERS_REGISTRIES_CONF"
	run_split berth pull other/bb:1
	expect "$status" 125
	expect_in "$stderr" "$REGISTRY/other/bb:1"
	berth pull -q bb:1
	echo '[registries.block]' >"$CONTAINERS_REGISTRIES_CONF"
	run_split berth pull "$REGISTRY/team/bb:1"
	expect "$status" 125
	expect_in "$stderr" "version 1"
}

# at_terminal TYPED WORD...: berth with these words on a terminal at which TYPED is typed as soon as it asks,
# a line each time. Prints what the terminal shows, and the exit code last.
at_terminal() {
	python3 - "$@" <<-'END'
		import os, pty, sys
		typed, *command = sys.argv[1:]
		pid, fd = pty.fork()
		if pid == 0:
		    os.execv(command[0], command)
		text, asked = b"", 0
		lines = typed.encode().decode("unicode_escape").encode().splitlines(keepends=True)
		try:
		    while piece := os.read(fd, 4096):
		        text += piece
		        while asked < min(text.count(b"? "), len(lines)):
		            os.write(fd, lines[asked])
		            asked += 1
		except OSError:
		    pass
		print(text.decode(), "code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
	END
}

@test "a short name that may be several is asked about on a terminal" {
	registry_begin
	berth push -q busybox "$REGISTRY/bb:1"
	berth push -q busybox "$REGISTRY/team/bb:1"
	export BERTH TEST_DIR REGISTRY
	export -f at_terminal
	cat >"$CONTAINERS_REGISTRIES_CONF" <<-END
		short-name-mode = "enforcing"
		unqualified-search-registries = ["localhost:1", "$REGISTRY"]
	END
	# Where answers are kept is not for a test to use.
	unshare -m bash -euc 'mount -t tmpfs none /var/cache
		words=("$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state")
		at_terminal "\x03" "${words[@]}" pull bb:1 >"$TEST_DIR/ctrl-c"
		at_terminal "\x04" "${words[@]}" run --rm bb:1 true >"$TEST_DIR/end"
		at_terminal "1\n" "${words[@]}" pull -q bb:1 >"$TEST_DIR/wrong"
		test ! -e /var/cache/containers
		at_terminal "9\nwhat\n2\n" "${words[@]}" pull -q bb:1 >"$TEST_DIR/right"
		at_terminal "2\n" "${words[@]}" run --rm team/bb:1 echo hello >"$TEST_DIR/run"
		cp /var/cache/containers/short-name-aliases.conf "$TEST_DIR/aliases"
		# It is known now: on a terminal or not.
		"${words[@]}" rmi -f "$REGISTRY/bb:1" >"$TEST_DIR/removed"
		"${words[@]}" pull -q bb:1 </dev/null >"$TEST_DIR/known"
		at_terminal "1\n" "${words[@]}" pull -q bb:1 >"$TEST_DIR/known-too"
		printf "[aliases]\n\"bb\" = 1\n" >/var/cache/containers/short-name-aliases.conf
		! "${words[@]}" pull -q bb:1 </dev/null 2>"$TEST_DIR/bad"'
	expect_in "$(cat "$TEST_DIR/ctrl-c")" "  1  localhost:1/bb:1"
	expect_in "$(cat "$TEST_DIR/ctrl-c")" "interrupted"
	expect_in "$(cat "$TEST_DIR/ctrl-c")" "code 130"
	expect_in "$(cat "$TEST_DIR/end")" "none of them was chosen"
	expect_in "$(cat "$TEST_DIR/end")" "code 125"
	expect_in "$(cat "$TEST_DIR/wrong")" "code 125"
	expect_in "$(cat "$TEST_DIR/right")" "code 0"
	expect "$(grep -c "Which one (1-2)?" "$TEST_DIR/right")" 3
	expect_in "$(cat "$TEST_DIR/run")" "hello"
	expect "$(id "$REGISTRY/bb:1")" "$(id busybox)"
	expect "$(cat "$TEST_DIR/aliases")" "$(printf '[aliases]\n  "bb" = "%s/bb"\n  "team/bb" = "%s/team/bb"' "$REGISTRY" "$REGISTRY")"
	expect "$(cat "$TEST_DIR/known")" "$(id busybox)"
	expect "$(grep -c "Which one" "$TEST_DIR/known-too")" 0
	expect_in "$(cat "$TEST_DIR/bad")" short-name-aliases.conf
	# "permissive", the default, asks as well, and tries all of them where it cannot.
	sed -i 1d "$CONTAINERS_REGISTRIES_CONF"
	berth pull -q bb:1 </dev/null
	expect_in "$(at_terminal '2\n' "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q none:1)" "Which one"
	sed -i '1i short-name-mode = "disabled"' "$CONTAINERS_REGISTRIES_CONF"
	expect_in "$(at_terminal '' "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q bb:1)" "code 0"
}

@test "drop-in files of the system and of the user" {
	registry_begin
	berth push -q busybox "$REGISTRY/bb:1"
	unset CONTAINERS_REGISTRIES_CONF
	mkdir -p "$TEST_DIR/etc/containers/registries.conf.d" "$HOME/.config/containers/registries.conf.d"
	printf '[[registry]]\nprefix = "%s"\nlocation = "%s"\n' one.example "$REGISTRY" >"$TEST_DIR/etc/containers/registries.conf.d/1.conf"
	printf '[[registry]]\nprefix = "two.example"\nlocation = "%s"\nblocked = true\n' "$REGISTRY" >"$TEST_DIR/etc/containers/registries.conf.d/2.conf"
	printf '[[registry]]\nprefix = "two.example"\nlocation = "%s"\n' "$REGISTRY" >"$HOME/.config/containers/registries.conf.d/3.conf"
	export BERTH TEST_DIR
	unshare -m bash -euc 'mkdir -p /etc/containers
		mount --bind "$TEST_DIR/etc/containers" /etc/containers
		for r in one two; do "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$r.example/bb:1"; done'
	expect "$(id one.example/bb:1)" "$(id two.example/bb:1)"
}

@test "client certificates, and authorities, from each of the directories" {
	local dir
	make_more_certificates
	registry_begin "  tls: {certificate: $TEST_DIR/server.crt, key: $TEST_DIR/server.key, clientcas: [$TEST_DIR/ca.crt]}"
	mkdir -p "$TEST_DIR/certs/$REGISTRY"
	cp "$TEST_DIR/ca.crt" "$TEST_DIR/certs/$REGISTRY/"
	run_split berth push -q --cert-dir "$TEST_DIR/certs/$REGISTRY" busybox "$REGISTRY/s:1"
	expect "$status" 125
	cp "$TEST_DIR/client.cert" "$TEST_DIR/certs/$REGISTRY/"
	run_split berth push -q --cert-dir "$TEST_DIR/certs/$REGISTRY" busybox "$REGISTRY/s:1"
	expect "$status" 125
	expect_in "$stderr" "client.key"
	cp "$TEST_DIR/client.key" "$TEST_DIR/certs/$REGISTRY/"
	berth push -q --cert-dir "$TEST_DIR/certs/$REGISTRY" busybox "$REGISTRY/s:1"
	export BERTH TEST_DIR REGISTRY
	for dir in /etc/containers /etc/docker; do
		unshare -m bash -euc 'mkdir -p "$1"
			mount -t tmpfs none "$1"
			cp -r "$TEST_DIR/certs" "$1/certs.d"
			"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$REGISTRY/s:1"' _ "$dir"
	done
	mkdir -p "$HOME/.config/containers"
	cp -r "$TEST_DIR/certs" "$HOME/.config/containers/certs.d"
	berth pull -q "$REGISTRY/s:1"
	# For another host they are not meant.
	mv "$HOME/.config/containers/certs.d/$REGISTRY" "$HOME/.config/containers/certs.d/other:1"
	run_split berth pull -q "$REGISTRY/s:1"
	expect "$status" 125
}

@test "proxies: plain and through tunnels, with a password, and where none is wanted" {
	local name=registry.test:$PORT
	make_more_certificates
	registry_begin "  tls: {certificate: $TEST_DIR/server.crt, key: $TEST_DIR/server.key}"
	zot plain
	proxy P
	proxy Q me:secret
	mkdir "$TEST_DIR/certs"
	cp "$TEST_DIR/ca.crt" "$TEST_DIR/certs/"
	HTTPS_PROXY=http://$P berth push -q --cert-dir "$TEST_DIR/certs" busybox "$name/bb:1"
	grep -q "^CONNECT $name" "$TEST_DIR/P.log"
	HTTPS_PROXY=http://me:secret@$Q berth pull -q --cert-dir "$TEST_DIR/certs" "$name/bb:1"
	grep -q "^CONNECT $name" "$TEST_DIR/Q.log"
	HTTPS_PROXY=http://me:wrong@$Q run_split berth pull -q --cert-dir "$TEST_DIR/certs" "$name/bb:1"
	expect "$status" 125
	expect_in "$stderr" "proxy"
	expect_in "$stderr" "407"
	case $stderr in *wrong*) false ;; esac
	# Without it the name is nowhere.
	for no in registry.test "$name" .test x,registry.test '*'; do
		HTTPS_PROXY=http://$P NO_PROXY=$no run_split berth pull -q --cert-dir "$TEST_DIR/certs" "$name/bb:1"
		expect "$status" 125
		expect_in "$stderr" "resolve"
	done
	NO_PROXY=registry.test:1,other.test HTTPS_PROXY=http://$P berth pull -q --cert-dir "$TEST_DIR/certs" "$name/bb:1"
	: >"$TEST_DIR/P.log"
	name=registry.test:${plain#*:}
	HTTPS_PROXY=http://$P HTTP_PROXY=http://$P berth push -q --tls-verify=false busybox "$name/bb:1"
	grep -q "^PUT http://$name/v2/bb/manifests/1" "$TEST_DIR/P.log"
	: >"$TEST_DIR/P.log"
	# Loopback is not asked for there.
	HTTP_PROXY=http://$P HTTPS_PROXY=http://$P berth pull -q "$plain/bb:1"
	expect "$(cat "$TEST_DIR/P.log")" ""
}

# A credential helper NAME that keeps what it is told in $TEST_DIR/NAME.json.
make_helper() {
	mkdir -p "$TEST_DIR/bin"
	cat >"$TEST_DIR/bin/docker-credential-$1" <<-END
		#!/bin/sh
		f=$TEST_DIR/$1.json
		echo "\$1" >>$TEST_DIR/$1.log
		case \$1 in
		store) cat >\$f ;;
		get) [ -e \$f ] && cat \$f || { echo credentials not found in native keychain; exit 1; } ;;
		erase) rm -f \$f ;;
		esac
	END
	chmod +x "$TEST_DIR/bin/docker-credential-$1"
	export PATH=$TEST_DIR/bin:$PATH
}

@test "credential helpers: for one registry, and for all" {
	# bcrypt, which is all that the registry takes
	perl -e 'print "name:", crypt("secret", q($2b$04$abcdefghijklmnopqrstuu)), "\n"' >"$TEST_DIR/htpasswd"
	registry_begin "auth: {htpasswd: {realm: test, path: $TEST_DIR/htpasswd}}"
	make_helper one
	make_helper all
	mkdir -p "$HOME/.docker"
	echo "{\"credHelpers\": {\"$REGISTRY\": \"one\"}, \"credsStore\": \"all\"}" >"$HOME/.docker/config.json"
	run_split berth push -q busybox "$REGISTRY/p:1"
	expect "$status" 125
	expect "$(cat "$TEST_DIR/one.log")" get
	berth login -u name -p secret "$REGISTRY"
	expect_in "$(cat "$TEST_DIR/one.json")" '"Secret"'
	berth push -q busybox "$REGISTRY/p:1"
	[ ! -e "$TEST_DIR/all.log" ]
	echo '{"credsStore": "all"}' >"$HOME/.docker/config.json"
	run_split berth pull -q "$REGISTRY/p:1"
	expect "$status" 125
	cp "$TEST_DIR/one.json" "$TEST_DIR/all.json"
	berth pull -q "$REGISTRY/p:1"
	berth logout "$REGISTRY"
	[ ! -e "$TEST_DIR/all.json" ]
	grep -q secret "$HOME/.docker/config.json" && false
	# registries.conf names helpers, too.
	cp "$TEST_DIR/one.json" "$TEST_DIR/all.json"
	echo '{}' >"$HOME/.docker/config.json"
	echo 'credential-helpers = ["containers-auth.json", "all"]' >"$CONTAINERS_REGISTRIES_CONF"
	berth pull -q "$REGISTRY/p:1"
}

@test "an identity token is changed for the tokens that are needed" {
	zot tokens token identity=refresh-me notes
	mkdir -p "$HOME/.docker"
	echo "{\"auths\": {\"$tokens\": {\"identitytoken\": \"wrong\"}}}" >"$HOME/.docker/config.json"
	run_split berth push -q busybox "$tokens/a/bb:1"
	expect "$status" 125
	echo "{\"auths\": {\"$tokens\": {\"identitytoken\": \"refresh-me\"}}}" >"$HOME/.docker/config.json"
	berth push -q busybox "$tokens/a/bb:1"
	berth rmi busybox
	berth pull -q "$tokens/a/bb:1"
	# From a helper, too.
	make_helper tok
	echo '{"Username": "<token>", "Secret": "refresh-me"}' >"$TEST_DIR/tok.json"
	echo "{\"credHelpers\": {\"$tokens\": \"tok\"}}" >"$HOME/.docker/config.json"
	berth pull -q "$tokens/a/bb:1"
	grep -q '^POST /token' "$TEST_DIR/tokens.log"
	grep -q 'refresh-me' "$TEST_DIR/tokens.log" && false
	true
}

@test "an identity token does not follow a redirect" {
	zot elsewhere token identity=refresh-me
	zot tokens token "token-redirect=http://$elsewhere"
	mkdir -p "$HOME/.docker"
	echo "{\"auths\": {\"$tokens\": {\"identitytoken\": \"refresh-me\"}}}" >"$HOME/.docker/config.json"
	run_split berth push -q busybox "$tokens/a/bb:1"
	expect "$status" 125
	expect_in "$stderr" "$tokens answered 307"
	grep -q '^POST /token' "$TEST_DIR/tokens.log"
	[ ! -s "$TEST_DIR/elsewhere.log" ]
}

@test "a redirect to another host carries no credentials" {
	zot store notes
	zot front notes token "redirect=http://$store"
	berth push -q busybox "$store/a/bb:1"
	berth push -q busybox "$front/a/bb:1"
	berth rmi busybox
	: >"$TEST_DIR/store.log"
	: >"$TEST_DIR/front.log"
	berth pull -q "$front/a/bb:1"
	grep -q '^GET /v2/a/bb/blobs/' "$TEST_DIR/store.log"
	grep authorized "$TEST_DIR/store.log" && false
	grep -q '^GET /v2/a/bb/blobs/.* authorized' "$TEST_DIR/front.log"
}

@test "zstd:chunked, and foreign layers from archives" {
	registry_begin
	: >"$CONTAINERS_REGISTRIES_CONF"
	if command -v podman >/dev/null && command -v skopeo >/dev/null; then
		berth save -o "$TEST_DIR/busybox.tar" busybox
		local storage=(--root "$TEST_DIR/podman" --runroot "$TEST_DIR/podman-run" --storage-driver vfs)
		podman "${storage[@]}" load -q -i "$TEST_DIR/busybox.tar"
		podman "${storage[@]}" push -q --tls-verify=false --format oci --compression-format zstd:chunked \
			docker.io/library/busybox:latest "$REGISTRY/chunked:1"
		skopeo inspect --raw --tls-verify=false "docker://$REGISTRY/chunked:1" | grep -q zstd-chunked
		id=$(skopeo inspect --config --raw --tls-verify=false "docker://$REGISTRY/chunked:1" | sha256sum)
		berth rmi busybox
		expect "$(berth pull -q "$REGISTRY/chunked:1")" "sha256:${id%% *}"
		expect "$(berth run --rm "$REGISTRY/chunked:1" echo hello)" hello
		digest=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$REGISTRY/chunked:1")
		expect "$(berth push -q "$REGISTRY/chunked:1" "$REGISTRY/again:1")" "$digest"
		berth tag "$REGISTRY/chunked:1" busybox
		if mountpoint -q "$TEST_DIR/podman/vfs"; then umount "$TEST_DIR/podman/vfs"; fi
	fi
	berth save --format oci-dir -o "$TEST_DIR/layout" busybox
	python3 - "$TEST_DIR/layout" <<-'END'
		import hashlib, json, sys
		dir = sys.argv[1]
		index = json.load(open(dir + "/index.json"))
		d = index["manifests"][0]
		manifest = json.load(open(f"{dir}/blobs/sha256/{d['digest'][7:]}"))
		for l in manifest["layers"]:
		    l["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
		    l["urls"] = ["https://localhost/foreign"]
		data = json.dumps(manifest).encode()
		d["digest"], d["size"] = "sha256:" + hashlib.sha256(data).hexdigest(), len(data)
		open(f"{dir}/blobs/sha256/{d['digest'][7:]}", "wb").write(data)
		json.dump(index, open(dir + "/index.json", "w"))
	END
	berth rmi -f "$(berth images -q | head -1)"
	run_split berth load -i "$TEST_DIR/layout"
	expect "$status" 125
	expect_in "$stderr" "foreign"
	run_split berth load -i <(tar -C "$TEST_DIR/layout" -c .)
	expect "$status" 125
	expect_in "$stderr" "foreign"
	expect "$(berth images -aq)" ""
}
