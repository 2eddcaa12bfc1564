#!/usr/bin/env bash
# The full counts: every test named Soak with AVOUCH_SOAK=1, and every fuzz target for five minutes.
# Leaves a summary under docs/measurements/, to be committed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup-postgres.sh || exit $?
mkdir -p .cache docs/measurements
report=docs/measurements/soak-$(date -u +%Y-%m-%d).md
status=0

go build -C tools -o ../.cache/summary ./summary
scripts/fuzz.sh "${FUZZ_TIME:-5m}" | tee .cache/fuzz-results || status=1

{ AVOUCH_SOAK=1 go test -json -count=1 -run Soak -timeout 60m ./... || true; } |
	.cache/summary -steps .cache/fuzz-results -title "Soak of $(date -u +%Y-%m-%d)" -report "$report" || status=1

cat >>"$report" <<TXT

## Where

- commit $(git describe --always --dirty 2>/dev/null || echo unknown), $(go version | cut -d' ' -f3), $(uname -sr)
- $(nproc) cores: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1); load before the end: $(cut -d' ' -f1-3 /proc/loadavg)

## Fuzzing, ${FUZZ_TIME:-5m} a target

\`\`\`
$(cat .cache/fuzz-results)
\`\`\`
TXT
echo "summary: $report"
exit $status
