#!/usr/bin/env bats
# Attacks on the OCI runtime, continued from security.bats: what seems to be a file of the kernel's and is none, and
# who changes names while they are used. What each protection is, and that its test fails without it:
# tests/removals.
load helpers
load bundle

setup_file() {
	cc -O2 -D_GNU_SOURCE -o "$BATS_FILE_TMPDIR/between" "$BATS_TEST_DIRNAME/../tools/between.c" -lseccomp
	cc -O2 -D_GNU_SOURCE -o "$BATS_FILE_TMPDIR/without" "$BATS_TEST_DIRNAME/../tools/without.c" -lseccomp
	cc -O2 -D_GNU_SOURCE -o "$BATS_FILE_TMPDIR/swap" "$BATS_TEST_DIRNAME/attacks/swap.c"
}

# Runs the container in a mount namespace in which the shell has done something to the host.
on_host_where() {
	run_split unshare -m sh -ec "$1; exec '$BERTH' oci --root '$TEST_DIR/state' run --bundle '$TEST_DIR' '$ID'" </dev/null
}

# between CALLS SCRIPT: runs the container, and the script just before each of the calls.
between() {
	run_split unshare -m "$BATS_FILE_TMPDIR/between" "$1" "$2" ${WITHOUT:+"$BATS_FILE_TMPDIR/without" "$WITHOUT"} \
		"$BERTH" oci --root "$TEST_DIR/state" run --bundle "$TEST_DIR" "$ID" </dev/null
}

# Nobody uses these; who did would be seen.
BY_PATH=mkdir,mknod,symlink,unlink,rename,chown
CLASSIC=open_tree,move_mount,fsopen,fsconfig,fsmount,fspick,mount_setattr

without_dev='c["mounts"] = [m for m in c["mounts"] if not m["destination"].startswith("/dev")]'

# --- what is not what it seems ----------------------------------------------------------------------

@test "protection: a null device of the host that is another file masks nothing" {
	echo false >"$TEST_DIR/false"
	edit 'c["linux"]["maskedPaths"] = ["/proc/keys"]'
	for false in "$TEST_DIR/false" /dev/zero; do
		edit "c['process']['args'] = ['true']"
		on_host_where "mount --bind $false /dev/null"
		expect "$status" 1
		expect_in "$stderr" "/dev/null of this host is not the null device"
	done
}

@test "protection: settings are not written where the host's /proc/sys is none" {
	mkdir -p "$TEST_DIR/false/net/core"
	echo untouched >"$TEST_DIR/false/net/core/somaxconn"
	edit 'c["linux"]["sysctl"] = {"net.core.somaxconn": "77"}; c["process"]["args"] = ["true"]'
	on_host_where "mount --bind $TEST_DIR/false /proc/sys"
	expect "$status" 1
	expect_in "$stderr" "/proc/sys is not a procfs"
	expect "$(cat "$TEST_DIR/false/net/core/somaxconn")" untouched
}

@test "protection: settings are not written through the mounts of a container that is joined" {
	# In that container's /proc/sys one file is another one of the kernel's.
	edit "c['process']['args'] = ['sleep', '1000']"
	oci run -d --bundle "$TEST_DIR" --pid-file "$TEST_DIR/pid" "$ID" </dev/null >/dev/null 2>&1
	python3 - "$(cat "$TEST_DIR/pid")" <<-'PYTHON'
		import ctypes, os, sys
		libc = ctypes.CDLL(None, use_errno=True)
		def call(function, *arguments):
		    result = function(*arguments)
		    if result < 0:
		        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
		    return result
		tree = call(libc.syscall, 428, -100, b"/proc/sys/kernel/domainname", 1) # open_tree, a copy
		call(libc.setns, os.open("/proc/%s/ns/mnt" % sys.argv[1], os.O_RDONLY), 0)
		call(libc.syscall, 429, tree, b"", -100, b"/proc/sys/net/core/somaxconn", 4) # move_mount
	PYTHON
	mkdir "$TEST_DIR/second"
	cp "$TEST_DIR/config.json" "$TEST_DIR/second/"
	TEST_DIR=$TEST_DIR/second edit "c['process']['args'] = ['cat', '/proc/sys/kernel/domainname']
c['mounts'] = []; c['root']['path'] = '/'; c['domainname'] = 'untouched'
c['linux']['maskedPaths'] = c['linux']['readonlyPaths'] = []
c['linux']['sysctl'] = {'net.core.somaxconn': '77'}
for n in c['linux']['namespaces']:
    if n['type'] == 'mount': n['path'] = '/proc/$(cat "$TEST_DIR/pid")/ns/mnt'"
	run_split oci run --bundle "$TEST_DIR/second" "$ID-2"
	echo "$stderr"
	expect "$output" untouched
	expect "$status" 0
}

