# make run   set everything up from nothing, then train, align and print the table (ARGS="--preset smoke" is quick)
# make test  set everything up from nothing, then run the tests
# make kills kill what writes 30 times, at random, and compare with unbroken work (ARGS="--kills 300" for a night)
# make fuzz  random programs and damaged files (ARGS="--programs 10000" for a night)
# make nightly the long tests, then kills, full disks, random programs, damaged files, bad inputs, counted for the page on reliability
# make bounds  lowest and newest versions of all dependencies, wheel and sdist, each in an environment of its own
# make lint  style, types, generated tables, and that the documentation builds
# make docs  the documentation, into build/site
PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
BIN := .venv/bin
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
INSTALLED := .venv/.installed

.PHONY: help install run test kills nightly bounds fuzz lint docs format clean

help:
	@sed -n 's/^# //p' Makefile

install: $(INSTALLED)

run: $(INSTALLED)
	$(BIN)/python experiments/train_mlp.py $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

kills: $(INSTALLED)
	$(BIN)/python -m tests.nightly --programs 0 --files 0 --no-inputs --no-disks --no-packages $(ARGS)

nightly: $(INSTALLED)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m long
	$(BIN)/python -m tests.nightly $(ARGS)

bounds: $(INSTALLED)
	$(BIN)/python -m tests.bounds $(ARGS)

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy dwalign experiments
	$(BIN)/python -m dwalign.report --check $(wildcard README.md docs/*.md docs/*/*.md)
	$(MKDOCS) build --strict

docs: $(INSTALLED)
	$(MKDOCS) build --strict

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The stamp is written last: an interrupted installation is repeated, a finished one is not.
$(INSTALLED): setup.cfg requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
