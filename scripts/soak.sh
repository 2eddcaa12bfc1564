#!/usr/bin/env bash
# The full counts, within an hour on two processors: every fuzz target for two minutes, and every test whose name ends with
# Soak, with AVOUCH_SOAK=1. Whatever becomes of it, it leaves a summary under docs/measurements, to be committed, and no process.
#
#   FUZZ_TIME=5s AVOUCH_SOAK=0 scripts/soak.sh   rehearses with the counts of `make test`; its summary stays in .cache/soak
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

each=${FUZZ_TIME:-2m}
export AVOUCH_SOAK=${AVOUCH_SOAK:-1}
work=$PWD/.cache/soak
title="Soak of $(date -u +%Y-%m-%d)"
report=docs/measurements/soak-$(date -u +%Y-%m-%d).md
if [ "$each $AVOUCH_SOAK" != "2m 1" ]; then
	title="Rehearsal of the soak, not in full: $each of fuzzing a target, AVOUCH_SOAK=$AVOUCH_SOAK"
	report=$work/rehearsal.md
fi
hour=3600

scripts/setup-postgres.sh || exit $?
rm -rf "$work"
mkdir -p "$work" .cache/fuzz docs/measurements
steps=$work/steps   # what is no Go test: result, name, what is to be said of it
tests=$work/tests   # what the tests print, as `go test -json` does
expect=$work/expect # what must have passed: package and test
: >"$steps"
: >"$tests"
: >"$expect"
: >.cache/fuzz/targets
scripts/setup-postgres18.sh >/dev/null || echo "fail postgres 18: see above" >>"$steps"
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
go build -C tools -o ../.cache/summary ./summary
TMPDIR=$(mktemp -d) # the clusters' too: an interrupted test leaves them
export TMPDIR
chmod 755 "$TMPDIR" # PostgreSQL is not run by root

phase=
# stop ends the phase with all that it started. Servers and PostgreSQL have sessions of their own and end with their test,
# but for a server that a test has frozen.
stop() {
	[ -n "$phase" ] || return 0
	kill -TERM -- "-$phase" 2>/dev/null || true
	for _ in $(seq 50); do
		kill -0 -- "-$phase" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL -- "-$phase" 2>/dev/null || true
	local exe
	for exe in /proc/[0-9]*/exe; do
		[ "$(readlink "$exe")" != "$work/avouch" ] || kill -KILL "$(basename "$(dirname "$exe")")" 2>/dev/null || true
	done
	phase=
}

# during COMMAND...: runs it as a process group of its own, so that it can be ended as a whole.
during() {
	local code=0
	set -m
	"$@" </dev/null &
	phase=$!
	set +m
	wait "$phase" || code=$?
	stop # what a crash has left
	return $code
}

tested=0
finish() {
	local code=$? took=$((SECONDS - start))
	trap - EXIT
	trap '' INT TERM HUP
	stop
	[ ! -e "$work/fuzzed" ] || grep -E '^(pass|fail|skip) ' "$work/fuzzed" >>"$steps" || true
	[ "$code" = 0 ] || echo "fail soak: ended with $code before its end" >>"$steps"
	[ "$took" -le $hour ] || echo "fail soak within the hour: $took seconds" >>"$steps"
	.cache/summary -steps "$steps" -expect "$expect" -title "$title" -report "$report" <"$tests" || [ "$code" != 0 ] || code=1
	[ "$tested" != 0 ] || tested=$took
	cat >>"$report" <<-TXT

		## Where and how long

		- $((took / 60)) min $((took % 60)) s without the builds: $((tested / 60)) min $((tested % 60)) s of tests, then $(wc -l <.cache/fuzz/targets) fuzz targets of $each, $jobs at once
		- commit $commit, $(go env GOVERSION), $(uname -sr)
		- $(nproc) cores: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1); load before the end: $(cut -d' ' -f1-3 /proc/loadavg)
	TXT
	rm -rf "$TMPDIR"
	echo "summary: $report"
	exit $code
}
start=$SECONDS
jobs=0
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

echo "== build, before the clock starts"
go build -o "$work/avouch" ./cmd/avouch
export AVOUCH_E2E_PROGRAM=$work/avouch
scripts/fuzz.sh build
awk '{ sub(/^\.\//, "", $1); print "step fuzz", $1, $2 }' .cache/fuzz/targets >>"$expect"
packages=()
while read -r dir; do
	package=$(go list "$dir")
	sed -n 's/^func \(Test[A-Za-z0-9_]*Soak\)(.*/\1/p' "$dir"/*_test.go | sed "s|^|$package |" >>"$expect"
	if go test -c -o "$work/${#packages[@]}.test" "$dir"; then
		packages+=("$dir $package")
	else
		echo "fail build $dir" >>"$steps"
	fi
done < <(grep -rl --include='*_test.go' --exclude-dir={.git,.cache,node_modules,testdata} '^func Test[A-Za-z0-9_]*Soak(' . | xargs -r -n1 dirname | sort -u)

# The tests come first: they keep both processors busy by themselves, for as long as that takes on the day. Fuzzing takes
# its time in four rounds, eight minutes of the hour, whatever the machine does meanwhile.
rounds=4
jobs=$((($(wc -l <.cache/fuzz/targets) + rounds - 1) / rounds))
seconds=${each%[sm]}
[[ $each != *m ]] || seconds=$((seconds * 60))
start=$SECONDS

# soaked PACKAGE BINARY: what is left of the hour, but for fuzzing, is the tests' time.
soaked() {
	go tool test2json -t -p "$1" "$2" -test.v=test2json -test.run=Soak -test.parallel=3 \
		-test.timeout=$((hour - 120 - rounds * seconds - (SECONDS - start)))s | tee -a "$tests" | { grep --line-buffered -oE 'measured: [^"\]*' || true; }
}

for n in "${!packages[@]}"; do
	read -r dir package <<<"${packages[n]}"
	printf '== soak tests of %s\n' "$dir"
	within() { cd "$dir" && soaked "$package" "$work/$n.test"; }
	during within || true # a failure is in its line
done
tested=$((SECONDS - start))

fuzz() { FUZZ_BUILT=1 scripts/fuzz.sh "$each" "$jobs" | tee "$work/fuzzed"; }
printf '== fuzz, %s a target, %d at once\n' "$each" "$jobs"
during fuzz || true # so is one of these
