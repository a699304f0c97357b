# make demo      the whole road on a synthetic survey      make test      the quick tests
# make test-all  all tests of CI: also slow, and browser   make lint      style
# make soak      larger, and again and again: before a release, an hour or more
# make rehearsal  cluster-onprem.yaml on three pretended machines
# make docs      the documents as a website, in site/      make notebooks  runs its notebooks again
# make audit     security: the code, and known vulnerabilities of the pinned packages (asks PyPI)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONUNBUFFERED := 1
PYTEST := $(BIN)/python -m pytest
# Tests marked alone start Ray, one after the other; all others share the cores.
# worksteal: a file's tests stay together, so that what they share is made once, and no long one is left for the end.
SHARED := $(PYTEST) --numprocesses auto --dist worksteal
CHECKS := not soak and not machines
QUICK := $(CHECKS) and not slow and not browser

.PHONY: install demo test test-all soak rehearsal lint docs notebooks audit clean

install: $(VENV)/installed

# The stamp is written last: an interrupted installation is taken up again, a finished one is re-used.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "salt-ray needs Python 3.11 or newer; name one with make PYTHON=/path/to/python3.11")'
	@echo 'installing into $(VENV): one to three minutes'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[weights,test,bench]'
	@touch $@

demo: install
	@$(BIN)/python launch.py demo

test: install
	$(SHARED) -m "not alone and $(QUICK)"
	$(PYTEST) -m "alone and $(QUICK)"

# What make test runs is among them.
test-all: install
	$(SHARED) -m "not alone and $(CHECKS)"
	$(PYTEST) -m "alone and $(CHECKS)"

soak: install
	$(PYTEST) -s -m "soak or machines or browser"

# Three machines of network namespaces, ray up, and what a cluster goes through: as root, on Linux, 10 to 20 minutes.
rehearsal: install
	$(PYTEST) -s -m machines

lint: install
	$(BIN)/ruff check .

# A warning is an error: a link that leads nowhere, a name that is not there.
docs: $(VENV)/docs
	$(BIN)/python -m sphinx -E -W --keep-going --quiet -c docs . site
	@echo 'open site/index.html'

# Runs docs/notebooks and stores what their cells show: after a change that the pictures show.
notebooks: $(VENV)/docs
	$(BIN)/python docs/notebooks/execute.py

$(VENV)/docs: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

# --strict: a package that PyPI tells nothing about is a failure; without it an unreachable PyPI would look like a clean bill.
audit: install
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive salt_ray launch.py experiments benchmarks
	$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off --requirement constraints.txt

clean:
	rm -rf $(VENV) build site *.egg-info
