# What one does here. Each recipe is a script in scripts/, so that it can be read and run by itself.
.DEFAULT_GOAL := help
.PHONY: help run test simulate fuzz storm stories bench wheel fmt lint

help: ## shows this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## builds, and starts the example behind the gate with a development provider
	@scripts/run

test: ## everything: format, lints, Rust and Python tests, and the stories in a real browser
	@scripts/test

simulate: ## the simulation alone; SEEDS=100000 for more of it, SEED=123 replays one run
	@scripts/test --simulate $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SEED),--seed $(SEED)) $(if $(MISTAKE),--mistake $(MISTAKE)) $(if $(CRASH),--crash $(CRASH))

fuzz: ## bytes that no one would think of; SECONDS=3600 for longer, TARGET=cookie_header for one alone
	@scripts/fuzz $(or $(SECONDS),60) $(TARGET)

storm: ## sessions that expire in the same second, with faults; SESSIONS=5000 for more of them
	@scripts/test --stories test_storm.py $(if $(SESSIONS),--sessions $(SESSIONS))

stories: ## the stories alone; ARGS="-k logout" picks some
	@scripts/test --stories $(ARGS)

bench: ## the gate side by side with its peers
	@bench/run $(ARGS)

wheel: ## the wheel and the source distribution, optimized, in dist/ (the wheel is built from the latter)
	@scripts/wheel

fmt: ## formats Rust and Python
	@scripts/test --format

lint: ## format check, clippy, documentation, ruff and mypy
	@scripts/test --lint
