PYTHON ?= python3
DEMO   ?= examples.digits
EXTRAS := demo,lint,test
VENV   := .venv
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)/.installed-docs
PEERS  := .venv-peers/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint docs peers

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP)  ## create .venv with jbnn (editable) and what the other targets need

demo: $(STAMP)  ## train and deploy the example network
	@$(VENV)/bin/python -m $(DEMO)

test: $(STAMP)  ## run the tests
	@$(VENV)/bin/python -m pytest -q

lint: $(STAMP)  ## check style, formatting and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

docs: $(DOCS)  ## build the documentation, run its examples, check its links (Python 3.11 or newer)
	@rm -rf docs/_build
	@$(VENV)/bin/sphinx-build -q -W --keep-going docs docs/_build/html
	@$(VENV)/bin/python docs/check.py docs/_build/html

peers: $(PEERS)  ## compare with Larq Compute Engine (x86-64 Linux, Python 3.10 to 3.12)
	@PYTHONPATH=. .venv-peers/bin/python tests/peers/compare_lce.py

$(PEERS): Makefile
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check flatbuffers 'jax<0.7' 'numpy<2' tqdm
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps larq-compute-engine==0.16.0
	@touch $@

$(STAMP): pyproject.toml
	@echo "$(VENV): installing jbnn[$(EXTRAS)], which takes a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@

$(DOCS): $(STAMP)
	@echo "$(VENV): installing jbnn[docs], which takes a minute or two"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@
