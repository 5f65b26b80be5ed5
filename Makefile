# Each target calls one real command; all set-up happens on the way and is skipped when it is current.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)

.PHONY: setup demo compare test lint fmt bench config lock slurm-up slurm-down clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-index --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	snakemake all
	av-pipeline table

# The demo, then the other methods at its cost beside it in one report.
compare: demo
	snakemake --configfile config/experiments/avdigits_methods.yaml -- all
	av-pipeline table

test: setup
	python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: setup
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	python -m pipeline_src.config.generate --check
	python -m pipeline_src stages --check
	pyright

fmt: setup
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

bench: setup
	python benchmarks/preprocess.py

config: setup
	python -m pipeline_src.config.generate
	python -m pipeline_src stages --write

lock:
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --extra pages --extra dev \
		pyproject.toml -o requirements.lock

# A real three-node Slurm on this machine; says how to install Slurm where it is missing.
slurm-up: setup
	@python -m tests.slurm.cluster up

slurm-down: setup
	@python -m tests.slurm.cluster down

# Caches and the test run only: results/ holds downloads and checkpoints.
clean:
	rm -rf results/test .pytest_cache .ruff_cache
