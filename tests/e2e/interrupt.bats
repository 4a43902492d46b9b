#!/usr/bin/env bats
# A signal in the middle of a pull, a push, a load, a copy or a commit: at whatever moment it comes there is one
# message, the exit code says which signal it was, nothing is left, and the next try succeeds.
load helpers
load registries

setup() {
	berth_setup nothing
	mkdir "$TEST_DIR/registry"
	python3 "$BATS_TEST_DIRNAME/registry.py" --make "$TEST_DIR/layout" '[{"noise": 400000}, {"noise": 50000}]' >"$TEST_DIR/digests"
	python3 "$BATS_TEST_DIRNAME/registry.py" "$TEST_DIR/layout" "$TEST_DIR/registry" 3>&- &
	REGISTRY_PIDS=($!)
	eventually test -e "$TEST_DIR/registry/port"
	read -r PORT <"$TEST_DIR/registry/port" || true
	IMAGE=localhost:$PORT/test:1
}

teardown() {
	registries_end
	[ -z "${HOLDER:-}" ] || { kill "$HOLDER" 2>/dev/null || true; wait "$HOLDER" 2>/dev/null || true; }
	berth_teardown
}

# in_the_middle SIGNAL CONDITION COMMAND...: begins a command, and once the condition holds sends the signal.
# It must end with 128 + the signal's number and one message.
in_the_middle() {
	local signal=$1 condition=$2 pid status=0
	shift 2
	# Not by a function, which would be another process; and whoever runs the tests may ignore signals (nohup).
	env --default-signal="$signal" "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" "$@" >"$TEST_DIR/out" 2>"$TEST_DIR/error" 3>&- &
	pid=$!
	eventually bash -c "$condition"
	kill "-$signal" "$pid"
	wait "$pid" || status=$?
	expect "$status" $((128 + $(kill -l "$signal")))
	expect "$(grep -c '^berth: ' "$TEST_DIR/error")" 1
	expect_in "$(cat "$TEST_DIR/error")" interrupted
	expect "$(find "$TEST_DIR/root/ingest" -mindepth 1 2>/dev/null; find "$TEST_DIR/root/layers" -name 'tmp.*' 2>/dev/null)" ""
	berth system check
}

fault() { echo "$1" >"$TEST_DIR/registry/fault"; }
asked_for() { echo "grep -q '$1' '$TEST_DIR/registry/log'"; }

@test "a pull that waits for the manifest, the configuration or a layer" {
	local config layer
	config=$(python3 - "$TEST_DIR/layout" <<-'END'
		import json, sys
		dir = sys.argv[1]
		m = json.load(open(dir + "/index.json"))["manifests"][0]["digest"][7:]
		print(json.load(open(f"{dir}/blobs/sha256/{m}"))["config"]["digest"])
	END
	)
	read -r layer _ <"$TEST_DIR/digests"
	fault '{"match": "/manifests/", "do": "stall"}'
	in_the_middle TERM "$(asked_for /manifests/)" pull "$IMAGE"
	in_the_middle HUP "$(asked_for /manifests/)" pull -q "$IMAGE"
	fault "{\"match\": \"$config\", \"do\": \"stall\", \"after\": 10}"
	in_the_middle TERM "$(asked_for "$config")" pull "$IMAGE"
	fault "{\"match\": \"$layer\", \"do\": \"stall\", \"after\": 100000}"
	in_the_middle TERM "$(asked_for "$layer")" pull "$IMAGE"
	rm "$TEST_DIR/registry/fault"
	berth pull -q "$IMAGE"
}

@test "a pull that waits before it tries again" {
	fault '{"match": "/manifests/", "do": "status", "status": 503}'
	in_the_middle TERM "[ \$(grep -c /manifests/ '$TEST_DIR/registry/log') -ge 2 ]" pull "$IMAGE"
	fault '{"match": "/manifests/", "do": "status", "status": 429}'
	: >"$TEST_DIR/registry/log"
	in_the_middle TERM "$(asked_for /manifests/)" pull "$IMAGE"
}

