#!/usr/bin/env bats
# systemd as the manager of cgroups: a real one, process 1 of a container that has this machine's /usr, in
# which berth runs containers of its own.
bats_require_minimum_version 1.5.0
load helpers

setup_file() {
	[ -x /lib/systemd/systemd ] || skip "there is no systemd here"
	WORK=$(mktemp -d "${BATS_TMPDIR:-/tmp}/berth-systemd.XXXXXX")
	ID=sdtest-${WORK##*.}
	export WORK ID
	mkdir -p "$WORK/rootfs/"{etc,proc,sys,dev,run,tmp,usr,var,root,mnt,berth} "$WORK/share"
	for link in bin sbin lib lib64; do ln -s "usr/$link" "$WORK/rootfs/$link"; done
	printf 'root:x:0:0::/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n' \
		>"$WORK/rootfs/etc/passwd"
	printf 'root:x:0:\nmessagebus:x:100:\nnogroup:x:65534:\n' >"$WORK/rootfs/etc/group"
	python3 - "$WORK" "$(dirname "$BERTH")" <<-'PYTHON'
		import json, sys
		work, berth = sys.argv[1:]
		caps = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
		        "CAP_NET_ADMIN", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT",
		        "CAP_SYS_PTRACE", "CAP_SYS_RESOURCE"]
		def bind(source, to, how): return {"destination": to, "type": "bind", "source": source, "options": ["rbind", how]}
		def fs(kind, to, *options): return {"destination": to, "type": kind, "source": kind, "options": list(options)}
		json.dump({
			"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "hostname": "sd",
			"process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/lib/systemd/systemd", "--unit=basic.target"],
			            "env": ["PATH=/usr/sbin:/usr/bin", "container=oci"],
			            "capabilities": {k: caps for k in ("bounding", "effective", "permitted")}},
			"mounts": [fs("proc", "/proc"), fs("tmpfs", "/dev", "mode=755"), fs("sysfs", "/sys", "ro"),
			           fs("devpts", "/dev/pts", "newinstance", "ptmxmode=0666"), fs("cgroup", "/sys/fs/cgroup", "rw"),
			           fs("tmpfs", "/run", "mode=755"), fs("tmpfs", "/tmp", "mode=1777"), bind("/usr", "/usr", "ro"),
			           bind(work + "/share", "/mnt", "rw"), bind(berth, "/berth", "ro")],
			"linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network", "cgroup")],
			          "resources": {"devices": [{"allow": True, "access": "rwm"}]}},
		}, open(work + "/config.json", "w"))
	PYTHON
	host run -d --bundle "$WORK" "$ID" </dev/null >"$WORK/log" 2>&1
	for _ in $(seq 100); do
		[ "$(host exec "$ID" systemctl is-active basic.target 2>/dev/null)" = active ] && return 0
		sleep 0.1
	done
	cat "$WORK/log"
	return 1
}

teardown_file() {
	[ -z "${WORK:-}" ] || host delete -f "$ID"
	[ -z "${WORK:-}" ] || rm -rf "$WORK"
}

setup() {
	C=c$BATS_TEST_NUMBER
	mkdir -p "$WORK/share/$C/rootfs/"{bin,proc,sys,dev}
	cp "$(command -v busybox)" "$WORK/share/$C/rootfs/bin/sleep"
	"$BERTH" oci spec --bundle "$WORK/share/$C"
	edit 'c["process"]["terminal"] = False; c["process"]["args"] = ["sleep", "1000"]'
}

host() { "$BERTH" oci --root "$WORK/state" "$@"; }
inside() { host exec "$ID" "$@"; }
oci() { inside "/berth/$(basename "$BERTH")" oci --root /run/berth-test --systemd-cgroup "$@"; }
show() { inside systemctl show "$1" -p "$2" --value; }

edit() {
	python3 - "$WORK/share/$C/config.json" "$1" <<-'PYTHON'
		import json, sys
		path, code = sys.argv[1:]
		c = json.load(open(path))
		exec(code)
		json.dump(c, open(path, "w"))
	PYTHON
}

start() { oci run -d --bundle "/mnt/$C" "$C" </dev/null >"$WORK/out" 2>&1 || { cat "$WORK/out"; return 1; }; }

