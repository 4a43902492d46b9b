#!/usr/bin/env bats
# Disk images through the command, with QEMU's tools beside them.
load helpers

setup() {
	berth_setup none
	cd "$TEST_DIR" || return 1
}
teardown() { berth_teardown; }

# The field $2 of the image $1, by both programs.
field() {
	expect "$(berth disk info --format "{{index . \"$2\"}}" "$1")" "$(qemu-img info --output json "$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])")"
}

@test "create, info: both formats, as QEMU sees them" {
	berth disk create a.qcow2 10g
	berth disk create --format raw a.raw 1000000
	qemu-img check -q a.qcow2
	for f in a.qcow2 a.raw; do
		field "$f" virtual-size
		field "$f" format
	done
	expect "$(stat -c %s a.raw)" 1000448
	field a.qcow2 cluster-size
	expect_in "$(berth disk info a.qcow2)" "size:          10737418240 bytes"
	run_split berth disk create a.qcow2 1g
	expect "$status" 125
	expect "$stderr" "$(printf 'berth: cannot make the disk: a.qcow2 exists already\nhint: choose another name, or remove it')"
	expect "$(find . -maxdepth 1 -name 'a.*' | sort | xargs)" "./a.qcow2 ./a.raw"
}

@test "convert: there and back, compressed sources, chains" {
	head -c 3000000 /dev/urandom >src.raw
	truncate -s 20M src.raw
	qemu-img convert -O qcow2 -c src.raw packed.qcow2
	berth disk convert --format raw packed.qcow2 back.raw
	cmp src.raw back.raw
	berth disk convert src.raw made.qcow2
	qemu-img compare -q src.raw made.qcow2
	qemu-img check -q made.qcow2
	[ "$(stat -c %s made.qcow2)" -lt 4000000 ]
	qemu-img create -q -f qcow2 -b packed.qcow2 -F qcow2 top.qcow2
	qemu-io -c 'write -P 9 5M 1M' top.qcow2 >/dev/null
	berth disk convert top.qcow2 flat.qcow2
	qemu-img compare -q top.qcow2 flat.qcow2
	expect "$(berth disk info --format '{{index . "backing-filename"}}' top.qcow2)" packed.qcow2
}

@test "snapshot: the old disk stays as it is" {
	qemu-img create -q -f qcow2 base.qcow2 4M
	qemu-io -c 'write -P 1 0 4M' base.qcow2 >/dev/null
	before=$(sha256sum <base.qcow2)
	berth disk snapshot base.qcow2 new.qcow2
	qemu-io -c 'write -P 2 1M 1M' new.qcow2 >/dev/null
	qemu-io -c 'read -P 1 0 1M' -c 'read -P 2 1M 1M' -c 'read -P 1 2M 2M' new.qcow2 >/dev/null
	expect "$(sha256sum <base.qcow2)" "$before"
	mkdir elsewhere
	mv base.qcow2 new.qcow2 elsewhere
	berth disk convert --format raw elsewhere/new.qcow2 flat.raw
}

@test "resize: larger, never smaller" {
	qemu-img create -q -f qcow2 a.qcow2 5M
	qemu-io -c 'write -P 3 0 5M' a.qcow2 >/dev/null
	berth disk resize a.qcow2 +1g
	expect "$(berth disk info --format '{{index . "virtual-size"}}' a.qcow2)" $((1073741824 + 5242880))
	qemu-img check -q a.qcow2
	qemu-io -c 'read -P 3 0 5M' -c 'read -P 0 5M 1M' a.qcow2 >/dev/null
	run_split berth disk resize a.qcow2 1m
	expect "$status" 125
	expect_in "$stderr" "a disk is not made smaller"
	truncate -s 1M a.raw
	berth disk resize a.raw 3m
	expect "$(stat -c %s a.raw)" 3145728
}

@test "check: damage is told, and mended where it can be" {
	qemu-img create -q -f qcow2 a.qcow2 1M
	qemu-io -c 'write -P 5 0 128k' a.qcow2 >/dev/null
	expect "$(berth disk check a.qcow2)" "No problems found."
	# The count of the sixth cluster.
	printf '\0\0' | dd of=a.qcow2 bs=1 seek=$(((2 << 16) + 10)) conv=notrunc status=none
	run_split berth disk check a.qcow2
	expect "$status" 125
	expect_in "$stderr" "cluster 5 has the count 0 and 1 users"
	expect_in "$stderr" "hint: berth disk check --repair a.qcow2"
	berth disk check --repair a.qcow2
	qemu-img check -q a.qcow2
	qemu-io -c 'read -P 5 0 128k' a.qcow2 >/dev/null
}

@test "what is wrong is said in words" {
	head -c 1000 /dev/zero >short.qcow2
	printf 'QFI\373' | dd of=short.qcow2 conv=notrunc status=none
	for command in "disk info" "disk check"; do
		# shellcheck disable=SC2086 # two words
		run_split berth $command short.qcow2
		expect "$status" 125
		expect_in "$stderr" "the disk short.qcow2: it has version 0 of qcow2"
	done
	run_split berth disk convert missing.qcow2 x.qcow2
	expect "$status" 125
	expect_in "$stderr" "the disk missing.qcow2: open it: No such file or directory"
	[ ! -e x.qcow2 ]
	run_split berth disk create x.qcow2
	expect "$status" 125
	expect_in "$stderr" "needs a SIZE"
	run_split berth disk create x.qcow2 2000t
	expect_in "$stderr" "at most 1024 TiB"
	qemu-img create -q -f qcow2 -b /etc/passwd -F raw evil.qcow2 1M
	run_split berth disk convert evil.qcow2 x.raw
	expect "$status" 125
	expect_in "$stderr" "outside of the image's directory"
}
