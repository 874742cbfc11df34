# Common tasks. `make` lists the targets. For everything else, use cargo directly.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

# Additional arguments for `make train`, `make bench`, `make learn` and `make chaos`, as in
# make train ARGS="--seed 3 --actors 2"
ARGS ?=
PYTHON ?= python3
SAPEX := $(or $(CARGO_TARGET_DIR),target)/release/sapex

# The libtorch for builds: the variable LIBTORCH, else the fetched CUDA version, else the fetched CPU version. Without
# any of them, sapex is built without the torch backend.
LIBTORCH ?= $(patsubst %/build-version,%,$(firstword \
	$(wildcard $(CURDIR)/.libtorch-cuda/build-version $(CURDIR)/.libtorch/build-version)))
ifneq ($(LIBTORCH),)
export LIBTORCH
SAPEX_FEATURES += --features cluster/torch
ROLE_FEATURES += --features cluster/torch,learner/torch
endif

# If MuJoCo was not fetched, sapex is built without the MuJoCo environments.
ifneq ($(wildcard .mujoco/version),)
SAPEX_FEATURES += --features cluster/mujoco
ROLE_FEATURES += --features cluster/mujoco,actor-node/mujoco
endif

# Minari datasets, ONNX and films. `make train` leaves them out, because most runs never need their libraries, unless
# `make build` has built them already.
FORMATS := --features cluster/formats,learner/minari
WITH_FORMATS := $(SAPEX).with-formats
EVERY_FEATURE := --features cluster/torch,learner/torch,cluster/mujoco,actor-node/mujoco $(FORMATS)

# Type-checks the code of the torch backend and of the MuJoCo environments. Needs neither library: the feature removes
# libtorch, and mujoco-rs takes DOCS_RS as a request to do without MuJoCo. If MuJoCo was fetched, the variable stays
# unset, because changing it makes cargo build mujoco-rs again.
CHECK_ONLY := --features cluster/check-only
DOCS_RS := $(if $(wildcard .mujoco/version),,DOCS_RS=1)

# The commit that `--version` reports. It is set only for release builds, because it would cause a rebuild after every
# commit.
train build bench learn: export SAPEX_COMMIT := $(shell git describe --always --dirty --abbrev=10 2>/dev/null)

# Fetches libtorch unless one was found.
FETCH_LIBTORCH = $(if $(LIBTORCH),@echo 'using $(LIBTORCH)',cargo xtask libtorch)
STEP = @printf '\n==> %s\n' '$(1)'
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)
DENY := $(shell cargo deny --version >/dev/null 2>&1 && echo yes)

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: train
train: ## Train on Pendulum-v1 until it is solved, in one process, and write a report.
	cargo build --release -p cluster $(SAPEX_FEATURES) $(if $(wildcard $(WITH_FORMATS)),--features cluster/formats)
	$(SAPEX) train --env Pendulum-v1 $(ARGS)

.PHONY: build
build: ## Build all programs into target/release, with all formats, and with the torch backend and MuJoCo if they were fetched.
	cargo build --release -p cluster -p learner -p actor-node -p replay-server $(ROLE_FEATURES) $(FORMATS)
	@touch $(WITH_FORMATS)

.PHONY: test
test: check test-libraries test-bare test-python test-clients test-deploy ## Run the fast checks and all tests. Fetches libtorch, MuJoCo and Python libraries.
	$(call STEP,all passed)

.PHONY: check
check: ## Run the fast checks: format, house rules, clippy, Dockerfiles, dependencies, documentation.
	$(call STEP,format)
	cargo fmt --all --check
	$(call STEP,house rules)
	cargo xtask tidy
	$(call STEP,clippy)
	cargo clippy --workspace --all-targets -- -D warnings
	$(call STEP,clippy with the torch backend and MuJoCo)
	$(DOCS_RS) cargo clippy --workspace --all-targets $(CHECK_ONLY) -- -D warnings
	$(call STEP,Dockerfiles)
	@if $(MAKE) --no-print-directory .deploy-venv/ready; then \
		.deploy-venv/bin/hadolint Dockerfile .devcontainer/Dockerfile; \
	else \
		echo 'SKIPPED: hadolint could not be installed (see above)'; \
	fi
	$(call STEP,dependencies)
ifeq ($(DENY),yes)
	cargo deny --log-level error check bans licenses sources
else
	@echo 'SKIPPED: cargo-deny is not installed (cargo install cargo-deny)'
endif
	$(call STEP,documentation)
	$(DOCS_RS) RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps $(CHECK_ONLY)

# All tests, in one build with every feature.
.PHONY: test-libraries
test-libraries:
	$(call STEP,libtorch and MuJoCo)
	$(FETCH_LIBTORCH)
	cargo xtask mujoco
	$(call STEP,tests with every feature)
ifeq ($(NEXTEST),yes)
	cargo nextest run --workspace $(EVERY_FEATURE)
	cargo test --workspace --doc $(EVERY_FEATURE)
else
	cargo test --workspace $(EVERY_FEATURE)
endif

# Everything except the optional features must build and pass on a bare machine. The crates without such features are
# tested above. Of the whole system's tests, these start the program in each of its ways.
BARE := package(learner) or package(actor-node) or (package(cluster) and test(/^(front_door|sapex|lockstep)::/))

.PHONY: test-bare
test-bare:
	$(call STEP,tests without libtorch and MuJoCo and without the formats)
ifeq ($(NEXTEST),yes)
	cargo nextest run --workspace -E '$(BARE)'
