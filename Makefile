# Each target does its own set-up from a bare clone: Python >= 3.10 and make are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test quick check format bench toy clean

demo: $(VENV)/installed  ## train an SAE and two weighted SAEs on the bundled model, and report
	$(BIN)/wsae demo

test: quick  ## every test
	$(BIN)/pytest -m slow

quick: $(VENV)/installed  ## the tests that take seconds, one process a core
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n auto

check: $(VENV)/installed  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed  ## what a training step costs, beside SAELens's and sparsify's
	$(BIN)/pip install --quiet -c constraints.txt -e ".[bench]"
	$(BIN)/python eval/perf/train_step.py --d-sae 24576 --batch 2048 --memory

toy: $(VENV)/installed  ## the paper's toy figures and the studies of Γ again, into eval/toy/
	PATH="$(CURDIR)/$(BIN):$$PATH" sh eval/toy/run.sh

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
