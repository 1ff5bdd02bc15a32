# One command each for what a person does here; `make help` lists them. CI calls `make test`, nothing else.
# Every command first installs what this machine lacks, Rust included; .ci/install says how.

SHELL := /bin/bash
# Where rustup and `cargo install` put things: a shell that was open before them does not know it yet.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
export CLIPPY_CONF_DIR := $(CURDIR)/.ci
# Tests and bench start what cargo built by this path.
export CARGO_TARGET_DIR := $(CURDIR)/target

# Words for `openclawmu serve` or `openclawmu-bench run`: make run ARGS="--edge 127.0.0.1:9080"
ARGS ?=
# What `profile` looks at; `make profile SCENARIO=` lists them.
SCENARIO ?= closed_1k
# Seconds that `fuzz-long` takes.
TIME ?= 900

.DEFAULT_GOAL := help
# The steps of `test` share one build directory and stop at the first that fails: never at once.
.NOTPARALLEL:
.PHONY: help run test soak fuzz fuzz-long bench bench-scale bench-soak stages profile pgo fmt lint audit install-run install-test install-bench check-fmt check-docs check-deny build unit

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: install-run ## build the gateway and start it on embedded defaults (ARGS goes to `openclawmu serve`)
	cargo build --locked --release -p openclawmu-proxy --bin openclawmu
	@exec target/release/openclawmu serve $(ARGS)

test: install-test ## everything that must hold before a change lands: format, lints, docs, dependencies, tests
	@$(MAKE) --no-print-directory check-fmt lint check-docs check-deny build fuzz stages unit

soak: install-test ## the tests again, with the races and crash loops run for much longer
	@OPENCLAWMU_RACE_SECONDS=60 OPENCLAWMU_SOAK=1 $(MAKE) --no-print-directory build unit

fuzz: install-test ## what parsers and translators must hold, on bytes that libFuzzer makes up for a minute; a part of `test`
	@echo "== fuzz"
	@OPENCLAWMU_FUZZ_SEED=1 proxy/fuzz/run 60

fuzz-long: install-test ## the same for TIME seconds, or of some targets alone: make fuzz-long TIME=3600 ARGS="stream request"
	@proxy/fuzz/run $(TIME) $(ARGS)

stages: install-test build ## instructions of each stage of a request, beside the committed counts (ARGS=--bless writes them); a part of `test`
	@echo "== stages"
	cargo build --locked --profile stages -p openclawmu-proxy --bin openclawmu --features openclawmu-sandbox/walk
	@target/debug/openclawmu-bench stages $(ARGS)

profile: install-test build ## functions, callers and lines that a request spends its instructions in: make profile SCENARIO=translated_1k ARGS="--part admit"
	cargo build --locked --profile stages -p openclawmu-proxy --bin openclawmu --features openclawmu-sandbox/walk
	@target/debug/openclawmu-bench stages --profile "$(SCENARIO)" $(ARGS)

pgo: install-run ## build the gateway by what it does under load, in target/pgo: twice a release build's time, up to a third less CPU
	@bench/pgo

bench: install-bench ## cost of a request against the bare Pingora proxy, same run (ARGS goes to the bench)
	cargo build --locked --release --workspace
	target/release/openclawmu-bench run $(ARGS)

bench-scale: install-run ## memory, a second worker, and 100,000 tenants with 10 million rows (ARGS as for `scale`)
	cargo build --locked --release --workspace
	target/release/openclawmu-bench scale $(ARGS)

bench-soak: install-run ## ten minutes of everything: does its memory grow? (ARGS as for `soak`)
	cargo build --locked --release --workspace
	target/release/openclawmu-bench soak $(ARGS)

fmt: install-test ## format every file
	cargo fmt --all -- --config-path .ci/rustfmt.toml

lint: install-test ## clippy, warnings refused
	@echo "== clippy"
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --workspace --features openclawmu-fuzz/run --bin openclawmu-fuzz -- -D warnings

audit: install-test ## check the dependencies against RustSec's advisories; needs the network, so not a part of `test`
	cargo deny --locked --config .ci/deny.toml check advisories

# The steps of `test`, in its order.

install-run:
	@.ci/install run

install-bench:
	@.ci/install bench

install-test:
	@.ci/install test

check-fmt:
	@echo "== format"
	cargo fmt --all -- --check --config-path .ci/rustfmt.toml

check-docs:
	@echo "== docs"
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

check-deny:
	@echo "== dependencies: bans, licenses, sources"
	cargo deny --locked --log-level error --config .ci/deny.toml check bans licenses sources

# The end-to-end tests start target/debug/openclawmu, which `cargo test` alone does not build.
build:
	@echo "== build"
	cargo build --locked --workspace

# Examples in docs first, so that the closing lines are those of the end-to-end tests. One run tells of all that fails.
unit:
	@echo "== tests"
	cargo test --locked --workspace --doc
	cargo test --locked --workspace --lib --bins --tests --no-fail-fast
