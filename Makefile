# Every target sets up .venv first; the first call installs, later ones take no time.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# Small problems: a second OpenMP thread waits more than it works.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: reproduce test test-slow test-gpu lint report clean

reproduce: .venv/installed
	$(BIN)/python -m applications reproduce

report: .venv/installed
	$(BIN)/python -m applications report

test: .venv/installed
	$(PYTEST) -m "not slow and not gpu"

test-slow: .venv/installed
	$(PYTEST) -m "slow and not gpu"

test-gpu: .venv/installed
	$(PYTEST) -m gpu

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "sciopt needs Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv results
