#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # every test has a $vm of its own
# The control socket of `berth vmm run`, snapshots and going on from them.

load helpers
load guests

setup_file() {
	export guests="$BATS_FILE_TMPDIR"
	build_guest hello
	build_guest ticks
	build_guest again
	build_messages
	find_kvm
}

setup() {
	cd "$BATS_TEST_TMPDIR" || return
}

teardown() {
	if [ -n "${vm:-}" ]; then
		kill "$vm" 2> /dev/null || true
		wait "$vm" 2> /dev/null || true
	fi
}

# Starts the guest that counts through the alphabet on an accelerator, soft if none is named, paused before its
# first instruction: it would else end by itself after a few seconds.
start_paused() {
	timeout 120 "$BERTH" vmm run --memory 16m --debug-exit --accel "${1:-soft}" --kernel "$guests/ticks" \
		--control vm.sock --paused < /dev/null > letters 3>&- &
	vm=$!
	wait_for . <(until control status; do sleep 0.05; done 2> /dev/null)
}

# Starts it on an accelerator, and waits for its third letter.
start() {
	timeout 60 "$BERTH" vmm run --memory 16m --debug-exit --accel "$1" --kernel "$guests/ticks" \
		--control vm.sock < /dev/null > letters 3>&- &
	vm=$!
	wait_for c letters
}

wait_for() {
	local _
	for _ in $(seq "${WAIT:-400}"); do
		if grep -q "$1" "$2" 2> /dev/null; then return 0; fi
		sleep 0.05
	done
	echo "no $1 in $2"
	return 1
}

control() {
	"$BERTH" vmm control vm.sock "$@"
}

# Runs a command while a connection of ours has the machine run.
awake() {
	python3 -c '
import socket, subprocess, sys
s = socket.socket(socket.AF_UNIX)
s.connect("vm.sock")
s.sendall(b"{\"do\":\"wake\"}\n")
assert b"result" in s.recv(1000)
sys.exit(subprocess.call(sys.argv[1:]))' "$@"
}

# The values of these keys of the JSON on stdin.
get() {
	python3 -c '
import json, sys
value = json.load(sys.stdin)
print(*(value[key] for key in sys.argv[1:]))' "$@"
}

# Sends a line to the socket and prints the reply.
say() {
	python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect("vm.sock")
s.sendall(sys.argv[1].encode() + b"\n")
print(s.makefile().readline(), end="")' "$1"
}

@test "status says what the machine is, metrics what it has used" {
	start_paused
	run control status
	[ "$status" -eq 0 ]
	[ "$(get state accel cpus memoryBytes <<< "$output")" = "paused soft 1 16777216" ]
	run control metrics
	[[ "$(get cpuNs <<< "$output")" =~ ^\[[0-9]+\]$ ]]
	[ "$(get deviceThreadNs <<< "$output")" -gt 0 ]
	[ "$(stat -c %a vm.sock)" = 660 ]
}

stands_still() {
	start "$1"
	control pause
	[ "$(control status | get state)" = paused ]
	cp letters before
	sleep 0.5
	cmp letters before
	control resume
	wait_for z letters
	code=0
	wait "$vm" || code=$?
	vm=
	[ "$code" -eq 43 ]
	[ "$(tr -d '\n' < letters)" = abcdefghijklmnopqrstuvwxyz ]
}

@test "a paused guest stands still, and goes on" {
	on_each stands_still
}

runs_for_who_wakes() {
	start "$1"
	control pause
	letters=$(cat letters)
	awake bash -c 'for i in $(seq 200); do [ "$(cat letters)" = "$1" ] || exit 0; sleep 0.05; done; exit 1' - "$letters"
	[ "$(control status | get state)" = paused ]
	letters=$(cat letters)
	sleep 0.5
	[ "$(cat letters)" = "$letters" ]
	# Nor can it be saved meanwhile, but afterwards.
	run awake "$BERTH" vmm control vm.sock snapshot saved
	[ "$status" -ne 0 ]
	control snapshot saved
	control resume
	wait_for z letters
	wait "$vm" || true
	vm=
}

@test "a paused guest runs while somebody has woken it, and no longer" {
	on_each runs_for_who_wakes
}

@test "stop ends the machine at once, and the socket goes with it" {
	start soft
	control stop
	code=0
	wait "$vm" || code=$?
	vm=
	[ "$code" -eq 0 ]
	[ ! -e vm.sock ]
	run control status
	[ "$status" -eq 125 ]
	[[ "$output" == *"vm.sock"* ]]
}

