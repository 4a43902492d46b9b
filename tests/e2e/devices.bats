#!/usr/bin/env bats
# A real Linux drives the devices: shared directories, sockets, ports, disks, network cards, the balloon.

load helpers

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
	timeout 300 "$BERTH" vmm run --accel soft --kernel "$kernel" --initrd "$initrd" --append "console=ttyS0 quiet" \
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
	run timeout 300 "$BERTH" vmm run --accel soft --kernel "$kernel" --initrd "$initrd" --append "console=ttyS0 quiet" \
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

# What the disks hold is the host's files' content; what was discarded takes no room there any more.
@test "a disk's writes are on the host after a flush, what is discarded is gone, and a read-only one stays" {
	head -c 8M /dev/urandom > disk
	head -c 1M /dev/urandom > fixed
	cp fixed before
	cat > data/script <<-'END'
		blkdiscard -o 1048576 -l 2097152 /dev/vda
		dd if=/dev/vda bs=1M skip=1 count=2 2> /dev/null | tr -d '\0' | wc -c
		tr '\0' x < /dev/zero | dd of=/dev/vda bs=1M seek=4 count=1 iflag=fullblock conv=fsync 2> /dev/null
		touch /mnt/written
		while [ ! -e /mnt/go ]; do usleep 10000; done
		dd if=/dev/zero of=/dev/vdb bs=4k count=1 conv=fsync 2>&1
		cat /sys/block/vda/ro /sys/block/vdb/ro /sys/block/vda/queue/write_cache
	END
	vm --disk disk,format=raw --disk fixed,ro,format=raw > console 3>&- &
	machine=$!
	PATIENCE=110 eventually test -e data/written
	[ "$(head -c 5M disk | tail -c 1M | tr -d x | wc -c)" -eq 0 ]
	[ "$(head -c 3M disk | tail -c 2M | tr -d '\0' | wc -c)" -eq 0 ]
	[ "$(du -k disk | cut -f 1)" -le 6200 ]
	touch data/go
	wait "$machine"
	expect "$(tr -d '\r' < console | grep -x '[0-9]*\|write .*' | tr '\n' ' ')" "0 0 1 write back "
	grep -q "Operation not permitted\|Read-only\|Input/output error" console
	cmp fixed before
}

@test "a network card of two queues carries connections both ways, with offloads" {
	[ "$(id -u)" -eq 0 ] || skip "not root: network cards are NOT tested with a Linux"
	cat > data/script <<-'END'
		ip link set eth0 up
		ip addr add 10.9.0.2/24 dev eth0
		for i in 1 2 3 4; do
			(head -c 2000000 /dev/zero | tr '\0' "$i" | nc 10.9.0.1 7000 > "/tmp/$i") &
		done
		wait
		for i in 1 2 3 4; do tr -d "$i" < "/tmp/$i" | wc -c; wc -c < "/tmp/$i"; done > /mnt/sizes
		ls /sys/class/net/eth0/queues > /mnt/queues
		grep -c 'virtio.*-\(in\|out\)put\.[01]$' /proc/interrupts > /mnt/vectors
	END
	cat > peer.py <<-'END'
		import os, socket, subprocess, sys, threading
		for command in ("ip link set lo up", "ip tuntap add dev tap0 mode tap multi_queue vnet_hdr",
		                "ip addr add 10.9.0.1/24 dev tap0", "ip link set tap0 up"):
		    subprocess.run(command.split(), check=True)
		def echo(connection):
		    while data := connection.recv(1 << 16):
		        connection.sendall(data)
		    connection.close()
		def serve():
		    while True:
		        threading.Thread(target=echo, args=server.accept()[:1], daemon=True).start()
		server = socket.create_server(("10.9.0.1", 7000))
		threading.Thread(target=serve, daemon=True).start()
		longest = 0
		def listen():
		    global longest
		    while True:
		        data, address = wire.recvfrom(1 << 17)
		        if address[2] != socket.PACKET_OUTGOING:
		            longest = max(longest, len(data))
		wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # every protocol
		wire.bind(("tap0", 0))
		threading.Thread(target=listen, daemon=True).start()
		code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=open("console", "wb")).returncode
		# A segment larger than the wire's packets has come from the guest: it leaves the cutting to us.
		print(longest > 1600, code)
	END
	run timeout 300 unshare --net python3 peer.py "$BERTH" \
		vmm run --accel soft --cpus 2 --kernel "$kernel" --initrd "$initrd" --append "console=ttyS0 quiet" \
		--share data,tag=data --net tap=tap0,queues=2
	expect "$output" "True 0"
	expect "$(tr '\n' ' ' < data/sizes)" "0 2000000 0 2000000 0 2000000 0 2000000 "
	expect "$(tr '\n' ' ' < data/queues)" "rx-0 rx-1 tx-0 tx-1 "
	expect "$(cat data/vectors)" 4
}

# The value of a key of metrics' balloon.
balloon() {
	"$BERTH" vmm control vm.sock metrics | python3 -c '
import json, sys
balloon = json.load(sys.stdin)["balloon"]
print(balloon[sys.argv[1]] if sys.argv[1] in balloon else balloon["guest"].get(sys.argv[1], 0))' "$1"
}

@test "the guest gives memory back, takes it when it is out of it, and says what it has" {
	cat > data/script <<-'END'
		touch /mnt/ready
		while [ ! -e /mnt/go ]; do usleep 10000; done
		mount -t tmpfs -o size=100% tmpfs /tmp
		dd if=/dev/zero of=/tmp/large bs=1M count=100 2> /dev/null
		ls -l /tmp/large > /mnt/taken
		while [ ! -e /mnt/end ]; do usleep 10000; done
	END
	vm --control vm.sock > console 3>&- &
	machine=$!
	PATIENCE=110 eventually test -e data/ready
	is() { [ "$(balloon "$1")" "$2" "$3" ]; }
	eventually is freeBytes -gt $((100 << 20))
	[ "$(balloon totalBytes)" -lt $((256 << 20)) ]
	"$BERTH" vmm control vm.sock balloon 120m
	PATIENCE=60 eventually is actualBytes -eq $((120 << 20))
	[ "$(balloon releasedBytes)" -ge $((120 << 20)) ]
	eventually is freeBytes -lt $((100 << 20))
	touch data/go
	PATIENCE=60 eventually test -s data/taken
	grep -q 104857600 data/taken
	[ "$(balloon actualBytes)" -lt $((120 << 20)) ]
	"$BERTH" vmm control vm.sock balloon 0
	PATIENCE=60 eventually is actualBytes -eq 0
	touch data/end
	wait "$machine"
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
