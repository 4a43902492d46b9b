#!/usr/bin/env bats
# Looking: ps, inspect, top, stats, and their formats and filters.
load helpers

setup() { berth_setup; }
teardown() { berth_teardown; }

@test "ps: the columns, and who is in it" {
	berth run -d --name web busybox sleep 1000 >/dev/null
	berth run --name ended busybox sh -c 'exit 3' || true
	run_split berth ps
	expect "$(echo "$output" | head -1)" \
		"CONTAINER ID   IMAGE     COMMAND        CREATED                  STATUS                  PORTS     NAMES" ||
		expect "$(echo "$output" | head -1 | tr -s ' ')" "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES"
	expect "$(echo "$output" | wc -l)" 2
	expect_in "$output" '"sleep 1000"'
	expect_in "$output" " web"
	run_split berth ps -a
	expect "$(echo "$output" | wc -l)" 3
	expect_in "$output" "Exited (3) "
}

@test "ps: -q, --no-trunc, -l, -n" {
	a=$(berth create --name a busybox true)
	b=$(berth create --name b busybox true)
	expect "$(berth ps -aq | sort)" "$(printf '%s\n' "${a:0:12}" "${b:0:12}" | sort)"
	expect "$(berth ps -lq --no-trunc)" "$b"
	expect "$(berth ps -n 2 -q | wc -l)" 2
	expect "$(berth ps -q)" ""
}

@test "ps: templates, tables of one's own, JSON" {
	berth run -d --name web -l app=shop busybox sleep 1000 >/dev/null
	expect "$(berth ps --format '{{.Names}} {{.State}} {{.Labels}}')" "web running app=shop"
	expect "$(berth ps --format 'table {{.Names}}\t{{.State}}')" "NAMES     STATE
web       running"
	expect "$(berth ps --format json | python3 -c 'import json, sys; print(json.loads(sys.stdin.readline())["Names"])')" web
	run_split berth ps --format '{{.Nam}}'
	expect "$status" 125
	expect_in "$stderr" "no field .Nam"
	expect_in "$stderr" "did you mean .Names?"
	run_split berth ps --format '{{'
	expect "$status" 125
}

@test "ps: filters" {
	berth run -d --name web -l app=shop -l tier=1 busybox sleep 1000 >/dev/null
	berth create --name db -l app=shop busybox true >/dev/null
	berth run --name ended busybox sh -c 'exit 3' || true
	names() { berth ps -a --format '{{.Names}}' "$@" | sort | tr '\n' ' '; }
	expect "$(names --filter status=running)" "web "
	expect "$(names --filter status=created --filter status=exited)" "db ended "
	expect "$(names --filter label=app)" "db web "
	expect "$(names --filter label=app=shop --filter label=tier)" "web "
	expect "$(names --filter name=we)" "web "
	expect "$(names --filter 'name=^e|b$')" "db ended web "
	expect "$(names --filter 'name=^we$')" ""
	expect "$(names --filter 'name=^/web$')" "web "
	expect "$(names --filter exited=3)" "ended "
	expect "$(names --filter ancestor=busybox)" "db ended web "
	expect "$(names --filter ancestor=docker.io/library/busybox:latest)" "db ended web "
	expect "$(names --filter ancestor=busybox:other)" ""
	run_split berth ps --filter 'name=('
	expect "$status" 125
	expect_in "$stderr" 'filter name: "(" is not a regular expression'
	run_split berth ps --filter colour=red
	expect "$status" 125
	expect_in "$stderr" colour
}

@test "ps --size and inspect --size: what was written, and with the image" {
	only_containers "a machine's disk has a file system around what is written"
	berth run --name web busybox sh -c 'head -c 1500 /dev/zero >/new'
	image=$(berth image inspect -f '{{.Size}}' busybox)
	expect "$(berth inspect --size -f '{{.SizeRw}} {{.SizeRootFs}}' web)" "1500 $((image + 1500))"
	expect "$(berth container inspect -s -f '{{.SizeRw}}' web)" 1500
	expect "$(berth ps -a --format '{{.Size}}')" "1.5kB (virtual $(berth images --format '{{.Size}}' busybox))"
	expect_in "$(berth ps -as)" "SIZE"
	expect_in "$(berth ps -as)" "1.5kB (virtual "
	run_split berth inspect -f '{{.SizeRw}}' web
	expect "$status" 125
}

