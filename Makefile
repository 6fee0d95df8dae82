PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/expedit/__init__.py)
PIP := PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test lint types unit timm docs dist release clean

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

dist: $(STAMP)  ## sdist and wheel, checked, and the wheel tried alone in an environment of its own
	$(PIP) -e '.[full]'
	rm -rf dist build/alone
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	find dist -name '*.whl' -size +8192k -exec sh -c 'echo "larger than 8 MB: $$1"; exit 1' _ {} +
	$(PYTHON) -m venv build/alone
	PIP_CONSTRAINT=constraints.txt build/alone/bin/pip install --quiet --disable-pip-version-check dist/*.whl
	build/alone/bin/pip check
	cd build/alone && bin/expedit doctor && bin/expedit compare --limit 4

release: test docs  ## everything before a tag: tests, site, changelog, packages; what is left is to tag and to upload dist/
	@grep -q '^## \[$(VERSION)\] - ' CHANGELOG.md || { echo 'CHANGELOG.md: expected a section "## [$(VERSION)] - DATE"'; exit 1; }
	@grep -q '^version: $(VERSION)$$' CITATION.cff || { echo 'CITATION.cff: expected version: $(VERSION)'; exit 1; }
	$(MAKE) dist

clean:
	rm -rf $(VENV) build dist expedit-report

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
