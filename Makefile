# `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= config.yml
NAME ?=
SEEDS ?= 500
FIRST_SEED ?= 0
ARGS ?=
MINUTES ?= 10

.PHONY: help install run test test-servers simulate lint format ftest soak bench requirements browser clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit("connectors needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

install: $(VENV)/.installed ## Build .venv with the pinned requirements

run: $(VENV)/.installed ## Start the daemon on config.yml (CONFIG=other.yml for another)
	@exec $(BIN)/connectors --config $(CONFIG) run $(ARGS)

browser: # The page is tested in Chromium, which Debian's package brings where we may install it
	@command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	  echo "No Chromium here: the tests that drive the page are skipped. Install it to run them."

# What only a server can exercise is missing here; together with test-servers the floor is 90.
test: $(VENV)/.tools browser ## Run all tests that need no server, with coverage (ARGS='-k words' for some)
	$(BIN)/python -m pytest -m "not server and not simulation" --cov --cov-report=term --cov-fail-under=87 $(ARGS)

test-servers: $(VENV)/.tools ## Run the tests against real servers, which are fetched and started (docs/TESTING.md)
	$(BIN)/python -m tests.servers fetch es8 os2
	$(BIN)/python -m pytest -m server --cov --cov-append --cov-report=term $(ARGS)

simulate: $(VENV)/.tools ## Run the seeded fault simulation (SEEDS=10000 FIRST_SEED=0)
	$(BIN)/python -m pytest -q -m simulation tests/simulation
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first-seed $(FIRST_SEED)

lint: $(VENV)/.tools ## Check style, types and the direction of dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.tools ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ftest: $(VENV)/.tools ## Prove a source end to end (NAME=directory, or all; DATA_SIZE=small|medium|large)
	@test -n "$(NAME)" || { echo "Say which source: make ftest NAME=directory"; exit 2; }
	$(BIN)/python -m tests.ftest "$(NAME)"

soak: $(VENV)/.tools ## Kill daemons beside a database that is written to (MINUTES=10, ARGS='--seed 7')
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

bench: $(VENV)/.tools ## Measure speed, memory and latency (docs/PERFORMANCE.md; ARGS=cost for one figure)
	$(BIN)/python -m bench $(ARGS)

requirements: $(VENV)/.tools ## Pin the requirements anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --all-extras --universal --python-version 3.11 --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --all-extras --group dev --universal --python-version 3.11 --constraints requirements.txt --output-file requirements-dev.txt

clean: ## Remove .venv, caches and build products (not data/)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
