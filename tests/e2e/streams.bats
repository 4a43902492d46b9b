#!/usr/bin/env bats
# What goes in and out: logs, exec, attach.
load helpers

setup() { berth_setup; }
teardown() { berth_teardown; }

@test "logs: both streams, each on its own" {
	berth run --name t busybox sh -c 'echo out; echo err >&2' >/dev/null 2>&1
	run_split berth logs t
	expect "$output" out
	expect "$stderr" err
	run_split berth logs --stdout t
	expect "$output$stderr" out
	run_split berth logs --stderr t
	expect "$output$stderr" err
}

@test "logs --tail, --since, --until, -t" {
	berth run --name t busybox sh -c 'for i in 1 2 3 4 5; do echo $i; done; sleep 1.1; echo late' >/dev/null
	expect "$(berth logs --tail 2 t)" "5
late"
	expect "$(berth logs -n 0 t)" ""
	expect "$(berth logs --tail all t | wc -l)" 6
	moment=$(berth logs -t t | tail -1 | cut -d ' ' -f 1)
	expect_in "$moment" T
	expect "$(berth logs --since "$moment" t)" late
	expect "$(berth logs --until "$moment" t | head -5 | tr '\n' ' ')" "1 2 3 4 5 "
	expect "$(berth logs --since 1h t | wc -l)" 6
	run_split berth logs --since yesterday t
	expect "$status" 125
	expect_in "$stderr" yesterday
	run_split berth logs --tail some t
	expect "$status" 125
}

@test "logs -f goes on until it ends" {
	berth run -d --name t busybox sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done' >/dev/null
	expect "$(timeout 60 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" logs -f t | tr '\n' ' ')" "1 2 3 "
}

@test "logs of what does not exist, of what wrote nothing, of a line without an end" {
	run_split berth logs nothing
	expect "$status" 125
	berth run --name empty busybox true
	expect "$(berth logs empty)" ""
	berth run --name part busybox printf 'no newline' >/dev/null
	expect "$(berth logs part)" "no newline"
}

@test "exec: output, exit code, environment, user, directory" {
	berth run -d --name t -e A=1 busybox sleep 100 >/dev/null
	run_split berth exec t sh -c 'echo out; echo err >&2; exit 5'
	expect "$status" 5
	expect "$output" out
	expect "$stderr" err
	expect "$(berth exec -e B=2 t sh -c 'echo $A$B')" 12
	expect "$(berth exec -u 1000 t id -u)" 1000
	expect "$(berth exec -w /tmp t pwd)" /tmp
	expect "$(echo hello | berth exec -i t cat)" hello
	expect "$(berth exec t hostname)" "$(berth inspect -f '{{.Config.Hostname}}' t)"
}

@test "exec: 127 for what is not there, 126 for what cannot run, 125 for a container that does not run" {
	berth run -d --name t busybox sleep 100 >/dev/null
	run_split berth exec t nosuchprogram
	expect "$status" 127
	expect_in "$stderr" nosuchprogram
	run_split berth exec t /etc
	expect "$status" 126
	berth stop -t 0 t >/dev/null
	run_split berth exec t true
	expect "$status" 125
	expect_in "$stderr" "not running"
	run_split berth exec nothing true
	expect "$status" 125
}

@test "exec -d runs in the background" {
	berth run -d --name t busybox sleep 100 >/dev/null
	berth exec -d t touch /made
	eventually berth exec t test -e /made
}

@test "exec -it has a terminal of our size" {
	berth run -d --name t busybox sleep 100 >/dev/null
	script -qec "stty rows 31 cols 71; $BERTH --root $TEST_DIR/root --state $TEST_DIR/state exec -it t sh -c 'tty; stty size'" \
		"$TEST_DIR/typescript" >/dev/null </dev/null
	expect_in "$(cat "$TEST_DIR/typescript")" "31 71"
	run_split berth exec -it t true </dev/null
	expect "$status" 125
}

@test "attach shows what comes and ends with the exit code" {
	local pid
	berth run -d --name t busybox sh -c 'trap "echo late; exit 6" USR1; while :; do echo x; sleep 0.1; done' >/dev/null
	berth_job attach --no-stdin t >"$TEST_DIR/out" 3>&- &
	pid=$!
	eventually test -s "$TEST_DIR/out"
	berth kill -s USR1 t >/dev/null
	status=0
	wait "$pid" || status=$?
	expect "$status" 6
	expect "$(sort -u "$TEST_DIR/out")" "late
x"
	run_split berth attach t
	expect "$status" 125
}

