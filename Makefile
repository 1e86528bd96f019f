# Set-up, checks and demonstration; `make help` lists the targets.

SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup demo test speed lint reference clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install sslbench with its tests' needs into it

demo: setup ## pretrain, evaluate and compare all methods on the embedded dataset
	@$(BIN)/sslbench demo

# One process a core, each with one thread: twice as fast here as one process with many threads.
test: lint ## lint, then all tests with coverage
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist worksteal --cov=sslbench --cov-report=term:skip-covered --cov-fail-under=95

speed: setup ## race sslbench against its peers, measure its growth, write docs/speed.md
	@$(BIN)/python -m pip install --disable-pip-version-check -c requirements/constraints.txt -e ".[dev,speed]"
	@$(BIN)/python -m tests.speed --all
	@$(BIN)/python -m tests.speed.startup
	@$(BIN)/python -m tests.speed.memory
	@$(BIN)/python -m tests.speed.growth_of_parts
	@$(BIN)/python -m tests.speed.page

lint: setup ## style, format and types
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "unformatted files: run $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/mypy --no-error-summary

reference: setup ## recompute the reference runs in results/
	@$(BIN)/sslbench reference

clean: ## remove caches of tools; runs, records, data, downloads and .venv stay
	@rm -rf .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# One resolution for the core: torch and torchvision must come from the same index. The extra `dense`
# comes without one, for the sake of a single OpenCV (requirements/dense.txt).
$(STAMP): $(BIN)/python pyproject.toml $(wildcard requirements/*.txt)
	@$(BIN)/python -m pip install --disable-pip-version-check -c requirements/constraints.txt -e ".[dev]"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r requirements/dense.txt
	@touch $@

# A python that is listed may still be too old, a shim without a version, or lack venv: try each.
$(BIN)/python:
	@for python in python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then exec $$python -m venv .venv; fi; \
	done; echo "sslbench needs Python 3.11 or newer with the venv module: install one." >&2; exit 1
