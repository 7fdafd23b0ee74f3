# Every command a user, a developer or CI needs. `make help` lists them.
SHELL := /bin/bash
PY := .venv/bin/python
BENCHES := gateway

.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z_-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup:  ## environment and dependencies from the lock, into this folder
	@deploy/setup.sh

run: setup  ## bring the whole platform up (ARGS="--address 10.0.0.5 --port 80")
	@exec .venv/bin/chusuan up $(ARGS)

test: setup  ## all tests, with real parts (PYTEST="-k name …")
	@deploy/test-parts.sh
	@.venv/bin/pytest -q $(PYTEST)

lint: setup  ## format, lint, types, imports, sizes
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m tests.sizes

bench: $(BENCHES:%=bench-%)  ## every benchmark, one JSON object a line

bench-%: setup
	@$(PY) -m bench.$*

lock:  ## choose dependency versions anew from pyproject.toml
	@.tools/bin/uv pip compile -q pyproject.toml --group dev --universal --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --upgrade -o requirements.lock

clean-state:  ## remove the platform's state folder, after asking
	@.venv/bin/chusuan clean-state

.PHONY: help setup run test lint bench lock clean-state
