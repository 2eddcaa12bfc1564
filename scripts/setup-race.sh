#!/usr/bin/env bash
# The race detector needs a C compiler. Exit 0: there. Exit 3: it cannot be had here, and the reason is on standard error.
set -euo pipefail
cc=$(go env CC)
if ! command -v "${cc%% *}" >/dev/null; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "no C compiler, so no race detector: install one (Debian: apt-get install gcc libc6-dev)" >&2
		exit 3
	fi
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev; } >&2
fi
