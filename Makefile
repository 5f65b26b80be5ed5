# Each target calls one real command; all set-up happens on the way and is skipped when it is current.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
# pip would use one core; all of them need /dev/shm.
COMPILE_ALL := $(BIN)/python -m compileall -qq
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile
# Of torch's CUDA build, what no CPU needs: the rest is linked into it and has to stay.
CUDA_ON_DEMAND := triton nvidia-cusolver nvidia-cuda-nvrtc nvidia-nvtx cuda-bindings cuda-pathfinder
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)
# Images that forbid it make every process compile this project anew, pytest the tests as well.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup setup-dev setup-cpu demo compare test test-all check soak lint fmt bench gpu config lock slurm-up slurm-down clean

setup: $(READY)
	@echo "Ready. For the commands of the README, activate the environment in this shell:  . $(BIN)/activate"

# What the tests and checks need on top.
setup-dev: $(READY_DEV)

# For a machine without a GPU, to save disk.
setup-cpu: $(READY)
	$(BIN)/python -m pip uninstall --disable-pip-version-check --quiet --yes $(CUDA_ON_DEMAND)

define install
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --require-hashes -r $(1)
	$(COMPILE_ALL) -j 0 $(VENV)/lib || $(COMPILE_ALL) $(VENV)/lib || true
	$(PIP_INSTALL) --no-index --no-deps --no-build-isolation --editable .
	python -m pipeline_src setup
endef

$(READY): requirements.lock pyproject.toml
	$(call install,requirements.lock)
	touch $@

$(READY_DEV): requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock)
	touch $(READY) $@

demo: $(READY)
	AV_PIPELINE_TABLE=no snakemake all
	av-pipeline table
	@echo "Search the clips by sound and picture:  . $(BIN)/activate && av-pipeline serve results/avsiam_tiny"

# The demo, then the other methods at its cost beside it in one report.
compare: demo
	AV_PIPELINE_TABLE=no snakemake --configfile config/experiments/avdigits_methods.yaml -- all
	av-pipeline table

# On two cores it has to end within 35 minutes, so further cases of a kind wait for test-all.
# Three workers share them, so none needs more than one thread of its own.
PYTEST := OMP_NUM_THREADS=1 python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder
test: $(READY_DEV)
	$(PYTEST) -m "not exhaustive"

test-all: $(READY_DEV)
	$(PYTEST)

# What a commit waits for: see .pre-commit-config.yaml.
check: lint
	python -m pytest --numprocesses 2 --dist loadfile -m "not slow" tests

# Ten minutes of kills, pauses, full disks and flipped bits; the results must not show any of it.
soak: $(READY_DEV)
	python -m tests.soak --json results/test/soak.json

lint: $(READY_DEV)
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	python workflow/lint.py
	python -m pipeline_src config --check
	python -m pipeline_src stages --check
	pyright

fmt: $(READY_DEV)
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# On one GPU, at most nine minutes; called again, it does what is missing.
gpu: $(READY)
	python benchmarks/gpu.py

bench: $(READY)
	python benchmarks/preprocess.py

config: $(READY)
	python -m pipeline_src config --write
	python -m pipeline_src stages --write

# The second is a part of the first, at the same versions.
UV_COMPILE = $(BIN)/python -m uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --no-annotate --extra pages pyproject.toml
lock:
	$(PIP_INSTALL) uv
	$(UV_COMPILE) --extra dev --extra export -o requirements-dev.lock
	$(UV_COMPILE) -c requirements-dev.lock -o requirements.lock

# A real three-node Slurm on this machine; says how to install Slurm where it is missing.
slurm-up: $(READY_DEV)
	@python -m tests.slurm.cluster up

slurm-down: $(READY_DEV)
	@python -m tests.slurm.cluster down

# Caches and the test run only: results/ holds downloads and checkpoints.
clean:
	rm -rf results/test .pytest_cache .ruff_cache
