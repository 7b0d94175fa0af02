# Thin names for the commands of README.md; what they do is in tools/.
.PHONY: help setup demo devstack test invariants lint generate freeze fuzz bench host-only
.DEFAULT_GOAL := help
BIN := .venv/bin
SCHEMA := proto/ephemeralml.v1.binpb

help: ## list these names
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## make .venv with everything a developer needs (Python 3.11 or newer)
	@tools/setup.sh

demo: setup ## one embedding through every zone, each check shown, on this machine
	@$(BIN)/python -m ephemeral_devstack.demo

devstack: setup ## keep every zone running on loopback until Ctrl-C; ARGS="--model ID=DIR" adds a model
	@$(BIN)/python -m ephemeral_devstack $(ARGS)

# Two workers: each holds one development stack of its own, about 1 GB. Threads that wait for others sleep: both workers,
# and all they start, share the cores.
test: export OMP_WAIT_POLICY := passive
test: setup ## all tests with branch coverage; ARGS="tests/ephemeral -x" narrows
	@$(BIN)/coverage erase
	@rm -rf .invariants
	@$(BIN)/pytest --numprocesses=2 --dist=loadfile --cov --cov-report=term $(ARGS)

invariants: ## what the last run of all tests tried against each invariant of SECURITY.md
	@$(BIN)/python tools/invariants.py

lint: setup ## formatting, lint, types, import rules, schema rules, generated code, documents
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/mypy tools benchmarks
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against $(SCHEMA)
	tools/generate.sh --check
	$(BIN)/python tools/check_docs.py

generate: setup ## write ephemeral/generated from proto/
	@tools/generate.sh

freeze: setup ## at a release: make the schema of proto/ the one that later ones may not break
	@$(BIN)/buf build --exclude-source-info --output $(SCHEMA)

bench: setup ## measure, and write the report; ARGS passes options
	@$(BIN)/python -m benchmarks $(ARGS)

fuzz: setup ## attack every parser of hostile bytes for 20 s each; FUZZ_SECONDS=… and ARGS="cbor cms" change that
	@tools/fuzz.sh $(ARGS)

host-only: setup ## show that an installed host has no cipher to decrypt with
	@tools/host_only.sh
