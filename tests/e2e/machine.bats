#!/usr/bin/env bats
# berth run --vm --disk: a system on a disk of its own as a workload. The system here is a boot sector
# (tests/guest/disk/echo.S) that sends back what it is sent and knows the power button.

load helpers

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	gcc -c -m32 -Wa,-I"$BATS_TEST_DIRNAME/../guest/disk" -o echo.o "$BATS_TEST_DIRNAME/../guest/disk/echo.S"
	ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o echo.raw echo.o
	truncate -s 1M echo.raw
}

setup() {
	BERTH_ISOLATION=container berth_setup none
	DISK=$TEST_DIR/disk.raw
	cp "$BATS_FILE_TMPDIR/echo.raw" "$DISK"
}
teardown() { berth_teardown; }

# machine run|create ARGUMENTS: of the disk, with the software CPU.
machine() {
	local verb=$1
	shift
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" "$verb" --vm --accel soft \
		--memory 64m --disk "$DISK" "$@"
}

# Waits up to a minute: a host that is busy gives a machine little.
soon() {
	local i
	for ((i = 0; i < 600; i++)); do
		if "$@" >/dev/null 2>&1; then return 0; fi
		sleep 0.1
	done
	echo "did not come true within a minute: $*" >&2
	return 1
}

says() {
	berth logs "$1" 2>&1 | grep -q "$2"
}

@test "it runs, is seen, and stops by its power button" {
	local id
	id=$(machine run -d --name m --label a=b)
	soon says m ready
	expect "$(berth ps --format '{{.Names}} {{.Image}} {{.Command}}')" "m $DISK \"bios\""
	expect "$(berth ps -q --no-trunc --filter isolation=vm)" "$id"
	expect "$(berth inspect -f '{{.State.Running}} {{.HostConfig.Isolation}} {{index .HostConfig.Disks 0}}' m)" \
		"true vm $DISK"
	expect_in "$(berth stats --no-stream --format '{{.MemUsage}}' m)" "/ 64MiB"
	berth stop --time 30 m
	expect "$(berth inspect -f '{{.State.Status}} {{.State.ExitCode}}' m)" "exited 0"
	says m bye
	berth start m
	said() { [ "$(berth logs m | grep -c "$1")" -eq "$2" ]; }
	soon said ready 2
	berth restart --time 30 m
	soon said ready 3
	said bye 2
	berth kill m
	expect "$(berth wait m)" 137
}

@test "a guest that is deaf to the button is stopped by force, others are not killed by signals" {
	machine run -di --name m
	soon says m ready
	berth kill --signal USR1 m
	berth kill --signal STOP m
	grep -q "^State:.[RS]" "/proc/$(berth inspect -f '{{.State.Pid}}' m)/status"
	printf d | timeout 20 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" attach --sig-proxy=false m &
	soon says m deaf
	berth stop --time 1 m
	expect "$(berth inspect -f '{{.State.ExitCode}}' m)" 137
}

@test "the serial line is its terminal: run -it, attach, keys that detach" {
	run timeout 60 script -qec "'$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' run -it \
		--name m --vm --accel soft --memory 64m --disk '$DISK'" /dev/null < <(
		soon says m ready
		printf 'xyzzy\001x'
		soon says m xyzzy
		printf '\020\021'
	)
	expect_in "$output" xyzzy
	# Neither the detaching nor ctrl-a x has ended it.
	expect "$(berth ps --format '{{.Names}}')" m
	timeout 60 script -qec "'$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' attach m" \
		/dev/null < <(
		printf plugh
		soon says m plugh
		printf '\020\021'
	) > "$TEST_DIR/out"
	berth stop --time 30 m
	says m bye
}

