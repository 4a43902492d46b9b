#!/usr/bin/env bats
# berth kernel: keeping the kernels of virtual machines.

BERTH=${BERTH:-berth}

setup() {
	export BERTH_ROOT=$BATS_TEST_TMPDIR/root BERTH_STATE=$BATS_TEST_TMPDIR/state
	guest=$BATS_TEST_TMPDIR/hello
	gcc -m32 -nostdlib -static -no-pie -Wl,--build-id=none,-Ttext=0x100000,-N,--no-warn-rwx-segments \
		-o "$guest" "$BATS_TEST_DIRNAME/../guest/hello.S"
}

@test "a kernel that was added runs by its name" {
	run "$BERTH" kernel add -q "$guest"
	[ "$status" -eq 0 ]
	[ "$output" = "hello" ]
	[ "$("$BERTH" kernel ls -q)" = "hello" ]
	cd "$BATS_TEST_TMPDIR" && rm hello
	run timeout 60 "$BERTH" vmm run --accel soft --debug-exit --memory 16m --kernel hello < /dev/null
	[ "$status" -eq 43 ]
	[ "$output" = "hello from the guest" ]
	"$BERTH" kernel rm hello
	[ -z "$("$BERTH" kernel ls -q)" ]
	run "$BERTH" vmm run --kernel hello
	[ "$status" -eq 125 ]
	[[ "$output" == *'there is no kernel "hello"'*"hint: "* ]]
}

@test "what cannot be added is refused and leaves nothing" {
	"$BERTH" kernel add -q "$guest"
	run "$BERTH" kernel add -q "$guest"
	[ "$status" -eq 125 ]
	[[ "$output" == *'a kernel "hello" already'*"--replace"* ]]
	"$BERTH" kernel add -q --replace "$guest"
	run "$BERTH" kernel add -q --name 'a/b' "$guest"
	[ "$status" -eq 125 ]
	run "$BERTH" kernel add -q debian:2.2
	[ "$status" -eq 125 ]
	[[ "$output" == *"hint: debian, debian:6.1 or debian:6.12"* ]]
	run "$BERTH" kernel add -q --mirror http://127.0.0.1:9/debian debian
	[ "$status" -eq 125 ]
	[[ "$output" == *"cannot add the kernel"* ]]
	[ "$(ls -A "$BERTH_ROOT/kernels")" = ".lock
hello" ]
}

# 6.12, and every number of CPUs with every size of memory, take their time: BERTH_TEST_LONG.
@test "Debian's kernels are fetched, start, and load their modules" {
	local releases="6.1" cpus="2" sizes="256" release n size total
	[ -n "${BERTH_TEST_LONG:-}" ] && releases="6.1 6.12" cpus="1 2 4" sizes="128 1024 8192"
	mkdir -p "$BATS_TEST_TMPDIR/initrd/bin" "$BATS_TEST_TMPDIR/initrd/proc"
	cp /bin/busybox "$BATS_TEST_TMPDIR/initrd/bin"
	cat > "$BATS_TEST_TMPDIR/initrd/init" <<-'END'
		#!/bin/busybox sh
		/bin/busybox mount -t proc proc /proc
		for m in $(/bin/busybox cat /modules/order); do /bin/busybox insmod "/modules/$m" || echo BAD; done
		echo "INIT-REACHED $(/bin/busybox nproc) $(/bin/busybox awk '/^MemTotal/ { print $2 }' /proc/meminfo)"
		/bin/busybox poweroff -f
	END
	chmod +x "$BATS_TEST_TMPDIR/initrd/init"
	(cd "$BATS_TEST_TMPDIR/initrd" && find . | cpio -o -H newc --quiet) > "$BATS_TEST_TMPDIR/initrd.img"
	for release in $releases; do
		"$BERTH" kernel add -q "debian:$release"
		run "$BERTH" kernel ls --format '{{.Name}} {{.Version}}'
		[[ "$output" == *"debian-$release $release."* ]]
		for n in $cpus; do
			for size in $sizes; do
				run timeout 120 "$BERTH" vmm run --accel soft --cpus "$n" --memory "${size}m" \
					--kernel "debian-$release" --initrd "$BATS_TEST_TMPDIR/initrd.img" \
					--append "console=ttyS0 quiet" < /dev/null
				[ "$status" -eq 0 ]
				[[ "$output" == *"INIT-REACHED $n "* ]]
				[[ "$output" != *BAD* ]]
				# The kernel keeps some of it for itself.
				total=$(tr -d '\r' <<< "$output" | awk '$1 == "INIT-REACHED" { print $3 }')
				[ "$total" -gt $((size * 1024 * 95 / 100 - 36 * 1024)) ]
				[ "$total" -le $((size * 1024)) ]
			done
		done
	done
}