else
	cargo test --workspace
endif

# The Python libraries that read our files, or whose files we read. They need 0.3 GB.
PYTHON_LIBRARIES := configspace export gymnasium minari zmq

.PHONY: test-python
test-python:
	$(call STEP,tests with the Python libraries)
	@set=(); for library in $(PYTHON_LIBRARIES); do \
		if $(MAKE) --no-print-directory .bench-venv/$$library/ready; then \
			set+=("SAPEX_$${library^^}_PYTHON=$(CURDIR)/.bench-venv/$$library/bin/python"); \
		else \
			echo "SKIPPED: what needs bench/requirements-$$library.txt, which could not be installed (see above)"; \
		fi; \
	done; \
	env "$${set[@]}" cargo test --workspace $(EVERY_FEATURE) --test all -- \
		library onnxruntime gymnasium libzmq --nocapture

# The client drives the programs of the tests' build. SAPEX_BINARIES names another folder of programs.
.PHONY: test-clients
test-clients: .client-venv/ready ## Check the Python client's types, and run it against the replay server.
	$(call STEP,Python client)
	cd clients/python && $(CURDIR)/.client-venv/bin/python -m mypy --strict
	SAPEX_BINARIES="$${SAPEX_BINARIES:-$(abspath $(or $(CARGO_TARGET_DIR),target)/debug)}" \
		.client-venv/bin/python -m pytest -rs --quiet clients/python

.PHONY: test-deploy
test-deploy: .deploy-venv/ready ## Check deploy/ against the code, and run the parts that this machine can run.
	$(call STEP,deployments)
	.deploy-venv/bin/python -m pytest -rs --quiet deploy/tests

.PHONY: libtorch
libtorch: ## Fetch libtorch for CPUs from PyPI, then build sapex with the torch backend.
	cargo xtask libtorch
	$(MAKE) build

.PHONY: libtorch-cuda
libtorch-cuda: ## Fetch libtorch for NVIDIA GPUs (5 GB), then build. Later builds prefer this version.
	cargo xtask libtorch --cuda
	$(MAKE) build

.PHONY: mujoco
mujoco: ## Fetch MuJoCo and Gymnasium's models from PyPI (27 MB), then build sapex with the MuJoCo environments.
	cargo xtask mujoco
	$(MAKE) build

# The images that `make images` builds. The image learner-cuda is for NVIDIA GPUs: make images IMAGES=learner-cuda
IMAGES ?= sapex learner actor-node replay-server prometheus
BINARIES ?=

.PHONY: images
images: ## Build the container images inside Docker, or from built programs with BINARIES=target/release.
	BINARIES='$(BINARIES)' deploy/images.sh $(IMAGES)

.PHONY: chaos
chaos: .deploy-venv/ready ## Inject faults into every part of the compose cluster (15 minutes, after make images).
	$(PYTHON) deploy/chaos $(ARGS)

.PHONY: bench
bench: .bench-venv/reverb/ready .bench-venv/sac/ready .bench-venv/envpool/ready ## Measure Sapex and its peers (needs an idle machine, 4 GB of Python).
	$(FETCH_LIBTORCH)
	cargo xtask mujoco
	$(MAKE) build
	$(SAPEX) bench --peers bench $(ARGS)

.PHONY: scaling
scaling: ## Measure what rows, samples and weights cost, and check the model of docs/scaling.md (10 minutes, idle machine).
	cargo xtask mujoco
	$(MAKE) build
	$(PYTHON) bench/scaling.py $(ARGS)

.PHONY: learn
learn: ## Train every algorithm and network of bench/learning.toml and check the promised returns (half an hour).
	$(FETCH_LIBTORCH)
	$(MAKE) build
	cargo bench -p cluster $(SAPEX_FEATURES) --features cluster/formats --bench learn -- --sapex $(SAPEX) $(ARGS)

# Virtual environments with exactly the pinned packages, independent of the system's packages.
.bench-venv/%/ready: bench/requirements-%.txt
	$(PYTHON) -m venv --clear --without-pip $(@D)
	$(PYTHON) -m pip --python $(@D)/bin/python install --quiet --requirement $<
	touch $@

.client-venv/ready: clients/python/requirements-dev.txt
	$(PYTHON) -m venv --clear --without-pip $(@D)
	$(PYTHON) -m pip --python $(@D)/bin/python install --quiet --requirement $<
	touch $@

.deploy-venv/ready: deploy/requirements.txt
	$(PYTHON) -m venv --clear --without-pip $(@D)
	$(PYTHON) -m pip --python $(@D)/bin/python install --quiet --requirement $<
	touch $@

.PHONY: docs
docs: ## Generate docs/configuration.md, docs/metrics.md and (needs make mujoco) config/shapes.toml from the code.
	cargo xtask docs
	SAPEX_WRITE_DOCS=1 cargo test --quiet -p cluster --test all docs
	SAPEX_WRITE_DOCS=1 cargo test --quiet -p actor-node --features mujoco --test all shapes

.PHONY: fmt
fmt: ## Format the code.
	cargo fmt --all

.PHONY: hooks
hooks: ## Let git run the fastest checks before every commit in this checkout (.githooks).
	git config core.hooksPath .githooks

.PHONY: audit
audit: ## Check the dependencies for security advisories (needs cargo-deny and the network).
	cargo deny check advisories

.PHONY: clean-runs
clean-runs: ## Delete every run under runs/.
	rm -rf runs