@test "a guest that resets starts anew, a pause is a pause, and a policy starts it again" {
	machine run -di --name m --restart on-failure
	soon says m ready
	berth pause m
	expect "$(berth ps --format '{{.State}}')" paused
	berth unpause m
	printf r | timeout 20 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" attach --sig-proxy=false m &
	twice() { [ "$(berth logs m | grep -c ready)" -eq "$1" ]; }
	soon twice 2
	# The plug is pulled from outside: that is a failure.
	kill -9 "$(berth inspect -f '{{.State.Pid}}' m)"
	soon twice 3
	expect "$(berth inspect -f '{{.RestartCount}}' m)" 1
	berth stop --time 30 m
}

@test "nobody else gets the disk, and the message says who has it" {
	machine run -d --name m
	run machine run --rm --name other
	[ "$status" -eq 125 ]
	expect_in "$output" "is in use by the workload \"m\""
	run timeout 60 "$BERTH" vmm run --firmware bios --accel soft --disk "$DISK" </dev/null
	[ "$status" -eq 125 ]
	expect_in "$output" "the process $(pgrep -P "$(berth inspect -f '{{.State.Pid}}' m)") is using it"
	berth rm -f m
	# Readers share it.
	DISK=$DISK,ro machine run -d --name a
	DISK=$DISK,ro machine run -d --name b
	run machine run --rm
	[ "$status" -eq 125 ]
	berth kill a b
}

@test "further disks, read-only ones, qcow2" {
	truncate -s 1M "$TEST_DIR/two.raw"
	"$BERTH" disk convert "$DISK" "$TEST_DIR/disk.qcow2"
	DISK=$TEST_DIR/disk.qcow2 machine run -di --name m --disk "$TEST_DIR/two.raw,format=raw"
	soon says m ready
	printf w | timeout 20 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" attach --sig-proxy=false m &
	soon says m written
	berth stop --time 30 m
	expect "$(head -c 512 "$TEST_DIR/two.raw" | sha256sum)" "$(head -c 512 "$DISK" | sha256sum)"
	DISK=$TEST_DIR/disk.qcow2 machine run -di --name r --disk "$TEST_DIR/two.raw,format=raw,ro"
	soon says r ready
	printf w | timeout 20 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" attach --sig-proxy=false r &
	soon says r failed
	berth stop --time 30 r
}

@test "cloud-init is told who it is by a volume" {
	local id seed
	printf '#cloud-config\n' >"$TEST_DIR/user-data"
	id=$(machine run -d --name m --cloud-init "$TEST_DIR/user-data" --hostname box)
	seed=$TEST_DIR/root/workloads/$id/seed.iso
	expect "$(blkid -p -o value -s TYPE "$seed") $(blkid -p -o value -s LABEL "$seed")" "iso9660 cidata"
	expect "$(isoinfo -R -i "$seed" -x /user-data)" "#cloud-config"
	expect "$(isoinfo -R -i "$seed" -x /meta-data)" "instance-id: $id
local-hostname: box"
	# It stays, whatever becomes of the file.
	printf 'changed\n' >"$TEST_DIR/user-data"
	berth restart --time 30 m
	expect "$(isoinfo -R -i "$seed" -x /user-data)" "#cloud-config"
	berth rm -f m
	[ ! -e "$seed" ]
	mkdir "$TEST_DIR/seed"
	run machine create --cloud-init "$TEST_DIR/seed"
	[ "$status" -eq 125 ]
	expect_in "$output" "there is no file user-data in $TEST_DIR/seed"
	# Files of all sizes, all four of them, come back as they were; the same in, the same out.
	for id in user-data meta-data network-config vendor-data; do
		head -c $((RANDOM % 9000)) /dev/urandom >"$TEST_DIR/seed/$id"
	done
	printf x >>"$TEST_DIR/seed/user-data"
	id=$(DISK=$DISK,ro machine run -d --name a --cloud-init "$TEST_DIR/seed")
	seed=$TEST_DIR/root/workloads/$id/seed.iso
	for id in user-data meta-data network-config vendor-data; do
		isoinfo -R -i "$seed" -x "/$id" | cmp - "$TEST_DIR/seed/$id"
	done
	id=$(DISK=$DISK,ro machine run -d --name b --cloud-init "$TEST_DIR/seed")
	cmp "$seed" "$TEST_DIR/root/workloads/$id/seed.iso"
}