# Who ran it has not read it all yet when the container ends, and its own end is not this signal's to make.
@test "a signal that comes behind the end of a container hides neither output nor exit code" {
	local pid init status=0
	[ "$BERTH_ISOLATION" != vm ] || skip "a machine's end is not to be seen before its output is read"
	berth_job run --name t busybox sh -c 'trap "exit 7" USR1; yes & wait' >"$TEST_DIR/out" 3>&- &
	pid=$!
	eventually test -s "$TEST_DIR/out"
	kill -STOP "$pid"
	init=$(berth inspect -f '{{.State.Pid}}' t)
	has_filled_up() { [ "$(berth logs t | wc -c)" = "$(sleep 0.2; berth logs t | wc -c)" ]; }
	eventually has_filled_up
	berth kill -s USR1 t >/dev/null
	eventually test ! -e "/proc/$init"
	kill -INT "$pid"
	kill -CONT "$pid"
	wait "$pid" || status=$?
	expect "$status" 7
	expect "$(wc -c <"$TEST_DIR/out")" "$(berth logs t | wc -c)"
}

@test "a container ends although the command that runs it is stopped and reads nothing" {
	local pid
	berth_job run --name t busybox yes >"$TEST_DIR/out" 3>&- &
	pid=$!
	eventually test -s "$TEST_DIR/out"
	kill -STOP "$pid"
	status=0
	timeout 90 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" rm -f t || status=$?
	kill -CONT "$pid"
	wait "$pid" || true
	expect "$status" 0
}

@test "a signal that comes while a container is being started reaches it" {
	local pid monitor status=0
	[ "$BERTH_ISOLATION" != vm ] || skip "the first process of a machine ignores what it has no handler for yet"
	# Not the first process of a namespace, for the same reason.
	berth_job run --name t --pid host busybox sleep 1000 3>&- &
	pid=$!
	has_monitor() { read -r monitor _ <<<"$(cat "/proc/$pid/task/$pid/children")"; grep -q monitor "/proc/$monitor/cmdline"; }
	while ! has_monitor 2>/dev/null; do :; done
	kill -STOP "$monitor"
	passes_signals_on() { (( 0x$(awk '/^SigBlk/ { print $2 }' "/proc/$pid/status") & 2 )); }
	eventually passes_signals_on
	kill -INT "$pid"
	kill -CONT "$monitor"
	wait "$pid" || status=$?
	expect "$status" 130
}

@test "attach passes stdin on to a container with -i" {
	berth run -d -i --name t busybox sh -c 'read line; echo "got $line"' >/dev/null
	expect "$(echo hello | timeout 60 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" attach t)" "got hello"
}

@test "start -a -i connects to a container that was made with create -i" {
	berth create -i --name t busybox cat >/dev/null
	expect "$(echo hello | timeout 60 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" start -a -i t)" hello
}

@test "input that nobody reads hides neither output nor exit code" {
	local i
	berth run -d --name t busybox sleep 100 >/dev/null
	for ((i = 0; i < 10; i++)); do
		expect "$(yes 2>/dev/null | berth exec -i t sh -c 'echo said; exit 7'; echo "$?")" "said
7"
	done
	expect "$(yes 2>/dev/null | berth run --rm -i busybox sh -c 'echo said; exit 7'; echo "$?")" "said
7"
}

@test "what was typed before the detach keys arrives" {
	berth run -dit --name t busybox sh -c 'yes & read -r x; echo "$x" >/got; kill $!; sleep 100' >/dev/null
	python3 - "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" attach t <<'END'
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
# Much comes, so that there is something on its way to the command when it goes.
n = 0
while n < 100000:
    n += len(os.read(fd, 65536))
os.write(fd, b"hello\n\x10\x11")
try:
    while os.read(fd, 65536):
        pass
except OSError:
    pass
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
END
	eventually berth exec t test -s /got
	expect "$(berth exec t cat /got)" hello
}

@test "the detach keys leave it running" {
	python3 - "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" run -it --name t busybox sh -c "echo ready; exec cat" <<'END'
import os, pty, sys, time, select
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""
def until(text, seconds=60):
    global seen
    end = time.time() + seconds
    while text not in seen:
        ready, _, _ = select.select([fd], [], [], max(0, end - time.time()))
        assert ready, (text, seen)
        try:
            seen += os.read(fd, 4096)
        except OSError:
            assert text in seen, (text, seen)
            return
until(b"ready")
os.write(fd, b"hello\n")
until(b"hello\r\nhello\r\n")
os.write(fd, b"\x10\x11")
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
END
	expect "$(state_of t)" running
}
