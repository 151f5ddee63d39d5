# Every target sets up what it needs, in .venv: only Python 3.11+, git and make have to
# be there. Another interpreter: make quickstart PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_FLAGS ?=
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: help quickstart test test-all env stage2-env test-stage2 lint hooks clean

help:
	@echo "make quickstart  the whole of stage 1 on drawn scenes, on a CPU"
	@echo "make test        tests of stage 1 in minutes; PYTEST_FLAGS='-k launch' picks some"
	@echo "make test-all    with those that take long; WORKERS=2 processes share them,"
	@echo "                 WORKERS=0 is for debuggers"
	@echo "make stage2-env  PyTorch and mmdet in .venv-stage2; builds mmcv once"
	@echo "make test-stage2 tests of stage 2, in that environment"
	@echo "make lint        style, import contract and types"
	@echo "make hooks       run the cheap checks before each commit"
	@echo "make clean       remove .venv* and caches; runs/ and weights/ stay"

quickstart: $(VENV)/.base
	$(BIN)/python -m exits_jax.main --config=configs/quickstart.py
	@echo "pictures: runs/quickstart/contact_sheet.png  masks: runs/quickstart/pseudo_masks.json"
	@echo "table: runs/quickstart/log.txt  numbers: runs/quickstart/evaluation.json"

test: env
	$(PYTEST) -m "not slow" $(PYTEST_FLAGS)

test-all: env
	$(PYTEST) $(PYTEST_FLAGS)

env: $(VENV)/.dev

stage2-env:
	PYTHON=$(PYTHON) launch/stage2_env.sh

# One thread: OpenMP's waiting makes small models slower on a busy machine.
test-stage2: stage2-env
	OMP_NUM_THREADS=1 .venv-stage2/bin/python -m pytest -n $(WORKERS) --dist loadscope -c tests/stage2/pytest.ini tests/stage2 $(PYTEST_FLAGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

hooks: $(VENV)/.dev
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) .venv-stage2 *.egg-info build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,annotate,convert,onnx,parity,shards]'
	# Its torchvision would want a CUDA build of PyTorch; the tests do without it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps timm
	# Beside the packages, as installed among them it would look for a TPU in every run.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --upgrade --target $(VENV)/libtpu libtpu
	@touch $(VENV)/.base $@
