#!/usr/bin/env bats
# Killed at any moment: the next command works, and nothing is left. BERTH_CRASH_ROUNDS and
# BERTH_CRASH_SEED make it longer and other.
load helpers

setup() { berth_setup; }
teardown() { berth_teardown; }

# The processes of this test's berth, the oldest first: commands, monitors, their helpers.
berth_processes() {
	# Listed first: in a pipe the names would be looked for by the process that becomes grep, which has what it
	# looks for in its own command line.
	local all=(/proc/[0-9]*/cmdline)
	grep -l -a -s -F -e "$TEST_DIR/state" "${all[@]}" | cut -d/ -f3 | sort -n
}

# A random number of milliseconds up to $1.
nap() {
	local ms=$((RANDOM % ($1 + 1)))
	sleep "$(printf '0.%03d' "$ms")"
}

# Kills one of the processes, or the command $1.
kill_somebody() {
	local pids
	mapfile -t pids < <(berth_processes)
	pids+=("$1")
	kill -9 "${pids[RANDOM % ${#pids[@]}]}" 2>/dev/null || true
}

# Nothing of any workload is there. Monitors that were about to end get a moment.
clean() {
	berth ps -aq >/dev/null || return 1
	nothing_left "" >/dev/null || return 1
	[ -z "$(find "$TEST_DIR/state/layers" -mindepth 1 2>/dev/null)" ] || return 1
	! find /sys/fs/cgroup -maxdepth 2 -name 'berth-*' -newer "$TEST_DIR/start" 2>/dev/null |
		grep -F -f "$TEST_DIR/ids" || return 1
}

# One round: something is started, somebody is killed, then the next commands have to do.
round() {
	local pid kind=$((RANDOM % 3)) ids
	case $kind in
	0) berth_job run --rm busybox true & ;;
	1) berth_job run --rm busybox sleep 1000 & ;;
	2) berth_job run -d busybox sleep 1000 & ;;
	esac >/dev/null 2>&1
	pid=$!
	nap 60
	find "$TEST_DIR/state" -maxdepth 1 -regex '.*/[0-9a-f]*' -printf '%f\n' >>"$TEST_DIR/ids"
	kill_somebody "$pid"
	nap 20
	kill_somebody "$pid"
	nap 200
	kill -9 "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	ids=$(berth ps -aq --no-trunc)
	echo "$ids" >>"$TEST_DIR/ids"
	for id in $ids; do berth rm -f "$id" >/dev/null; done
	eventually clean
	berth system check
}

has_begun() {
	berth logs "$1" | grep -q begun
}

@test "only what is berth's is killed" {
	expect "$(berth_processes)" ""
	berth_job run --name t busybox sleep 1000 >/dev/null 2>&1 3>&- &
	pid=$!
	eventually in_state t running
	expect_in "$(berth_processes)" "$pid"
}

@test "kill -9 of commands, monitors and their helpers at random moments" {
	RANDOM=${BERTH_CRASH_SEED:-7}
	touch "$TEST_DIR/start"
	echo "no id" >"$TEST_DIR/ids"
	for ((i = 0; i < ${BERTH_CRASH_ROUNDS:-20}; i++)); do
		round || { echo "round $i"; return 1; }
	done
}

