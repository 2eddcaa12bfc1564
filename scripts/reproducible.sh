#!/usr/bin/env bash
# Builds the program twice, from copies at two paths and with two empty build caches, and compares every byte.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(make -s version) # a copy has no .git to ask
one=$(mktemp -d) two=$(mktemp -d)
trap 'chmod -R u+w "$one" "$two"; rm -rf "$one" "$two"' EXIT
for at in "$one/a" "$two/another/path"; do
	mkdir -p "$at"
	tar -c --exclude=./.git --exclude=./.cache --exclude=./bin --exclude=./.avouch . | tar -x -C "$at"
	GOCACHE=$at.cache make -s -C "$at" build VERSION="$version"
done
a=$(sha256sum <"$one/a/bin/avouch") b=$(sha256sum <"$two/another/path/bin/avouch")
if [ "$a" != "$b" ]; then
	echo "the two builds differ: ${a%% *} and ${b%% *}" >&2
	exit 1
fi
echo "${a%% *}  bin/avouch $version"
