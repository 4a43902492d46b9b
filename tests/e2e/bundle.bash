# shellcheck shell=bash
# Shared by the tests of `berth oci`: a bundle with busybox in $TEST_DIR, whose container is called $ID.
# Loaded after helpers.

setup() {
	TEST_DIR=$(mktemp -d "${BATS_TMPDIR:-/tmp}/berth-oci.XXXXXX")
	BERTH=${BERTH:-$(command -v berth)}
	ID=ocitest-${TEST_DIR##*.}
	mkdir -p "$TEST_DIR/rootfs/"{bin,proc,sys,dev,tmp,etc,usr/bin}
	cp "$(command -v busybox)" "$TEST_DIR/rootfs/bin/busybox"
	for applet in sh ls cat true false sleep id hostname mount readlink stat ps kill env pwd grep \
		mkdir touch ln rm mv head tty test; do
		ln -s busybox "$TEST_DIR/rootfs/bin/$applet"
	done
	"$BERTH" oci spec --bundle "$TEST_DIR"
	edit 'c["process"]["terminal"] = False; c["root"]["readonly"] = False'
}

teardown() {
	"$BERTH" oci --root "$TEST_DIR/state" delete -f "$ID"
	rm -rf "$TEST_DIR"
}

oci() { "$BERTH" oci --root "$TEST_DIR/state" "$@"; }

# edit PYTHON: changes the configuration, which is `c`.
edit() {
	python3 - "$TEST_DIR/config.json" "$1" <<-'PYTHON'
		import json, sys
		path, code = sys.argv[1:]
		c = json.load(open(path))
		exec(code)
		json.dump(c, open(path, "w"))
	PYTHON
}

# inside COMMAND: runs it in a container of its own.
inside() {
	edit "c['process']['args'] = ['sh', '-c', '''$1''']"
	run_split oci run --bundle "$TEST_DIR" "$ID"
}

# background: a container that sleeps.
background() {
	edit "c['process']['args'] = ['sleep', '1000']"
	oci run -d --bundle "$TEST_DIR" "$ID" </dev/null >/dev/null 2>&1
}

cgroups_left() { find /sys/fs/cgroup -type d -name "$ID*"; }
