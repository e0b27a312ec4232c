# The commands of this project; `make` lists them.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
ENV ?= prod
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MOLECULE_COMMAND_BORDERS := 0
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export LC_ALL := C.UTF-8

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.complete .vault-password ## Install Ansible and the tools, pinned, into .venv

$(VENV)/.complete: requirements.lock lab/venv.sh
	lab/venv.sh $(VENV)
	touch $@

.vault-password:
	umask 077 && head -c 32 /dev/urandom | base64 > $@
	@echo "Made .vault-password, which opens every encrypted file of this project. Keep a copy in a safe place."

.PHONY: lab
lab: lab-ready ## Provision a lab host with the real playbook: ENV=prod (prod1) or ENV=dev (dev1); ARGS='-e name=value'
	ansible-playbook playbooks/lab.yml -i inventories/lab --limit 'localhost,$(ENV)1' $(ARGS)
	ansible-playbook site.yml -i inventories/lab --limit $(ENV)1 $(ARGS)
	lab/summary.sh $(ENV)

.PHONY: lab-ready
lab-ready: setup
	lab/engine.sh
	ansible-playbook playbooks/secrets.yml -i inventories/lab

.PHONY: lab-base
lab-base: lab-ready
	ansible-playbook playbooks/lab.yml -i inventories/lab --limit localhost

.PHONY: lab-down
lab-down: setup ## Remove the lab's hosts, registry and network; images stay cached
	ansible-playbook playbooks/lab_destroy.yml -i inventories/lab --tags all,everything

.PHONY: test
test: setup ## Run every test, two parts at a time; each part's output comes when it has ended
	$(MAKE) --jobs=2 --output-sync=target --no-print-directory lab-base lint unit
	$(MAKE) --jobs=2 --output-sync=target --no-print-directory scenario-prod scenario-dev directus queues scenario-interrupted
	@echo "Everything passed: lint, unit and integration tests, Directus, queues, and the scenarios prod, interrupted and dev."

.PHONY: lint
lint: setup ## Check style and pitfalls
	ruff check
	ruff format --check
	yamllint --strict .
	ansible-lint --offline

.PHONY: contract
contract: setup ## Compare this project with OpenMates' source: OPENMATES=<checkout, repository or archive> [REV=] [SINCE=]
	@test -n "$(OPENMATES)" || { echo "Name a checkout of OpenMates, a Git repository or an archive: make contract OPENMATES=..."; exit 2; }
	python -m contract "$(OPENMATES)" $(if $(REV),--rev "$(REV)") $(if $(SINCE),--since "$(SINCE)") $(if $(PROJECT),--project "$(PROJECT)")

.PHONY: unit
unit: setup test-tools ## Run the tests that need no host
	pytest -n auto

.PHONY: scenario-prod
scenario-prod: lab-base ## Provision prod1 anew and test it
	molecule test --scenario-name prod

.PHONY: scenario-interrupted
scenario-interrupted: lab-base ## Provision prod2 anew, killed at many moments
	molecule test --scenario-name interrupted

.PHONY: scenario-dev
scenario-dev: lab-base test-tools ## Provision dev1 anew and test it
	molecule test --scenario-name dev

.PHONY: test-tools
test-tools:
	lab/test_tools.sh

.PHONY: directus
directus: lab-base ## Test cms-setup and the Directus modules against a real Directus
	python lab/images.py build --no-push directus cms-database cache
	pytest -n auto tests/directus

.PHONY: queues
queues: lab-base ## Test the readiness probe against a real cache and real Celery workers
	python lab/images.py build --no-push api cache
	pytest tests/queues

.PHONY: upgrade-proof
upgrade-proof: lab-ready ## Prove the upgrade from an earlier Directus, which is built first (minutes)
	python lab/images.py build --no-push directus cms-database cache
	lab/directus_before.sh
	pytest tests/upgrade

.PHONY: genuine
genuine: lab-base ## Prove all of it with genuine HashiCorp Vault, built from its Go module; FORCE=1: also what passed before
	python lab/genuine.py

.PHONY: faults
faults: setup ## Freeze, cut off and kill services of lab host HOST=prod2; CASE=cache-frozen FAULT_SECONDS=300 AGAIN=1
	python tests/faults/run.py --host $(or $(HOST),prod2) --seconds $(or $(FAULT_SECONDS),300) $(if $(AGAIN),--again) $(CASE)

.PHONY: real
real: setup ## Prove the stack with the real backend: API_IMAGE= and CMS_SETUP_IMAGE= of the local Docker engine
	@test -n "$(API_IMAGE)" -a -n "$(CMS_SETUP_IMAGE)" || { echo "usage: make real API_IMAGE=name:tag CMS_SETUP_IMAGE=name:tag [CASE=sign-up] [AGAIN=1]" >&2; exit 2; }
	$(MAKE) --no-print-directory lab-ready
	ansible-playbook playbooks/lab.yml -i inventories/lab --limit localhost,$(or $(HOST),real1)
	python tests/real/run.py --host $(or $(HOST),real1) --api-image $(API_IMAGE) --cms-setup-image $(CMS_SETUP_IMAGE) $(if $(AGAIN),--again) $(CASE)

.PHONY: bench
bench: setup ## Time a run that changes nothing on prod1, which must be provisioned
	python lab/bench.py