# A file of /proc that is another's, in the very moment in which the process opens its own.
false_proc_file() {
	echo untouched >"$TEST_DIR/false"
	local script="file=/proc/\$CALLER/$1; [ ! -e \$file ] || grep -q untouched \$file || mount --bind $TEST_DIR/false \$file
[ ! -e /proc/self/ns/mnt ] || nsenter -t \$CALLER -m sh -c \"[ ! -e \$file ] || grep -q untouched \$file || mount --bind $TEST_DIR/false \$file\""
	between openat "$script"
}

@test "protection: the OOM score is written to a real procfs" {
	edit "c['process']['args'] = ['true']; c['process']['oomScoreAdj'] = 500"
	false_proc_file oom_score_adj
	echo "$stderr"
	expect "$status" 1
	expect_in "$stderr" "process.oomScoreAdj"
	expect "$(cat "$TEST_DIR/false")" untouched
}

# AppArmor seems to be on: what is asked here is where the label would go.
apparmor_seems_on='mount -t tmpfs none /sys/module; mkdir -p /sys/module/apparmor/parameters
echo Y >/sys/module/apparmor/parameters/enabled'

@test "protection: a label is written to a real procfs" {
	[ -e /proc/self/attr/exec ] || skip "the kernel takes no labels"
	edit "c['process']['args'] = ['true']; c['process']['apparmorProfile'] = 'some-profile'"
	local script="$apparmor_seems_on
exec unshare -m '$BATS_FILE_TMPDIR/between' openat '
file=/proc/\$CALLER/task/\$CALLER/attr/exec
nsenter -t \$CALLER -m sh -c \"[ ! -w \$file ] || grep -q untouched \$file || mount --bind $TEST_DIR/false \$file\"'"
	echo untouched >"$TEST_DIR/false"
	run_split unshare -m sh -ec "$script '$BERTH' oci --root '$TEST_DIR/state' run --bundle '$TEST_DIR' '$ID'" </dev/null
	echo "$stderr"
	expect "$status" 1
	expect_in "$stderr" "process.apparmorProfile"
	expect "$(cat "$TEST_DIR/false")" untouched
}

