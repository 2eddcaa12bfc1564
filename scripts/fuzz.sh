#!/usr/bin/env bash
# Runs every fuzz target of the repository for a time each, as many at once as there are processors: scripts/fuzz.sh 5s
# What it finds is kept under testdata/fuzz of the package, where the next `go test` runs it again: commit it with the fix.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
each=${1:?usage: scripts/fuzz.sh TIME, such as 5s or 5m}
work=$PWD/.cache/fuzz
mkdir -p "$work"

# one DIR TARGET BINARY: fuzzes one target and says how it went, in one line.
one() {
	local dir=$1 target=$2 binary=$3 out
	# The corpus that fuzzing gathers stays with the build, so each run starts where the last one ended.
	if out=$(cd "$dir" && "$binary" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="$each" -test.parallel=1 \
		-test.fuzzminimizetime=10x -test.fuzzcachedir="$work/corpus/$(basename "$binary" .test)" </dev/null 2>&1); then
		echo "pass fuzz ${dir#./} $target, $(grep -o 'execs: [0-9]*' <<<"$out" | tail -n 1)"
	else
		printf '%s\n' "$out" >&2
		echo "fail fuzz ${dir#./} $target"
	fi
}
export -f one
export each work

list=$work/targets
: >"$list"
while read -r dir; do
	binary=$work/$(tr / - <<<"${dir#./}").test
	if ! go test -c -fuzz=. -o "$binary" "$dir"; then
		echo "fail fuzz $dir: does not build"
		continue
	fi
	for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort -u); do
		printf '%s %s %s\n' "$dir" "$target" "$binary" >>"$list"
	done
done < <(grep -rl --include='*_test.go' --exclude-dir={.git,.cache,node_modules,testdata} '^func Fuzz' . | xargs -r -n1 dirname | sort -u)
[ -s "$list" ] || echo "skip fuzz: no targets"
results=$work/results
xargs -r -n3 -P"$(nproc)" bash -c 'one "$@"' one <"$list" | tee "$results"
! grep -q '^fail ' "$results"
