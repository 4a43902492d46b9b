#!/usr/bin/env bats
# What is only of virtual machines. What both walls must do alike is in the other files, which run for
# both (BERTH_ISOLATION=vm).

load helpers
BERTH_ISOLATION=vm

setup() { berth_setup; }
teardown() {
	local loop
	for loop in $(losetup -n -O NAME -j "$TEST_DIR/image"); do losetup -d "$loop"; done
	berth_teardown
}

# The VMM of a workload.
vmm_of() {
	awk '{ print $1 }' "$TEST_DIR/state/$(berth inspect -f '{{.Id}}' "$1")/vmm"
}

no_machine() {
	! grep -l -a -s -F -e "$TEST_DIR/root/workloads" /proc/[0-9]*/cmdline
}

@test "an image runs behind a kernel of its own, confined as a container is" {
	run berth run --rm -i busybox sh -c 'cat; uname -r; grep -E "^(CapBnd|Seccomp):" /proc/self/status; exit 7' <<< input
	[ "$status" -eq 7 ]
	expect "${lines[0]}" input
	[ "${lines[1]}" != "$(uname -r)" ]
	expect "${lines[2]}" "CapBnd:	00000000a80425fb"
	expect "${lines[3]}" "Seccomp:	2"
}

# What a process can see of how it is confined. What is left out differs between any two hosts: which files
# of /proc there are to be masked, and what is below the three files of /etc.
probe() {
	cat <<-'END'
		grep -E '^(Umask|Uid|Gid|Groups|NoNewPrivs|Seccomp:|Cap[A-Z]|Sig(Ign|Cgt|Blk))' /proc/self/status
		cat /proc/self/limits /proc/self/oom_score_adj /proc/self/uid_map
		pwd; env | sort; id; hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf
		cut -d ' ' -f 5- /proc/self/mountinfo | grep -vE '^(/sys/fs/cgroup|/etc/|/proc/.*(null|devtmpfs|sysrq))' |
			sed 's/,inode64//; s/ [^ ]* [^ ]*$//; s/ none$/ overlay/'
		cd /dev; stat -c '%n %F %a %u %g' [!c]* pts/* shm
		cat /proc/sys/kernel/domainname /proc/sys/kernel/shmmax
		for f in /proc/keys /proc/timer_list /proc/acpi /sys/firmware; do stat -c '%n %F %s' $f 2>&1; done
		touch /proc/sys/kernel/x 2>&1; touch /sys/x 2>&1; touch /y 2>&1; mount -t proc x /home 2>&1
		unshare -U true 2>&1; mknod /dev/zz c 1 3 2>&1; chroot / true 2>&1
		cat /dev/zz 2>&1; head -c 1 /dev/tty 2>&1; ip addr 2>&1 | grep -v valid_lft
		ls -la / | grep -vE ' (proc|sys)$' | awk '{ print $1, $3, $4, $9 }'
	END
}

@test "a process is confined as it would be as a container" {
	local flags
	for flags in "" "--cap-add SYS_ADMIN --cap-drop CHOWN --user 1000:1001 --group-add 5 --ulimit nofile=100:200" \
		"--read-only --tmpfs /tmp:size=1m --security-opt no-new-privileges --domainname d --shm-size 1m" \
		"--security-opt seccomp=unconfined --init --sysctl kernel.shmmax=1000 --oom-score-adj 100 -w /tmp
			--add-host a:1.2.3.4 --dns 1.1.1.1 --dns-search x --dns-option ndots:2 -e A=b" "--privileged"; do
		# shellcheck disable=SC2086 # words
		probe | "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" run --rm -i -h h $flags busybox sh > "$TEST_DIR/c" 2>&1
		# shellcheck disable=SC2086 # words
		probe | berth run --rm -i -h h $flags busybox sh > "$TEST_DIR/v" 2>&1
		[ "$(wc -l < "$TEST_DIR/v")" -gt 100 ]
		# A privileged one sees all devices, which are those of its kernel.
		[ "$flags" != --privileged ] || sed -i -E '/^[^ ]+ ((block|character) special file|directory) [0-9]+ 0 [0-9]+$/d' "$TEST_DIR/c" "$TEST_DIR/v"
		diff "$TEST_DIR/c" "$TEST_DIR/v"
	done
	# A template may have to be made: of that it says something.
	run_split berth run --rm --memory 64m --memory-swap 100m --memory-reservation 20m --cpus 0.5 --pids-limit 20 -c 512 busybox \
		sh -c 'cd /sys/fs/cgroup; cat memory.max memory.swap.max memory.low cpu.max pids.max cpu.weight'
	expect "$(tr '\n' ' ' <<< "$output")" "67108864 37748736 20971520 50000 100000 20 20 "
}

@test "what a virtual machine cannot have is refused, with a reason and what to do" {
	local flags
	for flags in "--pid host" "--ipc host" "--uts host" "--network host" "--device /dev/null" \
		"--cpuset-cpus 0" "--storage-opt size=1k" "--cgroup-parent x" "--oom-kill-disable --memory 64m" \
		"--security-opt apparmor=some"; do
		# shellcheck disable=SC2086 # two words
		run berth run --rm $flags busybox true
		[ "$status" -eq 125 ]
		expect_in "$output" "${flags%% *}"
		expect_in "$output" "hint: "
	done
	[ -z "$(berth ps -aq)" ]
	run "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" run --rm --no-template busybox true
	[ "$status" -eq 125 ]
	expect_in "$output" "goes only with --vm"
}

@test "without a kernel it says how to get one" {
	mv "$TEST_DIR/root/kernels" "$TEST_DIR/kernels"
	run berth run --rm busybox true
	[ "$status" -eq 125 ]
	expect_in "$output" "berth kernel add debian"
}

@test "what it wrote is there at the next start, and gone with it" {
	expect "$(berth run --name w busybox sh -c 'cat /root/file 2> /dev/null; echo kept > /root/file')" ""
	local id
	id=$(berth inspect -f '{{.Id}}' w)
	[ "$(stat -c %s "$TEST_DIR/root/workloads/$id/disk.ext4")" -eq $((10 << 30)) ]
	# It takes no more than what is in it, and nobody says that it does.
	[ "$(berth system df --format '{{.SizeBytes}}' | tail -1)" -lt 20000000 ]
	expect "$(berth system df -v --format '{{range .Containers}}{{.SizeBytes}}{{end}}')" \
		"$(($(stat -c %b "$TEST_DIR/root/workloads/$id/disk.ext4") * 512))"
	[ "$(stat -c %b "$TEST_DIR/root/workloads/$id/disk.ext4")" -lt 20000 ]
	berth run --name again --storage-opt size=1g busybox sh -c 'df -k / | tail -1' > "$TEST_DIR/df"
	[ "$(awk '{ print $2 }' "$TEST_DIR/df")" -lt $((1 << 20)) ]
	expect "$(berth start -a w)" kept
	berth rm w again
	[ ! -e "$TEST_DIR/root/workloads/$id" ]
}

@test "what it wrote is kept when it is killed, and none of its processes is left out" {
	berth run -d --name k busybox sh -c 'echo 1 > /kept; sleep 1000 & wait' > /dev/null
	eventually berth exec k test -e /kept
	berth kill --signal STOP k
	expect "$(berth top k | tail -n +2 | wc -l)" 2
	berth kill k
	expect "$(berth wait k)" 137
	expect "$(berth cp k:/kept - | tar -xO)" 1
	expect_in "$(berth diff k)" "A /kept"
}

@test "a command that looks at files of a stopped machine leaves nothing when it is killed" {
	berth run --name s busybox sh -c 'echo 1 > /file'
	local i
	for i in 0.02 0.1 0.2; do
		timeout -s KILL "$i" "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" export -o "$TEST_DIR/x" s || true
		eventually no_machine
	done
	echo 2 | tar -cf "$TEST_DIR/t.tar" -C "$TEST_DIR" state
	berth cp - s:/ < "$TEST_DIR/t.tar"
	expect "$(berth cp s:/file - | tar -xO)" 1
	berth run --name r --read-only busybox true
	run berth cp "$TEST_DIR/t.tar" r:/
	[ "$status" -eq 125 ]
	expect_in "$output" "read-only"
}

@test "machines that write nothing run beside each other" {
	berth run -d --name r --read-only busybox sleep 1000 > /dev/null
	expect "$(berth run --rm --read-only busybox echo second 2> /dev/null)" second
}

@test "two machines have nothing in common that should be a secret or a name" {
	local i
	for i in 1 2; do
		berth run --rm busybox sh -c 'head -c 16 /dev/urandom | od -An -tx1; hostname; date +%s' > "$TEST_DIR/$i"
	done
	[ "$(sed -n 1p "$TEST_DIR/1")" != "$(sed -n 1p "$TEST_DIR/2")" ]
	[ "$(sed -n 2p "$TEST_DIR/1")" != "$(sed -n 2p "$TEST_DIR/2")" ]
	# Its clock is ours, though its template is old.
	local off=$(($(date +%s) - $(sed -n 3p "$TEST_DIR/2")))
	[ "${off#-}" -le 10 ]
}

@test "directories and files of the host, many of them, and memory" {
	local m=$TEST_DIR/m volumes=() i
	mkdir -p "$m/dir"
	echo one > "$m/file"
	echo in > "$m/dir/x"
	mkfifo "$m/fifo"
	for i in $(seq 20); do volumes+=(-v "$m/v$i:/v$i"); done
	run berth run --rm -v "$m/file:/etc/f" -v "$m/file:/ro:ro" -v "$m/dir:/d:ro" "${volumes[@]}" \
		--tmpfs /t:size=1m,mode=0700 --mount "type=bind,src=$m/file,dst=/g" busybox \
		sh -c 'cat /etc/f /d/x /g; echo two >> /etc/f; echo 3 > /v7/made
			echo no > /ro || echo no > /d/no; ls -ld /t | cut -c 1-10; df -k /t | tail -1'
	[ "$status" -eq 0 ]
	expect "$(printf '%s\n' "${lines[@]}" | grep -v -e Read-only -e "^Template" | head -4)" "one
in
one
drwx------"
	expect_in "${lines[-1]}" " 1024 "
	expect "$(cat "$m/file")" "one
two"
	expect "$(cat "$m/v7/made")" 3
	run berth run --rm -v "$m/fifo:/x" busybox true
	[ "$status" -eq 125 ]
	expect_in "$output" "sockets, FIFOs and devices"
	run berth run --rm -v "$m/a,b:/x" busybox true
	[ "$status" -eq 125 ]
	expect_in "$output" "comma"
	for i in $(seq 21 25); do volumes+=(-v "$m/v$i:/v$i"); done
	run berth run --rm "${volumes[@]}" busybox true
	[ "$status" -eq 125 ]
	expect_in "$output" "at most 24"
}

@test "block devices of the host are disks, and a privileged workload sees the machine's devices" {
	local loop
	truncate -s 8M "$TEST_DIR/image"
	loop=$(losetup -f --show "$TEST_DIR/image") || skip "no loop device to be had"
	run berth run --rm --device "$loop:/dev/data" busybox sh -c 'echo hello > /dev/data; head -c 5 /dev/data; ls /dev'
	expect "${lines[0]%core}" hello
	expect "$(printf '%s\n' "${lines[@]}" | grep -c '^\(vd\|loop\)')" 0
	expect "$(head -c 5 "$loop")" hello
	# Read-only, and nothing but it.
	run berth run --rm --device "$loop:/dev/data:r" busybox sh -c 'head -c 5 /dev/data
		echo no > /dev/data || mknod /vda b 254 0; head -c 1 /vda'
	losetup -d "$loop"
	expect_in "$output" hello
	expect "$(grep -c "not permitted" <<< "$output")" 2
	run berth run --rm --privileged busybox sh -c 'head -c 1000 /dev/vda | wc -c; ls /dev'
	expect "${lines[0]}" 1000
	expect_in "$output" vdb
}

# What the VMM's processes have used, in ticks.
cpu_of() {
	local pid sum=0 fields
	for pid in $(vmm_of "$1") $(pgrep -P "$(vmm_of "$1")"); do
		read -ra fields < "/proc/$pid/stat"
		sum=$((sum + fields[13] + fields[14]))
	done
	echo "$sum"
}

@test "a paused machine uses no CPU, and can be looked at all the same" {
	berth run -d --name p busybox sh -c 'echo 1 > /one; while :; do :; done' > /dev/null
	eventually berth exec p test -e /one
	berth pause p
	local before
	before=$(cpu_of p)
	sleep 1
	expect "$(cpu_of p)" "$before"
	expect "$(berth cp p:/one - | tar -xO)" 1
	expect_in "$(berth top p)" "while"
	expect_in "$(berth stats --no-stream p)" "MiB"
	# The host spends more memory on it than the shell in it has.
	[ "$(berth stats --no-stream --format '{{.HostMemUsage}}' p | grep -c '[1-9].*MiB')" -eq 1 ]
	# It has been put to sleep again.
	before=$(cpu_of p)
	sleep 1
	expect "$(cpu_of p)" "$before"
	berth unpause p
	berth exec p true
	[ "$(cpu_of p)" -gt "$before" ]
}

@test "vCPUs and memory are as asked for" {
	run berth run --rm --no-template --cpus 2 --memory 100m busybox sh -c 'nproc; cat /sys/fs/cgroup/memory.max'
	expect "$output" "2
104857600"
}

@test "whatever of it is killed, nothing is left" {
	local victim id monitor main vmm
	for victim in vmm main monitor; do
		berth run -d --name k busybox sleep 1000
		id=$(berth inspect -f '{{.Id}}' k)
		monitor=$(berth inspect -f '{{.State.MonitorPid}}' k)
		main=$(berth inspect -f '{{.State.Pid}}' k)
		vmm=$(vmm_of k)
		kill -9 "${!victim}"
		eventually test ! -e "/proc/$vmm"
		eventually test ! -e "/proc/$main"
		eventually in_state k exited
		berth ps -a
		expect "$(berth inspect -f '{{.State.ExitCode}}' k)" 137
		[ ! -e "$TEST_DIR/state/$id" ]
		berth rm k
	done
}

@test "a guest whose kernel crashes, or that switches itself off, is told of in words" {
	run berth run --name p --privileged --pull never busybox sh -c 'echo c > /proc/sysrq-trigger; sleep 100'
	[ "$status" -eq 125 ]
	expect_in "$(berth inspect -f '{{.State.Error}}' p)" "crashed: "
	expect_in "$(berth ps -a)" "crashed"
}

@test "a guest that is out of memory loses the process, not the machine" {
	run berth run --name o --memory 20m busybox sh -c 'x=x; while :; do x=$x$x; done'
	[ "$status" -eq 137 ]
	expect "$(berth inspect -f '{{.State.OOMKilled}}' o)" true
}

# The process that builds a template for this test's store.
builder() { pgrep -f "^berth template-builder $TEST_DIR/root "; }

@test "a template goes on being made when who waits for it is gone" {
	local waiting
	rm -rf "$TEST_DIR/root/templates"
	"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" run --rm --vm busybox true 2>/dev/null &
	waiting=$!
	eventually sh -c "ls '$TEST_DIR'/root/templates/.new-*/vsock"
	kill -9 "$waiting"
	wait "$waiting" || true
	expect "$(berth template ls -q | wc -l)" 0
	[ -n "$(builder)" ]
	# As long as a kernel takes to boot, and the trial start after it.
	PATIENCE=300 eventually sh -c "! pgrep -f '^berth template-builder $TEST_DIR/root '"
	expect "$(berth template ls -q | wc -l)" 1
	[ -z "$(find "$TEST_DIR/root/templates" -name '.new-*')" ]
	berth system check
}