@test "protection: a label does not go to where the container's /proc leads" {
	[ -e /proc/self/attr/exec ] || skip "the kernel takes no labels"
	# A true file of a procfs, which takes any text.
	local at exec=/proc/thread-self/attr
	mkdir -p "$TEST_DIR/false/thread-self/attr/apparmor"
	touch "$TEST_DIR/false/thread-self/attr/exec" "$TEST_DIR/false/thread-self/attr/apparmor/exec"
	mkdir -p "$TEST_DIR/rootfs/sys/module/apparmor/parameters"
	echo Y >"$TEST_DIR/rootfs/sys/module/apparmor/parameters/enabled"
	edit "c['mounts'] = [m for m in c['mounts'] if m['destination'].split('/')[1] not in ('proc', 'sys')]
c['linux']['maskedPaths'] = c['linux']['readonlyPaths'] = []
c['mounts'] += [{'destination': '/proc', 'source': '$TEST_DIR/false', 'options': ['bind']},
    {'destination': '$exec/exec', 'source': '/proc/sys/kernel/domainname', 'options': ['bind']},
    {'destination': '$exec/apparmor/exec', 'source': '/proc/sys/kernel/domainname', 'options': ['bind']}]
c['process']['args'] = ['sleep', '1000']"
	oci run -d --bundle "$TEST_DIR" "$ID" </dev/null >/dev/null 2>&1
	edit "c['process']['args'] = ['true']; c['process']['apparmorProfile'] = 'some-profile'"
	python3 -c "import json, sys; c = json.load(open(sys.argv[1])); json.dump(c['process'], open(sys.argv[2], 'w'))" \
		"$TEST_DIR/config.json" "$TEST_DIR/process.json"
	for at in "run --bundle '$TEST_DIR' '$ID-2'" "exec --process '$TEST_DIR/process.json' '$ID'"; do
		run_split unshare -m sh -ec "$apparmor_seems_on; exec '$BERTH' oci --root '$TEST_DIR/state' $at" </dev/null
		echo "$at: $status $stderr"
		[ "$status" -ne 0 ]
		expect_in "$stderr" "process.apparmorProfile"
	done
}

@test "protection: the null device of a volume is not taken for standard input" {
	mkdir "$TEST_DIR/volume"
	edit 'c["mounts"] = [m for m in c["mounts"] if not m["destination"].startswith("/dev/")]'
	edit "for m in c['mounts']:
    if m['destination'] == '/dev': m.update({'type': 'bind', 'source': '$TEST_DIR/volume', 'options': ['bind']})"
	for kind in file zero fifo link; do
		rm -f "$TEST_DIR/volume/null"
		case $kind in
		file) echo false >"$TEST_DIR/volume/null" ;;
		zero) mknod "$TEST_DIR/volume/null" c 1 5 ;;
		fifo) mkfifo "$TEST_DIR/volume/null" ;;
		link) ln -s /etc/false "$TEST_DIR/volume/null"; echo false >"$TEST_DIR/rootfs/etc/false" ;;
		esac
		inside 'stat -Lc "%t:%T" /proc/self/fd/0' </dev/null
		expect "$output" 1:3
	done
}

# --- terminals --------------------------------------------------------------------------------------

@test "protection: a multiplexer beside the host's terminals gives none of them" {
	mknod "$TEST_DIR/rootfs/dev/ptmx" c 5 2
	mkdir "$TEST_DIR/rootfs/dev/pts"
	# The device takes the terminals that it finds beside itself: here those of the host, without the multiplexer
	# that is among them.
	touch "$TEST_DIR/null"
	edit "$without_dev
c['mounts'] += [{'destination': '/dev/pts', 'source': '/dev/pts', 'options': ['bind']},
    {'destination': '/dev/pts/ptmx', 'source': '$TEST_DIR/null', 'options': ['bind']}]
c['process']['terminal'] = True; c['process']['args'] = ['tty']"
	run_split oci run --bundle "$TEST_DIR" "$ID" </dev/null
	echo "$output $stderr"
	expect "$status" 1
	expect_in "$stderr" "multiplexer"
}

@test "protection: a terminal is what its multiplexer has made, not what is called so" {
	mkdir -p "$TEST_DIR/rootfs/dev/pts" "$TEST_DIR/rootfs/dev/true"
	for n in 0 1 2 3 4 5 6 7 8 9; do echo trap >"$TEST_DIR/rootfs/dev/pts/$n"; done
	ln -s true/ptmx "$TEST_DIR/rootfs/dev/ptmx"
	edit "$without_dev
c['mounts'].append({'destination': '/dev/true', 'type': 'devpts', 'source': 'devpts', 'options': ['newinstance', 'ptmxmode=0666']})
c['process']['terminal'] = True
c['process']['args'] = ['sh', '-c', 'test -t 0 && test -t 1 && test -t 2 && test -c /dev/console && echo is a terminal']"
	run_split script -qefc "$BERTH oci --root $TEST_DIR/state run --bundle $TEST_DIR $ID" /dev/null </dev/null
	echo "$output"
	expect_in "$output" "is a terminal"
	expect "$(cat "$TEST_DIR"/rootfs/dev/pts/* | sort -u)" trap
}

