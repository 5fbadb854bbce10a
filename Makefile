PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean-demo

$(VENV)/installed: setup.cfg constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[tests,dev]"
	touch $@

demo: $(VENV)/installed
	rm -rf demo
	$(BIN)/python -m rela_bids.phantom demo/bids --subjects 2 --seed 1 --voxel-size 2 --tracers 18FAV45 18FAV1451
	$(BIN)/rela_bids demo/bids demo/out participant -w demo/work
	@echo; echo "The reports: $(CURDIR)/demo/out/sub-01.html and sub-02.html"

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not very_slow"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell README.md CHANGES.md CONTRIBUTING.md docs rela_bids workflows tests
