#!/usr/bin/env bats
# Nothing is left of many containers that live at the same time, nor of runtimes that were killed: no mount,
# cgroup, process or file, and so no namespace, which only those could hold. LEAK_CYCLES sets how many (1000 for a long run; 40 is the default).
load helpers
load bundle

# What of the containers of this test exists on the host.
traces() {
	cgroups_left
	grep " $TEST_DIR" /proc/self/mountinfo
	ls -A "$TEST_DIR/state" | grep -v '^.seccomp$'
	grep -l -a -s "TRACE=$ID" /proc/[0-9]*/environ
	true
}

# Creates, starts, kills and deletes containers one after the other.
cycle() {
	local lane=$1 count=$2 i name
	for i in $(seq "$count"); do
		name=$ID-$lane-$i
		oci create --bundle "$TEST_DIR" "$name" </dev/null >/dev/null 2>>"$TEST_DIR/errors" || return 1
		oci start "$name" 2>>"$TEST_DIR/errors" || return 1
		oci kill "$name" KILL 2>>"$TEST_DIR/errors" || return 1
		oci delete -f "$name" 2>>"$TEST_DIR/errors" || return 1
	done
}

@test "leaks: containers that are made, started, killed and deleted eight at a time leave nothing" {
	local cycles=${LEAK_CYCLES:-40} pids=() lane
	edit "c['process']['args'] = ['sleep', '1000']; c['process']['env'].append('TRACE=$ID')"
	for lane in 1 2 3 4 5 6 7 8; do
		cycle "$lane" $((cycles / 8)) 3>&- &
		pids+=($!)
	done
	for lane in "${pids[@]}"; do wait "$lane" || { cat "$TEST_DIR/errors"; false; }; done
	expect "$(cat "$TEST_DIR/errors")" ""
	expect "$(traces)" ""
}

@test "leaks: what a runtime that is killed anywhere leaves is removed by delete -f" {
	local rounds=$((${LEAK_CYCLES:-40} / 2)) i victim command
	edit "c['process']['args'] = ['sleep', '1000']; c['process']['env'].append('TRACE=$ID')"
	for i in $(seq "$rounds"); do
		case $((i % 4)) in
		0) command=(create --bundle "$TEST_DIR" "$ID") ;;
		1) command=(start "$ID") ;;
		2) command=(exec -d "$ID" sleep 1000) ;;
		3) command=(delete -f "$ID") ;;
		esac
		[ $((i % 4)) = 0 ] || oci create --bundle "$TEST_DIR" "$ID" </dev/null >/dev/null 2>"$TEST_DIR/errors"
		[ $((i % 4)) -lt 2 ] || oci start "$ID"
		# Not through our function: a shell would be killed, and the runtime go on.
		"$BERTH" oci --root "$TEST_DIR/state" "${command[@]}" </dev/null >/dev/null 2>&1 3>&- &
		victim=$!
		sleep "0.0$(printf %02d $((RANDOM % 12)))"
		kill -9 "$victim" 2>/dev/null || true
		wait "$victim" 2>/dev/null || true
		oci list >/dev/null
		oci delete -f "$ID"
		expect "$(cgroups_left)" ""
	done
	expect "$(traces)" ""
}