# tests/guest/disk/efi.S says whether it has been here before, by a variable of the firmware's.
@test "by UEFI, whose variables are the machine's own" {
	local id
	gcc -c -o "$TEST_DIR/efi.o" "$BATS_TEST_DIRNAME/../guest/disk/efi.S"
	ld -Ttext 0 --oformat binary -o "$TEST_DIR/bootx64.efi" "$TEST_DIR/efi.o"
	rm "$DISK"
	PATH=$PATH:/sbin:/usr/sbin mkfs.vfat -C "$DISK" 4096 >/dev/null
	mmd -i "$DISK" ::EFI ::EFI/BOOT
	mcopy -i "$DISK" "$TEST_DIR/bootx64.efi" ::EFI/BOOT/BOOTX64.EFI
	id=$(machine create --name m --firmware uefi --cpus 2)
	run timeout 120 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" start -a m
	[ "$status" -eq 0 ]
	# It has reset itself in between.
	expect_in "$output" the-first-time
	expect_in "$output" ACPI-found
	expect_in "$output" once-again
	[ -e "$TEST_DIR/root/workloads/$id/vars.fd" ]
	run timeout 120 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" start -a m
	[ "$status" -eq 0 ]
	expect_in "$output" once-again
	[[ "$output" != *the-first-time* ]]
	berth rm m
	[ ! -e "$TEST_DIR/root/workloads/$id" ]
	run machine create --firmware coreboot
	[ "$status" -eq 125 ]
	expect_in "$output" 'does not know "coreboot"'
}

@test "what needs a program of ours in it, or an image, is refused in words" {
	machine run -d --name m
	local words
	for words in "exec m ls" "top m" "cp m:/etc $TEST_DIR" "diff m" "export -o $TEST_DIR/x m" "commit m x"; do
		# shellcheck disable=SC2086 # several words
		run berth $words
		[ "$status" -ne 0 ]
		expect_in "$output" "started from a disk of its own"
	done
	berth rm -f m
	for words in "--env A=b" "--user 1" "--kernel x" "--read-only" "--cpus 1.5" "--cap-add ALL" \
		"--tmpfs /x" "--init" "--privileged" "--hostname x" "--disk nowhere" "--network host"; do
		# shellcheck disable=SC2086
		run machine run --rm $words
		[ "$status" -eq 125 ]
		expect_in "$output" "${words%% *}"
	done
	run machine run --rm busybox
	[ "$status" -eq 125 ]
	expect_in "$output" "an image does not go with --disk"
	run berth run --disk "$DISK"
	[ "$status" -eq 125 ]
	expect_in "$output" "--disk goes only with --vm"
	[ -z "$(berth ps -aq)" ]
}

@test "a machine that cannot start, and one that fails, say why" {
	run machine run --rm --firmware /dev/null
	[ "$status" -eq 125 ]
	expect_in "$output" "is no BIOS"
	machine run -d --name m
	kill -9 "$(pgrep -P "$(berth inspect -f '{{.State.Pid}}' m)")"
	expect "$(berth wait m)" 137
	expect_in "$(berth ps -a --format '{{.Status}}')" "the machine was ended by signal 9"
}

# SIGKILL at any moment to any process of the chain: nothing of it is left, and the next start works.
@test "killed at random, it leaves nothing behind" {
	local i pid monitor victim
	RANDOM=7
	for ((i = 0; i < 6; i++)); do
		# Until the one before has been cleaned up, it has the disk.
		soon machine run -d --name "m$i"
		pid=$(berth inspect -f '{{.State.Pid}}' "m$i")
		monitor=$(berth inspect -f '{{.State.MonitorPid}}' "m$i")
		case $((RANDOM % 3)) in
		0) victim=$monitor ;;
		1) victim=$pid ;;
		2) victim=$(pgrep -P "$pid") ;;
		esac
		kill -9 "$victim"
		gone() { [ "$(berth inspect -f '{{.State.Status}}' "m$i")" = exited ]; }
		soon gone
	done
	machine run -d --name last
	soon says last ready
}

