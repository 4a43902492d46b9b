#!/usr/bin/env bats
# Ordinary users: with subordinate ids, without, and as root of a user namespace of their own making. Nothing
# is delegated to them, but for the last test: no control groups, no file system but overlayfs and tmpfs.
load helpers
load registries

USER_ID=54321

# The user exists in mount namespaces of this test only ($TEST_DIR/etc).
setup() {
	only_containers "an ordinary user's machine is tested in vm.bats"
	berth_setup
	REGISTRY_PIDS=()
	chmod 711 "$TEST_DIR"
	mkdir "$TEST_DIR/bin" "$TEST_DIR/etc" "$TEST_DIR/home" "$TEST_DIR/run"
	cp "$BERTH" "$TEST_DIR/bin/berth"
	cp /etc/passwd /etc/group "$TEST_DIR/etc"
	echo "sailor:x:$USER_ID:$USER_ID::$TEST_DIR/home:/bin/sh" >>"$TEST_DIR/etc/passwd"
	echo "sailor:x:$USER_ID:" >>"$TEST_DIR/etc/group"
	printf 'somebody:100000:65536\nsailor:600000:5000\nsailor:700000:60000\n' >"$TEST_DIR/etc/subuid"
	cp "$TEST_DIR/etc/subuid" "$TEST_DIR/etc/subgid"
	chown "$USER_ID:$USER_ID" "$TEST_DIR/home" "$TEST_DIR/run"
	chmod 700 "$TEST_DIR/run"
	make_tar
}

teardown() {
	registries_end
	sailor berth ps -aq | while read -r id; do sailor berth rm -f "$id"; done
	end_keeper
	berth_teardown
}

# The process that keeps the user namespace ends with its file.
end_keeper() {
	local keeper
	[ -e "$TEST_DIR/run/berth/userns" ] || return 0
	read -r keeper _ <"$TEST_DIR/run/berth/userns"
	rm "$TEST_DIR/run/berth/userns"
	eventually bash -c "! kill -0 $keeper 2>/dev/null"
}

# sailor WORD...: that command as the user, as after a login.
sailor() {
	# shellcheck disable=SC2016 # for the other shell
	unshare -m bash -euc 'for file in passwd group subuid subgid; do
			mount --bind "$1/etc/$file" "/etc/$file"
		done
		cd "$1/home"
		top=$1 id=$2
		shift 2
		exec setpriv --reuid "$id" --regid "$id" --clear-groups env -i HOME="$top/home" USER=sailor TERM=xterm \
			XDG_RUNTIME_DIR="$top/run" PATH="$top/bin:/usr/bin:/bin" "$@"' - "$TEST_DIR" "$USER_ID" "$@"
}

# A root file system with files of several owners.
make_tar() {
	mkdir -p "$TEST_DIR/rootfs/bin" "$TEST_DIR/rootfs/etc"
	cp /bin/busybox "$TEST_DIR/rootfs/bin/busybox"
	ln -s busybox "$TEST_DIR/rootfs/bin/sh"
	echo secret >"$TEST_DIR/rootfs/etc/shadow"
	chown 0:42 "$TEST_DIR/rootfs/etc/shadow"
	chmod 640 "$TEST_DIR/rootfs/etc/shadow"
	echo far >"$TEST_DIR/rootfs/etc/far"
	chown 60000:7000 "$TEST_DIR/rootfs/etc/far"
	ln "$TEST_DIR/rootfs/etc/far" "$TEST_DIR/rootfs/etc/too"
	mknod "$TEST_DIR/rootfs/etc/null" c 1 3
	tar -C "$TEST_DIR/rootfs" -cf "$TEST_DIR/home/rootfs.tar" .
}

owners='stat -c "%u:%g %a %n" /etc/shadow /etc/far /etc/too'

