# make help lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# -trimpath and no VCS stamp: the same source gives the same bytes, wherever and by whomever it is built.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## start Avouch here with its own database and demo data, and say what to try
	@scripts/setup-postgres.sh
	@$(MAKE) -s build
	@exec bin/avouch dev

.PHONY: test
test: ## everything that must hold, in under 25 minutes on two processors; ends with the counts
	@scripts/test.sh

.PHONY: soak
soak: ## the full counts of what `test` samples; leaves a summary in docs/measurements
	@scripts/soak.sh

.PHONY: bench
bench: ## measure, beside a plain HTTP server and fdatasync in the same run
	@scripts/setup-postgres.sh
	@$(MAKE) -s build
	@go build -o .cache/bench ./bench
	@.cache/bench $(BENCH)

.PHONY: lint
lint: ## format, vet, static analysis
	@scripts/lint.sh

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZ_TIME (5s)
	@scripts/fuzz.sh $${FUZZ_TIME:-5s}

.PHONY: cover
cover: ## test coverage by package, and .cache/cover.html
	@mkdir -p .cache
	@scripts/setup-postgres.sh
	@go test -count=1 -coverpkg=./... -coverprofile=.cache/cover.out ./...
	@go tool cover -html=.cache/cover.out -o .cache/cover.html
	@go tool cover -func=.cache/cover.out | tail -n 1

.PHONY: schema
schema: ## write migrations/schema.sql anew, after a change of a migration
	@scripts/setup-postgres.sh
	@go test -count=1 ./tenantdb -run '^TestSchemaFile$$' -update

PROGRAM = bin/avouch

.PHONY: build
build: ## the program, as bin/avouch
	@$(BUILD) -o $(PROGRAM) ./cmd/avouch

.PHONY: reproducible
reproducible: ## build twice at different paths and compare the bytes
	@scripts/reproducible.sh

.PHONY: sbom
sbom: build ## bill of materials of bin/avouch, as bin/avouch.cdx.json (CycloneDX)
	@go build -C tools -o ../.cache/sbom ./sbom
	@go mod graph | .cache/sbom -version '$(VERSION)' bin/avouch >bin/avouch.cdx.json
	@sha256sum bin/avouch.cdx.json

.PHONY: version
version: ## the version that a build here would carry
	@echo '$(VERSION)'

.PHONY: clean
clean: ## remove what was built; keeps the data of `make run`
	@rm -rf bin .cache test/js/node_modules
