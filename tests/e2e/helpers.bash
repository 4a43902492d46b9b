# shellcheck shell=bash
# Shared by the end-to-end tests: a private berth for every test, an image to run, and the check that
# a test leaves nothing behind.
#
# In a .bats file:
#	load helpers
#	setup() { berth_setup; }
#	teardown() { berth_teardown; }

# A path, since our function below has the same name as the command.
BERTH=$(type -P "${BERTH:-berth}") || {
	echo "there is no berth to test: set BERTH" >&2
	exit 1
}

# The same tests run for both walls: BERTH_ISOLATION=vm makes every workload a virtual machine.
BERTH_ISOLATION=${BERTH_ISOLATION:-container}

# Our berth: everything of it lies below $TEST_DIR.
berth() { berth_by command "$@"; }

# The same for the background: what $! names is the command itself, and not a shell that waits for it.
#	berth_job run busybox sleep 1000 &
berth_job() { berth_by exec "$@"; }

# $1 is what starts it, the shell's "command" or "exec".
berth_by() {
	local by=$1 verb=$2
	shift
	if [ "$BERTH_ISOLATION" = vm ] && { [ "$verb" = run ] || [ "$verb" = create ]; }; then
		shift
		set -- "$verb" --vm "$@"
	fi
	"$by" "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" "$@"
}

# For a test of what only one of the walls has; docs/virtual-machines.md lists these differences.
only_containers() {
	[ "$BERTH_ISOLATION" != vm ] || skip "not for virtual machines: $1"
}

# What tests of virtual machines need is kept beside the tested program.
vm_base() {
	echo "$(cd "$(dirname "$BERTH")/../.." && pwd)/vm-base"
}

# kept_kernel RELEASE: Debian's kernel 6.1 or 6.12, which is fetched once; prints where it is.
kept_kernel() {
	local base
	base=$(vm_base)
	(
		flock 9
		if ! "$BERTH" --root "$base" --state "$base/state" kernel ls -q | grep -qx "debian-$1"; then
			"$BERTH" --root "$base" --state "$base/state" kernel add -q "debian:$1"
		fi
	) 9>"$base.lock" >/dev/null
	echo "$base/kernels/debian-$1"
}

# Makes kernel and templates for virtual machines available in a root. They are linked, since a template belongs
# to the very files it was made from.
berth_use_vm() {
	local root=$1 base program
	base=$(vm_base)
	program=$(stat -c '%i %s %y' "$BERTH")
	kept_kernel 6.1 >/dev/null
	(
		flock 9
		[ "$(cat "$base/made-by" 2>/dev/null)" != "$program" ] || exit 0
		if ! "$BERTH" --root "$base" --state "$base/state" images -q | grep -q .; then
			"$BERTH" --root "$base" --state "$base/state" bootstrap --quiet busybox
		fi
		# Makes the templates, if the program is another one now.
		"$BERTH" --root "$base" --state "$base/state" run --rm --vm busybox true
		"$BERTH" --root "$base" --state "$base/state" run --rm --vm -v "$base:/base:ro" busybox true
		echo "$program" >"$base/made-by"
	) 9>"$base.lock" >/dev/null
	mkdir -p "$root"
	rm -rf "$root/kernels" "$root/templates"
	cp -al "$base/kernels" "$base/templates" "$root/"
}

# Makes the private directories; with "busybox" (the default) also the image busybox, which is made
# once per file and copied.
berth_setup() {
	local with=${1:-busybox}
	TEST_DIR=$(mktemp -d "${TMPDIR:-/tmp}/berth-e2e-XXXXXX")
	export HOME=$TEST_DIR XDG_CONFIG_HOME=$TEST_DIR/config
	mkdir "$TEST_DIR/root" "$TEST_DIR/state"
	if [ "$BERTH_ISOLATION" = vm ]; then berth_use_vm "$TEST_DIR/root"; fi
	[ "$with" = busybox ] || return 0
	if [ ! -d "$BATS_FILE_TMPDIR/root" ]; then
		berth bootstrap --quiet busybox >/dev/null
		mkdir "$BATS_FILE_TMPDIR/root"
		find "$TEST_DIR/root" -mindepth 1 -maxdepth 1 ! -name kernels ! -name templates \
			-exec cp -a {} "$BATS_FILE_TMPDIR/root/" ';'
	else
		cp -a "$BATS_FILE_TMPDIR/root/." "$TEST_DIR/root/"
	fi
}

# Ends what runs, removes everything, and fails if anything is left.
berth_teardown() {
	local ids id left=0
	[ -n "${TEST_DIR:-}" ] || return 0
	ids=$(berth ps -aq --no-trunc)
	for id in $ids; do berth rm -f "$id" >/dev/null || left=1; done
	berth system check || left=1
	nothing_left "$ids" || left=1
	rm -rf "$TEST_DIR"
	return $left
}

