# make demo: a whole Kubernetes on this machine, shown at work.   make test: everything that is checked.
# The first interpreter that is new enough and really runs.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
  "$$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check unit e2e soak bench clean

demo: $(VENV)/.installed
	@$(BIN)/python examples/hello/run.py

test: check unit

check: $(VENV)/.installed-dev
	$(BIN)/ruff check src tests bench examples
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

unit: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -rs

e2e: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -rs tests/e2e

soak: $(VENV)/.installed-dev
	$(BIN)/python -m bench.soak --seconds $${SECONDS:-60}
	$(BIN)/python -m bench.soak --seconds $${SECONDS:-60} --kill 3
	ANYNODE_SOAK_SECONDS=$${SECONDS:-600} ANYNODE_KILLS=20 $(BIN)/python -m pytest -q \
	  tests/e2e/test_replicas.py tests/e2e/test_acknowledged.py
	ANYNODE_FUZZ_REQUESTS=200000 ANYNODE_FUZZ_SEED=$${SEED:-2} $(BIN)/python -m pytest -q \
	  tests/component/test_openapi_requests.py

bench: $(VENV)/.installed
	$(BIN)/python -m bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "anynode needs Python 3.11 or newer (with venv), and none was found. Try: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# Debian's etcd beside the interpreter, without root; where it cannot be had, the tests that need it say so and skip.
$(VENV)/.etcd: | $(VENV)/bin/python
	@command -v etcd >/dev/null || ( mkdir -p $(VENV)/etcd && cd $(VENV)/etcd && \
	  timeout 60 apt-get download -q etcd-server && dpkg-deb -x etcd-server_*.deb . && rm etcd-server_*.deb && \
	  ln -sf ../etcd/usr/bin/etcd ../bin/etcd ) >/dev/null 2>&1 || true
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.etcd | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@ $(VENV)/.installed
