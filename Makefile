# The two that a newcomer needs are `make run` and `make test`; each sets up
# everything by itself, in .venv and var.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEVELOP := .venv/.ready-to-develop
EXTRAS := postgresql,mysql,rabbitmq,embedded,dashboard,tracing
INSTALL := $(BIN)/pip install -qq --disable-pip-version-check --constraint requirements.lock
BENCH := var/bench-venv

.PHONY: help
help: ## show this help
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

.PHONY: run
run: $(READY) ## run everything here: Redis if none is named, the worker, the clock
	@$(BIN)/python -m worker.running

.PHONY: test
test: $(DEVELOP) ## run the tests, on servers of their own; ARGS=… as pytest takes them
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: check
check: $(DEVELOP) ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(DEVELOP) ## bring the code into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(BENCH)/.ready ## measure beside the peers; ROWS=… ROUNDS=… PUBLISH=yes
	@$(BENCH)/bin/python bench/run.py --rows $(or $(ROWS),20000) \
	  --rounds $(or $(ROUNDS),3) $(if $(PUBLISH),--publish)
	@$(BENCH)/bin/python bench/bounds.py
	@$(BENCH)/bin/python bench/migrating.py --rows $(or $(ROWS),20000)

.PHONY: soak
soak: $(DEVELOP) ## mark while everything is killed; SECONDS=60 SEED=…
	@$(BIN)/python tests/soak.py $(or $(SECONDS),60) $(SEED)

.PHONY: pictures
pictures: $(DEVELOP) ## take the documentation's pictures anew, of a running system
	@$(BIN)/python docs/pictures.py

.PHONY: docs
docs: $(DEVELOP) ## build the documentation's site into var/site
	@$(BIN)/sphinx-build -q -n -W --keep-going -b html docs var/site

.PHONY: lock
lock: $(READY) ## choose the newest versions, to be tested and committed
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --all-extras --upgrade --no-header \
	  --no-annotate --python-version 3.11 --output-file requirements.lock pyproject.toml

.PHONY: clean
clean: ## throw away what was installed and what ran (also the local database)
	@! kill -0 "$$(cat var/supervisord.pid 2>/dev/null)" 2>/dev/null || \
	  { echo "It runs here; stop it first."; exit 1; }
	rm -rf .venv var

$(BENCH)/.ready: pyproject.toml bench/requirements.txt
	@echo "Installing the peers into $(BENCH) (once, about a minute) …"
	@$(PYTHON) -m venv --clear $(BENCH)
	@$(BENCH)/bin/pip install -qq --disable-pip-version-check \
	  --requirement bench/requirements.txt --editable '.[postgresql,mysql,embedded]'
	@touch $@

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "Python 3.11 or newer is needed; name one: make run PYTHON=python3.12")'
	@echo "Installing into .venv (once, about a minute) …"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@

$(DEVELOP): $(READY)
	@echo "Installing what tests and checks need (once, some minutes) …"
	@$(INSTALL) --editable '.[$(EXTRAS),docs,dev]'
	@touch $@
