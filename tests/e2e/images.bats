#!/usr/bin/env bats
# Images without a registry: bootstrap, images, tag, rmi, history, save, load, import, prune.
load helpers

setup() { berth_setup; }
teardown() { berth_teardown; }

@test "bootstrap busybox makes an ordinary image" {
	run_split berth images
	expect "$(echo "$output" | head -1 | tr -s ' ')" "REPOSITORY TAG IMAGE ID CREATED SIZE"
	expect_in "$(echo "$output" | tail -1 | tr -s ' ')" "busybox latest "
	berth run --rm busybox sh -c 'ls -l /bin/ls /bin/sh >/dev/null'
	run_split berth bootstrap nonsense
	expect "$status" 125
	expect_in "$stderr" nonsense
}

@test "bootstrap twice is the same image" {
	id=$(berth images -q --no-trunc busybox)
	expect "$(berth bootstrap -q busybox)" "$id"
}

@test "images: -q, formats, patterns, filters" {
	berth tag busybox localhost:5000/a/b:1
	expect "$(berth images -q busybox)" "$(berth images -q localhost:5000/a/b)"
	expect "$(berth images --format '{{.Repository}}:{{.Tag}}' 'localhost:5000/*/*')" localhost:5000/a/b:1
	expect "$(berth images --format '{{.Tag}}' --filter reference=busybox)" latest
	expect "$(berth images -q nothing)" ""
	expect "$(berth images -q --filter dangling=true)" ""
	berth images --format json | python3 -c 'import json, sys
assert all(json.loads(l)["ID"] for l in sys.stdin)'
	expect "$(berth images --filter reference=busybox --filter 'reference=*/a/b' --format '{{.Tag}}' | sort | tr '\n' ' ')" "1 latest "
	run_split berth images --filter dangling=maybe
	expect "$status" 125
	expect_in "$stderr" "true or false"
	run_split berth images --filter dangeling=true
	expect "$status" 125
	expect_in "$stderr" "did you mean dangling"
}

@test "tag and rmi: names come and go, the image goes with the last" {
	id=$(berth images -q --no-trunc busybox)
	berth tag busybox other:1
	expect "$(berth rmi other:1)" "Untagged: other:1"
	expect_in "$(berth images)" busybox
	expect "$(berth images -q other)" ""
	run_split berth rmi busybox
	expect "$status" 0
	expect_in "$output" "Deleted: $id"
	expect "$(berth images -aq)" ""
	run_split berth rmi busybox
	expect "$status" 125
	expect_in "$stderr" 'there is no image "busybox" here'
	expect_in "$stderr" "hint: what is here: berth images"
	berth rmi -f busybox
}

@test "an image that has lost its name is listed without one" {
	local old new
	old=$(berth images -q busybox)
	new=$(berth import /dev/null busybox)
	expect "$(berth images --format '{{.Repository}}:{{.Tag}} {{.ID}}' --no-trunc | sort)" "<none>:<none> $(berth inspect -f '{{.Id}}' "$old")
busybox:latest $new"
	expect "$(berth images -a)" "$(berth images)"
	expect "$(berth images -q --filter dangling=true)" "$old"
	expect "$(berth images -q --no-trunc --filter dangling=false)" "$new"
	expect "$(berth images -q --no-trunc busybox)" "$new"
}

@test "an image in use is not removed" {
	berth create --name t busybox true >/dev/null
	run_split berth rmi busybox
	expect "$status" 125
	expect_in "$stderr" "hint:"
	expect_in "$(berth images)" busybox
}

@test "history" {
	run_split berth history busybox
	expect "$(echo "$output" | head -1 | tr -s ' ')" "IMAGE CREATED CREATED BY SIZE COMMENT"
	[ "$(echo "$output" | wc -l)" -ge 2 ]
	expect "$(berth history -q --no-trunc busybox | head -1)" "$(berth images -q --no-trunc busybox)"
}

