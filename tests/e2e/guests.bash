# shellcheck shell=bash
# Shared by the tests of `berth vmm run`: the small guests of tests/guest, which are built into $guests, and the
# accelerators to run them on. Comes behind helpers.

at_1m=(-nostdlib -static -no-pie "-Wl,--build-id=none,-Ttext=0x100000,-N,--no-warn-rwx-segments")
in_c=(-O2 -Wall -Wextra -Werror -Wno-main -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none
	-mno-red-zone -mgeneral-regs-only)

# build_guest NAME [ADDRESS]: tests/guest/NAME.S as $guests/NAME.
build_guest() {
	gcc -m32 "${at_1m[@]/0x100000/${2:-0x100000}}" -o "$guests/$1" "$BATS_TEST_DIRNAME/../guest/$1.S"
}

build_messages() {
	gcc -m32 "${at_1m[@]}" "${in_c[@]}" -o "$guests/messages" "$BATS_TEST_DIRNAME/../guest/pci/messages.c"
}

# A multiboot kernel is a file of 32 bits, whatever is in it.
build_smp() {
	gcc -m64 "${at_1m[@]}" "${in_c[@]}" -o "$guests/smp64" "$BATS_TEST_DIRNAME"/../guest/smp/{start.S,smp.c}
	objcopy -O elf32-i386 "$guests/smp64" "$guests/smp"
}

# Sets KVM to what this host's /dev/kvm is: absent, emulates or hardware. Needs the guest "hello".
find_kvm() {
	KVM=absent
	case $("$BERTH" vmm run --debug --memory 16m --debug-exit --kernel "$guests/hello" 2>&1 < /dev/null || true) in
	*"accelerator kvm: "*) KVM=hardware ;;
	*"/dev/kvm only emulates"*) KVM=emulates ;;
	esac
	export KVM
}

# on_each COMMAND...: runs it with "soft" behind it, then with "kvm", in a directory of its own each.
on_each() {
	local accel
	for accel in soft kvm; do
		if [ "$accel" = kvm ]; then needs_kvm; fi
		mkdir "$BATS_TEST_TMPDIR/$accel"
		cd "$BATS_TEST_TMPDIR/$accel" || return
		"$@" "$accel"
	done
}

needs_kvm() {
	[ "$KVM" != absent ] || skip "there is no /dev/kvm that can be used: the accelerator kvm is NOT tested"
}

# What hardware has, and KVM's emulator of instructions does not.
needs_hardware() {
	needs_kvm
	[ "$KVM" = hardware ] || skip "this /dev/kvm only emulates: $1 NOT tested on it"
}
