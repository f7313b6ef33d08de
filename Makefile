# The two commands of a fresh clone: `make demo` and `make test`. They need git, make and Python >= 3.11.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOCK   := requirements/lock.txt
EXPORTS := requirements/exports.txt
RIVALS := requirements/rivals.txt
STAMP  := $(VENV)/.ravine-env

# Compiled programs are kept between test runs; two thirds of a cold run is compilation.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

# Tests are bound by compilation, which leaves a second core idle: `make test JOBS=4` on a larger machine.
JOBS ?= 2

.PHONY: help env demo test rivals lint format bench suite lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

env: $(STAMP)  ## create .venv from the lock file

# --no-build-isolation: the build backend comes from the lock file too, nothing unpinned is fetched.
$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(sys.version_info < (3, 11) and \
	  "ravine needs Python >= 3.11, $(PYTHON) is " + v + "; name another one: make env PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What only tests need (of `ravine export`, and scikit-learn as an oracle), so that `make demo` does not wait for it.
$(VENV)/.ravine-exports: $(STAMP) $(EXPORTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(EXPORTS)
	@touch $@

demo: env  ## four methods on two problems, 20 s each, and a report
	$(BIN)/ravine compare poisson2d,burgers1d --methods adam,lbfgs,ssbroyden,lm --budget 20s --seeds 1

test: env $(VENV)/.ravine-exports  ## all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

rivals: .venv-suite/.ravine-env  ## the tests of other libraries' optimizers, which `make test` skips, with the libraries
	.venv-suite/bin/python -m pytest -n $(JOBS) --dist worksteal tests/test_rival_functions.py tests/test_rivals.py tests/test_rivals_cli.py

lint: env  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check src

format: env  ## apply the format and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: env  ## the benchmarks (hours on an idle machine); each file in benchmarks/ says what it measures
	$(BIN)/python benchmarks/false_claims.py
	$(BIN)/python benchmarks/first_order.py
	$(BIN)/python benchmarks/finite_sums.py
	$(BIN)/python benchmarks/lm_step.py
	$(BIN)/python benchmarks/optax_overhead.py
	$(BIN)/python benchmarks/quasi_newton.py
	$(BIN)/python benchmarks/twins.py
	$(BIN)/python benchmarks/soap_step.py
	$(BIN)/python benchmarks/report_page.py
	$(BIN)/python benchmarks/ladder.py
	$(BIN)/python benchmarks/accuracy.py run
	$(BIN)/python benchmarks/accuracy.py table

# With the other libraries' optimizers, at the versions of docs/rivals.md, in an environment of its own.
suite: .venv-suite/.ravine-env  ## what is missing of the suite (about a day in all; `make suite FOR=2h` for a part of it)
	.venv-suite/bin/python benchmarks/suite.py run --for $(or $(FOR),1000h)

.venv-suite/.ravine-env: $(RIVALS) pyproject.toml
	test -x .venv-suite/bin/python || $(PYTHON) -m venv .venv-suite
	.venv-suite/bin/python -m pip install --quiet --disable-pip-version-check -r $(RIVALS)
	.venv-suite/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	.venv-suite/bin/python -m pip install --quiet --disable-pip-version-check --no-deps scimba==1.4.1
	@touch $@

# --fork-strategy fewest: one version of a package for all Pythons (requirements/README.md says why).
lock:  ## write the files in requirements/ anew (needs uv)
	$(COMPILE) --group dev --upgrade --output-file $(LOCK)
	$(COMPILE) --group dev --group exports --constraints $(LOCK) --upgrade --output-file $(EXPORTS)
	$(COMPILE) --group dev --extra rivals --constraints $(LOCK) --upgrade --output-file $(RIVALS)

COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --fork-strategy fewest --no-config --no-annotate \
  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --quiet

clean:  ## remove the environment and all caches
	rm -rf $(VENV) .venv-suite .jax_cache .pytest_cache .ruff_cache .hypothesis
