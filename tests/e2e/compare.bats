#!/usr/bin/env bats
# Images with every dialect of tar, and images built by buildah and podman, have the same files here as what
# umoci and podman unpack: names, contents, owners, modes, times, links, devices and attributes.
#
# BERTH_LAYERS is how many random images are made (6), BERTH_LAYERS_PEERS how many of them are also unpacked by
# umoci and podman (2), BERTH_SEED which.
load helpers

setup() {
	berth_setup none
	for tool in umoci podman buildah skopeo; do
		command -v $tool >/dev/null || skip "$tool is not installed"
	done
	layout=$TEST_DIR/layout
}

teardown() {
	if [ -d "$TEST_DIR/podman" ]; then
		storage podman image unmount --all >/dev/null 2>&1 || true
		storage podman unshare true 2>/dev/null || true
		for driver in vfs overlay; do
			if mountpoint -q "$TEST_DIR/podman/$driver"; then umount -R "$TEST_DIR/podman/$driver"; fi
		done
	fi
	berth_teardown
}

# The containers/storage tools, each with a storage of the test's own.
storage() {
	"$1" --root "$TEST_DIR/podman" --runroot "$TEST_DIR/podman-run" --storage-driver "${DRIVER:-vfs}" "${@:2}"
}

# make_layout TAR...: an OCI layout of these layers, the lowest first, with the tag x.
make_layout() {
	python3 - "$layout" "$@" <<-'END'
		import hashlib, json, os, sys
		dir, tars = sys.argv[1], sys.argv[2:]
		os.makedirs(dir + "/blobs/sha256")
		def put(data):
		    d = hashlib.sha256(data).hexdigest()
		    open(f"{dir}/blobs/sha256/{d}", "wb").write(data)
		    return {"digest": "sha256:" + d, "size": len(data)}
		layers = [put(open(t, "rb").read()) for t in tars]
		config = put(json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]},
		    "rootfs": {"type": "layers", "diff_ids": [l["digest"] for l in layers]}}).encode())
		manifest = put(json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **config},
		    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **l} for l in layers]}).encode())
		open(dir + "/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
		json.dump({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", **manifest,
		    "annotations": {"org.opencontainers.image.ref.name": "x"}}]}, open(dir + "/index.json", "w"))
	END
}

# The files that our image NAME has, as a directory.
ours() {
	local id
	mkdir "$TEST_DIR/ours"
	id=$(berth create "$1" /x)
	berth export "$id" | tar --xattrs --xattrs-include='*' --numeric-owner -C "$TEST_DIR/ours" -xpf -
	berth rm "$id" >/dev/null
	describe "$TEST_DIR/ours" >"$TEST_DIR/ours.text"
	rm -rf "$TEST_DIR/ours"
}

# compare [COUNT]: the layout's image x in ours, umoci's and podman's words.
compare() {
	local mounted
	berth load -q -i "$layout" >/dev/null
	ours "$(berth images -aq | head -1)"
	[ "$(wc -l <"$TEST_DIR/ours.text")" -ge "${1:-5}" ]
	umoci unpack --keep-dirlinks --image "$layout:x" "$TEST_DIR/bundle" 2>"$TEST_DIR/umoci.log"
	describe "$TEST_DIR/bundle/rootfs" >"$TEST_DIR/umoci.text"
	skopeo copy -q "oci:$layout:x" "containers-storage:[vfs@$TEST_DIR/podman+$TEST_DIR/podman-run]localhost/x:1"
	mounted=$(storage podman image mount localhost/x:1)
	describe "$mounted" >"$TEST_DIR/podman.text"
	diff "$TEST_DIR/umoci.text" "$TEST_DIR/ours.text" || return 1
	as_podman
}

# podman leaves times before 1970, and the root directory's owner, mode and time, as they come.
as_podman() {
	diff <(sed -e "/^b'\.' /d" -e "/^b'd\/old' /d" "$TEST_DIR/podman.text") \
		<(sed -e "/^b'\.' /d" -e "/^b'd\/old' /d" "$TEST_DIR/ours.text")
}

# A tree with what tars have trouble with.
make_tree() {
	local long deep
	long=$(printf 'l%.0s' $(seq 150))
	deep=$long/$long/$long
	mkdir -p "$TEST_DIR/tree/$deep" "$TEST_DIR/tree/d/empty"
	cd "$TEST_DIR/tree"
	echo deep >"$deep/file"
	ln -s "$deep/file" far
	ln "$deep/file" "near-$long"
	echo bytes >"$(printf 'd/\377\376 \303\251\n end')"
	echo owned >d/owned
	chown 3000000:4000000 d/owned
	chmod 6755 d/owned
	echo old >d/old
	touch -d '1950-06-07 08:09:10' d/old
	echo exact >d/exact
	touch -d '2020-02-03 04:05:06.123456789' d/exact
	mkfifo d/fifo
	mknod d/null c 1 3
	mknod d/disk b 259 70000
	chmod 1777 d/empty
	dd if=/dev/zero of=d/sparse bs=1 count=1 seek=3000000 2>/dev/null
	echo middle | dd of=d/sparse bs=1 seek=1500000 conv=notrunc 2>/dev/null
	touch -d '2021-01-01' d "$deep" "$long/$long" "$long" d/empty .
	cd - >/dev/null
}

