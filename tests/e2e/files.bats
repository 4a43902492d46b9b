#!/usr/bin/env bats
# The files of containers: cp, diff, export, commit.
load helpers

setup() { berth_setup; }
teardown() { berth_teardown; }

# What a workload can do to a file system.
make_mess() {
	cat >"$TEST_DIR/mess" <<-'END'
		echo hi >/etc/new; rm /bin/ls; mkdir -p /x/y; echo 1 >/x/y/z; ln /x/y/z /x/h
		rm -rf /home; mkdir /home; echo h >/home/again
		rm -rf /var; ln -s /x /var; touch -d "1960-01-02 03:04:05" /usr/old; ln -s /x /link
		dd if=/dev/zero of=/sparse bs=1 count=1 seek=10000000 2>/dev/null
		mkfifo /fifo; mknod /character c 1 3; mknod /block b 7 5; chmod 4755 /bin/cat
		chown 3000000:4000000 /x/h; rm -rf /root; echo file >/root
		mkdir "/sp ace"; echo n >"/sp ace/new
		line"; mv /sbin /moved; chmod 1777 /x; mkdir /tmp/d; rmdir /tmp/d
		echo b >"/x/$(printf '\377\376')"; rm -f /bin/vi; mkdir /bin/vi; touch /bin/vi/x
		l=$(printf 'x%.0s' $(seq 200)); mkdir -p /$l/$l/$l; echo deep >/$l/$l/$l/$l; ln -s /$l/$l/$l/$l /far
	END
}

