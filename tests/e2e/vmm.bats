#!/usr/bin/env bats
# berth vmm run, with small guests that need neither a distribution's kernel nor a network.

load helpers
load guests

setup_file() {
	export guests="$BATS_FILE_TMPDIR"
	local source
	for source in "$BATS_TEST_DIRNAME"/../guest/*.S; do build_guest "$(basename "$source" .S)"; done
	build_messages
	build_smp
	find_kvm
}

vm() {
	timeout 60 "$BERTH" vmm run --memory 16m --debug-exit "$@" < /dev/null
}

says_hello() {
	run vm --accel "$1" --kernel "$guests/hello"
	[ "$status" -eq 43 ]
	[ "$output" = "hello from the guest" ]
}

@test "a multiboot kernel runs and ends with its code" {
	on_each says_hello
}

# raises EXCEPTIONS ACCELERATOR: tests/guest/exceptions.S has a letter for each.
raises() {
	run vm --accel "$2" --kernel "$guests/exceptions" --append "$1"
	[ "$status" -eq 1 ]
	[ "$output" = "$1" ]
}

@test "exceptions that the CPU raises reach the guest's handlers" {
	raises dpuxs soft
	needs_kvm
	raises dp kvm
	needs_hardware "x87's and SSE's arithmetic and a return by IRET in 32 bits are"
	raises dpuxs kvm
}

pages() {
	run vm --accel "$1" --kernel "$guests/paging"
	[ "$status" -eq 1 ]
}

@test "both kinds of 32-bit paging, with pages of both sizes" {
	pages soft
	needs_hardware "paging in 32 bits is"
	pages kvm
}

is_whole() {
	local at
	for at in 0x4000 0x1f000 0x70000; do
		build_guest low "$at"
		run vm --accel "$1" --memory 8m --kernel "$guests/low" --append "one two"
		[ "$status" -eq 1 ]
		[ "$output" = "low one two" ]
	done
}

@test "a kernel that lies where a loader would put what it passes on is not written over" {
	on_each is_whole
}

# smp CPUS ACCELERATOR TEST=ROUNDS...: what CPUs have to agree on (tests/guest/smp/smp.c).
smp() {
	local cpus=$1 accel=$2
	shift 2
	run vm --accel "$accel" --cpus "$cpus" --kernel "$guests/smp" --append "$*"
	[ "$status" -eq 1 ]
	[ "$output" = "$(printf '%s passed\n' "${@%=*}")" ]
}

agree() {
	smp 2 "$1" order=20000 message=100000 lock=100000 add=20000 across=20000 pair=200000 code=2000 \
		shootdown=2000 wake=2000 nmi=500
	smp 4 "$1" add=5000 across=5000 pair=20000 code=200 shootdown=500 wake=500
}

@test "CPUs agree on order, sums, pairs, translations, code and interrupts" {
	agree soft
	needs_kvm
	smp 2 kvm order=50 message=500 lock=100 add=2000 code=10 shootdown=16 wake=10 nmi=5
	smp 4 kvm add=500 code=10 shootdown=16 wake=10
	needs_hardware "locked instructions of 16 bytes, and such across two pages, are"
	agree kvm
}

sends_messages() {
	run vm --accel "$1" --kernel "$guests/messages"
	[ "$status" -eq 1 ]
	[ "$output" = "messages passed" ]
}

@test "a device's interrupts come at the vector that the guest has set, and wait while it is masked" {
	on_each sends_messages
}

follows_window() {
	cat > terminal.py <<-'EOF'
		import fcntl, os, pty, struct, sys, termios, time

		pid, terminal = pty.fork()
		if pid == 0:
		    os.execvp(sys.argv[1], sys.argv[1:])
		while termios.tcgetattr(terminal)[3] & termios.ICANON:
		    time.sleep(0.01)
		fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 25, 100, 0, 0))
		sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
	EOF
	run timeout 60 python3 terminal.py "$BERTH" vmm run --memory 16m --debug-exit \
		--accel "$1" --serial none --console stdio --kernel "$guests/window"
	[ "$status" -eq 201 ]
}

@test "the console's terminal is in raw mode; the console's size is the terminal's, and follows it" {
	on_each follows_window
}

finds_devices() {
	run vm --accel "$1" --cpus 3 --memory 8m --kernel "$guests/testdev" --append "one two"
	[ "$status" -eq 1 ]
	[ "$output" = "testdev one two 3 8" ]
}

@test "test kernels find their name, CPUs, memory and devices" {
	on_each finds_devices
}

unpacks_itself() {
	objcopy -O binary "$guests/bzimage" bzimage
	printf '\007' > initrd
	run vm --accel "$1" --kernel bzimage --initrd initrd --append "one two"
	[ "$status" -eq 15 ]
	[ "$output" = "one two" ]
	run vm --accel "$1" --memory 2m --kernel bzimage
	[ "$status" -eq 125 ]
	[[ "$output" == *"bzimage needs memory at 0x210000"* ]]
}

@test "a bzImage that only its own code can unpack is entered by the 32-bit protocol" {
	on_each unpacks_itself
}

@test "a bzImage that starts in real mode is refused, with what it needs" {
	objcopy -O binary "$guests/bzimage" "$BATS_TEST_TMPDIR/real"
	printf '\0\0\0\0' | dd of="$BATS_TEST_TMPDIR/real" bs=1 seek=$((0x214)) conv=notrunc status=none
	run vm --accel soft --kernel "$BATS_TEST_TMPDIR/real"
	[ "$status" -eq 125 ]
	[[ "$output" == *"starts in real mode and needs a BIOS"*"hint: "* ]]
}

@test "--accel auto says in one line what it chose and why" {
	run vm --debug --kernel "$guests/hello"
	[ "$status" -eq 43 ]
	[ "$(grep -c '^berth: accelerator \(kvm\|soft\): ' <<< "$output")" -eq 1 ]
}

resets() {
	run vm --accel "$1" --kernel "$guests/reset"
	[ "$status" -eq 3 ]
	[ "$output" = "first
second" ]
	run vm --accel "$1" --no-reset --kernel "$guests/reset"
	[ "$status" -eq 124 ]
	[ "$output" = "first" ]
}

@test "a guest may reset itself, and starts anew; --no-reset makes that the end" {
	on_each resets
}

faults() {
	run timeout 2 "$BERTH" vmm run --memory 16m --accel "$1" --kernel "$guests/fault" < /dev/null
	[ "$status" -eq 124 ]
	[ "$(grep -c started <<< "$output")" -gt 1 ]
}

@test "a triple fault is a reset, too" {
	on_each faults
}

@test "the serial line goes to a file" {
	run vm --accel soft --serial "file:$BATS_TEST_TMPDIR/log" --kernel "$guests/hello"
	[ "$status" -eq 43 ]
	[ -z "$output" ]
	[ "$(cat "$BATS_TEST_TMPDIR/log")" = "hello from the guest" ]
}

# A system that says "ready" and sends back what it is sent.
make_echo() {
	cd "$BATS_TEST_TMPDIR" || return 1
	gcc -c -m32 -Wa,-I"$BATS_TEST_DIRNAME/../guest/disk" -o echo.o "$BATS_TEST_DIRNAME/../guest/disk/echo.S"
	ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o echo.raw echo.o
	truncate -s 1M echo.raw
}

@test "on a terminal ctrl-a x ends the machine, elsewhere it is a key like any other" {
	make_echo
	run timeout 60 python3 - "$BERTH" vmm run --accel soft --memory 16m --firmware bios --disk echo.raw <<-'EOF'
		import os, pty, sys
		pid, terminal = pty.fork()
		if pid == 0:
		    os.execvp(sys.argv[1], sys.argv[1:])
		said = b""
		while b"ready" not in said:
		    said += os.read(terminal, 1000)
		os.write(terminal, b"\001x")
		sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
	EOF
	[ "$status" -eq 0 ]
	mkfifo line
	timeout 60 "$BERTH" vmm run --accel soft --memory 16m --firmware bios --disk echo.raw < line > said 3>&- &
	exec 4> line
	for _ in $(seq 400); do if grep -q ready said; then break; fi; sleep 0.05; done
	printf 'a\001xyz' >&4
	for _ in $(seq 400); do if grep -q xyz said; then break; fi; sleep 0.05; done
	kill %%
	wait || true
	grep -q "$(printf 'a\001xyz')" said
}

@test "the serial line can be a pseudo terminal" {
	make_echo
	timeout 60 "$BERTH" vmm run --accel soft --memory 16m --firmware bios --disk echo.raw --serial pty \
		< /dev/null 2> name 3>&- &
	for _ in $(seq 400); do if grep -q dev/pts name; then break; fi; sleep 0.05; done
	run timeout 60 python3 - "$(sed 's/.* is //' name)" <<-'EOF'
		import os, sys
		terminal = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
		said = b""
		while b"ready" not in said:
		    said += os.read(terminal, 1000)
		os.write(terminal, b"a\001xyz")
		while b"a\001xyz" not in said:
		    said += os.read(terminal, 1000)
	EOF
	kill %%
	wait || true
	[ "$status" -eq 0 ]
}

@test "what is no kernel is refused by name" {
	echo nonsense > "$BATS_TEST_TMPDIR/file"
	run vm --kernel "$BATS_TEST_TMPDIR/file"
	[ "$status" -eq 125 ]
	[[ "$output" == *"$BATS_TEST_TMPDIR/file is not a kernel"* ]]
	[[ "$output" == *"hint: "* ]]
}

@test "a damaged kernel and a missing disk are refused by name" {
	head -c 120 "$guests/hello" > "$BATS_TEST_TMPDIR/short"
	run vm --accel soft --kernel "$BATS_TEST_TMPDIR/short"
	[ "$status" -eq 125 ]
	[[ "$output" == *"$BATS_TEST_TMPDIR/short"* ]]
	run vm --accel soft --kernel "$guests/hello" --disk /nowhere/disk
	[ "$status" -eq 125 ]
	[[ "$output" == *"the disk /nowhere/disk"* ]]
}

@test "wrong options are refused with the right ones" {
	run vm --kernel "$guests/hello" --disk "$guests/hello,rw"
	[ "$status" -eq 125 ]
	[[ "$output" == *'"rw"'*"hint: "* ]]
	run vm --kernel "$guests/hello" --net tap=x,mac=01:00:00:00:00:00
	[ "$status" -eq 125 ]
	run vm --kernel "$guests/hello" --cpus 65
	[ "$status" -eq 125 ]
	[[ "$output" == *"1 to 64 CPUs"* ]]
	run vm --kernel "$guests/hello" --memory 1k
	[ "$status" -eq 125 ]
	[[ "$output" == *"1 MiB to 256 GiB of memory, not 1024 bytes"* ]]
	run vm --kernel "$guests/hello" --initrd nowhere
	[ "$status" -eq 125 ]
	[[ "$output" == *"open the initrd nowhere: "* ]]
	run vm --kernel "$guests/hello" --serial file:
	[ "$status" -eq 125 ]
	[[ "$output" == *'"file:"'*"hint: it takes stdio, pty, none or file:FILE"* ]]
	run vm --kernel "$guests/hello" --port a=file:/dev/null --port a=file:/dev/null
	[ "$status" -eq 125 ]
	[[ "$output" == *'two ports have the name "a"'* ]]
}

@test "a tap that is not there, and what is no tap, are refused with how to make one" {
	local how="hint: make one with: ip tuntap add dev"
	run vm --accel soft --kernel "$guests/hello" --net tap=nowhere0
	[ "$status" -eq 125 ]
	[[ "$output" == *"there is no tap nowhere0"*"$how nowhere0 mode tap vnet_hdr" ]]
	[ "$(id -u)" -eq 0 ] || skip "not root: what is no tap is NOT tested"
	run vm --accel soft --kernel "$guests/hello" --net tap=lo,queues=2
	[ "$status" -eq 125 ]
	[[ "$output" == *"lo is no tap with several queues"*"$how lo mode tap vnet_hdr multi_queue" ]]
}

@test "the machine runs in a jail: another user, an empty root, no capabilities, filters" {
	timeout 60 "$BERTH" vmm run --memory 16m --accel soft --cpus 2 --kernel "$guests/ticks" --serial none \
		--paused --control "$BATS_TEST_TMPDIR/vm.sock" < /dev/null 3>&- &
	pid=$!
	machine=
	for _ in $(seq 200); do
		machine=$(pgrep -n -f "vmm run .*$guests/ticks --serial none")
		status=$(cat "/proc/$machine"/task/*/status 2> /dev/null || true)
		if [ "$(grep -c '^Seccomp:	2' <<< "$status")" -eq 3 ]; then break; fi
		sleep 0.05
	done
	[ "$(grep -c '^Seccomp:	2' <<< "$status")" -eq 3 ]
	status=$(cat "/proc/$machine/status")
	[ "$(grep -c '^Cap\(Prm\|Eff\|Bnd\|Amb\|Inh\):	0000000000000000' <<< "$status")" -eq 5 ]
	[ "$(awk '/^Uid/ { print $2 }' <<< "$status")" -ne 0 ]
	for space in pid mnt net ipc uts user; do
		[ "$(readlink "/proc/$machine/ns/$space")" != "$(readlink "/proc/self/ns/$space")" ]
	done
	[ -z "$(ls -A "/proc/$machine/root")" ]
	# nothing of ours has been inherited but standard error
	[ -z "$(find "/proc/$machine/fd" -lname '*bats*' -not -lname "$guests/ticks" -not -name 2)" ]
	kill -TERM "$pid"
	code=0
	wait "$pid" || code=$?
	[ "$code" -eq 143 ]
	[ ! -e "/proc/$machine/status" ]
}