# Gone, or waiting for the host's process 1 to reap it, which may take its time.
has_ended() {
	[ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"
}

@test "a workload whose monitor was killed is stopped by the next command" {
	berth run -d --name t busybox sleep 1000 >/dev/null
	pid=$(berth inspect -f '{{.State.Pid}}' t)
	kill -9 "$(berth inspect -f '{{.State.MonitorPid}}' t)"
	eventually in_state t exited
	expect "$(berth inspect -f '{{.State.ExitCode}}' t)" 137
	expect_in "$(berth inspect -f '{{.State.Error}}' t)" "monitor"
	has_ended "$pid"
	berth start t >/dev/null
	expect "$(state_of t)" running
}

@test "with --rm the next command removes it" {
	berth run -d --rm --name t busybox sleep 1000 >/dev/null
	kill -9 "$(berth inspect -f '{{.State.MonitorPid}}' t)"
	eventually no_workloads
}

@test "the command that is killed does not take its workload with it" {
	berth_job run --name t busybox sh -c 'echo begun; sleep 1; echo done; exit 4' >/dev/null 2>&1 &
	pid=$!
	eventually has_begun t
	kill -9 "$pid"
	wait "$pid" || true
	expect "$(berth wait t)" 4
	expect "$(berth logs t)" "$(printf 'begun\ndone')"
}

@test "after a reboot active workloads are found to have ended" {
	berth run -d --name t busybox sleep 1000 >/dev/null
	monitor=$(berth inspect -f '{{.State.MonitorPid}}' t)
	init=$(berth inspect -f '{{.State.Pid}}' t)
	id=$(berth inspect -f '{{.Id}}' t)
	kill -9 "$monitor" "$init"
	# What a reboot takes: the mounts, the control groups, the state directory.
	for mount in "$TEST_DIR"/state/layers/*; do
		if mountpoint -q "$mount"; then umount "$mount"; fi
	done
	eventually bash -c "find /sys/fs/cgroup -depth -type d -name '*$id*' -exec rmdir {} +; ! find /sys/fs/cgroup -name '*$id*' | grep ."
	rm -rf "$TEST_DIR/state"
	mkdir "$TEST_DIR/state"
	expect "$(state_of t)" exited
	expect "$(berth inspect -f '{{.State.ExitCode}}' t)" 255
}

@test "system check reports leftovers in words, and --repair removes them" {
	berth run -d --name t busybox sleep 1000 >/dev/null
	id=$(berth inspect -f '{{.Id}}' t)
	# A directory that belongs to nothing, as of a power cut before the row was written.
	orphan=$(printf '%064d' 0 | tr 0 a)
	mkdir -p "$TEST_DIR/root/workloads/$orphan/upper"
	run_split berth system check
	expect "$status" 125
	expect_in "$output" "directory without a row"
	berth system check --repair
	[ ! -e "$TEST_DIR/root/workloads/$orphan" ]
	expect "$(state_of t)" running
	[ -d "$TEST_DIR/root/workloads/$id" ]
	berth rm -f t >/dev/null
}

@test "what is on a full disk can be removed from it" {
	mkdir "$TEST_DIR/small"
	mount -t tmpfs -o size=12m tmpfs "$TEST_DIR/small"
	small() { "$BERTH" --root "$TEST_DIR/small/root" --state "$TEST_DIR/state" "$@"; }
	small bootstrap -q busybox >/dev/null
	small tag busybox other
	for name in a b; do small create --name "$name" busybox true >/dev/null; done
	dd if=/dev/zero of="$TEST_DIR/small/fill" bs=4k status=none 2>/dev/null || true
	removed=$(
		small rm a && small rmi other && small container prune -f && small image prune -af
	) || failed=$?
	left=$(small images -q)$(small ps -aq)
	umount "$TEST_DIR/small"
	expect "${failed:-0}" 0
	expect_in "$removed" "Untagged: other:latest"
	expect "$left" ""
}

@test "a full disk fails a start in words and leaves nothing" {
	mkdir "$TEST_DIR/small"
	mount -t tmpfs -o size=8m tmpfs "$TEST_DIR/small"
	mkdir "$TEST_DIR/small/root"
	"$BERTH" --root "$TEST_DIR/small/root" --state "$TEST_DIR/state" bootstrap -q busybox >/dev/null
	dd if=/dev/zero of="$TEST_DIR/small/fill" bs=64k status=none 2>/dev/null || true
	run_split "$BERTH" --root "$TEST_DIR/small/root" --state "$TEST_DIR/state" run --rm busybox true
	failed=$status
	message=$stderr
	rm "$TEST_DIR/small/fill"
	"$BERTH" --root "$TEST_DIR/small/root" --state "$TEST_DIR/state" run --rm busybox true
	"$BERTH" --root "$TEST_DIR/small/root" --state "$TEST_DIR/state" system check
	umount "$TEST_DIR/small"
	expect "$failed" 125
	[ -n "$message" ]
}

@test "sixteen starts at once" {
	for i in $(seq 16); do
		berth run --rm busybox sh -c "exit $i" &
		pids+=($!)
	done
	for i in $(seq 16); do
		code=0
		wait "${pids[i - 1]}" || code=$?
		expect "$code" "$i"
	done
}
