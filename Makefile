# Everything the project can do with itself. `make help` lists it.
# Each target installs what it needs: Debian packages (as root) and a virtual environment in this clone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Which Python makes the virtual environment.
export PYTHON ?= python3
# Guests at a time; each takes one CPU and up to 1 GiB.
GUESTS ?= 2
# Unit test processes.
JOBS ?= $(shell nproc)
# Further arguments for pytest, for example: make unit ARGS='-k torn'
ARGS ?=
# Which measurements `make bench` takes: a pattern searched in their names; empty takes all.
BENCH ?=

# What takes a sample of its faults in make unit.
fault_tests := tests/reconcile/test_real_sync.py tests/reconcile/test_sync_among_others.py \
	tests/reconcile/test_provider_faults.py \
	tests/faults/test_kills.py tests/faults/test_among_others.py tests/faults/test_orphan_spares.py \
	tests/faults/test_io_errors.py

bin := .venv/bin
pytest := $(bin)/python -m pytest
say := @printf '==> %s\n'

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: venv vm-packages ## a VM with a blank disk: install, encrypt, write, reboot, read it again
	$(say) 'demo: one virtual machine, one blank disk, two boots'
	@$(bin)/python vm-tests/demo.py

# One after the other, so that the first failure is the last thing on the screen.
.PHONY: test
test: ## everything: check, unit and vm-test
	@$(MAKE) check
	@$(MAKE) unit ARGS='--ignore=tests/house $(ARGS)'
	@$(MAKE) vm-test
	$(say) 'all tests passed'

.PHONY: check
check: venv ## lint, format, types, import contracts, and the tests on the source itself
	$(say) 'ruff: lint'
	@$(bin)/ruff check .
	$(say) 'ruff: format'
	@$(bin)/ruff format --check .
	$(say) 'mypy --strict'
	@$(bin)/mypy
	$(say) 'import contracts'
	@$(bin)/lint-imports
	$(say) 'tests on the source and the documents'
	@$(pytest) tests/house

.PHONY: unit
unit: venv ## tests/: the real libcryptsetup on image files, no root, no network
	$(say) 'unit tests, $(JOBS) at a time'
	@$(pytest) tests -n $(JOBS) $(ARGS)

.PHONY: vm-test
vm-test: venv vm-packages ## vm-tests/: stories in virtual machines, with dm-crypt, systemd and power cuts
	$(say) 'stories in virtual machines, $(GUESTS) at a time'
	@$(pytest) vm-tests -v -n $(GUESTS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: faults
faults: venv vm-packages ## every power cut that make unit and vm-test take a sample of (SEED=… chooses which)
	$(say) 'kills, other programs in between, and failing providers, all of them'
	@FAULTS=all $(pytest) $(fault_tests) -n $(JOBS) -o timeout=1200
	$(say) 'power cuts at every write, on image files; the table goes into docs/reliability.md'
	@$(bin)/python -m tests.faults
	$(say) 'power cuts and disk errors in virtual machines, all of them'
	@FAULTS=all $(pytest) vm-tests/test_power_cuts.py vm-tests/test_sealing_cuts.py \
		vm-tests/test_reencrypt.py vm-tests/test_in_place.py vm-tests/test_reset.py \
		vm-tests/test_disk_errors.py -v -n $(GUESTS) --dist load $(ARGS)

.PHONY: bench
bench: venv vm-packages ## measure against the cryptsetup command, into build/bench.json; BENCH=pattern takes some
	$(say) 'measuring; a busy machine spoils this'
	@$(bin)/python -m tests.bench '$(BENCH)'

.PHONY: wheel
wheel: venv ## build the wheel into dist/: one file for Python 3.11 and later, libcryptsetup 2.4 to 2.8
	$(say) 'building the wheel'
	@rm -rf build/lib build/bdist.*  # setuptools would pack files that are gone from the tree
	@$(bin)/python -m pip wheel --disable-pip-version-check --no-deps --wheel-dir dist .
	$(say) "built: $$(ls -t dist/*.whl | head -n 1)"

.PHONY: upgrade
upgrade: packages ## take the newest versions of all tools and note them in .ci/constraints.txt
	@printf '# Versions the project is known to pass with; `make upgrade` renews them.\n' >.ci/constraints.txt
	@.ci/venv
	@$(bin)/python -m pip freeze --exclude-editable >>.ci/constraints.txt
	$(say) 'noted in .ci/constraints.txt: run make test before you commit it'

.PHONY: clean
clean: ## remove everything made here: .venv, build, dist, the guest image
	$(say) 'removing .venv, build, dist and caches'
	@rm -rf .venv build dist .cache .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info
	@find luksctl native tests vm-tests examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	@rm -f luksctl/cryptsetup/*.so

# Internal: what the others need. Both are quick and silent when nothing is missing.
.PHONY: packages vm-packages venv
packages:
	@.ci/apt .ci/packages.txt
vm-packages: packages
	@.ci/apt vm-tests/packages.txt
venv: packages
	@.ci/venv
