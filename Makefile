PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test lint types unit timm docs release clean

demo: $(VENV)/.demo  ## compare all methods on the toy data set and write expedit-report/report.html
	$(BIN)/expedit compare

test: lint types unit  ## everything that continuous integration runs

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)  ## one process per core, each with one thread: the networks of the tests are small
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

timm: $(STAMP)  ## the laws over timm's networks; timm and torchvision lie apart, or transformers would see them
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/timm timm==1.0.31 torchvision==0.28.0
	PYTHONPATH=$(VENV)/timm $(BIN)/pytest tests/laws/test_timm.py

docs: $(VENV)/.docs  ## the documentation site in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) expedit-report

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(STAMP): $(VENV)/.demo
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.docs: $(STAMP)
	$(PIP) -e '.[docs]'
	touch $@
