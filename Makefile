# Everything a contributor or a machine runs. `make help` lists it; docs/testing.md explains it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# A clone owned by another user has no readable history; the build does not need it.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# Discovery kinds linked into `make build` and `make run`, by Prometheus' own build tags; static,
# file and http are always there. `make build TAGS=` links every kind: a larger, slower build.
TAGS ?= remove_all_sd,enable_dns_sd,enable_kubernetes_sd,enable_consul_sd,enable_moby_sd
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
# Scraping and discovery call themselves by the version of Prometheus that they are, as in their User-Agent.
EMULATED := $(shell sed -n 's/^const emulated = "\(.*\)"$$/\1/p' cmd/tidemark/flags.go)
LDFLAGS := -s -w -X main.version=$(VERSION) -X github.com/prometheus/common/version.Version=$(EMULATED)

PKG ?= ./...
FUZZTIME ?= 20s
BENCH ?= .
COUNT ?= 1

# Two packages at a time: more would make the processes of the end-to-end tests wait for a core.
GOTEST := go test -p 2 -timeout 30m
LINT := go tool -modfile=go.tools.mod golangci-lint

# Says at the end of a recipe how long it took, whatever its outcome.
timed = trap 'echo "make $@: $$SECONDS s"' EXIT

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## build bin/tidemark and bin/tidectl
	@$(timed)
	mkdir -p bin
	go build -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/ ./cmd/tidemark ./cmd/tidectl

.PHONY: run
run: build ## build and start the server on docs/example, data under ./data
	@exec bin/tidemark --config.file=docs/example/prometheus.yml --storage.tsdb.path=data \
		--web.listen-address=127.0.0.1:9090 --web.enable-lifecycle

.PHONY: lint
lint: ## golangci-lint and cmd/tidy
	@$(timed)
	$(LINT) config verify
	failed=0
	$(LINT) run ./... || failed=1
	go run ./cmd/tidy || failed=1
	exit $$failed

.PHONY: deps
deps: ## install what the tests start, and build the pinned peers into the cache
	@$(timed)
	.ci/packages
	$(GOTEST) -count=1 ./cmd/tidemark/internal/peers

.PHONY: test
test: deps ## every test
	@$(timed)
	$(GOTEST) $(PKG)

.PHONY: test-long
test-long: ## the grids of faults in the storage, every point of them, more kills, long stalls, and ten million new series
	@$(timed)
	TIDEMARK_TEST=long $(GOTEST) -count=1 -run 'Crash|Fault|Failed|Flipped|Truncat|Model|PrometheusStorage|SurviveKill|Stall|Explosion' ./tsdb/... ./cmd/tidemark

.PHONY: test-race
test-race: deps ## every test under the race detector
	@$(timed)
	$(GOTEST) -race $(PKG)

.PHONY: e2e
e2e: deps ## the binary beside real Prometheus, node_exporter and Alertmanager
	@$(timed)
	$(GOTEST) -count=1 -v ./cmd/tidemark

.PHONY: fuzz
fuzz: ## every fuzz target of PKG for FUZZTIME each
	@$(timed)
	go list $(PKG) | while read -r pkg; do
		go test -list '^Fuzz' "$$pkg" | { grep '^Fuzz' || true; } | while read -r target; do
			echo "$$pkg $$target"
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg"
		done
	done

.PHONY: bench
bench: ## benchmarks of PKG that match BENCH, COUNT times, for benchstat
	@$(timed)
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) $(PKG)

.PHONY: fmt
fmt: ## rewrite the sources as golangci-lint wants them
	@$(LINT) fmt ./...

.PHONY: docs
docs: ## rewrite what is generated from the code: docs/deps.txt, docs/configuration.md
	@$(timed)
	go run ./cmd/tidy -update
	go test -count=1 -run Reference ./ingest/config -update
