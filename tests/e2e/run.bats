#!/usr/bin/env bats
# run: what a container gets, and how it ends.
load helpers

setup() { berth_setup; }
teardown() { berth_teardown; }

@test "the output of the command is ours, stdout and stderr apart" {
	run_split berth run --rm busybox sh -c 'echo out; echo err >&2'
	expect "$status" 0
	expect "$output" out
	expect "$stderr" err
}

@test "the exit code is the command's" {
	run_split berth run --rm busybox sh -c 'exit 42'
	expect "$status" 42
	expect "$stderr" ""
}

@test "death by a signal is 128 and its number" {
	# Process 1 cannot kill itself: the kernel protects it from its own namespace.
	run_split berth run --rm busybox sh -c 'sh -c "kill -9 \$\$"; exit $?'
	expect "$status" 137
	berth run -d --name t busybox sh -c 'while :; do echo x; sleep 0.1; done' >/dev/null
	berth_job attach t >"$TEST_DIR/out" 3>&- &
	pid=$!
	eventually test -s "$TEST_DIR/out"
	berth kill t >/dev/null
	status=0
	wait "$pid" || status=$?
	expect "$status" 137
}

@test "a command that does not exist is 127, one that cannot be run 126" {
	run_split berth run --rm busybox /no/such/program
	expect "$status" 127
	expect_in "$stderr" "/no/such/program"
	run_split berth run --rm busybox nosuchprogram
	expect "$status" 127
	expect_in "$stderr" "nosuchprogram"
	run_split berth run --rm busybox /etc
	expect "$status" 126
	expect "$(berth ps -aq)" ""
}

@test "an image that is not here and cannot be pulled is 125 with a hint" {
	run_split berth run --rm --pull never nothere
	expect "$status" 125
	expect_in "$stderr" "nothere"
	expect_in "$stderr" "hint:"
	run_split berth run --rm 'Bad Name'
	expect "$status" 125
	expect "$(berth ps -aq)" ""
}

@test "stdin goes in with -i, and not without" {
	expect "$(echo hello | berth run --rm -i busybox cat)" hello
	expect "$(echo hello | berth run --rm busybox cat)" ""
	expect "$(head -c 3000000 /dev/zero | berth run --rm -i busybox wc -c)" 3000000
}

@test "much output arrives complete" {
	expect "$(berth run --rm busybox sh -c 'head -c 5000000 /dev/zero' | wc -c)" 5000000
}

@test "it is process 1 with few descriptors and its own host name, processes and network" {
	expect "$(berth run --rm busybox sh -c 'echo $$')" 1
	expect "$(berth run --rm --hostname hello busybox hostname)" hello
	expect "$(berth run --rm busybox ls /proc/self/fd | tr '\n' ' ')" "0 1 2 3 "
	expect "$(berth run --rm --network none busybox ls /sys/class/net)" lo
	expect "$(berth run --rm --net=none busybox ls /sys/class/net)" lo
	[ "$(berth run --rm --network none busybox sh -c 'readlink /proc/self/ns/net')" != "$(readlink /proc/self/ns/net)" ]
	[ "$BERTH_ISOLATION" = vm ] ||
		expect "$(berth run --rm --network host busybox sh -c 'readlink /proc/self/ns/net')" "$(readlink /proc/self/ns/net)"
}

@test "the host name is the short id by default" {
	id=$(berth run -d busybox hostname)
	berth wait "$id" >/dev/null
	expect "$(berth logs "$id")" "${id:0:12}"
}

@test "-e, --env-file, and variables passed on" {
	printf '# comment\nFROM_FILE=a b\n\nOVERRIDDEN=file\nPASSED_IN_FILE\n' >"$TEST_DIR/env"
	export PASSED_ON=here PASSED_IN_FILE=too
	run_split berth run --rm --env-file "$TEST_DIR/env" -e OVERRIDDEN=flag -e PASSED_ON -e NOT_SET busybox env
	expect_in "$output" "FROM_FILE=a b"
	expect_in "$output" "OVERRIDDEN=flag"
	expect_in "$output" "PASSED_ON=here"
	expect_in "$output" "PASSED_IN_FILE=too"
	case $output in *NOT_SET*) false ;; esac
}