@test "commit is exact: a container of the new image has the same files" {
	make_mess
	berth run --name a --privileged -v "$TEST_DIR/mess:/mess" busybox sh /mess
	# Attributes, which busybox cannot set.
	mkdir "$TEST_DIR/host"
	echo 1 >"$TEST_DIR/host/attributes"
	python3 -c 'import os, sys
os.setxattr(sys.argv[1], "user.comment", b"\0binary\xff")
os.setxattr(sys.argv[1], "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))' "$TEST_DIR/host/attributes"
	berth cp -a "$TEST_DIR/host/attributes" a:/x/
	id=$(berth commit -m "a comment" -a me a new:1)
	expect "$(berth images -q --no-trunc new:1)" "$id"
	berth create --name b new:1 true >/dev/null
	for c in a b; do
		mkdir "$TEST_DIR/$c"
		berth export -o "$TEST_DIR/$c.tar" "$c"
		tar --xattrs --xattrs-include='*' -C "$TEST_DIR/$c" -xpf "$TEST_DIR/$c.tar"
		# The runtime's mount points, which are not the workload's.
		(cd "$TEST_DIR/$c/etc" && rm -f hosts hostname resolv.conf && touch -d @0 .)
		describe "$TEST_DIR/$c" >"$TEST_DIR/$c.text"
	done
	expect_in "$(cat "$TEST_DIR/a.text")" user.comment
	expect_in "$(cat "$TEST_DIR/a.text")" security.capability
	[ "$(wc -l <"$TEST_DIR/a.text")" -gt 300 ]
	diff "$TEST_DIR/a.text" "$TEST_DIR/b.text"
	# Nothing was written since: no difference to the image.
	expect "$(berth diff b)" ""
	expect_in "$(berth history new:1 | sed -n 2p)" "a comment"
	expect "$(berth inspect -f '{{.Author}}' --type image new:1 2>/dev/null || berth image inspect -f '{{.Author}}' new:1)" me
	berth system check --content
}

@test "diff says what was added, changed and deleted" {
	berth run --name a busybox sh -c 'echo x >/added; echo y >>/etc/passwd; rm -r /bin/ls /home; mkdir /home
		mkdir /dir; touch /dir/in; rm -r /var; ln -s /tmp /var; rm -r /usr; mkdir /usr; touch /usr/new'
	expect "$(berth diff a | sort -k2)" "$(printf '%s\n' 'A /added' 'C /bin' 'D /bin/ls' 'A /dir' 'A /dir/in' 'C /etc' \
		'C /etc/passwd' 'C /home' 'C /usr' "$(berth run --rm busybox sh -c 'for f in /usr/*; do echo D $f; done')" \
		'A /usr/new' 'C /var' | sort -k2)"
	berth create --name b busybox true >/dev/null
	expect "$(berth diff b)" ""
	# The places of mounts are berth's, unless something else is done there.
	berth start -a b
	expect "$(berth diff b)" ""
	for change in 'chmod 700 /etc' 'chown 5 /etc' 'mkdir /etc/in' 'rm /etc/passwd'; do
		berth run --name "c${change%% *}" busybox sh -c "$change"
		expect_in "$(berth diff "c${change%% *}")" 'C /etc'
	done
	run_split berth diff nobody
	expect "$status" 125
	expect_in "$stderr" nobody
}

@test "commit takes the container's configuration and --change" {
	berth run --name a -e FROM=container -w /tmp -u 5:6 --entrypoint /bin/echo -l l=1 busybox said
	berth commit -c 'ENV CHANGED=yes' -c 'CMD ["other"]' a new:1 >/dev/null
	expect "$(berth image inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}} {{.Config.User}} {{.Config.WorkingDir}} {{.Config.Labels.l}}' new:1)" \
		'["/bin/echo"] ["other"] 5:6 /tmp 1'
	expect_in "$(berth image inspect -f '{{json .Config.Env}}' new:1)" '"FROM=container","CHANGED=yes"'
	expect "$(berth run --rm new:1)" other
	run_split berth commit -c 'NONSENSE 1' a new:2
	expect "$status" 125
	expect "$(berth images -q new:2)" ""
}

@test "commit of a running container pauses it for a moment, also if it fails" {
	berth run -d --name a busybox sh -c 'echo 1 >/one; sleep 1000' >/dev/null
	eventually berth exec a test -e /one
	berth commit a new:1 >/dev/null
	expect "$(state_of a)" running
	run_split berth commit a "UPPER CASE"
	expect "$status" 125
	expect "$(state_of a)" running
	expect "$(berth run --rm new:1 cat /one)" 1
}

@test "a commit that is killed, or interrupted, leaves the container running" {
	local i pid status
	berth run -d --name a busybox sh -c 'head -c 30000000 /dev/urandom >/data; : >/ready; sleep 1000' >/dev/null
	# In a machine without hardware virtualization they take a while.
	PATIENCE=300 eventually berth exec a test -e /ready
	for i in soon soon soon soon soon KILL KILL TERM; do
		setsid "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" commit a new:1 >/dev/null 2>"$TEST_DIR/error" 3>&- &
		pid=$!
		is_paused() { [ "$(state_of a)" = paused ]; }
		# It says that it is paused before it is.
		if [ "$i" = soon ]; then
			while kill -0 "$pid" && ! is_paused; do :; done
			i=KILL
		fi
		eventually is_paused
		# The whole group, if it has one of its own.
		kill "-$i" -- "-$pid" 2>/dev/null || kill "-$i" "$pid"
		status=0
		wait "$pid" || status=$?
		is_running() { [ "$(state_of a)" = running ]; }
		eventually is_running
		berth exec a true
		berth system check
	done
	expect "$status" 143
	expect_in "$(cat "$TEST_DIR/error")" interrupted
	# Who pauses it himself finds it paused.
	berth pause a
	berth commit a new:1 >/dev/null
	expect "$(state_of a)" paused
	berth unpause a
}

@test "a commit whose guard is killed lets the container go on itself" {
	local pid guard
	berth run -d --name a busybox sh -c 'head -c 30000000 /dev/urandom >/data; : >/ready; sleep 1000' >/dev/null
	PATIENCE=300 eventually berth exec a test -e /ready
	berth_job commit a new:1 >/dev/null 3>&- &
	pid=$!
	is_paused() { [ "$(state_of a)" = paused ]; }
	eventually is_paused
	kill -STOP "$pid"
	# The first that it made.
	guard=$(cut -d ' ' -f 1 "/proc/$pid/task/$pid/children")
	kill -KILL "$guard"
	kill -CONT "$pid"
	# It fails if that was before the guard could say that the container is paused.
	wait "$pid" || true
	expect "$(state_of a)" running
	berth exec a true
}

@test "export, killed or to a closed pipe, leaves all as it was" {
	berth run -d --name a busybox sleep 1000 >/dev/null
	berth export a | head -c 1000 >/dev/null || true
	expect "$(state_of a)" running
	berth export -o "$TEST_DIR/a.tar" a
	tar -tf "$TEST_DIR/a.tar" >/dev/null
	expect "$(ls "$TEST_DIR" | grep -c part || true)" 0
	run_split berth export -o "$TEST_DIR/no/such/dir" a
	expect "$status" 125
	# It comes back as an image.
	berth import "$TEST_DIR/a.tar" flat:1 >/dev/null
	expect "$(berth run --rm flat:1 echo works)" works
}

@test "cp: names at the destination are as docker has them" {
	berth run -d --name a busybox sleep 1000 >/dev/null
	cd "$TEST_DIR"
	mkdir -p src/sub dst
	echo f >src/file
	echo s >src/sub/s
	berth cp src/file a:/tmp/
	berth cp src/file a:/tmp/renamed
	berth cp src a:/tmp/
	berth cp src a:/tmp/other
	berth cp src/. a:/tmp/contents
	berth cp src/. a:/tmp
	expect "$(berth exec a sh -c 'cd /tmp; find . -type f | sort')" "$(printf '%s\n' ./contents/file ./contents/sub/s \
		./file ./other/file ./other/sub/s ./renamed ./src/file ./src/sub/s ./sub/s)"
	berth cp a:/tmp/src dst
	berth cp a:/tmp/src/. dst/all
	berth cp a:/tmp/file dst/one
	berth cp a:tmp/file dst
	expect "$(cd dst; find . -type f | sort)" "$(printf '%s\n' ./all/file ./all/sub/s ./file ./one ./src/file ./src/sub/s)"
	# To a stopped one, and between two.
	berth create --name b busybox true >/dev/null
	berth cp a:/tmp/src b:/srv-copy
	berth cp src/file b:/root/file
	expect "$(berth cp b:/srv-copy/sub/s - | tar -xO)" s
	tar -c src | berth cp - b:/home
	expect "$(berth cp b:/home/src/file - | tar -xO)" f
	for bad in "src/file a:/no/such/dir/x" "src/file a:/no/dir/" "src a:/tmp/file" "src/nothing a:/" "a:/nothing ." "src/file dst" \
		"src/file nobody:/" "src/file a:/tmp/file/"; do
		# shellcheck disable=SC2086
		run_split berth cp $bad
		expect "$status" 125
		expect "$(echo "$stderr" | grep -c '^berth: ')" 1
	done
	expect "$(find . -name '.berth-*')$(berth exec a find / -xdev -name '.berth-*')" ""
}

@test "cp: owners, modes, links, -a and -L" {
	berth run -d --name a busybox sleep 1000 >/dev/null
	cd "$TEST_DIR"
	mkdir src
	echo 1 >src/f
	ln -s f src/l
	ln src/f src/h
	chown 1234:5678 src/f
	chmod 4751 src/f
	touch -d '2001-02-03 04:05:06.123456789' src/f
	berth cp src a:/plain
	berth cp -a src a:/kept
	expect "$(berth exec a stat -c '%a %u %g %h' /plain/f)" "751 0 0 2"
	expect "$(berth exec a stat -c '%a %u %g %h' /kept/f)" "4751 1234 5678 2"
	expect "$(berth exec a readlink /plain/l)" f
	berth cp a:/kept/l l
	[ -L l ]
	berth cp -L a:/kept/l followed
	[ -f followed ] && [ ! -L followed ]
	berth cp -a a:/kept back
	expect "$(describe src | tail -n +2)" "$(describe back | tail -n +2)"
}

@test "cp: links in the container and its names never lead out" {
	echo secret >"$TEST_DIR/canary"
	mkdir "$TEST_DIR/out"
	berth run -d --name a busybox sh -c "ln -s $TEST_DIR/canary /link; ln -s $TEST_DIR /dir; ln -s /proc/1/root /magic; sleep 1000" >/dev/null
	eventually berth exec a test -L /magic
	run_split berth cp -L a:/link "$TEST_DIR/got"
	expect "$status" 125
	run_split berth cp a:/dir/canary "$TEST_DIR/got"
	expect "$status" 125
	run_split berth cp "$TEST_DIR/canary" a:/dir/written
	expect "$status" 125
	[ ! -e "$TEST_DIR/got" ] && [ ! -e "$TEST_DIR/written" ]
	# A tar whose names lead out, or over a link that it brings itself.
	python3 - "$TEST_DIR" <<-'END'
		import io, sys, tarfile
		d = sys.argv[1]
		def tar(name, *entries):
		    with tarfile.open(f"{d}/{name}", "w") as t:
		        for path, type, link in entries:
		            i = tarfile.TarInfo(path); i.type = type; i.linkname = link
		            t.addfile(i, io.BytesIO())
		tar("up.tar", ("../up", tarfile.REGTYPE, ""))
		tar("hard.tar", ("h", tarfile.LNKTYPE, "../../canary"))
		tar("over.tar", ("l", tarfile.SYMTYPE, d), ("l/over", tarfile.REGTYPE, ""))
		tar("device.tar", ("null", tarfile.CHRTYPE, ""))
	END
	for t in up hard over device; do
		run_split bash -c "'$BERTH' --root '$TEST_DIR/root' --state '$TEST_DIR/state' cp - a:/tmp <'$TEST_DIR/$t.tar'"
		expect "$status" 125
	done
	[ ! -e "$TEST_DIR/over" ] && [ ! -e "$TEST_DIR/up" ]
	expect "$(cat "$TEST_DIR/canary")" secret
	berth exec a sh -c 'mkdir -p /evil; mknod /evil/dev c 1 3' 2>/dev/null || true
	expect "$(berth exec a sh -c 'ls -A /tmp')" l
}
