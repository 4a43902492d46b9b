#!/usr/bin/env bats
# dockerd with this runtime added, in mount, network and process namespaces of the test's own.

bats_require_minimum_version 1.5.0

setup_file() {
	load helpers
	make_work
	cat >"$work/daemon" <<-'END'
		mount --make-rprivate /
		mount -t tmpfs tmpfs /run
		containerd --root $work/c-root --state $work/c-state --address $work/c.sock >$work/c.log 2>&1 &
		while ! ctr --address $work/c.sock version >/dev/null 2>&1; do sleep 0.1; done
		exec dockerd --data-root $work/root --exec-root $work/exec --pidfile $work/d.pid -H unix://$work/d.sock \
			--containerd $work/c.sock --bridge none --iptables=false --add-runtime berth=$RUNTIME \
			--default-runtime berth >$work/d.log 2>&1
	END
	unshare -m -n -p -f --mount-proc --kill-child bash "$work/daemon" >/dev/null 2>&1 3>&- &
	echo $! >"$work/pid"
	wait_for 20 d version
	d import "$work/rootfs.tar" bb
}

teardown_file() {
	load helpers
	kill -9 "$(cat "$work/pid")" 2>/dev/null || true
}

setup() { load helpers; }

d() { docker -H "unix://$work/d.sock" "$@"; }
drun() { d run --network none "$@"; }

@test "docker: the runtime is the one that is used" {
	run d info --format '{{.DefaultRuntime}}'
	[ "$output" = berth ]
}

@test "docker: run shows its output and exit code" {
	run drun --rm bb /bin/echo hello
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$output" = hello ]
	run drun --rm bb /bin/sh -c 'exit 7'
	[ "$status" -eq 7 ]
}

@test "docker: a missing program is 127, one without permission 126" {
	run -127 drun --rm bb no-such-program
	run -126 drun --rm bb /etc/passwd
}

@test "docker: terminals" {
	run drun --rm -t bb /bin/tty
	[[ "$output" == /dev/pts/0* ]]
}

@test "docker: detached, logs, exec, pause, stop" {
	id=$(drun -d bb /bin/sh -c 'echo started; trap "exit 3" TERM; while :; do sleep 0.1; done')
	wait_for 5 bash -c "docker -H unix://$work/d.sock logs $id | grep started"
	run d exec "$id" /bin/sh -c 'echo inside; exit 4'
	[ "$status" -eq 4 ]
	[ "$output" = inside ]
	d pause "$id"
	d unpause "$id"
	run d top "$id"
	[ "$status" -eq 0 ]
	d stop -t 5 "$id"
	run d inspect -f '{{.State.ExitCode}}' "$id"
	[ "$output" = 3 ]
	d rm "$id"
}

@test "docker: limits, update and stats" {
	id=$(drun -d --memory 64m --pids-limit 55 bb /bin/sleep 1000)
	run d exec "$id" sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max 2>/dev/null ||
		cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max'
	[ "$output" = $'67108864\n55' ]
	run d update --memory 96m --memory-swap 192m "$id"
	echo "$output"
	[ "$status" -eq 0 ]
	run d stats --no-stream --format '{{.PIDs}}' "$id"
	[ "$output" = 1 ]
	d rm -f "$id"
}

@test "docker: exec -it on a terminal of the user's, signals by name, restart policies" {
	id=$(drun -d bb /bin/sh -c 'trap "exit 9" USR1; echo ready; while :; do sleep 0.1; done')
	run script -qec "stty rows 33 cols 77; docker -H unix://$work/d.sock exec -it $id /bin/sh -c 'sleep 0.5; stty size; exit 6'" /dev/null </dev/null
	[ "$status" -eq 6 ]
	[[ "$output" == *"33 77"* ]]
	wait_for 5 bash -c "docker -H unix://$work/d.sock logs $id | grep ready"
	d kill -s USR1 "$id"
	[ "$(d wait "$id")" = 9 ]
	d rm "$id"
	mkdir -p "$work/restart"
	id=$(drun -d --restart on-failure:2 -v "$work/restart:/data" bb /bin/sh -c 'echo x >>/data/starts; exit 3')
	wait_for 30 bash -c "[ \"\$(wc -l <$work/restart/starts)\" = 3 ]"
	d rm -f "$id"
}

@test "docker: a health check and --init" {
	id=$(drun -d --health-cmd 'test -e /tmp/well' --health-interval 1s --health-retries 100 bb /bin/sleep 1000)
	d exec "$id" touch /tmp/well
	wait_for 20 bash -c "docker -H unix://$work/d.sock inspect -f '{{.State.Health.Status}}' $id | grep -x healthy"
	d rm -f "$id"
	run drun --rm --init bb /bin/sh -c 'tr "\0" " " </proc/1/cmdline'
	[[ "$output" == *init* ]] || skip "this docker has no init: $output"
}

@test "docker: volumes, users and read-only root" {
	mkdir -p "$work/volume"
	chmod 777 "$work/volume"
	run drun --rm --read-only -u 1000:1000 -v "$work/volume:/data" bb /bin/sh -c '
		id -u; echo kept >/data/file; { echo y >/tmp/y; } 2>/dev/null || echo readonly'
	[ "$output" = $'1000\nreadonly' ]
	[ "$(cat "$work/volume/file")" = kept ]
}

