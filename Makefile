# Everything a person runs, one verb each. The environment lives in .venv and is made on demand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# A checkout that was moved has an environment whose programs begin with the old path.
ifneq ($(shell test -e $(BIN)/activate && ! grep -qF "$(CURDIR)/$(VENV)" $(BIN)/activate && echo moved),)
$(info this checkout was moved: $(VENV) is made anew)
$(shell rm -rf $(VENV))
endif

# Some images set it. Every process would then compile all sources again: a third of a node's start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test proof sim mutants check lint types client lessons screenshots docs bench bench-full clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.runtime: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.runtime
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

TLS ?=
demo: $(VENV)/.runtime ## three durable nodes on this machine; Ctrl-C stops them (TLS=1: by TLS)
	@exec $(BIN)/kvstore demo $(if $(TLS),--tls --data-dir kvstore-data/demo-tls)

test: $(VENV)/.dev ## the tests, in minutes; `make proof` runs those that take longer
	$(BIN)/python -m pytest -n auto --dist worksteal

PROOF_SEEDS ?= 100
PROOF_FIRST_SEED ?= $$(date +%s)
PROOF_MINUTES ?= 2
# Tests that take all of a processor, apart from those that wait for browsers and real nodes.
COMPUTES := tests/proof/simulation tests/proof/histories tests/proof/museum tests/paxos
proof: $(VENV)/.dev ## what takes long: mutations, seeds, torture, chaos; 25 minutes at most
	$(BIN)/python -m pytest -m proof --durations 20 -n auto --dist worksteal $(COMPUTES)
	$(BIN)/python -m pytest -m proof --durations 20 -n 3 --dist worksteal $(COMPUTES:%=--ignore=%) \
		--ignore=tests/http_api/v1/test_schemathesis.py tests
	EXAMPLES_TIMES=10 $(BIN)/python -m pytest -n auto tests/etcd/test_sequences.py \
		tests/kvstore/replica/test_watch_random.py tests/kvstore/state/test_transaction_check.py \
		tests/kvstore/state/test_keyspace.py tests/kvstore/client/test_client_verdict.py \
		tests/http_api/etcd/test_etcd_streams.py::test_documents_are_found_however_they_arrive
	EXAMPLES_TIMES=5 $(BIN)/python -m pytest -m "" -n auto tests/http_api/v1/test_schemathesis.py \
		tests/paxos/test_random_schedules.py tests/kvstore/peers/test_peer_fuzzing.py \
		tests/http_api/test_http_fuzzing.py
	$(BIN)/python -m proof.simulation.exhaustive
	$(BIN)/python -m kvstore_cli.main simulate --seeds $(PROOF_SEEDS) --first-seed $(PROOF_FIRST_SEED)
	$(BIN)/python -m kvstore_cli.main torture --minutes $(PROOF_MINUTES)

SEEDS ?= 5000
sim: $(VENV)/.runtime ## SEEDS=5000 seeds of the simulator
	@exec $(BIN)/kvstore simulate --seeds $(SEEDS) --first-seed $$(date +%s)

mutants: $(VENV)/.runtime ## break one rule at a time; the simulator must notice each
	@exec $(BIN)/python -m proof.simulation.mutations

check: lint types test ## what must be green before a commit

lint: $(VENV)/.dev ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check paxos kvstore http_api kvstore_cli proof benchmarks scripts tests

types: $(VENV)/.dev ## static types
	$(BIN)/mypy

client: $(VENV)/.dev ## write the blocking client anew from the async one
	$(BIN)/python scripts/generate_blocking_client.py

lessons: $(VENV)/.dev ## write the lessons of /learn anew from their scripts
	$(BIN)/python scripts/generate_lessons.py

DIR ?= build/screenshots
screenshots: $(VENV)/.dev ## pictures of the dashboard in each trouble, of a real cluster, in DIR
	$(BIN)/python -m tests.http_api.dashboard.screenshots $(DIR)

docs: $(VENV)/.dev ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.bench ## side by side with etcd and others, six minutes: the README's table
	$(BIN)/python -m benchmarks

bench-full: $(VENV)/.bench ## everything that is measured, with plots: half an hour
	$(BIN)/python -m benchmarks --full

clean: ## remove what make and the demo made
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis kvstore-data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