@test "what is no request is answered in words, and harms nothing" {
	start_paused
	[[ "$(say 'nonsense')" == *'"error"'*'the request'* ]]
	[[ "$(say '{"do":"dance","id":7}')" == *'dance'*'"id":7'* ]]
	[[ "$(say '{"do":"disk","index":0}')" == *'there is no disk 0'* ]]
	[[ "$(say '{"do":"snapshot"}')" == *'3 descriptors'* ]]
	[[ "$(say "$(head -c 20000 /dev/zero | tr '\0' x)")" == *'at most 16384 bytes'* ]]
	[ "$(control status | get state)" = paused ]
}

@test "clients that hang hold up nobody" {
	start_paused
	python3 -c '
import socket, time
hung = []
for _ in range(40):
    s = socket.socket(socket.AF_UNIX)
    s.connect("vm.sock")
    try:
        s.sendall(b"{\"do\":\"metr")
    except BrokenPipeError:
        pass
    hung.append(s)
reader = socket.socket(socket.AF_UNIX)
reader.connect("vm.sock")
reader.setblocking(False)
try:
    while True:
        reader.send(b"{\"do\":\"metrics\"}\n" * 100)
except BlockingIOError:
    pass
print("full", flush=True)
time.sleep(60)' > hung 3>&- &
	python=$!
	wait_for full hung
	run timeout 20 "$BERTH" vmm control vm.sock status
	kill "$python"
	wait "$python" || true
	[ "$status" -eq 0 ]
	[ "$(get state <<< "$output")" = paused ]
	control resume
	wait_for z letters
}

# Of the guest's line nothing is kept but what its FIFO holds: neither for a reader that stands still, nor for none.
@test "a guest that floods its serial line costs nothing, and is answered for" {
	gcc -m32 -nostdlib -static -no-pie -Wl,--build-id=none,-Ttext=0x100000,-N,--no-warn-rwx-segments \
		-o "$guests/flood" "$BATS_TEST_DIRNAME/../guest/flood.S"
	mkfifo line
	exec 9<> line
	timeout 60 "$BERTH" vmm run --memory 16m --accel soft --kernel "$guests/flood" --control vm.sock \
		< /dev/null > line 3>&- 9>&- &
	vm=$!
	# It has begun, and then nobody reads.
	[ "$(head -c 100 <&9 | tr -d f)" = "" ]
	for _ in 1 2 3; do
		before=$(control metrics | get maxResidentBytes)
		sleep 1
		[ "$(control status | get state)" = running ]
		[ "$(control metrics | get maxResidentBytes)" -lt $((before + (4 << 20))) ]
	done
	control stop
	wait "$vm"
	vm=
	exec 9>&-
	# A reader that goes while the guest writes.
	mkfifo done
	timeout 60 "$BERTH" vmm run --memory 16m --accel soft --kernel "$guests/flood" --control vm.sock \
		< /dev/null 3>&- > >(head -c 100000 > /dev/null; echo > done) &
	vm=$!
	read -r < done
	for _ in 1 2 3; do
		[ "$(control status | get state)" = running ]
		sleep 1
	done
	control stop
	wait "$vm"
	vm=
}

@test "the listening socket can be given as a descriptor" {
	python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind("vm.sock")
s.listen()
os.dup2(s.fileno(), 9, inheritable=True)
os.execv(sys.argv[1], sys.argv[1:])' "$(type -P "$BERTH")" vmm run --memory 16m --debug-exit --accel soft \
		--kernel "$guests/ticks" --control fd:9 --paused < /dev/null > letters 3>&- &
	vm=$!
	wait_for . <(until control status; do sleep 0.05; done 2> /dev/null)
	[ "$(control status | get state)" = paused ]
	control stop
	wait "$vm"
	vm=
	run "$BERTH" vmm run --kernel "$guests/ticks" --control fd:77
	[ "$status" -eq 125 ]
	[[ "$output" == *"fd:77"* ]]
	run "$BERTH" vmm run --kernel "$guests/ticks" --control fd:9 9< /dev/null
	[ "$status" -eq 125 ]
	[[ "$output" == *"fd:9 is no socket that listens"* ]]
}

@test "nobody takes the socket of a machine that runs, or the place of a file" {
	start_paused
	run timeout 20 "$BERTH" vmm run --accel soft --kernel "$guests/ticks" --control vm.sock < /dev/null
	[ "$status" -eq 125 ]
	[[ "$output" == *"somebody listens on vm.sock"*"hint: "* ]]
	[ "$(control status | get state)" = paused ]
	touch file
	run timeout 20 "$BERTH" vmm run --accel soft --kernel "$guests/ticks" --control file < /dev/null
	[ "$status" -eq 125 ]
	[[ "$output" == *"file exists and is no socket"*"hint: "* ]]
	[ -f file ]
	run timeout 20 "$BERTH" vmm run --accel soft --kernel "$guests/ticks" --paused < /dev/null
	[ "$status" -eq 125 ]
	[[ "$output" == *"--paused needs --control"* ]]
	# What one that was killed has left is no obstacle.
	control stop
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("vm.sock")'
	start_paused
}

