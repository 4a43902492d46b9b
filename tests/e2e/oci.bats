#!/usr/bin/env bats
# The OCI runtime through `berth oci`: ordinary use, and the attacks that runtimes
# have fallen to. Each attack's test fails if its protection is taken out.
load helpers
load bundle

@test "oci: run returns the exit code and leaves nothing behind" {
	inside 'exit 7'
	expect "$status" 7
	expect "$(cgroups_left)" ""
	expect "$(ls "$TEST_DIR/state")" ""
}

@test "oci: the steps of a life, and what is refused in each" {
	edit "c['process']['args'] = ['sleep', '1000']"
	oci create --bundle "$TEST_DIR" --pid-file "$TEST_DIR/pid" "$ID" </dev/null >/dev/null 2>&1
	expect "$(oci state "$ID" | python3 -c 'import json,sys; print(json.load(sys.stdin)["status"])')" created
	oci start "$ID"
	run_split oci start "$ID"
	expect "$status" 1
	run_split oci delete "$ID"
	expect "$status" 1
	expect "$(oci list -q)" "$ID"
	oci pause "$ID"
	expect_in "$(oci state "$ID")" '"paused"'
	oci resume "$ID"
	oci kill "$ID" KILL
	for _ in $(seq 50); do
		if ! kill -0 "$(cat "$TEST_DIR/pid")" 2>/dev/null; then break; fi
		sleep 0.1
	done
	run_split oci kill "$ID" TERM
	expect_in "$stderr" "container not running"
	oci delete "$ID"
	run_split oci state "$ID"
	expect_in "$stderr" "does not exist"
	expect "$(cgroups_left)" ""
}

@test "oci: a missing program is 127's error, one that is no program 126's; nothing stays" {
	edit "c['process']['args'] = ['no-such-program']"
	run_split oci run --bundle "$TEST_DIR" "$ID"
	expect "$status" 127
	expect_in "$stderr" 'executable file not found in $PATH'
	touch "$TEST_DIR/rootfs/etc/passwd"
	edit "c['process']['args'] = ['/etc/passwd']"
	run_split oci run --bundle "$TEST_DIR" "$ID"
	expect "$status" 126
	expect_in "$stderr" 'permission denied'
	expect "$(cgroups_left)" ""
	expect "$(ls "$TEST_DIR/state")" ""
}

@test "oci: kill -9 of the runtime at random moments leaves nothing that delete does not remove" {
	edit "c['process']['args'] = ['sleep', '1000']"
	for i in $(seq 40); do
		"$BERTH" oci --root "$TEST_DIR/state" create --bundle "$TEST_DIR" "$ID" \
			</dev/null >/dev/null 2>&1 3>&- &
		pid=$!
		sleep "0.0$(printf %02d $((i % 16)))"
		kill -9 $pid 2>/dev/null || true
		wait $pid 2>/dev/null || true
		oci list >/dev/null
		oci delete -f "$ID"
		expect "$(cgroups_left)" ""
	done
	expect "$(ls -A "$TEST_DIR/state" | grep -v seccomp || true)" ""
}

@test "oci: a cgroup whose processes ignore signals and fork is removed all the same" {
	inside 'trap "" TERM INT HUP; (trap "" TERM; while :; do sleep 1 & done) & sleep 0.2; exit 3'
	expect "$status" 3
	expect "$(cgroups_left)" ""
}

@test "oci: a cgroup that others are in is a warning, and they live on" {
	local dir=/sys/fs/cgroup/pids/$ID-other
	[ -d /sys/fs/cgroup/pids ] || dir=/sys/fs/cgroup/$ID-other
	mkdir "$dir"
	sleep 1000 3>&- &
	local other=$!
	echo $other >"$dir/cgroup.procs"
	edit "c['linux']['cgroupsPath'] = '/$ID-other'"
	run_split oci run --bundle "$TEST_DIR" "$ID"
	kill -0 $other
	expect "$(cat "$dir/cgroup.procs")" "$other"
	kill -9 $other
	wait $other 2>/dev/null || true
	rmdir "$dir"
	expect "$status" 0
	expect_in "$stderr" "cgroup is not empty"
}

@test "oci: a created container can be deleted, its process does not run" {
	edit "c['process']['args'] = ['touch', '/ran']"
	oci create --bundle "$TEST_DIR" "$ID" </dev/null >/dev/null 2>&1
	oci delete "$ID"
	[ ! -e "$TEST_DIR/rootfs/ran" ]
	expect "$(oci list -q)" ""
	expect "$(cgroups_left)" ""
}

