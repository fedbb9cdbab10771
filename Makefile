# `make` prints what there is. Everything runs from .venv, which `make install` fills from the lock file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most tests wait for real servers and clocks, so more of them than cores go on at once, a file each. pytest's own capture of
# logs stays off: hostile tests log what cannot be sent from one of these processes to another.
TEST_PROCESSES ?= 4
# How long `make soak` makes faults.
SECONDS ?= 1800

.DEFAULT_GOAL := help
.PHONY: help up down ps logs reload reset preflight prod backup restore upgrade install dev doctor wizard test test-deps test-docker test-docker-deps screenshots check audit bench bench-update format load load-lean soak dashboards openapi lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# This target and those up to `upgrade` need docker, Compose and a POSIX shell alone, no Python.
up: ## the whole stack in containers, on https://localhost:8443; prints the address of the wizard
	@deploy/stack/up.sh

down: ## stop the containers and remove them; volumes stay
	@deploy/stack/compose.sh down

ps: ## the containers and their health
	@deploy/stack/compose.sh ps

logs: ## follow the logs of all containers; ARGS="--tail 50 sigil"
	@deploy/stack/compose.sh logs --follow $(ARGS)

reload: ## reload certificates, API keys, revocations and credentials in the containers
	@deploy/stack/reload.sh

reset: ## delete the containers and all their volumes, after a confirmation
	@deploy/stack/reset.sh

preflight: ## check this host, .env and the server's settings for production; nothing is started
	@deploy/stack/preflight.sh

prod: ## the stack in production: checks first, then builds or pulls, and starts it
	@deploy/stack/prod.sh

backup: ## the relay's database and its key into backups/; the mnemonic is the other half
	@deploy/stack/backup.sh

restore: ## a backup into the running stack; FILE=backups/…, FORCE=1 replaces what the database holds
	@deploy/stack/restore.sh

upgrade: ## back up, build or pull, and replace the containers of sigil and relay; sessions stay
	@deploy/stack/upgrade.sh

install: $(VENV)/.installed ## make .venv with all dependencies, from the lock file

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Sigil needs Python 3.11 or newer; set PYTHON=")'
	@$(PYTHON) -m deploy.tools.install $(VENV)
	@touch $@

dev: install ## a server on http://localhost:8440 with everything it needs in .dev/, and a link for your browser
	@$(BIN)/python -m deploy.tools.dev

doctor: install ## examine the services of `make dev` while they run; ARGS=--json, ARGS=--send-test, ARGS="push FINGERPRINT"
	@test -x .dev/doctor || { echo "make doctor: run 'make dev' first; for containers see docs/doctor.md" >&2; exit 1; }
	@.dev/doctor $(ARGS)

wizard: install ## a server without an identity on https://localhost:8443/init, to see the first boot
	@$(BIN)/python -m deploy.tools.wizard

test: install ## all tests; a list of those that were skipped, and why, at the end
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -p no:benchmark -p no:logging

test-deps: ## the system packages that tests use, on Debian (as root)
	apt-get update && apt-get install -y --no-install-recommends chromium poppler-utils nginx-light caddy pgbouncer prometheus firefox-esr curl openssl iproute2 systemd screen tmux man-db mandoc zsh fish locales

# Files, folders or tests, separated by spaces, as words of the shell; `make test-docker TESTS="tests/containers/test_up.py …" ARGS=-x`.
TESTS ?= tests/containers

test-docker: install ## tests of the containers, with a Docker engine of their own (on Debian, as root)
	@$(BIN)/python -m tests.containers.engine $(BIN)/python -m pytest -p no:benchmark -p no:logging -p no:xdist $(ARGS) $(TESTS)

test-docker-deps: ## the system packages of that engine, on Debian (as root)
	apt-get update && apt-get install -y --no-install-recommends docker.io docker-compose mmdebstrap slirp4netns iptables iproute2

screenshots: install ## take the pictures of docs/images again
	@$(BIN)/python -m tests.browser.screenshots

check: install ## format, lint, types and retired words
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python .ci/wording

# Neither in the lock file nor in .venv: it audits the lock file, and must not be able to change what runs.
PIP_AUDIT := 2.10.1
AUDIT_VENV := .audit-venv

audit: ## compare the lock file with published advisories (needs the network; not part of CI, see SECURITY.md)
	@test -x $(AUDIT_VENV)/bin/pip-audit || \
	  { echo "make audit: installs pip-audit in $(AUDIT_VENV), once, about half a minute" >&2; $(PYTHON) -m venv --clear $(AUDIT_VENV); }
	@$(AUDIT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==$(PIP_AUDIT) || \
	  { echo "INCOMPLETE: pip-audit cannot be installed (above): no package was checked" >&2; exit 2; }
	@$(AUDIT_VENV)/bin/python deploy/tools/audit.py $(AUDIT_VENV)/bin/pip-audit $(ARGS)

format: install ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

load: install ## a minute of complete challenges under Locust; ARGS="--suite all --seconds 20", see loadtest/README.md
	@$(BIN)/python -m loadtest.load $(ARGS)

load-lean: install ## complete challenges per second of a server on this machine, suite by suite
	$(BIN)/python -m loadtest.lean

soak: install ## 30 minutes of load and faults at once, every decision accounted for; SECONDS=120, ARGS="--seed 7"
	@$(BIN)/python -m loadtest.soak --seconds $(SECONDS) $(ARGS)

bench: install ## benchmarks as multiples of a verification; fails when one is 25 % over bench/baseline.json
	$(BIN)/python -m pytest bench --benchmark-quiet --quiet

bench-update: install ## write bench/baseline.json and the table of bench/README.md anew on this machine
	$(BIN)/python -m pytest bench --benchmark-quiet --quiet --renew-baseline

dashboards: install ## write the Grafana dashboards of deploy/observability from their definitions
	@$(BIN)/python -m deploy.tools.dashboards

openapi: install ## write docs/openapi.json anew from the message types
	$(BIN)/python -m deploy.tools.openapi

lock: ## resolve the dependencies anew into requirements.lock (needs uv)
	uv pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes --upgrade \
	  --no-emit-index-url --no-header --quiet --output-file requirements.lock
	uv pip compile pyproject.toml --extra server --extra relay --extra otel --extra qr --universal --generate-hashes \
	  --no-emit-index-url --no-header --quiet --constraint requirements.lock --output-file requirements-runtime.lock
	sed -i '1i # Every dependency of development and production, pinned with hashes; `make lock` makes it again.' requirements.lock
	sed -i '1i # What the containers install: the subset of requirements.lock that sigil and relay need to run.' requirements-runtime.lock

clean: ## remove what was built; .dev/ stays
	rm -rf $(VENV) $(AUDIT_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