@test "save and load: the same image, in both formats, from pipe, file and directory" {
	id=$(berth images -q --no-trunc busybox)
	for format in docker oci docker-archive oci-archive; do
		berth save --format $format -o "$TEST_DIR/$format.tar" busybox
		berth rmi busybox >/dev/null
		expect_in "$(berth load -q -i "$TEST_DIR/$format.tar")" busybox:latest
		expect "$(berth images -q --no-trunc busybox)" "$id"
		berth rmi busybox >/dev/null
		gzip -c "$TEST_DIR/$format.tar" | berth load -q >/dev/null
		expect "$(berth images -q --no-trunc busybox)" "$id"
	done
	berth save --format oci-dir -o "$TEST_DIR/layout" busybox
	[ -s "$TEST_DIR/layout/index.json" ]
	berth rmi busybox >/dev/null
	berth load -q -i "$TEST_DIR/layout" >/dev/null
	expect "$(berth images -aq --no-trunc)" "$id"
	expect "$(berth run --rm "${id#sha256:}" echo works)" works
}

@test "save to a full disk leaves nothing that looks like an archive" {
	mkdir "$TEST_DIR/small"
	unshare -m sh -c "mount -t tmpfs -o size=100k none '$TEST_DIR/small' &&
		'$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' save -o '$TEST_DIR/small/x.tar' busybox
		echo \$? \$(ls '$TEST_DIR/small' | wc -l)" >"$TEST_DIR/result" 2>"$TEST_DIR/error"
	expect "$(cat "$TEST_DIR/result")" "125 0"
	expect_in "$(cat "$TEST_DIR/error")" "No space left"
}

@test "load refuses what is no archive, and leaves nothing" {
	head -c 100000 /dev/urandom >"$TEST_DIR/noise"
	run_split berth load -q -i "$TEST_DIR/noise"
	expect "$status" 125
	[ -n "$stderr" ]
	berth save -o "$TEST_DIR/good.tar" busybox
	head -c 300000 "$TEST_DIR/good.tar" >"$TEST_DIR/cut.tar"
	berth rmi busybox >/dev/null
	run_split berth load -q -i "$TEST_DIR/cut.tar"
	expect "$status" 125
	expect "$(berth images -aq)" ""
	run_split berth load -i "$TEST_DIR/nothere"
	expect "$status" 125
	expect_in "$stderr" nothere
	for program in bzip2 lzma; do
		run_split berth load < <($program -c "$TEST_DIR/good.tar")
		expect "$status" 125
		expect_in "$stderr" "it is compressed with $program"
		expect_in "$stderr" "berth load"
		run_split berth import - x < <($program -c "$TEST_DIR/good.tar")
		expect "$status" 125
		expect_in "$stderr" "it is compressed with $program"
		expect_in "$stderr" "berth import - NAME"
	done
	run_split berth import "$BATS_TEST_FILENAME" x
	expect_in "$stderr" "it is no tar archive"
	run_split berth import http://localhost/rootfs.tar x
	expect "$status" 125
	expect_in "$stderr" "hint: fetch it first: curl -L http://localhost/rootfs.tar | berth import"
	expect "$(berth images -q)" ""
}

@test "load and import read archives that are packed with gzip, zstd or xz, from files and pipes" {
	local id program
	id=$(berth images -q --no-trunc busybox)
	mkdir -p "$TEST_DIR/rootfs/bin"
	cp /bin/busybox "$TEST_DIR/rootfs/bin/sh"
	tar -C "$TEST_DIR/rootfs" -cf "$TEST_DIR/rootfs.tar" .
	for program in "gzip -n" zstd xz "xz -9"; do
		for format in docker-archive oci-archive; do
			berth save -q --format $format -o "$TEST_DIR/plain.tar" busybox
			$program -c "$TEST_DIR/plain.tar" >"$TEST_DIR/packed"
			berth rmi -f "$id" >/dev/null
			expect "$(berth load -q -i "$TEST_DIR/packed")" "Loaded image: docker.io/library/busybox:latest"
			expect "$(berth images -q --no-trunc)" "$id"
			berth rmi -f "$id" >/dev/null
			cat "$TEST_DIR/packed" | berth load -q
			expect "$(berth images -q --no-trunc)" "$id"
		done
		$program -c "$TEST_DIR/rootfs.tar" >"$TEST_DIR/packed"
		berth import "$TEST_DIR/packed" mine:1 >/dev/null
		expect "$(berth run --rm mine:1 /bin/sh -c 'echo in it')" "in it"
		berth rmi mine:1 >/dev/null
		cat "$TEST_DIR/packed" | berth import - mine:1 >/dev/null
		expect "$(berth inspect --format '{{index .RootFS.Layers 0}}' mine:1)" "sha256:$(sha256sum "$TEST_DIR/rootfs.tar" | cut -d' ' -f1)"
		berth rmi mine:1 >/dev/null
	done
	xz -c "$TEST_DIR/plain.tar" | head -c 200000 >"$TEST_DIR/cut"
	run_split berth load -q -i "$TEST_DIR/cut"
	expect "$status" 125
	expect_in "$stderr" "the xz stream ends too early"
	run_split berth import "$TEST_DIR/cut" x
	expect "$status" 125
	expect_in "$stderr" "the xz stream ends too early"
	berth system check
}

@test "import makes an image from a tar" {
	mkdir -p "$TEST_DIR/rootfs/bin" "$TEST_DIR/rootfs/srv"
	cp /bin/busybox "$TEST_DIR/rootfs/bin/sh"
	id=$(tar -C "$TEST_DIR/rootfs" -c . | berth import -c 'CMD ["/bin/sh", "-c", "pwd; echo $A"]' -c 'WORKDIR /srv' \
		-c 'ENV A=imported' - mine:1)
	expect "$(berth images -q --no-trunc mine:1)" "$id"
	expect "$(berth run --rm mine:1)" "/srv
imported"
	run_split berth import -c 'NONSENSE 1' /dev/null x
	expect "$status" 125
	expect_in "$stderr" NONSENSE
}

@test "--change understands what Dockerfiles write" {
	local changes=() change n=0
	is() {
		berth import -c "$1" "$TEST_DIR/empty.tar" "t:$((++n))" >/dev/null
		expect "$(berth image inspect -f "{{json .Config.$2}}" "t:$n")" "$3"
	}
	tar -cf "$TEST_DIR/empty.tar" -T /dev/null
	is 'ENV A=1 B="two three" C=d\ e' Env '["A=1","B=two three","C=d e"]'
	is 'ENV X a  b' Env '["X=a  b"]'
	is "LABEL a=b \"c d\"='e f'" Labels '{"a":"b","c d":"e f"}'
	is 'LABEL k v w' Labels '{"k":"v w"}'
	is 'VOLUME ["/a", "/b c"]' Volumes '{"/a":{},"/b c":{}}'
	is 'EXPOSE 80 53/udp' ExposedPorts '{"80/tcp":{},"53/udp":{}}'
	is 'WORKDIR here' WorkingDir '"/here"'
	is 'ONBUILD RUN x' OnBuild '["RUN x"]'
	is 'HEALTHCHECK --interval=5s --retries=3 CMD try || exit 1' Healthcheck \
		'{"Interval":5000000000,"Retries":3,"Test":["CMD-SHELL","try || exit 1"]}'
	is 'HEALTHCHECK NONE' Healthcheck '{"Test":["NONE"]}'
	for change in 'HEALTHCHECK try' 'HEALTHCHECK --interval=x CMD a' 'ENV =x' 'LABEL' 'CMD ["a", 1]'; do
		run_split berth import -c "$change" "$TEST_DIR/empty.tar" bad:1
		expect "$status" 125
	done
	berth run --name c busybox true
	berth commit -c 'ENV PATH=/x NEW=1' -c 'ENV PATH=/y' c new:1 >/dev/null
	expect "$(berth image inspect -f '{{json .Config.Env}}' new:1 | grep -o PATH= | wc -l)" 1
	expect_in "$(berth image inspect -f '{{json .Config.Env}}' new:1)" '"PATH=/y"'
}

@test "inspect and history as docker has them" {
	berth run --name c busybox true
	berth commit -m "a message" -a me c new:1 >/dev/null
	expect "$(berth image inspect -f '{{.Comment}} {{.Author}} {{.Config.Tty}} {{json .Config.OnBuild}}' new:1)" "a message me false null"
	berth history --format '{{.CreatedAt}}' new:1 | head -1 | grep -qx '[0-9T:-]*Z'
	expect "$(berth images --format '{{.SharedSize}} {{.UniqueSize}}' new:1)" "N/A N/A"
}

@test "load: what skopeo writes to dir:" {
	command -v skopeo >/dev/null || skip "skopeo is not installed"
	id=$(berth images -q --no-trunc busybox)
	berth save -o "$TEST_DIR/b.tar" busybox
	skopeo copy -q "docker-archive:$TEST_DIR/b.tar" "dir:$TEST_DIR/dir"
	berth rmi busybox
	berth load -q -i "$TEST_DIR/dir"
	expect "$(berth images -aq --no-trunc)" "$id"
	expect "$(berth run --rm "${id#sha256:}" echo works)" works
	berth system check --content
	echo x >>"$TEST_DIR/dir/${id#sha256:}"
	berth rmi "${id#sha256:}"
	run_split berth load -i "$TEST_DIR/dir"
	expect "$status" 125
	expect_in "$stderr" digest
}

@test "image prune removes what has no name, with --all what nothing uses" {
	berth import - old:1 >/dev/null < <(tar -C /etc -c hostname)
	berth import - old:1 >/dev/null < <(tar -C /etc -c hosts)
	expect "$(berth images -q --filter dangling=true | wc -l)" 1
	expect_in "$(berth image prune -f)" "Total reclaimed space: "
	expect "$(berth images -q --filter dangling=true)" ""
	berth create --name t busybox true >/dev/null
	berth image prune -a -f >/dev/null
	expect "$(berth images --format '{{.Repository}}')" busybox
}

@test "pull from nowhere is one clear error" {
	run_split berth pull localhost:1/nothing
	expect "$status" 125
	expect_in "$stderr" 'berth: cannot pull "localhost:1/nothing"'
	expect "$(berth images -aq | wc -l)" 1
}

# An image with one file of N random bytes.
sized() {
	mkdir -p "$TEST_DIR/$1"
	head -c "$2" /dev/urandom >"$TEST_DIR/$1/data"
	tar -C "$TEST_DIR/$1" -c . | berth import - "$1:1" >/dev/null
}

@test "limits from the settings: the longest unused images go, those in use and new ones stay" {
	berth rmi busybox >/dev/null
	mkdir -p "$XDG_CONFIG_HOME/berth"
	# An image takes about twice its file: as layer, and as compressed blob.
	echo 'image-max-size = "9m"' >"$XDG_CONFIG_HOME/berth/berth.toml"
	for name in a b c; do sized $name 1000000; done
	berth create --name user a:1 /x >/dev/null
	expect "$(berth images --format '{{.Repository}}' | sort | paste -sd' ')" "a b c"
	sized d 1000000
	sized e 1000000
	expect "$(berth images --format '{{.Repository}}' | sort | paste -sd' ')" "a c d e"
	[ "$(berth system df --format '{{.SizeBytes}}' | head -1)" -le 9437184 ]
	# The end of a use counts; the next one goes instead.
	berth create --name other c:1 /x >/dev/null
	berth rm other >/dev/null
	sized f 1000000
	expect "$(berth images --format '{{.Repository}}' | sort | paste -sd' ')" "a c e f"
	# Larger than all that is allowed: it stays, since it has just come.
	sized huge 6000000
	expect "$(berth images --format '{{.Repository}}' | sort | paste -sd' ')" "a huge"
	echo 'image-max-age = "1s"' >"$XDG_CONFIG_HOME/berth/berth.toml"
	sleep 1.1
	sized g 1000
	expect "$(berth images --format '{{.Repository}}' | sort | paste -sd' ')" "a g"
	rm "$XDG_CONFIG_HOME/berth/berth.toml"
	sized h 1000
	expect "$(berth images --format '{{.Repository}}' | sort | paste -sd' ')" "a g h"
	berth system check
}
