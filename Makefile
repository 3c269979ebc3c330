# On a fresh machine with Python 3.11+ and make: 'make demo' shows what tlprune does, 'make test' checks it.

PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready

.PHONY: help setup demo test lint types clean

help:
	@echo "make demo   set up, then prune, pretrain, transfer and compare on embedded data (minutes)"
	@echo "make test   set up, then check style, types and tests"
	@echo "make clean  remove the environment and what was built"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("tlprune needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,parquet,dev]'
	@touch $@

demo: $(READY)
	$(VENV)/bin/tlprune demo $(DEMO)

test: $(READY) lint types
	$(VENV)/bin/pytest $(TESTS)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY)
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
