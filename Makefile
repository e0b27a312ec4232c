# The commands of this project; `make` lists them.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
ENV ?= prod
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export LC_ALL := C.UTF-8
# With PARTS=1, as `test` and `check` set it, a part's lines begin with its name, because two parts run at a time.
RUN = $(if $(PARTS),lab/progress.py $@)

# In `test` the scenario that takes the longest begins when the lab is ready, before parts that need less of the lab.
LAB_FIRST = $(if $(PARTS),lab-base)

# Written by lab/progress.py, shown at the end of the output: the lines themselves are far above it.
FAILURES := $(CURDIR)/.lab/failures
SHOW_FAILURES = if [ -d $(FAILURES) ]; then echo; echo "What failed, by part:"; tail --verbose --lines=+1 $(FAILURES)/*; fi

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.complete .vault-password ## Install Ansible and the tools, pinned, into .venv

$(VENV)/.complete: requirements.lock lab/venv.sh | filesystem
	lab/progress.py setup lab/venv.sh $(VENV)
	touch $@

.PHONY: filesystem
filesystem:
	@lab/filesystem.sh

.vault-password: | filesystem
	umask 077 && head -c 32 /dev/urandom | base64 > $@
	@lab/filesystem.sh
	@echo "Made .vault-password, which opens every encrypted file of this project. Keep a copy in a safe place."

# Not in this directory and without its ansible.cfg: the project gets a vault password of its own.
.PHONY: new
new: setup ## Create a project for servers of your own: DIR=../operations ENV=prod ADDRESS= DOMAIN= EMAIL= HOST= ARGS='-e name=value'
	@test -n "$(DIR)" || { echo "Name the directory of the project: make new DIR=../operations [ENV=dev] [ADDRESS=] [DOMAIN=] [EMAIL=]" >&2; exit 2; }
	case "$(DIR)" in /*) dir="$(DIR)" ;; *) dir="$(CURDIR)/$(DIR)" ;; esac; \
	  named="$$(python -c 'import json, sys; print(json.dumps({"new_directory": sys.argv[1]}))' "$$dir")"; \
	  cd playbooks && env -u ANSIBLE_CONFIG ANSIBLE_COLLECTIONS_PATH="$(CURDIR)/collections" ANSIBLE_CALLBACK_RESULT_FORMAT=yaml \
	  ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_INVENTORY_UNPARSED_WARNING=false ansible-playbook openmates.server.new \
	  -e "$$named" -e new_environment=$(ENV) $(if $(ADDRESS),-e new_address=$(ADDRESS)) $(if $(HOST),-e new_host=$(HOST)) \
	  $(if $(DOMAIN),-e openmates_domain=$(DOMAIN)) $(if $(EMAIL),-e openmates_admin_email=$(EMAIL)) $(ARGS)

# Prints what the playbook reports, without the names of its tasks.
REPORT = @ANSIBLE_STDOUT_CALLBACK=openmates.server.report ansible-playbook
LIMIT = $(if $(HOST),--limit $(HOST))
export GREP

.PHONY: status
status: $(VENV)/.complete ## Show the state of the servers of an inventory: ENV=prod HOST= FORMAT=json ARGS='-e name=value'
	$(REPORT) playbooks/status.yml -i $(ENV) $(LIMIT) $(if $(FORMAT),-e format=$(FORMAT)) $(ARGS)

.PHONY: drift
drift: $(VENV)/.complete ## Show what of the servers differs from the inventory, changing nothing: ENV=prod HOST= FORMAT=json
	$(REPORT) playbooks/drift.yml -i $(ENV) $(LIMIT) $(if $(FORMAT),-e format=$(FORMAT)) $(ARGS)

.PHONY: logs
logs: $(VENV)/.complete ## Show the log of a service: SERVICE=api SINCE=10m GREP='a regular expression' ENV=prod HOST= LINES=
	$(REPORT) playbooks/logs.yml -i $(ENV) $(LIMIT) -e service=$(SERVICE) $(if $(SINCE),-e since=$(SINCE)) \
	  $(if $(GREP),-e "$$(python -c 'import json, os; print(json.dumps({"grep": os.environ["GREP"]}))')") $(if $(LINES),-e lines=$(LINES)) $(ARGS)

.PHONY: tunnel
tunnel: $(VENV)/.complete ## Open a tunnel to an internal tool until Ctrl-C: SERVICE=grafana (vault, cms, prometheus, alertmanager) ENV=prod HOST= PORT=
	$(REPORT) playbooks/tunnel.yml -i $(ENV) $(LIMIT) -e service=$(SERVICE) $(if $(PORT),-e local_port=$(PORT)) $(ARGS)

.PHONY: lab
lab: lab-ready ## Provision a lab host with the real playbook: ENV=prod (prod1) or ENV=dev (dev1); ARGS='-e name=value'
	ansible-playbook lab/playbooks/create.yml -i inventories/lab --limit 'localhost,$(ENV)1' $(ARGS)
	ansible-playbook site.yml -i inventories/lab --limit $(ENV)1 $(ARGS)
	lab/summary.sh $(ENV)

.PHONY: lab-ready
lab-ready: setup
	$(RUN) lab/prepare.sh

.PHONY: lab-base
lab-base: lab-ready
	$(RUN) ansible-playbook lab/playbooks/create.yml -i inventories/lab --limit localhost

.PHONY: lab-down
lab-down: setup ## Remove the lab's hosts, registry and network; images stay cached
	ansible-playbook lab/playbooks/destroy.yml -i inventories/lab --tags all,everything
	rm -rf "$(HOME)/.cache/openmates-lab"
	molecule reset --all

.PHONY: check
check: setup ## Check style and run the unit tests: within five minutes, without Docker
	@rm -rf $(FAILURES)
	FAILURES=$(FAILURES) $(MAKE) --jobs=2 --no-print-directory PARTS=1 lint unit || { $(SHOW_FAILURES); exit 1; }
	@echo "Everything passed: lint and unit tests. The tests on lab hosts are in 'make test'."

.PHONY: test
test: setup ## Run every test, two parts at a time, each line with its part's name; removes the lab hosts, except with KEEP=1
	@rm -rf $(FAILURES)
	FAILURES=$(FAILURES) $(MAKE) --jobs=2 --no-print-directory PARTS=1 \
	  scenario-prod lint unit scenario-interrupted scenario-dev directus integration backup-drill queues rules \
	  || { $(SHOW_FAILURES); exit 1; } # the longest first, short ones last: both lanes end at about the same time
	@echo "Everything passed: lint, unit and integration tests, Directus, backups, queues, alerts, and the scenarios prod, interrupted and dev."

DOCS := .cache/docs

.PHONY: docs
docs: $(DOCS)/venv/.complete ## Write the generated pages and build the website of all documentation, with search
	docs/generate.py
	docs/website.py $(DOCS)/venv/bin/mkdocs $(DOCS)

$(DOCS)/venv/.complete: docs/requirements.lock lab/venv.sh | setup
	mkdir -p $(@D)
	lab/progress.py docs lab/venv.sh $(@D) $<
	touch $@

.PHONY: lint
lint: setup ## Check style and pitfalls
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) yamllint --strict .
	lab/progress.py lint ansible-lint --offline

.PHONY: contract
contract: setup ## Compare this project with OpenMates' source: OPENMATES=<checkout, repository or archive> [REV=] [SINCE=]
	@test -n "$(OPENMATES)" || { echo "Name a checkout of OpenMates, a Git repository or an archive: make contract OPENMATES=..."; exit 2; }
	python -m contract "$(OPENMATES)" $(if $(REV),--rev "$(REV)") $(if $(SINCE),--since "$(SINCE)") $(if $(PROJECT),--project "$(PROJECT)")

.PHONY: unit
unit: setup ## Run the tests that need neither a host nor a server
	$(RUN) pytest -n auto tests/unit

.PHONY: integration
integration: setup $(LAB_FIRST) ## Run the tests that need a Vault server, which they start
	lab/test_tools.sh gnupg
	$(RUN) pytest -n auto tests/integration

# A scenario removes its host at the beginning and at the end; KEEP=1 leaves the host for a look at it.
MOLECULE_TEST = $(RUN) molecule test $(if $(KEEP),--destroy=never) --scenario-name
MOLECULE_DESTROY = $(if $(KEEP),$(RUN) molecule destroy --scenario-name,@:)

.PHONY: scenario-prod
scenario-prod: lab-base ## Provision prod1 anew, test it and remove it; KEEP=1 keeps it
	$(MOLECULE_DESTROY) prod
	$(MOLECULE_TEST) prod

.PHONY: scenario-interrupted
scenario-interrupted: lab-base ## Provision prod2 anew, killed at the worst moments, and remove it; KEEP=1 keeps it
	$(MOLECULE_DESTROY) interrupted
	$(MOLECULE_TEST) interrupted

.PHONY: scenario-dev
scenario-dev: lab-base ## Provision dev1 anew, test it and remove it; KEEP=1 keeps it
	lab/test_tools.sh browser
	$(MOLECULE_DESTROY) dev
	$(MOLECULE_TEST) dev

.PHONY: directus
directus: lab-base ## Test cms-setup and the Directus modules against a real Directus
	$(RUN) python lab/images.py build --no-push directus cms-database cache
	$(RUN) pytest -n auto tests/directus

.PHONY: backup-drill
backup-drill: backup-tools ## Test a backup of a real database, cache and Vault with the genuine restic, and three sabotages
	$(RUN) pytest -m drill tests/backup

.PHONY: backup-proof
backup-proof: backup-tools ## Prove backups: as backup-drill, with all sabotages, restores, nightly proofs and repositories on other machines
	lab/progress.py backup-proof lab/proofs.py run 'backup' -- pytest -v tests/backup

.PHONY: import-tools
import-tools: setup
	lab/test_tools.sh postgres13
	python lab/file_vault.py

.PHONY: import-drill
import-drill: import-tools ## Prove that a server of OpenMates' own installer is taken over, with a genuine PostgreSQL 13 and HashiCorp Vault
	$(RUN) python lab/images.py build --no-push cms-database cache
	lab/progress.py import-drill lab/proofs.py run 'import drill' -- \
	  env VAULT_BINARY=$(CURDIR)/.cache/genuine/vault-file pytest -v tests/importing tests/integration/test_vault_import.py

.PHONY: import-playbook
import-playbook: lab-base import-tools ## Prove import.yml as a whole: onto lab host HOST=real1, which is made anew
	ansible-playbook lab/playbooks/destroy.yml -i inventories/lab --limit localhost,$(or $(HOST),real1)
	ansible-playbook lab/playbooks/create.yml -i inventories/lab --limit localhost,$(or $(HOST),real1)
	ansible-playbook site.yml -i inventories/lab --limit $(or $(HOST),real1)
	lab/progress.py import-playbook lab/proofs.py run 'import by playbook' -- pytest -v --hosts=docker://openmates-lab-$(or $(HOST),real1) tests/host/imported

.PHONY: restore-drill
restore-drill: lab-base ## Prove restores: lab host HOST=prod2 is provisioned, backed up, lost, and restored on a new one
	ansible-playbook lab/playbooks/create.yml -i inventories/lab --limit localhost,$(or $(HOST),prod2)
	lab/progress.py restore-drill lab/proofs.py run 'restore drill' -- pytest -v --hosts=docker://openmates-lab-$(or $(HOST),prod2) tests/host/restore

.PHONY: backup-load
backup-load: setup ## Prove that a backup and its proof do not slow down the api, on lab host HOST=prod2, which must be provisioned
	lab/progress.py backup-load python tests/load/backup.py --host $(or $(HOST),prod2)

.PHONY: disk-full
disk-full: lab-ready ## Prove that a full disk stops every verb and loses nothing, on lab host HOST=prod2, which must be provisioned
	lab/progress.py disk-full lab/proofs.py run 'disk full' -- pytest -v --hosts=docker://openmates-lab-$(or $(HOST),prod2) tests/host/full_disk

.PHONY: move-drill
move-drill: lab-base ## Prove moves: lab hosts HOST=prod2 and MOVE_TO=real1 are made anew, and one moves to the other and back; AGAIN=1: from the beginning
	$(if $(AGAIN),rm -f .lab/move-drill.json)
	test -e .lab/move-drill.json || { \
	  ansible-playbook lab/playbooks/destroy.yml -i inventories/lab --limit localhost,$(or $(HOST),prod2),$(or $(MOVE_TO),real1) && \
	  docker volume rm --force openmates-lab-move && \
	  ansible-playbook lab/playbooks/create.yml -i inventories/lab --limit localhost,$(or $(HOST),prod2),$(or $(MOVE_TO),real1) \
	    -e lab_backup_volume=openmates-lab-move; }
	MOVE_TO=$(or $(MOVE_TO),real1) lab/progress.py move-drill lab/proofs.py run 'move drill' -- \
	  pytest -v -x --hosts=docker://openmates-lab-$(or $(HOST),prod2) tests/host/move
	rm -f .lab/move-drill.json # it passed: the next one begins anew

.PHONY: scan-proof
scan-proof: lab-ready ## Prove that two servers scan each other: lab hosts HOST=dev1 and SCANNED=real1, which must be provisioned
	SCANNED=$(or $(SCANNED),real1) lab/progress.py scan-proof lab/proofs.py run 'scans' -- \
	  pytest -v -x --hosts=docker://openmates-lab-$(or $(HOST),dev1) tests/host/scan

.PHONY: backup-tools
backup-tools: lab-base
	$(RUN) python lab/images.py build --no-push cms-database cache
	lab/test_tools.sh restic

.PHONY: rules
rules: lab-ready $(LAB_FIRST) ## Test alerting: each alert begins and ends, by promtool, and Alertmanager's configuration, by amtool
	$(RUN) python lab/images.py build --no-push prometheus alertmanager
	$(RUN) pytest tests/rules

.PHONY: queues
queues: lab-base ## Test the readiness probe against a real cache and real Celery workers
	$(RUN) python lab/images.py build --no-push api cache
	$(RUN) pytest tests/queues

.PHONY: upgrade-proof
upgrade-proof: lab-ready ## Prove the upgrade from an earlier Directus, which is built first (minutes)
	python lab/images.py build --no-push directus cms-database cache
	lab/progress.py directus-before lab/directus_before.sh
	pytest tests/upgrade

.PHONY: genuine
genuine: lab-base ## Prove all of it with genuine HashiCorp Vault, built from its Go module; FORCE=1: also what passed before
	lab/progress.py genuine python lab/genuine.py

.PHONY: arm64
arm64: lab-base ## Prove the project on an emulated ARM machine with a kernel of its own (hours the first time); CASE='power cut' FORCE=1 KEEP=1
	lab/progress.py arm64 python lab/arm64.py $(if $(CASE),'$(CASE)')

.PHONY: hcloud
hcloud: lab-base ## Prove playbooks/create_server.yml against a local HcloudApi, with Python 3.12 or later (a container's)
	lab/progress.py hcloud python lab/hcloud.py

.PHONY: interrupted
interrupted: lab-base ## As scenario-interrupted, but killed at every moment of tests/moments.py
	EVERY_MOMENT=1 lab/progress.py interrupted lab/proofs.py run 'interrupted: every moment' -- molecule test --scenario-name interrupted

.PHONY: faults
faults: setup ## Freeze, cut off and kill services of lab host HOST=prod2; CASE=cache-frozen FAULT_SECONDS=300 AGAIN=1
	lab/progress.py faults python tests/faults/run.py --host $(or $(HOST),prod2) --seconds $(or $(FAULT_SECONDS),300) $(if $(AGAIN),--again) $(CASE)

.PHONY: fault-matrix
fault-matrix: setup ## Every service x every fault on lab host HOST=prod2, which must be provisioned; CASE=vault-killed (vault, killed) AGAIN=1
	lab/progress.py fault-matrix python tests/faults/matrix.py --host $(or $(HOST),prod2) $(if $(AGAIN),--again) $(CASE)

.PHONY: deploy-proof
deploy-proof: setup ## Prove under load that deploys fail no request, on lab host HOST=prod2; CASE=rollback AGAIN=1
	lab/progress.py deploy-proof python tests/load/run.py --host $(or $(HOST),prod2) $(if $(AGAIN),--again) $(CASE)

.PHONY: os-upgrade
os-upgrade: lab-ready ## Prove upgrade.yml on lab host HOST=prod2, which must be provisioned: Docker, a broken package, a reboot
	lab/progress.py os-upgrade lab/proofs.py run 'os-upgrade' -- pytest -v --hosts=docker://openmates-lab-$(or $(HOST),prod2) tests/host/os_upgrade

.PHONY: real
real: setup ## Prove the stack with the real backend: API_IMAGE= and CMS_SETUP_IMAGE= of the local Docker engine
	@test -n "$(API_IMAGE)" -a -n "$(CMS_SETUP_IMAGE)" || { echo "usage: make real API_IMAGE=name:tag CMS_SETUP_IMAGE=name:tag [CASE=sign-up] [AGAIN=1]" >&2; exit 2; }
	$(MAKE) --no-print-directory lab-ready
	ansible-playbook lab/playbooks/create.yml -i inventories/lab --limit localhost,$(or $(HOST),real1)
	lab/progress.py real python tests/real/run.py --host $(or $(HOST),real1) --api-image $(API_IMAGE) --cms-setup-image $(CMS_SETUP_IMAGE) $(if $(AGAIN),--again) $(CASE)

.PHONY: bench
bench: setup ## Time runs that change nothing on lab host HOST=prod1, which must be provisioned, by role and task, and compare with the commit before
	lab/bench/bench.py --host $(or $(HOST),prod1)