@test "systemd: a container is a scope in its slice, with its limits" {
	edit 'c["linux"]["cgroupsPath"] = "machine-test.slice:berth:'"$C"'"
c["linux"]["resources"].update({"memory": {"limit": 99999744}, "cpu": {"quota": 50000, "period": 100000}, "pids": {"limit": 55}})
c["annotations"] = {"org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.Description": "'"'a text'"'"}'
	start
	expect "$(show "berth-$C.scope" ActiveState)" active
	expect "$(show "berth-$C.scope" Slice)" machine-test.slice
	expect "$(show "berth-$C.scope" Delegate)" yes
	expect "$(show "berth-$C.scope" CPUQuotaPerSecUSec)" 500ms
	expect "$(show "berth-$C.scope" TasksMax)" 55
	expect "$(show "berth-$C.scope" TimeoutStopUSec)" 7s
	expect "$(show "berth-$C.scope" Description)" "a text"
	expect "$(show "berth-$C.scope" DevicePolicy)" strict
	group=/machine.slice/machine-test.slice/berth-$C.scope
	expect "$(show "berth-$C.scope" ControlGroup)" "$group"
	expect_in "$(inside sh -c "cat /sys/fs/cgroup$group/pids.max /sys/fs/cgroup/pids$group/pids.max 2>/dev/null")" 55
	expect_in "$(inside sh -c "cat /sys/fs/cgroup$group/memory.max /sys/fs/cgroup/memory$group/memory.limit_in_bytes 2>/dev/null")" 99999744
	# Nobody but the container is in it, and a second process gets there too.
	expect "$(oci exec "$C" sleep 0 && oci ps --format json "$C" | python3 -c 'import json,sys; print(len(json.load(sys.stdin)))')" 1
	oci delete -f "$C"
	expect "$(show "berth-$C.scope" LoadState)" not-found
	expect "$(inside find /sys/fs/cgroup -name "berth-$C*")" ""
}

@test "systemd: changed limits survive that it reads its configuration again" {
	edit 'c["linux"]["resources"]["pids"] = {"limit": 55}'
	start
	oci update --pids-limit 66 "$C"
	expect "$(show "berth-$C.scope" TasksMax)" 66
	inside systemctl daemon-reload
	group=$(show "berth-$C.scope" ControlGroup)
	expect "$group" "/system.slice/berth-$C.scope"
	expect_in "$(inside sh -c "cat /sys/fs/cgroup$group/pids.max /sys/fs/cgroup/pids$group/pids.max 2>/dev/null")" 66
	# Devices too: the container still has its own.
	oci exec "$C" sleep 0 </dev/null
	oci delete -f "$C"
}

@test "systemd: the scope ends with the container, and its name is free again" {
	edit 'c["process"]["args"] = ["sleep", "0"]'
	for _ in 1 2 3; do
		oci run --bundle "/mnt/$C" "$C" </dev/null
		expect "$(inside find /sys/fs/cgroup -name "berth-$C*")" ""
	done
	expect "$(show "berth-$C.scope" LoadState)" not-found
}

@test "systemd: a runtime that is killed leaves nothing that delete does not find" {
	for after in 0.003 0.01 0.03 0.06 0.1; do
		inside timeout -s KILL "$after" "/berth/$(basename "$BERTH")" oci --root /run/berth-test --systemd-cgroup \
			run -d --bundle "/mnt/$C" "$C" </dev/null >/dev/null 2>&1 || true
		oci delete -f "$C"
		expect "$(inside find /sys/fs/cgroup -name "berth-$C*")" ""
	done
	expect "$(inside ps ax | grep -c '[s]leep 1000')" 0
}

@test "systemd: what is no slice, and what is no property, is refused in words" {
	edit 'c["linux"]["cgroupsPath"] = "/a/path"'
	run ! start
	expect_in "$output" "slice:prefix:name"
	edit 'c["linux"]["cgroupsPath"] = "not--one.slice:berth:x"'
	run ! start
	expect_in "$output" "not--one.slice"
	edit 'c["linux"]["cgroupsPath"] = ""; c["annotations"] = {"org.systemd.property.TasksMax": "uint64 many"}'
	run ! start
	expect_in "$output" "org.systemd.property.TasksMax"
	edit 'c["annotations"] = {"org.systemd.property.NoSuchThing": "true"}'
	run ! start
	expect_in "$output" "NoSuchThing"
	expect "$(inside find /sys/fs/cgroup -name "berth-$C*")" ""
}

@test "systemd: the manager itself is asked where there is no bus" {
	direct() {
		inside env DBUS_SYSTEM_BUS_ADDRESS=unix:path=/none "/berth/$(basename "$BERTH")" oci \
			--root /run/berth-test --systemd-cgroup "$@"
	}
	direct run -d --bundle "/mnt/$C" "$C" </dev/null >"$WORK/out" 2>&1 || { cat "$WORK/out"; false; }
	expect "$(show "berth-$C.scope" ActiveState)" active
	direct delete -f "$C"
	expect "$(show "berth-$C.scope" LoadState)" not-found
}

@test "systemd: without one the manager is refused in words" {
	run ! "$BERTH" oci --root "$WORK/other" --systemd-cgroup run --bundle "$WORK/share/$C" "$C"
	[ -S /run/systemd/private ] || expect_in "$output" "--cgroup-manager cgroupfs"
}
