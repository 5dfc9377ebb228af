# Everything a developer runs. `make` alone lists the targets.

PYTHON ?= python3
VENV   := .venv
SHELL  := bash
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup-stamp
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.SILENT:
.PHONY: help setup demo test check fmt bench bench-health bench-loss bench-memory bench-peers bench-state bench-web dist clean pictures

help: ## list the targets
	awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything in it; does nothing when pyproject.toml has not changed

# The stamp is younger than pyproject.toml exactly when the last installation went through.
$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>/dev/null || echo "not there"); \
	  echo "setup: Perdure needs Python 3.11 or newer, and \`$(PYTHON)\` is $$found."; \
	  echo "       Name a newer one: make setup PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || { \
	  echo "setup: making $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv $(VENV) || { \
	    rm -rf $(VENV); \
	    echo "setup: \`$(PYTHON) -m venv\` failed. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }; }
	echo "setup: installing Perdure and its tools into $(VENV)"
	$(PIP) install -e '.[all,dev]'
	touch $(STAMP)

demo: setup ## start embedded servers and workers, run work through them, show what happened [INPUT=folder of Python source STAY=1]
	$(BIN)/perdure demo $(if $(INPUT),--input $(INPUT)) $(if $(STAY),--stay)

# Lines are counted in the tests of single parts: counting makes them two to three times as slow, and whole histories, real deaths,
# the product as its users meet it and thousands of seeds would show few lines that these do not. Lines and branches have a floor each.
# The latter wait longer than they compute, a torture run for minutes: three processes keep two cores busy.
COUNTED   := $(addprefix tests/,api contract domain memory runtime services store surfaces web)
UNCOUNTED := $(addprefix tests/,benchmarks faults simulation stateful tidy typing whole)
test: setup ## run all tests against embedded servers, with coverage
	echo "test: pytest in two and three processes; PostgreSQL and Redis are started by the tests"
	failed=0; \
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=12 --durations-min=5 --cov --cov-report=json $(COUNTED) || failed=1; \
	$(BIN)/python -m pytest -q -n 3 --dist worksteal --durations=12 --durations-min=5 $(UNCOUNTED) || failed=1; \
	$(BIN)/python .ci/coverage-floor coverage.json --lines 80 --branches 70 || failed=1; \
	exit $$failed

check: setup ## lint, format, types, floors
	echo "check: ruff"
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check . || { echo "check: run \`make fmt\`"; exit 1; }
	echo "check: mypy"
	$(BIN)/mypy --no-error-summary
	echo "check: pyright"
	$(BIN)/pyright --warnings | sed '/^0 errors, 0 warnings/d'; exit $${PIPESTATUS[0]}
	echo "check: floors"
	$(BIN)/lint-imports > $(VENV)/floors.log 2>&1 || { cat $(VENV)/floors.log; exit 1; }

fmt: setup ## format the code and mend what the linter can mend
	echo "fmt: ruff"
	$(BIN)/ruff check --quiet --fix-only .
	$(BIN)/ruff format --quiet .

bench: setup ## measure throughput and latency on this machine [ARGS=...]
	$(BIN)/perdure bench $(ARGS)

bench-health: setup ## measure the health models on public data, and liveness on a simulated network [ARGS=--json DATA=folder]
	$(BIN)/python benchmarks/health/run.py $(if $(DATA),--data $(DATA)) $(ARGS)

bench-memory: setup ## find causes again by the memory of executions, and time the search; fails when a limit is missed [ARGS=...]
	$(BIN)/python -m benchmarks.memory $(ARGS)

bench-peers: setup ## measure Perdure beside other job systems on the same servers [ARGS=...]
	$(BIN)/python -m benchmarks.peers $(ARGS)

pictures: setup ## take the pictures of the documentation anew (needs chromium)
	$(BIN)/python -m tests.support.pictures docs/pictures

bench-state: setup ## look back on, save and bring back a million jobs; fails when a limit is missed [ARGS=...]
	$(BIN)/python -m benchmarks.state $(ARGS)

bench-loss: setup ## lose a million jobs under load and bring them back; fails when one is missing [ARGS=...]
	$(BIN)/python -m benchmarks.state.loss $(ARGS)

bench-web: setup ## time every page over a large past and under traffic; fails when a limit is missed [ARGS=...]
	$(BIN)/python -m benchmarks.web $(ARGS)

dist: setup ## build wheel and source archive into dist/
	echo "dist: building into dist/"
	$(BIN)/python -m build --outdir dist . > $(VENV)/dist.log 2>&1 || { cat $(VENV)/dist.log; exit 1; }
	ls dist

clean: ## remove what was built, never data
	rm -rf build dist .coverage* coverage.json .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
