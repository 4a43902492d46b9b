#!/usr/bin/env bats
# System calls that fail: disks with errors, full or read-only, no memory, no descriptors left. Each command
# that changes the image store ends with one error or succeeds; then `system check` has nothing to complain
# about, and the same command succeeds.
#
# And the same commands killed at random moments (pull.bats kills pulls).
#
# BERTH_FAULTS is how many faults there are in each command (4), BERTH_SEED which.
load helpers
load registries

setup() {
	berth_setup none
	command -v strace >/dev/null || skip "strace is not installed"
	PORT=$(free_port)
	REGISTRY_PIDS=()
	registry_begin
	IMAGE=localhost:$PORT/test:1
	python3 "$BATS_TEST_DIRNAME/registry.py" --make "$TEST_DIR/layout" \
		'[{"noise": 200000}, {"noise": 100000, "files": 100}, {"noise": 100}]' >/dev/null
	berth copy "oci:$TEST_DIR/layout:1" "$IMAGE" >/dev/null
	tar -C "$BATS_TEST_DIRNAME" -cf "$TEST_DIR/some.tar" .
}

teardown() {
	registries_end
	berth_teardown
}

# The same command with one kind of system call failing, once or from then on.
inject() {
	local calls=(pwrite64 write fsync fdatasync renameat renameat2 openat mkdirat unlinkat ftruncate pread64 read
		newfstatat flock fcntl clone clone3 getdents64 fchown mmap sendto recvfrom connect)
	local errors=(EIO ENOSPC EROFS ENOMEM EMFILE EDQUOT)
	local call=${calls[RANDOM % ${#calls[@]}]} error=${errors[RANDOM % ${#errors[@]}]} when=$((1 + RANDOM % 25))
	[ $((RANDOM % 4)) -ne 0 ] || when=$when+
	if [ -n "${FAULT:-}" ]; then IFS=: read -r call error when <<<"$FAULT"; fi
	# Before this the loader is at work, which has words of its own.
	case $call in read | pread64 | mmap | openat | newfstatat) when=$((20 + ${when%+})) ;; esac
	what="$call:error=$error:when=$when, $*"
	run_split timeout 60 strace -f -qq --seccomp-bpf -o /dev/null -e "trace=$call" \
		-e "inject=$call:error=$error:when=$when" "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" "$@"
}

fresh() {
	berth rm -f a >/dev/null 2>&1 || true
	rm -rf "$TEST_DIR/root" "$TEST_DIR/state" "$TEST_DIR/out.tar"
	mkdir "$TEST_DIR/root" "$TEST_DIR/state"
}

# Nothing is wrong with the store, and nothing half-done in it.
is_clean() {
	berth system check "$@" || { echo "after $what"; return 1; }
	expect "$what: $(find "$TEST_DIR/root/ingest" "$TEST_DIR/root/layers" -mindepth 1 \
		! -name '*.erofs' ! -name '*.dir' -path '*/ingest/*' -o -name 'tmp.*' 2>/dev/null)" "$what: "
}

# faults FRESH COMMAND...: FRESH makes the store as the command wants it.
faults() {
	local prepare=$1 i
	shift
	RANDOM=${BERTH_SEED:-7}
	for ((i = 0; i < ${BERTH_FAULTS:-4}; i++)); do
		fresh
		eval "$prepare"
		inject "$@"
		# The loader's words, not ours.
		if [ "$status" -ne 0 ] && ! grep -q 'shared librar' <<<"$stderr"; then
			expect "$what: $status" "$what: 125"
			case $what in
			# The error cannot be written either.
			write:*) ;;
			*) expect "$what: $(grep -c '^berth: ' <<<"$stderr")" "$what: 1" ;;
			esac
		fi
		is_clean
		[ "${AGAIN:-yes}" = no ] || berth "$@" >/dev/null || { echo "again after $what"; return 1; }
		is_clean --content
	done
}

@test "pull" { faults : pull -q "$IMAGE"; }
@test "load" { faults : load -q -i "$TEST_DIR/layout"; }
@test "import" { faults : import "$TEST_DIR/some.tar" some:1; }
@test "push" { faults 'berth pull -q "$IMAGE" >/dev/null' push -q "$IMAGE" "localhost:$PORT/other:1"; }
@test "save" { faults 'berth pull -q "$IMAGE" >/dev/null' save -o "$TEST_DIR/out.tar" "$IMAGE"; }
@test "rmi" { AGAIN=no faults 'berth pull -q "$IMAGE" >/dev/null' rmi "$IMAGE"; }
# A container with something to commit.
with_container() {
	berth pull -q "$IMAGE" >/dev/null
	berth create --name a "$IMAGE" /x >/dev/null
	berth cp "$TEST_DIR/some.tar" a:/added >/dev/null
}

