# The project's commands; `make` lists them. Each installs what it needs first (.config/bootstrap).
SHELL := /bin/bash
.DEFAULT_GOAL := help
SCENARIO ?= default
PORT ?= 8080
SWITCHES ?= 50
VM_RELEASE ?= trixie

# Lint while the images are built
MAKEFLAGS += --jobs=2

export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Molecule's state: in the checkout, not in a home directory where checkouts of the same name would share it
export ANSIBLE_HOME := $(CURDIR)/.ansible
export MOLECULE_GLOB := molecule/*/molecule.yml
export YAMLLINT_CONFIG_FILE := .config/yamllint.yml

.PHONY: help demo demo-deploy demo-break demo-down test test-vm bench bench-insight bench-reload bench-runs soak lint molecule docs bootstrap images bookworm trixie

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-24s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: bootstrap ## a production host in a container, serving the sample app at http://127.0.0.1:PORT/ (PORT=8080)
	@molecule/shared/demo.sh $(PORT)

demo-deploy: bootstrap ## a second release of the demo's app while requests run: who answered, in numbers and a picture
	@molecule/shared/demo_release.py good

demo-break: bootstrap ## a broken release of the demo's app while requests run: it reaches nobody
	@molecule/shared/demo_release.py broken

demo-down: ## remove the demo
	@podman rm --force --ignore --time 0 --volumes emperor-demo

test: lint images ## lint, unit tests, and every scenario on Debian 12 and 13 hosts
	@.config/bootstrap test
	pytest

test-vm: bootstrap ## on a virtual machine: SSH, reboot, real limits (slow without KVM; VM_RELEASE=trixie)
	@.config/bootstrap vm
	@molecule/shared/build-image.sh vm $(VM_RELEASE) $${XDG_CACHE_HOME:-$$HOME/.cache}/flaskops-emperor/vm-$(VM_RELEASE)
	VM_RELEASE=$(VM_RELEASE) molecule test -s vm

bench: images ## compare servers and settings, for docs/bench.md (an hour and a half; BENCH_ROUNDS=1 is half of it)
	molecule test -s bench

bench-reload: images ## measure what each reload mode costs, for docs/reload_modes.md (20 minutes)
	RELOAD_MODES_VERIFY=measure SWITCHES=10 molecule test -s reload_modes

bench-runs: images ## measure what runs of Ansible cost, over SSH, for docs/runs.md (half an hour; BENCH_HOSTS=4 BENCH_ROUNDS=1 is less)
	@.config/bootstrap ssh
	molecule test -s bench_runs

bench-insight: images ## measure what observation costs a host, for docs/monitoring.md (8 minutes; BENCH_ROUNDS=10 is 20)
	molecule destroy -s insight
	molecule create -s insight
	molecule prepare -s insight
	molecule converge -s insight
	INSIGHT_VERIFY=measure molecule verify -s insight
	molecule destroy -s insight

soak: images ## SWITCHES=50 switches in every mode without a processor to spare, for docs/reload_modes.md (an hour)
	RELOAD_MODES_VERIFY=measure SWITCHES=$(SWITCHES) PRESSURE=1 PYTEST_ADDOPTS="-k switches" molecule test -s reload_modes

lint: bootstrap ## every check that needs no test host
	ansible-lint --config-file .config/ansible-lint.yml --strict
	yamllint --strict .
	ruff check --config .config/ruff.toml .
	ruff format --check --config .config/ruff.toml .
	mypy --config-file .config/mypy.ini
	antsibull-changelog lint
	python tests/lint/role_docs.py --check

molecule: images ## one scenario from start to end: make molecule SCENARIO=default
	molecule test -s $(SCENARIO)

docs: bootstrap ## write the variable tables of the roles' READMEs anew
	python tests/lint/role_docs.py --write

bootstrap:
	@.config/bootstrap

images: bookworm trixie

bookworm trixie: bootstrap
	@molecule/shared/build-image.sh container $@
