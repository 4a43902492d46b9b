#!/usr/bin/env bats
# system df, info, prune, check.
load helpers

setup() { berth_setup; }
teardown() { berth_teardown; }

@test "system df counts images and containers" {
	berth run -d --name t busybox sleep 100 >/dev/null
	berth create busybox true >/dev/null
	expect "$(berth system df | head -1 | tr -s ' ')" "TYPE TOTAL ACTIVE SIZE RECLAIMABLE"
	expect "$(berth system df --format '{{.Type}} {{.TotalCount}} {{.Active}}')" "Images 1 1
Containers 2 1"
}

# The bytes of the files below these directories, each file once.
bytes_in() { find "$@" -type f -printf '%D:%i %s\n' 2>/dev/null | sort -u | awk '{n += $2} END {printf "%d", n}'; }

@test "system df is exact to the byte" {
	only_containers "what a disk takes is its file system's"
	berth run --name a busybox sh -c 'head -c 12345 /dev/urandom >/data; ln /data /again; echo logged'
	berth commit a two:1 >/dev/null
	berth run -d --name b two:1 sh -c 'echo more >/more; sleep 100' >/dev/null
	eventually berth exec b test -e /more
	root=$TEST_DIR/root
	expect "$(berth system df --format '{{.SizeBytes}}')" "$(bytes_in "$root/blobs" "$root/layers")
$(bytes_in "$root/workloads")"
	# By image: what is shared is counted for each, what is not only once.
	expect "$(berth system df -v --format '{{range .Containers}}{{.Names}} {{.SizeBytes}} {{end}}' | xargs -n2 | sort | paste -sd' ')" \
		"a $(bytes_in "$root/workloads/$(berth inspect -f '{{.Id}}' a)/upper") b 5"
	berth system df -v --format json >"$TEST_DIR/df.json"
	python3 - "$TEST_DIR/df.json" "$(bytes_in "$root/blobs" "$root/layers")" <<-'END'
		import json, sys
		images = json.load(open(sys.argv[1]))["Images"]
		assert len(images) == 2
		shared = {i["SharedSizeBytes"] for i in images}
		assert len(shared) == 1 and min(shared) > 1000000
		assert sum(i["UniqueSizeBytes"] for i in images) + shared.pop() == int(sys.argv[2])
	END
	expect_in "$(berth system df -v | tr -s ' ')" "REPOSITORY TAG IMAGE ID CREATED SIZE SHARED SIZE UNIQUE SIZE CONTAINERS"
	berth rm -f a b >/dev/null
	berth rmi two:1 busybox >/dev/null
	expect "$(berth system df --format '{{.SizeBytes}} {{.Size}}')" "0 0B
0 0B"
}

@test "info says where things are" {
	expect_in "$(berth info)" "$TEST_DIR/root"
	berth system info --format json | python3 -m json.tool >/dev/null
}

@test "system prune removes containers and unused images" {
	berth run --name ended busybox true
	berth system prune -a -f >/dev/null
	expect "$(berth ps -aq)" ""
	expect "$(berth images -aq)" ""
}

@test "system check finds nothing wrong, and finds what is" {
	expect "$(berth system check)" "No problems found."
	expect "$(berth system check --quiet --content)" ""
	blob=$(find "$TEST_DIR/root/blobs" -type f -size +100k | head -1)
	chmod u+w "$blob"
	printf 'x' | dd of="$blob" bs=1 seek=1000 conv=notrunc status=none
	run_split berth system check --content
	expect "$status" 125
	expect_in "$output" "${blob##*/}"
	expect_in "$stderr" "problem"
	berth system check --content --repair || true
	berth system check --content
}

@test "a foreign or damaged database is an error, not a crash" {
	mkdir "$TEST_DIR/bad"
	echo "this is no database" >"$TEST_DIR/bad/berth.db"
	run_split "$BERTH" --root "$TEST_DIR/bad" --state "$TEST_DIR/state" ps
	expect "$status" 125
	expect_in "$stderr" "berth.db"
}

@test "two users of one root at once" {
	for i in 1 2 3 4 5 6 7 8; do
		berth create --name "c$i" busybox true >/dev/null &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid"; done
	expect "$(berth ps -aq | wc -l)" 8
}
