#!/usr/bin/env bats
# podman with this runtime in the place of its own.

bats_require_minimum_version 1.5.0

setup_file() {
	load helpers
	make_work
	# Its own defaults for limits need a right that the tests may not have.
	printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n' >"$work/containers.conf"
	export CONTAINERS_CONF=$work/containers.conf
	p import -q "$work/rootfs.tar" bb
}

teardown_file() {
	load helpers
	p rm -af -t 0 || true
	p rmi -af || true
	umount -l "$work/storage/overlay" 2>/dev/null || true
}

setup() { load helpers; }
teardown() { p rm -af -t 0 >/dev/null 2>&1 || true; p pod rm -af >/dev/null 2>&1 || true; }

p() { podman --root "$work/storage" --runroot "$work/run" --runtime "$RUNTIME" --cgroup-manager cgroupfs --events-backend file "$@"; }
prun() { p run --network none "$@"; }

@test "podman: run shows its output and exit code" {
	run prun --rm bb echo hello
	[ "$status" -eq 0 ]
	[ "$output" = hello ]
	run prun --rm bb sh -c 'exit 7'
	[ "$status" -eq 7 ]
}

@test "podman: a program that is missing is 127, one without permission 126" {
	run -127 prun --rm bb no-such-program
	run -126 prun --rm bb /etc/passwd
}

@test "podman: -t gives a terminal" {
	run prun --rm -t bb tty
	[ "$status" -eq 0 ]
	[[ "$output" == /dev/pts/0* ]]
}

@test "podman: -i passes standard input" {
	run bash -c "$(declare -f p prun); echo through | prun --rm -i bb cat"
	[ "$output" = through ]
}

@test "podman: detached, logs, exec, stop" {
	id=$(prun -d bb sh -c 'echo started; trap "exit 3" TERM; while :; do sleep 0.1; done')
	wait_for 5 bash -c "$(declare -f p); p logs $id | grep started"
	run p exec "$id" sh -c 'echo inside; exit 4'
	[ "$status" -eq 4 ]
	[ "$output" = inside ]
	run p exec -t "$id" tty
	[[ "$output" == /dev/pts/* ]]
	p stop -t 5 "$id"
	run p inspect -f '{{.State.ExitCode}}' "$id"
	[ "$output" = 3 ]
}

@test "podman: kill and wait" {
	id=$(prun -d bb sleep 1000)
	p kill -s KILL "$id"
	run p wait "$id"
	[ "$output" = 137 ]
}

@test "podman: pause and unpause" {
	id=$(prun -d bb sleep 1000)
	p pause "$id"
	run p inspect -f '{{.State.Status}}' "$id"
	[ "$output" = paused ]
	p unpause "$id"
	run p exec "$id" true
	[ "$status" -eq 0 ]
}

@test "podman: limits of memory, processes and CPU reach the kernel" {
	run prun --rm --memory 64m --pids-limit 55 --cpus 0.5 bb sh -c '
		cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null
		cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null
		cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d" " -f1 /sys/fs/cgroup/cpu.max'
	[ "$output" = $'67108864\n55\n50000' ]
}

@test "podman: volumes, tmpfs and read-only root" {
	mkdir -p "$work/volume"
	run prun --rm --read-only --tmpfs /scratch -v "$work/volume:/data" bb sh -c '
		echo kept >/data/file; echo x >/scratch/x && echo scratch; { echo y >/y; } 2>/dev/null || echo readonly'
	[ "$output" = $'scratch\nreadonly' ]
	[ "$(cat "$work/volume/file")" = kept ]
}

@test "podman: users, capabilities and no new privileges" {
	run prun --rm -u 1000:1000 --cap-drop all --security-opt no-new-privileges bb sh -c '
		id -u; grep CapBnd /proc/self/status | cut -f2; grep NoNewPrivs /proc/self/status | cut -f2'
	[ "$output" = $'1000\n0000000000000000\n1' ]
}

@test "podman: a user namespace" {
	run prun --rm --uidmap 0:100000:65536 --gidmap 0:100000:65536 bb cat /proc/self/uid_map
	[ "$status" -eq 0 ]
	[[ "$output" == *100000*65536 ]]
}

@test "podman: --init reaps" {
	[ -x /usr/libexec/podman/catatonit ] || skip "catatonit is not installed"
	run prun --rm --init bb sh -c 'cat /proc/1/cmdline | tr "\0" " "'
	[[ "$output" == */dev/init* || "$output" == */run/podman-init* ]]
}

