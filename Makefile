# Each target first creates the virtual environment.
#   make PYTHON=python3.13 VENV=/tmp/venv test      another interpreter and directory

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready
LOCK_TOOLS := build/lock
COMPILE_LOCK = $(LOCK_TOOLS)/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--annotation-style line --no-config --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet
# Settings of the user or shell must not redirect the installation.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV
# Without byte code files, every start compiles all modules: seconds, hundreds of times in a test run.
unexport PYTHONDONTWRITEBYTECODE
# Only wheels with hashes: the installation runs no third-party code. Byte code is compiled once, after the installation.
PIP = $$(if [ -x $(BIN)/pip ]; then echo $(BIN)/python -m pip; else echo $(PYTHON) -m pip --python $(BIN)/python; fi)
QUIET := --quiet --disable-pip-version-check
COMPILE = $(BIN)/python -m compileall -qq -j 0
OURS := kmsledger.py crawler models migrations reports demo benchmarks tests
# More processes than processors: tests also wait, for other processes and the disk; the slow ones wait more.
PYTEST = $(BIN)/python -m pytest --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-deep test-soak lint bench templates reference dist docs lock tools clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create the virtual environment from requirements.lock (the other targets do this as well)

# Debian's python3-pip does not include python3-venv; then the system's pip installs into an environment without pip.
$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kmsledger needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "setting up $(VENV) from requirements.lock"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
		else $(PYTHON) -m venv --without-pip $(VENV); fi
	@$(PIP) install $(QUIET) --no-compile --require-hashes --only-binary :all: -r requirements.lock
	@$(COMPILE) $(VENV)/lib || true # files that this Python cannot compile, such as templates, are ignored
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(PIP) install $(QUIET) --no-deps --no-build-isolation -e .
	@$(COMPILE) $(OURS)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/kmsledger schema >/dev/null || true # keeps the description of the views, like byte code
	@touch $@

demo: $(READY) ## crawl a fictional organization, write its report, and print where the results are
	$(BIN)/python -m demo

test: $(READY) tools ## run the fast tests in parallel
	$(PYTEST) -n $$(expr $$(nproc) + 1) -m "not deep and not soak" $(ARGS)

test-deep: $(READY) tools ## run the slow tests, and the property tests with many examples
	KMSLEDGER_TEST_PROFILE=deep $(PYTEST) -n $$(expr $$(nproc) + 2) -m "deep or hypothesis" $(ARGS)

test-soak: $(READY) tools ## run the simulated months: nights with faults, kills and signals
	$(PYTEST) -n $$(expr $$(nproc) + 1) -m soak $(ARGS)

lint: $(READY) ## check style, formatting, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## run the benchmarks: speed, memory, rows written, fault isolation
	$(BIN)/python -m benchmarks $(ARGS)

# In a directory without a settings file, because the templates are those of the default settings.
templates: $(READY) ## write the templates and modules in deploy/, which follow from the declared operations
	@cd deploy/terraform && for part in all:organization member:member-role management:crawler reader:reader-role; do \
		for file in cloudformation:../cloudformation/$${part#*:}.yaml terraform:$${part#*:}/main.tf; do \
			$(abspath $(BIN))/kmsledger permissions --role $${part%:*} --format $${file%%:*} --output $${file#*:} || exit; \
		done; \
	done

reference: $(READY) ## write docs/commands.md, which follows from the help of the commands
	$(BIN)/python -m tests.command_reference

# Copied, because MkDocs reads one directory, and the links between the documents lead to others. The settings' reference is the
# example file, as a page.
docs: $(READY) ## build the documents as a site in build/site (strict: every warning is an error)
	@rm -rf build/documents && mkdir -p build/documents
	@cp -R README.md CONTRIBUTING.md CHANGELOG.md LICENSE config.example.yaml docs deploy build/documents
	@{ printf '# Settings\n\n```yaml\n'; cat config.example.yaml; printf '```\n'; } >build/documents/docs/settings.md
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --config-file docs/mkdocs.yml
	@echo "open build/site/index.html in a browser"

# The SBOM lists the packages that a service installs, for every platform, with their hashes; equal locks give equal files.
dist: $(READY) ## build the wheel and its software bill of materials (CycloneDX)
	@rm -rf dist
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist >/dev/null
	@for wheel in dist/*.whl; do \
		$(BIN)/python -W ignore -m cyclonedx_py requirements requirements-runtime.lock --pyproject pyproject.toml \
			--output-reproducible --output-file "$${wheel%-py3-none-any.whl}.cdx.json" || exit; \
	done
	@ls dist/*

# In a separate environment, because the lock tool is not a locked dependency. --no-config: the lock contains
# the releases of the public index, regardless of the configuration of this machine.
lock: ## regenerate both locks with hashes for all platforms (ARGS=--upgrade for newer releases)
	$(PYTHON) -m venv $(LOCK_TOOLS)
	$(LOCK_TOOLS)/bin/pip install $(QUIET) 'uv>=0.9,<1'
	$(COMPILE_LOCK) --extra dev --output-file requirements.lock $(ARGS)
	$(COMPILE_LOCK) --extra postgres --extra distributed --extra chat --extra opentelemetry --constraint requirements.lock \
		--output-file requirements-runtime.lock

# systemd-analyze and logrotate check the files in deploy/.
tools: ## install what tests need beside Python: Chromium, a font, systemd, logrotate (Debian; as root or with sudo)
	@missing=; path="$$PATH:/usr/sbin"; \
	[ "$${KMSLEDGER_NO_BROWSER:-}" = 1 ] || command -v chromium >/dev/null || missing="chromium fonts-dejavu-core"; \
	command -v systemd-analyze >/dev/null || missing="$$missing systemd"; \
	PATH="$$path" command -v logrotate >/dev/null || missing="$$missing logrotate"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then as=false; \
	elif [ "$$(id -u)" = 0 ]; then as=env; \
	elif sudo -n true 2>/dev/null; then as="sudo -n env"; else as=false; fi; \
	get() { $$as DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
		$$missing </dev/null >/dev/null; }; \
	if [ "$$as" != false ] && { get 2>/dev/null || { $$as apt-get update -qq </dev/null && get; }; }; then exit 0; fi; \
	echo "the tests need these packages of Debian, or their commands: $$missing;" \
		"KMSLEDGER_NO_BROWSER=1 runs the tests without a browser" >&2

clean: ## remove the virtual environment, caches and build results
	rm -rf $(VENV) build dist demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
