# On a fresh machine with Python 3.11+ and make: 'make demo' shows what tlprune does, 'make test' checks it.

PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready

BOLTS ?= .venv-bolts
AUDIT ?= .venv-audit
BOLTS_READY := $(BOLTS)/.ready

.PHONY: help setup demo test test-bolts lint types bench audit clean

help:
	@echo "make demo        set up, then prune, pretrain, transfer and compare on embedded data (minutes)"
	@echo "make test        set up, then check style, types and tests"
	@echo "make test-bolts  test what is done with the extra 'bolts', in an environment of its own"
	@echo "make bench       measure every path whose speed has a bar; half an hour on two idle cores"
	@echo "make audit       look up known vulnerabilities of what is installed; needs the Python Package Index"
	@echo "make clean       remove the environment and what was built"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("tlprune needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,parquet,timm,huggingface,video,dev]'
	@touch $@

demo: $(READY)
	$(VENV)/bin/tlprune demo $(DEMO)

test: $(READY) lint types
	$(VENV)/bin/pytest $(TESTS)

# lightning-bolts wants pytorch-lightning below 2, which nothing else here uses
$(BOLTS_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BOLTS)
	grep -v '^pytorch-lightning==' constraints.txt > $(BOLTS)/constraints.txt
	$(BOLTS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(BOLTS)/constraints.txt --editable '.[bolts]' pytest
	@touch $@

test-bolts: $(BOLTS_READY)
	$(BOLTS)/bin/pytest tests/test_bolts.py

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY)
	$(VENV)/bin/mypy

bench: $(READY)
	$(VENV)/bin/python benchmarks/bars.py $(BENCH)

# asks the Python Package Index for known vulnerabilities; --strict: what cannot be looked up is a failure, not a pass
audit:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'
	$(AUDIT)/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf $(VENV) $(BOLTS) $(AUDIT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
