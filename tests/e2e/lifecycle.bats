#!/usr/bin/env bats
# The verbs: start stop restart kill rm pause unpause wait rename, container prune.
load helpers

setup() { berth_setup; }
teardown() { berth_teardown; }

# A workload that ends with 7 on SIGTERM and says when it is ready.
polite() {
	berth run -d --name "$1" busybox sh -c 'trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done' >/dev/null
	eventually bash -c "'$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' logs $1 | grep -q ready"
}

@test "stop asks with the stop signal, and the exit code is kept" {
	polite t
	expect "$(berth stop t)" t
	expect "$(state_of t)" exited
	expect "$(berth inspect -f '{{.State.ExitCode}}' t)" 7
	expect "$(berth stop t)" t
}

@test "stop kills who does not listen, after the time given" {
	berth run -d --name t busybox sh -c 'trap "" TERM; echo ready; while :; do sleep 0.05; done' >/dev/null
	eventually bash -c "'$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' logs t | grep -q ready"
	before=$SECONDS
	berth stop -t 1 t >/dev/null
	[ $((SECONDS - before)) -lt 6 ]
	expect "$(berth inspect -f '{{.State.ExitCode}}' t)" 137
}

@test "--stop-signal and stop --signal" {
	berth run -d --name t --stop-signal USR1 busybox \
		sh -c 'trap "exit 9" USR1; trap "exit 8" USR2; echo ready; while :; do sleep 0.05; done' >/dev/null
	eventually bash -c "'$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' logs t | grep -q ready"
	berth stop t >/dev/null
	expect "$(berth inspect -f '{{.State.ExitCode}}' t)" 9
	berth start t >/dev/null
	eventually bash -c "test \$('$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' logs t | grep -c ready) = 2"
	berth stop -s USR2 t >/dev/null
	expect "$(berth inspect -f '{{.State.ExitCode}}' t)" 8
}

@test "kill sends any signal, KILL by default" {
	polite t
	berth kill -s TERM t >/dev/null
	expect "$(berth wait t)" 7
	berth start t >/dev/null
	berth kill t >/dev/null
	# It has ended by then, with all that belongs to it: what comes next need not wait.
	expect "$(state_of t)" exited
	expect "$(berth cp t:/etc/passwd - | tar -t)" passwd
	expect "$(berth wait t)" 137
	run_split berth kill t
	expect "$status" 125
	expect_in "$stderr" "not running"
	run_split berth kill -s NONSENSE t
	expect "$status" 125
	expect_in "$stderr" NONSENSE
}

@test "restart gives it a new process" {
	polite t
	pid=$(berth inspect -f '{{.State.Pid}}' t)
	expect "$(berth restart t)" t
	expect "$(state_of t)" running
	[ "$(berth inspect -f '{{.State.Pid}}' t)" != "$pid" ]
}

@test "what it wrote is there after a restart" {
	berth run --name t busybox sh -c 'cat /kept 2>/dev/null; echo before >/kept'
	expect "$(berth start -a t)" before
}

@test "pause freezes, unpause goes on" {
	berth run -d --name t busybox sh -c 'while :; do echo x; sleep 0.02; done' >/dev/null
	expect "$(berth pause t)" t
	expect "$(state_of t)" paused
	expect_in "$(berth ps --format '{{.Status}}')" "(Paused)"
	before=$(berth logs t | wc -l)
	sleep 0.3
	expect "$(berth logs t | wc -l)" "$before"
	berth unpause t >/dev/null
	expect "$(state_of t)" running
	run_split berth unpause t
	expect "$status" 125
}

# As after a command that was killed between its two steps.
@test "what is said to be paused, but is not, goes on with unpause, and can be stopped" {
	only_containers "the machine's runtime is not at hand; tests/e2e/vm-harm.bats kills pause and unpause"
	polite t
	for verb in unpause "kill" "rm -f"; do
		berth start t >/dev/null
		berth pause t >/dev/null
		"$BERTH" oci --root "$TEST_DIR/state/oci" resume "$(berth inspect -f '{{.Id}}' t)"
		expect "$(state_of t)" paused
		# shellcheck disable=SC2086 # two words
		expect "$(berth $verb t)" t
		case $verb in
		unpause) expect "$(state_of t)" running ;;
		# It tells the signal, not the end.
		kill) berth wait t >/dev/null ;;
		esac
	done
}

@test "--all: stop, restart and kill of what runs, rm of what there is" {
	for name in a b; do berth run -d --init --name "$name" busybox sleep 1000 >/dev/null; done
	berth create --name c busybox true >/dev/null
	expect "$(berth restart --all | sort | xargs)" "a b"
	expect "$(berth stop -a | sort | xargs)" "a b"
	expect "$(berth kill --all)" ""
	run_split berth rm -fa c
	expect "$status" 125
	expect_in "$stderr" '--all and "c" exclude each other'
	berth start a >/dev/null
	run_split berth rm --all
	expect "$status" 125
	expect_in "$stderr" 'cannot remove "a": it is running'
	expect "$(berth ps -a --format '{{.Names}}')" a
	expect "$(berth rm -fa)" a
	expect "$(berth rm -fa)" ""
}

@test "rm refuses what runs unless forced" {
	polite t
	run_split berth rm t
	expect "$status" 125
	expect_in "$stderr" t
	expect_in "$stderr" "hint:"
	expect "$(berth rm -f t)" t
	expect "$(berth ps -aq)" ""
	run_split berth rm t
	expect "$status" 125
	run_split berth rm -f t
	expect "$status" 0
	expect "$output" ""
	expect_in "$stderr" "no such workload: t"
}

@test "of several names each is done, the failures are told, and the exit code says so" {
	berth create --name a busybox true >/dev/null
	berth create --name b busybox true >/dev/null
	run_split berth rm a nothing b
	expect "$status" 125
	expect "$output" "a
b"
	expect_in "$stderr" nothing
	expect "$(berth ps -aq)" ""
}

@test "wait gives the exit codes, also of what has ended already" {
	berth run -d --name a busybox sh -c 'sleep 0.3; exit 3' >/dev/null
	berth run --name b busybox sh -c 'exit 4' || true
	expect "$(berth wait a b)" "3
4"
}

@test "rename, and the old name is free" {
	berth create --name old busybox true >/dev/null
	berth rename old new
	expect "$(berth inspect -f '{{.Name}}' new)" /new
	berth create --name old busybox true >/dev/null
	run_split berth rename old new
	expect "$status" 125
	expect_in "$stderr" new
}

@test "an id may be cut as long as it is unique; a name that is no name is refused" {
	id=$(berth create busybox true)
	expect "$(berth inspect -f '{{.Id}}' "${id:0:12}")" "$id"
	expect "$(berth rm "${id:0:6}")" "${id:0:6}"
	run_split berth create --name 'a b' busybox true
	expect "$status" 125
	expect_in "$stderr" "a b"
	run_split berth create --name '../x' busybox true
	expect "$status" 125
}

@test "container prune removes what does not run, and only that" {
	polite runs
	berth create --name made busybox true >/dev/null
	berth run --name ended busybox true
	run_split berth container prune </dev/null
	expect "$status" 125
	expect_in "$stderr" "--force"
	berth container prune -f
	expect "$(berth ps -a --format '{{.Names}}')" runs
}
