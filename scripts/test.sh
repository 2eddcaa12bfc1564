#!/usr/bin/env bash
# Everything that `make test` holds, to the end even if a part fails, and one closing line: N passed, N failed, N skipped.
# A step that cannot run here is "skip" on a person's machine and "fail" where CI=true. What takes root is "skip" for others, and
# with AVOUCH_NO_SKIPS=1, for root where everything is there, nothing may be skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p .cache
steps=.cache/steps
: >$steps
missing=skip
[ "${CI:-}" != true ] || missing=fail

# step NAME COMMAND...: one line of the result.
step() {
	local name=$1
	shift
	printf '== %s\n' "$name"
	if "$@"; then echo "pass $name" >>$steps; else echo "fail $name" >>$steps; fi
}

printf '== set-up\n'
scripts/setup-postgres.sh || exit $? # nothing of worth runs without it, and its message says what to do
if scripts/setup-node.sh; then echo "pass node" >>$steps; else echo "$missing node: see above" >>$steps; fi
if scripts/setup-postgres18.sh >/dev/null; then echo "pass postgres 18" >>$steps; else echo "$missing postgres 18: see above" >>$steps; fi
if scripts/setup-chromium.sh; then echo "pass chromium" >>$steps; else echo "$missing chromium: see above" >>$steps; fi
if scripts/setup-moto.sh; then echo "pass moto" >>$steps; else echo "$missing moto: see above" >>$steps; fi
token=
if scripts/setup-softhsm.sh; then token=1 && echo "pass softhsm" >>$steps; else echo "$missing softhsm: see above" >>$steps; fi
if scripts/setup-tools.sh; then echo "pass tools" >>$steps; else echo "$missing tools: see above" >>$steps; fi

race=-race
if ! scripts/setup-race.sh; then
	race=
	echo "$missing race detector: see above" >>$steps
fi

step lint scripts/lint.sh
[ -z "$token" ] || step 'lint of pkcs11' go vet -tags pkcs11 ./keyring/pkcs11 ./cmd/avouch

printf '== fuzz, %s a target\n' "${FUZZ_TIME:-2s}"
scripts/fuzz.sh "${FUZZ_TIME:-2s}" | tee .cache/fuzz-results || true # a failure is in its lines
grep -E '^(pass|fail|skip) ' .cache/fuzz-results >>$steps || echo "fail fuzz: no result" >>$steps

# Packages under test/ and bench/ measure time or only drive programs that they build: the race detector would slow what they
# measure and see nothing of what they drive. The root only reads source.
printf '== tests\n'
unraced="^$(go list -m)(\$|/(test|bench)(/|\$))"
plain=$(go list -e ./... | grep -E "$unraced" || true)
raced=$(go list -e ./... | grep -vE "$unraced" || true)
go build -C tools -o ../.cache/summary ./summary
# A process under the race detector sleeps for a second as it ends, and the scripts of the commands are hundreds of processes.
export GORACE=atexit_sleep_ms=10
{
	# Tests of these wait more than they work.
	[ -z "$raced" ] || go test -json $race -count=1 -timeout 9m -parallel $((2 * $(nproc))) $raced || true # failures are in the stream, which is what is counted
	[ -z "$plain" ] || go test -json -count=1 -timeout 9m $plain || true
	[ -z "$token" ] || go test -json $race -count=1 -tags pkcs11 ./keyring/pkcs11 || true
	go -C tools test -json -count=1 ./... || true
} | .cache/summary -steps $steps ${AVOUCH_NO_SKIPS:+-all}
