# What the tests of other engines on top of the runtime share. RUNTIME is the runtime's path; without
# it, berth under the name berth-oci. Each file makes its own storage, and an image out of busybox.

# Sets $work and $RUNTIME; makes $work/rootfs.tar.
make_work() {
	work=$(mktemp -d "${BATS_FILE_TMPDIR}/work-XXXX")
	if [ -z "${RUNTIME:-}" ]; then
		ln -s "$(realpath "$(command -v "${BERTH:-berth}")")" "$work/berth-oci"
		RUNTIME=$work/berth-oci
	fi
	mkdir -p "$work/rootfs"/{bin,etc,tmp,proc,sys,dev,root,home}
	for applet in $(busybox --list); do
		ln -sf busybox "$work/rootfs/bin/$applet"
	done
	# One of the applets is called busybox.
	rm -f "$work/rootfs/bin/busybox"
	cp "$(command -v busybox)" "$work/rootfs/bin/busybox"
	printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n' >"$work/rootfs/etc/passwd"
	printf 'root:x:0:\nuser:x:1000:\n' >"$work/rootfs/etc/group"
	chmod 1777 "$work/rootfs/tmp"
	tar -C "$work/rootfs" -cf "$work/rootfs.tar" .
	export work RUNTIME
}

# wait_for SECONDS COMMAND...: polls until the command succeeds.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || { echo "timed out: $*"; return 1; }
		sleep 0.1
	done
}
