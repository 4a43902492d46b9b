#!/usr/bin/env bats
# buildah with this runtime: the steps of a build run in it.

setup_file() { load helpers; make_work; }
teardown_file() { load helpers; b rm -a >/dev/null 2>&1 || true; b rmi -a -f >/dev/null 2>&1 || true; umount -l "$work/storage/overlay" 2>/dev/null || true; }
setup() { load helpers; }

b() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }

@test "buildah: build runs its steps in this runtime" {
	mkdir -p "$work/context"
	cp "$work/rootfs.tar" "$work/context/"
	cat >"$work/context/Containerfile" <<-'END'
		FROM scratch
		ADD rootfs.tar /
		RUN echo built >/built && id -u >/uid
		USER 1000
		RUN id -u >/tmp/uid
	END
	run b build --isolation oci --runtime "$RUNTIME" --network none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 -t built "$work/context"
	echo "$output"
	[ "$status" -eq 0 ]
	container=$(b from built)
	run b run --isolation oci --runtime "$RUNTIME" --network none "$container" cat /built /uid /tmp/uid
	echo "$output"
	[ "$output" = $'built\n0\n1000' ]
}

@test "buildah: a failing step fails the build" {
	mkdir -p "$work/failing"
	cp "$work/rootfs.tar" "$work/failing/"
	printf 'FROM scratch\nADD rootfs.tar /\nRUN exit 9\n' >"$work/failing/Containerfile"
	run b build --isolation oci --runtime "$RUNTIME" --network none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 "$work/failing"
	[ "$status" -ne 0 ]
	[[ "$output" == *"exit status 9"* ]]
}