@test "-w, -u, --entrypoint, --group-add" {
	expect "$(berth run --rm -w /tmp busybox pwd)" /tmp
	expect "$(berth run --rm -u 1000:1001 busybox sh -c 'id -u; id -g' | tr '\n' ' ')" "1000 1001 "
	expect "$(berth run --rm --entrypoint echo busybox a b)" "a b"
	expect_in "$(berth run --rm --group-add 4321 busybox id -G)" 4321
}

@test "-v and --mount show a directory of the host, read-only if asked" {
	mkdir "$TEST_DIR/data"
	echo content >"$TEST_DIR/data/file"
	expect "$(berth run --rm -v "$TEST_DIR/data:/d" busybox cat /d/file)" content
	berth run --rm -v "$TEST_DIR/data:/d" busybox touch /d/made
	[ -e "$TEST_DIR/data/made" ]
	run_split berth run --rm -v "$TEST_DIR/data:/d:ro" busybox touch /d/not
	[ "$status" -ne 0 ]
	[ ! -e "$TEST_DIR/data/not" ]
	expect "$(berth run --rm --mount "type=bind,src=$TEST_DIR/data,dst=/x,ro" busybox cat /x/file)" content
	run_split berth run --rm --mount "type=bind,src=$TEST_DIR/absent,dst=/x" busybox true
	expect "$status" 125
	expect_in "$stderr" "$TEST_DIR/absent"
	berth run --rm --tmpfs /t:size=1m busybox sh -c 'grep " /t tmpfs" /proc/mounts'
}

@test "--memory, --cpus and --pids-limit hold" {
	skip_in_control=$(berth run --rm --memory 64m busybox sh -c \
		'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true')
	expect "$skip_in_control" 67108864
	run_split berth run --rm --memory 32m busybox sh -c 'tail -c 100m /dev/zero | wc -c'
	[ "$status" -ne 0 ] || [ "$output" != 104857600 ]
	run_split berth run --rm --pids-limit 5 busybox sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 0.3 & done; wait'
	expect_in "$stderr" "fork"
}

@test "--read-only, and what is written is not the image's" {
	run_split berth run --rm --read-only busybox touch /x
	[ "$status" -ne 0 ]
	berth run --rm busybox touch /x
	run_split berth run --rm busybox ls /x
	[ "$status" -ne 0 ]
}

@test "capabilities: the default set, --cap-drop, --cap-add, --privileged" {
	caps() { berth run --rm "$@" busybox sh -c 'grep CapEff /proc/self/status' | cut -f 2; }
	expect "$(caps)" 00000000a80425fb
	expect "$(caps --cap-drop ALL)" 0000000000000000
	expect "$(caps --cap-drop ALL --cap-add NET_ADMIN)" 0000000000001000
	expect "$(berth run --rm --cap-add NET_ADMIN busybox grep CapInh /proc/self/status | cut -f 2)" 0000000000000000
	expect "$(caps --privileged)" "$(grep CapBnd /proc/self/status | cut -f 2)"
	run_split berth run --rm --cap-add NONSENSE busybox true
	expect "$status" 125
	expect_in "$stderr" NONSENSE
}

@test "--security-opt, --ulimit, --sysctl, --oom-score-adj, --init, --device, --shm-size" {
	expect "$(berth run --rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status | cut -f 2)" 1
	expect "$(berth run --rm --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status | cut -f 2)" 0
	expect "$(berth run --rm busybox grep Seccomp: /proc/self/status | cut -f 2)" 2
	expect "$(berth run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n; ulimit -Hn' | tr '\n' ' ')" "100 200 "
	expect "$(berth run --rm --sysctl kernel.msgmax=4096 busybox cat /proc/sys/kernel/msgmax)" 4096
	expect "$(berth run --rm --oom-score-adj 500 busybox cat /proc/self/oom_score_adj)" 500
	[ "$(berth run --rm --init busybox sh -c 'echo $$')" != 1 ]
	[ "$BERTH_ISOLATION" = vm ] || berth run --rm --device /dev/full busybox test -c /dev/full
	run_split berth run --rm busybox test -e /dev/kmsg
	[ "$status" -ne 0 ]
	expect_in "$(berth run --rm --shm-size 8m busybox df -k /dev/shm)" " 8192 "
}

