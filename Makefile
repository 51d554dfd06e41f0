# `make demo` and `make test` work on a bare machine: Python 3.11 or newer, git, make, a C compiler.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin
CODE := probes calibration stopper adapters deploy docs/conf.py docs/generators tests examples benchmarks
ARGS ?=

.PHONY: help venv demo artifact diffusion-artifact diffusion-table test tools lint unit docs references bench dist sbom licences clean distclean
.DEFAULT_GOAL := help

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  STOPPER_VLLM=cpu|gpu chooses vLLM's build; ARGS='...' is handed to the program."

venv: ## Make .venv: vLLM for this machine, stopper, cures for known traps
	@$(PYTHON) deploy/venv.py

demo: venv ## Serve the tiny reasoner, unstopped and stopped, and compare
	$(BIN)/stopper demo $(ARGS)

REASONER := examples/tiny_reasoner
STORE := build/tiny_reasoner
COLLECT := --dtype float32 --max-model-len 512 --max-tokens 400 --max-answer-tokens 24 --answer-prompt ''

artifact: venv ## Collect, train and calibrate the tiny reasoner's artifact again (about 5 minutes)
	for split in collect calibrate; do \
		$(BIN)/stopper collect $(REASONER)/model --prompts $(REASONER)/problems/$$split.jsonl \
			--out $(STORE)/$$split $(COLLECT); done
	$(BIN)/stopper train $(STORE)/collect --out $(REASONER)/artifact --train-fraction 1
	$(BIN)/stopper calibrate $(REASONER)/artifact --traces $(STORE)/calibrate \
		--loss disagree --alpha 0.05

DIFFUSION := examples/tiny_diffusion
DECODES := build/tiny_diffusion

diffusion-artifact: venv ## Record and calibrate the tiny diffusion LM's artifact again
	for split in select calibrate; do \
		$(BIN)/stopper diffusion collect $(DIFFUSION)/model \
			--prompts $(DIFFUSION)/problems/$$split.jsonl --out $(DECODES)/$$split \
			--canvas 48 --batch 32 --comparer exact; done
	$(BIN)/stopper diffusion calibrate $(DECODES)/calibrate --select $(DECODES)/select \
		--out $(DIFFUSION)/artifact --alpha 0.01

diffusion-table: venv ## The table of docs/diffusion.md: held-out decodes, rules and baselines
	$(BIN)/stopper diffusion collect $(DIFFUSION)/model \
		--prompts $(DIFFUSION)/problems/test.jsonl --out $(DECODES)/test \
		--canvas 48 --batch 32 --comparer exact
	$(BIN)/stopper diffusion evaluate $(DIFFUSION)/artifact --traces $(DECODES)/test \
		--alpha 0.005 --alpha 0.01 --alpha 0.05 --repeats 100
	$(BIN)/stopper diffusion compare $(DIFFUSION)/model --artifact $(DIFFUSION)/artifact \
		--prompts $(DIFFUSION)/problems/test.jsonl --alpha 0.005 --alpha 0.01 --alpha 0.05 \
		--method prophet --method fast-dllm --method klass --method sched-linear \
		--method sched-exp-4 --method sched-exp-16 $(ARGS)

# Two processes, a file each: the engines of one fill the waiting of the other. Longest files first.
# One thread each: threads of two processes that wait for one another spin on two cores.
test: lint docs tools ## All checks and tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/integration tests/statistics tests/unit \
		-n 2 --dist loadfile --no-loadscope-reorder --durations=15 $(ARGS)

tools: venv ## Find or install what the tests need beside Python: Chromium, Redis, Prometheus, Compose
	@$(BIN)/python deploy/tools.py

unit: venv ## The fast tests only
	$(BIN)/python -m pytest tests/unit $(ARGS)

lint: venv ## Style, types, layers
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/mypy deploy/venv.py deploy/tools.py deploy/licences.py
	$(BIN)/lint-imports

docs: venv ## The documentation's site in build/site, warnings as errors
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/site
	@echo "open build/site/index.html"

references: venv ## Make the reference pages of the documentation again, from the code
	$(BIN)/python -m docs.generators

bench: venv ## Every benchmark, one after the other
	for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" $(ARGS); done

# The tools of a release have an environment of their own: they would move versions of .venv.
RELEASE := build/release
SIDECAR := build/sidecar

$(RELEASE)/done:
	$(PYTHON) -m venv --clear $(RELEASE)
	$(RELEASE)/bin/python -m pip install -q --no-compile "build>=1.2" "cyclonedx-bom>=7" "twine>=6"
	touch $@

dist: $(RELEASE)/done ## Source distribution and wheel in dist/, checked
	rm -rf dist
	$(RELEASE)/bin/python -m build --outdir dist
	$(RELEASE)/bin/twine check --strict dist/*

sbom: dist ## What is in the sidecar's environment, as CycloneDX in build/sbom.cdx.json
	$(PYTHON) -m venv --clear --without-pip $(SIDECAR)
	$(RELEASE)/bin/python -m pip --python $(SIDECAR)/bin/python install -q --no-compile \
		"$$(echo dist/*.whl)[serve,otel]"
	$(RELEASE)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file build/sbom.cdx.json $(SIDECAR)/bin/python

licences: venv ## Every dependency's licence, against deploy/licences.toml
	$(BIN)/python deploy/licences.py

clean: ## Remove caches and build output
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## Remove the environment as well
	rm -rf .venv
