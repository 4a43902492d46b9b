#!/usr/bin/env bats
# A real Linux drives the devices that need no network: shared directories, sockets, ports, the balloon.

BERTH=${BERTH:-berth}

setup_file() {
	export BERTH_ROOT=$BATS_FILE_TMPDIR/root BERTH_STATE=$BATS_FILE_TMPDIR/state
	export initrd=$BATS_FILE_TMPDIR/initrd.img
	local guest=$BATS_FILE_TMPDIR/guest source
	mkdir -p "$guest/bin" "$guest/proc" "$guest/sys" "$guest/dev" "$guest/mnt" "$guest/tmp"
	cp /bin/busybox "$guest/bin"
	for source in fsops vsock; do
		gcc -D_GNU_SOURCE -O1 -static -o "$guest/bin/$source" "$BATS_TEST_DIRNAME/../guest/$source.c"
	done
	cp "$guest/bin/fsops" "$BATS_FILE_TMPDIR/fsops"
	cat > "$guest/init" <<-'END'
		#!/bin/busybox sh
		/bin/busybox mount -t proc proc /proc
		/bin/busybox mount -t sysfs sys /sys
		/bin/busybox mount -t devtmpfs dev /dev
		/bin/busybox --install -s /bin
		export PATH=/bin
		for m in $(cat /modules/order); do insmod "/modules/$m" 2> /dev/null; done
		mount -t virtiofs data /mnt || echo "CANNOT MOUNT"
		sh /mnt/script
		poweroff -f
	END
	chmod +x "$guest/init"
	(cd "$guest" && find . | cpio -o -H newc --quiet) > "$initrd"
	"$BERTH" kernel add -q "debian:${BERTH_TEST_RELEASE:-6.1}" > "$BATS_FILE_TMPDIR/kernel"
}

setup() {
	cd "$BATS_TEST_TMPDIR" || return
	mkdir data
	kernel=$(cat "$BATS_FILE_TMPDIR/kernel")
}

# The guest does what data/script says.
vm() {
	timeout 120 "$BERTH" vmm run --accel soft --kernel "$kernel" --initrd "$initrd" --append "console=ttyS0 quiet" \
		--share data,tag=data "$@" < /dev/null
}

@test "a shared directory behaves in the guest as it does on the host" {
	mkdir here data/there
	"$BATS_FILE_TMPDIR/fsops" here > host
	echo '/bin/fsops /mnt/there > /mnt/guest 2> /mnt/errors' > data/script
	run vm --no-jail
	[ "$status" -eq 0 ]
	[ ! -s data/errors ]
	diff host data/guest
	[ "$(wc -l < host)" -gt 250 ]
}

@test "in the jail a shared directory lacks trusted attributes, and set-id bits go with root's writes" {
	[ "$(id -u)" -eq 0 ] || skip "not root: shared directories in the jail are NOT tested"
	mkdir here data/there
	"$BATS_FILE_TMPDIR/fsops" here > host
	echo '/bin/fsops /mnt/there > /mnt/guest 2> /mnt/errors' > data/script
	run vm
	[ "$status" -eq 0 ]
	[ ! -s data/errors ]
	[ "$(diff host data/guest | grep -c '^>')" -le 4 ]
	diff <(grep -vE 'trusted\.t|list of|suidroot: ' host) <(grep -vE 'trusted\.t|list of|suidroot: ' data/guest)
	[ "$(stat -c %u:%g data/there/shared/mine)" = 1000:2002 ]
}

@test "a read-only share cannot be changed, and its owners can be mapped" {
	echo kept > data/file
	chown 5003:7004 data/file
	echo 'stat -c %u:%g /mnt/file; echo x > /mnt/file; rm /mnt/file; mkdir /mnt/d; cat /mnt/file' > data/script
	run timeout 120 "$BERTH" vmm run --accel soft --kernel "$kernel" --initrd "$initrd" --append "console=ttyS0 quiet" \
		--share data,tag=data,ro,uidmap=0:5000:100,gidmap=0:7000:100 < /dev/null
	[ "$status" -eq 0 ]
	[[ "$output" == *"3:4"* ]]
	[ "$(grep -c 'Read-only file system' <<< "$output")" -eq 3 ]
	[[ "$output" == *"kept"* ]]
	[ "$(cat data/file)" = kept ]
}

@test "sockets and ports connect programs of the guest with programs of the host" {
	cat > data/script <<-'END'
		/bin/vsock send 1234 3000000
		/bin/vsock send 99 1
		/bin/vsock echo 5000 20
		echo "to the log" > /dev/$(basename $(dirname $(grep -l log /sys/class/virtio-ports/*/name)))
	END
	python3 - <<-'END' > host.log 2>&1 3>&- &
		import os, socket, threading, time
		server = socket.socket(socket.AF_UNIX)
		server.bind("v.sock_1234")
		server.listen()
		connection = server.accept()[0]
		size = 0
		while data := connection.recv(65536):
		    size += len(data)
		connection.sendall(f"{size} bytes".encode())
		connection.close()
		while "VSOCK-LISTENS" not in open("console").read():
		    time.sleep(0.1)
		def speak(i):
		    s = socket.socket(socket.AF_UNIX)
		    s.connect("v.sock")
		    s.sendall(b"CONNECT 5000\n")
		    f = s.makefile("rb")
		    assert f.readline().startswith(b"OK ")
		    data = os.urandom(10000 * i)
		    threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
		    assert f.read() == data
		    print("same")
		for thread in [threading.Thread(target=speak, args=(i,)) for i in range(20)]:
		    thread.start()
	END
	host=$!
	vm --vsock v.sock,cid=42 --port log=file:log > console
	wait "$host"
	grep -q "the host says 3000000 bytes" console
	grep -q "connect: Connection reset by peer" console
	grep -q "^0 connections went wrong" console
	[ "$(grep -o same host.log | wc -l)" -eq 20 ] # two threads may share a line
	[ "$(cat log)" = "to the log" ]
	[ ! -e v.sock ]
}

@test "options of devices that make no sense are refused, and leave nothing behind" {
	run vm --share /nowhere
	[ "$status" -eq 125 ]
	[[ "$output" == *"/nowhere"* ]]
	run vm --share data,tag=data
	[ "$status" -eq 125 ]
	[[ "$output" == *'two shares have the tag "data"'*"hint: "* ]]
	run vm --share data,rw
	[ "$status" -eq 125 ]
	[[ "$output" == *'"rw"'*"hint: "* ]]
	run vm --vsock v.sock,cid=2
	[ "$status" -eq 125 ]
	[[ "$output" == *'"cid=2"'*"hint: "* ]]
	run vm --vsock v.sock --port x=socket:
	[ "$status" -eq 125 ]
	[[ "$output" == *'"x=socket:"'*"hint: "* ]]
	[ ! -e v.sock ]
}