@test "-t gives a terminal, of the size of ours" {
	script -qec "stty rows 33 cols 77; $BERTH --root $TEST_DIR/root --state $TEST_DIR/state run --rm -it busybox sh -c 'tty; stty size'" \
		"$TEST_DIR/typescript" >/dev/null </dev/null
	expect_in "$(cat "$TEST_DIR/typescript")" /dev/
	expect_in "$(cat "$TEST_DIR/typescript")" "33 77"
	run_split berth run --rm -it busybox true </dev/null
	expect "$status" 125
	expect_in "$stderr" "need a terminal"
}

@test "-d prints the id, --name and --cidfile" {
	id=$(berth run -d --name web --cidfile "$TEST_DIR/cid" busybox sleep 100)
	expect "${#id}" 64
	expect "$(cat "$TEST_DIR/cid")" "$id"
	expect "$(state_of web)" running
	run_split berth run -d --name web busybox true
	expect "$status" 125
	expect_in "$stderr" web
	run_split berth run --cidfile "$TEST_DIR/cid" busybox true
	expect "$status" 125
	expect_in "$stderr" "exists already"
	run_split berth run --rm --cidfile "$TEST_DIR/cid2" busybox nosuch
	[ ! -e "$TEST_DIR/cid2" ] || [ -s "$TEST_DIR/cid2" ]
}

@test "--rm removes it, also with -d, also when it is killed" {
	berth run --rm busybox true
	expect "$(berth ps -aq)" ""
	id=$(berth run -d --rm busybox sleep 0.2)
	berth wait --condition removed "$id" >/dev/null 2>&1 || true
	expect "$(berth ps -aq)" ""
	id=$(berth run -d --rm busybox sleep 100)
	berth kill "$id" >/dev/null
	eventually bash -c "! '$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' inspect $id"
}

@test "signals that we get are passed on" {
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" run --name t busybox \
		sh -c 'trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done' >"$TEST_DIR/out" &
	pid=$!
	eventually grep -q ready "$TEST_DIR/out"
	kill -TERM $pid
	status=0
	wait $pid || status=$?
	expect "$status" 7
}

@test "a container outlives its command's death by kill -9" {
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" run --name t busybox sleep 100 &
	pid=$!
	eventually in_state t running
	kill -9 $pid
	wait $pid || true
	expect "$(state_of t)" running
}

@test "--restart on-failure starts again, so often and no more" {
	berth run -d --name t --restart on-failure:2 busybox sh -c 'echo run; exit 3' >/dev/null
	eventually bash -c "'$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' ps -a --format '{{.State}}' | grep -q exited"
	expect "$(berth logs t | grep -c run)" 3
	expect "$(berth inspect -f '{{.RestartCount}} {{.State.ExitCode}}' t)" "2 3"
}

@test "sixteen at once all succeed" {
	for i in $(seq 16); do
		berth run --rm busybox sh -c "exit 0" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid"; done
	expect "$(berth ps -aq)" ""
}

@test "--replace removes who has the name, and nobody else" {
	first=$(berth run -d --name web busybox sleep 1000)
	second=$(berth run -d --replace --name web busybox sleep 1000)
	[ "$first" != "$second" ]
	expect "$(berth ps -aq --no-trunc)" "$second"
	third=$(berth create --replace --name "${second:0:12}" busybox true)
	expect "$(berth ps -aq --no-trunc)" "$third
$second"
	run_split berth run --replace busybox true
	expect "$status" 125
	expect_in "$stderr" "--replace needs --name"
}

@test "create makes it, start runs it" {
	id=$(berth create --name t busybox echo hello)
	expect "${#id}" 64
	expect "$(state_of t)" created
	expect "$(berth start t)" t
	berth wait t >/dev/null
	expect "$(berth logs t)" hello
	expect "$(berth start -a t)" hello
}
