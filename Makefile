# What a person, CI and the README call. Every target sets itself up: the virtual environment is made
# when it is missing and brought up to date when pyproject.toml or constraints.txt changed.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-heavy fuzz clients mlflow test-foreign e2e check format sandbox sandbox-down bench bench-operator bench-hostile bench-sandbox bench-analysis bench-server bench-artifacts bench-memory bench-batch bench-streams bench-drift bench-dashboard bench-pool bench-wake bench-meter bench-bake docs pictures site dashboards lock sbom workflows pin clean

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_ARGS ?=
# Extras of pyproject.toml that are installed.
EXTRAS ?= dev,build
# Demo and tests start processes all the time: compile once, whatever the surroundings say.
export PYTHONDONTWRITEBYTECODE :=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt .ci/pins
	@test -x $(BIN)/pip || { python=$$(.ci/find-python) && "$$python" -m venv --clear $(VENV); }
	@echo "Installing what constraints.txt pins into $(VENV) (once; a few minutes on a fresh machine) ..."
	@$(BIN)/python .ci/pins $(EXTRAS) > $(VENV)/requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r $(VENV)/requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP) ## Make the virtual environment and install everything into it

demo: $(STAMP) ## Run the product's main job from one end to the other, without a cluster
	@$(BIN)/python -m modeldeploy.demo

# Files run side by side, four at a time, end-to-end tests early: most of them wait for processes to start.
test: $(STAMP) ## Run every test but those that take minutes
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-heavy: $(STAMP) ## Run the tests that take minutes: every broker and its death, schedules
	@$(BIN)/python -m pytest --heavy -m heavy -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

fuzz: $(STAMP) ## Send the model server a million random requests, the sandbox and the operator thousands (FUZZ=n: so many; FUZZ_SEED=n: others)
	@FUZZ=$(or $(FUZZ),1000000) HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest --timeout 0 tests/integration/sandbox/test_fuzz.py \
		tests/integration/operator/test_random_specs.py tests/integration/server/test_fuzz.py tests/integration/server/test_schema.py $(PYTEST_ARGS)

clients: ## Run Triton's, KServe's and MLflow's own clients against the model server, in .venvs/clients
	@test -x .venvs/clients/bin/pip || { python=$$(.ci/find-python) && "$$python" -m venv .venvs/clients; }
	@.venvs/clients/bin/pip install --quiet --disable-pip-version-check -e '.[clients]'
	@for client in triton kserve mlflow; do \
		.venvs/clients/bin/python -m pytest tests/integration/server/test_clients.py -k $$client $(PYTEST_ARGS) || exit 1; \
	done

MLFLOW := .venvs/mlflow
$(MLFLOW)/.installed: pyproject.toml
	@test -x $(MLFLOW)/bin/pip || { python=$$(.ci/find-python) && "$$python" -m venv $(MLFLOW); }
	@$(MLFLOW)/bin/pip install --quiet --disable-pip-version-check 'mlflow[auth]>=3,<4' -e '.[cli]'
	@touch $@

mlflow: $(STAMP) $(MLFLOW)/.installed ## Run the tests with MLflow's own server, in .venvs/mlflow
	@$(BIN)/python -m pytest --heavy tests/integration/server/test_mlflow_registry.py tests/e2e/test_mlflow.py tests/e2e/test_mlflow_plugin.py $(PYTEST_ARGS)

.venvs/mlserver/.installed:
	@test -x .venvs/mlserver/bin/pip || { python=$$(.ci/find-python) && "$$python" -m venv .venvs/mlserver; }
	@.venvs/mlserver/bin/pip install --quiet --disable-pip-version-check mlserver==1.7.1 mlserver-sklearn==1.7.1 uvloop==0.21.0 scikit-learn==1.9.1 joblib
	@touch $@

# What kserve takes in the end; said here, it spares pip a search of ten minutes.
.venvs/kserve/.installed:
	@test -x .venvs/kserve/bin/pip || { python=$$(.ci/find-python) && "$$python" -m venv .venvs/kserve; }
	@.venvs/kserve/bin/pip install --quiet --disable-pip-version-check kserve 'protobuf<7' 'grpcio-health-checking<1.82' 'grpcio-reflection<1.82' scikit-learn==1.9.1 joblib
	@touch $@