@test "commit" { faults with_container commit -q a new:1; }
@test "sbom" { faults 'berth pull -q "$IMAGE" >/dev/null' sbom "$IMAGE"; }

# kills PREPARE COMMAND...
kills() {
	local prepare=$1 i pid start full
	shift
	for ((i = 0; i <= ${BERTH_FAULTS:-4}; i++)); do
		fresh
		eval "$prepare"
		start=$(date +%s%3N)
		"$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" "$@" >/dev/null 2>&1 3>&- &
		pid=$!
		if [ "$i" -eq 0 ]; then
			# How long it takes when nobody disturbs it.
			wait "$pid"
			full=$(($(date +%s%3N) - start))
			continue
		fi
		what="killed: $*"
		sleep "$(printf '0.%03d' $((RANDOM % (full < 999 ? full + 1 : 999))))"
		kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
		eventually nobody_left
		is_clean --content
		[ "${AGAIN:-yes}" = no ] || berth "$@" >/dev/null
		is_clean --content
	done
}

@test "killed at random moments: load, import, push, save, rmi, commit" {
	RANDOM=${BERTH_SEED:-7}
	kills : load -q -i "$TEST_DIR/layout"
	kills : import "$TEST_DIR/some.tar" some:1
	kills 'berth pull -q "$IMAGE" >/dev/null' push -q "$IMAGE" "localhost:$PORT/killed:1"
	kills 'berth pull -q "$IMAGE" >/dev/null' save -o "$TEST_DIR/out.tar" "$IMAGE"
	AGAIN=no kills 'berth pull -q "$IMAGE" >/dev/null' rmi "$IMAGE"
	kills with_container commit -q a new:1
}

@test "what rmi could not remove, the next command does" {
	berth pull -q "$IMAGE" >/dev/null
	rm -rf "$TEST_DIR/state/layers"
	touch "$TEST_DIR/state/layers"
	run_split berth rmi "$IMAGE"
	expect "$status" 125
	expect_in "$stderr" "Not a directory"
	[ -n "$(ls "$TEST_DIR/root/layers")" ]
	rm "$TEST_DIR/state/layers"
	berth system check
	expect "$(ls "$TEST_DIR/root/layers" "$TEST_DIR/root/blobs/sha256" "$TEST_DIR/root/ingest")" \
		"$(printf '%s\n' "$TEST_DIR/root/blobs/sha256:" "" "$TEST_DIR/root/ingest:" "" "$TEST_DIR/root/layers:")"
}

# What was written is in its log then, and is there for who opens it next.
@test "the database's disk fails when it is to keep a commit" {
	local when BERTH_FAULTS=1
	for when in 1 2 3; do
		FAULT=fdatasync:ENOSPC:$when faults with_container commit -q a new:1
		FAULT=fdatasync:ENOSPC:$when faults : load -q -i "$TEST_DIR/layout"
		FAULT=fdatasync:EIO:$when faults : import "$TEST_DIR/some.tar" some:1
		FAULT=fdatasync:EIO:$when AGAIN=no faults 'berth pull -q "$IMAGE" >/dev/null' rmi "$IMAGE"
	done
}

@test "a workload whose row could not be kept does not come back" {
	local when
	berth pull -q "$IMAGE" >/dev/null
	for when in 1 1+; do
		FAULT=fdatasync:EIO:$when inject create --name a "$IMAGE" /x
		expect "$status" 125
		expect_in "$stderr" "database"
		expect "$(berth ps -aq)" ""
		is_clean
		berth create --name a "$IMAGE" /x >/dev/null
		berth rm a >/dev/null
	done
}

@test "a store on a read-only file system is said to be that, and what helps" {
	berth bootstrap busybox >/dev/null
	# The mount is this shell's own.
	unshare -m bash -ec '
		mount --bind "$1" "$1"
		mount -o remount,bind,ro "$1"
		shift
		for words in "tag busybox other" "rmi busybox" "create busybox" "image prune -f"; do
			echo "$words"
			! "$@" $words || exit 1
		done' - "$TEST_DIR" "$BERTH" --root "$TEST_DIR/root" --state "$TEST_DIR/state" >"$TEST_DIR/../said.$$" 2>&1
	said=$(cat "$TEST_DIR/../said.$$")
	rm "$TEST_DIR/../said.$$"
	expect_in "$said" "$TEST_DIR/root/berth.db, or its file system, may only be read"
	expect "$(grep -c "writable" <<<"$said")" 4
	berth run --rm busybox true
}
