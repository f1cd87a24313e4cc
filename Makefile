# Everything a checkout needs: each target first makes the virtual environment it works in.
#   make PYTHON=python3.13 VENV=/tmp/venv test      another interpreter, another place

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready
LOCK_TOOLS := build/lock
# A user's or a shell's settings must not redirect what is installed where.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV
# A program that may not keep byte code compiles every module at each start: seconds, hundreds of times in a test run.
unexport PYTHONDONTWRITEBYTECODE
# Hashes for all, wheels only: installing runs no code of others. All byte code is written once, after the installation.
PIP = $$(if [ -x $(BIN)/pip ]; then echo $(BIN)/python -m pip; else echo $(PYTHON) -m pip --python $(BIN)/python; fi)
QUIET := --quiet --disable-pip-version-check
COMPILE = $(BIN)/python -m compileall -qq -j 0
OURS := kmsledger.py crawler models migrations reports demo benchmarks tests
PYTEST = $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-deep lint bench lock tools clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## the virtual environment, from requirements.lock (all other targets do this themselves)

# Debian's python3-pip comes without python3-venv: then the system's pip fills an environment that has none of its own.
$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kmsledger needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "setting up $(VENV) from requirements.lock"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
		else $(PYTHON) -m venv --without-pip $(VENV); fi
	@$(PIP) install $(QUIET) --no-compile --require-hashes --only-binary :all: -r requirements.lock
	@$(COMPILE) $(VENV)/lib || true # a file that is no module of this Python's, such as a template, is left as it is
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(PIP) install $(QUIET) --no-deps --no-build-isolation -e .
	@$(COMPILE) $(OURS)
	@touch $@

demo: $(READY) ## a made-up organization, crawled and reported: ends with the address of the report
	$(BIN)/python -m demo

test: $(READY) tools ## the tests, in parallel: all that is not slow by nature
	$(PYTEST) -m "not deep" $(ARGS)

test-deep: $(READY) tools ## the tests that are slow by nature, and each property test with many examples
	KMSLEDGER_TEST_PROFILE=deep $(PYTEST) -m "deep or hypothesis" $(ARGS)

lint: $(READY) ## ruff, formatting, types, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## the budgets: speed, memory, rows written, faults
	$(BIN)/python -m benchmarks $(ARGS)

# In an environment of its own, because what writes the lock is not part of what it locks. --no-config: the lock holds
# what the public index has published, whatever else this machine is set up to install from.
lock: ## requirements.lock anew, with hashes, for every platform (ARGS=--upgrade takes newer releases)
	$(PYTHON) -m venv $(LOCK_TOOLS)
	$(LOCK_TOOLS)/bin/pip install $(QUIET) 'uv>=0.9,<1'
	$(LOCK_TOOLS)/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--annotation-style line --no-config --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock $(ARGS)

tools: ## Chromium and a font for the browser tests (Debian; as root or with sudo)
	@if [ "$${KMSLEDGER_NO_BROWSER:-}" = 1 ] || command -v chromium >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then as=false; \
	elif [ "$$(id -u)" = 0 ]; then as=env; \
	elif sudo -n true 2>/dev/null; then as="sudo -n env"; else as=false; fi; \
	get() { $$as DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
		chromium fonts-dejavu-core </dev/null >/dev/null; }; \
	if [ "$$as" != false ] && { get 2>/dev/null || { $$as apt-get update -qq </dev/null && get; }; }; then exit 0; fi; \
	echo "the browser tests need the command chromium (Debian: apt-get install chromium fonts-dejavu-core);" \
		"KMSLEDGER_NO_BROWSER=1 runs the tests without them" >&2

clean: ## remove the virtual environment, caches and everything built
	rm -rf $(VENV) build dist demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
