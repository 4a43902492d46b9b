#!/usr/bin/env bats
# Attacks on the OCI runtime, each by what runtimes have fallen to (more are in oci.bats and protections.bats). A
# test fails if its protection is taken out: tests/removals does that, and says what.
load helpers
load bundle

setup_file() {
	cc -O2 -static -o "$BATS_FILE_TMPDIR/exe" "$BATS_TEST_DIRNAME/attacks/exe.c"
	cc -O2 -D_GNU_SOURCE -o "$BATS_FILE_TMPDIR/between" "$BATS_TEST_DIRNAME/../tools/between.c" -lseccomp
	cc -O2 -o "$BATS_FILE_TMPDIR/without" "$BATS_TEST_DIRNAME/../tools/without.c" -lseccomp
}

# A container that sleeps, run by a berth of its own, in which the attacking program watches for four seconds.
watched_container() {
	copy_berth
	all_capabilities
	edit "c['process']['args'] = ['sleep', '1000']"
	"$COPY" oci --root "$TEST_DIR/state" run -d --bundle "$TEST_DIR" --pid-file "$TEST_DIR/pid" "$ID" \
		</dev/null >/dev/null 2>&1
	cp "$BATS_FILE_TMPDIR/exe" "$TEST_DIR/rootfs/exe"
	"$COPY" oci --root "$TEST_DIR/state" exec -d "$ID" /exe /exe 4 </dev/null >"$TEST_DIR/watch" 2>&1
}

watch_is_over() { grep -q -e wrote -e done "$TEST_DIR/watch"; }

# Waits for its end: it has written nothing.
watcher_failed() {
	for _ in $(seq 80); do
		if watch_is_over; then break; fi
		sleep 0.1
	done
	expect "$(sha256sum <"$COPY")" "$BEFORE"
	expect "$(grep -c wrote "$TEST_DIR/watch" || true)" 0
}

# A berth of our own that may be overwritten.
copy_berth() {
	COPY=$TEST_DIR/berth
	cp "$BERTH" "$COPY"
	BEFORE=$(sha256sum <"$COPY")
}

# Runs the copy as the runtime. Who tries to open the file for writing makes it busy for the moment that
# the kernel takes to refuse that (status 126, of the shell): then again.
copy() {
	local code=126 i
	for ((i = 0; i < 50 && code == 126; i++)); do
		code=0
		"$COPY" oci --root "$TEST_DIR/state" "$@" || code=$?
	done
	return "$code"
}

all_capabilities() {
	edit 'every = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"]
c["process"]["capabilities"] = {s: every for s in ("bounding", "effective", "permitted")}'
}

@test "attack: the runtime's file is not written by a watcher while programs are executed inside" {
	watched_container
	for _ in $(seq 60); do
		"$COPY" oci --root "$TEST_DIR/state" exec "$ID" /bin/true || true
		if watch_is_over; then break; fi
	done
	watcher_failed
}

@test "attack: the runtime's file is not written from a pid namespace that a container joins" {
	watched_container
	mkdir "$TEST_DIR/second"
	cp -a "$TEST_DIR/rootfs" "$TEST_DIR/second/rootfs"
	cp "$TEST_DIR/config.json" "$TEST_DIR/second/"
	TEST_DIR=$TEST_DIR/second edit "c['process']['args'] = ['true']
for n in c['linux']['namespaces']:
    if n['type'] == 'pid': n['path'] = '/proc/$(cat "$TEST_DIR/pid")/ns/pid'"
	for i in $(seq 40); do
		copy create --bundle "$TEST_DIR/second" "$ID-$i" </dev/null >/dev/null 2>&1
		copy start "$ID-$i"
		copy delete -f "$ID-$i"
		if watch_is_over; then break; fi
	done
	watcher_failed
}

@test "attack: a program whose interpreter is /proc/self/exe gets a file that it cannot write" {
	copy_berth
	printf '#!/proc/self/exe\n' >"$TEST_DIR/rootfs/program"
	chmod +x "$TEST_DIR/rootfs/program"
	edit "c['process']['args'] = ['/program']"
	"$COPY" oci --root "$TEST_DIR/state" create --bundle "$TEST_DIR" --pid-file "$TEST_DIR/pid" "$ID" \
		</dev/null >/dev/null 2>&1
	# As long as it is executed nobody can write to it anyway: afterwards.
	run_split python3 - "/proc/$(cat "$TEST_DIR/pid")/exe" "$COPY" oci --root "$TEST_DIR/state" delete -f "$ID" <<-'PYTHON'
		import os, subprocess, sys
		fd = os.open(sys.argv[1], os.O_RDONLY)
		subprocess.run(sys.argv[2:], check=True)
		try:
		    os.open("/proc/self/fd/%d" % fd, os.O_WRONLY)
		    print("writable")
		except OSError as error:
		    print(error.strerror)
	PYTHON
	expect "$output" "Read-only file system"
	"$COPY" oci --root "$TEST_DIR/state" create --bundle "$TEST_DIR" "$ID" </dev/null >/dev/null 2>&1
	"$COPY" oci --root "$TEST_DIR/state" start "$ID" || true
	expect "$(sha256sum <"$COPY")" "$BEFORE"
}

