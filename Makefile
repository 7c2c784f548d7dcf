PYTHON ?= python3
DEMO   ?= examples.digits
EXTRAS := demo,lint,test
VENV   := .venv
# Empty for the newest, or a version: `make test JAX=0.10.2`, in an environment that is not made yet.
JAX    ?=
STAMP  := $(VENV)/.installed
DOCS   := $(VENV)/.installed-docs
PEERS  := .venv-peers/.installed

# The oldest JAX that jbnn supports, and the newest that jax-metal runs with.
MINIMUM := .venv-jax-0.4.34
METAL   := .venv-jax-0.5.0

# A module stays in one process: what its tests share, such as processes of several devices, is started once.
# The results are kept by version of JAX: `make matrix` makes a table of them.
pytest = $(1)/bin/python -m pytest -q -n auto --maxprocesses 8 --dist loadfile \
	--junitxml build/tests/jax-$$($(1)/bin/python -c 'import jax; print(jax.__version__)').xml

GPU_RESULTS ?= build/tests/gpu.xml

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-jax-minimum test-jax-metal test-everywhere test-gpu matrix matrix-check audit apple-check
.PHONY: peers lint docs native-check install-check

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP)  ## create .venv with jbnn (editable) and what the other targets need

demo: $(STAMP)  ## train and deploy the example network
	@$(VENV)/bin/python -m $(DEMO)

test: $(STAMP)  ## run the tests, with the newest JAX
	@$(call pytest,$(VENV))

test-jax-minimum: $(MINIMUM)/.installed  ## what JAX versions can differ in, with jax 0.4.34, the oldest supported
	@$(call pytest,$(MINIMUM)) -m 'not once'

test-jax-metal: $(METAL)/.installed  ## a third of the same with jax 0.5.0, the newest for jax-metal, and the audit for it
	@$(call pytest,$(METAL)) -m 'not once' --every 3

test-everywhere: test-jax-minimum test-jax-metal test  ## all three

test-gpu:  ## on a machine with an NVIDIA GPU, with the JAX that is installed: the tests that can run on one, and what ran
	@JAX_DEFAULT_MATMUL_PRECISION=highest XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONPATH=. $(PYTHON) -m pytest -q -n 8 \
		--dist loadfile --junitxml $(GPU_RESULTS) -p no:benchmark tests --ignore tests/test_apple.py \
		--ignore tests/test_sharding.py --ignore tests/test_opaque.py --ignore tests/test_distributed.py

matrix: $(STAMP)  ## write the table of what these three tested into README.md and the documentation
	@$(VENV)/bin/python tests/matrix.py

matrix-check: $(STAMP)  ## fail if that table says anything else; a JAX that it does not hold is only told
	@$(VENV)/bin/python tests/matrix.py --check

audit: $(STAMP) $(MINIMUM)/.installed $(METAL)/.installed  ## write build/apple_audit.txt, the compile audit for Apple's plugins, and print it
	@mkdir -p build
	@(for venv in $(MINIMUM) $(METAL) $(VENV); do PYTHONPATH=. $$venv/bin/python tests/apple_report.py || exit 1; echo; done) \
		> build/apple_audit.txt; status=$$?; cat build/apple_audit.txt; exit $$status

apple-check: $(STAMP)  ## run the check for a Mac's GPU on the device that is here; FLAGS=--firsts: one call a function
	@$(VENV)/bin/python -m examples.apple_check $(FLAGS)

native-check: $(STAMP)  ## the compiled part under sanitizers, with guard pages; emulated on ARM, if a compiler for it is here
	@tests/native/check.sh

install-check: $(STAMP)  ## install a wheel where there is no compiler, and the source where there is none
	@tests/native/install.sh $(VENV)/bin/python

lint: $(STAMP)  ## check style, formatting and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

docs: $(DOCS)  ## build the documentation, run its examples, check its links (Python 3.11 or newer)
	@rm -rf docs/_build
	@$(VENV)/bin/sphinx-build -q -W --keep-going docs docs/_build/html
	@$(VENV)/bin/python docs/check.py docs/_build/html

peers: $(PEERS)  ## compare with Larq Compute Engine, OpenVINO, PyTorch (x86-64 Linux, Python 3.10 to 3.12)
	@PYTHONPATH=. .venv-peers/bin/python tests/peers/compare_lce.py
	@PYTHONPATH=. .venv-peers/bin/python tests/peers/compare_openvino.py
	@PYTHONPATH=. .venv-peers/bin/python tests/peers/compare_pytorch.py

$(PEERS): Makefile tests/peers/requirements.txt
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r tests/peers/requirements.txt
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps larq-compute-engine==0.16.0
	@touch $@

NATIVE := setup.py $(wildcard jbnn/_native/*.cc jbnn/_native/*.h)

$(STAMP): pyproject.toml $(NATIVE)
	@echo "$(VENV): installing jbnn[$(EXTRAS)], which takes a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]' $(if $(JAX),jax==$(JAX) jaxlib==$(JAX))
	@touch $@

$(DOCS): $(STAMP)
	@echo "$(VENV): installing jbnn[docs], which takes a minute or two"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

.venv-jax-%/.installed: pyproject.toml $(NATIVE)
	@echo ".venv-jax-$*: installing jbnn[test] with jax $*"
	@$(PYTHON) -m venv .venv-jax-$*
	@.venv-jax-$*/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' jax==$* jaxlib==$*
	@touch $@
