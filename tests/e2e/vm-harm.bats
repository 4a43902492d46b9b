#!/usr/bin/env bats
# What a guest does to itself, and what is done to the processes around it: it harms only itself, is told
# of in words, and leaves nothing.
#
# BERTH_KILLS=N kills so many times at random moments (default: 4), beginning with BERTH_SEED.

load helpers
BERTH_ISOLATION=vm

setup() { berth_setup; }
teardown() { berth_teardown; }

error_of() { berth inspect -f '{{.State.Error}}' "$1"; }

# shellcheck disable=SC2317 # called by eventually
says() { berth logs "$1" 2>&1 | grep -q "$2"; }

# The processes of a workload's machine: the monitor, the attendant, and those of the VMM. None, if it has no
# monitor: 0 would be the test itself for kill, and the first process of the host for pgrep.
chain_of() {
	local id monitor vmm
	id=$(berth inspect -f '{{.Id}}' "$1")
	monitor=$(berth inspect -f '{{.State.MonitorPid}}' "$1")
	[ "$monitor" -gt 1 ] || return 0
	echo "$monitor"
	pgrep -P "$monitor" || true
	vmm=$(awk '{ print $1 }' "$TEST_DIR/state/$id/vmm")
	[ "${vmm:-0}" -gt 1 ] || return 0
	echo "$vmm"
	pgrep -P "$vmm" || true
}

@test "a machine that is restarted or switched off from within has ended, and says how" {
	run berth run --name b --privileged busybox sh -c 'echo b > /proc/sysrq-trigger; sleep 100'
	[ "$status" -eq 125 ]
	expect_in "$output" 'berth: "b" ended: its virtual machine was restarted from within'
	expect_in "$(error_of b)" "restarted from within"
	expect_in "$(berth ps -a)" "restarted from within"
	run berth run --name o --privileged busybox sh -c 'echo o > /proc/sysrq-trigger; sleep 100'
	[ "$status" -eq 125 ]
	expect_in "$(error_of o)" "switched itself off"
}

@test "whichever process of a machine is killed, it is said" {
	local id which
	for which in 1 2; do
		id=$(berth run -d --name "k$which" busybox sleep 1000)
		kill -9 "$(awk '{ print $1 }' "$TEST_DIR/state/$id/vmm" | {
			read -r vmm
			echo "$vmm"
			pgrep -P "$vmm"
		} | sed -n "${which}p")"
		expect "$(berth wait "k$which")" 137
		expect "$(error_of "k$which")" "its virtual machine was killed by signal 9"
	done
}

@test "a machine that hangs is stopped all the same" {
	berth run -d --name h busybox sleep 1000
	# Its process, as if the guest did nothing any more.
	kill -STOP "$(chain_of h | tail -n 1)"
	berth stop -t 1 h
	expect "$(berth inspect -f '{{.State.ExitCode}}' h)" 137
	expect_in "$(berth ps -a)" "did not answer"
}

@test "a machine that the kernel takes long to end is waited for" {
	[ "$(id -u)" -eq 0 ] || skip "not root: a process that is slow to end is NOT tested"
	local id pid removal
	id=$(berth run -d --name e busybox sleep 1000)
	mkdir "$TEST_DIR/mount"
	touch "$TEST_DIR/file"
	coproc python3 "$BATS_TEST_DIRNAME/stuck.py" "$TEST_DIR/file" "$TEST_DIR/mount" 3>&-
	read -r -t 60 pid <&"${COPROC[0]}"
	# As if it were the machine's.
	awk '{ print $1, $22 }' "/proc/$pid/stat" >>"$TEST_DIR/state/$id/vmm"
	kill -9 "$(berth inspect -f '{{.State.MonitorPid}}' e)" "$pid"
	berth rm -f e 3>&- &
	removal=$!
	sleep 15
	kill -0 "$removal"
	echo >&"${COPROC[1]}"
	wait "$removal"
	[ ! -e "$TEST_DIR/state/$id" ]
}

@test "a flooded console fills nothing" {
	berth run -d --name f --privileged busybox sh -c 'while :; do cat /bin/busybox; done > /dev/ttyS0'
	local attendant
	attendant=$(berth inspect -f '{{.State.Pid}}' f)
	sleep 2
	expect "$(berth exec f echo answers)" answers
	[ "$(awk '/^VmRSS:/ { print $2 }' "/proc/$attendant/status")" -lt 16384 ]
	[ "$(du -sk "$TEST_DIR/state/$(berth inspect -f '{{.Id}}' f)" | cut -f1)" -lt 64 ]
	berth kill f
}

@test "a full disk is the workload's own" {
	berth run -d --name d --storage-opt size=64m busybox sh -c \
		'dd if=/dev/zero of=/fill bs=64k; sleep 1000'
	eventually says d 'No space left'
	run berth exec d sh -c 'echo more > /more && sync'
	[ "$status" -ne 0 ]
	expect "$(berth exec d sh -c 'rm /fill; echo more > /more; cat /more')" more
	[ "$(du -k "$TEST_DIR/root/workloads/$(berth inspect -f '{{.Id}}' d)/disk.ext4" | cut -f1)" -le 66000 ]
	berth kill d
}

