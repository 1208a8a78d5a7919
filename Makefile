# Two commands: `go run ./cmd/braid up` runs Braid, `make test` passes all tests.
.DEFAULT_GOAL := help
SHELL := /bin/bash
GO ?= go
# Tests that start real Kafka clusters share two cores: packages run two at a time.
TEST_FLAGS ?= -p 2 -timeout 45m
# What tests say in a few lines, which go test does not show of packages that pass.
SUMMARY := $(CURDIR)/bin/test-summary.txt

.PHONY: help
help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: build
build: ## build bin/braid
	$(GO) build -trimpath -o bin/braid ./cmd/braid

.PHONY: deps
deps: ## install what the tests need (real Kafka, clients in five languages), outside the tree
	./scripts/install-test-deps.sh

.PHONY: kafka
kafka: ## run one Apache Kafka on 127.0.0.1:19092, for trying things out
	./scripts/kafka.sh 19092

.PHONY: lint
lint: ## formatting, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: test
test: deps lint ## everything; what CI runs
	$(GO) test -race -short $(TEST_FLAGS) ./...
	@mkdir -p $(dir $(SUMMARY)) && : > $(SUMMARY)
	BRAID_TEST_SUMMARY=$(SUMMARY) $(GO) test -count=1 $(TEST_FLAGS) ./...
	@sort $(SUMMARY)

.PHONY: test-short
test-short: ## what to run while you work: no Kafka, no race detector, under two minutes
	$(GO) test -short -p 4 -timeout 45m ./... # they mostly wait

.PHONY: soak
soak: deps ## the long variants, all or PARTS="..." of them (hours; scripts/soak.sh --list shows them)
	GO=$(GO) RACE=$(RACE) ./scripts/soak.sh $(PARTS)

.PHONY: bench
bench: deps ## speed and memory as ratios against named peers
	$(GO) run ./internal/bench

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s)
	./scripts/fuzz.sh $(or $(FUZZTIME),30s)

.PHONY: vuln
vuln: ## known vulnerabilities in what is built (needs the network)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...
