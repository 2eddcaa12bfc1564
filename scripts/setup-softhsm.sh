#!/usr/bin/env bash
# SoftHSM, the token that the tests of keyring/pkcs11 use, and a C compiler, which a program with PKCS#11 takes. Exit 0: there. Exit 3:
# they cannot be had here, and the reason is on standard error.
set -euo pipefail
cc=$(go env CC)
if ! command -v softhsm2-util >/dev/null || ! command -v "${cc%% *}" >/dev/null; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "skipped: SoftHSM or a C compiler is missing: install them (Debian: apt-get install softhsm2 gcc libc6-dev)" >&2
		exit 3
	fi
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update && apt-get install -y --no-install-recommends softhsm2 gcc libc6-dev; } >&2
fi