for_format() {
	local plain=$1
	shift
	make_tree
	case $plain in
	v7 | ustar)
		# What these cannot say.
		rm -r "$TEST_DIR/tree/"{l*,near-*,far} "$TEST_DIR/tree/d/owned" "$TEST_DIR/tree/d/old" "$TEST_DIR/tree/d/disk"
		;;
	esac
	[ "$plain" != v7 ] || rm "$TEST_DIR/tree/d/"{fifo,null}
	tar --format="$plain" --numeric-owner --sort=name "$@" -C "$TEST_DIR/tree" -cf "$TEST_DIR/1.tar" .
	make_layout "$TEST_DIR/1.tar"
	compare
}

@test "tar's formats: v7" { for_format v7; }
@test "tar's formats: ustar" { for_format ustar; }
@test "tar's formats: oldgnu" { for_format oldgnu; }
@test "tar's formats: gnu" { for_format gnu; }
@test "tar's formats: gnu, sparse, which umoci and podman do not know: as tar itself unpacks it" {
	make_tree
	tar --format=gnu --sparse --numeric-owner --sort=name -C "$TEST_DIR/tree" -cf "$TEST_DIR/1.tar" .
	make_layout "$TEST_DIR/1.tar"
	berth load -q -i "$layout" >/dev/null
	ours "$(berth images -aq)"
	mkdir "$TEST_DIR/theirs"
	tar -C "$TEST_DIR/theirs" -xpf "$TEST_DIR/1.tar"
	diff <(describe "$TEST_DIR/theirs") "$TEST_DIR/ours.text"
}
@test "tar's formats: pax" { for_format pax; }
@test "tar's formats: pax, sparse 0.0" { for_format pax --sparse --sparse-version=0.0; }
@test "tar's formats: pax, sparse 0.1" { for_format pax --sparse --sparse-version=0.1; }
@test "tar's formats: pax, sparse 1.0" { for_format pax --sparse --sparse-version=1.0; }

@test "attributes: capabilities and the user's" {
	mkdir -p "$TEST_DIR/tree/d"
	echo x >"$TEST_DIR/tree/d/capable"
	setfattr -n user.comment -v hello "$TEST_DIR/tree/d/capable"
	setcap cap_net_raw+ep "$TEST_DIR/tree/d/capable"
	echo y >"$TEST_DIR/tree/d/plain"
	tar --format=pax --xattrs --xattrs-include='*' -C "$TEST_DIR/tree" -cf "$TEST_DIR/1.tar" .
	make_layout "$TEST_DIR/1.tar"
	compare 4
	expect_in "$(cat "$TEST_DIR/ours.text")" security.capability
}

@test "several layers: files replaced, removed, directories hidden and made again" {
	make_tree
	tar --format=pax -C "$TEST_DIR/tree" -cf "$TEST_DIR/1.tar" .
	python3 - "$TEST_DIR" <<-'END'
		import io, sys, tarfile
		def layer(name, *entries):
		    with tarfile.open(f"{sys.argv[1]}/{name}", "w", format=tarfile.PAX_FORMAT) as t:
		        for path, type, what in entries:
		            i = tarfile.TarInfo(path); i.type = type; i.mtime = 1600000000; i.mode = 0o755 if type == tarfile.DIRTYPE else 0o644
		            data = b""
		            if type == tarfile.REGTYPE: data = what; i.size = len(data)
		            elif what: i.linkname = what.decode()
		            t.addfile(i, io.BytesIO(data))
		F, D, L, H = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
		layer("2.tar", ("d/", D, b""), ("d/.wh.owned", F, b""), ("d/old", F, b"new"), ("new/", D, b""), ("new/a", F, b"a"), ("new/b", H, b"new/a"),
		      ("d/empty", F, b"a file now"), ("far", D, b""), ("far/in", F, b"in"))
		layer("3.tar", ("new/", D, b""), ("new/.wh..wh..opq", F, b""), ("new/c", F, b"c"), (".wh.far", F, b""), ("link", L, b"d/exact"))
	END
	make_layout "$TEST_DIR/1.tar" "$TEST_DIR/2.tar" "$TEST_DIR/3.tar"
	compare 15
	expect "$(grep -c "^b'new/" "$TEST_DIR/ours.text")" 1
}

