# The targets people and continuous integration call. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash

DEPUTY := cargo run --quiet --locked --

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: install ## Set everything up and show the main job on a real cluster
	e2e/demo
	e2e/demo-delegation

.PHONY: test
test: cluster-up check e2e ## Set everything up and run every test

.PHONY: check
check: ## The inner loop: format, lints, every test that needs no cluster
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test e2e -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps --document-private-items
	PATH="$(CURDIR)/e2e/.cluster/bin:$$PATH" cargo test --locked
	$(MAKE) --no-print-directory generated

# A cluster of somebody's is not ours to cut lines in.
LEFT_OUT := $(if $(filter-out own,$(or $(CLUSTER),own)),--skip own_cluster)

.PHONY: e2e
e2e: install ## The end-to-end suite, on the cluster
	e2e/prepare
	source e2e/cluster/env && cargo test --locked --test e2e -- --test-threads 1 $(LEFT_OUT)

.PHONY: plugin
plugin: ## Build the kubectl plugin (target/release/kubectl-deputy)
	cargo build --release --locked --bin deputy
	install -m 0755 target/release/deputy target/release/kubectl-deputy
	@echo 'kubectl finds it on the PATH: sudo install target/release/kubectl-deputy /usr/local/bin/'

.PHONY: soak
soak: install ## What takes minutes: the switch a hundred times, with figures
	e2e/prepare
	source e2e/cluster/env && DEPUTY_SOAK=1 cargo test --locked --test e2e -- --test-threads 1 --include-ignored \
	  a_suspension_takes_effect_in_time a_hundred_suspensions_at_once a_cron_job_that_forbids_overlap

.PHONY: bench
bench: ## Measure exchange, evaluation and record, each beside its floor (two cores, some minutes)
	cargo bench --locked --bench bench

.PHONY: generate
generate: ## Make the generated files again: CRDs, references, manifests
	$(DEPUTY) crds > crds/deputy.dev.yaml
	$(DEPUTY) crds --helm > charts/deputy/templates/crds/deputy.dev.yaml
	$(DEPUTY) crds --markdown > docs/api.md
	$(DEPUTY) rules --markdown > docs/rules.md
	PATH="$(CURDIR)/e2e/.cluster/bin:$$PATH" charts/render

.PHONY: generated
generated: generate ## Fail if a generated file is not current
	@git diff --exit-code --stat -- crds charts docs/api.md docs/rules.md manifests || \
	  { echo 'generated files are not current: commit what `make generate` made'; exit 1; }

.PHONY: cluster-up
cluster-up: ## A real cluster on this machine; prints its kubeconfig
	e2e/cluster/up

.PHONY: cluster-down
cluster-down: ## Remove it without a trace
	e2e/cluster/down

.PHONY: test-cluster
test-cluster: ## Kill every part of a fresh cluster, repair it, remove it, find no trace
	e2e/cluster/selftest

.PHONY: image
image: ## Build the static binary and its image archive (target/image.tar)
	e2e/cluster/image

.PHONY: install
install: cluster-up ## Build the image and install the chart
	e2e/cluster/install