test-foreign: $(STAMP) .venvs/mlserver/.installed .venvs/kserve/.installed ## Roll out MLServer and KServe's Python server (installs them in .venvs)
	@$(BIN)/python -m pytest --heavy tests/e2e/test_any_image.py $(PYTEST_ARGS)

e2e: $(STAMP) ## Run the end-to-end tests alone (CLUSTER=kubeconfig: on that cluster; NODE=sandbox: as its node)
	@$(if $(CLUSTER),KUBECONFIG=$(CLUSTER)) $(if $(NODE),NODE=$(NODE)) $(BIN)/python -m pytest tests/e2e $(if $(CLUSTER),--cluster) $(PYTEST_ARGS)

check: $(STAMP) ## Lint, formatting, nothing that a shell runs, types (of the tests of operator and command line too, and of the rules in the resource definition), and which package may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff check --isolated --quiet --select S602,S604,S605,S609 --exclude .venvs .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p model_operator -p model_server -p model_sandbox -p modeldeploy -p dashboards
	@$(BIN)/mypy tests/support tests/unit/operator tests/unit/cli tests/integration/operator tests/contract/operator tests/contract/cli
	@$(BIN)/python -m model_sandbox.cel.rules crds/modeldeployments.yaml
	@$(BIN)/python -m model_sandbox.cel.rules crds/modelbatches.yaml
	@$(BIN)/python -m model_sandbox.cel.rules crds/modelpools.yaml
	@$(BIN)/lint-imports --verbose --no-cache > $(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }

format: $(STAMP) ## Format the code and fix what can be fixed automatically
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

sandbox: $(STAMP) ## Leave a sandbox with the operator up in the background
	@$(BIN)/python -m modeldeploy.stand up

sandbox-down: $(STAMP) ## End that sandbox
	@$(BIN)/python -m modeldeploy.stand down

bench: $(STAMP) ## Measure, and write benchmarks/results and the table in benchmarks/README.md
	@$(BIN)/python benchmarks/run.py

# An environment like that of the operator's image: the tests' libraries change what it imports.
OPERATOR := .venvs/operator
$(OPERATOR)/.installed: pyproject.toml constraints.txt .ci/pins
	@test -x $(OPERATOR)/bin/pip || { python=$$(.ci/find-python) && "$$python" -m venv $(OPERATOR); }
	@$(OPERATOR)/bin/python .ci/pins operator,build > $(OPERATOR)/requirements.txt
	@$(OPERATOR)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r $(OPERATOR)/requirements.txt
	@$(OPERATOR)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

bench-operator: $(STAMP) $(OPERATOR)/.installed ## Measure what the operator costs, next to a bare client
	@$(BIN)/python benchmarks/operator_cost.py --python $(OPERATOR)/bin/python
	@$(BIN)/python benchmarks/judging.py

bench-hostile: $(STAMP) ## Measure what pods that answer anything cost the operator
	@$(BIN)/python benchmarks/hostile_pods.py

bench-analysis: $(STAMP) ## Measure how often the canary judge errs, next to the rules others use
	@$(BIN)/python benchmarks/analysis.py
	@$(BIN)/python benchmarks/fairness.py
	@$(BIN)/python benchmarks/inputs.py

bench-wake: $(STAMP) ## Measure the first answer of a model that sleeps, next to a bare pod start (some minutes)
	@$(BIN)/python benchmarks/wake.py

bench-bake: $(STAMP) ## Measure how long, and with how much memory, a package is baked into an image, next to oras for Python (installs it)
	@test -x .venvs/oras/bin/python || { $(BIN)/python -m venv .venvs/oras && .venvs/oras/bin/pip install --quiet 'oras==0.2.43'; }
	@$(BIN)/python benchmarks/baking.py --oras .venvs/oras/bin/python

bench-sandbox: $(STAMP) ## Measure what the sandbox carries
	@$(BIN)/python benchmarks/sandbox.py

bench-server: $(STAMP) ## Measure the model server against its peers (needs wrk; installs the peers; a quarter of an hour)
	@$(BIN)/python benchmarks/server/run.py

