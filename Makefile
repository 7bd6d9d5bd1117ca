# `make demo` and `make test` do all their own set-up; `make help` lists everything.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

# ROS 2 processes that this file starts talk to each other on this machine only.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
# Where it is set, each process of the tests would compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast check lint fmt bench site clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(STAMP)  ## create .venv with everything that is needed

$(STAMP): setup.py constraints.txt scripts/setup.sh
	@scripts/setup.sh $(VENV)
	@touch $@

demo: $(STAMP)  ## from nothing to a driving robot: runs/demo/index.html
	@$(BIN)/dql demo --out runs/demo

# The tests of a file run in one process. Many wait for a node's next period: four processes keep
# two cores busy.
TEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

# Under load DDS may lose the answer of a service that has just been discovered: a test that waited
# for one in vain is run once more, and told as such. Nothing else is.
# Types are checked beside the tests: it takes one core, from nothing for more than half a minute.
test: lint  ## lint, types and the whole test suite
	@found=$$(mktemp); $(BIN)/mypy > $$found 2>&1 & types=$$!; \
	$(TEST) -n 4 --reruns 1 --only-rerun "waited in vain"; failed=$$?; \
	wait $$types || failed=1; cat $$found; rm -f $$found; exit $$failed

test-fast: $(STAMP)  ## the tests that take a minute together: no ROS processes, no training
	@$(TEST) -n 2 -m "not ros and not slow and not realdata"

check: lint  ## lint and types
	@$(BIN)/mypy

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

fmt: $(STAMP)  ## format the code and mend what lint can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The others train for hours, or soak for one: each says how it is run.
BENCHMARKS := update selection data_memory convert.speed convert.memory convert.workers \
	control.start control.lockstep control.timing

bench: $(STAMP)  ## run the benchmarks that take minutes, and print what they measure
	@set -e; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name; done

site: $(STAMP)  ## the documentation as a site that needs no network: build/site/index.html
	@NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mkdocs build --quiet

clean:  ## remove the environment and all that was produced
	rm -rf $(VENV) runs build install log
