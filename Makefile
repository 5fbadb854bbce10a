PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test coverage lint typecheck docs dist test-faults test-benchmarks test-long fuzz audit test-container \
	test-slurm test-datalad test-shared-out test-cluster

$(VENV)/installed: setup.cfg constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[tests,docs,dev]"
	touch $@

demo: $(VENV)/installed
	rm -rf demo
	$(BIN)/python -m rela_bids.phantom demo/bids --subjects 2 --seed 1 --voxel-size 2 --tracers 18FAV45 18FAV1451
	$(BIN)/rela_bids demo/bids demo/out participant -w demo/work
	@echo; echo "The reports: $(CURDIR)/demo/out/sub-01.html and sub-02.html"

# A file stays on one worker: its fixtures are made once. (xdist groups do nothing with pytest 9.)
test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not very_slow"

# As `test`, and fails below the share of lines that setup.cfg asks for.
coverage: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not very_slow" --cov --cov-report=term:skip-covered

# A wheel and a source distribution, and the wheel tried outside the checkout.
dist: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m pytest -m very_slow tests/test_distribution.py

# Into docs/_build/html. The graphs need Graphviz: apt-get install graphviz.
docs: $(VENV)/installed
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "The documentation: $(CURDIR)/docs/_build/html/index.html"

typecheck: $(VENV)/installed
	$(BIN)/mypy

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell README.md CHANGES.md CONTRIBUTING.md docs rela_bids workflows tests

# Kills, full disks, lost workers: RELA_BIDS_KILLS moments each, at most 20 minutes.
test-faults: $(VENV)/installed
	timeout --kill-after=60 1200 $(BIN)/python -m pytest tests/test_faults.py -m very_slow -x

# All systems of benchmarks/compare.py, trained for two seconds each.
test-benchmarks: $(VENV)/installed
	$(BIN)/python -m pytest tests/test_benchmarks.py -m very_slow

# Memory over RELA_BIDS_SESSIONS sessions in one run, at most 60 minutes.
test-long: $(VENV)/installed
	timeout --kill-after=60 3600 $(BIN)/python -m pytest tests/test_long_run.py -m very_slow -s

# Coverage-guided, two minutes; what it finds is written to a file that replays it.
fuzz: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[fuzz]"
	PYTHONPATH=. $(BIN)/python tests/test_fuzz.py -max_total_time=120 -timeout=20

# Known vulnerabilities of the pinned packages; asks pypi.org, and fails where that is not reached.
audit: $(VENV)/installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[audit]"
	$(BIN)/pip-audit --strict --disable-pip --no-deps -r constraints.txt
# Below: what needs root and Debian's packages, and is not part of `make test`; see CONTRIBUTING.md.
BUILD_IMAGE ?= $(firstword $(wildcard ../shared/tools/build-image) tests/cluster/build-image)
VERY_SLOW := $(BIN)/python -m pytest -v -m very_slow
install_debian = dpkg -s $(1) >/dev/null 2>&1 || { apt-get update -q && apt-get install -y -q --no-install-recommends $(1); }

test-container: $(VENV)/installed
	$(call install_debian,buildah debootstrap)
	root=$$($(BUILD_IMAGE) . rela_bids | tail -1) && \
		RELA_BIDS_IMAGE_ROOT=$$root $(VERY_SLOW) tests/test_container.py

test-slurm: $(VENV)/installed
	$(call install_debian,slurm-wlm munge)
	$(VERY_SLOW) tests/test_slurm.py

test-datalad: $(VENV)/installed
	$(call install_debian,datalad git-annex)
	$(VERY_SLOW) tests/test_datalad.py

test-shared-out: $(VENV)/installed
	$(VERY_SLOW) tests/test_shared_out.py

test-cluster: test-container test-slurm test-datalad test-shared-out
