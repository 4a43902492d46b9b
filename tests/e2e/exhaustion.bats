#!/usr/bin/env bats
# However often somebody attaches and goes, and however much a process says: what stands beside a workload on the
# host stays as small as it is. Behind both walls (BERTH_ISOLATION=vm).
#
# BERTH_ATTACHES=N attaches so many times (10000 for a long run; default: 100), BERTH_OUTPUT=N lets a process say so
# many MiB (1024; default: 16).

load helpers

setup() { berth_setup; }
teardown() { berth_teardown; }

# The processes of a workload on the host: its monitor with its children, and those of a VMM.
chain_of() {
	local monitor vmm
	monitor=$(berth inspect -f '{{.State.MonitorPid}}' "$1")
	[ "$monitor" -gt 1 ]
	echo "$monitor"
	pgrep -P "$monitor"
	vmm=$(awk '{ print $1 }' "$TEST_DIR/state/$(berth inspect -f '{{.Id}}' "$1")/vmm" 2>/dev/null) || return 0
	echo "$vmm"
	pgrep -P "$vmm"
}

# What these have of their own, in KiB: without a guest's memory, and what is made of its code.
memory_of() {
	local pid
	for pid in $(chain_of "$1"); do
		cat "/proc/$pid/smaps"
	done | awk '/^[0-9a-f]+-/ { counted = !/berth-guest|berth-soft-code/ }
		/^Private_/ && counted { sum += $2 } END { print sum }'
}

descriptors_of() {
	local pid
	for pid in $(chain_of "$1"); do
		find "/proc/$pid/fd" -mindepth 1
	done | wc -l
}

# Notes what it is now, and that it is not much more later: a machine's may have met code that it had not met before.
remember() {
	memory=$(memory_of "$1")
	descriptors=$(descriptors_of "$1")
}
# shellcheck disable=SC2317 # called by eventually
as_many_descriptors() { [ "$(descriptors_of "$1")" -le "$descriptors" ]; }
stayed_small() {
	local now most=1024
	[ "$BERTH_ISOLATION" != vm ] || most=8192
	eventually as_many_descriptors "$1"
	now=$(memory_of "$1")
	echo "$memory KiB before, $now KiB now; $descriptors descriptors"
	[ "$now" -le $((memory + most)) ]
}

# Attaches and is killed at some moment, so many times.
attach_and_go() {
	local i pid
	for ((i = 0; i < $1; i++)); do
		berth_job attach e </dev/null >/dev/null 2>&1 3>&- &
		pid=$!
		sleep "0.0$((RANDOM % 4))"
		kill -9 "$pid"
		wait "$pid" || true
	done
}

@test "attaches that are aborted cost nothing" {
	berth run -d -i --name e busybox sh -c 'while :; do echo text; sleep 0.01; done' >/dev/null
	attach_and_go 10
	remember e
	attach_and_go "${BERTH_ATTACHES:-100}"
	stayed_small e
	expect "$(berth exec e echo answers)" answers
}

@test "what a process says passes through, and is kept nowhere" {
	local size=$((${BERTH_OUTPUT:-16} << 20))
	berth run -d --name e busybox sleep 1000 >/dev/null
	expect "$(berth exec e head -c 1000000 /dev/zero | wc -c)" 1000000
	remember e
	expect "$(berth exec e head -c "$size" /dev/zero | wc -c)" "$size"
	stayed_small e
}

@test "what a process says and nobody reads waits where it is" {
	local pid
	berth run -d --name e busybox sleep 1000 >/dev/null
	expect "$(berth exec e echo answers)" answers
	remember e
	mkfifo "$TEST_DIR/fifo"
	exec 9<>"$TEST_DIR/fifo"
	berth_job exec e sh -c 'yes >&1' >"$TEST_DIR/fifo" 3>&- 9>&- &
	pid=$!
	# Somebody who has seen a little, and reads no more.
	head -c 1000 <&9 >/dev/null
	sleep 2
	[ "$(memory_of e)" -le $((memory + 16384)) ]
	expect "$(berth exec e echo answers)" answers
	kill -9 "$pid"
	wait "$pid" || true
	exec 9>&-
	expect "$(berth exec e echo answers)" answers
}
