#!/usr/bin/env bash
# Chromium, which the tests of the pages drive, and certutil, by which it learns of their authority. Exit 0: there. Exit 3: they
# cannot be had here, and the reason is on standard error.
set -euo pipefail
if ! command -v chromium >/dev/null || ! command -v certutil >/dev/null; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "Chromium or certutil is missing: install them (Debian: apt-get install chromium libnss3-tools)" >&2
		exit 3
	fi
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update && apt-get install -y --no-install-recommends chromium libnss3-tools; } >&2
fi