# A guest that writes to an ext4 file system on a qcow2 disk, and says how far it has come only after a sync.
make_writer() {
	local tree=$TEST_DIR/tree
	mkdir -p "$tree/bin" "$tree/dev" "$tree/mnt" "$tree/proc"
	cp /bin/busybox "$tree/bin/"
	cat >"$tree/init" <<-'EOF'
		#!/bin/busybox sh
		/bin/busybox --install -s /bin
		mount -t proc proc /proc
		mount -t devtmpfs dev /dev
		for m in $(cat /modules/order); do insmod /modules/$m; done
		while [ ! -b /dev/vda ]; do :; done
		mount -t ext4 /dev/vda /mnt || echo "cannot mount"
		touch /mnt/kept
		n=$(wc -l </mnt/kept)
		echo "begins with $n"
		while :; do
			n=$((n + 1))
			echo $n >>/mnt/kept
			dd if=/dev/zero of=/mnt/file$((n % 9)) bs=4k count=$((n * 37 % 50)) 2>/dev/null
			[ $((n % 5)) != 0 ] || rm /mnt/file$((n * 7 % 9)) 2>/dev/null
			sync
			echo "at $n"
		done
	EOF
	chmod +x "$tree/init"
	(cd "$tree" && find . | cpio -o -H newc --quiet) >"$TEST_DIR/initrd"
	truncate -s 64M "$TEST_DIR/fs.raw"
	PATH=$PATH:/sbin:/usr/sbin mke2fs -q -F -t ext4 "$TEST_DIR/fs.raw"
	"$BERTH" disk convert "$TEST_DIR/fs.raw" "$TEST_DIR/fs.qcow2"
}

# sound IMAGE: of a machine that has been killed, as soon as that has ended. There may be clusters that
# nothing uses, but no errors (docs/disks.md).
sound() {
	local found
	unlocked() {
		found=$("$BERTH" disk check "$1" 2>&1) || true
		[[ "$found" != *"is in use"* ]]
	}
	soon unlocked "$1"
	echo "$found"
	[[ "$found" == "No problems found." || "$found" == "0 errors, "* ]]
	"$BERTH" disk check --repair "$1"
	qemu-img check -q "$1"
}

# BERTH_KILL_ROUNDS and BERTH_KILL_SEED make it longer and other.
kill_writer() {
	local disk=$1 rounds=$2 round pid last=0 begins wanted out=$TEST_DIR/out
	for ((round = 0; round < rounds; round++)); do
		"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" vmm run --accel soft --memory 96m \
			--kernel "$("$BERTH" --root "$TEST_DIR/root" kernel ls -q | head -1)" \
			--initrd "$TEST_DIR/initrd" --append "console=ttyS0 quiet" \
			--disk "$disk" --serial "file:$out" </dev/null 3>&- &
		pid=$!
		wanted=$((last + 1 + RANDOM % 20))
		far() { grep -q "at $wanted\b" "$out"; }
		soon far
		# Either of the two processes of a machine.
		[ $((RANDOM % 2)) = 0 ] && kill -9 "$pid" || kill -9 "$(pgrep -P "$pid")"
		wait "$pid" || true
		[ "$disk" = "$TEST_DIR/fs.raw" ] || sound "$disk"
		begins=$(grep -o "begins with [0-9]*" "$out" | tr -dc 0-9)
		# All that the guest before had been told is on the disk.
		[ "$begins" -ge "$last" ]
		last=$(grep -o "^at [0-9]*" "$out" | tail -1 | tr -dc 0-9)
	done
	rm -f "$TEST_DIR/after.raw"
	"$BERTH" disk convert --format raw "$disk" "$TEST_DIR/after.raw"
	PATH=$PATH:/sbin:/usr/sbin
	# The journal is replayed; then there must be nothing more to mend.
	e2fsck -p "$TEST_DIR/after.raw" || [ $? -eq 1 ]
	e2fsck -fn "$TEST_DIR/after.raw"
	debugfs -R "cat kept" "$TEST_DIR/after.raw" 2>/dev/null | awk '$1 != NR { exit 1 } END { print NR }' \
		>"$TEST_DIR/lines"
	[ "$(cat "$TEST_DIR/lines")" -ge "$last" ]
}