snapshot_and_restore() {
	start "$1"
	control snapshot --then stop saved
	wait "$vm"
	vm=
	# Twice from the same one, and the snapshot has not changed.
	for _ in 1 2; do
		run timeout 60 "$BERTH" vmm run --restore saved < /dev/null
		[ "$status" -eq 43 ]
		# no letter twice, and none left out
		[ "$(tr -d '\n' < letters)$(tr -d '\n' <<< "$output")" = abcdefghijklmnopqrstuvwxyz ]
	done
}

@test "a guest with a running timer goes on from a snapshot" {
	on_each snapshot_and_restore
}

# The interrupt's message is in the device's table, and what sends it is made anew.
interrupts_go_on() {
	timeout 60 "$BERTH" vmm run --memory 16m --debug-exit --accel "$1" --kernel "$guests/messages" \
		--append wait --control vm.sock < /dev/null > said 3>&- &
	vm=$!
	wait_for ready said
	control snapshot --then stop saved
	wait "$vm"
	vm=
	run timeout 60 "$BERTH" vmm run --restore saved <<< go
	[ "$status" -eq 1 ]
	[ "$output" = "messages passed" ]
}

@test "a device's interrupts come after a snapshot" {
	on_each interrupts_go_on
}

can_be_saved_at_once() {
	start_paused "$1"
	control snapshot --then stop saved
	wait "$vm"
	vm=
	run timeout 60 "$BERTH" vmm run --restore saved < /dev/null
	[ "$status" -eq 43 ]
	[ "$(tr -d '\n' <<< "$output")" = abcdefghijklmnopqrstuvwxyz ]
}

@test "a machine that has not run yet can be saved" {
	on_each can_be_saved_at_once
}

goes_on_or_waits() {
	start "$1"
	control snapshot saved
	wait_for z letters
	code=0
	wait "$vm" || code=$?
	[ "$code" -eq 43 ]
	[ "$(tr -d '\n' < letters)" = abcdefghijklmnopqrstuvwxyz ]
	timeout 60 "$BERTH" vmm run --restore saved --paused --control vm.sock < /dev/null > rest 3>&- &
	vm=$!
	for _ in $(seq 100); do [ -S vm.sock ] && break; sleep 0.05; done
	[ "$(control status | get state)" = paused ]
	[ ! -s rest ]
	control snapshot again
	control resume
	wait_for z rest
	wait "$vm" || true
	vm=
}

@test "a machine goes on after its snapshot, and can wait for a request after a restore" {
	on_each goes_on_or_waits
}

# The rest of what it remembers is the same, and it has done nothing yet.
@test "every copy of a machine has a generation id of its own" {
	local copy
	start_paused
	control snapshot --then stop saved
	wait "$vm"
	vm=
	for copy in first second; do
		timeout 60 "$BERTH" vmm run --restore saved --paused --control vm.sock < /dev/null > rest 3>&- &
		vm=$!
		wait_for . <(until control status; do sleep 0.05; done 2> /dev/null)
		control snapshot --then stop "$copy"
		wait "$vm"
		vm=
		[ "$(cmp -l saved/memory "$copy/memory" | wc -l)" -ge 8 ]
		[ "$(cmp -l saved/memory "$copy/memory" | wc -l)" -le 16 ]
	done
	[ "$(cmp -l first/memory second/memory | wc -l)" -ge 8 ]
}

# Some of these come while the guest's reset is under way: they are refused, or complete.
@test "a guest that is about to reset does so in its copies, too" {
	timeout 120 "$BERTH" vmm run --memory 2m --debug-exit --accel soft --kernel "$guests/again" \
		--control vm.sock < /dev/null 3>&- &
	vm=$!
	wait_for . <(until control status; do sleep 0.05; done 2> /dev/null)
	for i in $(seq 100); do
		control snapshot "saved$i" 2> why || {
			grep -q "at this very moment" why
			continue
		}
		run timeout 20 "$BERTH" vmm run --no-reset --restore "saved$i" < /dev/null
		[ "$status" -eq 124 ]
		rm -r "saved$i"
	done
}

@test "what a killed snapshot has left behind is taken over, what another writes is not" {
	start_paused
	mkdir saved.partial
	echo old > saved.partial/state
	run flock saved.partial "$BERTH" vmm control vm.sock snapshot saved
	[ "$status" -eq 125 ]
	[[ "$output" == *"another snapshot is being written to saved.partial"* ]]
	[ "$(cat saved.partial/state)" = old ]
	control snapshot --then stop saved
	wait "$vm"
	vm=
	[ ! -e saved.partial ]
	run timeout 60 "$BERTH" vmm run --restore saved < /dev/null
	[ "$status" -eq 43 ]
}

