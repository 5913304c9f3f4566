PYTHON ?= python3
RUN := .venv/bin/python
READY := .venv/.ready
RIVALS := .venv/.rivals
OLDEST := .venv/oldest
NAMES := aiohttp curl-cffi grpcio grpclib httpx2 niquests pycurl pyreqwest
INSTALL := $(RUN) -m pip install -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench bench-full bench-flow drill soak fuzz clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

demo: $(READY) ## watch requests and token streams cross HTTP/2 to a real worker
	@$(RUN) -m examples.demo

test: $(READY) $(OLDEST) ## run the whole suite twice: fast engine on uvloop, stock engine on asyncio
	@.ci/install nginx nghttp2-server || true
	@echo "Pass 1 of 2: the fast engine on uvloop"
	@$(RUN) -m pytest --loop uvloop --engine fast
	@echo "Pass 2 of 2: the stock engine on asyncio with debug on, with the oldest h2 allowed"
	@PYTHONPATH=$(OLDEST) $(RUN) -m pytest --loop asyncio --asyncio-debug --engine stock

lint: $(READY) ## check style (ruff) and types (mypy --strict)
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m mypy

bench: $(READY) $(RIVALS) ## measure this client beside a bare driver on stock h2 and its rivals
	@.ci/install nghttp2-client || true
	@$(RUN) -m bench && $(RUN) -m bench.page

bench-full: $(READY) $(RIVALS) ## the same with every workload and client (up to an hour)
	@.ci/install nginx nghttp2-client nghttp2-server || true
	@$(RUN) -m bench --full && $(RUN) -m bench.page

drill: $(READY) ## break workers, links and calls under load, and lose nothing (SEED=1)
	@$(RUN) -m bench.drill --seed $(or $(SEED),1)

soak: $(READY) ## the same for HOURS=1, to watch the memory
	@$(RUN) -m bench.drill --seed $(or $(SEED),1) --hours $(or $(HOURS),1)

bench-flow: $(READY) $(RIVALS) ## play what docs/flow-control.md tells of, and write it (12 minutes)
	@.ci/install nginx nghttp2-server || true
	@$(RUN) -m bench.flow; code=$$?; $(RUN) -m bench.flow.page && exit $$code

fuzz: $(READY) ## compare the two engines on random input for SECONDS=600, and keep what differs
	@$(RUN) -m tests.differential.fuzz --seconds $(or $(SECONDS),600)

clean: ## remove .venv, caches and everything else that was made
	@rm -rf .venv .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist site
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.x …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "python3-venv is missing: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "Making .venv with everything that demo, tests and bench need (about a minute) …"
	@$(PYTHON) -m venv --clear .venv
	@$(INSTALL) --upgrade 'pip>=25.1'
	@$(INSTALL) --editable . --group dev
	@touch $@

# What pyproject.toml allows at least, in front of what is installed.
$(OLDEST): $(READY)
	@$(INSTALL) --no-deps --target $@ 'h2==4.4.0' 'hpack==4.2.0' 'hyperframe==6.1.0'
	@touch $@

$(RIVALS): $(READY)
	@echo "Installing the clients to compare with …"
	@$(INSTALL) --group rivals 2>/dev/null || for rival in $(NAMES); do \
	  $(INSTALL) "$$rival" || echo "$$rival cannot be installed here, and is left out."; done
	@touch $@
