#!/usr/bin/env bats
# dockerd with this runtime added, in mount, network and process namespaces of the test's own.

bats_require_minimum_version 1.5.0

setup_file() {
	load helpers
	make_work
	cat >"$work/daemon" <<-'END'
		mount --make-rprivate /
		mount -t tmpfs tmpfs /run
		containerd --root $work/c-root --state $work/c-state --address $work/c.sock >$work/c.log 2>&1 &
		while ! ctr --address $work/c.sock version >/dev/null 2>&1; do sleep 0.1; done
		exec dockerd --data-root $work/root --exec-root $work/exec --pidfile $work/d.pid -H unix://$work/d.sock \
			--containerd $work/c.sock --bridge none --iptables=false --add-runtime berth=$RUNTIME \
			--default-runtime berth >$work/d.log 2>&1
	END
	unshare -m -n -p -f --mount-proc --kill-child bash "$work/daemon" >/dev/null 2>&1 3>&- &
	echo $! >"$work/pid"
	wait_for 20 d version
	d import "$work/rootfs.tar" bb
}

teardown_file() {
	load helpers
	kill -9 "$(cat "$work/pid")" 2>/dev/null || true
}

setup() { load helpers; }

d() { docker -H "unix://$work/d.sock" "$@"; }
drun() { d run --network none "$@"; }

@test "docker: the runtime is the one that is used" {
	run d info --format '{{.DefaultRuntime}}'
	[ "$output" = berth ]
}

@test "docker: run shows its output and exit code" {
	run drun --rm bb /bin/echo hello
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$output" = hello ]
	run drun --rm bb /bin/sh -c 'exit 7'
	[ "$status" -eq 7 ]
}

@test "docker: a missing program is 127, one without permission 126" {
	run -127 drun --rm bb no-such-program
	run -126 drun --rm bb /etc/passwd
}

@test "docker: terminals" {
	run drun --rm -t bb /bin/tty
	[[ "$output" == /dev/pts/0* ]]
}

@test "docker: detached, logs, exec, pause, stop" {
	id=$(drun -d bb /bin/sh -c 'echo started; trap "exit 3" TERM; while :; do sleep 0.1; done')
	wait_for 5 bash -c "docker -H unix://$work/d.sock logs $id | grep started"
	run d exec "$id" /bin/sh -c 'echo inside; exit 4'
	[ "$status" -eq 4 ]
	[ "$output" = inside ]
	d pause "$id"
	d unpause "$id"
	run d top "$id"
	[ "$status" -eq 0 ]
	d stop -t 5 "$id"
	run d inspect -f '{{.State.ExitCode}}' "$id"
	[ "$output" = 3 ]
	d rm "$id"
}

@test "docker: limits, update and stats" {
	id=$(drun -d --memory 64m --pids-limit 55 bb /bin/sleep 1000)
	run d exec "$id" sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null ||
		cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max'
	[ "$output" = $'67108864\n55' ]
	run d update --memory 96m --memory-swap 192m "$id"
	echo "$output"
	[ "$status" -eq 0 ]
	run d stats --no-stream --format '{{.PIDs}}' "$id"
	[ "$output" = 1 ]
	d rm -f "$id"
}

@test "docker: volumes, users and read-only root" {
	mkdir -p "$work/volume"
	chmod 777 "$work/volume"
	run drun --rm --read-only -u 1000:1000 -v "$work/volume:/data" bb /bin/sh -c '
		id -u; echo kept >/data/file; { echo y >/tmp/y; } 2>/dev/null || echo readonly'
	[ "$output" = $'1000\nreadonly' ]
	[ "$(cat "$work/volume/file")" = kept ]
}