@test "what buildah builds, in both formats" {
	make_tree
	for format in oci docker; do
		c=$(storage buildah from scratch)
		storage buildah copy -q "$c" "$TEST_DIR/tree" / >/dev/null
		storage buildah config --cmd /x --env A=1 "$c"
		storage buildah commit -q --format $format "$c" localhost/first:$format >/dev/null
		c=$(storage buildah from --pull-never localhost/first:$format)
		m=$(storage buildah mount "$c")
		rm -r "$m/d/empty" "$m/d/owned"
		echo changed >>"$m/d/exact"
		mkdir "$m/more"
		storage buildah commit -q --format $format "$c" localhost/x:$format >/dev/null
		rm -rf "$layout" "$TEST_DIR/bundle"
		skopeo copy -q "containers-storage:[vfs@$TEST_DIR/podman+$TEST_DIR/podman-run]localhost/x:$format" "oci:$layout:x"
		berth rmi -f "$(berth images -aq)" >/dev/null 2>&1 || true
		berth load -q -i "$layout" >/dev/null
		ours "$(berth images -aq | head -1)"
		describe "$(storage podman image mount localhost/x:$format)" >"$TEST_DIR/podman.text"
		as_podman
		umoci unpack --keep-dirlinks --image "$layout:x" "$TEST_DIR/bundle" 2>/dev/null
		describe "$TEST_DIR/bundle/rootfs" >"$TEST_DIR/umoci.text"
		diff "$TEST_DIR/umoci.text" "$TEST_DIR/ours.text"
		# podman's archive of it, too: the same image.
		storage podman save -q -o "$TEST_DIR/$format.tar" localhost/x:$format
		expect_in "$(berth load -q -i "$TEST_DIR/$format.tar")" "localhost/x:$format"
		berth rmi -f "localhost/x:$format" >/dev/null 2>&1 || true
	done
}

# What layers.py makes of a seed: loaded, and its files described in $dir/ours.
random_image() {
	local seed=$1 id file
	shift
	dir=$TEST_DIR/$seed
	mkdir "$dir" "$dir/tree"
	python3 "$BATS_TEST_DIRNAME/layers.py" make "$dir" "$seed" "$@"
	berth load -q -i "$dir/layout" >/dev/null
	for file in "$TEST_DIR"/root/layers/*.erofs; do
		[ -f "$file" ] || continue
		fsck.erofs "$file" >"$dir/fsck" 2>&1 && dump.erofs -s "$file" >>"$dir/fsck" 2>&1 || {
			cat "$dir/fsck"
			return 1
		}
		as_before "$dir" "$file"
	done
	id=$(berth create "$(berth images -aq)" /x)
	berth export "$id" | tar --warning=no-timestamp --xattrs --xattrs-include='*' --numeric-owner -C "$dir/tree" -xpf -
	berth rm "$id" >/dev/null
	python3 "$BATS_TEST_DIRNAME/layers.py" describe "$dir/tree" >"$dir/ours"
	rm -rf "$dir/tree"
}

# The layer file is the same, to the byte, when its threads share one processor, and when it comes from an
# archive instead of a directory.
as_before() {
	if [ ! -d "$1/again" ]; then
		mkdir "$1/again" "$1/again-state"
		tar -C "$1/layout" -cf "$1/layout.tar" .
		taskset -c 0 "$BERTH" --root "$1/again" --state "$1/again-state" load -q -i "$1/layout.tar" >/dev/null
	fi
	cmp "$2" "$1/again/layers/${2##*/}"
}

as_expected() {
	python3 "$BATS_TEST_DIRNAME/layers.py" compare "$dir/expected" "$dir/$1" "${@:2}" || {
		echo "seed ${dir##*/}: $1"
		return 1
	}
}

@test "random layers in every dialect are what the specification says" {
	local i seed=${BERTH_SEED:-7}
	for ((i = 0; i < ${BERTH_LAYERS:-6}; i++)); do
		random_image $((seed * 1000 + i))
		as_expected ours
		berth rmi -f "$(berth images -aq)" >/dev/null
		rm -r "$dir"
	done
}

# What the words leave out is known of them: a directory that only the names in a layer imply has the owner
# and mode of the one below with umoci (and times of their own with both), podman knows no time before 1970.
@test "random layers are what umoci and podman unpack" {
	# vfs loses hard links and attributes when it copies a layer for the next one.
	local i seed=${BERTH_SEED:-7} mounted DRIVER=overlay
	storage podman info >/dev/null || skip "podman has no overlay here"
	for ((i = 0; i < ${BERTH_LAYERS_PEERS:-2}; i++)); do
		random_image $((seed * 1000 + i)) peers
		as_expected ours
		umoci unpack --image "$dir/layout:x" "$dir/bundle" 2>"$dir/log"
		python3 "$BATS_TEST_DIRNAME/layers.py" describe "$dir/bundle/rootfs" >"$dir/umoci"
		as_expected umoci implied dir-times
		skopeo copy -q "oci:$dir/layout:x" \
			"containers-storage:[overlay@$TEST_DIR/podman+$TEST_DIR/podman-run]localhost/x:$i"
		mounted=$(storage podman image mount "localhost/x:$i")
		python3 "$BATS_TEST_DIRNAME/layers.py" describe "$mounted" >"$dir/podman"
		as_expected podman implied before-1970 implied-time root
		storage podman image unmount "localhost/x:$i" >/dev/null
		berth rmi -f "$(berth images -aq)" >/dev/null
		rm -r "$dir"
	done
}