@test "a template is made once for all who wait for it; killed builders leave nothing" {
	local first second
	rm -rf "$TEST_DIR/root/templates"
	# One is killed in the middle of it, which who waits is told.
	berth run --rm busybox true 2>"$TEST_DIR/error" &
	first=$!
	eventually sh -c "ls '$TEST_DIR'/root/templates/.new-*/vsock"
	kill -9 "$(builder)"
	second=0
	wait "$first" || second=$?
	expect "$second" 125
	expect_in "$(cat "$TEST_DIR/error")" "the process that builds it ended unexpectedly"
	# Who waits at a terminal is told.
	script -qec "$BERTH --root $TEST_DIR/root --state $TEST_DIR/state run --rm --vm busybox true" \
		/dev/null < /dev/null > "$TEST_DIR/one" &
	first=$!
	berth run --rm busybox true 2> "$TEST_DIR/two" &
	second=$!
	wait "$first" || { cat "$TEST_DIR/one"; false; }
	wait "$second" || { cat "$TEST_DIR/two"; false; }
	expect_in "$(cat "$TEST_DIR/one")" "made in"
	expect "$(cat "$TEST_DIR/two")" ""
	expect "$(berth template ls -q | wc -l)" 1
	[ -z "$(find "$TEST_DIR/root/templates" -name '.new-*')" ]
	# It is there: nothing is said.
	run_split berth run --rm busybox true
	expect "$stderr" ""
}

