# On a fresh machine with Python 3.11+ and make: 'make demo' shows what tlprune does, 'make test' checks it.

PYTHON ?= python3
VENV ?= .venv
# processes that test
WORKERS ?= auto
READY := $(VENV)/.ready

BOLTS ?= .venv-bolts
PACKAGE ?= .venv-package
MINIMUM ?= .venv-minimum
AUDIT ?= .venv-audit
# each of these takes 6 to 8 GB of disk; they go once their tests pass, unless KEEP=1
KEEP ?=
BOLTS_READY := $(BOLTS)/.ready
MINIMUM_READY := $(MINIMUM)/.ready
# what uses each dependency, and is fast
MINIMUM_TESTS ?= tests/data tests/selection tests/storage tests/models/test_published.py tests/modules/test_classifier.py tests/modules/test_ssl.py \
	tests/callbacks/test_selection_monitor.py tests/commands/test_selection_commands.py tests/commands/test_selection_of_anything.py tests/test_checkpoint_io.py

.PHONY: help setup demo test test-all test-trains test-bolts test-package test-minimum docs notebooks lint types stubs bench audit clean

help:
	@echo "make demo        set up, then prune, pretrain, transfer and compare on embedded data (minutes)"
	@echo "make test        set up, then check style, types and tests: 8 minutes on two idle cores"
	@echo "make test-all    that, and what takes longer: more kills, more processes, every count"
	@echo "make test-trains  repeat the tests that train, with the arithmetic of another processor"
	@echo "make test-bolts  test what is done with the extra 'bolts', in an environment of its own"
	@echo "make test-package  build the archives, install the wheel in an empty environment, and use it there"
	@echo "make test-minimum  test with the lowest versions that pyproject.toml allows"
	@echo "make docs        build the pages in docs/ as a site, in site/; a broken link is an error, and so is prose against the list"
	@echo "make notebooks   run the notebooks from top to bottom; an error in a cell is an error"
	@echo "make stubs       compare the stubs with what is imported; two minutes"
	@echo "make bench       measure every path whose speed has a bar; 20 minutes on two fast idle cores"
	@echo "make audit       look up known vulnerabilities of what is installed; needs the Python Package Index"
	@echo "make clean       remove the environment and what was built"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("tlprune needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,docs,notebooks,dev]'
	@touch $@

demo: $(READY)
	$(VENV)/bin/tlprune demo $(DEMO)

# a process for each core with one thread each, unless OMP_NUM_THREADS says otherwise: most tensors here are small
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV)/bin/pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

test: $(READY) lint types
	$(PYTEST) -m 'not slow' $(TESTS)

test-all: test
	$(PYTEST) -m slow $(TESTS)

# training ends otherwise on another processor: with plain kernels and two threads it is as far from the usual as it gets
test-trains: $(READY)
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 OMP_NUM_THREADS=2 $(VENV)/bin/pytest -m 'trains and not slow' $(TESTS)

# lightning-bolts wants pytorch-lightning below 2, which nothing else here uses
$(BOLTS_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BOLTS)
	grep -v '^pytorch-lightning==' constraints.txt > $(BOLTS)/constraints.txt
	$(BOLTS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(BOLTS)/constraints.txt --editable '.[bolts,sweep]' pytest
	@touch $@

test-bolts: $(BOLTS_READY)
	$(BOLTS)/bin/pytest tests/test_bolts.py
	$(if $(KEEP),,rm -rf $(BOLTS))

# always a new environment: one that is there may have what the wheel forgot to ask for
test-package: $(READY)
	rm -rf $(PACKAGE)
	$(PYTHON) -m venv $(PACKAGE)
	$(VENV)/bin/python -m build --outdir $(PACKAGE)/dist .
	$(PACKAGE)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PACKAGE)/dist/*.whl
	$(PACKAGE)/bin/python -m pip check
	$(VENV)/bin/python tests/check_package.py $(PACKAGE)
	$(if $(KEEP),,rm -rf $(PACKAGE))

$(MINIMUM_READY): pyproject.toml constraints-minimum.txt
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-minimum.txt --editable '.[demo,mat,parquet,timm,huggingface,video,test]'
	@touch $@

# what old versions say of themselves is no failure; one thread, because small tensors are slower on more
test-minimum: $(MINIMUM_READY)
	OMP_NUM_THREADS=1 $(MINIMUM)/bin/pytest -q -o filterwarnings=default --disable-warnings -m 'not slow' $(MINIMUM_TESTS)
	$(if $(KEEP),,rm -rf $(MINIMUM))

docs: $(READY)
	$(VENV)/bin/python mkdocs_prose.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

notebooks: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python notebooks/run.py $(NOTEBOOKS)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY)
	$(VENV)/bin/mypy

# what the stubs say against what is imported; two minutes, since mypy keeps nothing between two runs of it
stubs: $(READY)
	$(VENV)/bin/python -m mypy.stubtest tlprune --ignore-missing-stub --mypy-config-file pyproject.toml --allowlist stubtest-allowlist.txt

bench: $(READY)
	$(VENV)/bin/python benchmarks/bars.py $(BENCH)

# asks the Python Package Index for known vulnerabilities; --strict: what cannot be looked up is a failure, not a pass
audit:
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'
	$(AUDIT)/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip
	$(if $(KEEP),,rm -rf $(AUDIT))

clean:
	rm -rf $(VENV) $(BOLTS) $(PACKAGE) $(MINIMUM) $(AUDIT) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
