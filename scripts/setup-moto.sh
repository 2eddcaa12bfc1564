#!/usr/bin/env bash
# moto, which stands for AWS KMS in the tests of keyring/awskms: a Python environment of its own under .cache. Exit 0: there. Exit 3: it
# cannot be had here, and the reason is on standard error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=5.2.5
home=.cache/moto

has() { [ "$("$home/bin/python" -c 'import moto; print(moto.__version__)' 2>/dev/null)" = "$version" ] && [ -x "$home/bin/moto_server" ]; }

if has; then exit 0; fi
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "skipped: no Python with venv, so no moto: install them (Debian: apt-get install python3-venv)" >&2
		exit 3
	fi
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update && apt-get install -y --no-install-recommends python3-venv; } >&2
fi
mkdir -p .cache
rm -rf "$home"
if ! { python3 -m venv "$home" && "$home/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$version"; } >&2 || ! has; then
	rm -rf "$home"
	echo "skipped: moto $version cannot be installed from the Python package index" >&2
	exit 3
fi
