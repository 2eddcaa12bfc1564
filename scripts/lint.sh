#!/usr/bin/env bash
# Format, vet and static analysis of both modules. The limits of style and the floors are held by layout_test.go.
# Every step runs, so that one call shows all there is to mend.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

status=0
step() {
	local name=$1
	shift
	if "$@"; then
		printf 'ok    %s\n' "$name"
	else
		printf 'FAIL  %s\n' "$name"
		status=1
	fi
}

formatted() {
	local unformatted
	unformatted=$(gofmt -l -s .) && [ -z "$unformatted" ] || { printf 'not as gofmt -s writes it:\n%s\n' "$unformatted"; return 1; }
}

shells() {
	local f
	for f in scripts/*.sh .ci/run; do bash -n "$f" || return 1; done
}

step gofmt formatted
step 'shell syntax' shells
step 'go mod verify' go mod verify
step 'go vet' go vet ./...
step staticcheck go tool -modfile=tools/go.mod staticcheck ./...
step 'go vet tools' go -C tools vet ./...
step 'staticcheck tools' go -C tools tool staticcheck ./...
exit $status
