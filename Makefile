# `make demo` and `make test` do all of their own set-up, in .venv, and are quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEBIAN := /usr/share/datasets/fashion-mnist
DATA ?= $(DEBIAN)

# Containers set it; each process that starts would compile all of this project's Python again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo fashion test docs bench lint format dist clean

demo: $(VENV)/ready
	$(BIN)/python -m experiments.digits

# Some minutes a seed on two cores; what ended stays. ARGS='--seeds 10'; DATA=/path, of the four files
fashion: $(filter $(DEBIAN),$(DATA)) $(VENV)/ready
	$(BIN)/python -m experiments.fashion_mnist published --data-path '$(DATA)' $(ARGS)

test: lint
	$(BIN)/python -m pytest --numprocesses=auto --doctest-modules --doctest-glob='*.md' \
		fedjax_ecgr tests README.md
	$(BIN)/python -m tests.reference

# The site; it executes the gallery's notebooks
docs: $(VENV)/ready
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo docs/_build/html/index.html

# Against other simulators, which it installs; ARGS='--quick', ARGS='--rows lenet-torch memory' …
bench: $(VENV)/ready
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A wheel and what it is built from, in dist/.
dist: $(VENV)/ready
	rm -rf dist *.egg-info
	$(BIN)/uv --system-certs build

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: $(PYTHON) is older than 3.11; try: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Fashion-MNIST, by a package of the distribution's where that can be installed.
$(DEBIAN):
	@as=$$(test "$$(id -u)" = 0 || echo sudo -n); \
	if command -v apt-get >/dev/null && $$as true 2>/dev/null; then \
		$$as apt-get -qq update; $$as apt-get -qq install --yes dataset-fashion-mnist; \
	fi; \
	test -d $@ || { echo "error: no Fashion-MNIST in $@: sudo apt-get install dataset-fashion-mnist" \
		"(Debian, Ubuntu), or a folder of the four published files: make fashion DATA=/path" >&2; exit 1; }

clean:
	rm -rf $(VENV) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
