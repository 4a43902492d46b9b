#!/usr/bin/env bats
# berth vmm run --firmware: the BIOS of the distribution starts what is on a disk.

load helpers
load guests

setup_file() {
	export guests="$BATS_FILE_TMPDIR"
	cd "$BATS_FILE_TMPDIR" || return 1
	gcc -c -m32 -Wa,-I"$BATS_TEST_DIRNAME/../guest/disk" -o boot.o "$BATS_TEST_DIRNAME/../guest/disk/boot.S"
	ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o disk.raw boot.o
	truncate -s 1M disk.raw
	"$BERTH" disk convert disk.raw disk.qcow2
	build_guest hello
	find_kvm
}

vm() {
	timeout 300 "$BERTH" vmm run --firmware bios --memory 64m "$@" </dev/null
}

# starts DISK OPTION...
starts() {
	run vm --disk "$BATS_FILE_TMPDIR/$1" "${@:2}"
	[ "$status" -eq 0 ]
	[[ "$output" == *"SeaBIOS"* ]]
	[[ "$output" == *"the second sector: ACPI found"* ]]
}

@test "a boot sector is started, and finds disk, memory and ACPI through the BIOS" {
	starts disk.raw --accel soft
	starts disk.qcow2 --accel soft
	needs_kvm
	starts disk.raw --accel kvm
}

@test "with several CPUs" {
	starts disk.raw --cpus 3 --accel soft
	needs_kvm
	starts disk.raw --cpus 3 --accel kvm
}

@test "what is no BIOS is refused by name" {
	head -c 1000 /dev/zero >"$BATS_TEST_TMPDIR/small"
	run timeout 60 "$BERTH" vmm run --accel soft --firmware "$BATS_TEST_TMPDIR/small" </dev/null
	[ "$status" -eq 125 ]
	[[ "$output" == *"small is no BIOS: that has 64, 128 or 256 KiB"* ]]
	head -c 1000000 /dev/zero >"$BATS_TEST_TMPDIR/vars"
	run timeout 60 "$BERTH" vmm run --accel soft --firmware uefi --vars "$BATS_TEST_TMPDIR/vars" </dev/null
	[ "$status" -eq 125 ]
	[[ "$output" == *"vars is not of the size of this host's firmware variables"* ]]
	run vm --vars x
	[ "$status" -eq 125 ]
	[[ "$output" == *"--vars goes only with --firmware uefi"* ]]
	run vm --kernel x
	[ "$status" -eq 125 ]
	[[ "$output" == *"--firmware starts a disk's own system"* ]]
}