# The ways to get there: mapped anew; executed again; executed from a copy in memory.
@test "attack: the runtime's file is protected also where one of the ways to do it is missing" {
	edit "c['process']['args'] = ['sleep', '1000']"
	for missing in prctl:35=1 open_tree,prctl:35=1 open_tree mount_setattr; do
		"$BATS_FILE_TMPDIR/without" "$missing" "$BERTH" oci --root "$TEST_DIR/state" create \
			--bundle "$TEST_DIR" --pid-file "$TEST_DIR/pid" "$ID" </dev/null >/dev/null 2>&1
		# Read-only by its mount, or sealed (F_GET_SEALS, with F_SEAL_WRITE).
		run_split python3 -c "import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
try: sealed = fcntl.fcntl(fd, 1034) & 8
except OSError: sealed = 0
print('protected' if sealed or os.fstatvfs(fd).f_flag & os.ST_RDONLY else 'open')" "/proc/$(cat "$TEST_DIR/pid")/exe"
		expect "$output" protected
		oci delete -f "$ID"
	done
}

@test "attack: nothing of the host's mounts, and not the runtime's own, is seen inside" {
	inside 'cat /proc/self/mountinfo'
	expect "$status" 0
	expect "$(echo "$output" | awk '{ print $5 }' | grep -v -e ^/$ -e ^/proc -e ^/dev -e ^/sys)" ""
	expect "$(echo "$output" | awk '$5 != "/" { print $4 }' | grep -c berth)" 0
	expect "$(echo "$output" | awk '$5 == "/"' | wc -l)" 1
}

# Any one of three protections is enough to hold.
@test "attack: a link in the image to a descriptor is no working directory, for exec neither" {
	background
	for n in $(seq 0 40); do
		run_split oci exec --cwd "/proc/self/fd/$n" "$ID" pwd
		[ "$status" -ne 0 ]
	done
	oci delete -f "$ID"
	for n in 3 4 5 6 7 8 9 10 11 12 64; do
		ln -sfn "/proc/self/fd/$n" "$TEST_DIR/rootfs/here"
		edit "c['process']['cwd'] = '/here'; c['process']['args'] = ['pwd']"
		run_split oci run --bundle "$TEST_DIR" "$ID"
		[ "$status" -ne 0 ]
	done
}

@test "attack: no descriptor of the runtime's own is passed on as a preserved one" {
	edit "c['process']['args'] = ['ls', '/proc/self/fd']"
	run_split python3 - "$BERTH" "$TEST_DIR" "$ID" <<-'PYTHON'
		import os, subprocess, sys
		berth, bundle, name = sys.argv[1:]
		# 3..63 are ours; 64 is where the runtime keeps one of its own.
		null = os.open("/dev/null", os.O_RDONLY)
		kept = [os.dup2(null, fd, inheritable=True) for fd in range(3, 64)]
		for count in (61, 62, 100):
		    result = subprocess.run([berth, "oci", "--root", bundle + "/state", "run", "--bundle", bundle,
		                             "--preserve-fds", str(count), name], pass_fds=kept,
		                            stdin=subprocess.DEVNULL, capture_output=True, text=True)
		    assert result.returncode == 0, (count, result)
		    # 64 is that of ls itself, the first free one.
		    seen = {int(fd) for fd in result.stdout.split()}
		    assert seen - {64} == set(range(0, 64)), (count, seen)
	PYTHON
	expect "$stderr" ""
	expect "$status" 0
}

@test "attack: /dev/null of the image that is a link to a file of /proc masks nothing away" {
	ln -sfn /proc/sys/kernel/core_pattern "$TEST_DIR/rootfs/dev/null"
	edit 'c["mounts"] = [m for m in c["mounts"] if not m["destination"].startswith("/dev")]
c["linux"]["maskedPaths"] = ["/proc/keys"]; c["linux"]["readonlyPaths"] = ["/proc/sys"]'
	local look='stat -c "%t:%T" /proc/keys; (: >/proc/sys/kernel/core_pattern) 2>/dev/null && echo written'
	inside "$look"
	expect "$output" "1:3"
	# A /dev that is a volume stays as it is.
	mkdir "$TEST_DIR/volume"
	ln -sfn /proc/sys/kernel/core_pattern "$TEST_DIR/volume/null"
	edit "c['mounts'].append({'destination': '/dev', 'source': '$TEST_DIR/volume', 'options': ['bind']})"
	inside "$look"
	expect "$output" "1:3"
}

