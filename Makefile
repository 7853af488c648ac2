# The words one would guess; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Python compiles a package's files when it first imports them: most of them it never does.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# Settings under which OMG learns within minutes: Adam, targets that look further ahead, several worlds at once, as many
# updates as episodes, a short prior.
TRAIN_ARGS ?= env_args.map_name=3m t_max=100000 optimizer=adam lr=0.001 td_lambda=0.5 runner=parallel batch_size_run=4 \
	updates_per_round=4 batch_size=16 target_update_interval=100 epsilon_anneal_time=20000 eta_anneal_time=20000 \
	omg_vae_pretrain_steps=2000 test_nepisode=64 test_interval=5000 log_interval=5000 runner_log_interval=5000 \
	learner_log_interval=5000 save_model=True
TRAIN_FOLDER ?= results/train
# Each process gets a half of the tests in their order, so that what tests of a file share is made once. (Three take
# longer on two cores, although tests wait for a tenth of the time.)
TEST_ARGS ?= -n 2 --dist worksteal
# Where it is set, each of the many programs that tests start would compile torch and all else anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install train test test-fast engine engine-smac engine-smacv2 check-learning lint format docs clean

help: ## list these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

$(INSTALLED): requirements.txt requirements-envs.txt requirements-report.txt requirements-dev.txt requirements-pysc2.txt \
		requirements-marl-eval.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -r requirements-dev.txt
	$(PIP_INSTALL) --no-deps -r requirements-pysc2.txt -r requirements-marl-eval.txt
	touch $@

install: $(INSTALLED) ## install what the project needs into .venv, once

train: $(INSTALLED) ## train OMG on the map 3m and draw its curve; TRAIN_ARGS="key=value ..." changes what
	$(BIN)/python main.py --config=iql_omg --env-config=sc2 with $(TRAIN_ARGS) local_results_path=$(TRAIN_FOLDER)
	$(BIN)/python -m experiments.report $(TRAIN_FOLDER) --out $(TRAIN_FOLDER)/report

test: $(INSTALLED) ## lint, then all tests; TEST_ARGS="-k name" chooses some
	$(MAKE) --no-print-directory -j 3 lint engine
	$(BIN)/python -m pytest $(TEST_ARGS)

test-fast: $(INSTALLED) ## the quick tests: all areas, without the slow tests and without lint
	$(BIN)/python -m pytest -m "not slow" $(TEST_ARGS)

engine: engine-smac engine-smacv2 ## compile the embedded engine once for all processes that start afterwards

engine-smac engine-smacv2: engine-%: $(INSTALLED)
	$(BIN)/python -m tests.compile_engine $*

check-learning: $(INSTALLED) ## twenty minutes: three short trainings have to come to what the reference did
	$(BIN)/python -m experiments.reference --short --check --seeds 1 --out results/check-learning

lint: $(INSTALLED) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

format: $(INSTALLED) ## rewrite files in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## build the documentation into site/ and check its links
	$(PIP_INSTALL) -r requirements-docs.txt
	$(BIN)/mkdocs build --strict

clean: ## remove caches; results and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