@test "killed while its guest writes: the image is sound, and what was synced is there" {
	berth_use_vm "$TEST_DIR/root"
	make_writer
	RANDOM=${BERTH_KILL_SEED:-11}
	kill_writer "$TEST_DIR/fs.qcow2" "${BERTH_KILL_ROUNDS:-3}"
	kill_writer "$TEST_DIR/fs.raw" "${BERTH_KILL_ROUNDS:-1}"
}

# A whole system: BERTH_TEST_DISK is a disk that tests/guest/disk/make-debian has made. With the software CPU
# each start takes minutes.

# type TEXT: on the machine's console.
type_in() {
	printf '%s\r' "$1" | timeout 5 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" attach \
		--sig-proxy=false sys >/dev/null || true
}

# long COMMAND...: waits up to fifteen minutes.
long() {
	local i
	for ((i = 0; i < 900; i++)); do
		if "$@" >/dev/null 2>&1; then return 0; fi
		sleep 1
	done
	echo "did not come true within 15 minutes: $*" >&2
	berth logs --tail 20 sys >&2
	return 1
}

boot_debian() {
	[ -n "${BERTH_TEST_DISK:-}" ] ||
		skip "BERTH_TEST_DISK is not set: NO system is booted from a disk of its own"
	local times
	"$BERTH" disk create -b "$BERTH_TEST_DISK" "$TEST_DIR/debian.qcow2"
	cat >"$TEST_DIR/user-data" <<-'EOF'
		#cloud-config
		users:
		- {name: pilot, plain_text_passwd: compass, lock_passwd: false, shell: /bin/bash}
	EOF
	DISK=$TEST_DIR/debian.qcow2,backing=any machine run -di --name sys --memory 1g --hostname box \
		--firmware "$1" --cloud-init "$TEST_DIR/user-data"
	long says sys "box login:"
	long says sys "Cloud-init v.* finished"
	type_in pilot
	long says sys "Password:"
	type_in compass
	long says sys "pilot@box"
	# Somebody writes, and the plug is pulled.
	# shellcheck disable=SC2016 # the guest's shell expands it
	type_in 'for i in $(seq 9999); do echo $i >> kept; sync kept; echo "at ${i}th"; done'
	long says sys "at 7th"
	kill -9 "$(berth inspect -f "{{.State.$2}}" sys)"
	long expect_state exited
	sound "$TEST_DIR/debian.qcow2"
	times=$(berth logs sys | grep -o "at [0-9]*th" | tail -1 | tr -dc 0-9)
	# It comes up again, is who it was, and has what had been flushed.
	berth start sys
	twice_login() { [ "$(berth logs sys | grep -c "box login:")" -ge 2 ]; }
	long twice_login
	type_in pilot
	twice_password() { [ "$(berth logs sys | grep -c "Password:")" -ge 2 ]; }
	long twice_password
	type_in compass
	# shellcheck disable=SC2016
	type_in 'echo "kept $(wc -l <kept) lines"'
	long says sys "kept [0-9]* lines"
	# The shell puts a sequence for the terminal before it.
	[ "$(berth logs sys | grep -o "kept [0-9]* lines" | tail -1 | tr -dc 0-9)" -ge "$times" ]
	berth stop --time 300 sys
	expect "$(berth inspect -f '{{.State.ExitCode}}' sys)" 0
	says sys "Power down"
}

expect_state() {
	[ "$(berth inspect -f '{{.State.Status}}' sys)" = "$1" ]
}

@test "a Debian disk by BIOS: login, cloud-init's user, power button, a kill of the machine" {
	boot_debian bios Pid
}

@test "a Debian disk by UEFI: login, cloud-init's user, power button, a kill of the monitor" {
	boot_debian uefi MonitorPid
}
