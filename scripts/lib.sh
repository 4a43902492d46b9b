# shellcheck shell=bash
# Shared by quickstart, check and the bench scripts: sourced, not run.

say() { printf '\n== %s\n' "$*"; }

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Prints the packages of a group in scripts/packages.
packages_of() {
	awk -v group="[$1]" '
		/^\[/ { in_group = ($1 == group); next }
		/^#/ || NF == 0 { next }
		in_group { print $1 }' "$top/scripts/packages"
}

# Installs those of the given groups' packages that are missing; says nothing if none is.
install_packages() {
	local missing=() name group
	for group in "$@"; do
		for name in $(packages_of "$group"); do
			[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
				missing+=("$name")
		done
	done
	[ "${#missing[@]}" -gt 0 ] || return 0
	say "Installing Debian packages: ${missing[*]}"
	[ "$(id -u)" = 0 ] || die "packages are missing and only root can install them: ${missing[*]}"
	apt-get update -q >/dev/null || die "apt-get update failed"
	DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}" \
		>"$log" 2>&1 || { tail -20 "$log" >&2; die "apt-get install failed"; }
}

# Configures the build directory $1 once, with the remaining arguments for meson.
configure() {
	local dir=$1
	shift
	[ -f "$dir/build.ninja" ] && return 0
	meson setup "$dir" "$top" "$@" >"$log" 2>&1 || { tail -20 "$log" >&2; die "meson setup $dir failed"; }
}

# Builds the directory $1, showing the compiler's words only if it fails.
build() {
	ninja -C "$1" >"$log" 2>&1 || { grep -vE '^\[[0-9]+/' "$log" | head -60 >&2; die "the build in $1 failed"; }
}