bench-streams: $(STAMP) ## Measure messages of each broker, and count them while server and broker are killed (a quarter of an hour)
	@$(BIN)/python benchmarks/streams.py

bench-batch: $(STAMP) ## Measure what a row of a batch costs, next to a bare loop, and what pods and shards add
	@$(BIN)/python benchmarks/batch.py

bench-memory: $(STAMP) ## Measure the model server's memory over a million requests, and 100,000 large answers (needs wrk; some minutes)
	@$(BIN)/python benchmarks/server/memory.py
	@$(BIN)/python benchmarks/server/memory.py --load large

bench-artifacts: $(STAMP) ## Measure how fast, and in how much memory, a model gets to a server
	@$(BIN)/python benchmarks/artifacts.py

bench-drift: $(STAMP) ## Measure how soon and how wrongly drift is told, next to Evidently and NannyML (installs them; ten minutes)
	@$(BIN)/python benchmarks/drift/run.py

bench-dashboard: $(STAMP) ## Measure how the dashboard carries a thousand models (needs Chromium; two minutes)
	@$(BIN)/python benchmarks/dashboard.py

bench-pool: $(STAMP) ## Measure a thousand small models in one pool, a server for each, and MLServer (installs it; ten minutes)
	@$(BIN)/python benchmarks/pool.py

bench-meter: $(STAMP) ## Measure what the meter before a server that is not ours costs (needs wrk; a minute)
	@$(BIN)/python benchmarks/server/meter.py

RELEASE := .venvs/release
$(RELEASE)/.installed: pyproject.toml constraints.txt .ci/pins
	@test -x $(RELEASE)/bin/pip || { python=$$(.ci/find-python) && "$$python" -m venv $(RELEASE); }
	@$(RELEASE)/bin/python .ci/pins release > $(RELEASE)/requirements.txt
	@$(RELEASE)/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -r $(RELEASE)/requirements.txt
	@touch $@

sbom: $(RELEASE)/.installed ## List what the images contain of Python, in dist/*.cdx.json (CycloneDX)
	@mkdir -p dist
	@for image in operator server; do \
		$(RELEASE)/bin/python .ci/pins $$(.ci/image-extras $$image) > dist/$$image.txt && \
		$(RELEASE)/bin/cyclonedx-py requirements dist/$$image.txt --pyproject pyproject.toml --mc-type application \
			--output-reproducible --of JSON -o dist/$$image.cdx.json || exit 1; \
	done

workflows: $(RELEASE)/.installed ## Look for what can go wrong with the workflows
	@$(RELEASE)/bin/zizmor --offline --persona regular .github/workflows

pin: ## Renew the digest of the base image in the Dockerfile (needs docker and the network)
	@base=$$(sed -n 's/^FROM \(.*\)@sha256:.* AS base$$/\1/p' Dockerfile) && \
		digest=$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$$base") && \
		sed -i "s|^\(FROM $$base@\).* AS base$$|\1$$digest AS base|" Dockerfile

docs: $(STAMP) ## Write the pages under docs/ that are made from the code
	@$(BIN)/python docs/generate.py

pictures: $(STAMP) ## Draw docs/pictures from what really runs (needs Chromium; four minutes)
	@$(BIN)/python docs/pictures.py

# MkDocs Material announces the end of MkDocs 1 at each build unless it is told not to.
site: $(STAMP) ## Build the documentation as a site, in site/; open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet && echo "Open site/index.html"

dashboards: $(STAMP) ## Write the Grafana dashboards of the chart
	@$(BIN)/python helm/dashboards/generate.py

lock: $(STAMP) ## Pin the versions of the virtual environment in constraints.txt
	@.ci/lock $(BIN)/python > constraints.txt.new && mv constraints.txt.new constraints.txt && touch $(STAMP)

clean: ## Remove what the other targets made
	@test ! -x $(BIN)/python || $(BIN)/python -m modeldeploy.stand down >/dev/null 2>&1 || true
	@rm -rf $(VENV) .venvs/clients .venvs/drift .venvs/mlflow .venvs/mlserver .venvs/operator .venvs/oras .venvs/kserve .venvs/lock .venvs/release site .sandbox dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