@test "templates are listed and removed, and made again when they are needed" {
	run berth template ls -q
	[ "$status" -eq 0 ]
	local keys=("${lines[@]}")
	[ "${#keys[@]}" -ge 1 ]
	# The unit is that of --memory.
	expect_in "$(berth template ls --format '{{.Memory}}')" 512MiB
	berth template rm "${keys[@]}"
	[ -z "$(berth template ls -q)" ]
	run berth template rm "${keys[0]}"
	[ "$status" -eq 125 ] || [ "$status" -eq 1 ]
	expect_in "$output" "there is no template"
	expect_in "$output" "berth template ls"
}

@test "compare measures both walls and leaves nothing" {
	berth compare --format json busybox > "$TEST_DIR/json"
	python3 - "$TEST_DIR/json" <<'END'
import json, sys
result = json.load(open(sys.argv[1]))
for wall in ("container", "vm"):
    numbers = result[wall]
    assert set(numbers) == {"startMs", "memoryBytes", "shellStepNs", "systemCallNs", "diskWriteBytesPerSecond"}, numbers
    assert all(value > 0 for value in numbers.values()), numbers
END
	[ -z "$(berth ps -aq)" ]
	run berth compare absent-image
	[ "$status" -eq 125 ]
	expect_in "$output" "absent-image"
}