@test "docker: an image that it builds has the same files in berth" {
	# shellcheck source=tests/e2e/helpers.bash
	source "$BATS_TEST_DIRNAME/../e2e/helpers.bash"
	TEST_DIR=$work/berth
	mkdir -p "$TEST_DIR" "$work/context/tree/sub"
	echo copied >"$work/context/tree/file"
	chmod 4711 "$work/context/tree/file"
	ln -s ../file "$work/context/tree/sub/link"
	cat >"$work/context/Dockerfile" <<-'END'
		FROM bb
		RUN rm /bin/vi && mv /etc/group /etc/moved && mkdir -m 1777 /made && echo x >/made/x && chown 70000:80000 /made/x && \
		    rm -r /home && mkdir /home && touch -d '2001-02-03 04:05:06' /home/old && mkfifo /fifo && ln /made/x /made/y
		COPY tree /tree
		ENV A=1
		CMD ["/bin/sh"]
	END
	DOCKER_BUILDKIT=0 d build -q --network none -t built:1 "$work/context"
	d save built:1 -o "$work/built.tar"
	expect_in "$(berth load -q -i "$work/built.tar")" built:1
	expect "$(berth images -q --no-trunc built:1)" "$(d image inspect -f '{{.Id}}' built:1)"
	d export "$(d create built:1)" -o "$work/theirs.tar"
	berth export -o "$work/ours.tar" "$(berth create built:1)"
	for who in theirs ours; do
		mkdir "$work/$who"
		tar --numeric-owner -C "$work/$who" -xpf "$work/$who.tar"
		# What docker mounts over, and makes for that.
		(cd "$work/$who" && rm -rf .dockerenv dev proc sys etc/hosts etc/hostname etc/resolv.conf etc/mtab && touch -d @0 . etc)
		describe "$work/$who" >"$work/$who.text"
	done
	[ "$(wc -l <"$work/ours.text")" -gt 50 ]
	diff "$work/theirs.text" "$work/ours.text"
	# History and configuration as docker tells them.
	expect "$(berth history --no-trunc --format '{{.CreatedBy}}' built:1)" "$(d history --no-trunc --format '{{.CreatedBy}}' built:1)"
	for what in '{{json .Config.Env}}' '{{json .Config.Cmd}}' '{{.Architecture}} {{.Os}} {{.Created}}' '{{json .RootFS}}'; do
		expect "$(berth image inspect -f "$what" built:1)" "$(d image inspect -f "$what" built:1)"
	done
	berth rm -f "$(berth ps -aq)" >/dev/null
	# And what is saved here docker takes back as the same image.
	berth save -o "$work/back.tar" built:1
	d rmi -f built:1 >/dev/null
	d load -q -i "$work/back.tar"
	expect "$(d image inspect -f '{{.Id}}' built:1)" "$(berth images -q --no-trunc built:1)"
}

@test "docker: an image that it has built has the same files here as umoci unpacks" {
	command -v umoci >/dev/null || skip "umoci is not installed"
	local dir=$work/build describe
	describe="python3 $BATS_TEST_DIRNAME/../e2e/layers.py describe"
	mkdir -p "$dir/context/tree/sub" "$dir/root" "$dir/state" "$dir/ours"
	echo one >"$dir/context/tree/file"
	ln "$dir/context/tree/file" "$dir/context/tree/hard"
	ln -s ../file "$dir/context/tree/sub/link"
	touch -d '2001-02-03 04:05:06.5' "$dir/context/tree/file"
	printf '%s\n' 'FROM bb' 'COPY tree /tree' 'RUN rm /bin/ls && rm -r /home && mkdir /home && touch /home/new' \
		'RUN chown 1000:100 /tree/file && chmod 4755 /tree/file && mkfifo /tree/fifo && mknod /tree/null c 1 3' \
		'RUN rm -r /tree/sub && ln -s /etc /tree/sub && mkdir "/tree/sp ace"' >"$dir/context/Dockerfile"
	DOCKER_BUILDKIT=0 d build -q --network none -t built:1 "$dir/context"
	d save -o "$dir/built.tar" built:1
	skopeo copy -q "docker-archive:$dir/built.tar" "oci:$dir/layout:x"
	umoci unpack --image "$dir/layout:x" "$dir/bundle" 2>/dev/null
	b() { "${BERTH:-berth}" --root "$dir/root" --state "$dir/state" "$@"; }
	for source in built.tar layout; do
		b load -q -i "$dir/$source" >/dev/null
		id=$(b create "$(b images -aq)" /x)
		rm -rf "$dir/ours"
		mkdir "$dir/ours"
		b export "$id" | tar --xattrs --xattrs-include='*' --numeric-owner -C "$dir/ours" -xpf -
		$describe "$dir/ours" >"$dir/ours.text"
		$describe "$dir/bundle/rootfs" >"$dir/theirs.text"
		[ "$(wc -l <"$dir/ours.text")" -gt 50 ]
		diff "$dir/theirs.text" "$dir/ours.text"
		b rm "$id" >/dev/null
		b rmi -f "$(b images -aq)" >/dev/null
	done
}
