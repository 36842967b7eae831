# Each target does its own set-up from a bare clone: Python >= 3.10 and make are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAEBENCH := .venv-saebench
SAEBENCH_FILES := wsae_plugin/saebench

.PHONY: demo textures test quick check format bench mutants toy saebench test-saebench clean

demo: $(VENV)/installed  ## train an SAE and two weighted SAEs on the bundled model, and report
	$(BIN)/wsae demo

textures: $(VENV)/installed  ## the same on a table of images: patches of three textures
	$(BIN)/python eval/vision/textures.py --output runs/textures
	rm -rf runs/textures/compare
	$(BIN)/wsae compare configs/vision/textures.yaml --output runs/textures/compare
	$(BIN)/wsae eval runs/textures/compare
	$(BIN)/wsae report runs/textures/compare

test: quick test-saebench  ## every test
	$(BIN)/pytest -m slow --ignore=tests/saebench

quick: $(VENV)/installed  ## the tests that take seconds, one process a core
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n auto

saebench: $(SAEBENCH)/installed  ## the environment of `wsae bench`

test-saebench: $(SAEBENCH)/installed  ## what needs SAEBench, in its own environment
	OMP_NUM_THREADS=1 $(SAEBENCH)/bin/pytest tests/saebench -n auto

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

mutants: $(VENV)/installed  ## the share of planted mistakes that the tests find, into eval/mutation/
	$(BIN)/pip install --quiet -c constraints.txt -e ".[mutation]"
	$(BIN)/python eval/mutation/run.py --output eval/mutation/result.json

toy: $(VENV)/installed  ## the paper's toy figures and the studies of Γ again, into eval/toy/
	PATH="$(CURDIR)/$(BIN):$$PATH" sh eval/toy/run.sh

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

# SAEBench needs older versions than the rest, and its packages ask for more than they use: see
# requirements-saebench.txt, which is in the package so that `wsae bench` can name it.
$(SAEBENCH)/installed: pyproject.toml $(wildcard $(SAEBENCH_FILES)/*-saebench.txt)
	$(PYTHON) -m venv $(SAEBENCH)
	$(SAEBENCH)/bin/pip install --quiet -c $(SAEBENCH_FILES)/constraints-saebench.txt torch
	$(SAEBENCH)/bin/pip install --quiet -r $(SAEBENCH_FILES)/requirements-saebench.txt
	$(SAEBENCH)/bin/pip install --quiet --no-deps -c $(SAEBENCH_FILES)/constraints-saebench.txt sae-bench==0.6.0 sae-probes
	$(SAEBENCH)/bin/pip install --quiet -c $(SAEBENCH_FILES)/constraints-saebench.txt -e . pytest pytest-timeout pytest-xdist hypothesis
	touch $@

clean:
	rm -rf $(VENV) $(SAEBENCH) .pytest_cache .ruff_cache .hypothesis