# --- attacks ----------------------------------------------------------------------------------------

@test "oci attack: the runtime's own file cannot be written through /proc/self/exe" {
	local copy=$TEST_DIR/berth
	cp "$BERTH" "$copy"
	local before
	before=$(sha256sum <"$copy")
	# The interpreter of the container's program is the runtime itself; what it is run from is then
	# opened for writing, as it would be after it has ended.
	background
	cat >"$TEST_DIR/rootfs/attack" <<-'SH'
		#!/bin/sh
		for pid in /proc/[0-9]*; do
			(: >>$pid/exe) 2>/dev/null && echo "wrote $pid $(readlink $pid/exe)"
		done
	SH
	chmod +x "$TEST_DIR/rootfs/attack"
	for _ in 1 2 3 4 5; do
		"$copy" oci --root "$TEST_DIR/state" exec "$ID" /attack | grep -v /bin/busybox && false
	done
	oci delete -f "$ID"
	edit "c['process']['args'] = ['/proc/self/exe', '--version']"
	edit 'c["process"]["capabilities"] = {}'
	"$copy" oci --root "$TEST_DIR/state" run --bundle "$TEST_DIR" "$ID" >/dev/null 2>&1 || true
	expect "$(sha256sum <"$copy")" "$before"
	# The image that the first process runs from is read-only while it waits.
	edit "c['process']['args'] = ['sleep', '1000']"
	"$copy" oci --root "$TEST_DIR/state" create --bundle "$TEST_DIR" --pid-file "$TEST_DIR/pid" "$ID" \
		</dev/null >/dev/null 2>&1
	run_split python3 -c "import os, sys; print(os.statvfs(sys.argv[1]).f_flag & os.ST_RDONLY)" \
		"/proc/$(cat "$TEST_DIR/pid")/exe"
	expect "$output" 1
}

@test "oci attack: a working directory through a descriptor is refused" {
	for n in $(seq 0 24); do
		edit "c['process']['cwd'] = '/proc/self/fd/$n'; c['process']['args'] = ['pwd']"
		run_split oci run --bundle "$TEST_DIR" "$ID"
		[ "$status" -ne 0 ]
	done
}

@test "oci attack: only the standard descriptors are seen" {
	exec 7</etc/hostname
	inside 'ls /proc/self/fd'
	exec 7<&-
	expect "$(echo "$output" | grep -v '^3$' | tr '\n' ' ')" "0 1 2 "
	background
	run_split oci exec "$ID" ls /proc/self/fd
	expect "$(echo "$output" | grep -v '^3$' | tr '\n' ' ')" "0 1 2 "
}

@test "oci attack: /dev of the image is a link out: no device is made outside" {
	mkdir "$TEST_DIR/outside"
	rmdir "$TEST_DIR/rootfs/dev"
	ln -s "../../../../../../..$TEST_DIR/outside" "$TEST_DIR/rootfs/dev"
	edit 'c["mounts"] = [m for m in c["mounts"] if not m["destination"].startswith("/dev")]'
	inside true
	expect "$(ls "$TEST_DIR/outside")" ""
}

@test "oci attack: masked paths hold when the image brings its own /dev/null" {
	printf 'not null' >"$TEST_DIR/rootfs/dev/null"
	edit 'c["mounts"] = [m for m in c["mounts"] if not m["destination"].startswith("/dev")]
c["linux"]["maskedPaths"] = ["/proc/timer_list", "/proc/keys"]; c["linux"]["readonlyPaths"] = []'
	inside 'cat /proc/keys && stat -c "%t:%T %F" /proc/keys /proc/timer_list'
	expect "$stderr" ""
	expect "$status" 0
	expect "$output" "1:3 character special file
1:3 character special file"
}

@test "oci attack: a mount's target that is a link stays inside" {
	mkdir "$TEST_DIR/outside" "$TEST_DIR/volume"
	touch "$TEST_DIR/volume/mark"
	ln -s "/../../../../../..$TEST_DIR/outside" "$TEST_DIR/rootfs/link"
	edit "c['mounts'].append({'destination': '/link/sub', 'source': '$TEST_DIR/volume', 'options': ['bind']})"
	inside 'ls /link/sub'
	expect "$output" mark
	expect "$(ls -A "$TEST_DIR/outside")" ""
}

