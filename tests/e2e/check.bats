#!/usr/bin/env bats
# system check and its --repair: one test for every way in which a store can be inconsistent. Each injects
# the fault, expects that it is found, mended, and gone, and that the image works, or is cleanly away.
load helpers

# A store with an image of two layers, made once.
setup() {
	berth_setup
	if [ ! -e "$BATS_FILE_TMPDIR/two" ]; then
		berth run --name c busybox sh -c 'head -c 200000 /dev/urandom >/data'
		berth commit c two:1 >/dev/null
		berth rm c >/dev/null
		cp -a "$TEST_DIR/root" "$BATS_FILE_TMPDIR/two"
	fi
	rm -rf "$TEST_DIR/root"
	cp -a "$BATS_FILE_TMPDIR/two" "$TEST_DIR/root"
	root=$TEST_DIR/root
	two=$(berth images -q --no-trunc two:1)
}
teardown() { berth_teardown; }

# sql STATEMENT: as somebody who does not keep the database's rules.
sql() {
	python3 - "$root/berth.db" "$1" <<-'END'
		import sqlite3, sys
		db = sqlite3.connect(sys.argv[1])
		db.execute("PRAGMA foreign_keys = OFF")
		for row in db.execute(sys.argv[2]): print("|".join(map(str, row)))
		db.commit()
	END
}

layer() { berth image inspect -f "{{index .RootFS.Layers $1}}" two:1 | sed 's/sha256://'; }
top_layer() { layer 1; }
top_blob() { sql "SELECT blob FROM image_layer WHERE diffid = 'sha256:$(top_layer)'" | sed 's/sha256://'; }
manifest() { berth image inspect -f '{{.Digest}}' two:1 | sed 's/sha256://'; }
# Turns one bit.
flip() {
	python3 - "$1" "${2:-1000}" <<-'END'
		import os, sys
		os.chmod(sys.argv[1], 0o600)
		f = open(sys.argv[1], "r+b")
		f.seek(int(sys.argv[2])); b = f.read(1)[0]; f.seek(-1, 1); f.write(bytes([b ^ 4]))
	END
}
shorten() { chmod u+w "$1" && truncate -s -1 "$1"; }

# mended TEXT [OPTION...]: the check finds a problem with this text, changes nothing by itself, mends it,
# and then finds nothing more, even when it reads everything.
mended() {
	local text=$1
	shift
	run_split berth system check "$@"
	expect "$status" 125
	expect_in "$output" "$text"
	expect "$(echo "$stderr" | grep -c '^berth: ')" 1
	run_split berth system check "$@"
	expect_in "$output" "$text"
	expect_in "$(berth system check --repair "$@" || true)" "$text"
	expect "$(berth system check --content)" "No problems found."
}
works() { expect "$(berth run --rm two:1 sh -c 'wc -c </data')" 200000; }
# Both images are as before.
whole() {
	works
	expect "$(berth images -q --no-trunc two:1)" "$two"
	berth save two:1 | tar -t >/dev/null
	berth run --rm busybox true
}

@test "a missing layer file is made again" {
	rm "$root/layers/$(top_layer).erofs"
	mended "$(top_layer) is missing"
	whole
}

@test "a shortened layer file is made again" {
	shorten "$root/layers/$(top_layer).erofs"
	mended "$(top_layer) has"
	whole
}

@test "a layer file with a turned bit is made again" {
	flip "$root/layers/$(top_layer).erofs" 5000
	mended "$(top_layer) is damaged" --content
	whole
}

@test "the directory of the layers is missing" {
	rm -r "$root/layers"
	mended "is missing"
	whole
}

@test "a missing blob of a layer is forgotten; the image still runs" {
	blob=$(top_blob)
	rm "$root/blobs/sha256/$blob"
	mended "$blob is missing"
	works
}

@test "a shortened blob" {
	blob=$(top_blob)
	shorten "$root/blobs/sha256/$blob"
	mended "$blob has"
	works
}

@test "a blob with a turned bit" {
	blob=$(top_blob)
	flip "$root/blobs/sha256/$blob"
	mended "$blob has the digest" --content
	works
}

@test "a blob that is a directory" {
	blob=$(top_blob)
	rm "$root/blobs/sha256/$blob"
	mkdir "$root/blobs/sha256/$blob"
	mended "$blob is not a regular file"
	works
}

@test "blob and layer both gone: the image goes, the other stays" {
	rm "$root/blobs/sha256/$(top_blob)" "$root/layers/$(top_layer).erofs"
	mended "is missing"
	expect "$(berth images -q two:1)" ""
	berth run --rm busybox true
}