@test "with subordinate ids: pull, run, exec, files, commit, push" {
	local registry pid
	zot registry
	berth push -q busybox "$registry/bb:1"
	sailor berth pull -q "$registry/bb:1"
	expect "$(sailor berth run --rm "$registry/bb:1" id -u)" 0
	expect "$(sailor berth run --rm --user 1000:1000 "$registry/bb:1" sh -c 'id -u; id -g')" "1000
1000"
	sailor berth import rootfs.tar owners >/dev/null
	expect "$(sailor berth run --rm --entrypoint busybox owners sh -c "busybox $owners")" "0:42 640 /etc/shadow
60000:7000 644 /etc/far
60000:7000 644 /etc/too"
	# Outside they are the subordinate ids': the first two ranges, one after the other.
	expect "$(find "$TEST_DIR/home/.local/share/berth/layers" -name far -exec stat -c %u:%g {} +)" "$((700000 + 60000 - 5001)):$((700000 + 7000 - 5001))"
	sailor berth run -d --name box "$registry/bb:1" sh -c 'echo new >/new; chown 7:8 /new; rm /bin/vi; sleep 1000' >/dev/null
	eventually sailor berth exec box test -e /new
	eventually sailor berth exec box sh -c '! test -e /bin/vi'
	expect "$(sailor berth exec --user 5 box id -u)" 5
	expect_in "$(sailor berth top box | tail -1)" "sleep 1000"
	expect "$(sailor berth diff box)" "$(printf 'C /bin\nD /bin/vi\nA /new')"
	sailor berth cp box:/new out
	expect "$(cat "$TEST_DIR/home/out") $(stat -c %u "$TEST_DIR/home/out")" "new $USER_ID"
	sailor berth cp out box:/in
	expect "$(sailor berth exec box cat /in)" new
	sailor berth commit -q box "$registry/more:1" >/dev/null
	sailor berth push -q "$registry/more:1" >/dev/null
	expect "$(sailor berth restart -t 0 box)" box
	expect "$(sailor berth stop -t 0 box)" box
	expect "$(sailor berth start box)" box
	expect "$(sailor berth rm -f box)" box
	# It is an ordinary image, for root too.
	berth pull -q "$registry/more:1"
	expect "$(berth run --rm "$registry/more:1" sh -c 'stat -c %u:%g /new; test -e /bin/vi || echo gone')" "7:8
gone"
	sailor berth save -q -o all.tar "$registry/more:1"
	sailor berth rmi "$registry/more:1" >/dev/null
	sailor berth load -q -i all.tar
	expect "$(sailor berth run --rm "$registry/more:1" stat -c %u:%g /new)" 7:8
	expect "$(sailor berth run --rm -v "$TEST_DIR/home:/home" "$registry/bb:1" sh -c 'echo mine >/home/made; cat /home/made')" mine
	expect "$(stat -c %u "$TEST_DIR/home/made")" "$USER_ID"
	expect "$(sailor berth run --rm --network host "$registry/bb:1" echo host)" host
	sailor berth system check --content
	sailor berth image prune -af >/dev/null
	expect "$(find "$TEST_DIR/home/.local/share/berth/layers" "$TEST_DIR/home/.local/share/berth/blobs" -type f)" ""
}

@test "one keeper of the namespace for all commands; it ends with its file" {
	local keeper
	sailor berth images
	read -r keeper _ <"$TEST_DIR/run/berth/userns"
	expect "$(cat "/proc/$keeper/comm")" berth-userns
	expect "$(find "/proc/$keeper/fd" -type l | wc -l)" 2
	sailor berth images
	expect "$(cut -d' ' -f1 "$TEST_DIR/run/berth/userns")" "$keeper"
	kill -9 "$keeper"
	eventually bash -c "! kill -0 $keeper 2>/dev/null"
	for _ in 1 2 3 4; do sailor berth images & done
	wait $(jobs -p | tail -4)
	read -r keeper _ <"$TEST_DIR/run/berth/userns"
	expect "$(cat "/proc/$keeper/comm")" berth-userns
	expect "$(pgrep -u "$USER_ID" -x berth-userns)" "$keeper"
}

@test "without subordinate ids all files belong to the user, and that is said" {
	sed -i /sailor/d "$TEST_DIR/etc/subuid" "$TEST_DIR/etc/subgid"
	run_split sailor berth import rootfs.tar owners
	expect "$status" 0
	expect_in "$stderr" "no subordinate ids for sailor"
	expect_in "$stderr" "usermod --add-subuids"
	run_split sailor berth run --rm --entrypoint busybox owners sh -c "busybox $owners"
	expect "$stderr" ""
	expect "$output" "0:0 640 /etc/shadow
0:0 644 /etc/far
0:0 644 /etc/too"
	expect "$(find "$TEST_DIR/home/.local/share/berth/layers" -mindepth 1 ! -user "$USER_ID")" ""
	sailor berth run -d --name box --entrypoint busybox owners sleep 1000 >/dev/null
	expect "$(sailor berth exec box busybox id -u)" 0
	run_split sailor berth exec --user 1000 box busybox id -u
	expect_in "$stderr" "become user 1000"
	expect_in "$stderr" /etc/subuid
	sailor berth commit -q box more >/dev/null
	expect "$(sailor berth rm -f box)" box
	sailor berth system check --content
}

