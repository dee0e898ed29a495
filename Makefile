# The commands of the project; CI calls these names only. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUF := $(BIN)/buf
ARGS ?=
# Depth of `make e2e`.
LEVEL ?= 1
IMAGES = $(or $(MARKETFEED_CACHE),$(HOME)/.cache/marketfeed)/images/archives
LOCALCLUSTER = PYTHONPATH=k8s/cluster $(BIN)/python -m localcluster
# Bytecode is kept whatever the machine's habit: without it every process of the demo and every test compiles its imports.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test e2e test-unit simulate lint format bench proto crd lock ui ui-test images images-extra clean charts charts-docs
.PHONY: cluster cluster-build cluster-down

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.uv: requirements/bootstrap.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

$(VENV)/.local: $(VENV)/.uv requirements/local.txt pyproject.toml
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/local.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.local requirements/dev.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

setup: $(VENV)/.dev  ## install everything into .venv, with hashes checked

demo: $(VENV)/.local  ## real Kafka, Valkey and PostgreSQL, a generator, and the live page (ARGS="--rate 1000")
	$(BIN)/marketfeed demo $(ARGS)

test: setup  ## all tests: unit, integration on real servers, browser, end to end
	$(BIN)/pytest -q -n auto tests/unit $(ARGS)
	$(BIN)/pytest tests/integration tests/e2e --ignore tests/e2e/cluster $(ARGS)

e2e: setup  ## end to end on Kubernetes: KUBECONFIG's cluster, else the local one (LEVEL=2 for all)
	@test -n "$$KUBECONFIG" || $(MAKE) --no-print-directory cluster
	@test -n "$$KUBECONFIG" || $(MAKE) --no-print-directory images
	@test -n "$$KUBECONFIG" || test $(LEVEL) -lt 2 || $(MAKE) --no-print-directory images-extra
	E2E_LEVEL=$(LEVEL) $(BIN)/pytest -s -v tests/e2e/cluster $(ARGS)

test-unit: setup  ## the pure part: no servers, on all cores
	$(BIN)/pytest -q -n auto tests/unit $(ARGS)

simulate: setup  ## thousands of seeded histories of claims, hand-overs and whole ingests (minutes; SEED=n plays one again)
	MARKETFEED_SIMULATION_RUNS=$(or $(RUNS),4000) MARKETFEED_SIMULATION_SEED=$(SEED) HISTORIES=$(or $(HISTORIES),200) HISTORY_SEED=$(SEED) \
		$(BIN)/pytest -q -n auto --timeout 3000 tests/unit/domain/test_claims_simulation.py \
		tests/unit/domain/test_handover_simulation.py tests/unit/ingest/test_histories.py $(ARGS)

lint: setup  ## style, types, the rooms' contracts, generated code and pages up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/unit/test_tidy.py
	$(MAKE) --silent proto
	git diff --exit-code --stat -- services/marketfeed/wire/v1 protos
	$(MAKE) --silent crd
	git diff --exit-code --stat -- charts/marketfeed-operator/files docs/marketfeed-crd.md
	PYTHONPATH=k8s/charts $(BIN)/python -m chartvalues --check

format: setup  ## apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## figures of the hot paths, with peers beside the fan-out; about 8 minutes (ARGS="csv decode": those alone)
	$(BIN)/python -m tests.bench $(ARGS)

proto: setup  ## check protos/ and generate its code (leaves no diff)
	$(BUF) lint protos
	$(BUF) breaking protos --against protos/published.yaml
	$(BIN)/python -m grpc_tools.protoc -Imarketfeed/wire/v1=protos/marketfeed/v1 --python_out=services --pyi_out=services \
		$(patsubst protos/marketfeed/v1/%,marketfeed/wire/v1/%,$(wildcard protos/marketfeed/v1/*.proto))
	$(BIN)/python -m grpc_tools.protoc -Imarketfeed/wire/v1=protos/marketfeed/v1 --grpc_python_out=services \
		marketfeed/wire/v1/market_data.proto marketfeed/wire/v1/orders.proto
	$(BUF) build protos --exclude-source-info -o protos/published.yaml

crd: setup  ## generate the CRD and docs/marketfeed-crd.md from the operator's model (leaves no diff)
	$(BIN)/python -m marketfeed_operator.crd_files

lock: $(VENV)/.uv  ## renew the hashed lock files after a change of pyproject.toml
	cd requirements && ./lock

ui: $(VENV)/.local  ## build the page into services/ui/dist
	$(BIN)/marketfeed ui build

ui-test: $(VENV)/.local  ## type-check and test the page's pure parts
	$(BIN)/marketfeed ui test

images: $(VENV)/.local  ## container images for a cluster without a registry; loads them if the local one is up (ARGS=kafka)
	PYTHONPATH=k8s/images $(BIN)/python -m imagebuild $(ARGS)
	@$(LOCALCLUSTER) load-image --if-up $(IMAGES)/*.tar

images-extra: $(VENV)/.local  ## Traefik, Prometheus and an OpenTelemetry collector as images, for `make e2e LEVEL=2`
	@for name in traefik prometheus otel-collector; do \
		PYTHONPATH=k8s/images $(BIN)/python -m imagebuild --program "$$(k8s/programs/build $$name)" $$name || exit 1; \
	done
	@$(LOCALCLUSTER) load-image --if-up $(IMAGES)/*.tar

charts: setup  ## the charts: helm lint, every rendering held to its rules, dry runs on an API server
	$(BIN)/pytest -q tests/charts $(ARGS)

charts-docs: setup  ## make values.schema.json of every chart and docs/charts.md from the comments in values.yaml
	PYTHONPATH=k8s/charts $(BIN)/python -m chartvalues

cluster-build: $(VENV)/.local  ## build the programs of the local Kubernetes cluster, once (about 15 minutes)
	$(LOCALCLUSTER) build

cluster: $(VENV)/.local  ## a real Kubernetes on this machine, without Docker; KIND=1 uses kind (docs/local-cluster.md)
ifdef KIND
	k8s/cluster/kind-cluster up
else
	@$(LOCALCLUSTER) build
	@$(LOCALCLUSTER) up
endif

cluster-down: $(VENV)/.local  ## stop it and leave nothing but the images
ifdef KIND
	k8s/cluster/kind-cluster down
else
	@$(LOCALCLUSTER) down
endif

clean:  ## remove what the other commands made, state of the demo included
	rm -rf $(VENV) .marketfeed services/ui/dist services/ui/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
