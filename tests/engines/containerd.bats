#!/usr/bin/env bats
# containerd's runc shim with this runtime in the place of runc.

setup_file() {
	load helpers
	make_work
	containerd --root "$work/root" --state "$work/state" --address "$work/sock" >"$work/log" 2>&1 3>&- &
	echo $! >"$work/pid"
	wait_for 10 ctr --address "$work/sock" version
	# An image that ctr can import: what podman or docker would save.
	mkdir "$work/image"
	layer=$(sha256sum "$work/rootfs.tar" | cut -d' ' -f1)
	printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$layer" >"$work/image/config.json"
	cp "$work/rootfs.tar" "$work/image/layer.tar"
	printf '[{"Config":"config.json","RepoTags":["example.org/bb:latest"],"Layers":["layer.tar"]}]' >"$work/image/manifest.json"
	tar -C "$work/image" -cf "$work/image.tar" config.json layer.tar manifest.json
	c images import "$work/image.tar"
}

teardown_file() {
	load helpers
	kill "$(cat "$work/pid")" 2>/dev/null || true
	wait_for 10 bash -c "! kill -0 $(cat "$work/pid")" || true
	umount -l "$work"/state/io.containerd.runtime.v2.task/*/*/rootfs 2>/dev/null || true
}

setup() { load helpers; }
teardown() {
	local id
	for id in $(c task ls -q); do c task rm -f "$id" || true; done
	for id in $(c container ls -q); do c container rm "$id" || true; done
}

c() { ctr --address "$work/sock" "$@"; }
crun_image() { c run --runc-binary "$RUNTIME" "$@"; }

@test "containerd: run shows its output and exit code" {
	run crun_image --rm example.org/bb:latest t1 echo hello
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$output" = hello ]
	run crun_image --rm example.org/bb:latest t2 sh -c 'exit 7'
	[ "$status" -eq 7 ]
}

@test "containerd: a detached task is listed, executed in, paused and killed" {
	crun_image -d example.org/bb:latest t3 sleep 1000
	run c task exec --exec-id e1 t3 hostname
	[ "$status" -eq 0 ]
	c task pause t3
	run c task ls
	[[ "$output" == *t3*PAUSED* ]]
	c task resume t3
	run c task ps t3
	[ "${#lines[@]}" -eq 2 ]
	run c task metrics t3
	[ "$status" -eq 0 ]
	c task kill -s KILL t3
	wait_for 5 bash -c "ctr --address $work/sock task ls | grep t3 | grep STOPPED"
	c task rm t3 || true
	c container rm t3
}

@test "containerd: exec on a terminal, signals, users and limits" {
	crun_image -d --memory-limit 67108864 example.org/bb:latest t5 sh -c 'trap "exit 9" USR1; while :; do sleep 0.1; done'
	run c task exec --exec-id e1 t5 sh -c 'id -u; exit 4'
	[ "$status" -eq 4 ]
	[ "$output" = 0 ]
	run c task metrics t5
	[[ "$output" == *67108864* ]]
	run script -qec "ctr --address $work/sock task exec -t --exec-id e2 t5 sh -c 'tty; exit 6'" /dev/null </dev/null
	[ "$status" -eq 6 ]
	[[ "$output" == */dev/pts/* ]]
	wait_for 5 c task kill -s USR1 t5
	wait_for 5 bash -c "ctr --address $work/sock task ls | grep t5 | grep STOPPED"
	run c task rm t5
	[[ "$output" == "" || "$output" == *"exit with non-zero exit code 9"* ]]
	c container rm t5
}

@test "containerd: a missing program is an error in words" {
	run crun_image --rm example.org/bb:latest t4 no-such-program
	[ "$status" -ne 0 ]
	[[ "$output" == *"executable file not found in \$PATH"* ]]
	c container rm t4 2>/dev/null || true
}