@test "an id beyond the ranges is refused with the reason" {
	sed -i '/700000/d' "$TEST_DIR/etc/subuid" "$TEST_DIR/etc/subgid"
	run_split sailor berth import rootfs.tar owners
	expect "$status" 125
	expect_in "$stderr" "to 60000:7000"
	expect_in "$stderr" /etc/subuid
	expect "$(sailor berth images -aq)" ""
	sailor berth system check
}

@test "limits without a control group are refused with the reason" {
	sailor berth import rootfs.tar owners >/dev/null
	run_split sailor berth run --rm --memory 100m --entrypoint busybox owners true
	if [ "$status" != 0 ]; then
		expect "$status" 125
		expect_in "$stderr" "no cgroup of its own to limit"
		expect_in "$stderr" delegated
	fi
}

@test "a state directory that is another's is not used" {
	mkdir -p "$TEST_DIR/run/berth"
	chmod 777 "$TEST_DIR/run/berth"
	run_split sailor berth images
	expect "$status" 125
	expect_in "$stderr" "is not yours alone"
	expect_in "$stderr" "chmod go-w"
	rmdir "$TEST_DIR/run/berth"
}

@test "root of a user namespace, with and without a mount namespace" {
	local way
	# unshare(1) takes only the first of the ranges.
	sed -i '/:600000:/s/5000/65536/; /:700000:/d' "$TEST_DIR/etc/subuid" "$TEST_DIR/etc/subgid"
	for way in "unshare -U -r" "unshare -U -r -m" "unshare -U -r --map-auto"; do
		# shellcheck disable=SC2086 # several words
		sailor $way sh -euc "berth import rootfs.tar owners >/dev/null
			berth run --rm --entrypoint busybox owners echo it runs
			berth system check --content
			berth rmi owners >/dev/null" >"$TEST_DIR/out" 2>"$TEST_DIR/err"
		expect "$(cat "$TEST_DIR/err")" ""
		expect "$(cat "$TEST_DIR/out")" "it runs
No problems found."
		test ! -e "$TEST_DIR/run/berth/userns"
	done
}

# In a machine with systemd and cgroup v2, what is asked for by a user after a login, in a scope of theirs, and in a part
# of the hierarchy that was given to them.
@test "limits, pause and stats where control groups are delegated" {
	cat >"$TEST_DIR/inside" <<-'END'
		set -e
		mkfs.ext4 -q -O ^has_journal /dev/vda
		mkdir -p /run/conform /sys/fs/cgroup/given/own
		mount /dev/vda /run/conform
		mkdir /run/conform/run
		cp "$BERTH" /run/berth
		chown 6000:6000 /run/conform /run/conform/run
		chown -R 6000 /sys/fs/cgroup/given
		loginctl enable-linger conform
		systemctl start user@6000.service
		user() { setpriv --reuid 6000 --regid 6000 --clear-groups env -i HOME=/run/conform PATH=/usr/bin:/bin XDG_RUNTIME_DIR=/run/user/6000 "$@"; }
		login() { user /run/berth "$@"; }
		scope() { user systemd-run --user --scope --quiet /run/berth "$@"; }
		given() { (echo "$BASHPID" >/sys/fs/cgroup/given/own/cgroup.procs; user env XDG_RUNTIME_DIR=/run/conform/run /run/berth "$@"); }
		login bootstrap --quiet busybox >/dev/null
		for way in login scope given; do
			$way run -d --name a --memory 64m --pids-limit 50 --cpus 0.5 busybox sleep 1000 >/dev/null
			group=/sys/fs/cgroup$(sed s/0::// "/proc/$($way inspect -f '{{.State.Pid}}' a)/cgroup")
			echo "$way: $(cat "$group/memory.max" "$group/pids.max" "$group/cpu.max" | tr '\n' ' ')"
			$way pause a >/dev/null
			echo "$way: $($way inspect -f '{{.State.Status}}' a) $(cat "$group/cgroup.freeze")"
			$way unpause a >/dev/null
			echo "$way: $($way stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' a | sed 's/.* .iB/USED/; s,^[^/]*,,')"
			echo "$way: $($way exec a echo inside)"
			$way stop -t 0 a >/dev/null
			$way start a >/dev/null
			$way rm -f a >/dev/null
			[ ! -e "$group" ]
		done
	END
	run_split env INIT=systemd "$BATS_TEST_DIRNAME/../conform/in-vm" bash "$TEST_DIR/inside"
	expect "$(tr -d '\r' <<<"$output" | grep -E '^(login|scope|given):')" "$(for way in login scope given; do
		printf "$way: %s\n" '67108864 50 50000 100000 ' 'paused 1' '/ 64MiB 1' inside
	done)" || { echo "$output" "$stderr"; return 1; }
	expect "$status" 0
}
