# Two commands for everyone: make run, make test. The others are for contributors.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
MADE_FROM := setup.py pyproject.toml settings.ini constraints.txt

.PHONY: run test check slow campaign mutants lock prepare lab record bench records gpu lowest site site-test clean

run: .venv/installed      ## train the lesson's runs and print its figures beside ours
	@$(BIN)/minitrain

test: .venv/installed-dev ## every check that CI makes
	@$(BIN)/python tests/run_all.py

check: .venv/installed-dev ## while working: fresh, pyflakes, the notebooks that changed and their modules
	@$(BIN)/python tests/run_all.py --changed

slow: .venv/installed-dev ## the same, with the cells flagged slow
	@$(BIN)/python tests/run_all.py --flags slow

campaign: .venv/installed-dev ## kills, faults and damaged files by the thousand; writes results/trust.json
	@$(BIN)/python tests/campaign.py

mutants: .venv/installed-dev ## one small change to a module at a time, and whether a test sees it; writes results/mutants.json
	@$(INSTALL) cosmic-ray==8.4.6
	@$(BIN)/python tests/mutants.py

lock:                     ## after a change of constraints.txt: requirements-ci.txt anew; wants uv
	@$(PYTHON) tests/lock.py

prepare: .venv/installed-dev ## after editing notebooks: clean, export, README
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export
	$(BIN)/python tests/readme.py README.md

lab: .venv/installed-dev  ## open the notebooks
	$(BIN)/jupyter lab nbs

record: .venv/installed-dev ## measure every figure anew: results/
	$(BIN)/minitrain claims --record

bench: .venv-bench/installed ## time the library beside its peers: results/speed.*
	@.venv-bench/bin/minitrain bench --out results

records: .venv/installed-dev ## time to 97, 98, 99 and 99.5 % of the test images: results/records.json
	@$(BIN)/minitrain records --out results

gpu: .venv/installed      ## everything that needs an NVIDIA GPU: results/gpu.json
	@$(BIN)/python tests/run_gpu.py

site: .venv-site/installed ## the notebooks, the reference and the ledger as pages: _docs/html/index.html
	@.venv-site/bin/python docs/prepare.py _docs/src
	@.venv-site/bin/python -m sphinx -q -W --keep-going -j auto -c docs -d _docs/doctrees _docs/src _docs/html
	@echo 'Open _docs/html/index.html'

site-test: site           ## every page in a headless Chromium: MINITRAIN_CHROMIUM names one, else playwright's own
	@.venv-site/bin/python -m pytest -q docs/test_site.py

lowest: .venv-lowest/installed ## the library's own tests with the oldest versions that it allows
	@.venv-lowest/bin/python -m pytest -q $(addprefix tests/test_,$(addsuffix .py,lesson_code properties loader checkpoint crash distributed gpu interface))

clean:
	rm -rf .venv .venv-bench .venv-lowest .venv-site _docs build dist *.egg-info minitrain-results

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "minitrain wants Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python $(MADE_FROM)
	@echo 'Installing into .venv (once; PyTorch is large)'
	@$(INSTALL) -e .
	@touch $@

.venv/installed-dev: .venv/bin/python $(MADE_FROM)
	@echo 'Installing into .venv, with what the tests need (once; PyTorch is large)'
ifdef LOCKED              # as CI does: each file by its hash, but PyTorch's
	@$(INSTALL) --no-deps torch
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes --no-deps -r requirements-ci.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
else
	@$(INSTALL) -e '.[dev]'
endif
	@touch .venv/installed $@

# Apart from .venv: fastai wants fastcore 2, nbdev's line wants 1. Those two without their dependencies, which
# would bring torchvision and spacy, not used here.
.venv-bench/installed: requirements-bench.txt $(MADE_FROM)
	@echo 'Installing the peers into .venv-bench (once)'
	@$(PYTHON) -m venv .venv-bench
	@grep -v '^fastcore==' constraints.txt > .venv-bench/constraints.txt
	@.venv-bench/bin/python -m pip install --disable-pip-version-check --quiet -c .venv-bench/constraints.txt -e . -r requirements-bench.txt
	@.venv-bench/bin/python -m pip install --disable-pip-version-check --quiet --no-deps fastai==2.8.12 miniminiai==0.0.5
	@touch $@

.venv-lowest/installed: constraints-lowest.txt $(MADE_FROM)
	@echo 'Installing the oldest versions into .venv-lowest (once)'
	@$(PYTHON) -m venv .venv-lowest
	@.venv-lowest/bin/python -m pip install --disable-pip-version-check --quiet -c constraints-lowest.txt -e '.[lab,tensorboard]' hypothesis pytest
	@touch $@

# Apart from .venv: needs no torch.
.venv-site/installed: requirements-site.txt
	@echo 'Installing what builds the site into .venv-site (once)'
	@$(PYTHON) -m venv .venv-site
	@.venv-site/bin/python -m pip install --disable-pip-version-check --quiet -r requirements-site.txt
	@touch $@
