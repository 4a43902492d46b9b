#!/usr/bin/env bats
# Attacks on the engine by what an image contains, and by other users of the host; those on the runtime are in
# oci.bats, security.bats and protections.bats, those of archives in files.bats and pull.bats.
load helpers

setup_file() {
	cc -O2 -D_GNU_SOURCE -o "$BATS_FILE_TMPDIR/between" "$BATS_TEST_DIRNAME/../tools/between.c" -lseccomp
}
setup() { BERTH_ISOLATION=container berth_setup none; }
teardown() { berth_teardown; }

# tree: an image's files with busybox in $TEST_DIR/tree; import NAME makes the image of it.
tree() {
	mkdir -p "$TEST_DIR/tree/"{bin,etc,tmp,shared}
	cp "$(command -v busybox)" "$TEST_DIR/tree/bin/busybox"
}
import() { tar -C "$TEST_DIR/tree" -c . | berth import - "$1" >/dev/null; }

@test "attack: programs of the image are not run for what we do with a container" {
	local name
	tree
	mkdir -p "$TEST_DIR/tree/"{sbin,usr/bin,usr/sbin} "$TEST_DIR/shared"
	printf '#!/bin/busybox sh\necho "$0 $(busybox grep CapEff /proc/self/status)" >>/shared/ran\n' >"$TEST_DIR/trojan"
	chmod 755 "$TEST_DIR/trojan"
	for name in ps tar xz gzip zstd cat sh bash ls id getent mount umount ip nft modprobe sysctl newuidmap criu; do
		cp "$TEST_DIR/trojan" "$TEST_DIR/tree/bin/$name"
		ln -s "../../bin/$name" "$TEST_DIR/tree/usr/bin/$name"
		ln -s "../bin/$name" "$TEST_DIR/tree/sbin/$name"
	done
	import trojan:1
	echo file >"$TEST_DIR/file"
	berth run -d --name a -v "$TEST_DIR/shared:/shared" trojan:1 /bin/busybox sleep 1000 >/dev/null
	berth top a >/dev/null
	berth stats --no-stream a >/dev/null
	berth diff a >/dev/null
	berth cp a:/bin/ps "$TEST_DIR/got"
	berth cp "$TEST_DIR/file" a:/tmp/file
	berth export a >/dev/null
	berth commit a trojan:2 >/dev/null
	berth pause a
	berth unpause a
	berth logs a
	berth exec a /bin/busybox true
	berth stop --time 1 a >/dev/null
	berth sbom trojan:1 >/dev/null
	berth start a >/dev/null
	expect "$(cat "$TEST_DIR/shared/ran" 2>/dev/null || true)" ""
	# It would be seen.
	berth exec a ps
	expect_in "$(cat "$TEST_DIR/shared/ran")" /bin/ps
}

@test "attack: /etc/passwd of the image that waits or leads out gives nobody" {
	tree
	mkfifo "$TEST_DIR/tree/etc/passwd"
	import fifo:1
	run_split timeout 60 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" run --rm -u somebody fifo:1 /bin/busybox true
	expect "$status" 125
	expect_in "$stderr" "unable to find user somebody"
	echo onlyhost:x:4321:4321::/:/bin/sh >"$TEST_DIR/passwd"
	rm "$TEST_DIR/tree/etc/passwd"
	ln -s "$TEST_DIR/passwd" "$TEST_DIR/tree/etc/passwd"
	import link:1
	run_split berth run --rm -u onlyhost link:1 /bin/busybox true
	expect "$status" 125
	expect_in "$stderr" "unable to find user onlyhost"
	for user in 4294967296 99999999999999999999 -1; do
		run_split berth run --rm --user=$user link:1 /bin/busybox id -u
		expect "$status" 125
	done
}

@test "attack: labels of an image are no options of the runtime" {
	tree
	import plain:1
	berth run --name a plain:1 /bin/busybox true
	berth commit --change 'LABEL run.oci.keep_original_groups=1 org.criu.config=/etc/shadow org.systemd.property.TasksMax=1' \
		a labelled:1 >/dev/null
	expect_in "$(berth inspect labelled:1)" keep_original_groups
	run_split setpriv --groups 4242 "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" run --rm labelled:1 \
		/bin/busybox id -G
	expect "$status" 0
	expect "$output" 0
}

