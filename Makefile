# The commands that contributors need; `make` lists them. Uses .venv where there is one.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help check lint check-code check-format check-types test docs check-docs notebooks bench dist

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: lint test ## lint, types and tests

lint: check-code check-format check-types ## code, format and types

check-code: ## ruff check
	$(PYTHON) -m ruff check .

check-format: ## ruff format, changing nothing
	$(PYTHON) -m ruff format --check .

check-types: ## mypy
	$(PYTHON) -m mypy --strict

test: ## all tests on every core; some of them: make test ARGS="tests/store -x"
	$(PYTHON) -m pytest -n auto $(ARGS)

docs: ## build the site of the documentation, offline, into site/
	$(PYTHON) docs/build.py $(ARGS)

check-docs: ## run the code in README, docs and CONTRIBUTING, and check what they name and link to
	$(PYTHON) -m pytest -q tests/test_readme.py tests/test_contributing.py tests/docs $(ARGS)

notebooks: ## execute the notebooks of docs and renew their outputs; some: make notebooks ARGS="leaks"
	$(PYTHON) docs/renew_notebooks.py $(ARGS)

bench: ## how fast loaders are; other programs and options are in benchmarks/
	$(PYTHON) benchmarks/loaders.py $(ARGS)

dist: ## build wheel and sdist into dist/, check them, and fit with the wheel in a new environment
	PYTHON=$(PYTHON) bash scripts/dist.sh
