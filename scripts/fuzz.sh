#!/usr/bin/env bash
# Fuzzes every target of the repository for a time each, as many at once as there are processors:
#
#   scripts/fuzz.sh 5s      a line for each target: pass or fail, and how often it ran
#   scripts/fuzz.sh 5m 7    seven at once
#   scripts/fuzz.sh build   only compiles, and lists the targets in .cache/fuzz/targets; FUZZ_BUILT=1 uses what is there
#
# What it finds is kept under testdata/fuzz of the package, where the next `go test` runs it again: commit it with the fix.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
each=${1:?usage: scripts/fuzz.sh TIME, such as 5s or 5m}
[[ $each =~ ^(build|[0-9]+[sm])$ ]] || { echo "fuzz: $each is no time such as 5s or 5m" >&2; exit 2; }
jobs=${2:-$(nproc)}
work=$PWD/.cache/fuzz
mkdir -p "$work"
list=$work/targets

# build compiles what has targets, and lists them: DIR TARGET BINARY.
build() {
	: >"$list"
	local dir binary target
	while read -r dir; do
		binary=$work/$(tr / - <<<"${dir#./}").test
		rm -f "$binary.broken"
		go test -c -fuzz=. -o "$binary" "$dir" || touch "$binary.broken"
		for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort -u); do
			printf '%s %s %s\n' "$dir" "$target" "$binary" >>"$list"
		done
	done < <(grep -rl --include='*_test.go' --exclude-dir={.git,.cache,node_modules,testdata} '^func Fuzz' . | xargs -r -n1 dirname | sort -u)
}

# endedLate: all that went wrong is that the fuzzer took its own deadline for an error (golang/go#75804), which it does at
# times on a busy machine. An input that fails is written, and said to be; so is every other failure.
endedLate() { [ "$(sed -n '/^--- FAIL/,$p' <<<"$1" | sed 's/^--- FAIL: [A-Za-z0-9_]* (.*)$/-/' | tr -d ' \n')" = "-contextdeadlineexceededFAIL" ]; }

# one DIR TARGET BINARY: fuzzes one target and says how it went, in one line.
one() {
	local dir=$1 target=$2 binary=$3 name="fuzz ${1#./} $2" out seconds=${each%[sm]}
	[[ $each != *m ]] || seconds=$((seconds * 60))
	[ ! -e "$binary.broken" ] || { echo "fail $name: does not build"; return; }
	# The corpus that fuzzing gathers stays with the build, so each run starts where the last one ended. A target that hangs is
	# ended: an interrupt has the fuzzer end its workers too.
	if out=$(cd "$dir" && timeout --foreground -s INT -k 10 $((seconds + 60)) "$binary" -test.run='^$' -test.fuzz="^$target\$" \
		-test.fuzztime="$each" -test.parallel=1 -test.fuzzminimizetime=10x \
		-test.fuzzcachedir="$work/corpus/$(basename "$binary" .test)" </dev/null 2>&1) || endedLate "$out"; then
		out=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' <<<"$out" | tail -n 1)
		echo "pass $name: ${out:-0} executions"
	else
		printf '%s\n' "$out" >&2
		echo "fail $name: $(grep -m 1 -E 'Failing input written|panic:|[^ ]+\.go:[0-9]+: ' <<<"$out" | tr -s '[:space:]' ' ' | cut -c1-200)"
	fi
}
export -f one endedLate
export each work

[ "${FUZZ_BUILT:-}" = 1 ] || build
[ "$each" != build ] || exit 0
[ -s "$list" ] || echo "skip fuzz: no targets"
results=$work/results
xargs -r -n3 -P"$jobs" bash -c 'one "$@"' one <"$list" | tee "$results" || true # a failure is in its line
while read -r dir target _; do
	grep -q "^[a-z]* fuzz ${dir#./} $target: " "$results" || echo "fail fuzz ${dir#./} $target: it did not end" | tee -a "$results"
done <"$list"
! grep -q '^fail ' "$results"
