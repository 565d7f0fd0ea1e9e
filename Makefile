# Thin: each target makes .venv itself. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check -q
PYTEST = .venv/bin/python -m pytest -n 2 --dist loadfile

.PHONY: space test quick check bench soak image fields export-tools

# The page opens at once; what exports need (a build of minutes) is set up beside it, and exports say so until then.
space: .venv/space.stamp
	@(nice -n 19 $(MAKE) --no-print-directory export-tools >.venv/export-tools.log 2>&1 &)
	.venv/bin/codex-space serve

# Lines are counted while the quick tests run: in real trainings and in pages the count costs a third of their time.
test: .venv/dev.stamp check
	@$(MAKE) --no-print-directory export-tools || echo "llama.cpp could not be set up: its tests will be skipped"
	@bad=0; $(PYTEST) --cov --cov-report=term || bad=1; $(PYTEST) -m slow --no-loadscope-reorder || bad=1; exit $$bad

# What a change is tried with before `make test`: all but real trainings and the browser, in minutes.
quick: .venv/dev.stamp
	$(PYTEST)

check: .venv/dev.stamp
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/ty check --error-on-warning
	.venv/bin/lint-imports
	git ls-files -z | xargs -0 .venv/bin/detect-secrets-hook --baseline .secrets.baseline

bench: .venv/dev.stamp
	.venv/bin/python -m bench

soak: .venv/dev.stamp
	.venv/bin/python -m bench soak chaos

# Every step of the Dockerfile in a clean Debian root, then the page in it: as root, with debootstrap and Python 3.12.
image: .venv/dev.stamp
	.venv/bin/python -m bench.image

export-tools: .venv/export.stamp

fields: .venv/dev.stamp
	.venv/bin/python scripts/write_train_fields.py

.venv/space.stamp: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; set PYTHON=..."'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	touch $@

.venv/export.stamp: .venv/space.stamp requirements-export.txt scripts/export_tools.py
	$(PIP) install -r requirements-export.txt
	.venv/bin/python scripts/export_tools.py
	touch $@

.venv/dev.stamp: .venv/space.stamp requirements-dev.txt
	$(PIP) install -r requirements-dev.txt
	touch $@
