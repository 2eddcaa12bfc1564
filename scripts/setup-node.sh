#!/usr/bin/env bash
# Puts what the JavaScript tests need into .cache/js, with a link where Node looks for it.
# Exit 0: there. Exit 3: Node cannot be had here, and the reason is on standard error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "Node and npm are missing: install them (Debian: apt-get install nodejs npm)" >&2
		exit 3
	fi
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update && apt-get install -y --no-install-recommends nodejs npm; } >&2
fi

want=$(cat test/js/package-lock.json test/js/package.json | sha256sum)
if [ "$want" != "$(cat .cache/js/installed 2>/dev/null)" ]; then
	rm -rf .cache/js
	mkdir -p .cache/js
	cp test/js/package.json test/js/package-lock.json test/js/.npmrc .cache/js/
	(cd .cache/js && npm ci --no-progress --loglevel=error >&2) || { echo "npm could not install what test/js/package-lock.json names" >&2; exit 3; }
	echo "$want" >.cache/js/installed # last: an install that was killed is done again
fi
ln -sfn ../../.cache/js/node_modules test/js/node_modules