@test "attack: another user sees nothing of what is kept or runs" {
	local own=("$BERTH" --root "$TEST_DIR/mine/root" --state "$TEST_DIR/mine/state") path
	chmod 755 "$TEST_DIR"
	mkdir "$TEST_DIR/mine"
	tree
	tar -C "$TEST_DIR/tree" -c . | "${own[@]}" import - b:1 >/dev/null
	"${own[@]}" run -d --name a b:1 /bin/busybox sleep 1000 >/dev/null
	for path in "$TEST_DIR/mine/root" "$TEST_DIR/mine/state"; do
		expect "$(setpriv --reuid 65534 --regid 65534 --clear-groups ls "$path" 2>/dev/null || echo refused)" refused
	done
	# And no socket has a name without a file, which every user of the network namespace could connect to.
	expect "$(awk '$8 ~ /^@/' /proc/net/unix | grep -i berth || true)" ""
	"${own[@]}" rm -f a >/dev/null
}

# The files of the volume as they were, each with a link beside it that leads out.
swappable() {
	rm -rf "$TEST_DIR/shared"/*
	mkdir -p "$TEST_DIR/shared/a/in"
	echo inside | tee "$TEST_DIR/shared/a/f" >"$TEST_DIR/shared/a/in/f"
	ln -s "$TEST_DIR/outside" "$TEST_DIR/shared/a.other"
	ln -s "$TEST_DIR/outside/in" "$TEST_DIR/shared/a/in.other"
	ln -s "$TEST_DIR/outside/f" "$TEST_DIR/shared/a/f.other"
}

look_outside() { find "$TEST_DIR/outside" -printf '%p %m %U %G %s %T@\n' | sort; }

# swapping NAMES COMMAND...: does it again and again, and each time the names are exchanged with the links beside them
# for one more step of berth's; then $outside and what the command has brought have to be what they were.
swapping() {
	local names=$1 n swap
	shift
	swap="echo >>$TEST_DIR/swapped; cd $TEST_DIR/shared
for n in $names; do mv -T \$n \$n.now; mv -T \$n.other \$n; mv -T \$n.now \$n.other; done"
	for n in $(seq 300); do
		rm -rf "$TEST_DIR/swapped" "$TEST_DIR/got"
		swappable
		run_split "$BATS_FILE_TMPDIR/between" \
			"openat2,statx,readlinkat,mkdirat,symlinkat,renameat,fchownat,fchmodat,chmod,utimensat@$n-$((n + 1))" \
			"$swap" "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" cp "$@"
		expect "$(look_outside)" "$outside" || { echo "step $n: $stderr" && return 1; }
		if grep -rs secret "$TEST_DIR/got"; then echo "step $n" && return 1; fi
		[ -e "$TEST_DIR/swapped" ] || break
	done
	echo "$n steps"
	[ "$n" -gt 10 ]
	expect "$status" 0
}

@test "attack: names that become links during cp lead nowhere, in either direction" {
	local outside names
	tree
	import plain:1
	mkdir -p "$TEST_DIR/outside/in" "$TEST_DIR/new/in" "$TEST_DIR/shared"
	echo secret | tee "$TEST_DIR/outside/f" >"$TEST_DIR/outside/in/f"
	chmod 700 "$TEST_DIR/outside" "$TEST_DIR/outside/in"
	echo new | tee "$TEST_DIR/new/f" >"$TEST_DIR/new/in/f"
	ln -s f "$TEST_DIR/new/link"
	chmod 777 "$TEST_DIR/new" "$TEST_DIR/new/in" "$TEST_DIR/new/f"
	outside=$(look_outside)
	berth run -d --name c -v "$TEST_DIR/shared:/shared" plain:1 /bin/busybox sleep 1000 >/dev/null
	for names in a "a/in a/f"; do
		swapping "$names" c:/shared/a "$TEST_DIR/got"
		swapping "$names" --archive "$TEST_DIR/new/." c:/shared/a
	done
}