@test "oci attack: links that are swapped while containers start lead nowhere" {
	mkdir -p "$TEST_DIR/outside/in" "$TEST_DIR/rootfs/vol/in"
	edit "c['mounts'].append({'destination': '/vol/in/new', 'type': 'tmpfs', 'options': ['size=4k']})"
	(
		exec 3>&-
		cd "$TEST_DIR/rootfs"
		ln -s "$TEST_DIR/outside" swap
		while [ -e swap ] || [ -e vol ]; do
			python3 - <<-'PYTHON'
				import ctypes, os
				libc = ctypes.CDLL(None)
				while os.path.exists("."):
				    if libc.renameat2(-100, b"vol", -100, b"swap", 2):
				        break
			PYTHON
		done
	) &
	local swapper=$!
	for _ in $(seq 25); do
		inside true || true
		oci delete -f "$ID"
		expect "$(ls -A "$TEST_DIR/outside/in")" ""
	done
	pkill -P $swapper || true
	kill $swapper || true
	wait $swapper 2>/dev/null || true
}

@test "oci attack: inheritable capabilities are empty unless asked for" {
	inside 'grep -E "CapInh|CapAmb" /proc/self/status'
	expect "$(echo "$output" | tr -d '\t')" "CapInh:0000000000000000
CapAmb:0000000000000000"
	background
	run_split oci exec --cap CAP_CHOWN "$ID" grep CapInh /proc/self/status
	expect "$(echo "$output" | tr -d '\t')" "CapInh:0000000000000000"
}

@test "oci attack: ids that do not exist are refused" {
	for uid in -1 4294967295 4294967296 99999999999999999999 '"0"' 0.5; do
		sed "s/\"uid\": 0/\"uid\": $uid/" "$TEST_DIR/config.json" >"$TEST_DIR/bad.json"
		mkdir -p "$TEST_DIR/bad"
		cp "$TEST_DIR/bad.json" "$TEST_DIR/bad/config.json"
		run_split oci run --bundle "$TEST_DIR/bad" "$ID"
		expect "$status" 1
	done
	background
	run_split oci exec -u 4294967295 "$ID" id
	[ "$status" -ne 0 ]
}

@test "oci attack: /etc/passwd that is a FIFO or leads to one does not hold us up" {
	local kind
	edit "c['process']['args'] = ['sh', '-c', 'echo \$HOME']"
	mkfifo "$TEST_DIR/rootfs/etc/fifo"
	for kind in fifo link; do
		rm -f "$TEST_DIR/rootfs/etc/passwd"
		case $kind in
		fifo) mkfifo "$TEST_DIR/rootfs/etc/passwd" ;;
		link) ln -s fifo "$TEST_DIR/rootfs/etc/passwd" ;;
		esac
		# To a file: a process that waits would hold a pipe open, and us with it.
		timeout 20 "$BERTH" oci --root "$TEST_DIR/state" run --bundle "$TEST_DIR" "$ID" \
			</dev/null >"$TEST_DIR/out" 2>&1
		expect "$(cat "$TEST_DIR/out")" /root
	done
}

@test "oci attack: /proc/sys is written in the real procfs only" {
	rmdir "$TEST_DIR/rootfs/proc"
	mkdir -p "$TEST_DIR/rootfs/proc/sys/net/core"
	echo untouched >"$TEST_DIR/rootfs/proc/sys/net/core/somaxconn"
	edit 'c["mounts"] = [m for m in c["mounts"] if m["destination"] != "/proc"]
c["linux"]["sysctl"] = {"net.core.somaxconn": "77"}'
	inside 'cat /proc/sys/net/core/somaxconn'
	expect "$output" untouched
	edit 'c["mounts"].insert(0, {"destination": "/proc", "type": "proc", "source": "proc"})'
	inside 'cat /proc/sys/net/core/somaxconn'
	expect "$output" 77
}

@test "oci attack: a false multiplexer is not used as terminal" {
	touch "$TEST_DIR/rootfs/dev/ptmx"
	edit 'c["mounts"] = [m for m in c["mounts"] if not m["destination"].startswith("/dev")]
c["process"]["terminal"] = True'
	edit "c['process']['args'] = ['tty']"
	run_split oci run --bundle "$TEST_DIR" "$ID"
	expect "$status" 1
	expect_in "$stderr" "multiplexer"
}
