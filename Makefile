# One command per job, the same here and in CI. `make` alone lists them.

PYTHON ?= python3
VENV   ?= .venv
PY      = $(VENV)/bin/python
STAMP   = $(VENV)/.installed

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup services services-stop run test check format bench nightly lock clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## Create .venv and install Penstock with all that development needs

services: setup ## Install and start the servers that tests use: PostgreSQL, Redis, Kafka, ... (Debian, Ubuntu)
	$(PY) -m services install $(NAME)
	$(PY) -m services start $(NAME)

services-stop: setup ## Stop them
	$(PY) -m services stop $(NAME)

run: setup ## Run the fraud example end to end: data, training, live stream, report
	$(PY) -m examples.fraud

test: setup ## Run the tests (under twenty minutes on two cores with all servers)
	$(PY) -m pytest --numprocesses auto --dist worksteal

check: setup ## Check format, lint, types, the direction of imports, and the generated tables
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache
	$(PY) -m benchmarks.readme_table --check
	$(PY) -m benchmarks.capacity --check

format: setup ## Format the code and mend what ruff can mend
	$(PY) -m ruff check --fix-only --quiet .
	$(PY) -m ruff format .

bench: setup ## Measure everything against its peers, or one benchmark: make bench NAME=stream
	$(PY) -m benchmarks.run $(NAME)

nightly: setup ## Run the long tests: crashes, power cuts, large streams
	$(PY) -m pytest --numprocesses auto -m nightly

lock: setup ## Resolve the development set afresh into requirements-dev.lock
	$(PY) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--group dev --extra pandas --extra polars pyproject.toml --output-file requirements-dev.lock

clean: ## Remove environments, caches, and what examples and benchmarks left behind
	rm -rf $(VENV) .ci/venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	rm -rf examples/*/.penstock examples/*/data examples/*/reports benchmarks/.environments benchmarks/.work
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Penstock needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not to be found)." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot create environments: its venv module lacks ensurepip." >&2; \
		echo "Install it (Debian, Ubuntu: apt install python3-venv) and run make again." >&2; \
		exit 1; }
	@test -x $(PY) || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing the development set (a minute or two, once)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@