@test "events: what happened, filters, forms, and what happens" {
	berth create --name web busybox sh -c 'exit 3' >/dev/null
	berth start -a web || true
	berth rename web shop
	berth rm shop >/dev/null
	berth run --rm --name other busybox true
	past() { berth events --since 1h --until 0s "$@"; }
	expect "$(past --format '{{.Action}} {{.Actor.Attributes.name}}' | xargs)" \
		"create web start web die web rename shop destroy shop create other start other die other destroy other"
	expect_in "$(past -f event=die -f container=web)" "(exitCode=3, image=busybox, name=web)"
	expect "$(past -f event=die -f event=create -f image=busybox -f type=container --format '{{.Status}}' | xargs)" \
		"create die create die"
	expect "$(past -f container=web --format json | python3 -c 'import json, sys
for line in sys.stdin:
	event = json.loads(line)
	print(event["status"], event["Type"], event["Actor"]["ID"] == event["id"], event["timeNano"] // 10**9 == event["time"])' | sort -u)" \
		"create container True True
die container True True
start container True True"
	expect "$(past -f type=image)" ""
	run_split berth events -f colour=red
	expect "$status" 125
	# Who waits is told at once, and ends when it is told to.
	berth_job events --format '{{.Action}}' >"$TEST_DIR/events" &
	watcher=$!
	until [ -s "$TEST_DIR/events" ]; do berth run --rm busybox true; done
	kill "$watcher"
	expect "$(head -1 "$TEST_DIR/events")" create
}

@test "inspect: documents, templates, kinds, and what does not exist" {
	id=$(berth run -d --name web -e A=1 -l app=shop busybox sleep 1000)
	expect "$(berth inspect -f '{{.Id}} {{.Name}} {{.State.Running}} {{index .Config.Labels "app"}}' web)" \
		"$id /web true shop"
	expect_in "$(berth inspect -f '{{json .Config.Env}}' web)" '"A=1"'
	expect_in "$(berth inspect -f '{{range .Config.Env}}{{println .}}{{end}}' web)" "A=1"
	kill -0 "$(berth inspect -f '{{.State.Pid}}' web)"
	berth inspect web busybox | python3 -c 'import json, sys
documents = json.load(sys.stdin)
assert documents[0]["Name"] == "/web" and documents[1]["RepoTags"], documents'
	run_split berth inspect web nothing
	expect "$status" 125
	expect_in "$stderr" 'no container and no image "nothing"'
	expect_in "$output" '"Name": "/web"'
	run_split berth inspect --type image web
	expect "$status" 125
	berth image inspect -f '{{.Architecture}}' busybox
	run_split berth container inspect busybox
	expect "$status" 125
}

@test "top lists its processes" {
	berth run -d --name t busybox sh -c 'sleep 1000; true' >/dev/null
	run_split berth top t
	expect "$(echo "$output" | head -1 | tr -s ' ')" "UID PID PPID STIME TTY TIME CMD"
	expect_in "$output" "sleep 1000"
	berth stop -t 0 t >/dev/null
	run_split berth top t
	expect "$status" 125
}

has_command() { berth top "$1" -o comm= | grep -qx "$2"; }

@test "top: columns are chosen as for ps" {
	berth run -d --name t busybox sh -c 'sleep 1000; true' >/dev/null
	eventually has_command t sleep
	expect "$(berth top t -o pid,comm | tr -s ' ' | sed 's/^[0-9]* /N /' | sort)" "$(printf '%s\n' 'N sh' 'N sleep' 'PID COMMAND' | sort)"
	expect "$(berth top t -eo comm,state,nlwp | tr -s ' ' | sort)" "$(printf '%s\n' 'COMMAND S NLWP' 'sh S 1' 'sleep S 1' | sort)"
	expect "$(berth top t pid ppid args)" "$(berth top t -opid,ppid,args)"
	expect "$(berth top t -o user=,comm= | tr -s ' ' | sort)" "$(printf '%s\n' 'root sh' 'root sleep')"
	expect "$(berth top t -o comm=NAME,vsz | head -1 | tr -s ' ')" "NAME VSZ"
	[ "$(berth top t -o rss= -o vsz= | awk '$1 > 0 && $2 >= $1' | wc -l)" = 2 ]
	[[ "$(berth top t -o etime=,time=,pcpu= | head -1 | tr -s ' ')" =~ ^[0-9]{2}:[0-9]{2}\ 00:00:00\ [0-9]+\.[0-9]$ ]]
	expect "$(berth top t -ef | head -1)" "$(berth top t | head -1)"
	run_split berth top t -o pid,wish
	expect "$status" 125
	expect_in "$stderr" 'there is no column "wish"'
	expect_in "$stderr" 'hint: there are pid, ppid'
	run_split berth top t -Z
	expect_in "$stderr" "the option -Z of ps is not supported"
	run_split berth top t -o
	expect_in "$stderr" "-o needs a list of columns"
}

@test "stats prints what it uses" {
	berth run -d --name t --memory 64m busybox sleep 1000 >/dev/null
	run_split berth stats --no-stream t
	expect "$status" 0
	expect_in "$output" "CPU %"
	expect_in "$output" "/ 64MiB"
	expect "$(berth stats --no-stream --format '{{.Name}} {{.PIDs}}' t)" "t 1"
	run_split berth stats --no-stream nothing
	expect "$status" 125
}