@test "attack: /proc of the image that is a link out is refused" {
	mkdir -p "$TEST_DIR/outside/sys"
	rmdir "$TEST_DIR/rootfs/proc"
	ln -s "/../../../../../..$TEST_DIR/outside" "$TEST_DIR/rootfs/proc"
	run_split oci run --bundle "$TEST_DIR" "$ID"
	[ "$status" -ne 0 ]
	echo "$stderr"
	expect_in "$stderr" "proc"
	expect "$(ls -A "$TEST_DIR/outside")" sys
	expect "$(grep -c " $TEST_DIR/outside" /proc/self/mountinfo || true)" 0
}

@test "attack: /dev/console of the image that is a link is refused" {
	for target in /proc/sys/kernel/core_pattern "/../../../..$TEST_DIR/outside" /etc/shadow; do
		touch "$TEST_DIR/outside" "$TEST_DIR/rootfs/etc/shadow"
		ln -sfn "$target" "$TEST_DIR/rootfs/dev/console"
		edit 'c["mounts"] = [m for m in c["mounts"] if m["destination"] not in ("/dev", "/dev/shm", "/dev/mqueue")]
c["process"]["terminal"] = True'
		edit "c['process']['args'] = ['true']"
		run_split oci run --bundle "$TEST_DIR" "$ID" </dev/null
		expect "$status" 1
		expect_in "$stderr" "/dev/console"
	done
}

@test "attack: /etc/passwd of a terabyte costs neither time nor memory" {
	truncate -s 1T "$TEST_DIR/rootfs/etc/passwd"
	edit "c['process']['args'] = ['sh', '-c', 'echo \$HOME']"
	run_split bash -c "ulimit -v 1000000; timeout 20 '$BERTH' oci --root '$TEST_DIR/state' run --bundle '$TEST_DIR' '$ID'"
	expect "$status" 0
	expect "$output" /root
}

@test "attack: groups of the caller do not reach the container" {
	edit "c['process']['args'] = ['grep', 'Groups', '/proc/self/status']"
	run_split setpriv --groups 0,4321 "$BERTH" oci --root "$TEST_DIR/state" run --bundle "$TEST_DIR" "$ID"
	expect "$(echo "$output" | tr -d ' \t')" "Groups:"
	background
	run_split setpriv --groups 0,4321 "$BERTH" oci --root "$TEST_DIR/state" exec "$ID" grep Groups /proc/self/status
	expect "$(echo "$output" | tr -d ' \t')" "Groups:"
}

@test "attack: a process that joins cannot be traced before it runs its program" {
	# Who has the same user and capabilities may look at a process, once it has given up its own: tried at each of its
	# last steps.
	edit "c['process']['args'] = ['sleep', '1000']"
	oci run -d --bundle "$TEST_DIR" --pid-file "$TEST_DIR/pid" "$ID" </dev/null >/dev/null 2>&1
	run_split "$BATS_FILE_TMPDIR/between" openat2,chdir,fchdir,capset,setresuid,execve \
		"[ \$(readlink /proc/\$CALLER/ns/pid) = '$(readlink "/proc/$(cat "$TEST_DIR/pid")/ns/pid")' ] || exit 0
echo \$CALL >>$TEST_DIR/steps
setpriv --bounding-set=-all,+audit_write,+kill,+net_bind_service --inh-caps=-all \
	sh -c 'readlink /proc/\$CALLER/fd/* && echo at \$CALL' >>$TEST_DIR/seen 2>/dev/null" \
		"$BERTH" oci --root "$TEST_DIR/state" exec "$ID" true </dev/null
	expect "$status" 0
	expect_in "$(sort -u "$TEST_DIR/steps" | tr "\n" " ")" "capset chdir execve "
	expect "$(cat "$TEST_DIR/seen")" ""
}

@test "attack: a container that is being made cannot be joined" {
	mkfifo "$TEST_DIR/wait"
	edit "c['process']['args'] = ['sleep', '1000']
c['hooks'] = {'createRuntime': [{'path': '/bin/sh', 'args': ['sh', '-c', 'cat $TEST_DIR/wait']}]}"
	oci create --bundle "$TEST_DIR" "$ID" </dev/null >/dev/null 2>&1 3>&- &
	for _ in $(seq 100); do
		if oci state "$ID" 2>/dev/null | grep -q creating; then break; fi
		sleep 0.05
	done
	run_split timeout 20 "$BERTH" oci --root "$TEST_DIR/state" exec "$ID" true
	echo >"$TEST_DIR/wait"
	wait $!
	expect "$status" 255
	expect_in "$stderr" "creating"
	expect_in "$(oci state "$ID")" '"created"'
}
