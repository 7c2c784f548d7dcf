PYTHON ?= python3
DEMO   ?= examples.digits
EXTRAS := demo,lint,test
VENV   := .venv
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint

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

$(STAMP): pyproject.toml
	@echo "$(VENV): installing jbnn[$(EXTRAS)], which takes a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@
