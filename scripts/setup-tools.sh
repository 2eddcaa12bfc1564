#!/usr/bin/env bash
# The programs that tests run beside PostgreSQL's and Node's: Python checks exports without our code, iproute2 and util-linux
# take the network away, xmlsec1 judges signatures in XML. Exit 0: there. Exit 3: some cannot be had here, and which ones is on standard error.
set -euo pipefail

declare -A package=([python3]=python3 [ip]=iproute2 [unshare]=util-linux [nsenter]=util-linux [setpriv]=util-linux [mount]=mount [xmlsec1]=xmlsec1)

absent() {
	local program
	for program in "${!package[@]}"; do
		command -v "$program" >/dev/null || printf '%s\n' "${package[$program]}"
	done | sort -u
}

mapfile -t packages < <(absent)
[ ${#packages[@]} != 0 ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "programs of ${packages[*]} are missing: install them (Debian: apt-get install ${packages[*]})" >&2
	exit 3
fi
export DEBIAN_FRONTEND=noninteractive
{ apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } >&2
