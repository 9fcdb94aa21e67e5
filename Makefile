# Two commands: make demo, make test. Both set up what they need in .venv (PYTHON picks the interpreter).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-train lint check clean

demo: $(VENV)/.embedded
	$(BIN)/lm-mixup run examples/pool -o demo-run --recipe recipes/demo.yaml
	$(BIN)/lm-mixup show demo-run --examples 2

test: $(VENV)/.dev
	# 98 MB for the tests of local language models; without it they are skipped, and say so
	-$(BIN)/lm-mixup models get smollm2-135m-instruct
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What needs torch and TRL: the example of training with them, and the adapters on transformers. 1.5 GB.
test-train: $(VENV)-train/.ready
	$(VENV)-train/bin/python -m pytest tests/test_examples.py tests/embed/test_transformers.py tests/llm/test_transformers.py tests/training

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[embedded]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@ $(VENV)/.embedded

# torch on its own first: left to a dependency, another build of it arrives
$(VENV)-train/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-train
	$(VENV)-train/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VENV)-train/bin/python -m pip install --quiet --disable-pip-version-check -e ".[train,embedded]" pytest pytest-timeout hypothesis
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-train demo-run