# This host's kernel need not have fs-verity: Debian's has, in a machine. The tested program runs there.
@test "layer files are immutable and checked by the kernel where it has fs-verity" {
	local lib tree=$TEST_DIR/tree
	mkdir -p "$tree/bin" "$tree/layout" "$tree/mnt" "$tree/state" "$tree/tmp"
	cp "$(type -P busybox)" "$tree/bin/busybox"
	cp "$BERTH" "$tree/bin/berth"
	while read -r lib; do
		mkdir -p "$tree$(dirname "$lib")"
		cp "$lib" "$tree$lib"
	done < <(ldd "$BERTH" | grep -o '/[^ ]*')
	berth save --format oci busybox | tar -C "$tree/layout" -x
	mkfs.ext4 -q -b 4096 -O verity "$tree/disk" 64M
	tar -C "$tree" -cS . | berth import - v:1 >/dev/null
	run berth run --rm --privileged -e HOME=/state v:1 /bin/busybox sh -c '
		/bin/busybox --install -s /bin
		mount -o loop disk mnt && mkdir mnt/root || exit 1
		berth() { /bin/berth --root /mnt/root --state /state "$@"; }
		berth load -q -i layout >/dev/null && berth system check --content || exit 1
		for file in mnt/root/layers/*.erofs; do
			echo "immutable: $(echo more 2>&1 >>"$file")"
		done
		id=$(berth images -aq) && berth create "$id" true >/dev/null && berth export "$(berth ps -aq)" | tar -t | grep bin/ls
		berth rm -f "$(berth ps -aq)" >/dev/null && berth rmi "$id" >/dev/null && ls mnt/root/layers && echo done'
	expect_in "$output" "Operation not permitted"
	expect_in "$output" "bin/ls"
	expect "${lines[-1]}" done
	expect "$status" 0
}

# tests/programs/run does this with Python, Node.js, nginx, PostgreSQL, Redis and a C compiler.
@test "the same commands say the same behind both walls" {
	cat > "$TEST_DIR/script" <<'END'
exec 2>&1 # two streams have no order
seq 3000 | sort -r | gzip | gunzip | sha256sum
awk 'BEGIN { for (i = 0; i < 2000; i++) s += sin(i) * exp(-i / 100); print s, 2 ^ 0.5, 1 / 3 }'
tar -c -C / etc | tar -t | sort
mkdir -p /d/e && echo x > /d/e/f && ln -s f /d/e/l && chmod 640 /d/e/f && ls -lnR /d | cut -c 1-24
(trap 'echo caught' TERM; kill -TERM $$; sleep 0.01; echo after) & wait
sh -c 'kill -SEGV $$'; echo $?
dd if=/dev/zero bs=64k count=30 2> /dev/null | md5sum
echo $((7 ** 15)) $(printf %x 255) "$(expr 6 '*' 7)"; cat /absent; echo $?
exit 5
END
	local wall
	for wall in container vm; do
		BERTH_ISOLATION=$wall berth run --rm -i --network none busybox sh < "$TEST_DIR/script" \
			> "$TEST_DIR/$wall" 2>&1 || echo "exit code $?" >> "$TEST_DIR/$wall"
	done
	diff "$TEST_DIR/container" "$TEST_DIR/vm"
	expect "$(tail -n 1 "$TEST_DIR/vm")" "exit code 5"
}
