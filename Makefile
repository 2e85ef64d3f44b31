# make figures   set up and regenerate every figure       make test     set up and run everything CI runs
# make lab       open the notebooks in JupyterLab         make help     all targets
VENV := .venv
BIN := $(VENV)/bin
PY ?= python3
UV := $(shell command -v uv 2>/dev/null)
JOBS ?= 2
ifneq ($(UV),)
INSTALL := $(UV) pip install --compile-bytecode --python $(BIN)/python -c requirements.lock
else
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c requirements.lock
endif
export FLATDYN_PROGRESS ?= 0

.DEFAULT_GOAL := help
.PHONY: help figures test thorough lab notebooks pages site lock bench browser drag fuzz kills mutations draws packages portability format clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

# The stamp is written last: an interrupted set-up is taken up again by the next make.
$(VENV)/.ready: pyproject.toml requirements.lock
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "flatdyn needs Python 3.11 or newer; '$(PY)' is older. Choose one: make PY=python3.12 ..."; exit 1; }
	@echo "setting up $(VENV): some 150 packages, some 260 MB to download if none is at hand, 1.3 GB on disk;"
	@echo "from one to five minutes, once$(if $(UV),, (faster with uv: https://docs.astral.sh/uv/))"
	$(if $(UV),$(UV) venv -q --allow-existing --python $(PY) $(VENV),$(PY) -m venv $(VENV))
	$(INSTALL) -e ".[notebooks,test]"
	touch $@

figures: $(VENV)/.ready ## renew every figure that is not up to date (ONLY=03 for one notebook, FORCE=1 for all)
	$(BIN)/python figures/regenerate.py $(if $(ONLY),--only $(ONLY)) $(if $(filter-out 0,$(FORCE)),--force) $(ARGS)

test: $(VENV)/.ready ## everything CI runs: style, tests, all notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow"

thorough: $(VENV)/.ready ## the tests with their further, longer cases, compiled as users do
	FLATDYN_PLAIN=1 $(BIN)/python -m pytest -q -n $(JOBS) tests

lab: $(VENV)/.ready ## open copies of the notebooks in JupyterLab (ARGS="--port 8899 --no-browser --allow-root")
	$(BIN)/python figures/lab.py $(ARGS)

notebooks: $(VENV)/.ready ## renew the notebooks' stored output (quick preset)
	$(BIN)/python figures/regenerate.py --store $(if $(ONLY),--only $(ONLY))

site: $(VENV)/.ready ## pages of README, notebooks, ledger and reference, to be searched, in build/site/html
	@$(BIN)/python -c "import furo, math_core, myst_nb" 2>/dev/null || $(INSTALL) -e ".[site]"
	$(BIN)/python figures/website.py $(ARGS)

fuzz: $(VENV)/.ready ## 10,000 calls with odd arguments; goes on where it was stopped (FUZZ="--x32 --seed 1")
	$(BIN)/python tests/fuzz.py $(FUZZ)

bench: $(VENV)/.ready ## ratios against peers, and whether one has fallen; ten minutes (ARGS=--store keeps them)
	@$(BIN)/python -c "import numba" 2>/dev/null || $(INSTALL) -e ".[bench]" || \
	  echo "the rivals could not be installed: what is compared with them is left out"
	$(BIN)/python tests/benchmarks/record.py $(ARGS)

browser: $(VENV)/.ready ## open and run the notebooks in JupyterLab in a real browser (ARGS="--only 01")
	@$(BIN)/python -c "import playwright" 2>/dev/null || $(INSTALL) -e ".[browser]"
	$(BIN)/python tests/browser.py $(ARGS)

packages: $(VENV)/.ready ## compare with what others train with, as installed: optimisers, samplers, networks (some GB to install)
	@$(BIN)/python -c "import flax, haiku, torch" 2>/dev/null || $(INSTALL) -e ".[packages]"
	$(BIN)/python tests/elsewhere.py
	$(BIN)/python -m pytest -q -rs -k "torch or flax" tests/test_elsewhere.py
	$(BIN)/python tests/packages_real.py $(ARGS)

kills: $(VENV)/.ready ## kill -9 and full disks, ten of each for all work that keeps what is finished
	$(BIN)/python tests/kills.py

mutations: $(VENV)/.ready ## put mistakes into the library and see which the tests notice (ARGS="--number 200")
	$(BIN)/python tests/mutations.py $(ARGS)

draws: $(VENV)/.ready ## whether the normal numbers are normal, over 10⁹ of them (ARGS="--draws 1e8")
	$(BIN)/python tests/draws.py $(ARGS)

pages: $(VENV)/.ready ## renew what is made from the results alone: Answers, ledger, gallery; runs nothing
	$(BIN)/python figures/regenerate.py --pages

lock: $(VENV)/.ready ## renew requirements.lock from pyproject.toml
	$(if $(UV),,$(BIN)/python -m pip install -q --disable-pip-version-check uv)
	$(if $(UV),$(UV),$(BIN)/python -m uv) pip compile -q --universal --python-version 3.11 --all-extras --no-header \
	  --no-annotate --upgrade pyproject.toml -o requirements.lock

portability: $(VENV)/.ready ## all under other instruction sets, kernels, Pythons: hours (ARGS="--row AVX2", --list)
	$(BIN)/python tests/portability.py $(ARGS)

drag: $(VENV)/.ready ## drag the explorer in JupyterLab in a real browser, measure it and compare (ARGS="--moves 50")
	@$(BIN)/python -c "import playwright" 2>/dev/null || $(INSTALL) -e ".[browser]"
	$(BIN)/python tests/drag.py $(ARGS)

format: $(VENV)/.ready ## format code and notebooks
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environment and caches, keep figures and the copies in build/lab
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .hypothesis $(filter-out build/lab,$(wildcard build/*))
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
