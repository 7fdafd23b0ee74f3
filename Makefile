# Every command a user, a developer or CI needs. `make help` lists them.
SHELL := /bin/bash
PY := .venv/bin/python
BENCHES := bus fleet gateway rent_to_ssh
ROUNDS := 20
# Of tests/e2e, what the split shape could do differently.
SPLIT := main_job several_hosts apps crashes
COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z_-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup:  ## environment and dependencies from the lock, into this folder
	@deploy/setup.sh

run: setup  ## bring the whole platform up (ARGS="--address 10.0.0.5 --port 80")
	@exec .venv/bin/chusuan up $(ARGS)

test: setup  ## all tests of the one-process shape, with real parts (PYTEST="-k name …")
	@deploy/test-parts.sh
	@.venv/bin/pytest -q $(PYTEST)

test-split: setup  ## end to end and broken on purpose, every service apart, three hosts
	@deploy/test-parts.sh
	@.venv/bin/pytest -q --topology=split $(SPLIT:%=tests/e2e/test_%.py) tests/fault/split $(PYTEST)

images: setup  ## build all images on this machine now: the system's, the platform's, and stand-ins where no registry answers
	@mkdir -p .cache
	@$(PY) -m cli.up.docker .cache/docker.log
	@$(PY) -m agent.building deploy/images minimal jupyter vscode
	@$(PY) -m cli.images

compose-test: setup  ## start the whole split platform under compose, break it in parts (COMPOSE="docker compose")
	@mkdir -p .cache
	@deploy/test-parts.sh
	@$(PY) -m cli.images >.cache/platform-image.log 2>&1 || { tail -20 .cache/platform-image.log; exit 1; }
	@CHUSUAN_COMPOSE="$(COMPOSE)" $(PY) -m pytest -q -s tests/deploy

crash: setup  ## kill the platform again and again during the main job (ROUNDS=20)
	@deploy/test-parts.sh
	@CHUSUAN_CRASH_ROUNDS=$(ROUNDS) .venv/bin/pytest -q -s tests/e2e/test_crashes.py

fault: setup  ## break everything that can be broken, for an hour or more (POINTS=n SEED=n RESUME=file)
	@deploy/test-parts.sh
	@CHUSUAN_FAULT_LONG=1 .venv/bin/pytest -q -s -p no:randomly tests/fault $(PYTEST)

demo: setup  ## drive the whole main job on the running platform, step by step
	@$(PY) -m cli.demo

lint: setup  ## format, lint, types, imports, sizes
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(PY) -m tests.sizes

bench: $(BENCHES:%=bench-%)  ## every benchmark, one JSON object a line

bench-%: setup
	@deploy/bench-parts.sh
	@$(PY) -m bench.$*

lock:  ## choose dependency versions anew from pyproject.toml
	@.tools/bin/uv pip compile -q pyproject.toml --group dev --universal --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --upgrade -o requirements.lock

clean-state:  ## remove the platform's state folder, after asking
	@.venv/bin/chusuan clean-state

.PHONY: help setup run test test-split images compose-test crash fault demo lint bench lock clean-state