@test "protection: /dev/console that becomes a link while it is used is not followed" {
	echo untouched >"$TEST_DIR/rootfs/etc/target"
	edit "$without_dev
c['mounts'].append({'destination': '/dev/pts', 'type': 'devpts', 'source': 'devpts', 'options': ['newinstance', 'ptmxmode=0666']})
c['process']['terminal'] = True; c['process']['args'] = ['sh', '-c', 'test -f /etc/target && cat /etc/target || echo taken']"
	for n in $(seq 1 60); do
		rm -f "$TEST_DIR/rootfs/dev/console"
		touch "$TEST_DIR/rootfs/dev/console"
		run_split script -qefc "$BATS_FILE_TMPDIR/between openat2@$n \
'ln -sfn /etc/target $TEST_DIR/rootfs/dev/console' \
$BERTH oci --root $TEST_DIR/state run --bundle $TEST_DIR $ID" /dev/null </dev/null
		# Refused, or begun with the file.
		[ "$status" -ne 0 ] || expect_in "$output" untouched
		if [ ! -L "$TEST_DIR/rootfs/dev/console" ]; then break; fi
	done
	[ "$n" -gt 5 ]
}

# --- names that change ------------------------------------------------------------------------------

# What the container makes in the image and what it mounts, each with a link beside it that leads out.
swappable() {
	mkdir -p "$TEST_DIR/outside/"{in,pts,shm} "$TEST_DIR/volume"
	touch "$TEST_DIR/volume/mark" "$TEST_DIR/outside/file"
	pristine
	edit "$without_dev
c['mounts'] += [{'destination': '/vol/in/new', 'type': 'tmpfs', 'source': 'tmpfs', 'options': ['size=4k']},
    {'destination': '/vol/in/file', 'source': '$TEST_DIR/volume/mark', 'options': ['bind']},
    {'destination': '/vol/dir', 'source': '$TEST_DIR/volume', 'options': ['bind', 'ro']},
    {'destination': '/file', 'source': '$TEST_DIR/volume/mark', 'options': ['bind']}]
c['process']['cwd'] = '/vol/work'
c['linux']['devices'] = [{'path': '/dev/sub/own', 'type': 'c', 'major': 1, 'minor': 5}]
c['linux']['maskedPaths'] = ['/vol/in/file', '/vol/in']; c['linux']['readonlyPaths'] = ['/vol', '/file']"
	edit "c['process']['args'] = ['true']"
	OUTSIDE=$(cd "$TEST_DIR/outside" && find . | sort)
}