@test "a pull from a host that takes the connection and says nothing" {
	python3 -c '
import socket, sys, time
s = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1], "w").write(str(s.getsockname()[1]))
c = s.accept()[0]
open(sys.argv[2], "w")
time.sleep(60)' "$TEST_DIR/silent.port" "$TEST_DIR/connected" 3>&- &
	HOLDER=$!
	eventually test -s "$TEST_DIR/silent.port"
	in_the_middle TERM "[ -e '$TEST_DIR/connected' ]" pull "localhost:$(cat "$TEST_DIR/silent.port")/x:1"
}

@test "a pull that waits for somebody who removes something" {
	berth pull -q "$IMAGE"
	flock -x "$TEST_DIR/root/images.lock" sh -c "touch '$TEST_DIR/held'; exec sleep 60" 3>&- &
	HOLDER=$!
	eventually test -e "$TEST_DIR/held"
	local pid status=0
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$IMAGE" >/dev/null 2>"$TEST_DIR/error" 3>&- &
	pid=$!
	# It sleeps in rt_sigtimedwait (system call 128) until it looks again.
	eventually bash -c "grep -q sigtimedwait /proc/$pid/wchan || grep -q '^128 ' /proc/$pid/syscall"
	kill -TERM "$pid"
	wait "$pid" || status=$?
	expect "$status" 143
	expect_in "$(cat "$TEST_DIR/error")" interrupted
	kill "$HOLDER"
	wait "$HOLDER" || true
	HOLDER=
}

@test "Ctrl-C in a terminal, for pull and for run" {
	fault '{"match": "/manifests/", "do": "stall"}'
	cat >"$TEST_DIR/terminal.py" <<-'END'
		import os, pty, signal, sys, time
		log, *command = sys.argv[1:]
		pid, fd = pty.fork()
		if pid == 0:
		    # A shell's job in the background ignores it.
		    signal.signal(signal.SIGINT, signal.SIG_DFL)
		    os.execv(command[0], command)
		deadline = time.monotonic() + 60
		while time.monotonic() < deadline and not (os.path.exists(log) and "/manifests/" in open(log).read()):
		    time.sleep(0.02)
		os.write(fd, b"\x03")
		text = b""
		try:
		    while piece := os.read(fd, 4096):
		        text += piece
		except OSError:
		    pass
		print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.count(b"interrupted"))
	END
	for words in pull "run --rm"; do
		rm -f "$TEST_DIR/registry/log"
		# shellcheck disable=SC2086 # several words
		expect "$(python3 "$TEST_DIR/terminal.py" "$TEST_DIR/registry/log" "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" $words "$IMAGE")" "130 1"
	done
	berth system check
}

@test "who ignores a signal is not interrupted by it" {
	local layer pid
	read -r layer _ <"$TEST_DIR/digests"
	fault "{\"match\": \"$layer\", \"do\": \"slow\"}"
	(
		trap '' HUP
		exec "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" pull -q "$IMAGE" >/dev/null 2>&1 3>&-
	) &
	pid=$!
	eventually bash -c "$(asked_for "$layer")"
	kill -HUP "$pid"
	wait "$pid"
	berth image inspect "$IMAGE" >/dev/null
}

@test "push, load and copy" {
	local fifo=$TEST_DIR/fifo
	berth pull -q "$IMAGE"
	python3 -c '
import socket, sys, time
s = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1], "w").write(str(s.getsockname()[1]))
while True:
    c = s.accept()[0]
    open(sys.argv[2], "a").write("x")
    keep = globals().setdefault("keep", []); keep.append(c)' "$TEST_DIR/silent.port" "$TEST_DIR/connected" 3>&- &
	HOLDER=$!
	eventually test -s "$TEST_DIR/silent.port"
	in_the_middle TERM "[ -e '$TEST_DIR/connected' ]" push "$IMAGE" "localhost:$(cat "$TEST_DIR/silent.port")/x:1"
	rm "$TEST_DIR/connected"
	in_the_middle TERM "[ -e '$TEST_DIR/connected' ]" copy "$IMAGE" "localhost:$(cat "$TEST_DIR/silent.port")/x:1"
	# Nobody writes to the pipe.
	mkfifo "$fifo"
	sleep 60 >"$fifo" 3>&- &
	REGISTRY_PIDS+=($!)
	in_the_middle TERM "ls '$TEST_DIR/root/ingest' | grep -q lock" load -i "$fifo"
}