# Complains about every trace of this test's workloads (whose ids are $1) outside of the images.
nothing_left() {
	local id bad=0
	if grep " $TEST_DIR" /proc/self/mountinfo; then
		echo "mounts are left"
		bad=1
	fi
	for id in $1; do
		if find /sys/fs/cgroup -type d -name "*$id*" 2>/dev/null | grep .; then
			echo "control groups are left"
			bad=1
		fi
		if grep -l -a -s -e "$id" /proc/[0-9]*/cmdline; then
			echo "processes are left"
			bad=1
		fi
	done
	if grep -l -a -s -F -e "$TEST_DIR" /proc/[0-9]*/cmdline; then
		echo "processes are left"
		bad=1
	fi
	if find "$TEST_DIR/root/workloads" -mindepth 1 -maxdepth 1 2>/dev/null | grep .; then
		echo "directories of workloads are left"
		bad=1
	fi
	if find "$TEST_DIR/state" -mindepth 1 -maxdepth 1 -type d -regex '.*/[0-9a-f]+' 2>/dev/null | grep .; then
		echo "state is left"
		bad=1
	fi
	return $bad
}

# run_split COMMAND...: as bats' run, with stdout and stderr apart: $output, $stderr, $status.
# shellcheck disable=SC2034 # the tests use them
run_split() {
	local file
	file=$(mktemp "$TEST_DIR/stderr-XXXXXX")
	set +e
	output=$("$@" 2>"$file")
	status=$?
	set -e
	stderr=$(cat "$file")
	rm -f "$file"
}

# A port that nobody uses, and below those that the kernel gives to connections.
free_port() {
	local first port
	read -r first _ </proc/sys/net/ipv4/ip_local_port_range
	port=$((10000 + RANDOM % (first - 10000)))
	while grep -q ":$(printf %04X "$port") " /proc/net/tcp /proc/net/tcp6; do
		port=$((10000 + RANDOM % (first - 10000)))
	done
	echo "$port"
}

# Waits up to PATIENCE seconds (30: machines that test many things at once are slow) until the command succeeds.
eventually() {
	local end=$((SECONDS + ${PATIENCE:-30}))
	while ! "$@" >/dev/null 2>&1; do
		if [ "$SECONDS" -gt "$end" ]; then
			echo "did not come true within ${PATIENCE:-30} s: $*"
			return 1
		fi
		sleep 0.05
	done
}

# For `eventually`, whose words the shell has put in before it begins: a $(...) among them would be asked for
# only once.
in_state() { [ "$(state_of "$1")" = "$2" ]; }
no_workloads() { [ -z "$(berth ps -aq)" ]; }

# Whether a command that was killed is gone with all of its children, and they have let go of the store: a
# process has no command line any more some time before its files are closed, and with them its locks.
nobody_left() {
	local file
	! grep -l -a -s -F -e "$TEST_DIR/state" /proc/[0-9]*/cmdline || return 1
	for file in "$TEST_DIR"/root/ingest/*.lock "$TEST_DIR"/root/layers/tmp.*; do
		if [ -e "$file" ] && ! flock -n "$file" true; then return 1; fi
	done
}

# Fails with a message unless the two are equal.
expect() {
	[ "$1" = "$2" ] && return 0
	printf 'got:      %s\nexpected: %s\n' "$1" "$2"
	return 1
}

# Fails unless $1 contains $2.
expect_in() {
	case $1 in
	*"$2"*) return 0 ;;
	esac
	printf 'got:                %s\nexpected to contain: %s\n' "$1" "$2"
	return 1
}

# The state of a workload.
state_of() {
	berth inspect -f '{{.State.Status}}' "$1"
}

# Everything that a tree on the host is, one line a name, with times, owners, attributes and contents.
describe() {
	python3 - "$1" <<-'END'
		import hashlib, os, stat, sys
		root = os.fsencode(sys.argv[1])
		inodes = {}
		def line(path):
		    s = os.lstat(path)
		    name = os.path.relpath(path, root)
		    what = b""
		    if stat.S_ISREG(s.st_mode):
		        what = hashlib.sha256(open(path, "rb").read()).hexdigest().encode()
		    elif stat.S_ISLNK(s.st_mode):
		        what = os.readlink(path)
		    first = inodes.setdefault((s.st_dev, s.st_ino), name) if s.st_nlink > 1 and not stat.S_ISDIR(s.st_mode) else b""
		    x = [(a, os.getxattr(path, a, follow_symlinks=False)) for a in sorted(os.listxattr(path, follow_symlinks=False))]
		    print(name, oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns, s.st_rdev, what, first, x)
		for dir, dirs, files in sorted(os.walk(root)):
		    dirs.sort()
		    line(dir)
		    for n in sorted(files + [d for d in dirs if os.path.islink(os.path.join(dir, d))]):
		        line(os.path.join(dir, n))
	END
}
