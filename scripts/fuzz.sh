#!/usr/bin/env bash
# Runs every fuzz target of the repository for a time each: scripts/fuzz.sh 5s
# What it finds is kept under testdata/fuzz of the package, where the next `go test` runs it again: commit it with the fix.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
each=${1:?usage: scripts/fuzz.sh TIME, such as 5s or 5m}

mkdir -p .cache/fuzz
status=0
targets=0
while read -r dir; do
	binary=$PWD/.cache/fuzz/$(tr / - <<<"${dir#./}").test
	if ! go test -c -fuzz=. -o "$binary" "$dir"; then
		echo "fail fuzz $dir: does not build"
		status=1
		continue
	fi
	for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort -u); do
		targets=$((targets + 1))
		# The corpus that fuzzing gathers stays with the build, so each run starts where the last one ended.
		if out=$(cd "$dir" && "$binary" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="$each" -test.parallel=2 \
			-test.fuzzcachedir="$(dirname "$binary")/corpus/$(basename "$binary" .test)" </dev/null 2>&1); then
			echo "pass fuzz ${dir#./} $target, $(grep -o 'execs: [0-9]*' <<<"$out" | tail -n 1)"
		else
			printf '%s\n' "$out" >&2
			echo "fail fuzz ${dir#./} $target"
			status=1
		fi
	done
done < <(grep -rl --include='*_test.go' --exclude-dir={.git,.cache,node_modules,testdata} '^func Fuzz' . | xargs -r -n1 dirname | sort -u)
[ $targets -gt 0 ] || echo "skip fuzz: no targets"
exit $status