@test "forks without end end at the limit, or with the machine" {
	run berth run --name l --pids-limit 100 busybox sh -c \
		'f() { while :; do f & done; }; f 2> /dev/null & sleep 1; echo here'
	[ "$status" -eq 0 ]
	expect "$output" here
	berth run -d --name n --memory 64m busybox sh -c 'f() { while :; do f & done; }; f 2> /dev/null'
	sleep 1
	berth rm -f n
}

@test "the machine itself is limited on the host" {
	berth run -d --name c --memory 100m --cpus 1 busybox sleep 1000
	local id dir limit
	id=$(berth inspect -f '{{.Id}}' c)
	dir=$(find /sys/fs/cgroup -type d -name "*$id*" -exec sh -c \
		'[ -e "$1/memory.max" ] || [ -e "$1/memory.limit_in_bytes" ]' - {} ';' -print)
	[ -n "$dir" ] || skip "the host has no memory controller for us"
	limit=$(cat "$dir/memory.max" 2>/dev/null || cat "$dir/memory.limit_in_bytes")
	# The guest's 256 MiB, and some for what surrounds them.
	[ "$limit" -gt $((256 << 20)) ]
	[ "$limit" -lt $((512 << 20)) ]
	grep -qx "$(chain_of c | tail -n 1)" "$dir/cgroup.procs"
	berth rm -f c
	[ ! -e "$dir" ]
}

# The processes of this test's berth, and all that are in the control groups of its workloads.
berth_processes() {
	local all=(/proc/[0-9]*/cmdline) id
	{
		grep -l -a -s -F -e "$TEST_DIR/state" -e "$TEST_DIR/root" "${all[@]}" | cut -d/ -f3
		while read -r id; do
			cat "/sys/fs/cgroup/pids/berth-$id/cgroup.procs" "/sys/fs/cgroup/berth-$id/cgroup.procs" \
				2>/dev/null
		done <"$TEST_DIR/ids"
	} | sort -nu
}

# A random number of milliseconds up to $1.
nap() { sleep "$(printf '0.%03d' $((RANDOM % ($1 + 1))))"; }

note_ids() { find "$TEST_DIR/state" -maxdepth 1 -regex '.*/[0-9a-f]*' -printf '%f\n' >>"$TEST_DIR/ids"; }

# Kills one of the processes, or the command $1.
kill_somebody() {
	local pids
	note_ids
	mapfile -t pids < <(berth_processes)
	pids+=("$1")
	kill -9 "${pids[RANDOM % ${#pids[@]}]}" 2>/dev/null || true
}

# shellcheck disable=SC2317 # called by eventually
cleared() {
	local id
	for id in $(berth ps -aq); do berth rm -f "$id" || return 1; done
	nothing_left "$(cat "$TEST_DIR/ids")" && [ -z "$(berth_processes)" ] &&
		[ -z "$(find "$TEST_DIR/state/layers" -mindepth 1 2>/dev/null)" ]
}

# The command of a round: one that starts a machine, or one that has to do with one that runs.
begin() {
	local -a with=() verbs
	local works='while :; do echo x; echo y >> /y; sleep 0.1; done'
	case $((RANDOM % 4)) in
	0) with=(-v "$TEST_DIR/share:/share") ;;
	1) with=(--read-only) ;;
	esac
	patience=300
	verbs=("run --rm" "run --name k" "run -d --name k" "run --rm --no-template" "template" "exec k sleep 1000" "stop -t 1 k" "restart -t 1 k"
		"kill k" "rm -f k" "cp k:/bin -" "commit -q k c" "pause k" "unpause k" "attach k" "export -o /dev/null k"
		"stats --no-stream k" "start k")
	verb=${verbs[$((RANDOM % ${#verbs[@]}))]}
	case $verb in
	# It is built by a process of its own, and by the trial start that follows.
	template)
		rm -rf "$TEST_DIR/root/templates"
		patience=6000
		berth_job run --rm "${with[@]}" busybox true &
		;;
	run*) berth_job $verb "${with[@]}" busybox sh -c 'echo x > /x; sleep 0.2' & ;;
	*)
		berth run -d --name k "${with[@]}" busybox sh -c "$works"
		case $verb in
		start*) berth kill k ;;
		unpause*) berth pause k ;;
		esac
		berth_job $verb &
		;;
	esac >/dev/null 2>&1
	command=$!
}

@test "whatever is killed, at whatever moment, nothing is left" {
	local i verb command patience
	RANDOM=${BERTH_SEED:-$(date +%N | sed 's/^0*//')}
	echo "BERTH_SEED=$RANDOM"
	mkdir "$TEST_DIR/share"
	for ((i = 0; i < ${BERTH_KILLS:-4}; i++)); do
		echo no-id-yet >"$TEST_DIR/ids"
		begin
		nap "$patience"
		kill_somebody "$command"
		if [ $((RANDOM % 2)) = 0 ]; then
			nap 50
			kill_somebody "$command"
		fi
		nap 200
		kill -9 "$command" 2>/dev/null || true
		wait "$command" || true
		note_ids
		# Whoever has only lost the command that started it goes on, and may still be starting.
		PATIENCE=300 eventually cleared || { echo "round $i: $verb"; berth ps -a; cleared; }
		berth system check
		# The next one starts.
		expect "$(berth run --rm busybox echo works)" works
	done
}