@test "snapshots that cannot be made or used are refused, and nothing is left" {
	start_paused
	mkdir there
	run control snapshot there
	[ "$status" -eq 125 ]
	[[ "$output" == *"there exists already"* ]]
	run control snapshot nowhere/there
	[ "$status" -eq 125 ]
	[[ "$output" == *"nowhere/there"* ]]
	control snapshot --then stop saved
	wait "$vm"
	vm=
	run "$BERTH" vmm run --restore saved --memory 32m
	[ "$status" -eq 125 ]
	[[ "$output" == *"--memory"* ]]
	run "$BERTH" vmm run --restore saved --append x
	[ "$status" -eq 125 ]
	[[ "$output" == *"--append goes only with --kernel"* ]]
	truncate -s 1m disk
	run "$BERTH" vmm run --restore saved --disk disk
	[ "$status" -eq 125 ]
	[[ "$output" == *"virtio-blk 0"*"hint: "* ]]
	cp -r saved short
	truncate -s 1m short/memory
	run "$BERTH" vmm run --restore short
	[ "$status" -eq 125 ]
	[[ "$output" == *"restore short"*memory* ]]
	cp -r saved cut
	truncate -s -100 cut/state
	run "$BERTH" vmm run --restore cut
	[ "$status" -eq 125 ]
	[[ "$output" == *"damaged"* ]]
	cp -r saved other
	sed -i 's/"cpu": "[0-9a-f]*"/"cpu": "0"/' other/machine.json
	run "$BERTH" vmm run --restore other
	[ "$status" -eq 125 ]
	[[ "$output" == *"other features"*"hint: "* ]]
	[ -z "$(find . -name '*.partial')" ]
}

# What a guest prepares, waits for a line, and does then. The driver for generation ids has the kernel's random
# generator start anew; without it (Debian's 6.1) that is the guest's own to do (docs/vm.md).
make_forker() {
	mkdir -p forker/bin forker/dev forker/proc forker/sys
	cp "$(type -P busybox)" forker/bin
	gcc -O1 -static -o forker/bin/reseed "$BATS_TEST_DIRNAME/../guest/reseed.c"
	cat > forker/init <<- 'END'
		#!/bin/busybox sh
		/bin/busybox --install -s /bin
		export PATH=/bin
		mount -t proc none /proc
		mount -t sysfs none /sys
		mount -t devtmpfs none /dev
		for m in $(cat /modules/order); do insmod "/modules/$m"; done
		exec 4< /init
		read -r line <&4
		while :; do
			n=$((n + 1))
			usleep 100000
			echo "tick $n"
		done &
		read -r line
		if [ -d /sys/bus/acpi/drivers/vmgenid ]; then
			until dmesg | grep -q 'machine fork'; do usleep 10000; done
		else
			head -c 64 /dev/hwrng > /dev/urandom
			reseed
		fi
		echo "random $(head -c 32 /dev/urandom | hexdump -v -e '1/1 "%02x"') end"
		read -r line <&4
		echo "line $line end"
		wait
	END
	chmod +x forker/init
	(cd forker && find . | cpio -o -H newc --quiet) > initrd
}

# ten_copies RELEASE: of a machine with Debian's kernel.
ten_copies() {
	local i kernel pids=()
	kernel=$(kept_kernel "$1")
	make_forker
	timeout 300 "$BERTH" vmm run --memory 128m --cpus 2 --accel soft --kernel "$kernel/vmlinux" --modules \
		"$kernel/initramfs" --initrd initrd --append "console=ttyS0 quiet" --control vm.sock < /dev/null > log 3>&- &
	vm=$!
	WAIT=4000 wait_for "tick 3" log
	control snapshot --then stop saved
	wait "$vm"
	vm=
	for i in $(seq 10); do
		timeout 300 "$BERTH" vmm run --restore saved <<< go > "log$i" 3>&- &
		pids+=($!)
	done
	for i in $(seq 10); do
		WAIT=4000 wait_for "line /bin/busybox --install -s /bin end" "log$i"
		WAIT=4000 wait_for "tick 9" "log$i"
	done
	kill "${pids[@]}"
	wait || true
	[ "$(cat log?* | grep -o 'random [0-9a-f]\{64\} end' | sort -u | wc -l)" -eq 10 ]
}

@test "ten copies of a running Linux 6.1 go on, each with random numbers of its own if it starts them anew" {
	ten_copies 6.1
}

@test "ten copies of a running Linux 6.12 go on, each with random numbers of its own" {
	ten_copies 6.12
}