@test "podman: a pod shares its namespaces" {
	[ -x /usr/libexec/podman/catatonit ] || skip "catatonit is not installed"
	pod=$(p pod create --network none --share ipc,uts,net)
	run p run --rm --pod "$pod" bb readlink /proc/self/ns/uts
	first=$output
	[ "$status" -eq 0 ]
	run p run --rm --pod "$pod" bb readlink /proc/self/ns/uts
	[ "$output" = "$first" ]
}

@test "podman: update changes a limit of a running container" {
	id=$(prun -d --memory 64m bb sleep 1000)
	run p update --memory 96m "$id"
	[ "$status" -eq 0 ] || skip "this podman cannot: $output"
	run p exec "$id" sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null'
	[ "$output" = 100663296 ]
}

@test "podman: stats and top" {
	id=$(prun -d bb sleep 1000)
	run p top "$id" pid comm
	[[ "$output" == *sleep* ]]
	run p stats --no-stream --format '{{.PIDs}}' "$id"
	[ "$status" -eq 0 ]
	[ "$output" = 1 ]
}

@test "podman: run -it and exec -it on a terminal of the user's" {
	run script -qec "$(declare -f p prun); prun --rm -it bb sh -c 'sleep 0.3; stty size; tty; sleep 0.3; exit 5'" /dev/null </dev/null
	[ "$status" -eq 5 ]
	[[ "$output" == *"/dev/pts/0"* ]]
	id=$(prun -d bb sleep 1000)
	run script -qec "$(declare -f p); stty rows 33 cols 77; p exec -it $id sh -c 'sleep 0.3; stty size; exit 6'" /dev/null </dev/null
	[ "$status" -eq 6 ]
	[[ "$output" == *"33 77"* ]]
}

@test "podman: a named volume is filled from the image, and kept; ro and :Z" {
	run prun --rm -v named:/etc bb sh -c 'echo more >>/etc/group; head -1 /etc/passwd'
	[ "$output" = root:x:0:0:root:/root:/bin/sh ]
	run prun --rm -v named:/etc:ro bb sh -c 'tail -1 /etc/group; { echo x >/etc/x; } 2>/dev/null || echo readonly'
	[ "$output" = $'more\nreadonly' ]
	mkdir -p "$work/labelled"
	run prun --rm -v "$work/labelled:/data:Z" bb sh -c 'echo kept >/data/file; cat /data/file'
	[ "$output" = kept ]
	p volume rm named
}

@test "podman: --userns=auto gives each container ids of its own" {
	printf 'root:100000:65536\ncontainers:1000000:1000000\n' >"$work/ids"
	auto() {
		unshare -m bash -c "mount --bind $work/ids /etc/subuid; mount --bind $work/ids /etc/subgid
			$(declare -f p prun); prun --rm --userns=auto bb cat /proc/self/uid_map"
	}
	run auto
	echo "$output"
	[ "$status" -eq 0 ]
	read -r inside outside count <<<"$output"
	[ "$inside" = 0 ]
	[ "$outside" -ge 1000000 ]
	[ "$count" -ge 1000 ]
}

@test "podman: a health check runs inside" {
	id=$(prun -d --health-cmd 'test -e /tmp/well' --health-interval disable --health-retries 1 bb sleep 1000)
	run p healthcheck run "$id"
	[ "$status" -eq 1 ]
	p exec "$id" touch /tmp/well
	run p healthcheck run "$id"
	[ "$status" -eq 0 ]
	[ "$(p inspect -f '{{.State.Health.Status}}{{.State.Healthcheck.Status}}' "$id" 2>/dev/null || echo healthy)" != unhealthy ]
}

@test "podman: a pod is started, stopped, started again and removed" {
	[ -x /usr/libexec/podman/catatonit ] || skip "catatonit is not installed"
	pod=$(p pod create --network none --share ipc,uts,net)
	id=$(p run -d --pod "$pod" bb sh -c 'trap "exit 0" TERM; while :; do sleep 0.1; done')
	p pod stop -t 5 "$pod"
	[ "$(p inspect -f '{{.State.Status}}' "$id")" = exited ]
	p pod start "$pod"
	[ "$(p inspect -f '{{.State.Status}}' "$id")" = running ]
	p pod pause "$pod"
	[ "$(p inspect -f '{{.State.Status}}' "$id")" = paused ]
	p pod unpause "$pod"
	# It complains of directories of controllers that a host does not have.
	p pod rm -f -t 0 "$pod" || true
	run p ps -aq
	[ "$output" = "" ]
}

