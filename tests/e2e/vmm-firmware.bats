#!/usr/bin/env bats
# berth vmm run --firmware: the BIOS of the distribution starts what is on a disk.

BERTH=${BERTH:-berth}

setup_file() {
	cd "$BATS_FILE_TMPDIR" || return 1
	gcc -c -m32 -o boot.o "$BATS_TEST_DIRNAME/../guest/disk/boot.S"
	ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o disk.raw boot.o
	truncate -s 1M disk.raw
	"$BERTH" disk convert disk.raw disk.qcow2
}

vm() {
	timeout 90 "$BERTH" vmm run --firmware bios --memory 64m "$@" </dev/null
}

@test "a boot sector is started, and finds disk, memory and ACPI through the BIOS" {
	for disk in disk.raw disk.qcow2; do
		run vm --accel soft --disk "$BATS_FILE_TMPDIR/$disk"
		[ "$status" -eq 0 ]
		[[ "$output" == *"SeaBIOS"* ]]
		[[ "$output" == *"the second sector: ACPI found"* ]]
	done
}

@test "with several CPUs" {
	run vm --accel soft --cpus 3 --disk "$BATS_FILE_TMPDIR/disk.raw"
	[ "$status" -eq 0 ]
	[[ "$output" == *"the second sector: ACPI found"* ]]
}

@test "what is no BIOS is refused by name" {
	head -c 1000 /dev/zero >"$BATS_TEST_TMPDIR/small"
	run timeout 60 "$BERTH" vmm run --accel soft --firmware "$BATS_TEST_TMPDIR/small" </dev/null
	[ "$status" -eq 125 ]
	[[ "$output" == *"small is no BIOS: that has 64, 128 or 256 KiB"* ]]
	run vm --kernel x
	[ "$status" -eq 125 ]
	[[ "$output" == *"--firmware starts a disk's own system"* ]]
}

# A whole system: a disk image that boots to a login prompt on its serial line. BERTH_TEST_DISK=FILE.
@test "a system's own disk boots to its login prompt" {
	[ -n "${BERTH_TEST_DISK:-}" ] ||
		skip "BERTH_TEST_DISK is not set: NO system is booted from a disk of its own"
	local out="$BATS_TEST_TMPDIR/out" pid found=1 i
	"$BERTH" vmm run --firmware bios --accel soft --memory 512m --disk "$BERTH_TEST_DISK,ro" \
		--serial "file:$out" &
	pid=$!
	for ((i = 0; i < 600; i++)); do
		if grep -q "login:" "$out" 2>/dev/null; then
			found=0
			break
		fi
		sleep 0.5
	done
	kill "$pid"
	return $found
}