# As if no container had been run there: what it makes is made again.
pristine() {
	(
		cd "$TEST_DIR/rootfs"
		rm -rf vol dev file ./*.other ./*.now
		mkdir -p vol/in dev
		touch file
		ln -s "$TEST_DIR/outside" vol.other
		ln -s "$TEST_DIR/outside" dev.other
		ln -s "$TEST_DIR/outside/file" file.other
	)
}

outside_untouched() {
	expect "$(cd "$TEST_DIR/outside" && find . | sort)" "$OUTSIDE" && expect "$(stat -c %s "$TEST_DIR/outside/file")" 0
}

# For each of the steps in which names are used: they are other ones in just this step, and then themselves again.
# The container's mount namespace is gone before we could look: what is mounted is looked at by the script.
swap_at_each_step() {
	local n swap="case \$(cat /proc/\$CALLER/mountinfo) in *' $TEST_DIR/outside'*) echo \$CALL >>$TEST_DIR/mounted ;; esac
echo >>$TEST_DIR/swapped; cd $TEST_DIR/rootfs
for n in vol dev file; do mv -T \$n \$n.now; mv -T \$n.other \$n; mv -T \$n.now \$n.other; done"
	for n in $(seq 300); do
		rm -f "$TEST_DIR/swapped"
		pristine
		between "$1@$n-$((n + 1))" "$swap"
		if [ -e "$TEST_DIR/mounted" ]; then
			echo "step $n: mounted outside, seen at $(cat "$TEST_DIR/mounted")"
			return 1
		fi
		outside_untouched || { echo "step $n: $stderr"; return 1; }
		[ -e "$TEST_DIR/swapped" ] || break
	done
	echo "$n steps"
	[ "$n" -gt 20 ]
	expect "$status" 0
}

@test "protection: names that are other ones in a single step lead nowhere" {
	swappable
	swap_at_each_step openat2,mkdirat,mknodat,symlinkat,unlinkat,move_mount,mount_setattr,open_tree,open_tree_attr,fchownat,$BY_PATH
}

@test "protection: the same with mount(2) alone" {
	swappable
	WITHOUT=$CLASSIC swap_at_each_step openat2,mkdirat,mknodat,symlinkat,unlinkat,mount,fchownat,$BY_PATH
}

@test "protection: names that are exchanged all the time lead nowhere, with either interface" {
	swappable
	(cd "$TEST_DIR/rootfs" && exec "$BATS_FILE_TMPDIR/swap" vol vol.other dev dev.other file file.other 3>&-) &
	local swapper=$!
	for i in $(seq "${BERTH_RACES:-60}"); do
		if [ $((i % 2)) = 0 ]; then
			run_split oci run --bundle "$TEST_DIR" "$ID"
		else
			run_split "$BATS_FILE_TMPDIR/without" $CLASSIC "$BERTH" oci --root "$TEST_DIR/state" run --bundle "$TEST_DIR" "$ID"
		fi
		outside_untouched
	done
	kill $swapper
	wait $swapper || true
	expect "$(grep -c " $TEST_DIR/" /proc/self/mountinfo || true)" 0
}

@test "protection: what is to be read-only is so when two mounts change places, with mount(2) alone" {
	mkdir "$TEST_DIR/rootfs/"{a,b} "$TEST_DIR/"{volume-a,volume-b}
	edit "c['mounts'] += [{'destination': '/b', 'source': '$TEST_DIR/volume-b', 'options': ['bind']},
    {'destination': '/a', 'source': '$TEST_DIR/volume-a', 'options': ['bind', 'ro']}]
c['process']['args'] = ['sh', '-c', 'touch /a/x /b/x']"
	for n in $(seq 100); do
		rm -f "$TEST_DIR/"volume-?/x "$TEST_DIR/done"
		WITHOUT=$CLASSIC between "openat2@$n" "touch $TEST_DIR/done; cd $TEST_DIR/rootfs && mv a c && mv b a && mv c b"
		[ ! -e "$TEST_DIR/volume-a/x" ]
		[ -e "$TEST_DIR/done" ] || break
	done
	[ "$n" -gt 10 ]
}

@test "protection: without pivot_root no procfs stays that others can be mounted for" {
	cp "$(command -v busybox)" "$TEST_DIR/rootfs/bin/unshare"
	edit "c['linux']['maskedPaths'] = ['/proc/keys', '/proc/sys']
every = ['CAP_SYS_ADMIN', 'CAP_SETUID', 'CAP_SETGID', 'CAP_SETFCAP']
c['process']['capabilities'] = {s: every for s in ('bounding', 'effective', 'permitted')}
c['process']['args'] = ['unshare', '-U', '-r', '-m', '-p', '-f', 'mount', '-t', 'proc', 'proc', '/tmp']"
	for how in "" --no-pivot; do
		run_split oci run $how --bundle "$TEST_DIR" "$ID"
		echo "$status $stderr"
		[ "$status" -ne 0 ]
		expect_in "$stderr" "ermission denied"
	done
}