@test "only the threads that serve a directory have rights, and none of the host's root" {
	[ "$(id -u)" -eq 0 ] || skip "not root: shared directories in the jail are NOT tested"
	mkdir "$BATS_TEST_TMPDIR/data"
	timeout 60 "$BERTH" vmm run --memory 16m --accel soft --cpus 2 --kernel "$guests/ticks" --serial none \
		--share "$BATS_TEST_TMPDIR/data,tag=data" --paused --control "$BATS_TEST_TMPDIR/vm.sock" < /dev/null 3>&- &
	pid=$!
	for _ in $(seq 200); do
		machine=$(pgrep -n -f "vmm run .*--share $BATS_TEST_TMPDIR/data")
		status=$(cat "/proc/$machine"/task/*/status 2> /dev/null || true)
		if [ "$(grep -c '^Seccomp:	2' <<< "$status")" -eq 5 ]; then break; fi
		sleep 0.05
	done
	users=$(awk '{ print $2 }' "/proc/$machine/uid_map")
	kill -TERM "$pid"
	wait "$pid" || true
	# Two CPUs and the devices have none; the two that serve have a few.
	[ "$(grep -c '^Seccomp:	2' <<< "$status")" -eq 5 ]
	[ "$(grep -c '^NoNewPrivs:	1' <<< "$status")" -eq 5 ]
	[ "$(grep -c '^CapPrm:	0000000000000000' <<< "$status")" -eq 3 ]
	[ "$(grep -c '^CapPrm:	00000000800000db' <<< "$status")" -eq 2 ]
	for user in $users; do
		[ "$user" -ge $((0x6fff0000)) ]
	done
}

@test "the machine runs in a jail also for who is not root" {
	[ "$(id -u)" -eq 0 ] || skip "not root: the other tests do"
	program=$BATS_TEST_TMPDIR/berth
	cp "$BERTH" "$program" 2> /dev/null || cp "$(type -P "$BERTH")" "$program"
	chmod 755 "$BATS_RUN_TMPDIR" "$guests" "$BATS_TEST_TMPDIR" "$BATS_TEST_TMPDIR/.." "$BATS_TEST_TMPDIR/../.."
	HOME=/nowhere run setpriv --reuid 23456 --regid 23456 --clear-groups \
		timeout 60 "$program" vmm run --memory 16m --debug-exit --accel soft --kernel "$guests/hello" < /dev/null
	[ "$status" -eq 43 ]
	[ "$output" = "hello from the guest" ]
}

# The sum of what is the machine's alone, in KiB, without the guest's memory and the code cache: generated code, and
# decoded code, for which alone it is said whether it may lie in huge pages.
private_memory() {
	awk '/^[0-9a-f]+-/ { counted = !/berth-guest|berth-soft-code/; here = 0 }
		/^Private_/ { here += $2 }
		/^VmFlags:/ && counted && !/ (hg|nh)( |$)/ { sum += here } END { print sum }' "/proc/$1/smaps"
}

@test "the machine has at most 5 MiB of memory of its own" {
	truncate -s 1m "$BATS_TEST_TMPDIR/disk"
	for accel in soft kvm; do
		if [ "$accel" = kvm ]; then needs_kvm; fi
		log=$BATS_TEST_TMPDIR/$accel
		timeout 60 "$BERTH" vmm run --memory 64m --accel "$accel" --cpus 2 --kernel "$guests/ticks" \
			--disk "$BATS_TEST_TMPDIR/disk" --serial "file:$log" < /dev/null 3>&- &
		pid=$!
		for _ in $(seq 400); do
			if grep -q b "$log" 2> /dev/null; then break; fi
			sleep 0.05
		done
		size=$(private_memory "$(pgrep -n -f "vmm run .*--serial file:$log")")
		kill -TERM "$pid"
		wait "$pid" || true
		echo "$accel: $size KiB"
		[ "$size" -gt 50 ]
		[ "$size" -le 5120 ]
	done
}

@test "a disk is waited for as long as the kernel takes to end who had it" {
	[ "$(id -u)" -eq 0 ] || skip "not root: a process that is slow to end is NOT tested"
	local pid machine status=0
	truncate -s 1M "$BATS_TEST_TMPDIR/disk.raw"
	mkdir "$BATS_TEST_TMPDIR/mount"
	coproc python3 "$BATS_TEST_DIRNAME/stuck.py" "$BATS_TEST_TMPDIR/disk.raw" "$BATS_TEST_TMPDIR/mount" 3>&-
	read -r -t 60 pid <&"${COPROC[0]}"
	# One that lives is told of at once.
	run vm --accel soft --kernel "$guests/hello" --disk "$BATS_TEST_TMPDIR/disk.raw"
	[ "$status" -eq 125 ]
	[[ "$output" == *"the process $pid is using it"* ]]
	kill -9 "$pid"
	vm --accel soft --kernel "$guests/hello" --disk "$BATS_TEST_TMPDIR/disk.raw" 3>&- &
	machine=$!
	sleep 3
	kill -0 "$machine"
	echo >&"${COPROC[1]}"
	wait "$machine" || status=$?
	[ "$status" -eq 43 ]
}
