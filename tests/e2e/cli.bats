#!/usr/bin/env bats
# The face itself: help, errors, completions, manual. No workload runs here.
load helpers

setup() { berth_setup none; }
teardown() { rm -rf "$TEST_DIR"; }

@test "without arguments: the help, with every section" {
	run_split "$BERTH"
	expect "$status" 0
	for word in Workloads: Looking: Images: Groups: run ps images --root; do
		expect_in "$output" "$word"
	done
}

@test "--version, -v and version agree" {
	version=$("$BERTH" --version)
	expect "$("$BERTH" -v)" "$version"
	expect "$("$BERTH" version)" "$version"
	expect_in "$version" "berth "
	expect "berth $("$BERTH" version -f '{{.Client.Version}}')" "$version"
}

@test "every command has a help" {
	for command in run create start stop restart kill pause unpause wait rename rm ps inspect logs attach \
		exec top stats images pull push bootstrap rmi tag history load save import container image \
		system info version completion; do
		run_split "$BERTH" "$command" --help
		expect "$status" 0
		expect_in "$output" "Usage:  berth $command"
	done
	run_split "$BERTH" image ls --help
	expect_in "$output" "Usage:  berth image ls"
	expect_in "$output" "berth images"
}

@test "an unknown flag is named, with the closest right one, and ends with 125" {
	run_split berth run --detch busybox
	expect "$status" 125
	expect "$output" ""
	expect "$stderr" 'berth: unknown flag --detch
hint: did you mean --detach? See "berth run --help"'
}

@test "an unknown command is named, with the closest right one" {
	run_split berth imgaes
	expect "$status" 125
	expect "$stderr" 'berth: unknown command "berth imgaes"
hint: did you mean "berth images"?'
	run_split berth container lss
	expect_in "$stderr" 'did you mean "berth container ls"?'
}

@test "what docker or podman have and berth has not is refused with a reason and what to do" {
	for command in build compose network port snapshot update volume "container port" "image exists"; do
		# shellcheck disable=SC2086
		run_split berth $command ls
		expect "$status" 125
		expect_in "$stderr" "berth: \"berth $command\" is not supported: "
		expect "$(wc -l <<<"$stderr")" 2
		expect_in "$stderr" "hint: "
	done
}

@test "flags that berth cannot honour are refused with a reason" {
	for flag in "--publish 80:80" "--gpus all" "--health-cmd true" "--volumes-from x" "--userns host" \
		"--snapshot x" "--link a" --env-host --no-hosts "--pidfile x" --rmi "--timeout 1" "--tz UTC" \
		"--umask 77" "--unsetenv A"; do
		# shellcheck disable=SC2086
		run_split berth run $flag busybox
		expect "$status" 125
		expect_in "$stderr" "berth: ${flag%% *} is not supported: "
	done
}

@test "values that make no sense are refused by flag and value" {
	while IFS='|' read -r flags text; do
		# shellcheck disable=SC2086
		run_split berth run $flags busybox
		expect "$status" 125
		expect_in "$stderr" "$text"
	done <<'END'
--memory lots|invalid value "lots" for --memory
--cpus many|invalid value "many" for --cpus
--cpus 0|invalid value "0" for --cpus
--pull perhaps|expected always|missing|never|newer
--memory-swap 1g|--memory-swap needs --memory
--memory 1g --memory-swap 512m|cannot be smaller than --memory
--rm --restart always|--rm and --restart exclude each other
--oom-score-adj 1001|between -1000 and 1000
--env =x|has no name
--env-file /nonexistent|/nonexistent
--network bridge|network
--restart sometimes|sometimes
--volume relative:/x:zz|relative:/x:zz
--ulimit nofile|nofile
--attach nothing|expected stdin, stdout or stderr
--isolation jail|invalid value "jail" for --isolation
--accel soft|--accel goes only with --vm
-d --attach stdout|exclude each other
END
}

@test "missing and superfluous arguments show the usage" {
	run_split berth rm
	expect "$status" 125
	expect "$stderr" 'berth: "berth rm" needs at least 1 argument, but was given 0
hint: usage: berth rm [OPTIONS] CONTAINER...'
	run_split berth rename a
	expect_in "$stderr" "needs exactly 2 arguments"
	run_split berth version x
	expect_in "$stderr" "takes no arguments"
}

@test "a group without a command prints its help" {
	run_split berth image
	expect "$status" 0
	expect_in "$output" "Usage:  berth image COMMAND"
}

@test "--log-format json writes errors as objects" {
	run_split berth --log-format json inspect nothing
	expect "$status" 125
	python3 -c 'import json, sys
lines = [json.loads(l) for l in sys.argv[1].splitlines()]
assert any(l["level"] == "error" and "nothing" in l["msg"] and l["time"] for l in lines), lines' "$stderr"
}

@test "settings come from the environment and from files, the line wins" {
	mkdir -p "$TEST_DIR/config/berth" "$TEST_DIR/a" "$TEST_DIR/b"
	echo "state = \"$TEST_DIR/b\"" >"$TEST_DIR/config/berth/berth.toml"
	BERTH_ROOT=$TEST_DIR/a "$BERTH" ps -q
	[ -e "$TEST_DIR/a/berth.db" ]
	BERTH_ROOT=$TEST_DIR/a "$BERTH" --root "$TEST_DIR/c" --state "$TEST_DIR/b" ps -q
	[ -e "$TEST_DIR/c/berth.db" ]
	echo "rot = 1" >"$TEST_DIR/config/berth/berth.toml"
	run_split "$BERTH" ps
	expect "$status" 125
	expect_in "$stderr" 'unknown setting "rot"'
	expect_in "$stderr" 'did you mean "root"?'
}

@test "completions load in bash and offer commands, flags and values" {
	"$BERTH" completion bash >"$TEST_DIR/completion"
	try() {
		bash -c 'source "$1"; COMP_LINE=$2 COMP_POINT=${#2}; _berth; echo "${COMPREPLY[*]}"' - \
			"$TEST_DIR/completion" "$1"
	}
	expect "$(try "$BERTH ren")" rename
	expect "$(try "$BERTH run --cap-")" "--cap-add --cap-drop"
	expect "$(try "$BERTH run --pull=al")" always
	expect "$(try "$BERTH run -v /etc/hostn")" /etc/hostname
	"$BERTH" completion zsh | grep -q compdef
	"$BERTH" completion fish | grep -q 'complete -c berth'
	run_split berth completion csh
	expect "$status" 125
}

@test "the manual has a page for every command, and each is well-formed" {
	"$BERTH" man --output "$TEST_DIR/man1"
	[ -s "$TEST_DIR/man1/berth.1" ]
	[ -s "$TEST_DIR/man1/berth-run.1" ]
	[ -s "$TEST_DIR/man1/berth-image-prune.1" ]
	expect "$(cat "$TEST_DIR/man1/berth-image-ls.1")" ".so man1/berth-images.1"
	if ! type man >/dev/null 2>&1; then skip "no man here to format the pages"; fi
	for page in "$TEST_DIR"/man1/*.1; do
		expect "$(cd "$TEST_DIR" && MANROFFSEQ='' man --warnings -E UTF-8 -l "$page" 2>&1 >/dev/null)" ""
	done
}

@test "a full disk under the output is an error" {
	run_split bash -c "'$BERTH' --help >/dev/full"
	expect "$status" 125
	expect_in "$stderr" "No space left on device"
}
