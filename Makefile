# One command per chore; `make help` lists them. Every command runs without make too.
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
PYTHON ?= python3
PARTS := operator sidecar runtime
STAMP := $(VENV)/.ready

.PHONY: help setup demo test lint fmt lock bench proto clean e2e cluster cluster-down
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## a .venv with everything, from the hash-pinned lists
$(STAMP): requirements/dev.txt requirements/uv.txt pyproject.toml $(PARTS:%=%/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(UV) pip sync -q --python $(BIN)/python --require-hashes requirements/dev.txt requirements/uv.txt
	$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e . $(PARTS:%=-e ./%)
	@touch $@

demo: $(STAMP) ## seal, serve from memory, ask, revoke: the whole story in one go
	$(BIN)/modelseal demo

test: lint ## everything that proves it works
	$(BIN)/pytest $(T)

lint: $(STAMP) ## style, types and the import law
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## write the style instead of checking it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

LOCK = $(UV) pip compile -q --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock"
lock: $(STAMP) ## compile the hash-pinned requirement lists anew
	$(LOCK) requirements/uv.in -o requirements/uv.txt
	for list in dev $(PARTS); do \
	  $(LOCK) requirements/$$list.in -o requirements/$$list.txt \
	    --no-emit-package modelseal $(PARTS:%=--no-emit-package modelseal-%); \
	done
	for list in triton kserve schemathesis; do $(LOCK) tests/clients/$$list.in -o tests/clients/$$list.txt; done
	$(LOCK) --no-deps tests/clients/models.in -o tests/clients/models.txt

e2e: $(STAMP) ## the tests on a real cluster alone
	$(BIN)/pytest -m kind tests/e2e_kind $(T)

cluster: $(STAMP) ## a kind cluster with OpenBao, the chart and a served model, to play with
	PYTHONPATH=tests $(BIN)/python -m support.play up

cluster-down: $(STAMP) ## remove that cluster
	PYTHONPATH=tests $(BIN)/python -m support.play down

bench: $(STAMP) ## the benchmarks, side by side in one run, with plots
	$(BIN)/python -m bench

proto: $(STAMP) ## generate the protocol's message classes from its .proto file
	$(BIN)/python -m grpc_tools.protoc -I runtime/src --python_out=runtime/src \
	  --pyi_out=runtime/src runtime/src/modelseal_runtime/proto/open_inference.proto
	sed -i '1i # mypy: disable-error-code="type-arg"' runtime/src/modelseal_runtime/proto/*.pyi

clean: ## remove the environment and every cache in the checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
