# `make demo` and `make test` need nothing but Python >= 3.11 with its venv module; everything else goes into .venv.
#
#   PYTHON=python3.12 make demo     choose the interpreter .venv is made with (read only while .venv is absent); else it is the
#                                   newest of 3.13, 3.12 and 3.11 on the path or among those of pyenv
#   make test ARGS="-k kkt"         pass arguments on to pytest (to the benchmark in `make bench`)
#   WORKERS=4 make test             number of parallel test processes

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
OTHER := .venv-other
VERSIONS ?= 3.13 3.12 3.11
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
WORKERS ?= 2
ARGS ?=

# Two BLAS thread pools on few cores stall each other for seconds: one thread each, everywhere.
export OPENBLAS_NUM_THREADS ?= 1
export PIP_NO_INPUT := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: help demo test test-long test-all test-other lint format docs bench dev clean

help:
	@echo "make demo    install into .venv if needed, then run examples/quickstart.py"
	@echo "make test    run the tests, without those that take long (tests/long.txt)"
	@echo "make test-all    run all of them"
	@echo "make test-other  run tests/core.txt on the oldest Python and JAX, or the newest if .venv is the oldest"
	@echo "make lint    ruff check, ruff format --check, pyright"
	@echo "make format  let ruff rewrite what it can"
	@echo "make docs    build the documentation into site/, warnings are errors"
	@echo "make bench   measure the solver against its peers"
	@echo "make dev     install every extra"
	@echo "make clean   remove caches and build products, keep .venv and .venv-other"

# -- environment: one stamp per extra, redone when pyproject.toml changes ---------------------------------------------

# The first interpreter of the versions $(1) that can make an environment, from the path or from pyenv; nothing if there is none.
find = for version in $(1); do \
	    for name in "python$$version" "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version*/bin/python python3 python; do \
	        if "$$name" -c "import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')" >/dev/null 2>&1; then \
	            echo "$$name"; break 2; \
	        fi; \
	    done; \
	done

$(PY):
	@python='$(PYTHON)'; \
	wanted='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if [ -z "$$python" ]; then python="$$($(call find,$(VERSIONS)))"; fi; \
	if [ -z "$$python" ]; then for name in python3 python; do \
	    if "$$name" -c "$$wanted" >/dev/null 2>&1; then python="$$name"; break; fi; done; fi; \
	if [ -z "$$python" ] || ! "$$python" -c "$$wanted"; then \
	    echo "error: Python 3.11 or newer is needed; name one with PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "creating $(VENV) with $$("$$python" --version)"; \
	if ! "$$python" -m venv $(VENV); then \
	    rm -rf $(VENV); \
	    echo "error: '$$python -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi

# The other end of the supported range: the newest Python and JAX if .venv has the oldest, the oldest if it has newer ones.
other = if $(PY) -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))"; then $(call find,3.13 3.12); else $(call find,3.11); fi

$(OTHER)/.stamp-test: pyproject.toml | $(PY)
	@test -x $(OTHER)/bin/python || { python="$$($(other))"; \
	    echo "creating $(OTHER) with $$("$$python" --version)"; "$$python" -m venv $(OTHER); }
	@echo "installing what make test-other needs into $(OTHER): a minute or two, once"
	$(OTHER)/bin/python -m pip --disable-pip-version-check --quiet install --editable ".[test]"
	@touch $@

$(VENV)/.stamp-run: pyproject.toml | $(PY)
	@echo "installing pounce and JAX into $(VENV): a minute or two, once"
	$(PIP) install --editable .
	@touch $@

$(VENV)/.stamp-test $(VENV)/.stamp-lint $(VENV)/.stamp-docs $(VENV)/.stamp-dev: $(VENV)/.stamp-%: pyproject.toml | $(PY)
	@echo "installing what make $* needs into $(VENV): a minute or two, once"
	$(PIP) install --editable ".[$*]"
	@touch $@ $(VENV)/.stamp-run

# -- what one runs ----------------------------------------------------------------------------------------------------

demo: $(VENV)/.stamp-run
	$(PY) examples/quickstart.py

pytest = OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) --dist worksteal -q

test: $(VENV)/.stamp-test
	$(pytest) --part short $(ARGS)

test-long: $(VENV)/.stamp-test
	$(pytest) --part long $(ARGS)

test-all: $(VENV)/.stamp-test
	$(pytest) $(ARGS)

test-other: $(PY)
	@if [ ! -x $(OTHER)/bin/python ] && [ -z "$$($(other))" ]; then \
	    echo "nothing run: no Python of the other end of the supported range (3.11 to 3.13) is here"; \
	else \
	    $(MAKE) --no-print-directory $(OTHER)/.stamp-test; \
	    OPENBLAS_NUM_THREADS=1 $(OTHER)/bin/python -m pytest -n $(WORKERS) --dist worksteal -q @tests/core.txt $(ARGS); \
	fi

lint: $(VENV)/.stamp-lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)

format: $(VENV)/.stamp-lint
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: $(VENV)/.stamp-docs
	$(PY) -m mkdocs build --strict

bench: $(VENV)/.stamp-test
	$(PY) -m benchmarks.nlp $(ARGS)

dev: $(VENV)/.stamp-dev

clean:
	rm -rf build dist site .pytest_cache .ruff_cache *.egg-info
	find pounce tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