@test "podman: what fails is started again as often as its policy says" {
	mkdir -p "$work/restart"
	id=$(prun -d --restart on-failure:2 -v "$work/restart:/data" bb sh -c 'echo x >>/data/starts; exit 3')
	wait_for 20 bash -c "[ \"\$(wc -l <$work/restart/starts)\" = 3 ]"
	[ "$(p wait "$id")" = 3 ]
	[ "$(wc -l <"$work/restart/starts")" = 3 ]
}

@test "podman: a signal by name reaches the process" {
	id=$(prun -d bb sh -c 'trap "exit 9" USR1; echo ready; while :; do sleep 0.1; done')
	wait_for 5 bash -c "$(declare -f p); p logs $id | grep ready"
	p kill -s USR1 "$id"
	[ "$(p wait "$id")" = 9 ]
	p start "$id"
	[ "$(p inspect -f '{{.State.Status}}' "$id")" = running ]
}

@test "podman: an ordinary user" {
	command -v newuidmap >/dev/null || skip "newuidmap is not installed"
	user=berth-rootless-$$
	useradd -m -d "$work/home" "$user"
	grep -q "^$user:" /etc/subuid || usermod --add-subuids 300000-365535 --add-subgids 300000-365535 "$user"
	install -d -m 700 -o "$user" "$work/home/run"
	chmod 755 "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "$work" 2>/dev/null || true
	cp -L "$RUNTIME" "$work/berth-oci-copy"
	cp "$work/rootfs.tar" "$work/home/"
	printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n' >"$work/home/containers.conf"
	run setpriv --reuid "$user" --regid "$user" --init-groups env -i HOME="$work/home" PATH="$PATH" \
		XDG_RUNTIME_DIR="$work/home/run" CONTAINERS_CONF="$work/home/containers.conf" bash -c '
		cd "$HOME"
		ln -s ../berth-oci-copy crun # a name of which podman knows that it needs no cgroups
		p() { podman --runtime "$HOME/crun" --cgroup-manager cgroupfs --events-backend file --storage-driver vfs "$@"; }
		p import -q rootfs.tar bb >/dev/null || exit 90
		p run --rm --network none --cgroups disabled bb sh -c "id -u; cat /proc/self/uid_map | wc -l; exit 4"
		echo "code $?"
		id=$(p run -d --network none --cgroups disabled bb sleep 1000)
		p exec "$id" echo inside
		p rm -f -t 0 "$id" >/dev/null
		p unshare rm -rf "$HOME/.local/share/containers"'
	for pid in $(ps -o pid= -u "$user"); do kill -9 "$pid" 2>/dev/null || true; done
	userdel "$user"
	echo "$output"
	[[ "$output" == *$'0\n2\ncode 4\ninside'* ]]
}

@test "podman: nothing is left after rm" {
	id=$(prun -d bb sleep 1000)
	p rm -f -t 0 "$id"
	run find /sys/fs/cgroup -name "*$id*" -type d
	[ "$output" = "" ]
	run "$RUNTIME" --root /run/berth-oci-none list -q
	[ "$output" = "" ]
}

@test "podman: checkpoint and restore, also under another name from an archive" {
	why=$(criu check --no-default-config 2>&1) || skip "CRIU does not work on this kernel: $why"
	prun -d --name c bb sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'
	wait_for 10 more_than 3 c
	p container checkpoint c
	[ "$(p inspect -f '{{.State.Status}} {{.State.Checkpointed}}' c)" = "exited true" ]
	before=$(p logs c | tail -1)
	p container restore c
	wait_for 10 more_than "$before" c
	[ "$(p exec c cat /proc/1/comm)" = sh ]
	p container checkpoint --export "$work/c.tar" c
	p rm -f c
	p container restore --import "$work/c.tar" --name d
	[ "$(p inspect -f '{{.State.Status}}' d)" = running ]
	[ "$(p exec d cat /proc/1/comm)" = sh ]
}

more_than() { [ "$(p logs "$2" | tail -1)" -gt "$1" ]; }