@test "a missing manifest, or a damaged configuration: the image goes" {
	rm "$root/blobs/sha256/$(manifest)"
	mended "is missing"
	expect "$(berth images -q two:1)" ""
	flip "$root/blobs/sha256/$(berth images -q --no-trunc busybox | sed 's/sha256://')" 20
	mended "has the digest" --content
	expect "$(berth images -aq)" ""
	expect "$(find "$root/blobs" "$root/layers" -type f)" ""
}

@test "an image in use is not taken away, and the problem is said" {
	berth create --name user two:1 true >/dev/null
	rm "$root/blobs/sha256/$(manifest)"
	run_split berth system check --repair
	expect "$status" 125
	expect_in "$output" "is missing"
	works
	berth rm user >/dev/null
	berth system check --repair >/dev/null
	berth system check
}

@test "files that belong to nothing" {
	echo x >"$root/blobs/sha256/$(printf 'a%.0s' $(seq 64))"
	echo x >"$root/blobs/sha256/nonsense"
	mkdir "$root/blobs/sha256/directory"
	echo x >"$root/layers/nonsense.erofs"
	echo x >"$root/layers/notes"
	cp "$root/layers/$(top_layer).erofs" "$root/layers/$(printf 'b%.0s' $(seq 64)).erofs"
	mended "belongs to nothing"
	whole
}

@test "what killed commands left" {
	mkdir -p "$root/ingest/0123456789abcdef"
	echo x >"$root/ingest/0123456789abcdef/part"
	: >"$root/ingest/0123456789abcdef.lock"
	echo x >"$root/layers/tmp.0123456789abcdef"
	run_split berth system check --repair
	berth system check --content
	expect "$(find "$root/ingest" -mindepth 1; find "$root/layers" -name 'tmp.*')" ""
	whole
}

@test "a row without a file, and a file without its row" {
	sql "INSERT INTO image_blob VALUES ('sha256:$(printf 'c%.0s' $(seq 64))', 5, 1)"
	mended "is missing"
	blob=$(top_blob)
	sql "DELETE FROM image_blob WHERE digest = 'sha256:$blob'"
	mended "$blob is needed, but not recorded"
	whole
	layer=$(top_layer)
	sql "DELETE FROM image_layer WHERE diffid = 'sha256:$layer'"
	mended "not recorded as its configuration says"
	whole
}

@test "rows of an image that are gone" {
	sql "DELETE FROM image_stack WHERE image = '$two' AND position = 1"
	mended "not recorded as its configuration says"
	whole
	sql "DELETE FROM image_part WHERE image = '$two'"
	mended "not recorded as a part"
	whole
	sql "UPDATE image_layer SET size = size + 1 WHERE diffid = 'sha256:$(top_layer)'"
	mended "instead of"
	whole
}

@test "layers in the wrong order" {
	sql "UPDATE image_stack SET position = 7 WHERE image = '$two' AND position = 0"
	sql "UPDATE image_stack SET position = 0 WHERE image = '$two' AND position = 1"
	sql "UPDATE image_stack SET position = 1 WHERE image = '$two' AND position = 7"
	mended "not recorded as its configuration says"
	whole
}

@test "a name, digests, parts and layers of an image that is not here" {
	none=sha256:$(printf 'd%.0s' $(seq 64))
	sql "INSERT INTO image_name VALUES ('docker.io/library/gone:1', '$none', '$none', 1)"
	sql "INSERT INTO image_digest VALUES ('docker.io/library/gone', '$none', '$none')"
	sql "INSERT INTO image_part SELECT '$none', digest FROM image_blob"
	sql "INSERT INTO image_stack SELECT '$none', 0, diffid FROM image_layer LIMIT 1"
	mended "is of an image that is not here"
	whole
	berth rmi two:1 busybox >/dev/null
	expect "$(find "$root/blobs" "$root/layers" -type f)" ""
}

@test "marks of workloads: one too many, one too few" {
	sql "INSERT INTO image_use VALUES ('workload/$(printf 'e%.0s' $(seq 64))', '$two')"
	mended "is kept for workload/"
	berth create --name user two:1 true >/dev/null
	sql "DELETE FROM image_use"
	mended "is not kept for it"
	run_split berth rmi two:1
	expect "$status" 125
	berth rm user >/dev/null
	berth rmi two:1 >/dev/null
}

@test "many faults at once" {
	rm "$root/layers/$(top_layer).erofs"
	flip "$root/layers/$(layer 0).erofs" 9000
	echo x >"$root/blobs/sha256/nonsense"
	sql "DELETE FROM image_part WHERE image = '$two'"
	sql "INSERT INTO image_name VALUES ('docker.io/library/gone:1', 'sha256:x', 'sha256:x', 1)"
	mended "belongs to nothing" --content
	whole
}
